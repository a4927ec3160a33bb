import { swap32 } from '../../bits/u64.ts'
import { isInterruptPage } from '../../memory/interrupt-range.ts'
import type { BusMemory } from '../../memory/ports.ts'

const PAGE_BYTES = 4096

/** Memory from address 0 on, of which only the pages that were written take room, and what else a walk may read. */
export class SparseMemory implements BusMemory {
  wordHi = 0
  wordLo = 0
  readonly #pages = new Map<number, DataView>()
  readonly #pageCount: number

  constructor(bytes: number) {
    this.#pageCount = bytes / PAGE_BYTES
  }

  isRam(page: number): boolean {
    return page < this.#pageCount || isInterruptPage(page)
  }

  loadU64be(page: number, offset: number): boolean {
    const view = this.#pages.get(page)
    this.wordHi = view?.getInt32(offset) ?? 0
    this.wordLo = view?.getInt32(offset + 4) ?? 0
    return this.isRam(page)
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
    return this.isRam(page)
  }

  storeU64be(page: number, offset: number, hi: number, lo: number): boolean {
    if (!this.isRam(page)) return false
    const view = this.#touch(page)
    view.setInt32(offset, hi)
    view.setInt32(offset + 4, lo)
    return true
  }

  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean {
    const view = this.#pages.get(page)
    if (view === undefined) into.fill(0, at, at + bytes)
    else into.set(new Uint8Array(view.buffer, offset, bytes), at)
    return this.isRam(page)
  }

  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    if (!this.isRam(page)) return false
    new Uint8Array(this.#touch(page).buffer).set(from.subarray(at, at + bytes), offset)
    return true
  }

  /** A stretch of memory, over as many pages as it takes. */
  read(gpa: number, bytes: number): Uint8Array {
    const out = new Uint8Array(bytes)
    for (let done = 0; done < bytes; ) {
      const offset = (gpa + done) % PAGE_BYTES
      const part = Math.min(bytes - done, PAGE_BYTES - offset)
      this.readPage((gpa + done - offset) / PAGE_BYTES, offset, out, done, part)
      done += part
    }
    return out
  }

  /** Little-endian words from an address on. */
  writeWords(gpa: number, words: readonly bigint[]): void {
    const word = new DataView(new ArrayBuffer(8))
    const bytes = new Uint8Array(word.buffer)
    for (const [i, value] of words.entries()) {
      word.setBigUint64(0, value, true)
      // A word may lie over the end of a page.
      for (let at = 0; at < 8; at++) {
        const to = gpa + i * 8 + at
        this.writePage(Math.floor(to / PAGE_BYTES), to % PAGE_BYTES, bytes, at, 1)
      }
    }
  }

  #touch(page: number): DataView {
    const known = this.#pages.get(page)
    if (known !== undefined) return known
    const view = new DataView(new ArrayBuffer(PAGE_BYTES))
    this.#pages.set(page, view)
    return view
  }
}
