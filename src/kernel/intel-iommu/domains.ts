import { Held } from '../../bits/held.ts'
import { keyOf } from '../../bits/state.ts'
import { DomainTables } from './domain-tables.ts'
import type { DriverCore } from './driver-core.ts'

const PAGE_SHIFT = 12n
const PAGE_MASK = (1n << PAGE_SHIFT) - 1n
const PAGE_BITS = 12
/** Longest range that one call maps or takes back, in pages: 1 TiB. */
const PAGES_MAX = 2 ** 28

/** A range of bus addresses in 4 KiB pages. */
export interface PageSpan {
  readonly first: number
  readonly end: number
}

/** Pages that are neighbours, and lead to neighbours. */
export interface Run {
  readonly first: number
  readonly pages: number
  readonly target: number
  readonly perm: number
}

type Tables = ReadonlyMap<number, DomainTables>

export const isAligned = (iova: bigint, bytes: bigint): boolean =>
  bytes !== 0n && ((iova | bytes) & PAGE_MASK) === 0n

/** The domains of a driver: each has page tables of its own from its first use on. */
export class Domains {
  readonly #core: DriverCore
  readonly #tables: Held<Tables>
  /** Caches are to forget what lay below a table that goes. */
  readonly #tableGone: (tables: DomainTables, first: number, pages: number) => void

  constructor(core: DriverCore, tableGone: (tables: DomainTables, first: number, pages: number) => void) {
    this.#core = core
    this.#tableGone = tableGone
    this.#tables = new Held<Tables>(core.journal, 'domains', new Map(), (d) => keyOf(...d.keys()))
  }

  /** Another kernel begins: it knows no domains. */
  reset(): void {
    this.#tables.set(new Map())
  }

  find(domain: number): DomainTables | undefined {
    return this.#tables.value.get(domain)
  }

  /** The tables of a domain, made where there are none; undefined where no page is left. */
  open(domain: number, isFirstLevel: boolean): DomainTables | undefined {
    const known = this.find(domain)
    if (known !== undefined) return known
    const { pool, stores, snoopsTables, levels } = this.#core
    const root = pool.take(domain, snoopsTables)
    if (root < 0) return undefined
    const flushesLines = () => !this.#core.forgets('cache-lines')
    if (!snoopsTables && flushesLines()) stores.flushLines(root, 0, 512)
    const tables: DomainTables = new DomainTables(pool, root, {
      domain,
      isFirstLevel,
      levels,
      largestLevel: this.#largestLevel(isFirstLevel),
      isSnooped: snoopsTables,
      flushesLines,
      tableGone: (first, pages) => this.#tableGone(tables, first, pages),
    })
    this.#tables.set(new Map([...this.#tables.value, [domain, tables]]))
    return tables
  }

  /** The pages of a range; undefined where the domain has no such addresses. */
  spanOf(tables: DomainTables, iova: bigint, bytes: bigint): PageSpan | undefined {
    const { maxAddressBits } = this.#core.registers.features
    if (iova + bytes > 1n << BigInt(maxAddressBits) || bytes >> PAGE_SHIFT > BigInt(PAGES_MAX))
      return undefined
    const first = Number(iova >> PAGE_SHIFT)
    const end = first + Number(bytes >> PAGE_SHIFT)
    return end <= tables.inputPages ? { first, end } : undefined
  }

  /** What is mapped in a range, neighbours that lead to neighbours together; large pages whole. */
  runsOf(tables: DomainTables, { first: from, end }: PageSpan): readonly Run[] {
    const runs: Run[] = []
    tables.visit(from, end, (first, pages, target, perm) => {
      const last = runs.at(-1)
      const isNext =
        last !== undefined &&
        last.perm === perm &&
        last.first + last.pages === first &&
        last.target + last.pages === target
      if (isNext) runs[runs.length - 1] = { ...last, pages: last.pages + pages }
      else runs.push({ first, pages, target, perm })
    })
    return runs
  }

  recordMaps(tables: DomainTables, span: PageSpan): void {
    const { log, cause } = this.#core.stage
    const { domain } = tables.shape
    for (const { first, pages, target, perm } of this.runsOf(tables, span)) {
      const at = { iova: bytesOf(first), bytes: bytesOf(pages) }
      log.emit('domain.map', cause, { domain, ...at, gpa: bytesOf(target), perm, how: 0 })
    }
  }

  recordUnmap(domain: number, { first, pages }: Run): void {
    const { log, cause } = this.#core.stage
    log.emit('domain.unmap', cause, { domain, iova: bytesOf(first), bytes: bytesOf(pages), how: 0 })
  }

  /** Memory belongs to somebody else from now on; nobody named changes nothing. */
  own(first: number, count: number, owner: string): void {
    if (owner === '') return
    const { log, cause } = this.#core.stage
    const where = { space: 'gpa', pageShift: PAGE_BITS, first, count } as const
    log.emit('page.own', cause, { ...where, owner, generation: 0 })
  }

  #largestLevel(isFirstLevel: boolean): number {
    const { hasFirst1G, hasSecond2M, hasSecond1G } = this.#core.registers.features
    if (isFirstLevel) return hasFirst1G ? 3 : 2
    if (hasSecond1G) return 3
    return hasSecond2M ? 2 : 1
  }
}

const bytesOf = (pages: number): bigint => BigInt(pages) << PAGE_SHIFT
