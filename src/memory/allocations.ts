import { Cells, type Journal, keyOf } from '../bits/state.ts'

/**
 * The allocations that the host kernel makes for itself, counted, so that any one of them can be made to fail. Units
 * ask before each: false is the answer of an allocator that has nothing.
 */
export class Allocations {
  /** How many have been asked for. */
  readonly #count: Cells
  /** Which one fails, from 1 on; 0 for none. */
  readonly #failing: number

  constructor(journal: Journal, failing = 0) {
    this.#count = new Cells(journal, keyOf('allocations'), 1)
    this.#failing = failing
  }

  get count(): number {
    return this.#count.get(0)
  }

  /** One more is asked for: whether there is memory for it. */
  take(): boolean {
    const n = this.#count.get(0) + 1
    this.#count.set(0, n)
    return n !== this.#failing
  }
}
