import { hex } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import { FLUSH_SCOPE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { IotlbFills } from './iotlb-fills.ts'
import { type IotlbMap, type IotlbShadow, MAP } from './iotlb-shadow.ts'
import { IotlbUses } from './iotlb-uses.ts'
import { type CheckerOptions, ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { StaleRanges } from './stale-ranges.ts'
import { busPages, firstPageOf, VhostShadow, wordAt } from './vhost-shadow.ts'

const STALE = 'stale-iotlb'
const MISMATCH = 'iotlb-mismatch'
const METADATA = 'stale-metadata'
const DROP = slotMap('iotlb.drop')
const EVICT = slotMap('iotlb.evict')
const FLUSH = slotMap('domain.flush')
const DOMAIN_MAP = slotMap('domain.map')
const DOMAIN_UNMAP = slotMap('domain.unmap')
const ENTER = slotMap('call.enter')
const HOW_UNKNOWN = 2

interface ChangedMap {
  readonly iotlb: IotlbShadow
  readonly map: IotlbMap
}

/**
 * Judges what vhost devices keep in their IOTLBs: `stale-iotlb`, `iotlb-mismatch` and `stale-metadata`.
 *
 * A map is stale when what it says was changed in the IOMMU and that change is over: of a TCE window, when the call that
 * changed the entry has returned; of a VT-d domain, when a flush that covers it has completed (for a device with ATS, one
 * of its own TLB). It is found then, and again where the device reaches memory through it. What a map says and the IOMMU
 * says again is right again. A map with more rights than the IOMMU gives is found where the device makes use of them.
 */
export class StaleIotlb extends ListedChecker {
  readonly rules: readonly RuleId[] = [STALE, MISMATCH, METADATA]
  readonly kinds: readonly EventKind[] = [
    ...VhostShadow.KINDS,
    'iotlb.fill',
    'iotlb.drop',
    'iotlb.evict',
    'iotlb.use',
    'tce.set',
    'window.close',
    'call.return',
    'domain.map',
    'domain.unmap',
    'domain.flush',
    'domain.wait',
  ]
  readonly #vhost: VhostShadow
  readonly #fills: IotlbFills
  readonly #held: StaleRanges
  readonly #used: IotlbUses
  // Maps that changed, until the change is over; those of windows and those of domains.
  #changed: ChangedMap[] = []
  #flushed: ChangedMap[] = []
  #log: RecordLog | undefined

  constructor(options: CheckerOptions) {
    super(options)
    this.#vhost = new VhostShadow(options.windows)
    this.#fills = new IotlbFills(this.#vhost)
    this.#held = new StaleRanges(this.list, this.#vhost)
    const { windows } = options
    this.#used = new IotlbUses({ list: this.list, vhost: this.#vhost, held: this.#held, windows })
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (this.#vhost.isEmpty && kind !== KIND['domain.map'] && kind !== KIND['domain.unmap']) {
      if (kind !== KIND['tce.set'] && kind !== KIND['call.return']) this.#vhost.see(log, seq)
      return
    }
    if (kind === KIND['iotlb.use']) {
      const iotlb = this.#iotlbOf(log, seq)
      if (iotlb !== undefined) this.#used.see(log, seq, iotlb)
    } else if (kind === KIND['tce.set']) this.#set(log, seq)
    else if (kind === KIND['call.return']) {
      if (this.#changed.length > 0) this.#returned(log, seq)
    } else if (kind === KIND['iotlb.fill']) this.#fill(log, seq)
    else if (kind === KIND['iotlb.drop']) this.#drop(log, seq)
    else if (kind === KIND['iotlb.evict']) this.#evict(log, seq)
    else if (kind === KIND['window.close']) this.#closed(log, seq)
    else if (kind === KIND['domain.map']) this.#mapped(log, seq)
    else if (kind === KIND['domain.unmap']) this.#unmapped(log, seq)
    else if (kind === KIND['domain.flush']) this.#flush(log, seq)
    else if (kind === KIND['domain.wait']) this.#waited(log, seq)
    else {
      const gone = this.#vhost.see(log, seq)
      if (gone !== undefined) for (const map of [...gone.maps.values()]) this.#gone(log, seq, gone, map)
    }
  }

  override finish(): void {
    const log = this.#log
    if (log === undefined) return
    if (this.#changed.length > 0) this.#returned(log, NO_RECORD)
    this.#held.finish(log)
  }

  #iotlbOf(log: RecordLog, seq: number): IotlbShadow | undefined {
    return this.#vhost.iotlbs.get(log.slot(seq, 0) >>> 0)
  }

  #fill(log: RecordLog, seq: number): void {
    this.#log = log
    const iotlb = this.#iotlbOf(log, seq)
    if (iotlb === undefined) return
    const map = iotlb.fill(log, seq, this.#vhost.slots)
    const wrong = this.#fills.judge(log, iotlb, map)
    if (wrong === undefined) return
    if (wrong === 'unknown') {
      this.list.skipped++
      return
    }
    const key = { rule: MISMATCH, window: iotlb.number, entry: map.number, by: seq, ended: wrong.by }
    if (this.list.again(key)) return
    const message = `${log.names.word(iotlb.device) || 'a vhost device'} is given bus address ${hex(map.iova)}: ${wrong.text}`
    const chain = because(this.scene(log), wrong.by, seq)
    this.list.add({ rule: MISMATCH, message, because: chain, inferred: wrong.isInferred })
  }

  #drop(log: RecordLog, seq: number): void {
    const iotlb = this.#iotlbOf(log, seq)
    if (iotlb === undefined) return
    for (const map of iotlb.overlapping(wordAt(log, seq, DROP.iova), wordAt(log, seq, DROP.last))) {
      this.#gone(log, seq, iotlb, map)
    }
  }

  #evict(log: RecordLog, seq: number): void {
    const iotlb = this.#iotlbOf(log, seq)
    const map = iotlb?.maps.get(log.slot(seq, EVICT.map) >>> 0)
    if (iotlb !== undefined && map !== undefined) this.#gone(log, seq, iotlb, map)
  }

  #gone(log: RecordLog, seq: number, iotlb: IotlbShadow, map: IotlbMap): void {
    iotlb.remove(map)
    if (map.state === MAP.STALE) this.#held.dropped(log, seq, map, 'gone')
    map.state = MAP.FRESH
  }

  #set(log: RecordLog, seq: number): void {
    const update = this.windows.update(log, seq)
    if (update === undefined) return
    const { window, first, end, perm, how } = update
    const start = firstPageOf(window)
    const pages = (end - first) * window.units
    if (pages === 0) return
    const from = start + first * window.units
    for (const iotlb of this.#vhost.ofUnit(window.unit)) {
      for (const map of iotlb.touching(from, from + pages - 1)) {
        if (how === HOW_UNKNOWN) this.list.skipped++
        else if (perm === 0) this.#change(iotlb, map, seq, how !== 0)
        else {
          const same = this.#fills.isAsSet(log, seq, map, { window, first, end, perm })
          if (same) this.#restore(log, seq, map, perm)
          else this.#change(iotlb, map, seq, how !== 0)
        }
      }
    }
  }

  #closed(log: RecordLog, seq: number): void {
    const window = this.windows.find(log.slot(seq, 0) >>> 0)
    if (window === undefined) return
    const from = firstPageOf(window)
    for (const iotlb of this.#vhost.ofUnit(window.unit)) {
      for (const map of iotlb.touching(from, from + window.entries * window.units - 1)) {
        this.#change(iotlb, map, seq, false)
      }
    }
  }

  #change(iotlb: IotlbShadow, map: IotlbMap, seq: number, isInferred: boolean): void {
    if (map.state !== MAP.FRESH) return
    map.state = MAP.CHANGED
    map.changed = seq
    map.over = NO_RECORD
    map.isInferred = isInferred
    this.#changed.push({ iotlb, map })
  }

  /** The IOMMU says again what the map says. */
  #restore(log: RecordLog, seq: number, map: IotlbMap, perm: number): void {
    if (map.state === MAP.STALE) this.#held.dropped(log, seq, map, 'right again')
    map.state = MAP.FRESH
    map.changed = NO_RECORD
    map.granted |= perm
  }

  /** What changed in a call that returns, or in none. @param seq its return, NO_RECORD at the end of the run */
  #returned(log: RecordLog, seq: number): void {
    const call = seq === NO_RECORD ? NO_RECORD : log.causeOf(seq)
    const over: ChangedMap[] = []
    this.#changed = this.#changed.filter((item) => {
      const { iotlb, map } = item
      if (map.state !== MAP.CHANGED || !iotlb.maps.has(map.number)) return false
      // Of a domain the flush ends it, not the call.
      if (this.#vhost.domainOf(iotlb) !== undefined) return true
      const cause = log.has(map.changed) ? log.causeOf(map.changed) : NO_RECORD
      if (seq !== NO_RECORD && cause !== call && cause !== NO_RECORD) return true
      over.push(item)
      return false
    })
    if (over.length === 0) return
    const what =
      seq === NO_RECORD ? 'at the end' : `after ${log.names.word(log.slot(seq, ENTER.call))} returned`
    this.#left(log, seq, over, what)
  }

  #mapped(log: RecordLog, seq: number): void {
    const number = log.slot(seq, DOMAIN_MAP.domain) >>> 0
    const { firstPage, pages } = busPages(log, seq, DOMAIN_MAP)
    this.#vhost.mapDomain(log, seq)
    const domain = this.#vhost.domain(number)
    for (const { iotlb } of this.#vhost.ofDomain(number)) {
      for (const map of iotlb.touching(firstPage, firstPage + pages - 1)) {
        if (this.#fills.isAsDomain(domain, map))
          this.#restore(log, seq, map, log.slot(seq, DOMAIN_MAP.perm) & 3)
        else this.#change(iotlb, map, seq, log.slot(seq, DOMAIN_MAP.how) !== 0)
      }
    }
  }

  #unmapped(log: RecordLog, seq: number): void {
    const number = log.slot(seq, DOMAIN_UNMAP.domain) >>> 0
    const { firstPage, pages } = busPages(log, seq, DOMAIN_UNMAP)
    this.#vhost.unmapDomain(log, seq)
    for (const { iotlb } of this.#vhost.ofDomain(number)) {
      for (const map of iotlb.touching(firstPage, firstPage + pages - 1)) {
        this.#change(iotlb, map, seq, log.slot(seq, DOMAIN_UNMAP.how) !== 0)
      }
    }
  }

  #flush(log: RecordLog, seq: number): void {
    const scope = log.slot(seq, FLUSH.scope)
    const source = log.slot(seq, FLUSH.source) >>> 0
    // The translations of a context entry outlive it: software flushes them as well.
    if (scope === FLUSH_SCOPE.CONTEXT) return
    const hasPages = scope === FLUSH_SCOPE.PAGES || scope === FLUSH_SCOPE.DEVICE_TLB
    const { firstPage, pages } = hasPages
      ? busPages(log, seq, FLUSH)
      : { firstPage: 0, pages: Number.POSITIVE_INFINITY }
    const isOfDomain = scope === FLUSH_SCOPE.DOMAIN || scope === FLUSH_SCOPE.PAGES
    const targets = isOfDomain
      ? this.#vhost.ofDomain(log.slot(seq, FLUSH.domain) >>> 0)
      : this.#vhost.ofAllDomains()
    for (const target of targets) {
      if (scope === FLUSH_SCOPE.DEVICE_TLB && target.source !== source) continue
      // What a device remembers in a TLB of its own only a flush of that one takes away.
      if (target.hasAts !== (scope === FLUSH_SCOPE.DEVICE_TLB)) continue
      for (const map of target.iotlb.maps.values()) {
        if (map.state !== MAP.CHANGED) continue
        if (map.lastPage < firstPage || map.firstPage >= firstPage + pages) continue
        map.state = MAP.FLUSHED
        map.over = seq
        this.#flushed.push({ iotlb: target.iotlb, map })
      }
    }
  }

  #waited(log: RecordLog, seq: number): void {
    if (this.#flushed.length === 0) return
    const over = this.#flushed.filter(
      ({ iotlb, map }) => map.state === MAP.FLUSHED && iotlb.maps.has(map.number),
    )
    this.#flushed = []
    this.#left(log, seq, over, 'after the flush was done')
  }

  /** Changes that are over, and the maps that outlived them: one finding for each IOTLB. */
  #left(log: RecordLog, seq: number, over: readonly ChangedMap[], when: string): void {
    const byIotlb = new Map<IotlbShadow, IotlbMap[]>()
    for (const { iotlb, map } of over) {
      if (map.over === NO_RECORD) map.over = seq
      map.state = MAP.STALE
      const known = byIotlb.get(iotlb)
      if (known === undefined) byIotlb.set(iotlb, [map])
      else known.push(map)
    }
    for (const [iotlb, maps] of byIotlb) this.#held.add(this.scene(log), { iotlb, maps, seq, when })
  }
}
