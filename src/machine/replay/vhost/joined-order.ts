import type { LogBatch } from '../../../reader/log-batch.ts'
import { LANES_MAX } from '../../../reader/log-format.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import type { VhostEntry, VhostOddRequestEntry, VhostRequestEntry } from '../../../reader/vhost-log-format.ts'
import { FRONT_END_REQUESTS } from '../../../reader/vhost-user-format.ts'
import { TraceRows, takesPart } from './trace-rows.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot
const IOTLB_MSG = FRONT_END_REQUESTS.IOTLB_MSG.nr
/** The low bits of an address that a window's start does not change. */
const LOW_BITS = 0xff_ffff
/** How far the two logs are searched for where they go together again. */
const SEARCHED = 64
/** Messages in a row that must fit for that. */
const RUN = 3
const STEP = { BEGIN: 1 } as const

export type RequestEntry = VhostRequestEntry | VhostOddRequestEntry

/** Takes what the two logs of a run say, in one order. */
export interface JoinedSink {
  /** A line of the trace: row 0 of the batch, which is used again for the next one. */
  row(batch: LogBatch): void
  /** A miss, or what the back end did itself. */
  entry(entry: VhostEntry): void
  /** A message that QEMU sent and the back end got; `batch` is the line of the trace. */
  pair(entry: RequestEntry, batch: LogBatch): void
  /** A message that the back end got and the trace does not show, or a line that was lost. */
  loneEntry(entry: VhostEntry): void
  /** A message that QEMU sent, and that the message log does not have. */
  loneRow(batch: LogBatch): void
}

/** A `vhost_user_write` line that waits. */
interface Sent {
  /** Number of its row. */
  readonly row: number
  readonly request: number
  readonly flags: number
  /** It stands in a miss: then an IOTLB message is an UPDATE, else an INVALIDATE. */
  readonly isAnswer: boolean
  /** Low bits of the page that the miss was translated from; undefined where no line says it. */
  readonly page: number | undefined
}

/**
 * Brings a QEMU trace and the message log of a back end into one order, by what both of them see: every message that QEMU
 * sends is a `vhost_user_write` line in the one and an entry in the other, in the same order. (Clocks do not help: a
 * trace often has no time stamps, and a back end counts from its own start.)
 *
 * Between two messages nothing orders the two logs. There, what the back end did comes first: whatever is held against
 * it later then happened after the last message at which both agree. A live back end (`isLive`) hands its entries over as
 * they happen, and lines of the trace come later than what they tell of; there a line need not wait for the next
 * message.
 *
 * Both logs may come in pieces of any length and in any order; where the pieces are cut makes no difference unless
 * `isLive`. What waits is kept: who reads two files reads on where `wants` says.
 */
export class JoinedOrder {
  readonly #sink: JoinedSink
  readonly #isLive: boolean
  readonly #rows = new TraceRows()
  #sent: Sent[] = []
  #entries: VhostEntry[] = []
  #traceEnded = false
  #entriesEnded = false
  #batch: LogBatch | undefined
  #inMiss = false
  #page: number | undefined

  constructor(sink: JoinedSink, options: { readonly isLive?: boolean } = {}) {
    this.#sink = sink
    this.#isLive = options.isLive ?? false
  }

