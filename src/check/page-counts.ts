const CHUNK_SHIFT = 12
const CHUNK_PAGES = 1 << CHUNK_SHIFT

/**
 * A number for each page of an address space, 0 at first, raised and lowered over ranges.
 * Chunks of 4096 pages appear with their first number; where all pages of one hold the same, it is one number.
 */
export class PageCounts {
  readonly #chunks = new Map<number, Int32Array>()

  add(start: number, end: number, delta: number): void {
    for (let at = start; at < end; ) {
      const number = Math.floor(at / CHUNK_PAGES)
      const from = at - number * CHUNK_PAGES
      const stop = Math.min(CHUNK_PAGES, from + (end - at))
      const chunk = this.#chunks.get(number)
      if (stop - from === CHUNK_PAGES && (chunk === undefined || chunk.length === 1)) {
        const value = (chunk?.[0] ?? 0) + delta
        if (value === 0) this.#chunks.delete(number)
        else this.#chunks.set(number, Int32Array.of(value))
      } else {
        const own = this.#own(number, chunk)
        for (let i = from; i < stop; i++) own[i] = (own[i] as number) + delta
      }
      at += stop - from
    }
  }

  /** Whether a page of [start, end) has a number above 0. */
  any(start: number, end: number): boolean {
    for (let at = start; at < end; ) {
      const number = Math.floor(at / CHUNK_PAGES)
      const from = at - number * CHUNK_PAGES
      const stop = Math.min(CHUNK_PAGES, from + (end - at))
      const chunk = this.#chunks.get(number)
      if (chunk !== undefined) {
        if (chunk.length === 1) {
          if ((chunk[0] as number) > 0) return true
        } else for (let i = from; i < stop; i++) if ((chunk[i] as number) > 0) return true
      }
      at += stop - from
    }
    return false
  }

  #own(number: number, chunk: Int32Array | undefined): Int32Array {
    if (chunk !== undefined && chunk.length > 1) return chunk
    const own = new Int32Array(CHUNK_PAGES).fill(chunk?.[0] ?? 0)
    this.#chunks.set(number, own)
    return own
  }
}
