/** Bits of an entry's state. The lowest two are the direction: 1 the device may read, 2 it may write. */
export const LIVE = 4
/** It was live at some time. */
export const EVER = 8
/** It rests on a value that a log does not show. */
export const INFERRED = 16
/** Nobody knows what it holds: nothing can be judged by it. */
export const UNKNOWN = 32
/** Reserved from the start: an allocator's bit that stands for no mapping. */
export const RESERVED = 64
const DIRECTION = 3
const LIVE_SHIFT = 2
const EVER_SHIFT = 3
const UNKNOWN_SHIFT = 5

/** Seq of no record. */
export const NO_RECORD = -1

const CHUNK_SHIFT = 12
const CHUNK_ENTRIES = 1 << CHUNK_SHIFT
const PAGE_SHIFT = 10
const PAGE_CHUNKS = 1 << PAGE_SHIFT
const PAGE_ENTRIES = CHUNK_ENTRIES * PAGE_CHUNKS
const LOCAL = CHUNK_ENTRIES - 1
/** Entries below this one are int32, and found by shifts. */
const SMALL_ENTRIES = 2 ** 31
/** Tables up to this many entries have all states in one array too: one load instead of three. */
const FLAT_ENTRIES = 1 << 22

/**
 * 4096 entries, a column for each part. With `mask` 0 all of them are alike, the columns have one row, and
 * nobody writes to them: many places may share such a chunk.
 */
interface Chunk {
  readonly begun: Int32Array
  readonly ended: Int32Array
  readonly state: Uint8Array
  readonly mask: number
}

const alike = (begun: number, ended: number, state: number): Chunk => ({
  begun: Int32Array.of(begun),
  ended: Int32Array.of(ended),
  state: Uint8Array.of(state),
  mask: 0,
})

const NOTHING = alike(NO_RECORD, NO_RECORD, 0)

/** Neighbours with the same state and the same records. */
export interface LifeRun {
  readonly first: number
  readonly count: number
  readonly state: number
  readonly begun: number
  readonly ended: number
}

/**
 * For each of up to 2^52 entries: its state, the record that began its present or last life, and the record
 * that ended that life.
 *
 * Costs what is touched: chunks appear with the first write, a range of whole chunks shares one, and ending
 * lives in a range where nothing was begun takes a step for each 2^22 entries. Reading one entry allocates
 * nothing and leaves what it found in `state`, `begun` and `ended`.
 *
 * @example
 * const lives = new Lives()
 * lives.begin(5, 6, 17, LIVE | 1) // by record 17
 * lives.end(0, 1 << 27, 20) // one life ended, by record 20
 * lives.load(0, 5) // state EVER, begun 17, ended 20
 */
export class Lives {
  /** What `load` found. */
  state = 0
  begun = NO_RECORD
  ended = NO_RECORD
  /** Entries that are live now. */
  live = 0
  /** What `scan` counted. */
  scannedLive = 0
  scannedUnknown = 0
  scannedEver = 0
  readonly #pages: (Chunk[] | undefined)[] = []
  // The state of each entry once more, for `stateAt`; empty in a large table, and before the first life.
  #flat = new Uint8Array(0)
  readonly #flatEntries: number
  // The last whole chunk that `end` ended, and what became of it: its likes share the result.
  #endedFrom = NOTHING
  #endedTo = NOTHING

  /** @param entries of the table; left out where it has no end */
  constructor(entries = Number.POSITIVE_INFINITY) {
    this.#flatEntries = entries > FLAT_ENTRIES ? 0 : entries
  }

  /** Reads the entry whose index stands in two lanes. */
  load(hi: number, lo: number): void {
    const page = this.#pages[hi === 0 ? lo >>> 22 : (hi >>> 0) * 1024 + (lo >>> 22)]
    const chunk = page === undefined ? NOTHING : (page[(lo >>> CHUNK_SHIFT) & (PAGE_CHUNKS - 1)] as Chunk)
    const at = lo & LOCAL & chunk.mask
    this.state = chunk.state[at] as number
    this.begun = chunk.begun[at] as number
    this.ended = chunk.ended[at] as number
  }

