import { wordOf } from '../bits/u64.ts'
import { FIELD_KINDS, LANES_MAX, type LogFormat } from './log-format.ts'
import { OTHER_WORD, type WordTable } from './word-table.ts'

/** Rows of a batch. */
export const BATCH_ROWS = 1024

/** Event number of a row that stands for a damaged line (only where the reader was told to mark them). */
export const DAMAGED_LINE = 0xff

/** A row as an object, for tests, reports and errors; hot paths read the columns. */
export interface LogRow {
  readonly name: string
  readonly line: number
  readonly offsetBytes: number
  /** Microseconds since 1970 by the log's own stamp, -1 without one. */
  readonly timeUs: number
  readonly fields: Readonly<Record<string, bigint | number | string>>
}

/** Shown for a text field of a log that has more different texts than are kept. */
export const OTHER_TEXT = '(other text)'

/**
 * Lines of a log in columns: row i is the i-th declared event since the batch before it. A reader fills one
 * batch again and again, so whoever gets it must be done with it when the call returns.
 *
 * Field `f` of event `e` stands in `lanes[row * LANES_MAX + format.slot.e.f]`, for 64-bit fields low lane
 * first; lanes that the event does not use hold what was there before.
 */
export class LogBatch {
  readonly format: LogFormat
  readonly texts: WordTable
  /** Rows that are filled. */
  count = 0
  /** Number of the event, an index of `format.events`. */
  readonly events = new Uint8Array(BATCH_ROWS)
  /** Line of the log, from 1. */
  readonly lines = new Float64Array(BATCH_ROWS)
  /** Offset of the line's first byte in the log. */
  readonly offsetsBytes = new Float64Array(BATCH_ROWS)
  /** Microseconds since 1970 by the log's own stamp, -1 without one. */
  readonly timesUs = new Float64Array(BATCH_ROWS)
  readonly lanes = new Int32Array(BATCH_ROWS * LANES_MAX)

  constructor(format: LogFormat, texts: WordTable) {
    this.format = format
    this.texts = texts
  }

  /** A 64-bit field; unsigned. */
  u64(row: number, slot: number): bigint {
    const at = row * LANES_MAX + slot
    return wordOf(this.lanes[at + 1] as number, this.lanes[at] as number)
  }

  /** The word of a text field. */
  text(row: number, slot: number): string {
    const number = this.lanes[row * LANES_MAX + slot] as number
    return number === OTHER_WORD ? OTHER_TEXT : this.texts.word(number)
  }

  read(row: number): LogRow {
    const event = this.format.events[this.events[row] as number]
    const fields: Record<string, bigint | number | string> = {}
    for (const { name, kind, slot } of event?.fields ?? []) {
      if (kind === 'text') fields[name] = this.text(row, slot)
      else if (FIELD_KINDS[kind].lanes === 2) {
        const word = this.u64(row, slot)
        fields[name] = kind === 'd64' ? BigInt.asIntN(64, word) : word
      } else {
        const lane = this.lanes[row * LANES_MAX + slot] as number
        fields[name] = kind === 'd32' ? lane : lane >>> 0
      }
    }
    return {
      name: event?.name ?? '?',
      line: this.lines[row] as number,
      offsetBytes: this.offsetsBytes[row] as number,
      timeUs: this.timesUs[row] as number,
      fields,
    }
  }
}

/** Takes the batches of a log, in order. */
export interface BatchSink {
  take(batch: LogBatch): void
}
