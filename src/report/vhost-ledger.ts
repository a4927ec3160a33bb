import { numberOf } from '../bits/u64.ts'
import { bytesText } from '../check/words.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import { FLUSH_SCOPE, REMEMBERED } from '../trace/event-codes.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'
import { table } from './layout.ts'

const NEW = slotMap('iotlb.new')
const DROP = slotMap('iotlb.drop')
const USE = slotMap('iotlb.use')
const FLUSH = slotMap('domain.flush')
const UNMAP = slotMap('domain.unmap')

/** What a vhost device did with its IOTLBs, one after the other. */
export interface IotlbLedger {
  readonly device: string
  readonly misses: number
  readonly fills: number
  /** Maps that an invalidation dropped, and those that had to make room. */
  readonly dropped: number
  readonly evicted: number
  /** Maps: the most at one time, and at the end. */
  readonly peakMaps: number
  readonly maps: number
  /** Uses of a map, and those of a pointer that was remembered; bytes of both. */
  readonly uses: number
  readonly remembered: number
  readonly bytes: number
}

/** Flushes of a VT-d unit by what they are about, and what QEMU told listeners of them. */
export interface FlushLedger {
  readonly global: number
  readonly domain: number
  readonly pages: number
  readonly deviceTlb: number
  readonly context: number
  /** Entries of PASIDs, translations of PASIDs, and those in TLBs of devices. */
  readonly pasidEntries: number
  readonly pasids: number
  readonly pasidDeviceTlb: number
  readonly waits: number
  readonly notifications: number
}

export interface VhostLedger {
  readonly iotlbs: readonly IotlbLedger[]
  readonly flushes: FlushLedger
}

type Row = { -readonly [K in keyof Omit<IotlbLedger, 'device'>]: IotlbLedger[K] } & {
  readonly device: number
}

const IOTLB_USE = KIND['iotlb.use']
const IOTLB_FILL = KIND['iotlb.fill']
const IOTLB_MISS = KIND['iotlb.miss']
const SCOPES = 11

/** Counts what records say of vhost IOTLBs and of flushes. */
export class VhostCounter implements RecordSink {
  readonly kinds: readonly EventKind[] = [
    'iotlb.new',
    'iotlb.fill',
    'iotlb.drop',
    'iotlb.evict',
    'iotlb.miss',
    'iotlb.use',
    'domain.flush',
    'domain.wait',
    'domain.notify',
  ]
  /** By IOTLB, and by interned name of the device. */
  readonly #rows = new Map<number, Row>()
  readonly #devices = new Map<number, Row>()
  readonly #flushes = new Array<number>(SCOPES).fill(0)
  #waits = 0
  #notifications = 0
  #log: RecordLog | undefined

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['iotlb.new']) this.#begin(log, seq)
    else if (kind === KIND['domain.notify']) this.#notifications++
    else if (kind === KIND['domain.wait']) {
      if (!isInferred(log, seq)) this.#waits++
    } else if (kind === KIND['domain.flush']) {
      if (isInferred(log, seq)) return
      const scope = log.slot(seq, FLUSH.scope)
      if (scope > 0 && scope < SCOPES) this.#flushes[scope] = (this.#flushes[scope] as number) + 1
    } else {
      const row = this.#rows.get(log.slot(seq, 0) >>> 0)
      if (row !== undefined) this.#count(row, kind, log, seq)
    }
  }

  #begin(log: RecordLog, seq: number): void {
    this.#log = log
    const device = log.slot(seq, NEW.device)
    let row = this.#devices.get(device)
    if (row === undefined) {
      row = {
        device,
        misses: 0,
        fills: 0,
        dropped: 0,
        evicted: 0,
        peakMaps: 0,
        maps: 0,
        uses: 0,
        remembered: 0,
        bytes: 0,
      }
      this.#devices.set(device, row)
    }
    row.maps = 0
    this.#rows.set(log.slot(seq, NEW.iotlb) >>> 0, row)
  }

  #count(row: Row, kind: number, log: RecordLog, seq: number): void {
    if (kind === IOTLB_USE) {
      if (log.slot(seq, USE.part) >= REMEMBERED) row.remembered++
      else row.uses++
      row.bytes += log.slot(seq, USE.bytes) >>> 0
    } else if (kind === IOTLB_FILL) {
      row.fills++
      row.maps++
      if (row.maps > row.peakMaps) row.peakMaps = row.maps
    } else if (kind === IOTLB_MISS) row.misses++
    else {
      const isDrop = kind === KIND['iotlb.drop']
      const gone = isDrop ? numberOf(log.slot(seq, DROP.maps + 1), log.slot(seq, DROP.maps)) : 1
      if (isDrop) row.dropped += gone
      else row.evicted++
      row.maps -= gone
    }
  }

  ledger(): VhostLedger {
    const iotlbs = [...this.#devices.values()].map(({ device, ...row }) => ({
      device: this.#log?.names.word(device) ?? '',
      ...row,
    }))
    const of = (scope: number) => this.#flushes[scope] as number
    return {
      iotlbs,
      flushes: {
        global: of(FLUSH_SCOPE.ALL),
        domain: of(FLUSH_SCOPE.DOMAIN),
        pages: of(FLUSH_SCOPE.PAGES),
        deviceTlb: of(FLUSH_SCOPE.DEVICE_TLB),
        context: of(FLUSH_SCOPE.CONTEXT),
        pasidEntries: of(FLUSH_SCOPE.PASID_CACHE),
        pasids: of(FLUSH_SCOPE.PASID_PAGES) + of(FLUSH_SCOPE.PASID),
        pasidDeviceTlb: of(FLUSH_SCOPE.PASID_DEVICE_TLB),
        waits: this.#waits,
        notifications: this.#notifications,
      },
    }
  }
}

