import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { loOfNumber, POWERS_OF_TWO } from '../bits/u64.ts'

/** Cells of one cached entry. Links are row numbers from 1 on; 0 ends a list. */
const PE = 0
const HI = 1
const LO = 2
const TCE_HI = 3
const TCE_LO = 4
const SHIFT = 5
const CHAIN = 6
const PE_NEXT = 7
const PE_BEFORE = 8
const OLDER = 9
const NEWER = 10
const ROW_CELLS = 11

/** Cells of the whole: entries, rows ever used, first free row, log2 of the buckets, both ends of the order of use. */
const COUNT = 0
const ROWS = 1
const FREE = 2
const BUCKET_SHIFT = 3
const NEWEST = 4
const OLDEST = 5
const META_CELLS = 6

const FIRST_BUCKET_SHIFT = 6

export interface TceCacheOptions {
  readonly journal: Journal
  readonly name: string
  /** Entries that it can hold, the one used longest ago goes first; no bound where it is left out. */
  readonly maxEntries?: number
}

/**
 * The TCEs that a PHB remembers, by PE and bus page. An entry stays until it is dropped, or until a bounded cache
 * needs its room; what the table holds by then does not matter.
 *
 * Bus addresses are the first byte of their IOMMU page, in lanes. All of it lies in cells; nothing here
 * allocates, except to hold more entries than ever before.
 */
export class TceCache {
  /** What `find` found. */
  tceHi = 0
  tceLo = 0
  /** The entry that the last `fill` made room with; PE -1 where there was room. */
  evictedPe = -1
  evictedHi = 0
  evictedLo = 0
  evictedShift = 0
  readonly #maxEntries: number
  readonly #rows: Cells
  readonly #buckets: Cells
  readonly #heads: Cells
  readonly #meta: Cells

  constructor({ journal, name, maxEntries }: TceCacheOptions) {
    this.#maxEntries = maxEntries ?? 0
    this.#rows = new Cells(journal, keyOf('tce-cache', name))
    this.#buckets = new Cells(journal, keyOf('tce-cache-buckets', name), 1 << FIRST_BUCKET_SHIFT)
    this.#heads = new Cells(journal, keyOf('tce-cache-pes', name), 16)
    this.#meta = new Cells(journal, keyOf('tce-cache-meta', name), META_CELLS)
    this.#meta.set(BUCKET_SHIFT, FIRST_BUCKET_SHIFT)
  }

  get count(): number {
    return this.#meta.get(COUNT)
  }

  /** Whether the TCE of a page is here: it is then in `tceHi` and `tceLo`. */
  find(pe: number, hi: number, lo: number): boolean {
    const row = this.#rowOf(pe, hi, lo)
    if (row === 0) return false
    const { data } = this.#rows
    const at = (row - 1) * ROW_CELLS
    this.tceHi = data[at + TCE_HI] as number
    this.tceLo = data[at + TCE_LO] as number
    if (this.#maxEntries > 0 && this.#meta.get(NEWEST) !== row) {
      this.#leaveOrder(row)
      this.#joinOrder(row)
    }
    return true
  }

