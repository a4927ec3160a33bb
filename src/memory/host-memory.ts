import { assert, IommulatorError } from '../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { hex, swap32 } from '../bits/u64.ts'
import { HOST_ADDRESS_BITS } from './limits.ts'
import type { BusMemory } from './ports.ts'

export const PAGE_4K_SHIFT = 12
export const PAGE_4K_BYTES = 4096
const PAGE_CELLS = PAGE_4K_BYTES / 4
const CHUNK_PAGES = 512
const CHUNK_CELLS = CHUNK_PAGES * PAGE_CELLS
const CHUNK_BYTES = CHUNK_CELLS * 4
const DIRECTORY_SHIFT = 12
const DIRECTORY_CHUNKS = 1 << DIRECTORY_SHIFT

/** Pages of which `HostMemory.cellsOf` has the words: those of one stretch of so many. */
export const CELLS_PAGES = CHUNK_PAGES
/** Where a page begins in `HostMemory.cellsOf`. */
export const cellOf = (page: number): number => (page & (CHUNK_PAGES - 1)) << 10

const ENGINE_IS_LITTLE_ENDIAN = new Uint8Array(new Int32Array([1]).buffer)[0] === 1

/** 2 MiB: the cells, and two views of their bytes. */
interface Chunk {
  readonly cells: Cells
  readonly data: Int32Array
  readonly bytes: Uint8Array
}

export interface HostMemoryOptions {
  readonly journal: Journal
  /** Where physical memory ends: a multiple of 4 KiB, at most 2^52. */
  readonly ramBytes: number
  /** Bytes that the model may take for it; past them a write throws. */
  readonly maxBytes: number
}

/**
 * The bytes of host physical memory, kept in chunks of 2 MiB that appear with their first byte that is not 0:
 * a machine of terabytes costs what is written to it, and what was never written reads as 0.
 *
 * An access names a 4 KiB page and an offset in it and may not leave the page. A word's offset is a multiple of
 * its bytes. Words go in and out in int32 lanes, results through `wordHi` and `wordLo`; no access allocates
 * except the first one to a chunk. Every change goes through cells, so that an undo log covers it.
 *
 * @throws IommulatorError ERR_MEMORY_LIMIT from a write that would take more than `maxBytes`
 * @example
 * memory.storeU64be(5, 8, 0, 0x1003)
 * memory.loadU64be(5, 8) // memory.wordLo === 0x1003
 */
export class HostMemory implements BusMemory {
  wordHi = 0
  wordLo = 0
  /** 4 KiB pages of physical memory: those below have memory, those from here on have none. */
  readonly pages: number
  readonly #journal: Journal
  readonly #maxBytes: number
  readonly #directories: ((Chunk | undefined)[] | undefined)[] = []
  #bytes = 0

  constructor(options: HostMemoryOptions) {
    const { ramBytes } = options
    assert(ENGINE_IS_LITTLE_ENDIAN, 'the engine keeps its words little-endian')
    assert(
      ramBytes % PAGE_4K_BYTES === 0 && ramBytes <= 2 ** HOST_ADDRESS_BITS,
      'memory is whole pages, 52 bits',
    )
    this.pages = ramBytes / PAGE_4K_BYTES
    this.#journal = options.journal
    this.#maxBytes = options.maxBytes
  }

  /** Bytes that the model has taken for the chunks. */
  get bytes(): number {
    return this.#bytes
  }

  isRam(page: number): boolean {
    return page < this.pages
  }

  loadU64be(page: number, offset: number): boolean {
    const chunk = this.#chunk(page)
    if (chunk === undefined) return this.#zero(page)
    const at = ((page & (CHUNK_PAGES - 1)) << 10) + (offset >>> 2)
    this.wordHi = swap32(chunk.data[at] as number)
    this.wordLo = swap32(chunk.data[at + 1] as number)
    return true
  }

