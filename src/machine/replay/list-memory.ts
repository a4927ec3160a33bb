import { swap32 } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'

/**
 * The memory of a guest of which only a log is left: it holds the TCE list of the call that is replayed now,
 * and nothing else. A log prints one value of a list; the list is made from it as an arithmetic row.
 *
 * The first word is `first` (two lanes), each next one `stepLo` + 2^32 * `stepHi` more.
 */
export class ListMemory implements BusMemory {
  wordHi = 0
  wordLo = 0
  #firstHi = 0
  #firstLo = 0
  #step = 0

  /** The list that the next call reads. @param stepBytes distance of neighbours, below 2^53 */
  present(firstHi: number, firstLo: number, stepBytes: number): void {
    this.#firstHi = firstHi
    this.#firstLo = firstLo
    this.#step = stepBytes
  }

  /** What a log does not say: every page may be memory. */
  isRam(): boolean {
    return true
  }

  loadU64be(_page: number, offset: number): boolean {
    const plus = this.#step * (offset >>> 3)
    const low = (this.#firstLo >>> 0) + (plus % 0x1_0000_0000)
    this.wordLo = low | 0
    this.wordHi = (this.#firstHi + Math.floor(plus / 0x1_0000_0000) + (low >= 0x1_0000_0000 ? 1 : 0)) | 0
    return true
  }

  loadU64le(page: number, offset: number): boolean {
    const isThere = this.loadU64be(page, offset)
    const { wordHi } = this
    this.wordHi = swap32(this.wordLo)
    this.wordLo = swap32(wordHi)
    return isThere
  }

  loadWords(page: number, count: number, into: Int32Array): boolean {
    for (let i = 0; i < count; i++) {
      this.loadU64be(page, i * 8)
      into[i * 2] = this.wordHi
      into[i * 2 + 1] = this.wordLo
    }
    return true
  }

  storeU64be(): boolean {
    return true
  }

  readPage(): boolean {
    return true
  }

  writePage(): boolean {
    return true
  }
}
