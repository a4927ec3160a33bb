import { assert } from './errors.ts'
import type { Journal } from './state.ts'
import { hiOfNumber, loOfNumber } from './u64.ts'

/** What `RangeMap.get` answers for a page outside every range; no value may be it. */
export const NO_VALUE = -0x8000_0000

const LEAF_ROWS = 128
const LEAF_LOW = LEAF_ROWS / 4
const LEAF_JOINED_MAX = (LEAF_ROWS * 3) / 4

export interface PageRange {
  readonly start: number
  readonly end: number
  readonly value: number
}

export interface RangeMapOptions {
  /** Neighbours that touch and hold the same value become one range (the default). */
  readonly merge?: boolean
  /** Undo log that takes every change back, and the key of this map in its hash. */
  readonly journal?: Journal
  readonly key?: number
}

/**
 * Disjoint half-open ranges of page numbers [start, end), 0 <= start < end < 2^53, each with an int32 value.
 *
 * Lookups cost O(log n), changes O(log n + leaf); `get`, `next` and `before` allocate nothing, nor does a
 * change while no undo log is kept. `next` and `before` leave what they found in `start`, `end` and `value`.
 * The ranges stand in leaves of a two-level tree, in typed arrays.
 *
 * @example
 * const map = new RangeMap()
 * map.set(10, 20, 7)
 * map.erase(12, 14) // [10, 12) and [14, 20) remain
 * map.get(13) // NO_VALUE
 */
export class RangeMap {
  /** The range that `next` or `before` found. */
  start = 0
  end = 0
  value = NO_VALUE
  readonly #merge: boolean
  readonly #journal: Journal | undefined
  readonly #key: number
  #count = 0
  #pages = 0
  // Row r of leaf l stands at l * LEAF_ROWS + r.
  #starts = new Float64Array(LEAF_ROWS)
  #ends = new Float64Array(LEAF_ROWS)
  #values = new Int32Array(LEAF_ROWS)
  #rows = new Int32Array(1)
  // Leaves in the order of their ranges, and the start of the first range of each.
  #order = new Int32Array(1)
  #tops = new Float64Array(1)
  #leaves = 0
  readonly #spare: number[] = []
  #made = 0
  // Where `#seek` came to stand: a place in the order and a row.
  #place = 0
  #row = 0

  constructor(options: RangeMapOptions = {}) {
    this.#merge = options.merge ?? true
    this.#journal = options.journal
    this.#key = options.key ?? 0
  }

  /** Ranges. */
  get count(): number {
    return this.#count
  }

  /** Pages in all ranges together. */
  get pages(): number {
    return this.#pages
  }

