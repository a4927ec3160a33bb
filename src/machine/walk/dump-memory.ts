import { swap32 } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'

const PAGE_BYTES = 4096

/** Memory of a guest as a dump has it: pages of 4 KiB, or nothing where the dump has none. What is written is kept apart. */
export class DumpMemory implements BusMemory {
  wordHi = 0
  wordLo = 0
  readonly #pageAt: (page: number) => Uint8Array | undefined
  readonly #pages = new Map<number, Uint8Array | undefined>()

  /** @param pageAt the 4096 bytes of a page, or undefined; asked once for each page */
  constructor(pageAt: (page: number) => Uint8Array | undefined) {
    this.#pageAt = pageAt
  }

  isRam(page: number): boolean {
    return this.#page(page) !== undefined
  }

  loadU64be(page: number, offset: number): boolean {
    const bytes = this.#page(page)
    const view = bytes === undefined ? undefined : new DataView(bytes.buffer, bytes.byteOffset, PAGE_BYTES)
    this.wordHi = view?.getInt32(offset) ?? 0
    this.wordLo = view?.getInt32(offset + 4) ?? 0
    return view !== undefined
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
    const bytes = new Uint8Array(8)
    const view = new DataView(bytes.buffer)
    view.setInt32(0, hi)
    view.setInt32(4, lo)
    return this.writePage(page, offset, bytes, 0, bytes.length)
  }

  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean {
    const from = this.#page(page)
    if (from === undefined) into.fill(0, at, at + bytes)
    else into.set(from.subarray(offset, offset + bytes), at)
    return from !== undefined
  }

  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    const to = this.#page(page)
    to?.set(from.subarray(at, at + bytes), offset)
    return to !== undefined
  }

  #page(page: number): Uint8Array | undefined {
    if (!this.#pages.has(page)) {
      const found = this.#pageAt(page)
      this.#pages.set(page, found === undefined ? undefined : Uint8Array.from(found))
    }
    return this.#pages.get(page)
  }
}

/** What a dump holds. */
export interface Dump {
  readonly memory: BusMemory
  /** Registers of the unit by their offset, where the dump has them. */
  readonly registers: ReadonlyMap<number, bigint>
}
