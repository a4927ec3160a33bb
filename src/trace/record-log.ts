import { assert } from '../bits/errors.ts'
import type { Journal } from '../bits/state.ts'
import { hiOf, hiOfNumber, loOf, loOfNumber, numberOf, wordOf } from '../bits/u64.ts'
import {
  EVENT_KINDS,
  EVENTS,
  type EventFields,
  type EventKind,
  type FieldType,
  KIND,
  type MachineEvent,
  SLOTS,
  type TraceRecord,
} from './event.ts'
import { Names } from './names.ts'

const CHUNK_SHIFT = 14
const CHUNK_RECORDS = 1 << CHUNK_SHIFT
const NO_CAUSE = -1

/** Records of one stretch of the log, a column for each part. Slot n of row i is `slots[n][i]`. */
export interface Chunk {
  readonly first: number
  readonly kinds: Uint8Array
  readonly causes: Int32Array
  readonly ticks: Float64Array
  readonly marks: Int32Array
  readonly slots: readonly Int32Array[]
}

/** Sees the records that it asked for, as they are appended. Must not append itself. */
export interface RecordSink {
  readonly kinds: readonly EventKind[]
  see(log: RecordLog, seq: number): void
}

const newChunk = (first: number): Chunk => ({
  first,
  kinds: new Uint8Array(CHUNK_RECORDS),
  causes: new Int32Array(CHUNK_RECORDS),
  ticks: new Float64Array(CHUNK_RECORDS),
  marks: new Int32Array(CHUNK_RECORDS),
  slots: Array.from({ length: SLOTS }, () => new Int32Array(CHUNK_RECORDS)),
})

/**
 * The append-only, columnar log of all records of a machine.
 *
 * `append` is the hot way in (twelve int32 slots, laid out by `slotMap`); `emit` takes the fields by name.
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
  /** Simulated time that new records get. */
  tick = 0
  /** Switched off, nothing is recorded and `append` answers the seq that the record would have had. */
  on = true
  readonly #chunks: (Chunk | undefined)[] = []
  #current: Chunk | undefined
  #length = 0
  #firstKept = 0
  readonly #keepChunks: number
  readonly #journal: Journal | undefined
  readonly #sinks: (RecordSink[] | undefined)[] = EVENT_KINDS.map(() => undefined)

  constructor(options: { readonly keepRecords?: number; readonly journal?: Journal } = {}) {
    const keep = options.keepRecords ?? 16 * 1024 * 1024
    this.#keepChunks = Math.max(2, Math.ceil(keep / CHUNK_RECORDS))
    this.#journal = options.journal
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
    const seq = this.#length
    if (!this.on) return seq
    const row = seq & (CHUNK_RECORDS - 1)
    const chunk = row === 0 || this.#current === undefined ? this.#chunkFor(seq) : this.#current
    const slots = chunk.slots
    chunk.kinds[row] = kind
    chunk.causes[row] = cause
    chunk.ticks[row] = this.tick
    if (this.#journal !== undefined) chunk.marks[row] = this.#journal.mark()
    ;(slots[0] as Int32Array)[row] = s0
    ;(slots[1] as Int32Array)[row] = s1
    ;(slots[2] as Int32Array)[row] = s2
    ;(slots[3] as Int32Array)[row] = s3
    ;(slots[4] as Int32Array)[row] = s4
    ;(slots[5] as Int32Array)[row] = s5
    ;(slots[6] as Int32Array)[row] = s6
    ;(slots[7] as Int32Array)[row] = s7
    ;(slots[8] as Int32Array)[row] = s8
    ;(slots[9] as Int32Array)[row] = s9
    ;(slots[10] as Int32Array)[row] = s10
    ;(slots[11] as Int32Array)[row] = s11
    this.#length = seq + 1
    const sinks = this.#sinks[kind]
    if (sinks !== undefined) for (let i = 0; i < sinks.length; i++) (sinks[i] as RecordSink).see(this, seq)
    return seq
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

  /** The columns that hold a kept record, and its row in them: for readers on the hot path. */
  chunkOf(seq: number): Chunk {
    const chunk = this.#chunks[seq >>> CHUNK_SHIFT]
    assert(chunk !== undefined && this.has(seq), `record ${seq} is kept`)
    return chunk
  }

  rowOf(seq: number): number {
    return seq & (CHUNK_RECORDS - 1)
  }

  kindOf(seq: number): EventKind {
    return EVENT_KINDS[this.chunkOf(seq).kinds[this.rowOf(seq)] as number] as EventKind
  }

  /** Seq of the record that led to this one, -1 for none. */
  causeOf(seq: number): number {
    return this.chunkOf(seq).causes[this.rowOf(seq)] as number
  }

  /** Position of the undo log before the record's own effects came; only where the log has a journal. */
  markOf(seq: number): number {
    return this.chunkOf(seq).marks[this.rowOf(seq)] as number
  }

  slot(seq: number, slot: number): number {
    return (this.chunkOf(seq).slots[slot] as Int32Array)[this.rowOf(seq)] as number
  }

  /** A kept record as an object. */
  read(seq: number): TraceRecord {
    const chunk = this.chunkOf(seq)
    const row = this.rowOf(seq)
    const kind = EVENT_KINDS[chunk.kinds[row] as number] as EventKind
    const at = (slot: number) => (chunk.slots[slot] as Int32Array)[row] as number
    const event: Record<string, bigint | number | string> = { kind }
    let slot = 0
    for (const [name, type] of Object.entries<FieldType>(EVENTS[kind].fields)) {
      if (type === 'u64') event[name] = wordOf(at(slot + 1), at(slot))
      else if (type === 'page') event[name] = numberOf(at(slot + 1), at(slot))
      else if (type === 'name') event[name] = this.names.word(at(slot))
      else event[name] = type === 'u32' ? at(slot) >>> 0 : at(slot)
      slot += type === 'u64' || type === 'page' ? 2 : 1
    }
    const cause = chunk.causes[row] as number
    return {
      seq,
      tick: chunk.ticks[row] as number,
      cause: cause === NO_CAUSE ? null : cause,
      event: event as unknown as MachineEvent,
    }
  }

  /** Kept records [from, end), oldest first. */
  *records(from = this.#firstKept, end = this.#length): Generator<TraceRecord> {
    for (let seq = Math.max(from, this.#firstKept); seq < end; seq++) yield this.read(seq)
  }

  /** Forgets the records from `length` on: only for a machine that goes back. Sinks are not told. */
  truncate(length: number): void {
    assert(length >= this.#firstKept && length <= this.#length, 'the log is cut at a kept record')
    this.#length = length
    const last = (length - 1) >>> CHUNK_SHIFT
    this.#chunks.length = Math.max(0, length === 0 ? 0 : last + 1)
    this.#current = length === 0 ? undefined : this.#chunks[last]
  }

  #chunkFor(seq: number): Chunk {
    const number = seq >>> CHUNK_SHIFT
    let chunk: Chunk | undefined
    const oldest = number - this.#keepChunks
    if (oldest >= 0) {
      const dropped = this.#chunks[oldest]
      this.#chunks[oldest] = undefined
      this.#firstKept = (oldest + 1) << CHUNK_SHIFT
      if (dropped !== undefined) chunk = { ...dropped, first: seq }
    }
    chunk ??= newChunk(seq)
    this.#chunks[number] = chunk
    this.#current = chunk
    return chunk
  }
}
