/** Words of neighbouring entries: all the same, or each 2^pageShift more than the one before it. */
class WordRow {
  hi = 0
  lo = 0
  /** log2 of what each next word is more; -1 where all are the same. */
  step = -1
  readonly #pageShift: number
  readonly #pageHi: number
  readonly #pageLo: number
  #nextHi = 0
  #nextLo = 0

  constructor(pageShift: number) {
    this.#pageShift = pageShift
    this.#pageLo = pageShift < 32 ? 1 << pageShift : 0
    this.#pageHi = pageShift < 32 ? 0 : 1 << (pageShift - 32)
  }

  start(hi: number, lo: number): void {
    this.hi = hi
    this.lo = lo
    this.step = -1
    this.#moveOn(hi, lo)
  }

  /** Whether a word goes on with the row; the second one decides how. */
  fits(hi: number, lo: number, isSecond: boolean): boolean {
    if ((this.step < 0 || isSecond) && lo === this.lo && hi === this.hi) return true
    return (this.step >= 0 || isSecond) && lo === this.#nextLo && hi === this.#nextHi
  }

  /** A word that fits is part of the row. */
  add(hi: number, lo: number): void {
    if (lo === this.lo && hi === this.hi) return
    this.step = this.#pageShift
    this.#moveOn(hi, lo)
  }

  #moveOn(hi: number, lo: number): void {
    const low = (lo >>> 0) + (this.#pageLo >>> 0)
    this.#nextLo = low | 0
    this.#nextHi = (hi + this.#pageHi + (low > 0xffff_ffff ? 1 : 0)) | 0
  }
}

/**
 * Swaps of neighbouring entries that one record can tell: what the entries held is a row, and what they hold now is
 * one. Swaps are offered in order; one that does not go on with the run is refused, and the caller then ends the
 * run and starts another. Nothing here allocates.
 */
export class SwapRun {
  first = 0
  count = 0
  readonly before: WordRow
  readonly after: WordRow

  /** @param pageShift log2 of the IOMMU page */
  constructor(pageShift: number) {
    this.before = new WordRow(pageShift)
    this.after = new WordRow(pageShift)
  }

  start(entry: number, beforeHi: number, beforeLo: number, hi: number, lo: number): void {
    this.first = entry
    this.count = 1
    this.before.start(beforeHi, beforeLo)
    this.after.start(hi, lo)
  }

  /** Whether a swap goes on with the run; it is then part of it. */
  takes(entry: number, beforeHi: number, beforeLo: number, hi: number, lo: number): boolean {
    const { count, before, after } = this
    if (count === 0 || entry !== this.first + count) return false
    const isSecond = count === 1
    if (!before.fits(beforeHi, beforeLo, isSecond) || !after.fits(hi, lo, isSecond)) return false
    before.add(beforeHi, beforeLo)
    after.add(hi, lo)
    this.count++
    return true
  }
}
