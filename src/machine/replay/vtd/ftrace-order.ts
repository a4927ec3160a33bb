import { DAMAGED_LINE, type LogBatch } from '../../../reader/log-batch.ts'
import { LANES_MAX } from '../../../reader/log-format.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import { TraceRows } from '../vhost/trace-rows.ts'
import { FlushSearch, isSameWords, patternLength, type Words } from './flush-search.ts'
import type { GuestFlush, GuestLog } from './guest-log.ts'
import { isOfVtd } from './vtd-replay.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot
const WAIT = 5
/** Rows that wait while a place is looked for, beside those of descriptors that may be part of it. */
const HELD_MAX = 1 << 16
/** How far the two traces are searched for where they go together again. */
const SEARCHED = 64
/** Descriptors in a row that must fit for that. */
const RUN = 3

export type FlushEnd = 'matched' | 'unmatched' | 'adrift'

/** Takes what the two traces of a boot say, in one order. */
export interface FtraceSink {
  /** A row of QEMU's trace. Events of the kernel before `end` may have come before it; none where the place is not known. */
  row(batch: LogBatch, end: number | undefined): void
  /** Events of the kernel before one have come by now. */
  guest(end: number): void
  /** When events of the kernel before one have come does not show: they are left out. */
  skip(end: number): void
  /** A descriptor of the kernel's trace: QEMU's has it as well, or not, or nothing tells where it belongs. */
  flush(end: FlushEnd): void
  /** A descriptor of QEMU's trace that the kernel's does not have. */
  unshown(): void
}

/** A descriptor of QEMU's trace that waits. */
interface Sent extends Words {
  /** Number of its row. */
  readonly row: number
}

/**
 * Brings QEMU's trace and that of the guest's kernel into one order, by the descriptors of the invalidation queue, which
 * both show: the kernel before it puts one there, QEMU when it carries it out. The kernel's trace begins later, so its first
 * descriptors are looked for; between two of them, what the kernel did is taken as late as QEMU's translations allow.
 *
 * The kernel's trace is there as a whole; QEMU's comes in pieces of any length. What waits for a decision is kept.
 */
export class FtraceOrder {
  readonly #sink: FtraceSink
  readonly #guest: GuestLog
  readonly #flushes: readonly GuestFlush[]
  /** Of each flush: its place among the events, and that of what is lost since the one before it; -1 for nothing. */
  readonly #places: readonly number[]
  readonly #gaps: readonly number[]
  readonly #rows = new TraceRows()
  #sent: Sent[] = []
  #next = 0
  /** Looks for the place of the next flush; undefined where that is known, or nothing is left to look for. */
  #search: FlushSearch | undefined
  #scanned = 0
  /** What comes of the kernel's trace has no place. */
  #isAdrift = false
  #batch: LogBatch | undefined

  constructor(guest: GuestLog, sink: FtraceSink) {
    this.#guest = guest
    this.#sink = sink
    const flushes: GuestFlush[] = []
    const places: number[] = []
    const gaps: number[] = []
    let gap = -1
    guest.events.forEach((event, place) => {
      if (event.what === 'gap') gap = place
      if (event.what !== 'flush') return
      flushes.push(event)
      places.push(place)
      gaps.push(gap)
      gap = -1
    })
    this.#flushes = flushes
    this.#places = places
    this.#gaps = gaps
    this.#lookFor(0)
  }

  /** Rows that the reader of QEMU's trace has made. */
  take(batch: LogBatch): void {
    this.#batch = batch
    const { events, lanes } = batch
    for (let row = 0; row < batch.count; row++) {
      const event = events[row] as number
      if (event !== DAMAGED_LINE && !isOfVtd(event)) continue
      if (event === N.vtd_inv_desc) this.#note(lanes, row * LANES_MAX)
      this.#rows.add(batch, row)
    }
    this.#run(false)
  }

