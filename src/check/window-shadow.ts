import { numberOf, wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'
import { type HardwareTable, HardwareTables } from './hardware-tables.ts'
import { EVER, INFERRED, LIVE, Lives, NO_RECORD, RESERVED, UNKNOWN } from './lives.ts'

const OPEN = slotMap('window.open')
const SET = slotMap('tce.set')
const SEEN = slotMap('tce.seen')
const GRANT = slotMap('dma.grant')
const TAKE = slotMap('alloc.take')
const DIRECT = slotMap('dma.direct')
const ADD = slotMap('device.add')
const HW_WINDOW = slotMap('hw.window')
const TCE_SET = KIND['tce.set']
const HW_SET = KIND['hw.set']

/** `pool` of an `alloc.take` of entries that are reserved from the start. */
const POOL_RESERVED = 5
const TCE_PERM = 3
/** Windows are numbered from 1 on; a number past this one is looked up more slowly. */
const DENSE_NUMBERS = 1 << 20
/** `verdict` of a `tce.seen` that changes what is known of the entry. */
const CONFIRMS = 1
const CONTRADICTS = 2
const HOW_INFERRED = 1
const HOW_UNKNOWN = 2

/** Of a window of a PE: which it is, and the table behind it; none where addresses go through as they are. */
export interface HardwarePlace {
  readonly pe: number
  readonly index: number
  readonly table: HardwareTable | undefined
}

/** What records say of one window's life: its shape, and the lives of its entries. */
export class WindowShadow {
  readonly number: number
  readonly liobn: number
  readonly pageShift: number
  /** Its IOMMU page in 4 KiB. */
  readonly units: number
  readonly busOffset: bigint
  readonly entries: number
  /** Interned name of the PHB or VIO bus. */
  readonly unit: number
  /** Record that opened it; NO_RECORD where the log begins later. */
  readonly openedBy: number
  /** Translations in the table: a life begins with a live TCE and ends with a clear one. */
  readonly tce: Lives
  /** A window of a PE, not of a guest. Several may share a table, and then its lives. */
  readonly hardware: HardwarePlace | undefined
  /** In words what stands for the LIOBN where there is none. */
  readonly place: string | undefined
  /** Grants of the DMA API; none where there was no grant yet, and then the live TCE is the grant. */
  grants: Lives | undefined
  /** Entries that the allocator has marked as used; none where the window has no allocator. */
  alloc: Lives | undefined
  /** Record by which the DMA API gave direct access through this window, or NO_RECORD. */
  directBy = NO_RECORD
  /** Translations through it that were allowed, and that were refused. */
  allowed = 0
  refused = 0

  constructor(shape: {
    number: number
    liobn: number
    pageShift: number
    busOffset: bigint
    entries: number
    unit: number
    openedBy: number
    hardware?: HardwarePlace
    place?: string
  }) {
    this.number = shape.number
    this.liobn = shape.liobn
    this.pageShift = shape.pageShift
    this.units = 2 ** (shape.pageShift - 12)
    this.busOffset = shape.busOffset
    this.entries = shape.entries
    this.unit = shape.unit
    this.openedBy = shape.openedBy
    this.hardware = shape.hardware
    this.place = shape.place
    this.tce = shape.hardware?.table?.tce ?? new Lives(shape.entries)
  }

  /** A window of a PE without a table: the kernel's own way to all memory. */
  get isBypass(): boolean {
    return this.hardware !== undefined && this.hardware.table === undefined
  }

  /** It maps memory as a whole, without grants for single entries. */
  get isDirect(): boolean {
    return this.directBy !== NO_RECORD
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

const NO_WINDOW = new WindowShadow({
  number: -1,
  liobn: 0,
  pageShift: 12,
  busOffset: 0n,
  entries: 0,
  unit: 0,
  openedBy: NO_RECORD,
})

/** A `tce.set` record, read once for all that want to know of it. */
export interface TceUpdate {
  readonly window: WindowShadow
  /** Entries that it writes inside the table: [first, end). */
  readonly first: number
  readonly end: number
  /** Entries that it writes or would write, those outside the table included. */
  readonly count: number
  /** Permissions that it gives; 0 where it clears. */
  readonly perm: number
  /** 0 seen, 1 inferred, 2 unknown. */
  readonly how: number
  /** Of the entries that it writes, how many were live before, unknown before, and ever live or unknown. */
  readonly live: number
  readonly unknown: number
  readonly ever: number
}

/**
 * The shadow of all windows, kept by records alone and shared by the checkers.
 *
 * Subscribe it behind them: a checker then meets the state before the record that it sees. What reads the
 * state after a record (the ledger) comes behind the shadow.
 */
export class WindowShadows implements RecordSink {
  readonly kinds: readonly EventKind[] = [
    'window.open',
    'window.close',
    'window.move',
    'tce.set',
    'tce.seen',
    'dma.grant',
    'dma.revoke',
    'dma.direct',
    'alloc.take',
    'alloc.free',
    'device.add',
    'hw.table',
    'hw.ref',
    'hw.set',
    'hw.window',
  ]
  /** The hardware tables, and all windows of PEs that lead to one or bypass them. */
  readonly hardware = new HardwareTables()
  readonly #open = new Map<number, WindowShadow>()
  readonly #unitOf = new Map<number, number>()
  /** The same by number, where numbers are small: for what runs with every DMA. */
  readonly #dense: (WindowShadow | undefined)[] = []
  /** What each window of a PE does now, by unit, PE and index. */
  readonly #programmed = new Map<string, WindowShadow>()
  /** Windows of PEs whose number is large. */
  readonly #far = new Map<number, WindowShadow>()
  /** Table updates seen. */
  updates = 0
  readonly #update: Mutable<TceUpdate> = {
    window: NO_WINDOW,
    first: 0,
    end: 0,
    count: 0,
    perm: 0,
    how: 0,
    live: 0,
    unknown: 0,
    ever: 0,
  }
  #updateSeq = NO_RECORD

  /** The window of a number, of a guest or of a PE, or undefined where it is closed or was never opened. */
  find(number: number): WindowShadow | undefined {
    return number < DENSE_NUMBERS ? this.#dense[number] : (this.#open.get(number) ?? this.#far.get(number))
  }

  /** Open windows of guests, oldest first. */
  all(): Iterable<WindowShadow> {
    return this.#open.values()
  }

  /** The open windows that a `dma.direct` record speaks of: those at its offset below the device's unit that no allocator owns. */
  *directOf(log: RecordLog, seq: number): Generator<WindowShadow> {
    const offset = wordOf(log.slot(seq, DIRECT.offset + 1), log.slot(seq, DIRECT.offset))
    const unit = this.#unitOf.get(log.slot(seq, DIRECT.device))
    for (const window of this.#open.values()) {
      if (window.busOffset !== offset || window.alloc !== undefined || window.grants !== undefined) continue
      if (unit === undefined || unit === window.unit) yield window
    }
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === TCE_SET) this.#set(log, seq)
    else if (kind === HW_SET || kind === KIND['hw.table'] || kind === KIND['hw.ref'])
      this.hardware.see(log, seq)
    else if (kind === KIND['hw.window']) this.#program(log, seq)
    else if (kind === KIND['window.open']) this.#opened(log, seq)
    else if (kind === KIND['device.add']) this.#unitOf.set(log.slot(seq, ADD.device), log.slot(seq, ADD.unit))
    else if (kind === KIND['dma.direct']) for (const w of this.directOf(log, seq)) w.directBy = seq
    else this.#change(kind, log, seq)
  }

  /** The window that a `hw.window` record is about, as it was before it; or undefined. */
  programmed(log: RecordLog, seq: number): WindowShadow | undefined {
    return this.#programmed.get(placeOf(log, seq))
  }

  /** The other one of the two windows that the PE of a `hw.window` record has; or undefined. */
  beside(log: RecordLog, seq: number): WindowShadow | undefined {
    return this.#programmed.get(placeOf(log, seq, log.slot(seq, HW_WINDOW.index) ^ 1))
  }

  #program(log: RecordLog, seq: number): void {
    const before = this.programmed(log, seq)
    if (before !== undefined) this.#unprogram(before, seq)
    const number = log.slot(seq, HW_WINDOW.window) >>> 0
    if (number === 0) {
      this.#programmed.delete(placeOf(log, seq))
      return
    }
    const table = this.hardware.find(log.slot(seq, HW_WINDOW.table) >>> 0)
    const [unit, pe] = [log.slot(seq, HW_WINDOW.unit), log.slot(seq, HW_WINDOW.pe) >>> 0]
    const window = new WindowShadow({
      number,
      liobn: 0,
      pageShift: table?.pageShift ?? 12,
      busOffset: table?.busOffset ?? 0n,
      entries: table?.entries ?? 0,
      unit,
      openedBy: seq,
      hardware: { pe, index: log.slot(seq, HW_WINDOW.index) >>> 0, table },
      place: `PE ${pe} of ${log.names.word(unit)}`,
    })
    table?.windows.push(window)
    this.#programmed.set(placeOf(log, seq), window)
    if (number < DENSE_NUMBERS) this.#dense[number] = window
    else this.#far.set(number, window)
  }

  #unprogram(window: WindowShadow, seq: number): void {
    if (window.number < DENSE_NUMBERS) this.#dense[window.number] = undefined
    this.#far.delete(window.number)
    const table = window.hardware?.table
    if (table === undefined) return
    table.windows.splice(table.windows.indexOf(window), 1)
    table.unlinkedBy = seq
  }

  #opened(log: RecordLog, seq: number): void {
    const number = log.slot(seq, OPEN.window) >>> 0
    const window = new WindowShadow({
      number,
      liobn: log.slot(seq, OPEN.liobn) >>> 0,
      pageShift: log.slot(seq, OPEN.pageShift),
      busOffset: wordOf(log.slot(seq, OPEN.busOffset + 1), log.slot(seq, OPEN.busOffset)),
      entries: pageSlot(log, seq, OPEN.entries),
      unit: log.slot(seq, OPEN.unit),
      openedBy: seq,
    })
    this.#open.set(number, window)
    if (number < DENSE_NUMBERS) this.#dense[number] = window
  }

  /**
   * What a `tce.set` record does, and what its entries were before it: right for the record that is seen now,
   * before and after the shadow has changed. Undefined where its window is not open. The object is used again.
   */
  update(log: RecordLog, seq: number): TceUpdate | undefined {
    const update = this.#update
    if (this.#updateSeq !== seq) {
      this.#updateSeq = seq
      const lanes = log.lanesOf(seq)
      const row = log.rowOf(seq)
      const window = this.find((lanes[row + SET.window] as number) >>> 0) ?? NO_WINDOW
      update.window = window
      if (window === NO_WINDOW) return undefined
      const first = numberOf(lanes[row + SET.first + 1] as number, lanes[row + SET.first] as number)
      const count = numberOf(lanes[row + SET.count + 1] as number, lanes[row + SET.count] as number)
      update.first = first
      update.count = count
      update.end = Math.max(first, Math.min(first + count, window.entries))
      update.how = lanes[row + SET.how] as number
      update.perm = (lanes[row + SET.tce] as number) & TCE_PERM
      this.#before(update)
    }
    return update.window === NO_WINDOW ? undefined : update
  }

  #before(update: Mutable<TceUpdate>): void {
    const { tce } = update.window
    if (update.end - update.first === 1 && update.end <= 2 ** 31) {
      const state = tce.stateAt(0, update.first)
      update.live = (state & LIVE) === 0 ? 0 : 1
      update.unknown = (state & UNKNOWN) === 0 ? 0 : 1
      update.ever = (state & EVER) === 0 ? 0 : 1
      return
    }
    tce.scan(update.first, update.end)
    update.live = tce.scannedLive
    update.unknown = tce.scannedUnknown
    update.ever = tce.scannedEver
  }

  #set(log: RecordLog, seq: number): void {
    this.updates++
    const update = this.update(log, seq)
    if (update === undefined) return
    const { window, first, end, perm, how } = update
    if (how === HOW_UNKNOWN) window.tce.begin(first, end, seq, UNKNOWN | INFERRED)
    else if (perm === 0) window.tce.end(first, end, seq)
    else window.tce.begin(first, end, seq, LIVE | perm | (how === HOW_INFERRED ? INFERRED : 0))
  }

  #change(kind: number, log: RecordLog, seq: number): void {
    const window = this.find(log.slot(seq, 0) >>> 0)
    if (window === undefined) return
    if (kind === KIND['tce.seen']) this.#seen(window, log, seq)
    else if (kind === KIND['window.close']) {
      this.#open.delete(window.number)
      if (window.number < DENSE_NUMBERS) this.#dense[window.number] = undefined
    } else if (kind === KIND['window.move']) {
      if (log.slot(seq, 2) === HOW_INFERRED) window.tce.doubtAll()
    } else {
      // Grants and allocations: all of them have first and count in the same slots.
      const first = pageSlot(log, seq, GRANT.first)
      const end = Math.min(first + pageSlot(log, seq, GRANT.count), window.entries)
      if (kind === KIND['dma.grant']) {
        window.grants ??= new Lives(window.entries)
        window.grants.begin(first, end, seq, LIVE | (log.slot(seq, GRANT.dir) & TCE_PERM))
      } else if (kind === KIND['dma.revoke']) window.grants?.end(first, end, seq)
      else if (kind === KIND['alloc.take']) {
        window.alloc ??= new Lives()
        const isReserved = log.slot(seq, TAKE.pool) === POOL_RESERVED
        window.alloc.begin(first, end, seq, isReserved ? LIVE | RESERVED : LIVE)
      } else window.alloc?.end(first, end, seq)
    }
  }

  /** A log shows an entry. Seen empty against what was thought, it is unknown how it became so. */
  #seen(window: WindowShadow, log: RecordLog, seq: number): void {
    const verdict = log.slot(seq, SEEN.verdict)
    const entry = pageSlot(log, seq, SEEN.entry)
    if (entry >= window.entries) return
    if (verdict === CONFIRMS) window.tce.doubt(entry, false)
    else if (verdict >= CONTRADICTS) {
      const perm = log.slot(seq, SEEN.tce) & TCE_PERM
      window.tce.begin(entry, entry + 1, seq, perm === 0 ? UNKNOWN | INFERRED : LIVE | perm)
    }
  }
}

/** Which window of which PE a `hw.window` record is about; or the window `index` of that PE. */
const placeOf = (log: RecordLog, seq: number, index = log.slot(seq, HW_WINDOW.index)): string =>
  `${log.slot(seq, HW_WINDOW.unit)} ${log.slot(seq, HW_WINDOW.pe)} ${index}`

/** The number in two neighbouring slots of a record. */
export const pageSlot = (log: RecordLog, seq: number, slot: number): number =>
  numberOf(log.slot(seq, slot + 1), log.slot(seq, slot))
