import { hex, wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import { NONE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import type { RuleId } from './rules.ts'
import { NEVER } from './vtd-flushes.ts'

const REGISTERS = 'unit-registers'
const DESCRIPTOR = 'reserved-descriptor'
const R = slotMap('vtd.register')
const FAULT = slotMap('vtd.fault')
const EVENT = slotMap('vtd.event')
const REFUSE = slotMap('vtd.refuse')
// Offsets of registers. (VT-d manual, Register Descriptions)
const CAP = 0x08
const FSTS = 0x34
const IQH = 0x80
const IQT = 0x88
const IQA = 0x90
const ICS = 0x9c
const PQH = 0xc0
const PQT = 0xc8
const PQA = 0xd0
const PRS = 0xdc
/** The lowest place of fault recording registers. */
const FIRST_RECORD = 0x100
const PPF = 2n
const QUEUE_SIZE = 7n
const QUEUE_PAGE_BYTES = 4096
/** DW of the queue address: descriptors of 256 bits. */
const WIDE = 1n << 11n
const NARROW_BYTES = 16
const WIDE_BYTES = 32
const RECORD_BYTES = 16
/** Reasons (IQEI) that are faults of a descriptor: its type, a reserved field, its width. */
const OF_DESCRIPTOR = [3, 4, 5]

const EVENTS = ['fault', 'invalidation', 'page-request']
/** Registers whose writes clear what an event told of. */
const CLEARING: Readonly<Record<string, number>> = { invalidation: ICS, 'page-request': PRS }

/** What accesses to registers matter to: the invalidation queue, the page request queue and its event, all. */
const OF_INVALIDATIONS = 1
const OF_REQUESTS = 2
const OF_ALL = -1
const PARTS: Readonly<Record<number, number>> = {
  [IQH]: OF_INVALIDATIONS,
  [IQT]: OF_INVALIDATIONS,
  [IQA]: OF_INVALIDATIONS,
  [PQH]: OF_REQUESTS,
  [PQT]: OF_REQUESTS,
  [PQA]: OF_REQUESTS,
  [PRS]: OF_REQUESTS,
}

/** A queue as its address register has it. */
interface Queue {
  readonly bytes: number
  readonly entryBytes: number
}

interface Unit {
  readonly number: number
  /** Fault recording registers: where they begin, and how many there are; 0 where nobody has read the capabilities. */
  faultsAt: number
  faults: number
  /** Registers that hold a fault, and the record of it. */
  readonly recorded: Map<number, number>
  invalidations: Queue | undefined
  requests: Queue | undefined
  /** The last interrupt of each event, and whether it was sent; gone when software has cleared the status behind it. */
  readonly events: Map<string, { readonly seq: number; readonly sent: number }>
}

/** Judges what registers of VT-d units say, and what queues refuse: `unit-registers` and `reserved-descriptor`. */
export class VtdRegisters extends ListedChecker {
  readonly rules: readonly RuleId[] = [REGISTERS, DESCRIPTOR]
  readonly kinds: readonly EventKind[] = ['vtd.register', 'vtd.fault', 'vtd.event', 'vtd.refuse']
  readonly #units = new Map<number, Unit>()

  see(log: RecordLog, seq: number): void {
    const unit = this.#unitOf(log.slot(seq, 0))
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.register']) this.#register(log, seq, unit)
    else if (kind === KIND['vtd.fault']) {
      const record = log.slot(seq, FAULT.record) >>> 0
      if (record !== NONE) unit.recorded.set(record, seq)
    } else if (kind === KIND['vtd.event']) this.#event(log, seq, unit)
    else this.#refused(log, seq, unit)
  }

  heeds(log: RecordLog, seq: number): number {
    if (log.kindNumberOf(seq) !== KIND['vtd.register']) return OF_ALL
    return PARTS[log.slot(seq, R.offset)] ?? OF_ALL
  }

  #unitOf(number: number): Unit {
    let unit = this.#units.get(number)
    if (unit === undefined) {
      unit = {
        number,
        faultsAt: 0,
        faults: 0,
        recorded: new Map(),
        invalidations: undefined,
        requests: undefined,
        events: new Map(),
      }
      this.#units.set(number, unit)
    }
    return unit
  }

  #register(log: RecordLog, seq: number, unit: Unit): void {
    const offset = log.slot(seq, R.offset)
    const value = wordOf(log.slot(seq, R.value + 1), log.slot(seq, R.value))
    if (log.slot(seq, R.write) === 1) this.#write(log, seq, unit, offset, value)
    else this.#readOf(log, seq, unit, offset, value)
  }

  #write(log: RecordLog, seq: number, unit: Unit, offset: number, value: bigint): void {
    if (offset === IQA) unit.invalidations = queueOf(value, (value & WIDE) !== 0n ? WIDE_BYTES : NARROW_BYTES)
    else if (offset === PQA) unit.requests = queueOf(value, NARROW_BYTES)
    else if (offset === IQT) this.#place(log, seq, unit, { queue: unit.invalidations, value, what: 'IQT' })
    else if (offset === PQH) this.#place(log, seq, unit, { queue: unit.requests, value, what: 'PQH' })
    else if (offset === PQT) this.#place(log, seq, unit, { queue: unit.requests, value, what: 'PQT' })
    for (const [event, at] of Object.entries(CLEARING)) if (offset === at) unit.events.delete(event)
    if (offset === FSTS) unit.events.delete('fault')
    const bytes = log.slot(seq, R.bytes)
    // F is the highest bit of the register.
    if (((value >> BigInt(bytes * 8 - 1)) & 1n) === 0n) return
    const record = this.#recordAt(unit, offset, bytes)
    if (record >= 0) unit.recorded.delete(record)
    // Where the registers are not known to be elsewhere, it may be one of them.
    if (record >= 0 || (unit.faults === 0 && offset >= FIRST_RECORD)) unit.events.delete('fault')
  }

  #readOf(log: RecordLog, seq: number, unit: Unit, offset: number, value: bigint): void {
    if (offset === CAP && log.slot(seq, R.bytes) === 8) {
      unit.faultsAt = Number((value >> 24n) & 0x3ffn) * RECORD_BYTES
      unit.faults = Number((value >> 40n) & 0xffn) + 1
    } else if (offset === IQH) this.#place(log, seq, unit, { queue: unit.invalidations, value, what: 'IQH' })
    else if (offset === PQT) this.#place(log, seq, unit, { queue: unit.requests, value, what: 'PQT' })
    else if (offset === FSTS && unit.faults > 0) {
      const shown = (value & PPF) !== 0n
      if (shown === unit.recorded.size > 0) return
      const [held = NEVER] = unit.recorded.values()
      const message = shown
        ? `FSTS (${hex(value)}) says that a fault is recorded, and no register holds one`
        : `FSTS (${hex(value)}) says that no fault is recorded, and register ${[...unit.recorded.keys()][0]} holds one`
      this.#found(log, unit, { message, entry: FSTS, seqs: [held, seq] })
    } else {
      const record = this.#recordAt(unit, offset, log.slot(seq, R.bytes))
      if (record < 0) return
      const shown = value >> BigInt(log.slot(seq, R.bytes) * 8 - 1) === 1n
      const held = unit.recorded.get(record)
      if (shown === (held !== undefined)) return
      const says = shown
        ? 'holds a fault that no request had'
        : 'does not hold the fault that was recorded there'
      const message = `fault recording register ${record} ${says}`
      this.#found(log, unit, { message, entry: offset, seqs: [held ?? NEVER, seq] })
    }
  }

  /** The fault recording register whose F an access reaches; -1 for none. */
  #recordAt(unit: Unit, offset: number, bytes: number): number {
    const at = offset - unit.faultsAt
    if (unit.faults === 0 || at < 0 || at >= unit.faults * RECORD_BYTES) return -1
    const end = (at % RECORD_BYTES) + bytes
    return end === RECORD_BYTES ? Math.floor(at / RECORD_BYTES) : -1
  }

  /** A head or a tail must be a place of its queue. */
  #place(
    log: RecordLog,
    seq: number,
    unit: Unit,
    { queue, value, what }: { queue: Queue | undefined; value: bigint; what: string },
  ): void {
    if (queue === undefined) return
    const place = Number(value)
    if (place < queue.bytes && place % queue.entryBytes === 0) return
    const where =
      place >= queue.bytes ? `outside the queue of ${hex(queue.bytes)} bytes` : 'between two entries'
    const message = `${what} is ${hex(value)}, ${where}`
    this.#found(log, unit, { message, entry: log.slot(seq, R.offset), seqs: [seq] })
  }

  #event(log: RecordLog, seq: number, unit: Unit): void {
    const name = log.names.word(log.slot(seq, EVENT.event))
    const sent = log.slot(seq, EVENT.sent)
    const last = unit.events.get(name)
    unit.events.set(name, { seq, sent })
    // What was pending is sent when software unmasks it.
    if (last === undefined || (last.sent === 0 && sent === 1)) return
    const message = `${log.names.word(unit.number)} raises the ${name} event again, though software has not cleared what the last one told of`
    this.#found(log, unit, { message, entry: -1 - EVENTS.indexOf(name), seqs: [last.seq, seq] })
  }

  #refused(log: RecordLog, seq: number, unit: Unit): void {
    const reason = log.slot(seq, REFUSE.reason)
    if (!OF_DESCRIPTOR.includes(reason)) return
    const key = {
      rule: DESCRIPTOR,
      window: unit.number,
      entry: log.slot(seq, REFUSE.lo),
      by: log.slot(seq, REFUSE.hi),
      ended: log.slot(seq, REFUSE.lo + 1),
      outcome: reason,
    }
    if (this.list.again(key)) return
    const lo = wordOf(log.slot(seq, REFUSE.lo + 1), log.slot(seq, REFUSE.lo))
    const hi = wordOf(log.slot(seq, REFUSE.hi + 1), log.slot(seq, REFUSE.hi))
    const message = `software submits the descriptor ${hex(lo)} ${hex(hi)}, which ${log.names.word(unit.number)} refuses`
    this.list.add({ rule: DESCRIPTOR, message, because: because(this.scene(log), seq), inferred: false })
  }

  #found(
    log: RecordLog,
    unit: Unit,
    { message, entry, seqs }: { message: string; entry: number; seqs: readonly number[] },
  ): void {
    const key = { rule: REGISTERS, window: unit.number, entry, by: NEVER, ended: NEVER }
    if (this.list.again(key)) return
    this.list.add({
      rule: REGISTERS,
      message,
      because: because(this.scene(log), ...seqs),
      inferred: false,
    })
  }
}

const queueOf = (value: bigint, entryBytes: number): Queue => ({
  bytes: QUEUE_PAGE_BYTES << Number(value & QUEUE_SIZE),
  entryBytes,
})