  /** The state alone of the entry whose index stands in two lanes: for what runs with every DMA. */
  stateAt(hi: number, lo: number): number {
    const flat = this.#flat
    if (hi === 0 && lo >>> 0 < flat.length) return flat[lo] as number
    const page = this.#pages[hi === 0 ? lo >>> 22 : (hi >>> 0) * 1024 + (lo >>> 22)]
    if (page === undefined) return 0
    const chunk = page[(lo >>> CHUNK_SHIFT) & (PAGE_CHUNKS - 1)] as Chunk
    return chunk.state[lo & LOCAL & chunk.mask] as number
  }

  /** Reads an entry by its index as a number. */
  loadAt(entry: number): void {
    this.load(Math.floor(entry / 0x1_0000_0000) | 0, entry | 0)
  }

  /** Entries [first, end) begin a life by a record. `bits` is LIVE with a direction, UNKNOWN, INFERRED, RESERVED. */
  begin(first: number, end: number, seq: number, bits: number): void {
    const state = bits | EVER
    if (this.#flat.length < this.#flatEntries) this.#flat = new Uint8Array(this.#flatEntries)
    if (end - first === 1 && end <= SMALL_ENTRIES) {
      this.#beginOne(first, seq, state)
      return
    }
    let whole: Chunk | undefined
    this.#flat.fill(state, first, end)
    for (let at = first; at < end; ) {
      const number = Math.floor(at / CHUNK_ENTRIES)
      const from = at - number * CHUNK_ENTRIES
      const stop = Math.min(CHUNK_ENTRIES, from + (end - at))
      const page = this.#pageFor(number)
      const slot = number % PAGE_CHUNKS
      const chunk = page[slot] as Chunk
      if (stop - from === CHUNK_ENTRIES) {
        this.live -= liveIn(chunk)
        whole ??= alike(seq, NO_RECORD, state)
        page[slot] = whole
      } else {
        const own = ownChunk(page, slot)
        this.live -= bitsIn(own.state, LIVE_SHIFT, from, stop)
        own.state.fill(state, from, stop)
        own.begun.fill(seq, from, stop)
        own.ended.fill(NO_RECORD, from, stop)
      }
      if ((state & LIVE) !== 0) this.live += stop - from
      at += stop - from
    }
  }

  #beginOne(entry: number, seq: number, state: number): void {
    let page = this.#pages[entry >>> 22]
    if (page === undefined) page = this.#pageFor(entry >>> CHUNK_SHIFT)
    const own = ownChunk(page, (entry >>> CHUNK_SHIFT) & (PAGE_CHUNKS - 1))
    const i = entry & LOCAL
    this.live += ((state & LIVE) >> LIVE_SHIFT) - (((own.state[i] as number) & LIVE) >> LIVE_SHIFT)
    own.state[i] = state
    own.begun[i] = seq
    own.ended[i] = NO_RECORD
    this.#flat[entry] = state
  }

