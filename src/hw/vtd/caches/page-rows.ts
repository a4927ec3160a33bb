import { Cells, type Journal, keyOf } from '../../../bits/state.ts'

/** Cells of a row. Rows are named by where their cells begin; 0 is none. */
export const TAG = 0
export const PAGE_LO = 1
/** Upper 20 bits of the page number, the kind above them. */
export const PAGE_HI_KIND = 2
export const TARGET_LO = 3
/** Permissions, flags and the upper bits of the target: what the user of the rows makes of it. */
export const META = 4
/** Number of the record that says where it came from. */
export const ENTRY = 5
export const DOMAIN = 6
const CHAIN = 7
export const ROW_CELLS = 8

const KIND_SHIFT = 20
const PAGE_HI_MASK = (1 << KIND_SHIFT) - 1

/** Cells of the whole: rows ever used, first free row, rows in buckets, log2 of the buckets. */
const USED = 0
const FREE = 1
const LINKED = 2
const BUCKET_SHIFT = 3
const WHOLE_CELLS = 4

const FIRST_BUCKET_SHIFT = 6
/** Pages of a region: neighbours in it have neighbouring buckets. */
const REGION_SHIFT = 9
const REGION_MASK = (1 << REGION_SHIFT) - 1

/** What of the lanes of a page number remains where its lowest bits do not count. */
const loMaskOf = (shift: number): number => (shift >= 32 ? 0 : -1 << shift)
const hiMaskOf = (shift: number): number => (shift <= 32 ? PAGE_HI_MASK : (-1 << (shift - 32)) & PAGE_HI_MASK)

/** The first of 2^order pages, in lanes. */
export const firstLo = (lo: number, order: number): number => lo & loMaskOf(order)
export const firstHi = (hi: number, order: number): number => hi & hiMaskOf(order)

/** Upper lane (20 bits) and lower lane of the 4 KiB page of an address. */
export const pageHiOf = (hi: number): number => hi >>> 12
export const pageLoOf = (hi: number, lo: number): number => (hi << 20) | (lo >>> 12)

/**
 * Ranges of pages under a tag: a hash whose rows lie in cells, so that an undo log takes them back. Which pages a row
 * covers is its kind: kind k has 2^shifts[k] pages, from a multiple of that on. Pages are 52-bit numbers in two lanes.
 *
 * Neighbouring pages have neighbouring buckets, so that to look for each page of a range costs little, and so that
 * ranges that are used one after the other stay in a processor's caches. Nothing here allocates, except to hold more
 * rows than ever before.
 */
export class PageRows {
  readonly rows: Cells
  readonly #buckets: Cells
  readonly #whole: Cells
  /** log2 of the pages of each kind. */
  readonly shifts: Int32Array
  readonly #loMasks: Int32Array
  readonly #hiMasks: Int32Array

  constructor(journal: Journal, name: string, shifts: readonly number[]) {
    this.shifts = Int32Array.from(shifts)
    this.#loMasks = Int32Array.from(shifts, loMaskOf)
    this.#hiMasks = Int32Array.from(shifts, hiMaskOf)
    this.rows = new Cells(journal, keyOf('vtd-rows', name), ROW_CELLS)
    this.#buckets = new Cells(journal, keyOf('vtd-buckets', name), 1 << FIRST_BUCKET_SHIFT)
    this.#whole = new Cells(journal, keyOf('vtd-rows-whole', name), WHOLE_CELLS)
    this.#whole.set(BUCKET_SHIFT, FIRST_BUCKET_SHIFT)
  }

