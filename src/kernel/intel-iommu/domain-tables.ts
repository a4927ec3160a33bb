import { swap32 } from '../../bits/u64.ts'
import { pagesOfLevel } from '../../hw/vtd/second-level.ts'
import type { BusMemory } from '../../memory/ports.ts'

const ENTRIES = 512
const ENTRY_BYTES = 8
const PERM = 3
const PS = 1 << 7
const PAGES_HI = 2 ** 20
/** Largest entry that maps pages: 1 GiB. */
const LARGEST_LEVEL = 3

/** Where a driver gets the pages of its tables. */
export interface TablePages {
  readonly memory: BusMemory
  /** A page of zeros, or -1 where there is none. */
  take(): number
  /** A page that no entry leads to any more; caches may. */
  give(page: number): void
}

/**
 * The second-level tables of one domain, as the guest's driver writes them: the largest pages that fit, and tables that
 * an unmapping covers whole are taken out. (Linux v6.1 drivers/iommu/intel/iommu.c, __domain_mapping, dma_pte_clear_level)
 */
export class DomainTables {
  readonly levels: number
  readonly root: number
  readonly #pages: TablePages
  #hi = 0
  #lo = 0

  /** @param root its page, of zeros */
  constructor(pages: TablePages, root: number, levels: number) {
    this.#pages = pages
    this.root = root
    this.levels = levels
  }

  /** 4 KiB pages that the tables can map. */
  get inputPages(): number {
    return pagesOfLevel(this.levels + 1)
  }

  /** Whether an entry maps a page of [first, end). */
  isMapped(first: number, end: number): boolean {
    return this.#anyMapped(this.root, this.levels, first, end)
  }

  /**
   * Maps pages [first, end) to as many from `target` on, none of them mapped. False where no page is left for a table:
   * what was mapped until then stays.
   */
  map(first: number, end: number, target: number, perm: number): boolean {
    for (let page = first; page < end; ) {
      const to = target + (page - first)
      const level = this.#levelFor(page, to, end - page)
      const table = this.#tableFor(page, level)
      if (table < 0) return false
      const large = level > 1 ? PS : 0
      this.#store(table, page, level, Math.floor(to / PAGES_HI), (to << 12) | large | perm)
      page += pagesOfLevel(level)
    }
    return true
  }

  /** Nothing is mapped in [first, end) any more. A large page that lies there in part is gone whole. */
  unmap(first: number, end: number): void {
    this.#clear(this.root, this.levels, first, end)
  }

  #levelFor(page: number, target: number, count: number): number {
    for (let level = Math.min(LARGEST_LEVEL, this.levels - 1); level > 1; level--) {
      const pages = pagesOfLevel(level)
      if (page % pages === 0 && target % pages === 0 && count >= pages) return level
    }
    return 1
  }

  /** The table of a level that holds the entry of a page; -1 where it cannot be had. */
  #tableFor(page: number, level: number): number {
    let table = this.root
    for (let at = this.levels; at > level; at--) {
      this.#load(table, page, at)
      if ((this.#lo & PERM) === 0) {
        const made = this.#pages.take()
        if (made < 0) return -1
        this.#store(table, page, at, Math.floor(made / PAGES_HI), (made << 12) | PERM)
        table = made
      } else table = this.#target()
    }
    return table
  }

  #clear(table: number, level: number, first: number, end: number): void {
    const pages = pagesOfLevel(level)
    for (let page = first; page < end; ) {
      const start = page - (page % pages)
      const next = start + pages
      this.#load(table, page, level)
      if ((this.#lo & PERM) !== 0) {
        const isLeaf = this.#isLeaf(level)
        const target = this.#target()
        const isWhole = first <= start && next <= end
        if (isLeaf || isWhole) this.#store(table, page, level, 0, 0)
        if (!isLeaf) {
          if (isWhole) this.#giveBack(target, level - 1)
          else this.#clear(target, level - 1, page, Math.min(next, end))
        }
      }
      page = next
    }
  }

  /** A table and those below it. */
  #giveBack(table: number, level: number): void {
    for (let index = 0; level > 1 && index < ENTRIES; index++) {
      this.#loadAt(table, index)
      if ((this.#lo & PERM) !== 0 && !this.#isLeaf(level)) this.#giveBack(this.#target(), level - 1)
    }
    this.#pages.give(table)
  }

  #anyMapped(table: number, level: number, first: number, end: number): boolean {
    const pages = pagesOfLevel(level)
    for (let page = first; page < end; ) {
      const next = page - (page % pages) + pages
      this.#load(table, page, level)
      if ((this.#lo & PERM) !== 0) {
        if (this.#isLeaf(level)) return true
        if (this.#anyMapped(this.#target(), level - 1, page, Math.min(next, end))) return true
      }
      page = next
    }
    return false
  }

  #isLeaf(level: number): boolean {
    return level === 1 || (this.#lo & PS) !== 0
  }

  #target(): number {
    return this.#hi * PAGES_HI + (this.#lo >>> 12)
  }

  #load(table: number, page: number, level: number): void {
    this.#loadAt(table, Math.floor(page / pagesOfLevel(level)) % ENTRIES)
  }

  #loadAt(table: number, index: number): void {
    const { memory } = this.#pages
    memory.loadU64be(table, index * ENTRY_BYTES)
    this.#hi = swap32(memory.wordLo)
    this.#lo = swap32(memory.wordHi)
  }

  #store(table: number, page: number, level: number, hi: number, lo: number): void {
    const index = Math.floor(page / pagesOfLevel(level)) % ENTRIES
    this.#pages.memory.storeU64be(table, index * ENTRY_BYTES, swap32(lo), swap32(hi))
  }
}
