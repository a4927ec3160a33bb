import type { AnswerValue } from './agent-command.ts'
import { DamageLog } from './damage-log.ts'
import { AGENT_MARKS, type AgentCommandName, type AgentMarkName, MARK_WORD } from './kernel-answers-format.ts'
import { type AgentLine, fieldValue, readAgentLine } from './kernel-answers-line.ts'
import { LINE_BYTES_MAX, LineBuffer } from './line-buffer.ts'
import type { LogSummary } from './log-summary.ts'
import { NameCounts } from './name-counts.ts'

/** Different names of unknown commands that are kept. */
export const UNKNOWN_COMMANDS_MAX = 256
/** Damaged lines that are kept with their reason. */
const DAMAGED_KEPT = 1000

const NEWLINE = 0x0a
/** Control characters that are neither blanks, nor move a cursor, nor begin an escape sequence. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what it looks for
const NO_TEXT = /[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]/
const KERNEL_MESSAGE = /^(?:ORACLE dmesg )?(?:<[0-9]{1,3}>)?\[ *([0-9]{1,10}\.[0-9]{6})\] (.*)$/

/** What a line of a transcript is, in order; `line` counts from 1. */
export type TranscriptEntry =
  | ({ readonly kind: 'command'; readonly line: number } & AgentLine)
  | {
      readonly kind: 'mark'
      readonly line: number
      readonly mark: AgentMarkName
      readonly fields: Readonly<Record<string, AnswerValue>>
    }
  | { readonly kind: 'comment'; readonly line: number; readonly text: string }
  | {
      readonly kind: 'message'
      readonly line: number
      /** Seconds since the kernel started, as it prints them. */
      readonly seconds: string
      readonly text: string
    }
  /** A command that no declaration knows, with the answer of an agent that does, or does not either. */
  | { readonly kind: 'unknown'; readonly line: number; readonly name: string; readonly isRefused: boolean }
  /** A line that was lost; the command that it begins with, if that shows. */
  | { readonly kind: 'damaged'; readonly line: number; readonly name: AgentCommandName | undefined }

export interface TranscriptSink {
  take(entry: TranscriptEntry): void
}

/**
 * What a transcript held. Every line is one of commands, unknown commands, comments, marks, kernel messages,
 * noise, damaged and empty lines, so those add up to `lines`. `events` counts the commands.
 */
export interface TranscriptSummary extends LogSummary {
  readonly comments: number
  readonly marks: number
  /** Lines of the kernel's log. */
  readonly messages: number
  /** Other lines of the console: output of programs that ran there. */
  readonly noise: number
}

/**
 * Reads a transcript of kernel answers in pieces of any length, with the console noise around it.
 *
 * Commands that no declaration knows are counted, lines that do not fit theirs are damaged. Memory does not
 * grow with the log, and no input makes it throw.
 *
 * @example
 * const reader = new KernelAnswersReader({ take: (entry) => use(entry) })
 * for await (const piece of input) reader.push(piece)
 * const { events, damaged } = reader.end()
 */
export class KernelAnswersReader {
  readonly #sink: TranscriptSink
  readonly #buffer: LineBuffer
  readonly #declared = new NameCounts(Number.POSITIVE_INFINITY)
  readonly #unknown = new NameCounts(UNKNOWN_COMMANDS_MAX)
  readonly #damage: DamageLog
  readonly #counts = { events: 0, comments: 0, marks: 0, messages: 0, noise: 0, empty: 0 }
  #lines = 0

