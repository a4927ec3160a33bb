const CHUNK_SHIFT = 14
const CHUNK_ENTRIES = 1 << CHUNK_SHIFT

/** How the value of an entry is known. */
export const SEEN = 0
export const INFERRED = 1
export const UNKNOWN = 2
/** Its translation was seen: page and permissions. The bits that take no part in one were not. */
export const TRANSLATED = 3
export type How = 0 | 1 | 2 | 3

/** How many entries, over the whole log, were written or found with a value of each kind. */
export interface KnowledgeCounts {
  known: number
  inferred: number
  unknown: number
  /** Inferences that a later line showed to be right, one an entry. */
  confirmed: number
  /** Inferences that a later line showed to be wrong, one an entry. */
  contradicted: number
  /** Unknown entries whose value a later line showed. */
  learned: number
}

export const noCounts = (): KnowledgeCounts => ({
  known: 0,
  inferred: 0,
  unknown: 0,
  confirmed: 0,
  contradicted: 0,
  learned: 0,
})

/** So few entries are written faster one by one than by a call. */
const FEW_ENTRIES = 16

/** Chunk of an entry below 2^53. */
const chunkOf = (entry: number): number =>
  entry <= 0x7fff_ffff ? entry >>> CHUNK_SHIFT : Math.floor(entry / CHUNK_ENTRIES)

const HOW_BITS = 2
const HOW_MASK = (1 << HOW_BITS) - 1

/**
 * For each entry of a window, how the replay knows its value: seen in the log as a whole or in a translation, inferred from it, or unknown.
 *
 * A cell holds how, and the epoch in which it was written: what was seen before the last `demote` counts as
 * inferred. Chunks of entries that are all known in one way are one number, so a window of 2^31 entries costs
 * what is written to it piecemeal.
 */
export class Knowledge {
  readonly #initial: How
  readonly #chunks = new Map<number, Int32Array | number>()
  #epoch = 0

  /** @param initial of all entries at first: UNKNOWN for a table that the log did not see being made */
  constructor(initial: How = SEEN) {
    this.#initial = initial
  }

  get(entry: number): How {
    const chunk = this.#chunks.get(chunkOf(entry)) ?? this.#initial
    const cell = typeof chunk === 'number' ? chunk : (chunk[entry & (CHUNK_ENTRIES - 1)] as number)
    const how = (cell & HOW_MASK) as How
    const isShown = how === SEEN || how === TRANSLATED
    return isShown && cell >> HOW_BITS !== this.#epoch ? INFERRED : how
  }

  set(entry: number, how: How): void {
    this.fill(entry, entry + 1, how)
  }

  /** Entries [first, end) are known in one way from now on. */
  fill(first: number, end: number, how: How): void {
    const cell = (this.#epoch << HOW_BITS) | how
    for (let at = first; at < end; ) {
      const number = chunkOf(at)
      const start = number * CHUNK_ENTRIES
      const stop = Math.min(end, start + CHUNK_ENTRIES)
      let chunk = this.#chunks.get(number) ?? this.#initial
      if (chunk !== cell) {
        if (stop - at === CHUNK_ENTRIES) this.#chunks.set(number, cell)
        else {
          if (typeof chunk === 'number') {
            chunk = new Int32Array(CHUNK_ENTRIES).fill(chunk)
            this.#chunks.set(number, chunk)
          }
          if (stop - at > FEW_ENTRIES) chunk.fill(cell, at - start, stop - start)
          else for (let i = at - start; i < stop - start; i++) chunk[i] = cell
        }
      }
      at = stop
    }
  }

  /**
   * A line that may have changed any entry is lost: what was seen is now only inferred, namely that the lost
   * line did not change it.
   */
  demote(): void {
    this.#epoch++
  }
}
