import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import type { CpuStores } from './cpu-stores.ts'

const WORDS_PER_PAGE = 512

/** Words of root, context and PASID entries, as the driver writes them: snooped by the unit or flushed (ECAP.C). */
export class EntryWriter {
  readonly #stores: CpuStores
  readonly #isSnooped: () => boolean
  readonly #flushesLines: () => boolean

  constructor(stores: CpuStores, isSnooped: () => boolean, flushesLines: () => boolean) {
    this.#stores = stores
    this.#isSnooped = isSnooped
    this.#flushesLines = flushesLines
  }

  read(page: number, index: number): bigint {
    this.#stores.load(page, index)
    return wordOf(this.#stores.hi, this.#stores.lo)
  }

  write(page: number, index: number, word: bigint): void {
    this.#stores.store(page, index, { hi: hiOf(word), lo: loOf(word) }, this.#isSnooped())
  }

  /** Words that were written leave the cache, where the unit does not snoop. */
  flush(page: number, index: number, count: number): void {
    if (!this.#isSnooped() && this.#flushesLines()) this.#stores.flushLines(page, index, count)
  }

  /** A new page of zeros. */
  flushPage(page: number): void {
    this.flush(page, 0, WORDS_PER_PAGE)
  }

  /**
   * An entry of words: cleared, then its upper words and fields, and the word with P last.
   *
   * @param words with P in the first
   */
  publish(page: number, index: number, words: readonly bigint[]): void {
    const [first = 0n, ...rest] = words
    this.clear(page, index, words.length)
    rest.forEach((word, i) => {
      this.write(page, index + 1 + i, word)
    })
    this.write(page, index, first & ~1n)
    this.write(page, index, first)
    this.flush(page, index, words.length)
  }

  /** All words become 0, the one with P first. @param first what is left in it: FPD, or 0 */
  clear(page: number, index: number, count: number, first = 0n): void {
    for (let i = 0; i < count; i++) this.write(page, index + i, i === 0 ? first : 0n)
    this.flush(page, index, count)
  }
}
