import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { BusMemory } from '../../memory/ports.ts'
import type { TablePages } from './domain-tables.ts'

const PAGE_BYTES = 4096

interface Pool {
  readonly next: number
  readonly free: readonly number[]
  /** No entry leads there any more, and the unit may still walk there: until a flush is over. */
  readonly waiting: readonly number[]
}

/** Pages of guest memory that the driver has for tables. */
export class TablePool implements TablePages {
  readonly memory: BusMemory
  readonly #end: number
  readonly #pool: Held<Pool>

  constructor(memory: BusMemory, area: { readonly first: number; readonly pages: number }, journal: Journal) {
    this.memory = memory
    this.#end = area.first + area.pages
    this.#pool = new Held<Pool>(journal, 'table pages', { next: area.first, free: [], waiting: [] }, (p) =>
      keyOf(p.next, ...p.free, 'waiting', ...p.waiting),
    )
  }

  take(): number {
    const { next, free, waiting } = this.#pool.value
    const [page = next, ...rest] = free
    if (page === this.#end) return -1
    this.#pool.set({ next: page === next ? next + 1 : next, free: rest, waiting })
    this.memory.writePage(page, 0, new Uint8Array(PAGE_BYTES), 0, PAGE_BYTES)
    return page
  }

  give(page: number): void {
    const pool = this.#pool.value
    this.#pool.set({ ...pool, waiting: [...pool.waiting, page] })
  }

  /** A flush is over: pages that were given back can be taken again. */
  settle(): void {
    const { next, free, waiting } = this.#pool.value
    if (waiting.length > 0) this.#pool.set({ next, free: [...free, ...waiting], waiting: [] })
  }
}