  /** Where the cells of the last row ever used end. Rows that are free have tag 0. */
  get end(): number {
    return (this.#whole.get(USED) + 1) * ROW_CELLS
  }

  /** Rows that are not free. */
  get linked(): number {
    return this.#whole.get(LINKED)
  }

  get buckets(): number {
    return 1 << this.#whole.get(BUCKET_SHIFT)
  }

  kindOf(row: number): number {
    return this.rows.get(row + PAGE_HI_KIND) >>> KIND_SHIFT
  }

  /** First page of a row, upper lane. */
  pageHi(row: number): number {
    return this.rows.get(row + PAGE_HI_KIND) & PAGE_HI_MASK
  }

  /** log2 of the pages that a row covers. */
  shiftOf(row: number): number {
    return this.shifts[this.kindOf(row)] as number
  }

  /** The row of a kind that covers a page; 0 where there is none. */
  find(tag: number, hi: number, lo: number, kind: number): number {
    const { data } = this.rows
    const pageLo = lo & (this.#loMasks[kind] as number)
    const key = (hi & (this.#hiMasks[kind] as number)) | (kind << KIND_SHIFT)
    let row = this.#buckets.data[this.#bucketOf(tag, pageLo, key)] as number
    while (row !== 0) {
      if (data[row + PAGE_LO] === pageLo && data[row + TAG] === tag && data[row + PAGE_HI_KIND] === key)
        return row
      row = data[row + CHAIN] as number
    }
    return 0
  }

  /** A new row for a page that `find` has no row for. Its other cells are 0. */
  add(tag: number, hi: number, lo: number, kind: number): number {
    if (this.linked >= this.buckets) this.#moreBuckets()
    const row = this.#take()
    const { rows } = this
    const pageLo = lo & (this.#loMasks[kind] as number)
    const key = (hi & (this.#hiMasks[kind] as number)) | (kind << KIND_SHIFT)
    rows.set(row + TAG, tag)
    rows.set(row + PAGE_LO, pageLo)
    rows.set(row + PAGE_HI_KIND, key)
    this.#link(row)
    this.#whole.set(LINKED, this.linked + 1)
    return row
  }

  remove(row: number): void {
    const { rows } = this
    const { data } = rows
    const bucket = this.#bucketOfRow(row)
    const after = data[row + CHAIN] as number
    let before = this.#buckets.get(bucket)
    if (before === row) this.#buckets.set(bucket, after)
    else {
      while (data[before + CHAIN] !== row) before = data[before + CHAIN] as number
      rows.set(before + CHAIN, after)
    }
    this.#give(row)
    this.#whole.set(LINKED, this.linked - 1)
  }

  /** Whether a row covers a page of the 2^order pages that begin at a page. */
  overlaps(row: number, hi: number, lo: number, order: number): boolean {
    const shift = Math.max(order, this.shiftOf(row))
    const apartHi = (this.pageHi(row) ^ hi) & hiMaskOf(shift)
    return apartHi === 0 && ((this.rows.get(row + PAGE_LO) ^ lo) & loMaskOf(shift)) === 0
  }

  /** All rows go. */
  clear(): void {
    this.#buckets.fill(0, 0, this.buckets)
    this.rows.fill(0, 0, this.end)
    this.#whole.set(USED, 0)
    this.#whole.set(FREE, 0)
    this.#whole.set(LINKED, 0)
  }

  /** All rows go whose tag has been set to 0. */
  sweep(): void {
    const { rows, end } = this
    this.#buckets.fill(0, 0, this.buckets)
    this.#whole.set(FREE, 0)
    let linked = 0
    for (let row = end - ROW_CELLS; row > 0; row -= ROW_CELLS) {
      if (rows.get(row + TAG) === 0) this.#give(row)
      else {
        this.#link(row)
        linked++
      }
    }
    this.#whole.set(LINKED, linked)
  }

  #take(): number {
    const free = this.#whole.get(FREE)
    if (free !== 0) {
      this.#whole.set(FREE, this.rows.get(free + CHAIN))
      return free
    }
    const row = this.end
    this.rows.ensure(row + ROW_CELLS)
    this.#whole.set(USED, this.#whole.get(USED) + 1)
    return row
  }

  #give(row: number): void {
    const { rows } = this
    for (let cell = row; cell < row + CHAIN; cell++) rows.set(cell, 0)
    rows.set(row + CHAIN, this.#whole.get(FREE))
    this.#whole.set(FREE, row)
  }

  #link(row: number): void {
    const bucket = this.#bucketOfRow(row)
    this.rows.set(row + CHAIN, this.#buckets.get(bucket))
    this.#buckets.set(bucket, row)
  }

  #bucketOfRow(row: number): number {
    const { data } = this.rows
    return this.#bucketOf(
      data[row + TAG] as number,
      data[row + PAGE_LO] as number,
      data[row + PAGE_HI_KIND] as number,
    )
  }

  #bucketOf(tag: number, pageLo: number, key: number): number {
    const place = pageLo >>> (this.shifts[key >>> KIND_SHIFT] as number)
    let h = (place >>> REGION_SHIFT) ^ Math.imul(tag, 0x9e37_79b1) ^ Math.imul(key, 0x85eb_ca6b)
    h = Math.imul(h ^ (h >>> 15), 0x2c1b_3c6d)
    return ((place & REGION_MASK) ^ h ^ (h >>> 13)) & ((1 << (this.#whole.data[BUCKET_SHIFT] as number)) - 1)
  }

  /** Twice the buckets: every row finds its place anew. */
  #moreBuckets(): void {
    const shift = this.#whole.get(BUCKET_SHIFT) + 1
    this.#buckets.ensure(1 << shift)
    this.#buckets.fill(0, 0, 1 << shift)
    this.#whole.set(BUCKET_SHIFT, shift)
    const { end } = this
    for (let row = ROW_CELLS; row < end; row += ROW_CELLS) if (this.rows.get(row + TAG) !== 0) this.#link(row)
  }
}
