import { assert } from '../bits/errors.ts'

/** What `WordTable.intern` answers for a word that the full table does not hold. */
export const OTHER_WORD = -1

/** A hash of bytes [from, to), an int32. */
function hashOf(bytes: Uint8Array, from: number, to: number): number {
  let h = 0x811c_9dc5 | 0
  for (let i = from; i < to; i++) h = Math.imul(h ^ (bytes[i] as number), 0x0100_0193)
  return h
}

/**
 * ASCII words of a log as small numbers, in the order in which they first occurred. Looks words up in place,
 * without making strings, and never holds more than `wordsMax`, so a hostile log cannot make it grow.
 */
export class WordTable {
  readonly #words: string[] = []
  readonly #hashes: Int32Array
  /** Number of a word + 1 where a hash may find it, 0 where there is none. */
  readonly #places: Int32Array
  readonly #wordsMax: number

  constructor(wordsMax: number) {
    assert(wordsMax > 0, 'the table can hold a word')
    this.#wordsMax = wordsMax
    this.#hashes = new Int32Array(wordsMax)
    this.#places = new Int32Array(2 ** Math.ceil(Math.log2(wordsMax * 2 + 2)))
  }

  get count(): number {
    return this.#words.length
  }

  /** The word of a number; `?` for a number that was never given out. */
  word(number: number): string {
    return this.#words[number] ?? '?'
  }

  /** The number of the word in bytes [from, to); OTHER_WORD for a new word when the table is full. */
  intern(bytes: Uint8Array, from: number, to: number): number {
    const hash = hashOf(bytes, from, to)
    const mask = this.#places.length - 1
    let place = (hash ^ (hash >>> 15)) & mask
    for (;;) {
      const number = (this.#places[place] as number) - 1
      if (number < 0) break
      if (this.#hashes[number] === hash && this.#is(number, bytes, from, to)) return number
      place = (place + 1) & mask
    }
    const number = this.#words.length
    if (number === this.#wordsMax) return OTHER_WORD
    this.#words.push(String.fromCharCode(...bytes.subarray(from, to)))
    this.#hashes[number] = hash
    this.#places[place] = number + 1
    return number
  }

  #is(number: number, bytes: Uint8Array, from: number, to: number): boolean {
    const word = this.#words[number] as string
    if (word.length !== to - from) return false
    for (let i = from; i < to; i++) if (word.charCodeAt(i - from) !== bytes[i]) return false
    return true
  }
}