const HEAD = ['device', 'misses', 'filled', 'dropped', 'evicted', 'peak', 'at the end', 'uses', 'bytes']
const FLUSH_HEAD = ['global', 'domain', 'pages', 'device TLB', 'context']
const PASID_HEAD = ['PASID entries', 'PASIDs', 'device TLB by PASID']

/** Whether nobody saw a flush: it is the one that must have come with an unmap which only a use showed. */
function isInferred(log: RecordLog, seq: number): boolean {
  const cause = log.causeOf(seq)
  if (!log.has(cause) || log.kindNumberOf(cause) !== KIND['domain.unmap']) return false
  return log.slot(cause, UNMAP.how) !== 0
}

/** Sections of the ledger about vhost and the flushes behind it; those without content are empty. */
export function vhostSections(
  { iotlbs, flushes }: VhostLedger,
  columns: number,
): readonly (readonly [title: string, lines: readonly string[]])[] {
  const rows = iotlbs.map((d) => [
    d.device || '?',
    ...[d.misses, d.fills, d.dropped, d.evicted, d.peakMaps, d.maps, d.uses + d.remembered].map(String),
    bytesText(d.bytes),
  ])
  const { global, domain, pages, deviceTlb, context, waits, notifications } = flushes
  const pasids = [flushes.pasidEntries, flushes.pasids, flushes.pasidDeviceTlb]
  const hasPasids = pasids.some((n) => n > 0)
  // A log does not show what QEMU told its listeners.
  const told = notifications > 0
  const head = [...FLUSH_HEAD, ...(hasPasids ? PASID_HEAD : []), 'waits', ...(told ? ['listeners told'] : [])]
  const counts = [
    ...[global, domain, pages, deviceTlb, context],
    ...(hasPasids ? pasids : []),
    waits,
    ...(told ? [notifications] : []),
  ]
  return [
    [
      'maps in the IOTLBs of vhost devices',
      rows.length === 0
        ? []
        : table([HEAD, ...rows], { indent: 2, right: [1, 2, 3, 4, 5, 6, 7, 8], columns }),
    ],
    [
      'flushes that software asked for',
      counts.every((n) => n === 0)
        ? []
        : table([head, counts.map(String)], { indent: 2, right: [...head.keys()], columns }),
    ],
  ]
}