  constructor(sink: TranscriptSink, options: { readonly damagedKept?: number } = {}) {
    this.#sink = sink
    this.#damage = new DamageLog(options.damagedKept ?? DAMAGED_KEPT)
    this.#buffer = new LineBuffer({
      takeLines: (bytes, to, offsetBytes) => this.#takeLines(bytes, to, offsetBytes),
      takeLongLine: (bytes, offsetBytes) => this.#takeLongLine(bytes, offsetBytes),
    })
  }

  /** Commands read so far. */
  get events(): number {
    return this.#counts.events
  }

  push(piece: Uint8Array): void {
    this.#buffer.push(piece)
  }

  /** Reads what is left. Nothing may be pushed afterwards. */
  end(): TranscriptSummary {
    const truncated = this.#buffer.end()
    return {
      lines: this.#lines,
      bytes: this.#buffer.offsetBytes,
      ...this.#counts,
      declared: this.#declared.all(),
      unknown: this.#unknown.all(),
      damaged: { count: this.#damage.count, first: this.#damage.first },
      truncated,
    }
  }

  #takeLines(bytes: Uint8Array, to: number, offsetBytes: number): void {
    for (let at = 0; at < to; ) {
      const newline = bytes.indexOf(NEWLINE, at)
      if (newline - at > LINE_BYTES_MAX) this.#takeLongLine(bytes.subarray(at), offsetBytes + at)
      else this.#takeLine(bytes.subarray(at, newline), offsetBytes + at)
      at = newline + 1
    }
  }

  #takeLongLine(bytes: Uint8Array, offsetBytes: number): void {
    this.#lines++
    this.#damaged(bytes, offsetBytes, `the line is longer than ${LINE_BYTES_MAX} bytes`)
  }

  #damaged(bytes: Uint8Array, offsetBytes: number, reason: string, name?: AgentCommandName): void {
    this.#damage.add(this.#lines, offsetBytes, reason, bytes)
    this.#sink.take({ kind: 'damaged', line: this.#lines, name })
  }

  #takeLine(bytes: Uint8Array, offsetBytes: number): void {
    const line = ++this.#lines
    // A terminal ends lines with one or more CR before the newline.
    const text = String.fromCharCode(...bytes).replace(/\r+$/, '')
    const first = text.trimStart()[0]
    if (first === undefined) this.#counts.empty++
    else if (first === '#') {
      this.#counts.comments++
      this.#sink.take({ kind: 'comment', line, text: text.trimStart() })
    } else if (!this.#takeMessage(text) && !this.#takeMark(text, bytes, offsetBytes)) {
      this.#takeCommand(text, bytes, offsetBytes)
    }
  }

  #takeMessage(whole: string): boolean {
    const [, seconds, text = ''] = KERNEL_MESSAGE.exec(whole) ?? []
    if (seconds === undefined) return false
    this.#counts.messages++
    this.#sink.take({ kind: 'message', line: this.#lines, seconds, text })
    return true
  }

  #takeMark(text: string, bytes: Uint8Array, offsetBytes: number): boolean {
    if (text !== MARK_WORD && !text.startsWith(`${MARK_WORD} `)) return false
    const body = text.slice(MARK_WORD.length + 1).trimEnd()
    for (const [mark, { shape }] of Object.entries(AGENT_MARKS)) {
      const found = shape.pattern.exec(body)
      if (found === null) continue
      const fields = shape.fields.map(
        ({ name, kind }, i) => [name, fieldValue(kind, found[i + 1] ?? '')] as const,
      )
      this.#counts.marks++
      const entry = { mark: mark as AgentMarkName, fields: Object.fromEntries(fields) }
      this.#sink.take({ kind: 'mark', line: this.#lines, ...entry })
      return true
    }
    this.#damaged(bytes, offsetBytes, `no mark is called "${body.slice(0, 40)}"`)
    return true
  }

  #takeCommand(text: string, bytes: Uint8Array, offsetBytes: number): void {
    const line = this.#lines
    const read = readAgentLine(text)
    if (read === undefined && NO_TEXT.test(text)) {
      this.#damaged(bytes, offsetBytes, 'it holds bytes that no console prints')
    } else if (read === undefined) this.#counts.noise++
    else if ('unknown' in read) {
      const name = read.unknown.slice(0, 100)
      this.#unknown.add(name, line)
      this.#sink.take({ kind: 'unknown', line, name, isRefused: read.isRefused })
    } else if ('damaged' in read) this.#damaged(bytes, offsetBytes, read.damaged, read.name)
    else {
      this.#counts.events++
      this.#declared.add(read.command.name, line)
      this.#sink.take({ kind: 'command', line, ...read })
    }
  }
}
