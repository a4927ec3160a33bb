import { assert, IommulatorError } from '../bits/errors.ts'
import type { Journal } from '../bits/state.ts'
import { hiOf, hiOfNumber, loOf, loOfNumber, numberOf, wordOf } from '../bits/u64.ts'
import {
  EVENT_KINDS,
  EVENTS,
  type EventFields,
  type EventKind,
  type FieldType,
  KIND,
  LINE_SLOTS,
  type MachineEvent,
  SLOTS,
  type TraceRecord,
} from './event.ts'
import { Names } from './names.ts'

const CHUNK_SHIFT = 14
const CHUNK_RECORDS = 1 << CHUNK_SHIFT
const NO_CAUSE = -1
/** Of dropped records, a line is remembered for every 16. */
const LINE_STEP = 16
/** Records of one log, dropped ones included: a cause is an int32. */
const RECORDS_MAX = 2 ** 31

/**
 * Lanes of a record: its slots, then kind, cause, mark and tick. A record is one cache line of 64 bytes: sixteen
 * columns instead cost twice as much to write.
 */
const ROW_SHIFT = 4
const ROW_LANES = 1 << ROW_SHIFT
const KIND_LANE = SLOTS
const CAUSE_LANE = SLOTS + 1
const MARK_LANE = SLOTS + 2
const TICK_LANE = SLOTS + 3

/** Sees the records that it asked for, as they are appended. Must not append itself. */
export interface RecordSink {
  readonly kinds: readonly EventKind[]
  see(log: RecordLog, seq: number): void
}

/**
 * The append-only log of all records of a machine, each a row of int32 lanes.
 *
 * `emit` takes the fields of a record by name, `append` as twelve int32 slots (laid out by `slotMap`); what runs
 * with every DMA writes them in place (`begin`, `commit`).
 * Chunks past `keepRecords` are dropped from the old end and used again, so a long run needs bounded memory;
 * `has` says whether a record is still there. Sinks see every record once, when it is appended.
 *
 * @example
 * const log = new RecordLog()
 * const seq = log.emit('window.close', null, { window: 1, liobn: 0x80000000, why: 'reset' })
 * log.read(seq).event.kind // 'window.close'
 */
export class RecordLog {
  readonly names = new Names()
  /** Simulated time that new records get: below 2^32. */
  tick = 0
  /**
   * Line of the input that new records come from, where neither they nor their causes name one. Only a log without a
   * journal remembers it.
   */
  line = 0
  #hasLines = false
  /** Switched off, nothing is recorded and `append` answers the seq that the record would have had. */
  on = true
  /** The rows of each stretch of the log. */
  readonly #chunks: (Int32Array | undefined)[] = []
  /** Of each dropped chunk, a line for every LINE_STEP records: the first that they came from. */
  readonly #lines: Uint32Array[] = []
  /** The chunk that is being filled. */
  #lanes: Int32Array = new Int32Array(CHUNK_RECORDS * ROW_LANES)
  #length = 0
  #firstKept = 0
  readonly #keepChunks: number
  readonly #journal: Journal | undefined
  readonly #sinks: (RecordSink[] | undefined)[] = EVENT_KINDS.map(() => undefined)

  /** @param options.keepRecords at least so many of the newest records are kept; older ones go in chunks */
  constructor(options: { readonly keepRecords?: number; readonly journal?: Journal } = {}) {
    const keep = options.keepRecords ?? 16 * 1024 * 1024
    // One chunk more: the newest one is never full.
    this.#keepChunks = Math.ceil(keep / CHUNK_RECORDS) + 1
    this.#journal = options.journal
    this.#chunks.push(this.#lanes)
  }

  /** Records appended so far, dropped ones included: the seq of the next record. */
  get length(): number {
    return this.#length
  }

  /** Seq of the oldest record that is kept. */
  get firstKept(): number {
    return this.#firstKept
  }

  has(seq: number): boolean {
    return seq >= this.#firstKept && seq < this.#length
  }

  subscribe(sink: RecordSink): void {
    for (const kind of sink.kinds) {
      const list = this.#sinks[KIND[kind]]
      if (list === undefined) this.#sinks[KIND[kind]] = [sink]
      else list.push(sink)
    }
  }

  /** Appends a raw record: kind number, seq of the cause (-1 for none), slots. Answers its seq. */
  append(
    kind: number,
    cause: number,
    s0 = 0,
    s1 = 0,
    s2 = 0,
    s3 = 0,
    s4 = 0,
    s5 = 0,
    s6 = 0,
    s7 = 0,
    s8 = 0,
    s9 = 0,
    s10 = 0,
    s11 = 0,
  ): number {
    if (!this.on) return this.#length
    const at = this.begin(kind, cause)
    const lanes = this.#lanes
    // `| 0` keeps small integers what they are: without it each goes through a double.
    lanes[at] = s0 | 0
    lanes[at + 1] = s1 | 0
    lanes[at + 2] = s2 | 0
    lanes[at + 3] = s3 | 0
    lanes[at + 4] = s4 | 0
    lanes[at + 5] = s5 | 0
    lanes[at + 6] = s6 | 0
    lanes[at + 7] = s7 | 0
    lanes[at + 8] = s8 | 0
    lanes[at + 9] = s9 | 0
    lanes[at + 10] = s10 | 0
    lanes[at + 11] = s11 | 0
    return this.commit(kind)
  }

