/** Words of neighbouring entries: all the same, or each 2^pageShift more than the one before it. */
class WordRow {
  hi = 0
  lo = 0
  /** log2 of what each next word is more; -1 where all are the same. */
  step = -1
  /** The word that goes on with a row of two and more. */
  nextHi = 0
  nextLo = 0
  readonly #pageShift: number
  readonly #pageHi: number
  readonly #pageLo: number

  constructor(pageShift: number) {
    this.#pageShift = pageShift
    this.#pageLo = pageShift < 32 ? 2 ** pageShift : 0
    this.#pageHi = pageShift < 32 ? 0 : 1 << (pageShift - 32)
  }

  start(hi: number, lo: number): void {
    this.hi = hi
    this.lo = lo
    this.step = -1
    this.nextHi = hi
    this.nextLo = lo
  }

  /** log2 of what a second word is more than the first, -1 for the same word; -2 where it does not go on. */
  stepTo(hi: number, lo: number): number {
    if (lo === this.lo && hi === this.hi) return -1
    const low = (this.lo >>> 0) + this.#pageLo
    const high = (this.hi + this.#pageHi + (low > 0xffff_ffff ? 1 : 0)) | 0
    return lo === (low | 0) && hi === high ? this.#pageShift : -2
  }

  /** One word more, the next one. */
  moveOn(): void {
    if (this.step < 0) return
    const low = (this.nextLo >>> 0) + this.#pageLo
    this.nextLo = low | 0
    this.nextHi = (this.nextHi + this.#pageHi + (low > 0xffff_ffff ? 1 : 0)) | 0
  }

  /** The second word, `step` more than the first. */
  second(step: number): void {
    this.step = step
    this.moveOn()
    this.moveOn()
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
    if (entry !== this.first + count) return false
    if (count < 2) return count === 1 && this.#takesSecond(beforeHi, beforeLo, hi, lo)
    if (lo !== after.nextLo || hi !== after.nextHi) return false
    if (beforeLo !== before.nextLo || beforeHi !== before.nextHi) return false
    before.moveOn()
    after.moveOn()
    this.count = count + 1
    return true
  }

  #takesSecond(beforeHi: number, beforeLo: number, hi: number, lo: number): boolean {
    const beforeStep = this.before.stepTo(beforeHi, beforeLo)
    const step = this.after.stepTo(hi, lo)
    if (beforeStep < -1 || step < -1) return false
    this.before.second(beforeStep)
    this.after.second(step)
    this.count = 2
    return true
  }
}
