import type { RecordLog } from '../trace/record-log.ts'
import type { DomainShadow } from './domain-shadow.ts'
import type { IotlbMap, IotlbShadow } from './iotlb-shadow.ts'
import { INFERRED, LIVE, NO_RECORD, UNKNOWN } from './lives.ts'
import { memoryPageOf, NO_PAGE } from './tce-value.ts'
import { firstPageOf, type VhostShadow } from './vhost-shadow.ts'
import type { WindowShadow } from './window-shadow.ts'

/** Why a map is wrong from the start. */
interface Mismatch {
  readonly text: string
  /** Record of what the IOMMU says, or NO_RECORD. */
  readonly by: number
  readonly isInferred: boolean
}

/** Part of a window that a record sets to one kind of value. */
interface SetEntries {
  readonly window: WindowShadow
  readonly first: number
  readonly end: number
  readonly perm: number
}

const TCE_PERM = 3
/** Pages of a map that are compared with a domain, at most: a larger one is as its beginning. */
const COMPARED_MAX = 4096

/** Compares maps of vhost IOTLBs with what the IOMMU says. */
export class IotlbFills {
  readonly #vhost: VhostShadow

  constructor(vhost: VhostShadow) {
    this.#vhost = vhost
  }

  /** What is wrong with a map that enters, which learns what the IOMMU permits; nothing where it is right, `unknown` where records do not say. */
  judge(log: RecordLog, iotlb: IotlbShadow, map: IotlbMap): Mismatch | 'unknown' | undefined {
    const domain = this.#vhost.domainOf(iotlb)
    return domain === undefined ? this.#judgeWindow(log, iotlb, map) : judgeDomain(domain, map)
  }

  /** Whether entries that a `tce.set` record gives a value say what a map says of them. */
  isAsSet(log: RecordLog, seq: number, map: IotlbMap, { window, first, end, perm }: SetEntries): boolean {
    if (Number.isNaN(map.memoryPage) || (map.granted & ~perm) !== 0) return false
    const start = firstPageOf(window)
    const from = Math.max(first, Math.floor((map.firstPage - start) / window.units))
    const to = Math.min(end - 1, Math.floor((map.lastPage - start) / window.units))
    for (let entry = from; entry <= to; entry++) {
      const page = memoryPageOf(log, seq, entry, window.units)
      if (page !== memoryOf(map, start + entry * window.units)) return false
    }
    return true
  }

  /** Whether a domain says what a map says, as far as it says something. */
  isAsDomain(domain: DomainShadow, map: IotlbMap): boolean {
    const end = Math.min(map.lastPage, map.firstPage + COMPARED_MAX - 1)
    for (let page = map.firstPage; page <= end; page++) {
      if (!domain.find(page)) continue
      if (domain.memoryPage !== memoryOf(map, page) || (map.granted & ~domain.perm) !== 0) return false
    }
    return true
  }

  #judgeWindow(log: RecordLog, iotlb: IotlbShadow, map: IotlbMap): Mismatch | 'unknown' | undefined {
    const window = this.#vhost.windowOf(iotlb, map.firstPage)
    if (window === undefined) return undefined
    const start = firstPageOf(window)
    const entry = Math.floor((map.firstPage - start) / window.units)
    window.tce.loadAt(entry)
    const { state, begun, ended } = window.tce
    if ((state & UNKNOWN) !== 0) return 'unknown'
    const isInferred = (state & INFERRED) !== 0
    if ((state & LIVE) === 0) return { text: 'the table has nothing there', by: ended, isInferred }
    const page = memoryPageOf(log, begun, entry, window.units)
    if (page === NO_PAGE || Number.isNaN(map.memoryPage)) return 'unknown'
    if (page !== memoryOf(map, start + entry * window.units)) {
      return { text: 'the table leads to other memory', by: begun, isInferred }
    }
    return noteGranted(map, state & TCE_PERM, begun, isInferred)
  }
}

function judgeDomain(domain: DomainShadow, map: IotlbMap): Mismatch | 'unknown' | undefined {
  if (!domain.find(map.firstPage)) {
    if (!domain.isComplete) return 'unknown'
    return { text: 'the page tables have nothing there', by: NO_RECORD, isInferred: false }
  }
  if (Number.isNaN(map.memoryPage)) return 'unknown'
  if (domain.memoryPage !== map.memoryPage) {
    return { text: 'the page tables lead to other memory', by: domain.by, isInferred: !domain.isComplete }
  }
  return noteGranted(map, domain.perm, domain.by, !domain.isComplete)
}

/** A map may say more than the IOMMU permits: that is judged where a device makes use of it. */
function noteGranted(map: IotlbMap, perm: number, by: number, isInferred: boolean): undefined {
  map.granted = perm
  map.grantedBy = by
  map.isGrantInferred = isInferred
}

/** Page of memory that a map has behind a bus page; of an IOMMU page that begins before the map, the page of its beginning. */
const memoryOf = (map: IotlbMap, busPage: number): number => map.memoryPage + (busPage - map.firstPage)