  /** Where the record that was begun last has its slots. */
  get lanes(): Int32Array {
    return this.#lanes
  }

  /**
   * Begins a record in place, for what runs with every DMA and hypercall: fourteen arguments cost more than
   * fourteen stores. The caller has seen that the log is `on`, writes every slot that the kind declares to
   * `lanes`, from the place that is answered on and as int32, and then ends the record with `commit`.
   */
  begin(kind: number, cause: number): number {
    // Small enough to become part of its callers: all that can wait is in `commit`.
    const lanes = this.#lanes
    const at = (this.#length & (CHUNK_RECORDS - 1)) << ROW_SHIFT
    lanes[at + KIND_LANE] = kind | 0
    lanes[at + CAUSE_LANE] = cause | 0
    lanes[at + TICK_LANE] = this.tick | 0
    return at
  }

  /** Ends the record that was begun, and shows it to the sinks of its kind. Answers its seq. */
  commit(kind: number): number {
    const seq = this.#length
    if (this.#journal !== undefined) this.#mark(seq, this.#journal.mark())
    else if (this.line !== 0 || this.#hasLines) this.#note(seq)
    this.#length = seq + 1
    if ((this.#length & (CHUNK_RECORDS - 1)) === 0) this.#openChunk()
    const sinks = this.#sinks[kind]
    if (sinks !== undefined) this.#show(sinks, seq)
    return seq
  }

  #mark(seq: number, mark: number): void {
    this.#lanes[((seq & (CHUNK_RECORDS - 1)) << ROW_SHIFT) + MARK_LANE] = mark
  }

  #note(seq: number): void {
    this.#hasLines = true
    this.#mark(seq, this.line | 0)
  }

  #show(sinks: readonly RecordSink[], seq: number): void {
    for (let i = 0; i < sinks.length; i++) (sinks[i] as RecordSink).see(this, seq)
  }

  /** Appends a record with its fields by name. */
  emit<K extends EventKind>(kind: K, cause: number | null, fields: EventFields<K>): number {
    const raw = new Array<number>(SLOTS).fill(0)
    let slot = 0
    for (const [name, type] of Object.entries<FieldType>(EVENTS[kind].fields)) {
      const value = (fields as Readonly<Record<string, bigint | number | string>>)[name]
      assert(value !== undefined, `event ${kind} has its field ${name}`)
      if (type === 'u64') {
        raw[slot++] = loOf(value as bigint)
        raw[slot++] = hiOf(value as bigint)
      } else if (type === 'page') {
        raw[slot++] = loOfNumber(value as number)
        raw[slot++] = hiOfNumber(value as number)
      } else if (type === 'name') raw[slot++] = this.names.intern(value as string)
      else raw[slot++] = (value as number) | 0
    }
    return this.append(KIND[kind], cause ?? NO_CAUSE, ...(raw as [number]))
  }

  kindOf(seq: number): EventKind {
    return EVENT_KINDS[this.kindNumberOf(seq)] as EventKind
  }

  /** The number of the record's kind (`KIND`). */
  kindNumberOf(seq: number): number {
    return this.#lane(seq, KIND_LANE)
  }

  /** Seq of the record that led to this one, -1 for none. */
  causeOf(seq: number): number {
    return this.#lane(seq, CAUSE_LANE)
  }

  /** Position of the undo log before the record's own effects came; only where the log has a journal. */
  markOf(seq: number): number {
    return this.#lane(seq, MARK_LANE)
  }

  /** Line of the input that a kept record came from as its producer said beside it; 0 for none. */
  noteOf(seq: number): number {
    return this.#hasLines ? this.#lane(seq, MARK_LANE) >>> 0 : 0
  }

  /** A slot of a kept record, by its place (`slotMap`): for readers on the hot path. */
  slot(seq: number, slot: number): number {
    return this.#lane(seq, slot)
  }

  /**
   * The lanes of all records near a kept one; slot n of the record itself stands at `rowOf(seq) + n`. For readers
   * of several slots on the hot path: one check of `seq` instead of one a slot.
   */
  lanesOf(seq: number): Int32Array {
    return this.#chunkOf(seq)
  }

  rowOf(seq: number): number {
    return (seq & (CHUNK_RECORDS - 1)) << ROW_SHIFT
  }

  tickOf(seq: number): number {
    return this.#lane(seq, TICK_LANE) >>> 0
  }

  /** A kept record as an object. */
  read(seq: number): TraceRecord {
    const kind = this.kindOf(seq)
    const at = (slot: number) => this.slot(seq, slot)
    const event: Record<string, bigint | number | string> = { kind }
    let slot = 0
    for (const [name, type] of Object.entries<FieldType>(EVENTS[kind].fields)) {
      if (type === 'u64') event[name] = wordOf(at(slot + 1), at(slot))
      else if (type === 'page') event[name] = numberOf(at(slot + 1), at(slot))
      else if (type === 'name') event[name] = this.names.word(at(slot))
      else event[name] = type === 'u32' ? at(slot) >>> 0 : at(slot)
      slot += type === 'u64' || type === 'page' ? 2 : 1
    }
    const cause = this.causeOf(seq)
    return {
      seq,
      tick: this.tickOf(seq),
      cause: cause === NO_CAUSE ? null : cause,
      event: event as unknown as MachineEvent,
    }
  }

  /** Kept records [from, end), oldest first. */
  *records(from = this.#firstKept, end = this.#length): Generator<TraceRecord> {
    for (let seq = Math.max(from, this.#firstKept); seq < Math.min(end, this.#length); seq++)
      yield this.read(seq)
  }

  /** Forgets the records from `length` on: only for a machine that goes back. Sinks are not told. */
  truncate(length: number): void {
    assert(length >= this.#firstKept && length <= this.#length, 'the log is cut at a kept record')
    this.#length = length
    this.#chunks.length = (length >>> CHUNK_SHIFT) + 1
    this.#lanes = this.#chunks[length >>> CHUNK_SHIFT] as Int32Array
  }

  #lane(seq: number, lane: number): number {
    return this.#chunkOf(seq)[((seq & (CHUNK_RECORDS - 1)) << ROW_SHIFT) + lane] as number
  }

  #chunkOf(seq: number): Int32Array {
    // No message is made here: this runs for every field that a checker reads.
    if (!this.has(seq)) throw notKept(seq)
    return this.#chunks[seq >>> CHUNK_SHIFT] as Int32Array
  }

  /** The line of the input that a dropped record came from, or one a few records before it; 0 where it is kept or had none. */
  lineNear(seq: number): number {
    if (seq < 0 || seq >= this.#firstKept) return 0
    return this.#lines[seq >>> CHUNK_SHIFT]?.[Math.floor((seq & (CHUNK_RECORDS - 1)) / LINE_STEP)] ?? 0
  }

  /** Makes room for the record that comes next, the first of its chunk. */
  #openChunk(): void {
    const seq = this.#length
    if (seq >= RECORDS_MAX) throw new IommulatorError('ERR_STATE_LIMIT', `more than ${RECORDS_MAX} records`)
    const number = seq >>> CHUNK_SHIFT
    let chunk: Int32Array | undefined
    // While it is still in a cache: when it is dropped it no longer is.
    const full = this.#chunks[number - 1]
    if (full !== undefined) this.#lines[number - 1] = linesOf(full, this.#lines[number - 2]?.at(-1) ?? 0)
    const oldest = number - this.#keepChunks
    if (oldest >= 0) {
      chunk = this.#chunks[oldest]
      this.#chunks[oldest] = undefined
      this.#firstKept = (oldest + 1) << CHUNK_SHIFT
    }
    chunk ??= new Int32Array(CHUNK_RECORDS * ROW_LANES)
    this.#chunks[number] = chunk
    this.#lanes = chunk
  }
}

/** What a chunk leaves behind when it is dropped, and as the last one the line where it ended. @param line the last line before it */
function linesOf(lanes: Int32Array, line: number): Uint32Array {
  const steps = CHUNK_RECORDS / LINE_STEP
  const lines = new Uint32Array(steps + 1)
  let last = line
  for (let n = 0; n <= steps; n++) {
    const first = n * LINE_STEP
    for (let row = Math.min(first, CHUNK_RECORDS - 1); row >= 0 && row > first - LINE_STEP; row--) {
      const own = ownLine(lanes, row)
      if (own === 0) continue
      last = own
      break
    }
    const end = n === steps ? first : first + LINE_STEP
    for (let row = first + 1; last === 0 && row < end; row++) last = ownLine(lanes, row)
    lines[n] = last
  }
  return lines
}

/** The line that a record itself names, 0 for none. */
function ownLine(lanes: Int32Array, row: number): number {
  const at = row << ROW_SHIFT
  const slot = LINE_SLOTS[lanes[at + KIND_LANE] as number] ?? -1
  return slot < 0 ? 0 : (lanes[at + slot] as number) >>> 0
}

const notKept = (seq: number): Error => new Error(`model bug: record ${seq} is not kept`)
