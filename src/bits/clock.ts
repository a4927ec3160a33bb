import type { Cells } from './state.ts'

/** Simulated time in ticks. It moves only when the machine says so; there is no other clock in the model. */
export class Clock {
  readonly #cells: Cells

  constructor(cells: Cells) {
    this.#cells = cells
    cells.ensure(1)
  }

  get tick(): number {
    return this.#cells.get(0) >>> 0
  }

  advance(ticks: number): void {
    this.#cells.set(0, (this.#cells.get(0) + ticks) | 0)
  }
}