  /** The value at a page, or NO_VALUE. */
  get(page: number): number {
    if (this.#leaves === 0) return NO_VALUE
    this.#seek(page)
    const at = this.#at()
    return at >= 0 && (this.#starts[at] as number) <= page ? (this.#values[at] as number) : NO_VALUE
  }

  /** Finds the range that holds a page, or else the first one after it. False where there is none. */
  next(page: number): boolean {
    this.#seek(page)
    return this.#show(this.#at())
  }

  /** Finds the last range that starts below a page. False where there is none. */
  before(page: number): boolean {
    this.#seek(page)
    const at = this.#at()
    if (at >= 0 && (this.#starts[at] as number) < page) return this.#show(at)
    return this.#show(this.#previous())
  }

  /** Whether every page of [start, end) lies in some range. */
  covers(start: number, end: number): boolean {
    for (let at = start; at < end; at = this.end) if (!this.next(at) || this.start > at) return false
    return true
  }

  /** Ranges that reach into [from, end), in order. The map may change between two of them. */
  *ranges(from = 0, end = Number.MAX_SAFE_INTEGER): Generator<PageRange> {
    for (let at = from; this.next(at) && this.start < end; ) {
      const found = { start: this.start, end: this.end, value: this.value }
      at = found.end
      yield found
    }
  }

  /** Pages [start, end) get a value, whatever they had. */
  set(start: number, end: number, value: number): void {
    if (start >= end) return
    assert(start >= 0 && Number.isSafeInteger(start) && Number.isSafeInteger(end), 'pages are below 2^53')
    assert(value === (value | 0) && value !== NO_VALUE, 'a range holds an int32 that is not NO_VALUE')
    this.#seek(start)
    let at = this.#at()
    if (at >= 0 && (this.#starts[at] as number) < end) {
      const inside = (this.#starts[at] as number) <= start && (this.#ends[at] as number) >= end
      if (this.#merge && inside && this.#values[at] === value) return
      this.erase(start, end)
      this.#seek(start)
      at = this.#at()
    }
    if (!this.#merge) {
      this.#insertHere(start, end, value)
      return
    }
    const left = this.#previous()
    const joinsLeft = left >= 0 && this.#ends[left] === start && this.#values[left] === value
    const joinsRight = at >= 0 && this.#starts[at] === end && this.#values[at] === value
    const first = joinsLeft ? (this.#starts[left] as number) : start
    const stop = joinsRight ? (this.#ends[at] as number) : end
    if (joinsLeft) this.#remove(first)
    if (joinsRight) this.#remove(end)
    if (joinsLeft || joinsRight) this.#seek(first)
    this.#insertHere(first, stop, value)
  }

  /** Pages [start, end) are in no range any more. */
  erase(start: number, end: number): void {
    if (start >= end) return
    this.#seek(start)
    for (let at = this.#at(); at >= 0; at = this.#at()) {
      const s = this.#starts[at] as number
      const e = this.#ends[at] as number
      const value = this.#values[at] as number
      if (s >= end) return
      this.#removeHere()
      if (s < start) this.#insert(s, start, value)
      if (e > end) this.#insert(end, e, value)
      if (e >= end) return
      this.#seek(start)
    }
  }

  clear(): void {
    this.erase(0, Number.MAX_SAFE_INTEGER)
  }

  #insert(start: number, end: number, value: number): void {
    this.#seek(start)
    this.#insertHere(start, end, value)
  }

  #remove(start: number): void {
    this.#seek(start)
    this.#removeHere()
  }

  /** Puts a range in before the row where `#seek` stands; it must belong there. */
  #insertHere(start: number, end: number, value: number): void {
    this.#rawInsert(start, end, value)
    if (this.#journal?.on === true) this.#note(start, end, value, true)
  }

  #removeHere(): void {
    const at = this.#at()
    assert(at >= 0, 'the range to remove exists')
    const start = this.#starts[at] as number
    const end = this.#ends[at] as number
    const value = this.#values[at] as number
    this.#rawRemove(at)
    if (this.#journal?.on === true) this.#note(start, end, value, false)
  }

  #note(start: number, end: number, value: number, came: boolean): void {
    let h = this.#key
    let g = 0x2545_f491
    for (const part of [hiOfNumber(start), loOfNumber(start), hiOfNumber(end), loOfNumber(end), value]) {
      h = Math.imul(h ^ part, 0x85eb_ca6b)
      h ^= h >>> 15
      g = Math.imul(g ^ part, 0xc2b2_ae35)
      g ^= g >>> 13
    }
    g |= 1
    if (came) {
      this.#journal?.change(h, 0, g, () => {
        this.#seek(start)
        this.#rawRemove(this.#at())
      })
      return
    }
    this.#journal?.change(h, g, 0, () => {
      this.#seek(start)
      this.#rawInsert(start, end, value)
    })
  }

  /** Stands at the first range whose end is above a page; past the last row where there is none. */
  #seek(page: number): void {
    const tops = this.#tops
    let low = 0
    let high = this.#leaves
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if ((tops[middle] as number) <= page) low = middle
      else high = middle
    }
    const leaf = this.#order[low] as number
    const base = leaf * LEAF_ROWS
    const rows = this.#leaves === 0 ? 0 : (this.#rows[leaf] as number)
    const ends = this.#ends
    let first = 0
    let last = rows
    while (first < last) {
      const middle = (first + last) >>> 1
      if ((ends[base + middle] as number) > page) last = middle
      else first = middle + 1
    }
    if (first === rows && low + 1 < this.#leaves) {
      low++
      first = 0
    }
    this.#place = low
    this.#row = first
  }

  /** Index of the row where `#seek` stands, or -1. */
  #at(): number {
    if (this.#place >= this.#leaves) return -1
    const leaf = this.#order[this.#place] as number
    return this.#row < (this.#rows[leaf] as number) ? leaf * LEAF_ROWS + this.#row : -1
  }

