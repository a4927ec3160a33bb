import { IommulatorError } from '../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { wordOf } from '../bits/u64.ts'
import type { TceEntries } from './tce-entries.ts'
import { TCE_BYTES, TCE_PERM } from './tce-entry.ts'

const CHUNK_SHIFT = 18
const CHUNK_ENTRIES = 1 << CHUNK_SHIFT

const TCE_PERM_WORD = BigInt(TCE_PERM)

/** Read where a chunk is missing; nobody writes to it, so it never takes memory. */
const ZEROS = new Int32Array(CHUNK_ENTRIES * 2)

/**
 * The entries of one flat TCE table, two cells (low, high) an entry, in chunks of 2 MiB that appear with their
 * first non-zero entry: a window of 2^31 entries costs what is written to it.
 *
 * The hot readers take an index that was range-checked and leave the entry in `lo` and `hi`.
 *
 * @example
 * const store = new TceStore({ entries: 262144, journal, key: 1, maxBytes: 1 << 30 })
 * store.set(5, 0x5003, 0)
 * store.load(5) // store.lo === 0x5003
 */
export class TceStore implements TceEntries {
  /** Lower lane of the entry that `load` found. */
  lo = 0
  /** Upper lane of the entry that `load` found. */
  hi = 0
  readonly entries: number
  readonly #chunks: (Cells | undefined)[]
  /** The cells of each chunk; zeros for those that are not there yet. */
  readonly #data: Int32Array[]
  readonly #journal: Journal
  readonly #key: number
  readonly #maxBytes: number
  #bytes = 0

  constructor(options: { entries: number; journal: Journal; key: number; maxBytes: number }) {
    this.entries = options.entries
    this.#chunks = Array.from({ length: Math.ceil(options.entries / CHUNK_ENTRIES) }, () => undefined)
    this.#data = Array.from(this.#chunks, () => ZEROS)
    this.#journal = options.journal
    this.#key = options.key
    this.#maxBytes = options.maxBytes
  }

  /** Bytes that the table takes now. */
  get bytes(): number {
    return this.#bytes
  }

  load(index: number): void {
    const data = this.#data[index >>> CHUNK_SHIFT] as Int32Array
    const at = (index & (CHUNK_ENTRIES - 1)) << 1
    this.lo = data[at] as number
    this.hi = data[at + 1] as number
  }

  /** The entry as a bigint: for the edges. */
  get(index: number): bigint {
    this.load(index)
    return wordOf(this.hi, this.lo)
  }

  set(index: number, lo: number, hi: number): void {
    const number = index >>> CHUNK_SHIFT
    let chunk = this.#chunks[number]
    if (chunk === undefined) {
      if (lo === 0 && hi === 0) return
      chunk = this.#grow(number)
    }
    const at = (index & (CHUNK_ENTRIES - 1)) << 1
    if (this.#journal.on) {
      chunk.set(at, lo)
      chunk.set(at + 1, hi)
    } else {
      // What `Cells.set` does where nobody keeps an undo log.
      const { data } = chunk
      data[at] = lo
      data[at + 1] = hi
    }
  }

  /** Entries from `first` on become the first `count` words of a list: high lane, low lane, and so on. */
  setList(first: number, count: number, list: Int32Array): void {
    for (let i = 0; i < count; ) {
      const index = first + i
      const stop = Math.min(count, i + CHUNK_ENTRIES - (index & (CHUNK_ENTRIES - 1)))
      const chunk = this.#chunks[index >>> CHUNK_SHIFT]
      if (chunk === undefined || this.#journal.on) {
        for (; i < stop; i++) this.set(first + i, list[i * 2 + 1] as number, list[i * 2] as number)
        continue
      }
      const { data } = chunk
      for (let at = (index & (CHUNK_ENTRIES - 1)) << 1; i < stop; i++, at += 2) {
        data[at] = list[i * 2 + 1] as number
        data[at + 1] = list[i * 2] as number
      }
    }
  }

  /** Entries [first, end) become one value. */
  fill(first: number, end: number, lo: number, hi: number): void {
    for (let index = first; index < end; ) {
      const number = index >>> CHUNK_SHIFT
      const stop = Math.min(end, (number + 1) * CHUNK_ENTRIES)
      let chunk = this.#chunks[number]
      if (chunk === undefined && (lo !== 0 || hi !== 0)) chunk = this.#grow(number)
      if (chunk !== undefined) {
        const at = (index & (CHUNK_ENTRIES - 1)) << 1
        const last = at + ((stop - index) << 1)
        if (lo === hi) chunk.fill(lo, at, last)
        else {
          for (let i = at; i < last; i += 2) {
            chunk.set(i, lo)
            chunk.set(i + 1, hi)
          }
        }
      }
      index = stop
    }
  }

  /** Entries with a permission bit, in order: index and raw word. For dumps and tests. */
  *live(): Generator<readonly [index: number, tce: bigint]> {
    for (const entry of this.held()) if ((entry[1] & TCE_PERM_WORD) !== 0n) yield entry
  }

  /** Entries that are not 0, in order. */
  *held(): Generator<readonly [index: number, tce: bigint]> {
    for (let c = 0; c < this.#chunks.length; c++) {
      const chunk = this.#chunks[c]
      if (chunk === undefined) continue
      for (let i = 0; i < CHUNK_ENTRIES; i++) {
        const lo = chunk.data[i << 1] as number
        const hi = chunk.data[(i << 1) + 1] as number
        if ((lo | hi) !== 0) yield [c * CHUNK_ENTRIES + i, wordOf(hi, lo)]
      }
    }
  }

  #grow(number: number): Cells {
    const entries = Math.min(CHUNK_ENTRIES, this.entries - number * CHUNK_ENTRIES)
    if (this.#bytes + entries * TCE_BYTES > this.#maxBytes) {
      throw new IommulatorError('ERR_MEMORY_LIMIT', `TCE table past ${this.#maxBytes} bytes`)
    }
    const chunk = new Cells(this.#journal, keyOf('tce', this.#key, number), entries * 2)
    this.#chunks[number] = chunk
    this.#data[number] = chunk.data
    this.#bytes += entries * TCE_BYTES
    return chunk
  }
}
