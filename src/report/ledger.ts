import { hex } from '../bits/u64.ts'
import type { Uses } from '../check/uses.ts'
import type { WindowShadow, WindowShadows } from '../check/window-shadow.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'
import { DomainCounter, type DomainLedger, type TranslationLedger } from './domain-ledger.ts'
import { HostCounter, type HostLedger } from './host-ledger.ts'
import { reachableMemory } from './reachable-memory.ts'
import { RunHistogram, type RunLengths } from './run-histogram.ts'
import { VhostCounter, type VhostLedger } from './vhost-ledger.ts'

const SEEN = slotMap('tce.seen')
const REQUEST = slotMap('dma.request')
const RETURN = slotMap('call.return')
const CLOSE = slotMap('window.close')

/** Entries written, by how their value is known. */
export interface KnownEntries {
  readonly known: number
  readonly inferred: number
  readonly unknown: number
}

export interface WindowLedger {
  readonly window: number
  readonly liobn: string
  readonly busOffset: string
  readonly pageBytes: number
  readonly entries: number
  readonly unit: string
  /** Seq of the records that opened and closed it; null where it is still open. */
  readonly openedBy: number
  readonly closedBy: number | null
  readonly why: string
  /** Calls that mapped, and the entries that they wrote with a permission. */
  readonly mapCalls: number
  readonly mapped: number
  /** Calls that cleared, the entries that they wrote, and how many of those were live. */
  readonly unmapCalls: number
  readonly cleared: number
  readonly unmapped: number
  readonly peakPages: number
  /** Live entries at the end, or when it closed. */
  readonly livePages: number
  readonly allowed: number
  readonly refused: number
}

export interface CallCount {
  readonly call: string
  readonly layer: string
  readonly code: number
  readonly count: number
}

/** What happened, in numbers: plain data in a fixed order, 64-bit values as `0x` strings. */
export interface Ledger {
  readonly windows: readonly WindowLedger[]
  readonly mapCalls: number
  readonly mapped: number
  readonly unmapCalls: number
  readonly cleared: number
  readonly unmapped: number
  /** Live entries of all open windows: the most at one time, and at the end. */
  readonly peakPages: number
  readonly peakBytes: number
  readonly livePages: number
  readonly liveBytes: number
  /** Bytes of distinct memory that devices can reach at the end; what a log does not show is not in it. */
  readonly reachableBytes: number
  readonly unknownPages: number
  readonly entries: KnownEntries
  /** Inferred and unknown entries that a later line showed. */
  readonly shown: { readonly confirmed: number; readonly contradicted: number; readonly learned: number }
  readonly runs: readonly RunLengths[]
  readonly dma: {
    readonly requests: number
    readonly reads: number
    readonly writes: number
    readonly bytes: number
    readonly allowed: number
    readonly refused: number
    readonly outsideWindows: number
    readonly byDevice: readonly {
      readonly device: string
      readonly requests: number
      readonly bytes: number
    }[]
  }
  readonly calls: readonly CallCount[]
  /** What only a POWER host has. */
  readonly host: HostLedger
  /** What only machines with VT-d units have. */
  readonly domains: readonly DomainLedger[]
  readonly vtdTranslations: TranslationLedger
  /** What only machines with vhost devices have. */
  readonly vhost: VhostLedger
}

type Row = { -readonly [K in keyof Omit<WindowLedger, 'allowed' | 'refused'>]: WindowLedger[K] } & {
  readonly shadow: WindowShadow
}

/** A call with the numbers that the log has for it, and how often a layer gave it an answer. */
interface Returned {
  readonly call: number
  readonly layer: number
  readonly code: number
  count: number
}

/** Calls that are found again without a search: a power of two. */
const RECENT = 16

interface DeviceRow {
  requests: number
  bytes: number
}

/**
 * Counts what records say happened. Reads the state after each record from the shadow: attach it behind the shadow
 * (`Judge.attach` first, then this).
 *
 * A call is counted once, however many records of one kind it leaves for a window.
 *
 * @example
 * judge.attach(log)
 * const counter = new LedgerCounter(judge)
 * counter.attach(log)
 * // ... records come ...
 * counter.ledger().peakPages
 */