  /** Index of the row before that, or -1. */
  #previous(): number {
    if (this.#row > 0) return (this.#order[this.#place] as number) * LEAF_ROWS + this.#row - 1
    if (this.#place === 0) return -1
    const leaf = this.#order[this.#place - 1] as number
    return leaf * LEAF_ROWS + (this.#rows[leaf] as number) - 1
  }

  #show(at: number): boolean {
    if (at < 0) return false
    this.start = this.#starts[at] as number
    this.end = this.#ends[at] as number
    this.value = this.#values[at] as number
    return true
  }

  #rawInsert(start: number, end: number, value: number): void {
    if (this.#leaves === 0) this.#openLeaf(0)
    let leaf = this.#order[this.#place] as number
    if (this.#rows[leaf] === LEAF_ROWS) {
      this.#splitLeaf()
      leaf = this.#order[this.#place] as number
    }
    const at = leaf * LEAF_ROWS + this.#row
    const rows = this.#rows[leaf] as number
    this.#shift(at, at + 1, rows - this.#row)
    this.#starts[at] = start
    this.#ends[at] = end
    this.#values[at] = value
    this.#rows[leaf] = rows + 1
    if (this.#row === 0) this.#tops[this.#place] = start
    this.#count++
    this.#pages += end - start
  }

  /** Takes out the row where `#seek` stands. */
  #rawRemove(at: number): void {
    const leaf = this.#order[this.#place] as number
    const rows = (this.#rows[leaf] as number) - 1
    this.#count--
    this.#pages -= (this.#ends[at] as number) - (this.#starts[at] as number)
    this.#shift(at + 1, at, rows - this.#row)
    this.#rows[leaf] = rows
    if (rows === 0) this.#closeLeaf(this.#place)
    else {
      if (this.#row === 0) this.#tops[this.#place] = this.#starts[at] as number
      if (rows < LEAF_LOW) {
        this.#joinLeaves(this.#place)
        this.#joinLeaves(this.#place - 1)
      }
    }
  }

  #shift(from: number, to: number, rows: number): void {
    if (rows <= 0) return
    this.#starts.copyWithin(to, from, from + rows)
    this.#ends.copyWithin(to, from, from + rows)
    this.#values.copyWithin(to, from, from + rows)
  }

  /** A new, empty leaf at a place of the order. Its top is set with its first row. */
  #openLeaf(place: number): number {
    const leaf = this.#spare.pop() ?? this.#made++
    if (leaf >= this.#rows.length) this.#grow()
    this.#order.copyWithin(place + 1, place, this.#leaves)
    this.#tops.copyWithin(place + 1, place, this.#leaves)
    this.#order[place] = leaf
    this.#rows[leaf] = 0
    this.#leaves++
    return leaf
  }

  #closeLeaf(place: number): void {
    this.#spare.push(this.#order[place] as number)
    this.#order.copyWithin(place, place + 1, this.#leaves)
    this.#tops.copyWithin(place, place + 1, this.#leaves)
    this.#leaves--
  }

  /** Makes room where `#seek` stands: half of the leaf moves, or nothing where rows come in order. */
  #splitLeaf(): void {
    const place = this.#place
    const leaf = this.#order[place] as number
    const keep = this.#row === LEAF_ROWS ? LEAF_ROWS : LEAF_ROWS / 2
    const next = this.#openLeaf(place + 1)
    this.#shift(leaf * LEAF_ROWS + keep, next * LEAF_ROWS, LEAF_ROWS - keep)
    this.#rows[leaf] = keep
    this.#rows[next] = LEAF_ROWS - keep
    this.#tops[place + 1] = this.#starts[next * LEAF_ROWS] as number
    if (this.#row > keep || keep === LEAF_ROWS) {
      this.#place++
      this.#row -= keep
    }
  }

  /** Two neighbours with few rows become one leaf. */
  #joinLeaves(place: number): void {
    if (place < 0 || place + 1 >= this.#leaves) return
    const [leaf, next] = [this.#order[place] as number, this.#order[place + 1] as number]
    const [rows, more] = [this.#rows[leaf] as number, this.#rows[next] as number]
    if (rows + more > LEAF_JOINED_MAX) return
    this.#shift(next * LEAF_ROWS, leaf * LEAF_ROWS + rows, more)
    this.#rows[leaf] = rows + more
    this.#closeLeaf(place + 1)
  }

  #grow(): void {
    const leaves = this.#rows.length * 2
    const grown = <T extends Int32Array | Float64Array>(from: T, to: T): T => {
      to.set(from)
      return to
    }
    this.#starts = grown(this.#starts, new Float64Array(leaves * LEAF_ROWS))
    this.#ends = grown(this.#ends, new Float64Array(leaves * LEAF_ROWS))
    this.#values = grown(this.#values, new Int32Array(leaves * LEAF_ROWS))
    this.#rows = grown(this.#rows, new Int32Array(leaves))
    this.#order = grown(this.#order, new Int32Array(leaves))
    this.#tops = grown(this.#tops, new Float64Array(leaves))
  }
}
