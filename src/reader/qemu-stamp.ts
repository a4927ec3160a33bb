import type { LinePrefix } from './line-prefix.ts'

const ZERO = 0x30
const NINE = 0x39
const AT = 0x40
const DOT = 0x2e
const COLON = 0x3a
const SPACE = 0x20
const DASH = 0x2d
const CAPITAL_T = 0x54
const CAPITAL_Z = 0x5a
const MICROSECONDS = 1_000_000

/** Days from 1 January 1970 to a day of the Gregorian calendar. */
function daysTo(year: number, month: number, day: number): number {
  const y = month > 2 ? year : year - 1
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
  return (
    era * 146_097 +
    yearOfEra * 365 +
    Math.floor(yearOfEra / 4) -
    Math.floor(yearOfEra / 100) +
    dayOfYear -
    719_468
  )
}

/**
 * The time stamp that QEMU puts before each line when it runs with `-msg timestamp=on`:
 * `pid@seconds.microseconds:` (QEMU 7.2 scripts/tracetool/backend/log.py), or a UTC time in ISO 8601 and a
 * space (later QEMU, util/log.c).
 */
export class QemuStamp implements LinePrefix {
  /** Microseconds since 1970 of the stamp that was read last. */
  timeUs = -1
  readonly nameEnd = SPACE
  #value = 0

  begins(first: number): boolean {
    return first <= NINE && first >= ZERO
  }

  isComment(): boolean {
    return false
  }

  whyNone(bytes: Uint8Array, _at: number, from: number): string {
    if (from < 0) return 'it begins with a digit, but with no time stamp'
    return bytes[from] === 0
      ? 'NUL bytes stand where an event should begin'
      : 'no event name stands at its start'
  }

  /** Reads the stamp at `at`, where a digit stands. Answers where the event begins, or -1 if this is no stamp. */
  skip(bytes: Uint8Array, at: number): number {
    const end = this.#digits(bytes, at, 10)
    if (bytes[end] === DASH && end - at === 4) return this.#iso(bytes, at)
    if (bytes[end] !== AT) return -1
    const dot = this.#digits(bytes, end + 1, 10)
    const seconds = this.#value
    if (bytes[dot] !== DOT || dot === end + 1) return -1
    const colon = this.#digits(bytes, dot + 1, 7)
    this.timeUs = seconds * MICROSECONDS + this.#value
    if (colon !== dot + 7 || !Number.isSafeInteger(this.timeUs)) return -1
    return bytes[colon] === COLON || bytes[colon] === SPACE ? colon + 1 : -1
  }

  /** Reads up to `most` decimal digits into #value and answers where they end. */
  #digits(bytes: Uint8Array, at: number, most: number): number {
    let end = at
    let value = 0
    for (const last = at + most; end < last; end++) {
      const digit = (bytes[end] as number) - ZERO
      if (digit < 0 || digit > 9) break
      value = value * 10 + digit
    }
    this.#value = value
    return end
  }

  /** A number of two digits between separators; -1 if there is none. */
  #two(bytes: Uint8Array, at: number, before: number): number {
    return bytes[at - 1] === before && this.#digits(bytes, at, 2) === at + 2 ? this.#value : -1
  }

  #iso(bytes: Uint8Array, at: number): number {
    const year = this.#value
    const month = this.#two(bytes, at + 5, DASH)
    const day = this.#two(bytes, at + 8, DASH)
    const hour = this.#two(bytes, at + 11, CAPITAL_T)
    const minute = this.#two(bytes, at + 14, COLON)
    const second = this.#two(bytes, at + 17, COLON)
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23) return -1
    if (minute < 0 || minute > 59 || second < 0 || second > 60) return -1
    let end = at + 19
    this.#value = 0
    if (bytes[end] === DOT) {
      end = this.#digits(bytes, end + 1, 7)
      if (end !== at + 26) return -1
    }
    if (bytes[end] !== CAPITAL_Z || bytes[end + 1] !== SPACE) return -1
    const seconds = daysTo(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    this.timeUs = seconds * MICROSECONDS + this.#value
    return end + 2
  }
}
