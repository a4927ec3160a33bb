import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { Stage } from '../../trace/stage.ts'
import type { CpuStores } from './cpu-stores.ts'
import type { TablePages } from './domain-tables.ts'

/** A page that no entry leads to any more. */
interface Given {
  readonly page: number
  readonly domain: number
}

interface Pool {
  readonly next: number
  readonly free: readonly number[]
  /** The unit may still walk there: until a flush is over. */
  readonly waiting: readonly Given[]
}

/** Pages of guest memory that the driver has for tables. Each is told to the log when it becomes a table, and when it is none any more. */
export class TablePool implements TablePages {
  readonly stores: CpuStores
  readonly #end: number
  readonly #unit: string
  readonly #stage: Stage
  readonly #pool: Held<Pool>

  constructor(
    stores: CpuStores,
    area: { readonly first: number; readonly pages: number; readonly unit: string },
    parts: { readonly stage: Stage; readonly journal: Journal },
  ) {
    this.stores = stores
    this.#end = area.first + area.pages
    this.#unit = area.unit
    this.#stage = parts.stage
    this.#pool = new Held<Pool>(
      parts.journal,
      'table pages',
      { next: area.first, free: [], waiting: [] },
      (p) => keyOf(p.next, ...p.free, 'waiting', ...p.waiting.map((w) => w.page)),
    )
  }

  /** @param domain whose table it becomes; 0 for root, context and PASID tables */
  take(domain: number, isSnooped: boolean): number {
    const { next, free, waiting } = this.#pool.value
    const [page = next, ...rest] = free
    if (page === this.#end) return -1
    this.#pool.set({ next: page === next ? next + 1 : next, free: rest, waiting })
    this.stores.zero(page, isSnooped)
    this.#record(page, domain, 1)
    return page
  }

  /** Neighbouring pages of zeros, aligned to their number; the first, or -1. They are never given back. */
  takeRun(pages: number, isSnooped: boolean): number {
    const pool = this.#pool.value
    const first = Math.ceil(pool.next / pages) * pages
    if (first + pages > this.#end) return -1
    const skipped = Array.from({ length: first - pool.next }, (_, i) => pool.next + i)
    this.#pool.set({ ...pool, next: first + pages, free: [...pool.free, ...skipped] })
    for (let page = first; page < first + pages; page++) {
      this.stores.zero(page, isSnooped)
      this.#record(page, 0, 1)
    }
    return first
  }

  give(page: number, domain: number): void {
    const pool = this.#pool.value
    this.#pool.set({ ...pool, waiting: [...pool.waiting, { page, domain }] })
  }

  /** Whether pages of a domain wait for a flush. */
  hasWaiting(domain: number): boolean {
    return this.#pool.value.waiting.some((w) => w.domain === domain)
  }

  /** A flush of a domain, or of everything, is over: pages that were given back can be taken again. */
  settle(domain?: number): void {
    const { next, free, waiting } = this.#pool.value
    const over = waiting.filter((w) => domain === undefined || w.domain === domain)
    if (over.length === 0) return
    const rest = waiting.filter((w) => !over.includes(w))
    this.#pool.set({ next, free: [...free, ...over.map((w) => w.page)], waiting: rest })
    for (const given of over) this.#record(given.page, given.domain, 0)
  }

  #record(page: number, domain: number, state: number): void {
    const { log, cause } = this.#stage
    log.emit('vtd.table', cause < 0 ? null : cause, { unit: this.#unit, page, state, domain })
  }
}
