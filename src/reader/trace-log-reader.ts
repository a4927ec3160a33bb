import { latin1Bytes } from '../bits/byte-text.ts'
import { DamageLog } from './damage-log.ts'
import { LINE_BYTES_MAX, LineBuffer, type LineTarget } from './line-buffer.ts'
import { whyDamaged } from './line-diagnosis.ts'
import { LineMatcher, NO_MATCH } from './line-matcher.ts'
import type { LinePrefix } from './line-prefix.ts'
import { BATCH_ROWS, type BatchSink, DAMAGED_LINE, LogBatch } from './log-batch.ts'
import { LANES_MAX, type LogFormat } from './log-format.ts'
import { type EventCount, type LogSummary, OTHER_NAMES } from './log-summary.ts'
import { OTHER_WORD, WordTable } from './word-table.ts'

const NEWLINE = 0x0a
const RETURN = 0x0d
const UNDERSCORE = 0x5f

/** A longer word is no event name. */
const NAME_BYTES_MAX = 100
/** Different names of unknown events that are kept. */
export const UNKNOWN_NAMES_MAX = 256
/** Different texts of text fields that are kept. */
const TEXTS_MAX = 4096
/** Damaged lines that are kept with their reason. */
const DAMAGED_KEPT = 1000

export interface TraceLogReaderOptions {
  /** Lines that the reader knows; all others are unknown. */
  readonly format: LogFormat
  /** What stands before events. */
  readonly prefix: LinePrefix
  /**
   * Gives the sink a row DAMAGED_LINE for each damaged line, so that it learns in place what a log lost:
   * lane 0 holds the number of the event that the line begins with, or -1.
   */
  readonly markDamaged?: boolean
  /** Damaged lines that the summary keeps. */
  readonly damagedKept?: number
}

/** Some editors and shells put it before a text of UTF-8. */
const hasByteOrderMark = (bytes: Uint8Array): boolean =>
  bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf

const latin1 = (bytes: Uint8Array, from: number, to: number): string =>
  String.fromCharCode(...bytes.subarray(from, to))