  /** Remembers the TCE of a page that is not here. */
  fill(pe: number, hi: number, lo: number, pageShift: number, tceHi: number, tceLo: number): void {
    this.evictedPe = -1
    const isFull = this.#maxEntries > 0 && this.count >= this.#maxEntries
    const row = isFull ? this.#evict() : this.#takeRow()
    const at = (row - 1) * ROW_CELLS
    const rows = this.#rows
    rows.set(at + PE, pe)
    rows.set(at + HI, hi)
    rows.set(at + LO, lo)
    rows.set(at + TCE_HI, tceHi)
    rows.set(at + TCE_LO, tceLo)
    rows.set(at + SHIFT, pageShift)
    const bucket = this.#bucketOf(pe, hi, lo)
    rows.set(at + CHAIN, this.#buckets.get(bucket))
    this.#buckets.set(bucket, row)
    this.#heads.ensure(pe + 1)
    const head = this.#heads.get(pe)
    rows.set(at + PE_NEXT, head)
    rows.set(at + PE_BEFORE, 0)
    if (head !== 0) rows.set((head - 1) * ROW_CELLS + PE_BEFORE, row)
    this.#heads.set(pe, row)
    if (this.#maxEntries > 0) this.#joinOrder(row)
    if (isFull) return
    this.#meta.set(COUNT, this.count + 1)
    if (this.count > 1 << this.#meta.get(BUCKET_SHIFT)) this.#moreBuckets()
  }

  /** Forgets one page of a PE. */
  drop(pe: number, hi: number, lo: number): void {
    const row = this.#rowOf(pe, hi, lo)
    if (row !== 0) this.#remove(row)
  }

  /** Forgets pages [page, page + count) of a PE, in IOMMU pages of 2^pageShift bytes. */
  dropPages(pe: number, page: number, count: number, pageShift: number): void {
    if (count > this.count) {
      this.#dropAmong(pe, page, count, pageShift)
      return
    }
    const high = POWERS_OF_TWO[Math.max(0, 32 - pageShift)] as number
    for (let i = page; i < page + count; i++) {
      // The upper lane of i << pageShift; a page of 4 GiB and more has nothing in the lower one.
      const hi = pageShift < 32 ? Math.floor(i / high) | 0 : loOfNumber(i * 2 ** (pageShift - 32))
      this.drop(pe, hi, pageShift < 32 ? i << pageShift : 0)
    }
  }

  dropPe(pe: number): void {
    if (pe >= this.#heads.length) return
    for (let row = this.#heads.get(pe); row !== 0; row = this.#heads.get(pe)) this.#remove(row)
  }

  dropAll(): void {
    for (let pe = 0; pe < this.#heads.length; pe++) this.dropPe(pe)
  }

  /** As `dropPages`, for a range that is larger than the cache. */
  #dropAmong(pe: number, page: number, count: number, pageShift: number): void {
    if (pe >= this.#heads.length) return
    const { data } = this.#rows
    const start = page * 2 ** pageShift
    const end = (page + count) * 2 ** pageShift
    for (let row = this.#heads.get(pe); row !== 0; ) {
      const at = (row - 1) * ROW_CELLS
      const next = data[at + PE_NEXT] as number
      const address = ((data[at + HI] as number) >>> 0) * 0x1_0000_0000 + ((data[at + LO] as number) >>> 0)
      if (address >= start && address < end) this.#remove(row)
      row = next
    }
  }

  #bucketOf(pe: number, hi: number, lo: number): number {
    let h = Math.imul(hi ^ Math.imul(pe, 0x85eb_ca6b), 0xc2b2_ae35) ^ Math.imul(lo >>> 12, 0x9e37_79b1)
    h = Math.imul(h ^ (h >>> 15), 0x2c1b_3c6d)
    return (h ^ (h >>> 13)) & ((1 << this.#meta.get(BUCKET_SHIFT)) - 1)
  }

  #rowOf(pe: number, hi: number, lo: number): number {
    const { data } = this.#rows
    let row = this.#buckets.get(this.#bucketOf(pe, hi, lo))
    while (row !== 0) {
      const at = (row - 1) * ROW_CELLS
      if (data[at + LO] === lo && data[at + HI] === hi && data[at + PE] === pe) return row
      row = data[at + CHAIN] as number
    }
    return 0
  }

  #takeRow(): number {
    const meta = this.#meta
    const free = meta.get(FREE)
    if (free !== 0) {
      meta.set(FREE, this.#rows.get((free - 1) * ROW_CELLS + CHAIN))
      return free
    }
    const row = meta.get(ROWS) + 1
    meta.set(ROWS, row)
    this.#rows.ensure(row * ROW_CELLS)
    return row
  }

  #remove(row: number): void {
    const rows = this.#rows
    const at = (row - 1) * ROW_CELLS
    this.#unlink(row)
    rows.fill(0, at, at + ROW_CELLS)
    rows.set(at + CHAIN, this.#meta.get(FREE))
    this.#meta.set(FREE, row)
    this.#meta.set(COUNT, this.count - 1)
  }

  /** Nothing leads to a row any more. */
  #unlink(row: number): void {
    const rows = this.#rows
    const { data } = rows
    const at = (row - 1) * ROW_CELLS
    const pe = data[at + PE] as number
    const bucket = this.#bucketOf(pe, data[at + HI] as number, data[at + LO] as number)
    const chain = data[at + CHAIN] as number
    if (this.#buckets.get(bucket) === row) this.#buckets.set(bucket, chain)
    else {
      let before = this.#buckets.get(bucket)
      while (data[(before - 1) * ROW_CELLS + CHAIN] !== row)
        before = data[(before - 1) * ROW_CELLS + CHAIN] as number
      rows.set((before - 1) * ROW_CELLS + CHAIN, chain)
    }
    const next = data[at + PE_NEXT] as number
    const before = data[at + PE_BEFORE] as number
    if (next !== 0) rows.set((next - 1) * ROW_CELLS + PE_BEFORE, before)
    if (before !== 0) rows.set((before - 1) * ROW_CELLS + PE_NEXT, next)
    else this.#heads.set(pe, next)
    if (this.#maxEntries > 0) this.#leaveOrder(row)
  }

  /** The entry used longest ago makes room: its row is for another, which writes all of it. */
  #evict(): number {
    const row = this.#meta.get(OLDEST)
    const { data } = this.#rows
    const at = (row - 1) * ROW_CELLS
    this.evictedPe = data[at + PE] as number
    this.evictedHi = data[at + HI] as number
    this.evictedLo = data[at + LO] as number
    this.evictedShift = data[at + SHIFT] as number
    this.#unlink(row)
    return row
  }

  #joinOrder(row: number): void {
    const rows = this.#rows
    const newest = this.#meta.get(NEWEST)
    rows.set((row - 1) * ROW_CELLS + OLDER, newest)
    rows.set((row - 1) * ROW_CELLS + NEWER, 0)
    if (newest !== 0) rows.set((newest - 1) * ROW_CELLS + NEWER, row)
    else this.#meta.set(OLDEST, row)
    this.#meta.set(NEWEST, row)
  }

  #leaveOrder(row: number): void {
    const rows = this.#rows
    const older = rows.get((row - 1) * ROW_CELLS + OLDER)
    const newer = rows.get((row - 1) * ROW_CELLS + NEWER)
    if (older !== 0) rows.set((older - 1) * ROW_CELLS + NEWER, newer)
    else this.#meta.set(OLDEST, newer)
    if (newer !== 0) rows.set((newer - 1) * ROW_CELLS + OLDER, older)
    else this.#meta.set(NEWEST, older)
  }

  /** Twice the buckets: every entry finds its place anew. */
  #moreBuckets(): void {
    const shift = this.#meta.get(BUCKET_SHIFT) + 1
    const buckets = this.#buckets
    buckets.ensure(1 << shift)
    buckets.fill(0, 0, 1 << shift)
    this.#meta.set(BUCKET_SHIFT, shift)
    const rows = this.#rows
    const { data } = rows
    for (let pe = 0; pe < this.#heads.length; pe++) {
      for (let row = this.#heads.get(pe); row !== 0; ) {
        const at = (row - 1) * ROW_CELLS
        const bucket = this.#bucketOf(pe, data[at + HI] as number, data[at + LO] as number)
        rows.set(at + CHAIN, buckets.get(bucket))
        buckets.set(bucket, row)
        row = data[at + PE_NEXT] as number
      }
    }
  }
}
