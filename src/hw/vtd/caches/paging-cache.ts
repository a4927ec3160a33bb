import type { Journal } from '../../../bits/state.ts'
import { hiOf, hiOfNumber, loOf, loOfNumber, numberOf } from '../../../bits/u64.ts'
import { NO_PASID, STAGE, type TablePlace, type VtdInvalidation } from '../ports.ts'
import { ENTRY, META, pageHiOf, pageLoOf, TARGET_LO } from './page-rows.ts'
import { GROUP_FIRST, GROUP_SECOND, TaggedCache } from './tagged-cache.ts'

/** What a table covers, by its level: 2 MiB, 1 GiB, 512 GiB, 256 TiB. */
const SHIFTS = [9, 18, 27, 36] as const
const ALL_LEVELS = 0b1111
const PERM_MASK = 0xff
const TARGET_SHIFT = 24

/**
 * The paging-structure caches of a unit: which table a walk reached for a part of the addresses, and what the levels
 * above it allow. Tags are those of the IOTLB: the domain for the second level, domain and PASID for the first.
 */
export class PagingCache {
  readonly #cache: TaggedCache

  constructor(journal: Journal, name: string) {
    this.#cache = new TaggedCache({ journal, name: `${name}-tables`, shifts: SHIFTS })
  }

  get count(): number {
    return this.#cache.count
  }

  /** The lowest table that is known for a page. */
  load(stage: number, domain: number, pasid: number, page: number, into: TablePlace): boolean {
    const { pages } = this.#cache
    const row = this.#cache.find(this.#space(stage, domain, pasid), hiOfNumber(page), page | 0, ALL_LEVELS)
    if (row === 0) return false
    const meta = pages.rows.get(row + META)
    into.level = pages.kindOf(row) + 1
    into.page = numberOf(meta >>> TARGET_SHIFT, pages.rows.get(row + TARGET_LO))
    into.perm = meta & PERM_MASK
    return true
  }

  keep(stage: number, domain: number, pasid: number, page: number, place: TablePlace, number: number): void {
    const space = this.#space(stage, domain, pasid)
    const row = this.#cache.keep(space, domain, hiOfNumber(page), page | 0, place.level - 1)
    const { rows } = this.#cache.pages
    rows.set(row + TARGET_LO, loOfNumber(place.page))
    rows.set(row + META, (place.perm & PERM_MASK) | (hiOfNumber(place.page) << TARGET_SHIFT))
    rows.set(row + ENTRY, number)
  }

  dropAll(): void {
    this.#cache.dropAll()
  }

  evict(entries: number): void {
    this.#cache.evict(entries)
  }

  /** Type 2. A hint that only entries of pages have changed leaves what leads to tables. */
  invalidate({ scope, domain, address, order, isLeafOnly }: VtdInvalidation): void {
    if (scope === 'all') this.dropAll()
    else if (scope === 'domain') this.#cache.dropOwner(domain)
    else if (!isLeafOnly) {
      this.#cache.dropGroup(domain, GROUP_FIRST)
      this.#dropPages(this.#cache.knownSpace(domain, NO_PASID, GROUP_SECOND), address, order)
    }
  }

  /** Type 6. */
  invalidatePasid({ scope, domain, pasid, address, order, isLeafOnly }: VtdInvalidation): void {
    if (scope === 'all' || scope === 'domain') this.#cache.dropGroup(domain, GROUP_FIRST)
    else {
      const space = this.#cache.knownSpace(domain, pasid, GROUP_FIRST)
      if (scope === 'pasid') this.#cache.dropSpace(space)
      else if (!isLeafOnly) this.#dropPages(space, address, order)
    }
  }

  #dropPages(space: number, address: bigint, order: number): void {
    const hi = hiOf(address)
    this.#cache.dropPages(space, pageHiOf(hi), pageLoOf(hi, loOf(address)), order)
  }

  #space(stage: number, domain: number, pasid: number): number {
    return stage === STAGE.SECOND
      ? this.#cache.space(domain, NO_PASID, GROUP_SECOND)
      : this.#cache.space(domain, pasid, GROUP_FIRST)
  }
}
