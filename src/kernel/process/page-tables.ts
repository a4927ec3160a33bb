import { assert } from '../../bits/errors.ts'
import { pageOf, swap32 } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'

/** Bits of an entry that Linux uses. (Linux arch/x86/include/asm/pgtable_types.h) */
export const PTE = {
  PRESENT: 1 << 0,
  RW: 1 << 1,
  USER: 1 << 2,
  ACCESSED: 1 << 5,
  DIRTY: 1 << 6,
  /** In the entry of a page that is not present: PROT_NONE. Else the page is global. */
  PROTNONE: 1 << 8,
  GLOBAL: 1 << 8,
  LARGE: 1 << 7,
  /** Software's: no struct page stands behind it (the zero page). */
  SPECIAL: 1 << 9,
} as const
/** In the upper lane: execute disable. */
export const PTE_NX_HI = 0x8000_0000 | 0
/** Of an entry of a user's table that leads to another table: _PAGE_TABLE, and the kernel's _KERNPG_TABLE. */
export const USER_TABLE = PTE.PRESENT | PTE.RW | PTE.USER | PTE.ACCESSED | PTE.DIRTY
export const KERNEL_TABLE = PTE.PRESENT | PTE.RW | PTE.ACCESSED | PTE.DIRTY

/**
 * Whether an entry that changes, and leads to the same page, has to be flushed: rights that change, and what is taken
 * away; the accessed bit does not count. (Linux v5.19 arch/x86/include/asm/tlbflush.h pte_needs_flush)
 */
export function needsFlush(before: { hi: number; lo: number }, hi: number, lo: number): boolean {
  if ((before.lo & PTE.PRESENT) === 0) return false
  const changed = before.lo ^ lo
  const cleared = before.lo & ~lo & (PTE.PRESENT | PTE.DIRTY)
  return cleared !== 0 || (changed & (PTE.RW | PTE.USER)) !== 0 || ((before.hi ^ hi) & PTE_NX_HI) !== 0
}

export const LEVELS = 4
const ENTRIES = 512
const WORD_BYTES = 8
const PAGE_SHIFT = 12
/** What of the upper lane of an entry is an address. */
const ADDRESS_HI = 0xf_ffff
/** By level; a power that is worked out at each load costs more than the load. */
const SPANS = [0, 1, ENTRIES, ENTRIES ** 2, ENTRIES ** 3, ENTRIES ** 4] as const
/** Pages that one entry of a level (1 to 5) stands for: level 1 is a page. */
export const spanOf = (level: number): number => SPANS[level] as number

/** Which entry of a table of a level an address needs, by the number of its page. */
const indexOf = (page: number, level: number): number => Math.floor(page / spanOf(level)) % ENTRIES

/**
 * Page tables of the processor (IA-32e paging, 4 levels), in modelled memory: each entry is written as the kernel writes
 * it, so that a unit that walks them sees what a real one would. User addresses count in pages of 4 KiB.
 *
 * @example
 * const table = tables.find(pgd, page, 1) // -1 where a table on the way is missing
 * tables.load(table, page, 1) // tables.hi, tables.lo
 */
export class PageTables {
  /** Result lanes of `load`. */
  hi = 0
  lo = 0
  readonly #memory: BusMemory

  constructor(memory: BusMemory) {
    this.#memory = memory
  }

  /** The table of a level that an address needs, -1 where there is none. */
  find(pgd: number, page: number, level: number): number {
    let table = pgd
    for (let at = LEVELS; at > level; at--) {
      this.load(table, page, at)
      if ((this.lo & PTE.PRESENT) === 0) return -1
      table = this.target
    }
    return table
  }

  /** The entry of an address in a table of a level. */
  load(table: number, page: number, level: number): void {
    this.loadAt(table, indexOf(page, level))
  }

  loadAt(table: number, index: number): void {
    const memory = this.#memory
    const isThere = memory.loadU64le(table, index * WORD_BYTES)
    assert(isThere, 'page tables lie in memory')
    this.hi = memory.wordHi
    this.lo = memory.wordLo
  }

  /** The page that the entry leads to that was loaded last. */
  get target(): number {
    return pageOf(this.hi & ADDRESS_HI, this.lo, PAGE_SHIFT)
  }

  get isPresent(): boolean {
    return (this.lo & PTE.PRESENT) !== 0
  }

  /** Whether anything is mapped: a page of PROT_NONE is, and is not present. */
  get isMapped(): boolean {
    return (this.lo & (PTE.PRESENT | PTE.PROTNONE)) !== 0
  }

  store(table: number, page: number, level: number, hi: number, lo: number): void {
    this.storeAt(table, indexOf(page, level), hi, lo)
  }

  storeAt(table: number, index: number, hi: number, lo: number): void {
    this.#memory.storeU64be(table, index * WORD_BYTES, swap32(lo), swap32(hi))
  }

  /** Makes the entry lead to a page, with these bits. */
  point(table: number, page: number, level: number, to: { target: number; hi: number; lo: number }): void {
    const { target } = to
    this.store(table, page, level, Math.floor(target / 2 ** 20) | to.hi, (target << PAGE_SHIFT) | to.lo)
  }

  clear(table: number, page: number, level: number): void {
    this.store(table, page, level, 0, 0)
  }

  /**
   * The table of level 1 of an address, with those on the way to it.
   *
   * @param make a page for a table of a level, -1 where there is none
   * @returns -1 where a table could not be had; those that were made stay
   */
  ensure(pgd: number, page: number, make: (level: number) => number): number {
    let table = pgd
    for (let level = LEVELS; level > 1; level--) {
      this.load(table, page, level)
      if (this.isPresent) {
        table = this.target
        continue
      }
      const made = make(level - 1)
      if (made < 0) return -1
      this.point(table, page, level, { target: made, hi: 0, lo: USER_TABLE })
      table = made
    }
    return table
  }

  /** Calls back for each entry of level 1 that maps something in [first, end): it is loaded then. */
  eachMapped(pgd: number, first: number, end: number, found: (table: number, page: number) => void): void {
    const span = spanOf(2)
    for (let from = first; from < end; ) {
      const next = Math.min(end, (Math.floor(from / span) + 1) * span)
      const missing = this.#missing(pgd, from)
      if (missing > 0) {
        const skipped = spanOf(missing)
        from = Math.min(end, (Math.floor(from / skipped) + 1) * skipped)
        continue
      }
      const table = this.find(pgd, from, 1)
      for (let page = from; page < next; page++) {
        this.load(table, page, 1)
        if (this.isMapped) found(table, page)
      }
      from = next
    }
  }

  /** The level of the entry that is missing on the way to an address, 0 for none. */
  #missing(pgd: number, page: number): number {
    let table = pgd
    for (let level = LEVELS; level > 1; level--) {
      this.load(table, page, level)
      if (!this.isPresent) return level
      table = this.target
    }
    return 0
  }
}