/** Where the event name at `at` ends (before `behind`, or `end`), or -1 if no event name stands there. */
function nameEnd(bytes: Uint8Array, at: number, end: number, behind: number): number {
  let p = at
  const first = bytes[p] as number
  if (first < 0x61 || first > 0x7a) return -1
  for (p++; p < end; p++) {
    const byte = bytes[p] as number
    const isWord = (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === UNDERSCORE
    if (!isWord) break
  }
  if (p - at < 2 || p - at > NAME_BYTES_MAX) return -1
  return p === end || bytes[p] === behind ? p : -1
}

/**
 * Reads a trace log, of whichever format, in pieces of any length.
 *
 * Each declared event becomes a row of a batch, in order; lines with and without time stamps, with CR LF and
 * without a last line end are all taken. Events that are not declared, damaged lines and empty ones (comments
 * among them) are counted (`LogSummary`). Memory does not grow with the log, and no input makes it throw.
 */
export class TraceLogReader {
  readonly #format: LogFormat
  readonly #sink: BatchSink
  readonly #markDamaged: boolean
  readonly #batch: LogBatch
  readonly #matcher: LineMatcher
  readonly #buffer: LineBuffer
  readonly #view: DataView
  readonly #prefix: LinePrefix
  /** Names of the declared events, then of unknown ones. */
  readonly #names: WordTable
  readonly #counts: Float64Array
  readonly #firstLines: Float64Array
  readonly #damage: DamageLog
  #lines = 0
  #events = 0
  #empty = 0

  constructor(sink: BatchSink, options: TraceLogReaderOptions) {
    const { format, prefix } = options
    this.#format = format
    this.#sink = sink
    this.#prefix = prefix
    this.#markDamaged = options.markDamaged ?? false
    const texts = new WordTable(TEXTS_MAX)
    this.#batch = new LogBatch(format, texts)
    this.#matcher = new LineMatcher(format, texts)
    const target: LineTarget = {
      takeLines: (bytes, to, offsetBytes) => this.#takeLines(bytes, to, offsetBytes),
      takeLongLine: (bytes, offsetBytes) => this.#takeLongLine(bytes, offsetBytes),
    }
    this.#buffer = new LineBuffer(target)
    this.#view = new DataView(this.#buffer.bytes.buffer)
    const declared = format.events.length
    this.#names = new WordTable(declared + UNKNOWN_NAMES_MAX)
    for (const { name } of format.events) {
      this.#names.intern(latin1Bytes(name), 0, name.length)
    }
    this.#counts = new Float64Array(declared + UNKNOWN_NAMES_MAX + 1)
    this.#firstLines = new Float64Array(declared + UNKNOWN_NAMES_MAX + 1)
    this.#damage = new DamageLog(options.damagedKept ?? DAMAGED_KEPT)
  }

  /** Bytes read so far. */
  get bytes(): number {
    return this.#buffer.offsetBytes
  }

  /** Lines read so far. */
  get lines(): number {
    return this.#lines
  }

  push(piece: Uint8Array): void {
    this.#buffer.push(piece)
  }

  /** Gives the rows that were read so far to the sink: for who reads a log that is still being written. */
  flush(): void {
    this.#flush()
  }

  /** Reads what is left and gives the last batch to the sink. Nothing may be pushed afterwards. */
  end(): LogSummary {
    const truncated = this.#buffer.end()
    this.#flush()
    const declared = this.#format.events.length
    return {
      lines: this.#lines,
      bytes: this.bytes,
      events: this.#events,
      declared: this.#countsOf(0, declared),
      unknown: this.#countsOf(declared, this.#counts.length),
      damaged: { count: this.#damage.count, first: this.#damage.first },
      empty: this.#empty,
      truncated,
    }
  }

  #countsOf(from: number, to: number): EventCount[] {
    const counts: EventCount[] = []
    for (let i = from; i < to; i++) {
      const count = this.#counts[i] as number
      const name = i === this.#counts.length - 1 ? OTHER_NAMES : this.#names.word(i)
      if (count > 0) counts.push({ name, count, firstLine: this.#firstLines[i] as number })
    }
    const last = (c: EventCount): number => (c.name === OTHER_NAMES ? 1 : 0)
    return counts.sort((a, b) => last(a) - last(b) || a.firstLine - b.firstLine)
  }

  #takeLines(bytes: Uint8Array, to: number, offsetBytes: number): void {
    const batch = this.#batch
    const matcher = this.#matcher
    const view = this.#view
    const prefix = this.#prefix
    const { lanes } = batch
    let at = this.#lines === 0 && hasByteOrderMark(bytes) ? 3 : 0
    while (at < to) {
      const first = bytes[at] as number
      let from = at
      let timeUs = -1
      if (prefix.begins(first)) {
        from = prefix.skip(bytes, at)
        timeUs = prefix.timeUs
      }
      const next = from < 0 ? NO_MATCH : matcher.match(bytes, view, from, lanes, batch.count * LANES_MAX)
      if (next < 0) at = this.#oddLine(bytes, at, from, offsetBytes)
      else {
        this.#lines++
        this.#events++
        this.#count(matcher.event)
        this.#addRow(matcher.event, offsetBytes + at, timeUs)
        at = next
      }
    }
  }

  /** Ends the row whose lanes are filled; it stands for the line that was read last. */
  #addRow(event: number, offsetBytes: number, timeUs: number): void {
    const batch = this.#batch
    const row = batch.count
    batch.events[row] = event
    batch.lines[row] = this.#lines
    batch.offsetsBytes[row] = offsetBytes
    batch.timesUs[row] = timeUs
    batch.count = row + 1
    if (batch.count === BATCH_ROWS) this.#flush()
  }

  /** Counts the name of the line that was read last. */
  #count(name: number): void {
    const before = this.#counts[name] as number
    if (before === 0) this.#firstLines[name] = this.#lines
    this.#counts[name] = before + 1
  }

  #flush(): void {
    if (this.#batch.count > 0) this.#sink.take(this.#batch)
    this.#batch.count = 0
  }

  /**
   * A line that is no declared event, or does not fit its template: empty, unknown or damaged. `from` is where
   * its event name should begin, -1 where what stands before it is no time stamp. Answers where the next line begins.
   */
  #oddLine(bytes: Uint8Array, at: number, from: number, offsetBytes: number): number {
    const newline = bytes.indexOf(NEWLINE, at)
    const end = bytes[newline - 1] === RETURN && newline > at ? newline - 1 : newline
    const next = newline + 1
    if (newline - at > LINE_BYTES_MAX) {
      this.#takeLongLine(bytes.subarray(at), offsetBytes + at)
      return next
    }
    if (end === at || this.#prefix.isComment(bytes[at] as number)) {
      this.#lines++
      this.#empty++
      return next
    }
    const name = from < 0 ? -1 : nameEnd(bytes, from, end, this.#prefix.nameEnd)
    const number = name < 0 ? -1 : this.#names.intern(bytes, from, name)
    const event = this.#format.events[number]
    if (name >= 0 && event === undefined) {
      this.#lines++
      this.#count(number === OTHER_WORD ? this.#counts.length - 1 : number)
      return next
    }
    this.#damaged(event === undefined ? -1 : number, offsetBytes + at)
    const reason = !this.#damage.isOpen
      ? ''
      : event === undefined
        ? this.#prefix.whyNone(bytes, at, from)
        : whyDamaged(event, latin1(bytes, from, end))
    this.#damage.add(this.#lines, offsetBytes + at, reason, bytes.subarray(at, end))
    return next
  }

  #takeLongLine(bytes: Uint8Array, offsetBytes: number): void {
    this.#damaged(-1, offsetBytes)
    const reason = `the line is longer than ${LINE_BYTES_MAX} bytes`
    this.#damage.add(this.#lines, offsetBytes, reason, bytes)
  }

  /** Counts a damaged line, and gives the sink its row where that is wanted. */
  #damaged(event: number, offsetBytes: number): void {
    this.#lines++
    if (!this.#markDamaged) return
    this.#batch.lanes[this.#batch.count * LANES_MAX] = event
    this.#addRow(DAMAGED_LINE, offsetBytes, -1)
  }
}
