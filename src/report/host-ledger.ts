import { hex, numberOf, wordOf } from '../bits/u64.ts'
import { LiveRegions } from '../check/live-regions.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'

const LOCKED = slotMap('mm.locked')
const PIN = slotMap('mm.pin')
const REGION = slotMap('region.new')
const TABLE = slotMap('hw.table')
const SET = slotMap('hw.set')
const REF = slotMap('hw.ref')
const WINDOW = slotMap('hw.window')
const FILL = slotMap('hw.fill')
const KILL = slotMap('hw.kill')
const STORE = slotMap('hw.store')
const FIRMWARE = slotMap('hw.firmware')
const FREEZE = slotMap('pe.freeze')
const THAW = slotMap('pe.thaw')
/** MMIO and DMA of a PE are stopped. */
const BOTH_STOPS = 3

/** Pages of a process that the kernel locked or pinned for others, in system pages. */
export interface ProcessLedger {
  readonly process: string
  /** locked_vm: the most at one time, and at the end. */
  readonly lockedPeakPages: number
  readonly lockedPages: number
  readonly pinnedPeakPages: number
  readonly pinnedPages: number
}

/** A preregistered region. */
export interface RegionLedger {
  readonly region: number
  readonly process: string
  readonly ua: string
  readonly pages: number
  /** The largest IOMMU page that it backs, in bytes. */
  readonly pageBytes: number
  /** Registrations and live mappings at the end; the most mappings at one time. */
  readonly used: number
  readonly mapped: number
  readonly mappedPeak: number
}

/** A hardware TCE table that a process paid for, or in which something was mapped. */
export interface TableLedger {
  readonly table: number
  /** PEs that it was programmed into. */
  readonly pes: readonly string[]
  readonly busOffset: string
  readonly pageBytes: number
  readonly entries: number
  readonly levels: number
  readonly chargedBytes: number
  /** Entries that got a permission, and those that lost theirs. */
  readonly mapped: number
  readonly unmapped: number
  /** Live entries: the most at one time, and at the end. */
  readonly peakPages: number
  readonly livePages: number
  readonly isFreed: boolean
}

/** What software and devices did to the TCE cache of a PHB. */
export interface CacheLedger {
  readonly unit: string
  /** TCEs that were read from tables for a DMA. */
  readonly fills: number
  /** Kills that took effect, by what they took; and entries that had to make room. */
  readonly pageKills: number
  readonly peKills: number
  readonly allKills: number
  readonly evictions: number
  /** Values stored to the kill register, and calls of firmware. */
  readonly stores: number
  readonly firmwareCalls: number
}

/** A PE that was cut off. */
export interface PeLedger {
  readonly unit: string
  readonly pe: number
  readonly freezes: number
  readonly isFrozen: boolean
  /** Why it was frozen the last time. */
  readonly why: string
}

/** What happened to a POWER host, in numbers; all lists are empty where there is none. */
export interface HostLedger {
  readonly processes: readonly ProcessLedger[]
  readonly regions: readonly RegionLedger[]
  readonly tables: readonly TableLedger[]
  readonly caches: readonly CacheLedger[]
  readonly pes: readonly PeLedger[]
}

/** Permission bits of a TCE. */
const PERM = 3

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
/** A row whose name is interned until it is shown. */
type Row<T, N extends keyof T> = Mutable<Omit<T, N>> & { readonly name: number }

/** Scopes of `hw.kill`. */
const [PAGES, PE, ALL] = [0, 1, 2]

/**
 * Counts what records say of a POWER host: locked and pinned memory, regions, tables, TCE caches, frozen PEs.
 *
 * @example
 * const host = new HostCounter()
 * log.subscribe(host)
 * // ... records come ...
 * host.ledger().processes
 */