  #endOne(entry: number, seq: number): void {
    const page = this.#pages[entry >>> 22]
    if (page === undefined) return
    const slot = (entry >>> CHUNK_SHIFT) & (PAGE_CHUNKS - 1)
    const chunk = page[slot] as Chunk
    const i = entry & LOCAL
    const state = chunk.state[i & chunk.mask] as number
    if ((state & (LIVE | UNKNOWN)) === 0) return
    const own = ownChunk(page, slot)
    this.live -= (state & LIVE) >> LIVE_SHIFT
    own.state[i] = afterEnd(state)
    own.ended[i] = seq
    this.#flat[entry] = afterEnd(state)
  }

  /** The live and the unknown entries of [first, end) end their lives by a record. */
  end(first: number, end: number, seq: number): void {
    if (end - first === 1 && end <= SMALL_ENTRIES) {
      this.#endOne(first, seq)
      return
    }
    this.#endedFrom = NOTHING
    for (let at = first; at < end; ) {
      const number = Math.floor(at / CHUNK_ENTRIES)
      const page = this.#pages[Math.floor(number / PAGE_CHUNKS)]
      if (page === undefined) {
        at = (Math.floor(at / PAGE_ENTRIES) + 1) * PAGE_ENTRIES
        continue
      }
      const from = at - number * CHUNK_ENTRIES
      const stop = Math.min(CHUNK_ENTRIES, from + (end - at))
      this.#endIn(page, number, from, stop, seq)
      at += stop - from
    }
  }

  #endIn(page: Chunk[], number: number, from: number, stop: number, seq: number): void {
    const slot = number % PAGE_CHUNKS
    const base = number * CHUNK_ENTRIES
    const chunk = page[slot] as Chunk
    if (chunk.mask === 0) {
      const state = chunk.state[0] as number
      if ((state & (LIVE | UNKNOWN)) === 0) return
      if (stop - from === CHUNK_ENTRIES) {
        this.live -= liveIn(chunk)
        if (this.#endedFrom !== chunk) this.#endedTo = alike(chunk.begun[0] as number, seq, afterEnd(state))
        this.#endedFrom = chunk
        page[slot] = this.#endedTo
        this.#flat.fill(afterEnd(state), base, base + CHUNK_ENTRIES)
        return
      }
    }
    const own = ownChunk(page, slot)
    for (let i = from; i < stop; i++) {
      const state = own.state[i] as number
      if ((state & (LIVE | UNKNOWN)) === 0) continue
      if ((state & LIVE) !== 0) this.live--
      own.state[i] = afterEnd(state)
      own.ended[i] = seq
      this.#flat[base + i] = afterEnd(state)
    }
  }

  /** Takes a doubt from an entry that was ever begun, or puts one on it: sets or clears INFERRED. */
  doubt(entry: number, isInferred: boolean): void {
    this.loadAt(entry)
    if (this.state === 0) return
    const number = Math.floor(entry / CHUNK_ENTRIES)
    const own = ownChunk(this.#pageFor(number), number % PAGE_CHUNKS)
    const i = entry - number * CHUNK_ENTRIES
    const state = own.state[i] as number
    own.state[i] = isInferred ? state | INFERRED : state & ~INFERRED
    this.#flat[entry] = own.state[i] as number
  }

  /** Every entry that was ever begun is inferred from now on. */
  doubtAll(): void {
    for (let i = 0; i < this.#flat.length; i++) {
      if (this.#flat[i] !== 0) this.#flat[i] = (this.#flat[i] as number) | INFERRED
    }
    for (const page of this.#kept()) {
      for (let slot = 0; slot < PAGE_CHUNKS; slot++) {
        const chunk = page[slot] as Chunk
        if (chunk.mask === 0) {
          const state = chunk.state[0] as number
          if (state !== 0)
            page[slot] = alike(chunk.begun[0] as number, chunk.ended[0] as number, state | INFERRED)
          continue
        }
        for (let i = 0; i < CHUNK_ENTRIES; i++) {
          if (chunk.state[i] !== 0) chunk.state[i] = (chunk.state[i] as number) | INFERRED
        }
      }
    }
  }

  /** Counts the entries of [first, end) that are live, unknown, or were live at some time. */
  scan(first: number, end: number): void {
    this.scannedLive = 0
    this.scannedUnknown = 0
    this.scannedEver = 0
    for (let at = first; at < end; ) {
      const number = Math.floor(at / CHUNK_ENTRIES)
      const page = this.#pages[Math.floor(number / PAGE_CHUNKS)]
      if (page === undefined) {
        at = (Math.floor(at / PAGE_ENTRIES) + 1) * PAGE_ENTRIES
        continue
      }
      const from = at - number * CHUNK_ENTRIES
      const stop = Math.min(CHUNK_ENTRIES, from + (end - at))
      const chunk = page[number % PAGE_CHUNKS] as Chunk
      if (chunk.mask === 0) this.#tally(chunk.state, 0, 1, stop - from)
      else this.#tally(chunk.state, from, stop, 1)
      at += stop - from
    }
  }

  #tally(states: Uint8Array, from: number, end: number, times: number): void {
    let live = 0
    let unknown = 0
    let ever = 0
    for (let i = from; i < end; i++) {
      const state = states[i] as number
      live += (state >> LIVE_SHIFT) & 1
      unknown += (state >> UNKNOWN_SHIFT) & 1
      ever += (state >> EVER_SHIFT) & 1
    }
    this.scannedLive += live * times
    this.scannedUnknown += unknown * times
    this.scannedEver += ever * times
  }

  /** The entries of [first, end) that were ever begun, as runs of neighbours that are alike, in order. */
  *runs(first = 0, end = Number.MAX_SAFE_INTEGER): Generator<LifeRun> {
    let open: { first: number; count: number; state: number; begun: number; ended: number } | undefined
    for (const [base, chunk] of this.#chunksFrom(first, end)) {
      const from = Math.max(0, first - base)
      const stop = Math.min(CHUNK_ENTRIES, end - base)
      for (let i = from; i < stop; ) {
        const at = i & chunk.mask
        const [state, begun, ended] = [chunk.state[at], chunk.begun[at], chunk.ended[at]] as [
          number,
          number,
          number,
        ]
        const count = chunk.mask === 0 ? stop - from : 1
        if (state !== 0) {
          if (
            open !== undefined &&
            open.first + open.count === base + i &&
            open.state === state &&
            open.begun === begun &&
            open.ended === ended
          ) {
            open.count += count
          } else {
            if (open !== undefined) yield open
            open = { first: base + i, count, state, begun, ended }
          }
        }
        i += count
      }
    }
    if (open !== undefined) yield open
  }

  *#chunksFrom(first: number, end: number): Generator<readonly [base: number, chunk: Chunk]> {
    for (const key of Object.keys(this.#pages)) {
      const start = Number(key) * PAGE_ENTRIES
      if (start + PAGE_ENTRIES <= first || start >= end) continue
      const page = this.#pages[Number(key)] as Chunk[]
      for (let slot = 0; slot < PAGE_CHUNKS; slot++) {
        const base = start + slot * CHUNK_ENTRIES
        const chunk = page[slot] as Chunk
        if (chunk !== NOTHING && base + CHUNK_ENTRIES > first && base < end) yield [base, chunk]
      }
    }
  }

  *#kept(): Generator<Chunk[]> {
    for (const key of Object.keys(this.#pages)) yield this.#pages[Number(key)] as Chunk[]
  }

  #pageFor(chunkNumber: number): Chunk[] {
    const number = Math.floor(chunkNumber / PAGE_CHUNKS)
    let page = this.#pages[number]
    if (page === undefined) {
      page = new Array<Chunk>(PAGE_CHUNKS).fill(NOTHING)
      this.#pages[number] = page
    }
    return page
  }
}

