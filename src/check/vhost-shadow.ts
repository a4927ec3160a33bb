import { wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { DomainShadow } from './domain-shadow.ts'
import { GuestSlots, type IotlbMap, IotlbShadow } from './iotlb-shadow.ts'
import { PageOwners } from './page-owners.ts'
import type { WindowShadow, WindowShadows } from './window-shadow.ts'

const NEW = slotMap('iotlb.new')
const ATTACH = slotMap('domain.attach')
const MAP = slotMap('domain.map')
const UNMAP = slotMap('domain.unmap')
const ADD = slotMap('device.add')
const UNIT_SHIFT = 12

/** Of a device: where its addresses are translated. */
interface Place {
  unit?: number
  domain?: DomainShadow
  source: number
  hasAts: boolean
}

/** Pages of bus addresses that a record is about. */
export interface BusPages {
  readonly firstPage: number
  readonly pages: number
}

/** 4 KiB page of the first bus address of a window. */
export const firstPageOf = (window: WindowShadow): number => Number(window.busOffset >> BigInt(UNIT_SHIFT))

export const wordAt = (log: RecordLog, seq: number, slot: number): bigint =>
  wordOf(log.slot(seq, slot + 1), log.slot(seq, slot))

/** Pages that the fields `iova` and `bytes` of a record touch; all of them for no bytes. */
export function busPages(log: RecordLog, seq: number, slots: { iova: number; bytes: number }): BusPages {
  const [iova, bytes] = [wordAt(log, seq, slots.iova), wordAt(log, seq, slots.bytes)]
  if (bytes === 0n) return { firstPage: Number(iova >> 12n), pages: Number.POSITIVE_INFINITY }
  const firstPage = Number(iova >> 12n)
  return { firstPage, pages: Number((iova + bytes - 1n) >> 12n) - firstPage + 1 }
}

/** The vhost IOTLBs of a run with their maps, the domains and devices behind them, and whose memory is where. */
export class VhostShadow {
  static readonly KINDS: readonly EventKind[] = [
    'iotlb.new',
    'domain.attach',
    'device.add',
    'memory.slot',
    'page.own',
  ]
  readonly iotlbs = new Map<number, IotlbShadow>()
  readonly slots = new GuestSlots()
  readonly owners = new PageOwners()
  readonly #byDevice = new Map<number, IotlbShadow>()
  readonly #places = new Map<number, Place>()
  readonly #domains = new Map<number, DomainShadow>()
  readonly #windows: WindowShadows

  constructor(windows: WindowShadows) {
    this.#windows = windows
  }

  /** Takes note of a record of `KINDS`. The IOTLB that ends with it, if any. */
  see(log: RecordLog, seq: number): IotlbShadow | undefined {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['iotlb.new']) return this.#begin(log, seq)
    if (kind === KIND['device.add']) this.#placeOf(log.slot(seq, ADD.device)).unit = log.slot(seq, ADD.unit)
    else if (kind === KIND['page.own']) this.#own(log, seq)
    else if (kind === KIND['memory.slot']) {
      this.slots.see(log, seq)
      this.owners.slot(log, seq)
    } else {
      const place = this.#placeOf(log.slot(seq, ATTACH.device))
      place.domain = this.domain(log.slot(seq, ATTACH.domain) >>> 0)
      place.source = log.slot(seq, ATTACH.source) >>> 0
      place.hasAts = log.slot(seq, ATTACH.ats) === 1
    }
    return undefined
  }

  domain(number: number): DomainShadow {
    let domain = this.#domains.get(number)
    if (domain === undefined) {
      domain = new DomainShadow(number)
      this.#domains.set(number, domain)
    }
    return domain
  }

  /** IOTLBs whose device is in a domain. */
  *ofDomain(number: number): Generator<{ iotlb: IotlbShadow; hasAts: boolean; source: number }> {
    for (const iotlb of this.#byDevice.values()) {
      const place = this.#places.get(iotlb.device)
      if (place?.domain?.number === number) yield { iotlb, hasAts: place.hasAts, source: place.source }
    }
  }

  /** IOTLBs of devices that are in any domain. */
  *ofAllDomains(): Generator<{ iotlb: IotlbShadow; hasAts: boolean; source: number }> {
    for (const { number } of this.#domains.values()) yield* this.ofDomain(number)
  }

  domainOf(iotlb: IotlbShadow): DomainShadow | undefined {
    return this.#places.get(iotlb.device)?.domain
  }

  /** IOTLBs whose device reaches memory through the windows of a unit; one whose unit no record names, through all. */
  *ofUnit(unit: number): Generator<IotlbShadow> {
    for (const iotlb of this.#byDevice.values()) if (this.#isBelow(iotlb, unit)) yield iotlb
  }

  get isEmpty(): boolean {
    return this.#byDevice.size === 0
  }

  /** The open window that translates a bus page for an IOTLB's device. */
  windowOf(iotlb: IotlbShadow, page: number): WindowShadow | undefined {
    for (const window of this.#windows.all()) {
      if (!this.#isBelow(iotlb, window.unit)) continue
      const first = firstPageOf(window)
      if (page >= first && page < first + window.entries * window.units) return window
    }
    return undefined
  }

  /** Notes what a `domain.map` record maps; who looks at the maps that are there does so before. */
  mapDomain(log: RecordLog, seq: number): void {
    const domain = this.domain(log.slot(seq, MAP.domain) >>> 0)
    const { firstPage, pages } = busPages(log, seq, MAP)
    const memoryPage = Number(wordAt(log, seq, MAP.gpa) >> 12n)
    domain.map(firstPage, pages, { memoryPage, perm: log.slot(seq, MAP.perm) & 3, by: seq })
    if (log.slot(seq, MAP.how) === 0) domain.isComplete = true
  }

  unmapDomain(log: RecordLog, seq: number): void {
    const { firstPage, pages } = busPages(log, seq, UNMAP)
    this.domain(log.slot(seq, UNMAP.domain) >>> 0).unmap(firstPage, pages)
  }

  /** Who owns the memory behind a map, most pages first; nothing where no record says so. */
  ownersOf(map: IotlbMap): Map<number, number> {
    if (map.gpa === undefined) return new Map()
    const start = map.memoryPage
    const end = Number((map.gpa + (map.last - map.iova)) >> 12n) + 1
    return this.owners.isKnown({ start, end }) ? this.owners.ownersOf({ start, end }) : new Map()
  }

  #isBelow(iotlb: IotlbShadow, unit: number): boolean {
    const place = this.#places.get(iotlb.device)
    if (place?.domain !== undefined) return false
    return place?.unit === undefined || place.unit === unit
  }

  #placeOf(device: number): Place {
    let place = this.#places.get(device)
    if (place === undefined) {
      place = { source: 0, hasAts: false }
      this.#places.set(device, place)
    }
    return place
  }

  #begin(log: RecordLog, seq: number): IotlbShadow | undefined {
    const device = log.slot(seq, NEW.device)
    const before = this.#byDevice.get(device)
    if (before !== undefined) this.iotlbs.delete(before.number)
    const iotlb = IotlbShadow.begin(log, seq)
    this.iotlbs.set(iotlb.number, iotlb)
    this.#byDevice.set(device, iotlb)
    return before
  }

  #own(log: RecordLog, seq: number): void {
    if (log.names.word(log.slot(seq, 0)) === 'gpa') this.owners.own(log, seq)
  }
}
