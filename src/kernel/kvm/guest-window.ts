import type { Profile } from '../../bits/errata.ts'
import type { HwTable } from '../../table/hw-table.ts'

/** A DMA window as the guest sees it: what `KVM_CREATE_SPAPR_TCE_64` was asked for. Offset and entries count its pages. */
export interface GuestWindow {
  readonly pageShift: number
  readonly offset: bigint
  readonly entries: bigint
}

/** Which tables may back a window: read once. */
export interface BackingErrata {
  readonly wantsEqualPages: boolean
  readonly wantsEqualLength: boolean
}

export const backingErrata = ({ has }: Profile): BackingErrata => ({
  wantsEqualPages: has('equal-page-sizes'),
  wantsEqualLength: has('B7'),
})

const u64 = (word: bigint): bigint => BigInt.asUintN(64, word)

/** log2 of the bytes of an entry. */
const ENTRY_BYTES_SHIFT = 3

/** Entries that a window of this request has: the erratum `B7` fills the last system page of them. */
export function windowEntries(asked: bigint, hostPageShift: number, { wantsEqualLength }: BackingErrata) {
  const pageEntries = 1n << BigInt(hostPageShift - ENTRY_BYTES_SHIFT)
  return wantsEqualLength ? u64(asked + pageEntries - 1n) & -pageEntries : asked
}

/**
 * Whether a hardware table can back a window of a guest: pages no larger, the same bus address, and at least as
 * long. Lengths are 64-bit words of bytes, and wrap as the kernel's do.
 * (Linux v6.1 arch/powerpc/kvm/book3s_64_vio.c, kvm_spapr_tce_attach_iommu_group)
 *
 * @example backs(table64k, { pageShift: 24, offset: 0x8_0000_0000n, entries: 0x400n }, errata)
 */
export function backs(table: HwTable, window: GuestWindow, errata: BackingErrata): boolean {
  if (table.pageShift > window.pageShift) return false
  if (errata.wantsEqualPages && table.pageShift !== window.pageShift) return false
  const [mine, its] = [BigInt(table.pageShift), BigInt(window.pageShift)]
  if (u64(BigInt(table.offset) << mine) !== u64(window.offset << its)) return false
  const tableBytes = u64(BigInt(table.entries) << mine)
  const windowBytes = u64(window.entries << its)
  return errata.wantsEqualLength ? tableBytes === windowBytes : tableBytes >= windowBytes
}