export class LedgerCounter implements RecordSink {
  readonly kinds: readonly EventKind[] = [
    'window.open',
    'window.close',
    'tce.set',
    'tce.seen',
    'dma.request',
    'dma.miss',
    'call.return',
  ]
  readonly #windows: WindowShadows
  readonly #uses: Uses
  readonly #rows = new Map<number, Row>()
  readonly #order: Row[] = []
  readonly #runs = new RunHistogram()
  readonly #host = new HostCounter()
  readonly #vhost = new VhostCounter()
  readonly #domains = new DomainCounter()
  readonly #devices = new Map<number, DeviceRow>()
  readonly #calls: Returned[] = []
  /** By the lowest bits of the call's name, the entry of `#calls` that was counted last. */
  readonly #recent: (Returned | undefined)[] = new Array(RECENT).fill(undefined)
  #last: Row | undefined
  #log: RecordLog | undefined
  #live = 0
  #liveBytes = 0
  #peak = 0
  #peakBytes = 0
  readonly #entries = { known: 0, inferred: 0, unknown: 0 }
  readonly #shown = { confirmed: 0, contradicted: 0, learned: 0 }
  #requests = 0
  #writes = 0
  #bytes = 0
  #misses = 0
  #mapCause = -1
  #unmapCause = -1

  constructor(shared: { readonly windows: WindowShadows; readonly uses: Uses }) {
    this.#windows = shared.windows
    this.#uses = shared.uses
  }

  /** Subscribes to a log that has no records yet. */
  attach(log: RecordLog): void {
    log.subscribe(this)
    log.subscribe(this.#host)
    log.subscribe(this.#vhost)
    log.subscribe(this.#domains)
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['tce.set']) this.#set(log, seq)
    else if (kind === KIND['call.return']) this.#returned(log, seq)
    else if (kind === KIND['dma.request']) this.#requested(log, seq)
    else this.#other(kind, log, seq)
  }

  #rowOf(window: number): Row | undefined {
    if (this.#last?.window === window) return this.#last
    const row = this.#rows.get(window)
    if (row !== undefined) this.#last = row
    return row
  }

  #other(kind: number, log: RecordLog, seq: number): void {
    this.#log = log
    if (kind === KIND['dma.miss']) this.#misses++
    else if (kind === KIND['window.open']) this.#opened(log, seq)
    else if (kind === KIND['window.close']) this.#closed(log, seq)
    else this.#seen(log, seq)
  }

  #opened(log: RecordLog, seq: number): void {
    const shadow = this.#windows.find(log.slot(seq, 0) >>> 0)
    if (shadow === undefined) return
    const row: Row = {
      window: shadow.number,
      liobn: hex(shadow.liobn),
      busOffset: hex(shadow.busOffset),
      pageBytes: 2 ** shadow.pageShift,
      entries: shadow.entries,
      unit: log.names.word(shadow.unit),
      openedBy: seq,
      closedBy: null,
      why: '',
      mapCalls: 0,
      mapped: 0,
      unmapCalls: 0,
      cleared: 0,
      unmapped: 0,
      peakPages: 0,
      livePages: 0,
      shadow,
    }
    this.#rows.set(shadow.number, row)
    this.#order.push(row)
  }

