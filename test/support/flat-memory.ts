import { swap32 } from '../../src/bits/u64.ts'
import type { BusMemory } from '../../src/memory/ports.ts'

const PAGE_BYTES = 4096

/** Memory from 0 on as one array, with holes: the smallest thing that is a `BusMemory`. */
export class FlatMemory implements BusMemory {
  wordHi = 0
  wordLo = 0
  readonly bytes: Uint8Array
  /** 4 KiB pages that are no memory. */
  readonly holes = new Set<number>()
  readonly #view: DataView

  constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes)
    this.#view = new DataView(this.bytes.buffer)
  }

  isRam(page: number): boolean {
    if (page >= 2 ** 40) throw new Error('a page that no caller may ask for')
    return (page + 1) * PAGE_BYTES <= this.bytes.length && !this.holes.has(page)
  }

  loadU64be(page: number, offset: number): boolean {
    const isRam = this.isRam(page)
    this.wordHi = isRam ? this.#view.getInt32(page * PAGE_BYTES + offset) : 0
    this.wordLo = isRam ? this.#view.getInt32(page * PAGE_BYTES + offset + 4) : 0
    return isRam
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
    this.#view.setInt32(page * PAGE_BYTES + offset, hi)
    this.#view.setInt32(page * PAGE_BYTES + offset + 4, lo)
    return true
  }

  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean {
    const from = page * PAGE_BYTES + offset
    if (this.isRam(page)) into.set(this.bytes.subarray(from, from + bytes), at)
    else into.fill(0, at, at + bytes)
    return this.isRam(page)
  }

  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    if (this.isRam(page)) this.bytes.set(from.subarray(at, at + bytes), page * PAGE_BYTES + offset)
    return this.isRam(page)
  }

  /** Text from an address on, for tests. */
  text(address: number, bytes: number): string {
    return String.fromCharCode(...this.bytes.subarray(address, address + bytes))
  }

  write(address: number, text: string): void {
    this.bytes.set(new TextEncoder().encode(text), address)
  }

  /** A list of big-endian words. */
  list(address: number, words: readonly bigint[]): void {
    words.forEach((word, i) => {
      this.#view.setBigUint64(address + i * 8, BigInt.asUintN(64, word))
    })
  }
}
