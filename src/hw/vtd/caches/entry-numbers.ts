import { Cells, type Journal, keyOf } from '../../../bits/state.ts'

/** Numbers of cached translations: no two that were ever kept by the units and devices of a machine have the same. */
export class EntryNumbers {
  readonly #last: Cells

  constructor(journal: Journal) {
    this.#last = new Cells(journal, keyOf('vtd-entries'), 1)
  }

  next(): number {
    const next = (this.#last.get(0) + 1) | 0
    this.#last.set(0, next)
    return next
  }
}