  /** QEMU's trace is over. */
  end(): void {
    this.#run(true)
    this.#giveRows(this.#rows.end)
    for (; this.#next < this.#flushes.length; this.#next++) this.#sink.flush('unmatched')
    if (!this.#isAdrift) this.#sink.guest(this.#guest.events.length)
  }

  #note(lanes: Int32Array, at: number): void {
    const s = S.vtd_inv_desc
    const loLo = lanes[at + s.lo] as number
    if ((loLo & 0xf) === WAIT) return
    this.#sent.push({
      row: this.#rows.end,
      loLo,
      loHi: lanes[at + s.lo + 1] as number,
      hiLo: lanes[at + s.hi] as number,
      hiHi: lanes[at + s.hi + 1] as number,
    })
  }

  /** The place of a flush, and of those behind it, is looked for from here on. */
  #lookFor(next: number): void {
    const gap = this.#gaps.findIndex((place, i) => place >= 0 && i > next)
    const end = gap < 0 ? this.#flushes.length : gap
    const length = patternLength(this.#flushes, next, end)
    this.#scanned = 0
    if (length !== undefined && next < end) {
      this.#search = new FlushSearch(this.#flushes.slice(next, next + length))
      return
    }
    // What is left up to there looks like other places, or there is nothing: where it belongs does not show.
    for (let i = next; i < end; i++) this.#sink.flush('adrift')
    this.#next = end
    this.#search = undefined
    this.#isAdrift = gap < 0
    this.#sink.skip(gap < 0 ? this.#guest.events.length : (this.#gaps[end] as number) + 1)
    if (gap >= 0) this.#lookFor(end)
  }

  #run(isOver: boolean): void {
    for (;;) {
      const isOn = this.#search === undefined ? this.#follow(isOver) : this.#scan(this.#search)
      if (!isOn) return
    }
  }

  /** Looks for the place; true where it is found. */
  #scan(search: FlushSearch): boolean {
    while (this.#scanned < this.#sent.length) {
      if (!search.next(this.#sent[this.#scanned++] as Sent)) continue
      const first = this.#scanned - search.matched
      this.#leave(first)
      this.#search = undefined
      return true
    }
    const kept = search.matched
    this.#leave(this.#sent.length - kept)
    this.#scanned = this.#sent.length
    // What came since the last descriptor may belong to the place that is found next.
    if (this.#rows.end - this.#rows.first > HELD_MAX) this.#giveRows(this.#sent[0]?.row ?? this.#rows.end)
    return false
  }

  /** The place is known: takes the next descriptor of QEMU's trace. False where more must come first. */
  #follow(isOver: boolean): boolean {
    const flush = this.#flushes[this.#next]
    const [sent] = this.#sent
    if (flush === undefined || sent === undefined) {
      this.#sent.length = flush === undefined ? 0 : this.#sent.length
      this.#giveRows(this.#rows.end)
      return false
    }
    if (isSameWords(sent, flush)) {
      this.#sent.shift()
      this.#giveRows(sent.row)
      this.#pass(true)
      this.#giveRows(sent.row + 1)
      return true
    }
    return this.#resync(isOver)
  }

  /** A flush of the kernel's trace is done: what stands before it has happened. */
  #pass(isMatched: boolean): void {
    this.#sink.guest((this.#places[this.#next] as number) + 1)
    this.#sink.flush(isMatched ? 'matched' : 'unmatched')
    this.#next++
    const gap = this.#gaps[this.#next] ?? -1
    if (gap < 0) return
    // Something is lost before the next one: its place is looked for.
    this.#sink.guest(gap + 1)
    this.#lookFor(this.#next)
  }

  /** The traces differ here: leaves out as little as makes them go together again, or looks for the place anew. */
  #resync(isOver: boolean): boolean {
    if (this.#sent.length < SEARCHED + RUN && !isOver) return false
    for (let sum = 1; sum <= SEARCHED; sum++) {
      for (let rows = 0; rows <= sum; rows++) {
        if (!this.#runs(rows, sum - rows)) continue
        this.#leave(rows)
        for (let i = rows; i < sum && this.#search === undefined; i++) this.#pass(false)
        return true
      }
    }
    this.#pass(false)
    if (this.#search === undefined) this.#lookFor(this.#next)
    return this.#search !== undefined
  }

  #runs(rows: number, entries: number): boolean {
    for (let i = 0; i < RUN; i++) {
      const sent = this.#sent[rows + i]
      const flush = this.#flushes[this.#next + entries + i]
      if (sent === undefined && flush === undefined) return i > 0
      if (sent === undefined || flush === undefined || !isSameWords(sent, flush)) return false
    }
    return true
  }

  /** Descriptors of QEMU's trace that the kernel's does not have. */
  #leave(count: number): void {
    if (count <= 0) return
    const isKnown = this.#search === undefined
    for (let i = 0; i < count && isKnown; i++) this.#sink.unshown()
    const last = this.#sent[count - 1] as Sent
    this.#sent.splice(0, count)
    this.#scanned -= count
    this.#giveRows(last.row + 1)
  }

  /** Gives out the rows before one. */
  #giveRows(end: number): void {
    const { texts } = this.#batch ?? {}
    if (texts === undefined) return
    const limit =
      this.#search === undefined && !this.#isAdrift
        ? (this.#places[this.#next] ?? this.#guest.events.length)
        : undefined
    while (this.#rows.first < end) this.#sink.row(this.#rows.take(texts), limit)
  }
}
