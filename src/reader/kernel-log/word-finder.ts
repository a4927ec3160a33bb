/** Letters by which a word is looked for. */
const LETTERS = 4
const BUCKETS = 4096

const hashOf = (a: number, b: number, c: number, d: number): number =>
  (Math.imul((a << 24) ^ (b << 16) ^ (c << 8) ^ d, 0x9e37_79b1) >>> 20) & (BUCKETS - 1)

interface Sought<T> {
  readonly word: string
  readonly value: T
}

/** Finds which of many words stand in a text, in one pass over it. Words have at least four letters. */
export class WordFinder<T> {
  readonly #has = new Uint8Array(BUCKETS)
  readonly #buckets = new Map<number, Sought<T>[]>()

  add(word: string, value: T): void {
    const hash = hashOf(word.charCodeAt(0), word.charCodeAt(1), word.charCodeAt(2), word.charCodeAt(3))
    this.#has[hash] = 1
    const bucket = this.#buckets.get(hash)
    if (bucket === undefined) this.#buckets.set(hash, [{ word, value }])
    else bucket.push({ word, value })
  }

  /** The first value, in the order of the places of words in the text, that `take` wants; all where it wants none. */
  find<R>(text: string, take: (value: T) => R | undefined): R | undefined {
    const last = text.length - LETTERS
    let [a, b, c] = [text.charCodeAt(0), text.charCodeAt(1), text.charCodeAt(2)]
    for (let at = 0; at <= last; at++) {
      const d = text.charCodeAt(at + 3)
      const hash = hashOf(a, b, c, d)
      if (this.#has[hash] === 1) {
        for (const { word, value } of this.#buckets.get(hash) as Sought<T>[]) {
          if (!text.startsWith(word, at)) continue
          const wanted = take(value)
          if (wanted !== undefined) return wanted
        }
      }
      a = b
      b = c
      c = d
    }
    return undefined
  }
}
