/** Levels of the deepest tables. */
export const LEVELS_MAX = 5
/** Walks of one request: of nested tables one for each first-level table, and again where a flag is set in it. */
const WALKS_MAX = 16

/** What a unit read from tables for the last request: its records are made of it. */
export class Trail {
  /** Whether it is kept at all. */
  on = false
  /** The context entry, and the entry of the PASID, were read from memory, and not known before. */
  hasContext = false
  hasPasid = false
  /** Walks of page tables, in the order of their ends. */
  walks = 0
  /** Of each walk: `STAGE`, the 4 KiB page it was for, and the fault it met. */
  readonly stage = new Uint8Array(WALKS_MAX)
  readonly input = new Float64Array(WALKS_MAX)
  readonly fault = new Uint8Array(WALKS_MAX)
  readonly #tables = new Float64Array(WALKS_MAX * LEVELS_MAX)

  begin(): void {
    this.hasContext = false
    this.hasPasid = false
    this.walks = 0
  }

  /** The 4 KiB page of the table of a level (1 to 5) of a walk; 0 where none was read. */
  table(walk: number, level: number): number {
    return this.#tables[walk * LEVELS_MAX + level - 1] as number
  }

  /** A walk ended. `tables` has the page of level n at n - 1. */
  add(stage: number, input: number, fault: number, tables: Float64Array): void {
    if (!this.on || this.walks === WALKS_MAX) return
    const walk = this.walks++
    this.stage[walk] = stage
    this.input[walk] = input
    this.fault[walk] = fault
    // Faster than `set` for so few.
    for (let i = 0; i < LEVELS_MAX; i++) this.#tables[walk * LEVELS_MAX + i] = tables[i] as number
  }
}
