import type { CpuStores } from './cpu-stores.ts'

const ENTRIES = 512
const LEVEL_BITS = 9
const PERM = 3
const PS = 1 << 7
const PAGES_HI = 2 ** 20
/** Bits of an address in the upper half of an entry. */
const ADDRESS_HI = PAGES_HI - 1
/** First-level entries: present, user, accessed, dirty, and in the upper half execute-disable. */
const FIRST = { P: 1, US: 1 << 2, A: 1 << 5, D: 1 << 6, XD_HI: 1 << 31 } as const
const WRITE = 2

/** 4 KiB pages below an entry of a level. */
export const pagesOfLevel = (level: number): number => 2 ** (LEVEL_BITS * (level - 1))

/** Where a driver gets the pages of its tables. */
export interface TablePages {
  readonly stores: CpuStores
  /** A page of zeros for a table of a domain, or -1 where there is none. */
  take(domain: number, isSnooped: boolean): number
  /** A page that no entry leads to any more; caches may. */
  give(page: number, domain: number): void
}

/** What the tables of a domain are. */
export interface TableShape {
  readonly domain: number
  readonly isFirstLevel: boolean
  readonly levels: number
  /** Highest level whose entries may map pages: 1, 2 or 3. */
  readonly largestLevel: number
  /** Whether the unit snoops caches of the processor when it walks them. */
  readonly isSnooped: boolean
  /** Whether the driver flushes cache lines where it has to. */
  readonly flushesLines: () => boolean
  /** A table that had nothing mapped any more makes room for a large page of [first, first + pages). */
  readonly tableGone: (first: number, pages: number) => void
}

/** What is mapped: pages [first, first + pages) to as many from `target` on. */
export type MappedVisitor = (first: number, pages: number, target: number, perm: number) => void

/**
 * The page tables of one domain, as Linux writes them: the largest pages that fit, and tables that an unmapping covers
 * whole are taken out. Each entry leaves the cache where the unit does not snoop.
 * (Linux v6.1 drivers/iommu/intel/iommu.c, __domain_mapping, switch_to_super_page, dma_pte_clear_level)
 */
export class DomainTables {
  readonly root: number
  readonly shape: TableShape
  readonly #pages: TablePages
  readonly #stores: CpuStores

  /** @param root its page, of zeros */
  constructor(pages: TablePages, root: number, shape: TableShape) {
    this.#pages = pages
    this.#stores = pages.stores
    this.root = root
    this.shape = shape
  }

  get levels(): number {
    return this.shape.levels
  }

  /** 4 KiB pages that the tables can map. */
  get inputPages(): number {
    return pagesOfLevel(this.levels + 1)
  }

  /** Whether an entry maps a page of [first, end). */
  isMapped(first: number, end: number): boolean {
    let isMapped = false
    this.visit(first, end, () => {
      isMapped = true
    })
    return isMapped
  }

  /**
   * Maps pages [first, end) to as many from `target` on, none of them mapped. False where no page is left for a table:
   * what was mapped until then stays.
   *
   * @param perm 1 read, 2 write: of the first level whoever may write may read as well
   */
  map(first: number, end: number, target: number, perm: number): boolean {
    for (let page = first; page < end; ) {
      const to = target + (page - first)
      const level = this.#levelFor(page, to, end - page)
      const table = this.#tableFor(page, level)
      if (table < 0) return false
      if (level > 1) this.#makeRoom(table, page, level)
      this.#storeLeaf(table, page, level, { target: to, perm })
      page += pagesOfLevel(level)
    }
    return true
  }

  /** Nothing is mapped in [first, end) any more. A large page that lies there in part is gone whole. */
  unmap(first: number, end: number): void {
    this.#clear(this.root, this.levels, first, end)
  }

  /** Shows what is mapped in [first, end), by entries: large pages whole. */
  visit(first: number, end: number, show: MappedVisitor): void {
    this.#visit(this.root, this.levels, { first, end }, show)
  }