  /** The log of which more is needed to go on. */
  get wants(): 'trace' | 'messages' {
    if (this.#traceEnded) return 'messages'
    if (this.#entriesEnded) return 'trace'
    return this.#entries.length > 0 ? 'trace' : 'messages'
  }

  /** Rows that the reader of the trace has made. */
  take(batch: LogBatch): void {
    this.#batch = batch
    for (let row = 0; row < batch.count; row++) {
      const event = batch.events[row] as number
      if (!takesPart(event)) continue
      this.#note(batch, row, event)
      this.#rows.add(batch, row)
    }
  }

  /** An entry of the message log. */
  takeEntry(entry: VhostEntry): void {
    this.#entries.push(entry)
  }

  endTrace(): void {
    this.#traceEnded = true
  }

  endMessages(): void {
    this.#entriesEnded = true
  }

  /** Gives out what the logs that came so far decide. */
  run(): void {
    let entries = 0
    while (this.#step(entries)) entries++
    this.#entries.splice(0, entries)
    if (this.#entries.length > 0) return
    if (this.#entriesEnded) {
      for (const sent of this.#sent.splice(0)) this.#loneRow(sent)
      this.#giveRows(this.#rows.end)
    } else if (this.#isLive) this.#giveRows(this.#sent[0]?.row ?? this.#rows.end)
  }

  /** Takes note of what tells messages of the same kind apart. */
  #note(batch: LogBatch, row: number, event: number): void {
    const at = row * LANES_MAX
    const lane = (slot: number) => batch.lanes[at + slot] as number
    if (event === N.vhost_iotlb_miss) {
      this.#inMiss = lane(S.vhost_iotlb_miss.step) === STEP.BEGIN
      this.#page = undefined
    } else if (event === N.vtd_dmar_translate && this.#inMiss) {
      this.#page = lane(S.vtd_dmar_translate.iova) & LOW_BITS
    } else if (event === N.spapr_iommu_xlate && this.#inMiss) {
      const s = S.spapr_iommu_xlate
      this.#page = lane(s.windowOffset) & ~lane(s.mask) & LOW_BITS
    } else if (event === N.vhost_user_write) {
      const s = S.vhost_user_write
      this.#sent.push({
        row: this.#rows.end,
        request: lane(s.request) >>> 0,
        flags: lane(s.flags) >>> 0,
        isAnswer: this.#inMiss,
        page: this.#page,
      })
    }
  }

  /** Gives out the entry at a place; false where more of the trace must come first. */
  #step(at: number): boolean {
    const entry = this.#entries[at]
    if (entry === undefined) return false
    if (entry.what === 'damaged') {
      this.#sink.loneEntry(entry)
      return true
    }
    if (entry.what === 'miss' || entry.what === 'own') {
      this.#sink.entry(entry)
      return true
    }
    const [sent] = this.#sent
    if (sent === undefined) {
      if (!this.#traceEnded) return false
      this.#giveRows(this.#rows.end)
      this.#sink.loneEntry(entry)
      return true
    }
    if (fits(sent, entry)) {
      this.#sent.shift()
      this.#giveRows(sent.row)
      this.#sink.pair(entry, this.#takeRow())
      return true
    }
    return this.#resync(at)
  }

  /** The logs differ here: leaves out as little as makes them go together again. Whether the entry was given out. */
  #resync(at: number): boolean {
    const rest: VhostEntry[] = []
    for (let i = at; i < this.#entries.length && rest.length < SEARCHED + RUN; i++) {
      const entry = this.#entries[i] as VhostEntry
      if (entry.what === 'request' || entry.what === 'odd request') rest.push(entry)
    }
    const wanted = SEARCHED + RUN
    const isShort = (have: number, ended: boolean) => have < wanted && !ended
    if (isShort(this.#sent.length, this.#traceEnded) || isShort(rest.length, this.#entriesEnded)) return false
    const { rows, entries } = this.#nearest(rest as RequestEntry[])
    for (const sent of this.#sent.splice(0, rows)) this.#loneRow(sent)
    if (entries === 0) return this.#step(at)
    this.#sink.loneEntry(this.#entries[at] as VhostEntry)
    return true
  }

  /** How many messages of either side are left out until a run of them fits; one of each where none does. */
  #nearest(rest: readonly RequestEntry[]): { rows: number; entries: number } {
    for (let sum = 1; sum <= SEARCHED; sum++) {
      for (let rows = 0; rows <= sum; rows++) {
        if (this.#runs(rest, rows, sum - rows)) return { rows, entries: sum - rows }
      }
    }
    return { rows: 1, entries: 1 }
  }

  #runs(rest: readonly RequestEntry[], rows: number, entries: number): boolean {
    for (let i = 0; i < RUN; i++) {
      const sent = this.#sent[rows + i]
      const entry = rest[entries + i]
      if (sent === undefined && entry === undefined) return i > 0
      if (sent === undefined || entry === undefined || !fits(sent, entry)) return false
    }
    return true
  }

  #loneRow(sent: Sent): void {
    this.#giveRows(sent.row)
    this.#sink.loneRow(this.#takeRow())
  }

  /** Gives out the rows before one. */
  #giveRows(end: number): void {
    while (this.#rows.first < end) this.#sink.row(this.#takeRow())
  }

  #takeRow(): LogBatch {
    return this.#rows.take((this.#batch as LogBatch).texts)
  }
}

/** Whether a line and an entry can be the same message. */
function fits(sent: Sent, entry: RequestEntry): boolean {
  if (sent.request !== entry.request || sent.flags !== entry.flags) return false
  if (sent.request !== IOTLB_MSG || entry.what !== 'request' || entry.name !== 'IOTLB_MSG') return true
  const { type, iova } = entry.fields
  if (sent.isAnswer !== (type === 'UPDATE')) return false
  return sent.page === undefined || Number(iova & BigInt(LOW_BITS)) === sent.page
}