const afterEnd = (state: number): number =>
  (state & UNKNOWN) === 0 ? state & ~(LIVE | DIRECTION) : (state & ~(LIVE | DIRECTION | UNKNOWN)) | INFERRED

function liveIn(chunk: Chunk): number {
  if (chunk.mask === 0) return ((chunk.state[0] as number) & LIVE) === 0 ? 0 : CHUNK_ENTRIES
  return bitsIn(chunk.state, LIVE_SHIFT, 0, CHUNK_ENTRIES)
}

/** How many of some states have a bit. */
function bitsIn(states: Uint8Array, shift: number, from: number, end: number): number {
  let count = 0
  for (let i = from; i < end; i++) count += ((states[i] as number) >> shift) & 1
  return count
}

/** The chunk at a place, made writable: entries that are alike get rows of their own. */
function ownChunk(page: Chunk[], slot: number): Chunk {
  const chunk = page[slot] as Chunk
  if (chunk.mask !== 0) return chunk
  const own: Chunk = {
    begun: new Int32Array(CHUNK_ENTRIES).fill(chunk.begun[0] as number),
    ended: new Int32Array(CHUNK_ENTRIES).fill(chunk.ended[0] as number),
    state: new Uint8Array(CHUNK_ENTRIES).fill(chunk.state[0] as number),
    mask: LOCAL,
  }
  page[slot] = own
  return own
}
