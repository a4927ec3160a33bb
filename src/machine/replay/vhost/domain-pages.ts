import type { RecordLog } from '../../../trace/record-log.ts'
import { SeenMaps } from './seen-maps.ts'

const PAGE_SHIFT = 12n
/** Mappings that are kept of all domains; more are forgotten all at once, as a log may show any number. */
const KEPT_MAX = 1 << 18

/** How a change of page tables is known: a line says it, or it follows from one. */
export const HOW = { SEEN: 0, INFERRED: 1 } as const

/** A translation that a line shows. */
export interface ShownPage {
  readonly iova: bigint
  readonly bytes: bigint
  readonly gpa: bigint
}

/** Pages that a line shows to be gone. */
export interface GonePages {
  readonly firstPage: number
  readonly endPage: number
  readonly line: number
}

/** What lines show of the page tables of domains, and the records of it: each mapping once. */
export class DomainPages {
  readonly #log: RecordLog
  readonly #domains = new Map<number, SeenMaps>()
  #kept = 0

  constructor(log: RecordLog) {
    this.#log = log
  }

  /** All that was seen is of tables that are in use no more. */
  clear(): void {
    this.#domains.clear()
    this.#kept = 0
  }

  /** A translation or a walk shows a page. */
  map(domain: number, { iova, bytes, gpa }: ShownPage, perm: number): void {
    const seen = { firstPage: Number(iova >> PAGE_SHIFT), pages: Number(bytes >> PAGE_SHIFT), gpa, perm }
    if (this.#kept >= KEPT_MAX) this.clear()
    const before = this.#seen(domain).count
    if (!this.#seen(domain).add(seen)) return
    this.#kept += this.#seen(domain).count - before
    this.#log.emit('domain.map', null, { domain, iova, bytes, gpa, perm, how: HOW.INFERRED })
  }

  /** Of the mappings that lines have shown, those are gone that touch ranges in ascending order. */
  unmap(domain: number, ranges: readonly GonePages[], how: number): void {
    const removed = this.#seen(domain).remove(ranges)
    this.#kept -= removed.length
    for (const { firstPage, pages } of removed) {
      const iova = BigInt(firstPage) << PAGE_SHIFT
      const gone = ranges.find((r) => r.firstPage < firstPage + pages && r.endPage > firstPage)
      this.#log.line = gone?.line ?? 0
      this.#log.emit('domain.unmap', null, { domain, iova, bytes: BigInt(pages) << PAGE_SHIFT, how })
    }
  }

  #seen(domain: number): SeenMaps {
    let seen = this.#domains.get(domain)
    if (seen === undefined) {
      seen = new SeenMaps()
      this.#domains.set(domain, seen)
    }
    return seen
  }
}
