/** Words of a descriptor, in lanes. */
export interface Words {
  readonly loHi: number
  readonly loLo: number
  readonly hiHi: number
  readonly hiLo: number
}

export const isSameWords = (a: Words, b: Words): boolean =>
  a.loLo === b.loLo && a.hiLo === b.hiLo && a.hiHi === b.hiHi && a.loHi === b.loHi

/** So many descriptors in a row are looked for at least, where there are so many. */
const LEAST = 32

/**
 * How many descriptors from `from` on, up to `end`, are enough to tell the place from all others of the log: a driver that
 * flushes the same pages again and again looks alike for a while. Undefined where none are.
 */
export function patternLength(all: readonly Words[], from: number, end: number): number | undefined {
  const count = end - from
  const total = count + all.length
  const at = (i: number): Words => all[i < count ? from + i : i - count] as Words
  // Z algorithm over the stretch and then the whole: how long what begins at each place is the same as the stretch.
  const same = new Int32Array(total)
  let [left, right, most] = [0, 0, 0]
  for (let i = 1; i < total; i++) {
    let n = i < right ? Math.min(right - i, same[i - left] as number) : 0
    while (i + n < total && n < count && isSameWords(at(n), at(i + n))) n++
    if (i + n > right) [left, right] = [i, i + n]
    same[i] = n
    if (i >= count && i !== count + from) most = Math.max(most, n)
  }
  return most >= count ? undefined : Math.min(count, Math.max(LEAST, most + 1))
}

/** Finds a stretch of descriptors in others that come one by one. (Knuth, Morris, Pratt) */
export class FlushSearch {
  readonly #pattern: readonly Words[]
  readonly #back: Int32Array
  /** How many of the last descriptors are the beginning of the pattern. */
  matched = 0

  constructor(pattern: readonly Words[]) {
    this.#pattern = pattern
    this.#back = new Int32Array(pattern.length + 1)
    this.#back[0] = -1
    for (let i = 0, k = -1; i < pattern.length; i++) {
      while (k >= 0 && !isSameWords(pattern[i] as Words, pattern[k] as Words)) k = this.#back[k] as number
      this.#back[i + 1] = ++k
    }
  }

  /** The next descriptor. True where it ends the pattern. */
  next(words: Words): boolean {
    let k = this.matched
    while (k >= 0 && (k === this.#pattern.length || !isSameWords(words, this.#pattern[k] as Words)))
      k = this.#back[k] as number
    this.matched = k + 1
    return this.matched === this.#pattern.length
  }
}