export class HostCounter implements RecordSink {
  readonly kinds: readonly EventKind[] = [
    'mm.locked',
    'mm.pin',
    'region.new',
    'region.get',
    'region.put',
    'region.map',
    'hw.table',
    'hw.set',
    'hw.ref',
    'hw.window',
    'hw.fill',
    'hw.kill',
    'hw.store',
    'hw.firmware',
    'pe.freeze',
    'pe.stop',
    'pe.thaw',
  ]
  readonly #processes = new Map<number, Row<ProcessLedger, 'process'>>()
  readonly #regions = new Map<number, Row<RegionLedger, 'process'>>()
  readonly #live = new LiveRegions()
  readonly #tables = new Map<number, Mutable<TableLedger> & { pes: string[] }>()
  readonly #caches = new Map<number, Row<CacheLedger, 'unit'>>()
  readonly #pes = new Map<
    string,
    Row<PeLedger, 'unit' | 'why' | 'isFrozen'> & { why: number; stops: number }
  >()
  #log: RecordLog | undefined

  see(log: RecordLog, seq: number): void {
    this.#log = log
    switch (log.kindNumberOf(seq)) {
      case KIND['hw.set']:
        this.#set(log, seq)
        return
      case KIND['hw.table']:
        this.#made(log, seq)
        return
      case KIND['hw.ref']:
        this.#referred(log, seq)
        return
      case KIND['hw.window']:
        this.#programmed(log, seq)
        return
      case KIND['mm.locked']:
        this.#locked(log, seq)
        return
      case KIND['mm.pin']:
        this.#pinned(log, seq)
        return
      case KIND['hw.fill']:
        this.#cache(log.slot(seq, FILL.unit)).fills++
        return
      case KIND['hw.kill']:
        this.#killed(log, seq)
        return
      case KIND['hw.store']:
        this.#cache(log.slot(seq, STORE.unit)).stores += numberOf(
          log.slot(seq, STORE.count + 1),
          log.slot(seq, STORE.count),
        )
        return
      case KIND['hw.firmware']:
        this.#cache(log.slot(seq, FIRMWARE.unit)).firmwareCalls += log.slot(seq, FIRMWARE.calls)
        return
      case KIND['pe.freeze']:
      case KIND['pe.stop']:
      case KIND['pe.thaw']:
        this.#frozen(log, seq)
        return
      default:
        this.#region(log, seq)
    }
  }

  #process(name: number): Row<ProcessLedger, 'process'> {
    let row = this.#processes.get(name)
    if (row === undefined) {
      row = { name, lockedPeakPages: 0, lockedPages: 0, pinnedPeakPages: 0, pinnedPages: 0 }
      this.#processes.set(name, row)
    }
    return row
  }

  #locked(log: RecordLog, seq: number): void {
    const row = this.#process(log.slot(seq, LOCKED.process))
    row.lockedPages = numberOf(log.slot(seq, LOCKED.total + 1), log.slot(seq, LOCKED.total))
    row.lockedPeakPages = Math.max(row.lockedPeakPages, row.lockedPages)
  }

  #pinned(log: RecordLog, seq: number): void {
    const row = this.#process(log.slot(seq, PIN.process))
    const count = numberOf(log.slot(seq, PIN.count + 1), log.slot(seq, PIN.count))
    row.pinnedPages += log.slot(seq, PIN.delta) * count
    row.pinnedPeakPages = Math.max(row.pinnedPeakPages, row.pinnedPages)
  }

  #region(log: RecordLog, seq: number): void {
    const { region, process, ua, pages, used, mapped, begun } = this.#live.take(log, seq)
    let row = this.#regions.get(begun)
    if (row === undefined) {
      const isNew = log.kindNumberOf(seq) === KIND['region.new']
      const pageBytes = isNew ? 2 ** log.slot(seq, REGION.pageShift) : 0
      row = { name: process, region, ua: hex(ua), pages, pageBytes, used, mapped: 0, mappedPeak: 0 }
      this.#regions.set(begun, row)
    }
    row.used = used
    row.mapped = Math.max(0, mapped - 1)
    row.mappedPeak = Math.max(row.mappedPeak, row.mapped)
  }

  #made(log: RecordLog, seq: number): void {
    const at = (slot: number) => log.slot(seq, slot)
    const table = at(TABLE.table)
    this.#tables.set(table, {
      table,
      pes: [],
      busOffset: hex(wordOf(at(TABLE.busOffset + 1), at(TABLE.busOffset))),
      pageBytes: 2 ** at(TABLE.pageShift),
      entries: numberOf(at(TABLE.entries + 1), at(TABLE.entries)),
      levels: at(TABLE.levels),
      chargedBytes: numberOf(at(TABLE.charged + 1), at(TABLE.charged)),
      mapped: 0,
      unmapped: 0,
      peakPages: 0,
      livePages: 0,
      isFreed: false,
    })
  }

  #set(log: RecordLog, seq: number): void {
    const row = this.#tables.get(log.slot(seq, SET.table))
    if (row === undefined) return
    const count = numberOf(log.slot(seq, SET.count + 1), log.slot(seq, SET.count))
    const wasLive = (log.slot(seq, SET.before) & PERM) !== 0
    const isLive = (log.slot(seq, SET.tce) & PERM) !== 0
    if (isLive) row.mapped += count
    else if (wasLive) row.unmapped += count
    row.livePages += (isLive ? count : 0) - (wasLive ? count : 0)
    if (row.livePages > row.peakPages) row.peakPages = row.livePages
  }

  #referred(log: RecordLog, seq: number): void {
    const row = this.#tables.get(log.slot(seq, REF.table))
    if (row !== undefined && log.slot(seq, REF.references) === 0) row.isFreed = true
  }

  #programmed(log: RecordLog, seq: number): void {
    const row = this.#tables.get(log.slot(seq, WINDOW.table))
    if (row === undefined) return
    const pe = `${log.names.word(log.slot(seq, WINDOW.unit))} PE ${log.slot(seq, WINDOW.pe)}`
    if (!row.pes.includes(pe)) row.pes.push(pe)
  }

  #cache(name: number): Row<CacheLedger, 'unit'> {
    let row = this.#caches.get(name)
    if (row === undefined) {
      const kills = { pageKills: 0, peKills: 0, allKills: 0, evictions: 0 }
      row = { name, fills: 0, ...kills, stores: 0, firmwareCalls: 0 }
      this.#caches.set(name, row)
    }
    return row
  }

  #killed(log: RecordLog, seq: number): void {
    const row = this.#cache(log.slot(seq, KILL.unit))
    const scope = log.slot(seq, KILL.scope)
    if (scope === PAGES) row.pageKills++
    else if (scope === PE) row.peKills++
    else if (scope === ALL) row.allKills++
    else row.evictions++
  }

  #frozen(log: RecordLog, seq: number): void {
    const name = log.slot(seq, FREEZE.unit)
    const pe = log.slot(seq, FREEZE.pe)
    const key = `${name} ${pe}`
    const kind = log.kindNumberOf(seq)
    let row = this.#pes.get(key)
    if (row === undefined) {
      // What software stops on its way through a reset is no freeze to count.
      if (kind !== KIND['pe.freeze']) return
      row = { name, pe, freezes: 0, stops: 0, why: 0 }
      this.#pes.set(key, row)
    }
    row.stops = kind === KIND['pe.thaw'] ? row.stops & ~log.slot(seq, THAW.stops) : BOTH_STOPS
    if (kind !== KIND['pe.freeze']) return
    row.freezes++
    row.why = log.slot(seq, FREEZE.why)
  }

  /** What has been counted so far. */
  ledger(): HostLedger {
    const word = (n: number): string => this.#log?.names.word(n) ?? ''
    return {
      processes: [...this.#processes.values()].map(({ name, ...row }) => ({ process: word(name), ...row })),
      regions: [...this.#regions.values()].map(({ name, region, ...row }) => ({
        region,
        process: word(name),
        ...row,
      })),
      tables: [...this.#tables.values()]
        .filter((t) => t.chargedBytes > 0 || t.mapped > 0)
        .map((t) => ({ ...t, pes: [...t.pes] })),
      caches: [...this.#caches.values()].map(({ name, ...row }) => ({ unit: word(name), ...row })),
      pes: [...this.#pes.values()].map(({ name, why, stops, ...row }) => ({
        unit: word(name),
        ...row,
        isFrozen: stops !== 0,
        why: word(why),
      })),
    }
  }
}
