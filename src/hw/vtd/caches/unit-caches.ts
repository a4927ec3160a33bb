import type { Profile } from '../../../bits/errata.ts'
import type { Journal } from '../../../bits/state.ts'
import { TABLE_MODE, type VtdInvalidation } from '../ports.ts'
import { ContextCache } from './context-cache.ts'
import { Front } from './front.ts'
import { Iotlb } from './iotlb.ts'
import { PagingCache } from './paging-cache.ts'
import { PasidCache } from './pasid-cache.ts'

/** Entries that QEMU's IOTLB holds. (QEMU 7.2 hw/i386/intel_iommu_internal.h, VTD_IOTLB_MAX_SIZE) */
const QEMU_ENTRIES = 1024

export interface UnitCachesOptions {
  readonly name: string
  readonly journal: Journal
  readonly profile: Profile
  /** Entries that the IOTLB holds; no bound where it is left out. */
  readonly iotlbEntries?: number
  /** Whether tables are remembered beside translations. */
  readonly keepsTables?: boolean
}

/** All caches of a VT-d unit, and what each invalidation takes from them. */
export class UnitCaches {
  readonly contexts: ContextCache
  readonly pasids: PasidCache
  readonly iotlb: Iotlb
  readonly tables: PagingCache | undefined
  readonly front: Front

  constructor({ name, journal, profile, iotlbEntries, keepsTables = true }: UnitCachesOptions) {
    this.front = new Front(journal)
    const isQemus = profile.has('D3')
    const maxEntries = isQemus ? QEMU_ENTRIES : iotlbEntries
    this.contexts = new ContextCache({
      ...{ journal, name },
      ignoresDomain: profile.has('D26'),
      domainIsAll: profile.has('D7'),
      isByPasid: profile.has('D118'),
    })
    this.pasids = new PasidCache(journal, name)
    this.iotlb = new Iotlb({
      ...{ journal, name },
      ...(maxEntries !== undefined && { maxEntries }),
      dropsAllWhenFull: isQemus,
      isBySource: isQemus,
      comparesLowBits: profile.has('D6'),
    })
    this.tables = keepsTables && !profile.has('D61') ? new PagingCache(journal, name) : undefined
  }

  /** Device-TLBs and interrupt entries are not here: their invalidations take nothing. */
  invalidate(what: VtdInvalidation, mode: number): void {
    this.front.clear()
    if (what.what === 'context') this.#invalidateContexts(what)
    else if (what.what === 'pasid-cache') this.#invalidatePasids(what, mode)
    else if (what.what === 'iotlb') {
      this.iotlb.invalidate(what)
      this.tables?.invalidate(what)
    } else if (what.what === 'pasid-iotlb') {
      this.iotlb.invalidatePasid(what)
      this.tables?.invalidatePasid(what)
    }
  }

  /** Forgets so many translations and tables, as a unit may at any time. */
  evict(entries: number): void {
    this.front.clear()
    this.iotlb.evict(entries)
    this.tables?.evict(entries)
  }

  dropAll(): void {
    this.front.clear()
    this.contexts.dropAll()
    this.pasids.dropAll()
    this.iotlb.dropAll()
    this.tables?.dropAll()
  }

  /** Type 1, CCMD. PASID entries go with the context entry that led to them. */
  #invalidateContexts(what: VtdInvalidation): void {
    const { contexts, pasids } = this
    if (what.scope === 'all') pasids.dropAll()
    for (let row = contexts.step; row < contexts.end; row += contexts.step) {
      if (!contexts.isKept(row) || !contexts.covers(what, row)) continue
      contexts.drop(row)
      pasids.dropSource(contexts.sourceOf(row))
    }
  }

  /** Type 7. Units of revisions 2.x have PASID 0 stand for what was not present. (Linux v4.9 intel-svm.c, intel_svm_bind_mm) */
  #invalidatePasids({ scope, domain, pasid }: VtdInvalidation, mode: number): void {
    const { contexts, pasids } = this
    if (scope === 'all') pasids.dropAll()
    else if (scope === 'domain') pasids.dropDomain(domain)
    else {
      for (let row = contexts.step; row < contexts.end; row += contexts.step) {
        pasids.drop(contexts.sourceOf(row), pasid, domain)
      }
      if (pasid === 0 && mode === TABLE_MODE.EXTENDED) pasids.dropFaulty()
    }
  }
}
