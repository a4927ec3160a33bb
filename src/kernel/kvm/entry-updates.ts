import { H_CODES } from '../../bits/codes.ts'
import type { Profile } from '../../bits/errata.ts'
import { POWERS_OF_TWO } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { Host } from '../../memory/host.ts'
import type { DmaDir, HwTable } from '../../table/hw-table.ts'
import type { MmIommu } from '../mm-port.ts'
import { NO_ANSWER } from '../ports.ts'

const { H_SUCCESS, H_TOO_HARD } = H_CODES
const WRITES = 2
const PAGE_4K_SHIFT = 12
const PAGE_4K_MASK = 2 ** PAGE_4K_SHIFT - 1

/** What the kernel prints, once each. */
export const NO_ADDRESS_WARNING = 'kvmppc_tce_iommu_do_map: registered memory has no such host page'
export const NO_SWAP_WARNING = 'kvmppc_tce_iommu_do_map: the entry could not be swapped'
/** What it stops at: pnv_tce_xchg asserts that addresses are whole IOMMU pages. */
export const UNALIGNED_BUG = 'pnv_tce_xchg: the address is no multiple of the IOMMU page'

/** Which deviations the updates have: read once. */
export interface UpdateErrata {
  /** B1 */
  readonly clearsGuestNumber: boolean
  /** B2 */
  readonly killsGuestNumber: boolean
  /** B9 */
  readonly killsEach: boolean
  /** X5 */
  readonly clearForgets: boolean
}

export const updateErrata = ({ has }: Profile): UpdateErrata => ({
  clearsGuestNumber: has('B1'),
  killsGuestNumber: has('B2'),
  killsEach: has('B9'),
  clearForgets: has('X5'),
})

export interface TableUpdatesParts {
  readonly host: Host
  readonly memory: MmIommu
  /** Whose memory the guest's is. */
  readonly mm: AddressSpace
  readonly errata: UpdateErrata
  /** The kernel stops at an assertion of its own. */
  readonly onBug: (why: string) => void
  /** In real mode (hash guests before Linux 5.19, on POWER9 before 5.14) nothing can be allocated. */
  readonly isReal?: boolean
}

/**
 * How one entry of a hardware table changes, with all that can fail on the way: look-ups, counts, levels. `entry` is its
 * absolute number. Results are H_SUCCESS, H_TOO_HARD, or NO_ANSWER where the kernel stopped.
 * (Linux v6.1 arch/powerpc/kvm/book3s_64_vio.c; real mode: v5.17 book3s_64_vio_hv.c)
 */
export class EntryUpdates {
  readonly #host: Host
  readonly #memory: MmIommu
  readonly #mm: AddressSpace
  readonly #errata: UpdateErrata
  readonly #onBug: (why: string) => void
  readonly #isReal: boolean

  constructor(parts: TableUpdatesParts) {
    this.#host = parts.host
    this.#memory = parts.memory
    this.#mm = parts.mm
    this.#errata = parts.errata
    this.#onBug = parts.onBug
    this.#isReal = parts.isReal ?? false
  }

  map(table: HwTable, entry: number, hi: number, lo: number, dir: DmaDir): number {
    const memory = this.#memory
    const { pageShift } = table
    if (!table.userSlot(entry, !this.#isReal)) return H_TOO_HARD
    const region = memory.lookup(this.#mm, hi, lo, POWERS_OF_TWO[pageShift] as number)
    if (region < 0) return H_TOO_HARD
    if (memory.toHpa(region, hi, lo, pageShift) !== 0) return this.#tooHard(NO_ADDRESS_WARNING)
    const { hpaPage } = memory
    if (memory.mappedInc(region) !== 0) return H_TOO_HARD
    // Poison of a list is taken for an address, and may have any bits set.
    const pageMask = (POWERS_OF_TWO[pageShift - PAGE_4K_SHIFT] as number) - 1
    const isWhole = (lo & PAGE_4K_MASK) === 0 && (hpaPage & pageMask) === 0
    if (!isWhole) {
      this.#onBug(UNALIGNED_BUG)
      return NO_ANSWER
    }
    if (!this.#reaches(table, entry, dir) || table.xchg(entry, hpaPage, dir) !== 0) {
      memory.mappedDec(region)
      return this.#isReal ? H_TOO_HARD : this.#tooHard(NO_SWAP_WARNING)
    }
    const { oldDir } = table
    if (this.#errata.killsEach) table.kill(entry, 1)
    if (oldDir !== 0) this.#mappedDec(table, entry, oldDir)
    table.setUser(hi, lo)
    return H_SUCCESS
  }

  unmap(table: HwTable, entry: number): number {
    table.xchg(entry, 0, 0)
    const { oldHpaPage, oldDir } = table
    if (this.#errata.killsEach) table.kill(entry, 1)
    if (oldDir === 0) return H_SUCCESS
    const result = this.#mappedDec(table, entry, oldDir)
    if (result !== H_SUCCESS) {
      table.xchg(entry, oldHpaPage, oldDir)
      if (this.#errata.killsEach) table.kill(entry, 1)
    }
    return result
  }

  /** The region that an entry shows has one mapping less, and the entry no user address. */
  #mappedDec(table: HwTable, entry: number, oldDir: DmaDir): number {
    if (!table.userSlot(entry, false)) return this.#isReal ? H_TOO_HARD : H_SUCCESS
    const memory = this.#memory
    const { userHi, userLo } = table
    const region = memory.lookup(this.#mm, userHi, userLo, POWERS_OF_TWO[table.pageShift] as number)
    if (region < 0) return H_TOO_HARD
    if ((oldDir & WRITES) !== 0) memory.markDirty(region, userHi, userLo)
    memory.mappedDec(region)
    table.setUser(0, 0)
    return H_SUCCESS
  }

  /** An entry becomes empty, and nothing else. */
  swapOut(table: HwTable, entry: number): void {
    table.xchg(entry, 0, 0)
    const { oldDir } = table
    if (this.#errata.killsEach) table.kill(entry, 1)
    if ((oldDir & WRITES) === 0 || !table.userSlot(entry, false)) return
    const memory = this.#memory
    const { userHi, userLo } = table
    const region = memory.lookup(this.#mm, userHi, userLo, POWERS_OF_TWO[table.pageShift] as number)
    if (region >= 0) memory.markDirty(region, userHi, userLo)
  }

  /** In real mode an entry is only written where its levels are there. */
  #reaches(table: HwTable, entry: number, dir: DmaDir): boolean {
    return !this.#isReal || dir === 0 || table.reaches(entry)
  }

  #tooHard(warning: string): number {
    this.#host.warnOnce(warning)
    return H_TOO_HARD
  }
}
