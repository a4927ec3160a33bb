const CHUNK_SHIFT = 16
const CHUNK_ENTRIES = 1 << CHUNK_SHIFT

/** How the value of an entry is known. */
export const SEEN = 0
export const INFERRED = 1
export const UNKNOWN = 2
export type How = 0 | 1 | 2

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

/**
 * For each entry of a window, how the replay knows its value: seen in the log, inferred from it, or unknown.
 * One byte an entry, in chunks that appear where something is not simply seen.
 */
export class Knowledge {
  #initial: How
  readonly #chunks = new Map<number, Uint8Array>()

  /** @param initial of all entries at first: UNKNOWN for a table that the log did not see being made */
  constructor(initial: How = SEEN) {
    this.#initial = initial
  }

  get(entry: number): How {
    const chunk = this.#chunks.get(Math.floor(entry / CHUNK_ENTRIES))
    return chunk === undefined ? this.#initial : (chunk[entry % CHUNK_ENTRIES] as How)
  }

  set(entry: number, how: How): void {
    this.fill(entry, entry + 1, how)
  }

  /** Entries [first, end) are known in one way from now on. */
  fill(first: number, end: number, how: How): void {
    for (let at = first; at < end; ) {
      const number = Math.floor(at / CHUNK_ENTRIES)
      const stop = Math.min(end, (number + 1) * CHUNK_ENTRIES)
      let chunk = this.#chunks.get(number)
      if (chunk === undefined && how !== this.#initial) {
        chunk = new Uint8Array(CHUNK_ENTRIES).fill(this.#initial)
        this.#chunks.set(number, chunk)
      }
      chunk?.fill(how, at - number * CHUNK_ENTRIES, stop - number * CHUNK_ENTRIES)
      at = stop
    }
  }

  /**
   * A line that may have changed any entry is lost: what was seen is now only inferred, namely that the lost
   * line did not change it.
   */
  demote(): void {
    if (this.#initial === SEEN) this.#initial = INFERRED
    for (const chunk of this.#chunks.values()) {
      for (let i = 0; i < chunk.length; i++) if (chunk[i] === SEEN) chunk[i] = INFERRED
    }
  }
}
