import { swap32 } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { BusMemory } from '../../memory/ports.ts'

const PAGE_SHIFT = 12
const PAGE_BYTES = 1 << PAGE_SHIFT
const WORD_BYTES = 8

export interface GuestRamOptions {
  readonly mm: AddressSpace
  /** User address of the byte at guest address 0. */
  readonly ua: bigint
  readonly bytes: bigint
  /** QEMU touches memory of its guest that its process has taken away: SIGSEGV. */
  readonly onFault: () => void
}

/** Memory of a guest as QEMU itself reaches it: one range from guest address 0 on, mapped in its own process. */
export class GuestRam implements BusMemory {
  wordHi = 0
  wordLo = 0
  readonly bytes: bigint
  readonly #options: GuestRamOptions
  readonly #pages: number
  readonly #page = new Uint8Array(PAGE_BYTES)
  readonly #view = new DataView(this.#page.buffer)

  constructor(options: GuestRamOptions) {
    this.#options = options
    this.bytes = options.bytes
    this.#pages = Number(options.bytes >> BigInt(PAGE_SHIFT))
  }

  /** The user address of a guest address. */
  uaOf(gpa: bigint): bigint {
    return this.#options.ua + gpa
  }

  isRam(page: number): boolean {
    return page < this.#pages
  }

  loadU64be(page: number, offset: number): boolean {
    const isThere = this.#read(page, offset, this.#page.subarray(0, WORD_BYTES))
    this.wordHi = this.#view.getInt32(0)
    this.wordLo = this.#view.getInt32(4)
    return isThere
  }

  loadU64le(page: number, offset: number): boolean {
    const isThere = this.loadU64be(page, offset)
    const { wordHi } = this
    this.wordHi = swap32(this.wordLo)
    this.wordLo = swap32(wordHi)
    return isThere
  }

  loadWords(page: number, count: number, into: Int32Array): boolean {
    const isThere = this.#read(page, 0, this.#page.subarray(0, count * WORD_BYTES))
    for (let i = 0; i < count * 2; i++) into[i] = this.#view.getInt32(i * 4)
    return isThere
  }

  storeU64be(page: number, offset: number, hi: number, lo: number): boolean {
    this.#view.setInt32(0, hi)
    this.#view.setInt32(4, lo)
    return this.#write(page, offset, this.#page.subarray(0, WORD_BYTES))
  }

  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean {
    return this.#read(page, offset, into.subarray(at, at + bytes))
  }

  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    return this.#write(page, offset, from.subarray(at, at + bytes))
  }

  #at(page: number, offset: number): bigint {
    return this.uaOf((BigInt(page) << BigInt(PAGE_SHIFT)) + BigInt(offset))
  }

  #read(page: number, offset: number, into: Uint8Array): boolean {
    into.fill(0)
    if (!this.isRam(page)) return false
    if (this.#options.mm.read(this.#at(page, offset), into).moved === into.length) return true
    this.#options.onFault()
    return false
  }

  #write(page: number, offset: number, from: Uint8Array): boolean {
    if (!this.isRam(page)) return false
    if (this.#options.mm.write(this.#at(page, offset), from).moved === from.length) return true
    this.#options.onFault()
    return false
  }
}
