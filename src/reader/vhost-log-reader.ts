import { DamageLog } from './damage-log.ts'
import { LineBuffer } from './line-buffer.ts'
import type { LogSummary } from './log-summary.ts'
import { NameCounts } from './name-counts.ts'
import { VHOST_LOG, type VhostEntry } from './vhost-log-format.ts'
import { vhostEntryOf } from './vhost-log-line.ts'

/** Different names of unknown messages that are kept. */
const UNKNOWN_KEPT = 256
/** Damaged lines that are kept with their reason. */
const DAMAGED_KEPT = 1000
const NEWLINE = 0x0a

export interface VhostLogSink {
  take(entry: VhostEntry): void
}

/**
 * Reads the message log of a vhost-user back end in pieces of any length.
 *
 * Messages that no declaration has are counted, lines that are no such object are damaged; either may have been a
 * message of QEMU, and then the sink is told that one stood there. Memory does not grow with the log, and no input makes
 * it throw.
 *
 * @example
 * const reader = new VhostLogReader({ take: (entry) => use(entry) })
 * for await (const piece of input) reader.push(piece)
 * const { events, damaged } = reader.end()
 */
export class VhostLogReader {
  readonly #sink: VhostLogSink
  readonly #buffer: LineBuffer
  readonly #text = new TextDecoder('utf-8')
  readonly #declared = new NameCounts(Number.POSITIVE_INFINITY)
  readonly #unknown = new NameCounts(UNKNOWN_KEPT)
  readonly #damage: DamageLog
  #lines = 0
  #events = 0
  #empty = 0

  constructor(sink: VhostLogSink, options: { readonly damagedKept?: number } = {}) {
    this.#sink = sink
    this.#damage = new DamageLog(options.damagedKept ?? DAMAGED_KEPT)
    const target = {
      takeLines: (bytes: Uint8Array, to: number, offsetBytes: number) =>
        this.#takeLines(bytes, to, offsetBytes),
      takeLongLine: (bytes: Uint8Array, offsetBytes: number) => this.#takeLongLine(bytes, offsetBytes),
    }
    this.#buffer = new LineBuffer(target, VHOST_LOG.lineBytesMax)
  }

  /** Entries read so far. */
  get events(): number {
    return this.#events
  }

  push(piece: Uint8Array): void {
    this.#buffer.push(piece)
  }

  /** Reads what is left. Nothing may be pushed afterwards. */
  end(): LogSummary {
    const truncated = this.#buffer.end()
    return {
      lines: this.#lines,
      bytes: this.#buffer.offsetBytes,
      events: this.#events,
      declared: this.#declared.all(),
      unknown: this.#unknown.all(),
      damaged: { count: this.#damage.count, first: this.#damage.first },
      empty: this.#empty,
      truncated,
    }
  }

  #takeLines(bytes: Uint8Array, to: number, offsetBytes: number): void {
    for (let at = 0; at < to; ) {
      const newline = bytes.indexOf(NEWLINE, at)
      const line = bytes.subarray(at, newline)
      if (line.length > VHOST_LOG.lineBytesMax) this.#takeLongLine(line, offsetBytes + at)
      else this.#takeLine(line, offsetBytes + at)
      at = newline + 1
    }
  }

  #takeLine(bytes: Uint8Array, offsetBytes: number): void {
    this.#lines++
    const text = this.#text.decode(bytes).trim()
    if (text === '') {
      this.#empty++
      return
    }
    let raw: unknown
    try {
      raw = JSON.parse(text)
    } catch {
      this.#damaged(bytes, offsetBytes, 'it is no JSON')
      return
    }
    const line = vhostEntryOf(raw, this.#lines)
    if (line.state === 'damaged') this.#damaged(bytes, offsetBytes, line.why)
    else {
      if (line.state === 'unknown') this.#unknown.add(line.name, this.#lines)
      else {
        this.#events++
        this.#declared.add(line.name, this.#lines)
      }
      if (line.entry !== undefined) this.#sink.take(line.entry)
    }
  }

  #takeLongLine(bytes: Uint8Array, offsetBytes: number): void {
    this.#lines++
    this.#damaged(bytes, offsetBytes, `the line is longer than ${VHOST_LOG.lineBytesMax} bytes`)
  }

  #damaged(bytes: Uint8Array, offsetBytes: number, why: string): void {
    this.#damage.add(this.#lines, offsetBytes, why, bytes)
    this.#sink.take({ what: 'damaged', line: this.#lines })
  }
}
