import { LineBuffer, type LineTarget } from '../line-buffer.ts'
import { DmesgJson, type JournalEntry, journalMessage } from './journal-entry.ts'
import { type LineFamily, type LineTemplate, type LineValues, lineValues } from './line-format.ts'
import { type LineOrigin, LogPrefix } from './log-prefix.ts'
import { TemplateIndex } from './template-index.ts'
import { WordFinder } from './word-finder.ts'

/** Entries of the journal in JSON are long; a longer line is counted, and not read. */
export const KERNEL_LINE_BYTES_MAX = 16_384
/** What a template can match is shorter by far. */
const MESSAGE_LETTERS_MAX = 2048
const NEWLINE = 0x0a
const BRACE = 0x7b
const SPACE = 0x20
const TAB = 0x09
/** How rsyslog and /dev/kmsg write a newline inside of a message. */
const RSYSLOG_NEWLINE = '#012'
const KMSG_NEWLINE = '\\x0a'
const NEWLINES = /#012|\\x0a/
const PARTS_MAX = 64

/** A line that a template took. */
export interface FoundLine<T extends string = string> {
  readonly family: LineFamily
  readonly template: LineTemplate<T>
  /** Its number in the log, from 1. */
  readonly line: number
  /** Microseconds since the kernel started; -1 where the line does not say. */
  readonly timeUs: number
  readonly origin: LineOrigin
  /** The message without its prefix. */
  readonly text: string
  readonly found: readonly (string | undefined)[]
}

/**
 * The values of a line that is of this template; nothing where it is of another.
 *
 * @example
 * const fault = valuesOf(VTD_FAULT_5_4, line)
 * if (fault !== undefined) report(fault.device, fault.address)
 */
export const valuesOf = <T extends string>(
  template: LineTemplate<T>,
  line: FoundLine,
): LineValues<T> | undefined =>
  line.template.id === template.id ? lineValues(template, line.found) : undefined

/** Takes what is read, in the order of the log. */
export interface FoundLineSink {
  found(line: FoundLine): void
  /** A line that no template takes, though a word of this family stands in it. */
  unexplained?(family: LineFamily, line: number, text: string): void
}

/** How many lines were read, and what became of them. */
export interface KernelLogSummary {
  readonly lines: number
  /** Taken by a template. */
  readonly understood: number
  /** All others: empty ones, those of other programs, and those that are too long. */
  readonly unknown: number
  readonly tooLong: number
  readonly bytes: number
}

/** Hosts that entries in JSON name, at most. */
const HOSTS_MAX = 16

/**
 * Reads the log of a kernel, of Xen, or of QEMU: dmesg, the journal (short or JSON), a serial console, stderr; plain or
 * mixed. Lines that no template takes are counted, never guessed at. Memory stays bounded whatever comes.
 *
 * @example
 * const reader = new KernelLogReader(LINE_FAMILIES, { found: (line) => use(line) })
 * for await (const piece of input) reader.push(piece)
 * const { lines, understood, unknown } = reader.end()
 */
export class KernelLogReader implements LineTarget {
  readonly #mentions = new WordFinder<LineFamily>()
  readonly #index: TemplateIndex
  readonly #sink: FoundLineSink
  readonly #buffer = new LineBuffer(this, KERNEL_LINE_BYTES_MAX)
  readonly #decoder = new TextDecoder()
  readonly #prefix = new LogPrefix()
  readonly #dmesg = new DmesgJson()
  #lines = 0
  #understood = 0
  #tooLong = 0

  constructor(families: readonly LineFamily[], sink: FoundLineSink) {
    this.#index = new TemplateIndex(families)
    for (const family of families) for (const word of family.mentions) this.#mentions.add(word, family)
    this.#sink = sink
  }

  push(piece: Uint8Array): void {
    this.#buffer.push(piece)
  }

  /** Hosts that the log names: for those who do not want to tell. */
  get hosts(): readonly string[] {
    return [...this.#prefix.hosts]
  }

  /** What was read so far. */
  get summary(): KernelLogSummary {
    return {
      lines: this.#lines,
      understood: this.#understood,
      unknown: this.#lines - this.#understood,
      tooLong: this.#tooLong,
      bytes: this.#buffer.offsetBytes,
    }
  }

  /** The log ends here: its last line may have no newline. */
  end(): KernelLogSummary {
    this.#buffer.end()
    return this.summary
  }

  takeLines(bytes: Uint8Array, to: number): void {
    let at = 0
    while (at < to) {
      const end = bytes.indexOf(NEWLINE, at)
      this.#lines++
      if (end - at > KERNEL_LINE_BYTES_MAX) this.#tooLong++
      else if (end > at) this.#line(bytes.subarray(at, end))
      at = end + 1
    }
  }

  takeLongLine(): void {
    this.#lines++
    this.#tooLong++
  }

  #line(bytes: Uint8Array): void {
    const text = this.#decoder.decode(bytes)
    const entry = this.#entry(bytes[0], text)
    if (entry === undefined) {
      const message = this.#prefix.message(text)
      if (this.#message(message, this.#prefix.timeUs)) this.#understood++
      return
    }
    const { hosts } = this.#prefix
    if (entry.host !== undefined && hosts.size < HOSTS_MAX) hosts.add(entry.host)
    // An entry may hold more than one line, and its text may have a prefix of its own.
    let isUnderstood = false
    for (const part of entry.lines) {
      const message = this.#prefix.message(part)
      if (entry.isQemu) this.#prefix.origin = 'qemu'
      const timeUs = this.#prefix.timeUs < 0 ? entry.timeUs : this.#prefix.timeUs
      if (this.#message(message, timeUs)) isUnderstood = true
    }
    if (isUnderstood) this.#understood++
  }

  /** What a line of JSON holds; nothing for lines of all other forms. */
  #entry(first: number | undefined, text: string): JournalEntry | undefined {
    if (first === BRACE) return journalMessage(text)
    return first === SPACE || first === TAB ? this.#dmesg.entry(text) : undefined
  }

  /** A message of two lines that something has written into one. */
  #parts(text: string, timeUs: number): boolean {
    let isUnderstood = false
    for (const part of text.split(NEWLINES, PARTS_MAX))
      if (this.#message(part.trimStart(), timeUs)) isUnderstood = true
    return isUnderstood
  }

  /** Answers whether a template took it. */
  #message(text: string, timeUs: number): boolean {
    if (text.length === 0 || text.length > MESSAGE_LETTERS_MAX) return false
    const { origin } = this.#prefix
    const match = this.#index.match(text)
    if (match !== undefined) {
      // Written out: a spread of an object costs more than all else that is done with a line.
      const { family, template, found } = match
      this.#sink.found({ family, template, found, line: this.#lines, timeUs, origin, text })
      return true
    }
    if (text.includes(RSYSLOG_NEWLINE) || text.includes(KMSG_NEWLINE)) return this.#parts(text, timeUs)
    if (this.#sink.unexplained === undefined) return false
    const family = this.#mentions.find(text, (named) => named)
    if (family !== undefined) this.#sink.unexplained(family, this.#lines, text)
    return false
  }
}