  #visit(table: number, level: number, span: { first: number; end: number }, show: MappedVisitor): void {
    const pages = pagesOfLevel(level)
    for (let page = span.first; page < span.end; ) {
      const start = page - (page % pages)
      const next = start + pages
      this.#load(table, page, level)
      if (this.#isPresent) {
        const target = this.#target()
        if (this.#isLeaf(level)) show(start, pages, target, this.#stores.lo & PERM)
        else this.#visit(target, level - 1, { first: page, end: Math.min(next, span.end) }, show)
      }
      page = next
    }
  }

  #levelFor(page: number, target: number, count: number): number {
    for (let level = Math.min(this.shape.largestLevel, this.levels - 1); level > 1; level--) {
      const pages = pagesOfLevel(level)
      if (page % pages === 0 && target % pages === 0 && count >= pages) return level
    }
    return 1
  }

  /** The table of a level that holds the entry of a page; -1 where it cannot be had. */
  #tableFor(page: number, level: number): number {
    const { domain, isFirstLevel, isSnooped } = this.shape
    let table = this.root
    for (let at = this.levels; at > level; at--) {
      this.#load(table, page, at)
      if (!this.#isPresent) {
        const made = this.#pages.take(domain, isSnooped)
        if (made < 0) return -1
        this.#flushLines(made, 0, ENTRIES)
        const lo = (made << 12) | PERM | (isFirstLevel ? FIRST.US | FIRST.A : 0)
        const hi = Math.floor(made / PAGES_HI) | (isFirstLevel ? FIRST.XD_HI : 0)
        this.#store(table, page, at, { hi, lo })
        table = made
      } else table = this.#target()
    }
    return table
  }

  /** An entry that leads to tables where a large page is to be: they go, and caches forget them first. */
  #makeRoom(table: number, page: number, level: number): void {
    this.#load(table, page, level)
    if (!this.#isPresent) return
    const below = this.#target()
    this.#store(table, page, level, { hi: 0, lo: 0 })
    this.#giveBack(below, level - 1)
    this.shape.tableGone(page, pagesOfLevel(level))
  }

  #storeLeaf(
    table: number,
    page: number,
    level: number,
    { target, perm }: { target: number; perm: number },
  ): void {
    const { isFirstLevel } = this.shape
    const canWrite = (perm & WRITE) !== 0
    const attributes = isFirstLevel ? FIRST.P | FIRST.US | FIRST.A | (canWrite ? FIRST.D : 0) : 0
    const lo = (target << 12) | (level > 1 ? PS : 0) | (perm & PERM) | attributes
    const hi = Math.floor(target / PAGES_HI) | (isFirstLevel ? FIRST.XD_HI : 0)
    this.#store(table, page, level, { hi, lo })
  }

  #clear(table: number, level: number, first: number, end: number): void {
    const pages = pagesOfLevel(level)
    for (let page = first; page < end; ) {
      const start = page - (page % pages)
      const next = start + pages
      this.#load(table, page, level)
      if (this.#isPresent) {
        const isLeaf = this.#isLeaf(level)
        const target = this.#target()
        const isWhole = first <= start && next <= end
        if (isLeaf || isWhole) this.#store(table, page, level, { hi: 0, lo: 0 })
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
      this.#stores.load(table, index)
      if (this.#isPresent && !this.#isLeaf(level)) this.#giveBack(this.#target(), level - 1)
    }
    this.#pages.give(table, this.shape.domain)
  }

  get #isPresent(): boolean {
    return (this.#stores.lo & PERM) !== 0
  }

  #isLeaf(level: number): boolean {
    return level === 1 || (this.#stores.lo & PS) !== 0
  }

  #target(): number {
    return (this.#stores.hi & ADDRESS_HI) * PAGES_HI + (this.#stores.lo >>> 12)
  }

  #load(table: number, page: number, level: number): void {
    this.#stores.load(table, Math.floor(page / pagesOfLevel(level)) % ENTRIES)
  }

  #store(table: number, page: number, level: number, word: { hi: number; lo: number }): void {
    const index = Math.floor(page / pagesOfLevel(level)) % ENTRIES
    this.#stores.store(table, index, word, this.shape.isSnooped)
    this.#flushLines(table, index, 1)
  }

  #flushLines(table: number, index: number, count: number): void {
    if (!this.shape.isSnooped && this.shape.flushesLines()) this.#stores.flushLines(table, index, count)
  }
}
