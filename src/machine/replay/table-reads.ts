import type { ShownTranslation } from './translate.ts'

/** So many pages from the first one on, and no device is asking. */
const SURE = 4
const TWO_32 = 0x1_0000_0000

/** What a translation is: a device's, one that must wait for the next lines, or a listener's. */
export const READ = { NONE: 0, HELD: 1, TABLE: 2 } as const

/**
 * Tells translations that no device asked for. A listener that maps (VFIO) has the whole table read when it
 * comes, and QEMU prints a translation for each entry: behind the line of the new table, from the first page to
 * the last. (QEMU 7.2 hw/ppc/spapr_iommu.c, spapr_tce_replay; hw/vfio/common.c)
 */
export class TableReads {
  /** Lines that wait until it is clear what they are, oldest first. */
  held: ShownTranslation[] = []
  /** LIOBNs whose next translation may be the first of such a read. */
  readonly #expected = new Set<number>()
  #liobn = -1
  #next = 0
  #count = 0

  /** A table was made: what reads it, if anything does, comes now. */
  expect(liobn: number): void {
    this.#expected.add(liobn)
    if (liobn === this.#liobn) this.#count = 0
  }

  expectNone(): void {
    this.#expected.clear()
    this.#count = 0
  }

  /** Whether `see` must be asked. */
  get isOn(): boolean {
    return this.#count > 0 || this.#expected.size > 0
  }

  /** What a translation is. Where it is NONE or TABLE, so is what is held: the caller takes that first. */
  see(t: ShownTranslation): number {
    const offset = (t.offsetHi >>> 0) * TWO_32 + (t.offsetLo >>> 0)
    if (this.#count > 0 && t.liobn === this.#liobn && offset === this.#next) {
      this.#next += t.mask + 1
      this.#count++
      if (this.#count >= SURE) return READ.TABLE
      return this.#hold(t)
    }
    if (this.#count > 0 && this.#count < SURE) this.#count = 0
    if (!this.#expected.delete(t.liobn) || offset !== 0 || this.held.length > 0) return READ.NONE
    this.#liobn = t.liobn
    this.#next = t.mask + 1
    this.#count = 1
    return this.#hold(t)
  }

  /** Another line came: what is held was a device's. */
  release(): readonly ShownTranslation[] {
    const { held } = this
    if (held.length === 0) return held
    this.held = []
    if (this.#count < SURE) this.#count = 0
    return held
  }

  #hold(t: ShownTranslation): number {
    this.held.push({ ...t })
    return READ.HELD
  }
}
