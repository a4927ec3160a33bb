import { numberOf, wordOf } from '../bits/u64.ts'
import { KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { LIVE, Lives, NO_RECORD } from './lives.ts'
import type { WindowShadow } from './window-shadow.ts'

const TABLE = slotMap('hw.table')
const REF = slotMap('hw.ref')
const SET = slotMap('hw.set')
const ENTER = slotMap('call.enter')
const HW_SET = KIND['hw.set']
const CALL_ENTER = KIND['call.enter']
const TCE_PERM = 3
/** Tables are numbered from 1 on; a number past this one is looked up more slowly. */
const DENSE_NUMBERS = 1 << 20
const CAUSES_MAX = 64

/** What records say of one hardware TCE table: its shape, its entries, who holds it. */
export class HardwareTable {
  readonly number: number
  readonly pageShift: number
  readonly levels: number
  readonly busOffset: bigint
  readonly entries: number
  /** 4 KiB bus page of the first entry, and those in an entry. */
  readonly firstPage: number
  readonly units: number
  /** The kernel made it for itself: nobody pays for it. */
  readonly isKernels: boolean
  /** Record that made it, and the interned `process:cpu` in whose call that was; 0 outside of calls. */
  readonly madeBy: number
  readonly maker: number
  /** Its entries: a life begins with a TCE that permits something. */
  readonly tce: Lives
  references = 1
  /** Record of the last change of `references`, and of the last window that led here and went. */
  referredBy: number
  unlinkedBy = NO_RECORD
  /** Windows of PEs that lead to it. */
  readonly windows: WindowShadow[] = []
  /** References of each holder (interned), less those it gave back. That of who made the table is nobody's. */
  readonly holders = new Map<number, number>()

  constructor(log: RecordLog, seq: number) {
    const at = (slot: number) => log.slot(seq, slot)
    this.number = at(TABLE.table) >>> 0
    this.pageShift = at(TABLE.pageShift)
    this.levels = at(TABLE.levels)
    this.busOffset = wordOf(at(TABLE.busOffset + 1), at(TABLE.busOffset))
    this.entries = numberOf(at(TABLE.entries + 1), at(TABLE.entries))
    this.firstPage = Number(this.busOffset >> 12n)
    this.units = 2 ** (this.pageShift - 12)
    this.isKernels = (at(TABLE.charged) | at(TABLE.charged + 1)) === 0
    this.madeBy = seq
    this.referredBy = seq
    this.maker = callerOf(log, seq)
    this.tce = new Lives(this.entries)
  }
}

/**
 * The shadow of all hardware TCE tables, kept by records alone. A table that was freed is forgotten, unless a
 * window still leads to it.
 */
export class HardwareTables {
  readonly #tables = new Map<number, HardwareTable>()
  /** The same by number, where numbers are small: for what runs with every entry. */
  readonly #dense: (HardwareTable | undefined)[] = []

  /** The table of a number, or undefined where none was made or it is freed. */
  find(number: number): HardwareTable | undefined {
    return number < DENSE_NUMBERS ? this.#dense[number] : this.#tables.get(number)
  }

  /** Tables that are not freed, oldest first. */
  all(): Iterable<HardwareTable> {
    return this.#tables.values()
  }

  /** Takes a `hw.table`, `hw.ref` or `hw.set` record in. */
  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === HW_SET) this.#set(log, seq)
    else if (kind === KIND['hw.table']) {
      const table = new HardwareTable(log, seq)
      this.#tables.set(table.number, table)
      if (table.number < DENSE_NUMBERS) this.#dense[table.number] = table
    } else this.#refer(log, seq)
  }

  #set(log: RecordLog, seq: number): void {
    const lanes = log.lanesOf(seq)
    const row = log.rowOf(seq)
    const table = this.find((lanes[row] as number) >>> 0)
    if (table === undefined) return
    const entry = numberOf(lanes[row + SET.entry + 1] as number, lanes[row + SET.entry] as number)
    const count = numberOf(lanes[row + SET.count + 1] as number, lanes[row + SET.count] as number)
    const end = Math.min(entry + count, table.entries)
    if (entry >= end) return
    const perm = (lanes[row + SET.tce] as number) & TCE_PERM
    if (perm === 0) table.tce.end(entry, end, seq)
    else table.tce.begin(entry, end, seq, LIVE | perm)
  }

  #refer(log: RecordLog, seq: number): void {
    const table = this.find(log.slot(seq, REF.table) >>> 0)
    if (table === undefined) return
    table.references = log.slot(seq, REF.references)
    table.referredBy = seq
    const holder = log.slot(seq, REF.holder)
    table.holders.set(holder, (table.holders.get(holder) ?? 0) + log.slot(seq, REF.delta))
    if (table.references > 0) return
    this.#tables.delete(table.number)
    if (table.number < DENSE_NUMBERS) this.#dense[table.number] = undefined
  }
}

/** Interned `process:cpu` of the outermost call around a record, 0 where it is in none. Allocates nothing. */
export function callerOf(log: RecordLog, seq: number): number {
  let caller = 0
  let at = log.causeOf(seq)
  for (let n = 0; n < CAUSES_MAX && at !== NO_RECORD && log.has(at); n++) {
    if (log.kindNumberOf(at) === CALL_ENTER) caller = log.slot(at, ENTER.by)
    at = log.causeOf(at)
  }
  return caller
}

/** The process of a `process:cpu`. */
export function processOf(log: RecordLog, caller: number): string {
  const word = log.names.word(caller)
  const colon = word.lastIndexOf(':')
  return colon < 0 ? word : word.slice(0, colon)
}
