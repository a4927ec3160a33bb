import type { LinePrefix } from './line-prefix.ts'

const NEWLINE = 0x0a
const SPACE = 0x20
const HASH = 0x23
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN = 0x5b
const CLOSE = 0x5d
/** A task, its number and its group take no more. */
const TASK_BYTES_MAX = 64
/** Digits of a CPU are three at least. */
const CPU_DIGITS_MIN = 3
const FLAGS_BYTES_MAX = 10
const MICROSECOND_DIGITS = 6
const SECOND_DIGITS_MAX = 10
/** Clocks that count instead of telling the time have no dot. */
const CLOCK_DIGITS_MAX = 20
const MICROSECONDS = 1_000_000
const LOST = /^CPU:\d+ \[LOST (\d+ )?EVENTS\]/

/**
 * What Linux puts before each event of its trace: the task, the CPU in brackets, flags, and the time since the clock began
 * (Linux v6.1 kernel/trace/trace_output.c trace_print_context). A task may be called anything, so the CPU is looked for
 * from the left, and taken where a time follows it.
 *
 * @example
 * '          <idle>-0       [000] d.h2.     2.024434: unmap: IOMMU: ...' // the event begins at `unmap`
 */
export class FtracePrefix implements LinePrefix {
  timeUs = -1
  readonly nameEnd = COLON
  #end = 0

  begins(first: number): boolean {
    return first !== HASH
  }

  isComment(first: number): boolean {
    return first === HASH
  }

  skip(bytes: Uint8Array, at: number): number {
    for (let p = at; p < at + TASK_BYTES_MAX; p++) {
      const byte = bytes[p]
      if (byte === NEWLINE || byte === undefined) return -1
      if (byte !== OPEN || bytes[p - 1] !== SPACE) continue
      const flags = behindCpu(bytes, p + 1)
      if (flags > 0 && (this.#time(bytes, flags) || this.#time(bytes, behindFlags(bytes, flags))))
        return this.#end
    }
    return -1
  }

  whyNone(bytes: Uint8Array, at: number, from: number): string {
    if (from >= 0) return 'no event name stands behind the time'
    const line = String.fromCharCode(...bytes.subarray(at, at + TASK_BYTES_MAX))
    const lost = LOST.exec(line)
    if (lost === null) return 'no task, CPU and time stand before an event'
    return `the kernel had no room for ${lost[1] ?? 'some '}events: they are lost`
  }

  /** Reads the time at `at`, up to the colon and the space behind it. */
  #time(bytes: Uint8Array, at: number): boolean {
    let p = at
    while (bytes[p] === SPACE) p++
    const dot = digitsEnd(bytes, p)
    if (dot === p || dot - p > CLOCK_DIGITS_MAX) return false
    let end = dot
    this.timeUs = -1
    if (bytes[dot] === DOT) {
      end = digitsEnd(bytes, dot + 1)
      if (end - dot - 1 < MICROSECOND_DIGITS || dot - p > SECOND_DIGITS_MAX) return false
      this.timeUs =
        decimalOf(bytes, p, dot) * MICROSECONDS + decimalOf(bytes, dot + 1, dot + 1 + MICROSECOND_DIGITS)
    }
    if (bytes[end] !== COLON || bytes[end + 1] !== SPACE) return false
    this.#end = end + 2
    return true
  }
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= ZERO && byte <= NINE

function digitsEnd(bytes: Uint8Array, at: number): number {
  let p = at
  while (isDigit(bytes[p])) p++
  return p
}

function decimalOf(bytes: Uint8Array, from: number, to: number): number {
  let value = 0
  for (let p = from; p < to; p++) value = value * 10 + (bytes[p] as number) - ZERO
  return value
}

/** Where the text behind `012] ` begins; -1 if no CPU stands at `at`. */
function behindCpu(bytes: Uint8Array, at: number): number {
  const end = digitsEnd(bytes, at)
  return end - at >= CPU_DIGITS_MIN && bytes[end] === CLOSE && bytes[end + 1] === SPACE ? end + 2 : -1
}

/** Where the text behind a word of flags begins; the end of its line where no word stands at `at`. */
function behindFlags(bytes: Uint8Array, at: number): number {
  let p = at
  for (const last = at + FLAGS_BYTES_MAX; p < last; p++) {
    if (bytes[p] === SPACE || bytes[p] === NEWLINE) break
  }
  return bytes[p] === SPACE ? p : bytes.indexOf(NEWLINE, at)
}
