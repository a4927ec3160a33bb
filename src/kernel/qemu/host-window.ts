import { floorLog2 } from '../../bits/u64.ts'

/** The window that QEMU asks VFIO for behind a window of its guest. */
export interface HostWindowPlan {
  readonly pageShift: number
  /** With how many levels it begins; one more is tried after each refusal, up to `levelsMax`. */
  readonly levels: number
  readonly levelsMax: number
}

export interface HostWindowRequest {
  readonly guestPageShift: number
  readonly bytes: bigint
  /** log2 of the smallest page that backs memory of the guest. */
  readonly ramPageShift: number
  /** Bit n: the host has IOMMU pages of 2^n bytes. */
  readonly pageSizes: bigint
  readonly hostPageShift: number
}

/** Added to log2 of the system page: what QEMU guesses can be allocated for one level, as log2 of its bytes. */
const LEVEL_PAGES_SHIFT = 8
const TCE_BYTES = 8n
const WORD_BITS = 64
const ENTRIES_MASK = 0xffff_ffffn

/** Bits below the lowest one that is set; all of them where none is. */
function trailingZeros(word: bigint): number {
  let bits = 0
  while (bits < WORD_BITS && ((word >> BigInt(bits)) & 1n) === 0n) bits++
  return bits
}

/**
 * The largest page of the host that is no larger than the guest's and than the pages behind guest memory, and the levels
 * that QEMU tries; undefined where the host has no such page. QEMU counts entries in 32 bits.
 * (QEMU 7.2 hw/vfio/spapr.c, vfio_spapr_create_window)
 *
 * @example planHostWindow({ guestPageShift: 24, bytes: 1n << 32n, ramPageShift: 16, pageSizes: 0x40211000n, hostPageShift: 16 })
 * // { pageShift: 16, levels: 1, levelsMax: 3 }
 */
export function planHostWindow(request: HostWindowRequest): HostWindowPlan | undefined {
  const { guestPageShift, bytes, ramPageShift, pageSizes, hostPageShift } = request
  const most = 1n << BigInt(Math.min(guestPageShift, ramPageShift))
  const fitting = pageSizes & (most | (most - 1n))
  if (fitting === 0n) return undefined
  const pageShift = floorLog2(fitting)
  const entries = (bytes >> BigInt(pageShift)) & ENTRIES_MASK
  return {
    pageShift,
    levels: Math.ceil(trailingZeros(entries * TCE_BYTES) / (hostPageShift + LEVEL_PAGES_SHIFT)),
    levelsMax: Math.floor((WORD_BITS - pageShift) / hostPageShift),
  }
}