  /**
   * The words around a page, for who goes through many of them: the first of the page stands at `cellOf(page)`, two
   * lanes each, in the order of memory. Undefined where all of them are 0 still, or an undo log must see each change.
   */
  cellsOf(page: number): Int32Array | undefined {
    return this.#journal.on ? undefined : this.#chunk(page)?.data
  }

  /** How many 64-bit words from an offset of a page on are 0, of `words` that are looked at. */
  zeroWords(page: number, offset: number, words: number): number {
    let cell = ((page & (CHUNK_PAGES - 1)) << 10) + (offset >>> 2)
    let at = page
    for (let done = 0; done < words; ) {
      const count = Math.min(words - done, (CHUNK_CELLS - cell) >>> 1)
      const data = this.#chunk(at)?.data
      if (data !== undefined) {
        const end = cell + 2 * count
        for (let i = cell; i < end; i += 2) {
          if (((data[i] as number) | (data[i + 1] as number)) !== 0) return done + ((i - cell) >>> 1)
        }
      }
      done += count
      at = (at | (CHUNK_PAGES - 1)) + 1
      cell = 0
    }
    return words
  }

  loadWords(page: number, count: number, into: Int32Array): boolean {
    const chunk = this.#chunk(page)
    if (chunk === undefined) {
      into.fill(0, 0, count * 2)
      return page < this.pages
    }
    const { data } = chunk
    const at = (page & (CHUNK_PAGES - 1)) << 10
    for (let i = 0; i < count * 2; i++) into[i] = swap32(data[at + i] as number)
    return true
  }

  /** As `loadU64be`, for little-endian tables. */
  loadU64le(page: number, offset: number): boolean {
    const chunk = this.#chunk(page)
    if (chunk === undefined) return this.#zero(page)
    const at = ((page & (CHUNK_PAGES - 1)) << 10) + (offset >>> 2)
    this.wordLo = chunk.data[at] as number
    this.wordHi = chunk.data[at + 1] as number
    return true
  }

  storeU64be(page: number, offset: number, hi: number, lo: number): boolean {
    return this.storeU64le(page, offset, swap32(lo), swap32(hi))
  }

  storeU64le(page: number, offset: number, hi: number, lo: number): boolean {
    if (page >= this.pages) return false
    let chunk = this.#chunk(page)
    if (chunk === undefined) {
      if ((hi | lo) === 0) return true
      chunk = this.#makeChunk(page)
    }
    const at = ((page & (CHUNK_PAGES - 1)) << 10) + (offset >>> 2)
    if (this.#journal.on) {
      chunk.cells.set(at, lo)
      chunk.cells.set(at + 1, hi)
    } else {
      // What `Cells.set` does where nobody keeps an undo log.
      chunk.data[at] = lo
      chunk.data[at + 1] = hi
    }
    return true
  }

  /** The little-endian 32-bit word as an int32; 0 where there is no memory. */
  loadU32le(page: number, offset: number): number {
    const chunk = this.#chunk(page)
    return chunk === undefined
      ? 0
      : (chunk.data[((page & (CHUNK_PAGES - 1)) << 10) + (offset >>> 2)] as number)
  }

  loadU32be(page: number, offset: number): number {
    return swap32(this.loadU32le(page, offset))
  }

  storeU32le(page: number, offset: number, value: number): boolean {
    if (page >= this.pages) return false
    let chunk = this.#chunk(page)
    if (chunk === undefined) {
      if (value === 0) return true
      chunk = this.#makeChunk(page)
    }
    chunk.cells.set(((page & (CHUNK_PAGES - 1)) << 10) + (offset >>> 2), value)
    return true
  }