  #closed(log: RecordLog, seq: number): void {
    const number = log.slot(seq, CLOSE.window) >>> 0
    const row = this.#rows.get(number)
    if (row === undefined) return
    row.closedBy = seq
    row.why = log.names.word(log.slot(seq, CLOSE.why))
    this.#live -= row.livePages
    this.#liveBytes -= row.livePages * row.pageBytes
    this.#rows.delete(number)
    this.#last = undefined
  }

  #set(log: RecordLog, seq: number): void {
    this.#log = log
    const update = this.#windows.update(log, seq)
    const row = update === undefined ? undefined : this.#rowOf(update.window.number)
    if (update === undefined || row === undefined) return
    const { first, end, perm, how } = update
    const count = end - first
    if (count === 0) return
    const cause = log.causeOf(seq)
    if (how === 0) this.#entries.known += count
    else if (how === 1) this.#entries.inferred += count
    else this.#entries.unknown += count
    if (perm === 0 && how !== 2) {
      row.cleared += count
      row.unmapped += update.live
      if (cause === -1 || cause !== this.#unmapCause) row.unmapCalls++
      this.#unmapCause = cause
    } else {
      row.mapped += count
      if (cause === -1 || cause !== this.#mapCause) row.mapCalls++
      this.#mapCause = cause
      if (how !== 2) this.#runs.add(log, seq, update)
    }
    this.#settle(row)
  }

  /** The window's live entries have changed. */
  #settle(row: Row): void {
    const now = row.shadow.tce.live
    this.#live += now - row.livePages
    this.#liveBytes += (now - row.livePages) * row.pageBytes
    row.livePages = now
    if (now > row.peakPages) row.peakPages = now
    if (this.#live > this.#peak) this.#peak = this.#live
    if (this.#liveBytes > this.#peakBytes) this.#peakBytes = this.#liveBytes
  }

  #seen(log: RecordLog, seq: number): void {
    const verdict = log.slot(seq, SEEN.verdict)
    if (verdict === 1) this.#shown.confirmed++
    else if (verdict === 2) this.#shown.contradicted++
    else if (verdict === 3) this.#shown.learned++
    const row = this.#rowOf(log.slot(seq, SEEN.window) >>> 0)
    if (row !== undefined) this.#settle(row)
  }

  #requested(log: RecordLog, seq: number): void {
    const device = log.slot(seq, REQUEST.device)
    const bytes = log.slot(seq, REQUEST.bytes) >>> 0
    this.#requests++
    this.#bytes += bytes
    if (log.slot(seq, REQUEST.write) === 1) this.#writes++
    let row = this.#devices.get(device)
    if (row === undefined) {
      row = { requests: 0, bytes: 0 }
      this.#devices.set(device, row)
    }
    row.requests++
    row.bytes += bytes
  }

  #returned(log: RecordLog, seq: number): void {
    this.#log = log
    const call = log.slot(seq, RETURN.call)
    const layer = log.slot(seq, RETURN.layer)
    const code = log.slot(seq, RETURN.code)
    const place = call & (RECENT - 1)
    let found = this.#recent[place]
    if (found === undefined || found.call !== call || found.layer !== layer || found.code !== code) {
      found = this.#calls.find((c) => c.call === call && c.layer === layer && c.code === code)
      if (found === undefined) {
        found = { call, layer, code, count: 0 }
        this.#calls.push(found)
      }
      this.#recent[place] = found
    }
    found.count++
  }

  /** What has been counted so far. */
  ledger(): Ledger {
    const windows = this.#order.map(({ shadow, ...row }) => ({
      ...row,
      allowed: shadow.allowed,
      refused: shadow.refused,
    }))
    const { stray, strayRefused, hardware, hardwareRefused } = this.#uses
    const others = stray + hardware
    const othersRefused = strayRefused + hardwareRefused
    const sum = (of: (row: WindowLedger) => number) => windows.reduce((n, row) => n + of(row), 0)
    const shadows = [...this.#rows.values()].map((row) => row.shadow)
    const { domains, translations } = this.#domains.ledger()
    const { reachableBytes, unknownPages } = reachableMemory(this.#log, shadows)
    return {
      windows,
      mapCalls: sum((w) => w.mapCalls),
      mapped: sum((w) => w.mapped),
      unmapCalls: sum((w) => w.unmapCalls),
      cleared: sum((w) => w.cleared),
      unmapped: sum((w) => w.unmapped),
      peakPages: this.#peak,
      peakBytes: this.#peakBytes,
      livePages: this.#live,
      liveBytes: this.#liveBytes,
      reachableBytes,
      unknownPages,
      entries: { ...this.#entries },
      shown: { ...this.#shown },
      runs: this.#runs.lengths(),
      dma: {
        requests: this.#requests,
        reads: this.#requests - this.#writes,
        writes: this.#writes,
        bytes: this.#bytes,
        allowed: sum((w) => w.allowed) + others - othersRefused,
        refused: sum((w) => w.refused) + othersRefused,
        outsideWindows: this.#misses,
        byDevice: this.#byDevice(),
      },
      calls: this.#callCounts(),
      host: this.#host.ledger(),
      domains,
      vtdTranslations: translations,
      vhost: this.#vhost.ledger(),
    }
  }

  #byDevice(): Ledger['dma']['byDevice'] {
    const name = (n: number): string => this.#log?.names.word(n) ?? ''
    return [...this.#devices].map(([n, row]) => ({ device: name(n), ...row })).sort(byWord((d) => d.device))
  }

  #callCounts(): CallCount[] {
    const name = (n: number): string => this.#log?.names.word(n) ?? ''
    return this.#calls
      .map(({ call, layer, code, count }) => ({ call: name(call), layer: name(layer), code, count }))
      .sort((a, b) => byWord<CallCount>((c) => `${c.call} ${c.layer}`)(a, b) || b.code - a.code)
  }
}

const byWord =
  <T>(of: (item: T) => string) =>
  (a: T, b: T): number =>
    of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : 0
