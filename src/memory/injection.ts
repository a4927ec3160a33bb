import { Cells, type Journal, keyOf } from '../bits/state.ts'

/**
 * Events of one sort in the host kernel, counted, so that any one of them can be made to go wrong. Units ask before
 * each: false means that this is the one.
 */
export class Injection {
  /** How many there have been. */
  readonly #count: Cells
  /** Which one goes wrong, from 1 on; 0 for none. */
  readonly #wrong: number

  constructor(journal: Journal, sort: string, wrong = 0) {
    this.#count = new Cells(journal, keyOf('injection', sort), 1)
    this.#wrong = wrong
  }

  /** One more comes: whether it goes well. */
  take(): boolean {
    const n = this.#count.get(0) + 1
    this.#count.set(0, n)
    return n !== this.#wrong
  }
}