  storeU32be(page: number, offset: number, value: number): boolean {
    return this.storeU32le(page, offset, swap32(value))
  }

  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean {
    assert(offset + bytes <= PAGE_4K_BYTES, 'an access stays in its page')
    const chunk = this.#chunk(page)
    if (chunk === undefined) {
      into.fill(0, at, at + bytes)
      return page < this.pages
    }
    const from = ((page & (CHUNK_PAGES - 1)) << PAGE_4K_SHIFT) + offset
    if (bytes > 64) into.set(chunk.bytes.subarray(from, from + bytes), at)
    else for (let i = 0; i < bytes; i++) into[at + i] = chunk.bytes[from + i] as number
    return true
  }

  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean {
    assert(offset + bytes <= PAGE_4K_BYTES, 'an access stays in its page')
    if (page >= this.pages) return false
    let chunk = this.#chunk(page)
    if (chunk === undefined) {
      let first = at
      while (first < at + bytes && from[first] === 0) first++
      if (first === at + bytes) return true
      chunk = this.#makeChunk(page)
    }
    const to = ((page & (CHUNK_PAGES - 1)) << PAGE_4K_SHIFT) + offset
    if (this.#journal.on) this.#setBytes(chunk, to, from, at, bytes)
    else if (bytes > 64) chunk.bytes.set(from.subarray(at, at + bytes), to)
    else for (let i = 0; i < bytes; i++) chunk.bytes[to + i] = from[at + i] as number
    return true
  }

  /** 4 KiB pages [page, page + count) become 0. */
  zeroPages(page: number, count: number): void {
    for (let p = page; p < page + count; p++) {
      const at = (p & (CHUNK_PAGES - 1)) << 10
      this.#chunk(p)?.cells.fill(0, at, at + PAGE_CELLS)
    }
  }

  /** Copies 4 KiB pages [from, from + count) to [to, to + count); the two do not overlap. */
  copyPages(from: number, to: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const source = this.#chunk(from + i)
      if (source === undefined) {
        this.zeroPages(to + i, 1)
        continue
      }
      const at = ((from + i) & (CHUNK_PAGES - 1)) << PAGE_4K_SHIFT
      this.writePage(to + i, 0, source.bytes, at, PAGE_4K_BYTES)
    }
  }

  #zero(page: number): boolean {
    this.wordHi = 0
    this.wordLo = 0
    return page < this.pages
  }

  #chunk(page: number): Chunk | undefined {
    // A page below 2^31 takes the path without a division of doubles.
    const number = page <= 0x7fff_ffff ? page >>> 9 : Math.floor(page / CHUNK_PAGES)
    const directory = this.#directories[number >>> DIRECTORY_SHIFT]
    return directory === undefined ? undefined : directory[number & (DIRECTORY_CHUNKS - 1)]
  }

  #makeChunk(page: number): Chunk {
    if (this.#bytes + CHUNK_BYTES > this.#maxBytes) {
      const where = hex(BigInt(page) * BigInt(PAGE_4K_BYTES))
      throw new IommulatorError(
        'ERR_MEMORY_LIMIT',
        `modelled memory past ${this.#maxBytes} bytes, at ${where}`,
      )
    }
    const number = Math.floor(page / CHUNK_PAGES)
    const high = number >>> DIRECTORY_SHIFT
    while (this.#directories.length <= high) this.#directories.push(undefined)
    let directory = this.#directories[high]
    if (directory === undefined) {
      directory = new Array<Chunk | undefined>(DIRECTORY_CHUNKS).fill(undefined)
      this.#directories[high] = directory
    }
    const cells = new Cells(this.#journal, keyOf('host memory', number), CHUNK_CELLS)
    const chunk = { cells, data: cells.data, bytes: new Uint8Array(cells.data.buffer) }
    directory[number & (DIRECTORY_CHUNKS - 1)] = chunk
    this.#bytes += CHUNK_BYTES
    return chunk
  }

  /** Bytes into cells, word by word, so that the journal sees each. */
  #setBytes(chunk: Chunk, to: number, from: Uint8Array, at: number, bytes: number): void {
    for (let done = 0; done < bytes; ) {
      const cell = (to + done) >>> 2
      let shift = ((to + done) & 3) << 3
      let word = chunk.data[cell] as number
      for (; shift < 32 && done < bytes; shift += 8, done++) {
        word = (word & ~(0xff << shift)) | ((from[at + done] as number) << shift)
      }
      chunk.cells.set(cell, word)
    }
  }
}
