import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { swap32 } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'

const WORD_BYTES = 8
const WORDS_PER_PAGE = 512
const LINE_WORDS = 8
const PAGE_BYTES = 4096

/** A word that memory does not hold yet: in a line of the cache, or past it in the write buffer. */
interface Pending {
  readonly hi: number
  readonly lo: number
  readonly isBuffered: boolean
  /** Which store it was, counted. */
  readonly order: number
}

/** How stores of the processor reach what a unit reads. */
export interface StorePath {
  /** CAP.RWBF: the chipset holds writes back until the write buffer is flushed. */
  readonly hasWriteBuffer: boolean
}

/**
 * Stores of a driver to tables of a unit, 64-bit words with the least significant byte first. A store that the unit
 * does not snoop stays in its cache line until the line is flushed, and then, where the chipset has a write buffer, there
 * until that is flushed. A real cache may write a line back sooner; this one never does, so that a flush that is missing
 * shows. (VT-d manual, ECAP.C, CAP.RWBF and Write Buffer Flushing)
 *
 * `load` sees the newest store, as the processor does.
 */
export class CpuStores {
  /** Result lanes of `load`. */
  hi = 0
  lo = 0
  readonly #memory: BusMemory
  readonly #journal: Journal
  readonly #pending = new Map<number, Pending>()
  readonly #key: number
  readonly #count: Cells
  #hasWriteBuffer = false

  constructor(memory: BusMemory, journal: Journal) {
    this.#memory = memory
    this.#journal = journal
    this.#key = keyOf('stores of the driver')
    this.#count = new Cells(journal, keyOf('count of stores'), 1)
  }

  /** What the chipset is, once the driver has read it. */
  setPath({ hasWriteBuffer }: StorePath): void {
    this.#hasWriteBuffer = hasWriteBuffer
  }

  /** Words that the unit cannot see yet. */
  get pending(): number {
    return this.#pending.size
  }

  /** The word at a place of a page into the result lanes. */
  load(page: number, index: number): void {
    const held = this.#pending.get(page * WORDS_PER_PAGE + index)
    if (held !== undefined) {
      this.hi = held.hi
      this.lo = held.lo
      return
    }
    const memory = this.#memory
    memory.loadU64be(page, index * WORD_BYTES)
    this.hi = swap32(memory.wordLo)
    this.lo = swap32(memory.wordHi)
  }

  /** @param isSnooped whether the unit sees what is in caches of the processor */
  store(page: number, index: number, word: { hi: number; lo: number }, isSnooped: boolean): void {
    const { hi, lo } = word
    const key = page * WORDS_PER_PAGE + index
    if (!isSnooped || this.#hasWriteBuffer) {
      this.#count.set(0, this.#count.get(0) + 1)
      this.#hold(key, { hi, lo, isBuffered: isSnooped, order: this.#count.get(0) })
      return
    }
    if (this.#pending.size > 0) this.#hold(key, undefined)
    this.#write(page, index, hi, lo)
  }

  /** A page becomes zeros. */
  zero(page: number, isSnooped: boolean): void {
    if (isSnooped && !this.#hasWriteBuffer && this.#pending.size === 0) {
      this.#memory.writePage(page, 0, new Uint8Array(PAGE_BYTES), 0, PAGE_BYTES)
      return
    }
    for (let index = 0; index < WORDS_PER_PAGE; index++) this.store(page, index, { hi: 0, lo: 0 }, isSnooped)
  }

  /** The lines of `count` words leave the cache (CLFLUSH), what was stored first before the rest. */
  flushLines(page: number, index: number, count: number): void {
    if (this.#pending.size === 0) return
    const first = page * WORDS_PER_PAGE + Math.floor(index / LINE_WORDS) * LINE_WORDS
    const end = page * WORDS_PER_PAGE + Math.ceil((index + count) / LINE_WORDS) * LINE_WORDS
    for (const [key, held] of this.#inOrder((at, h) => at >= first && at < end && !h.isBuffered)) {
      if (this.#hasWriteBuffer) this.#hold(key, { ...held, isBuffered: true })
      else this.#release(key, held)
    }
  }

  /** What is in the write buffer reaches memory. */
  drain(): void {
    for (const [key, held] of this.#inOrder((_, h) => h.isBuffered)) this.#release(key, held)
  }

  #inOrder(isMeant: (key: number, held: Pending) => boolean): readonly (readonly [number, Pending])[] {
    const meant = [...this.#pending].filter(([key, held]) => isMeant(key, held))
    return meant.sort(([, a], [, b]) => a.order - b.order)
  }

  #release(key: number, held: Pending): void {
    this.#hold(key, undefined)
    this.#write(Math.floor(key / WORDS_PER_PAGE), key % WORDS_PER_PAGE, held.hi, held.lo)
  }

  #write(page: number, index: number, hi: number, lo: number): void {
    this.#memory.storeU64be(page, index * WORD_BYTES, swap32(lo), swap32(hi))
  }

  #hold(key: number, now: Pending | undefined): void {
    const before = this.#pending.get(key)
    if (before === undefined && now === undefined) return
    const hashOf = (p: Pending | undefined) =>
      p === undefined ? 0 : keyOf(key, p.hi, p.lo, p.order, `${p.isBuffered}`)
    this.#journal.change(this.#key, hashOf(before), hashOf(now), () => this.#put(key, before))
    this.#put(key, now)
  }

  #put(key: number, now: Pending | undefined): void {
    this.#pending.delete(key)
    if (now !== undefined) this.#pending.set(key, now)
  }
}
