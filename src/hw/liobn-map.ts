import { IommulatorError } from '../bits/errors.ts'
import { hex } from '../bits/u64.ts'
import type { SpaprTceTable } from './spapr-tce-table.ts'

/** All TCE tables of a machine by LIOBN, whether their windows are open or not. */
export class LiobnMap {
  /** By LIOBN as an int32: a key above 2^31 would have to be allocated for each call. */
  readonly #tables = new Map<number, SpaprTceTable>()
  #last: SpaprTceTable | undefined
  #lastLiobn = 0

  /** @throws IommulatorError ERR_MACHINE where the LIOBN is taken */
  add(table: SpaprTceTable): void {
    const liobn = table.liobn | 0
    if (this.#tables.has(liobn)) {
      throw new IommulatorError('ERR_MACHINE', `two TCE tables have LIOBN ${hex(table.liobn)}`)
    }
    this.#tables.set(liobn, table)
  }

  /** The table of a LIOBN in two lanes; none where the upper one is not 0. */
  find(hi: number, lo: number): SpaprTceTable | undefined {
    if (hi !== 0) return undefined
    const liobn = lo | 0
    if (this.#last !== undefined && this.#lastLiobn === liobn) return this.#last
    const found = this.#tables.get(liobn)
    if (found !== undefined) {
      this.#last = found
      this.#lastLiobn = liobn
    }
    return found
  }

  /** The number of the window that a LIOBN stands for now, 0 where it is closed or unknown. */
  windowOf(liobn: number): number {
    return this.#tables.get(liobn | 0)?.window?.number ?? 0
  }

  /** The tables, in the order in which they came. */
  all(): IterableIterator<SpaprTceTable> {
    return this.#tables.values()
  }
}
