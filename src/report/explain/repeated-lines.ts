import type { FoundLine } from '../../reader/kernel-log/kernel-log-reader.ts'

/** Lines of an earlier part of the log that are known again. */
const KNOWN_MAX = 20_000
/** Stamps of one boot may be out of order by this much: processors print side by side. */
const DISORDER_US = 1_000_000

/**
 * Finds lines that stand in a log twice: a console that also shows the output of dmesg. Such a line has the same text
 * and the same time in microseconds, and comes after the time went back. Bounded: of a longer part the first lines are
 * known again.
 */
export class RepeatedLines {
  readonly #known = new Set<string>()
  #count = 0
  #latestUs = -1
  #isSecond = false

  /** Lines that were found twice. */
  get count(): number {
    return this.#count
  }

  isRepeated({ timeUs, text }: FoundLine): boolean {
    if (timeUs < 0) return false
    if (timeUs < this.#latestUs - DISORDER_US) this.#isSecond = true
    if (timeUs > this.#latestUs) this.#latestUs = timeUs
    const isKept = this.#known.size < KNOWN_MAX
    if (!this.#isSecond && !isKept) return false
    const key = `${timeUs} ${text}`
    if (this.#isSecond && this.#known.has(key)) {
      this.#count++
      return true
    }
    if (isKept) this.#known.add(key)
    return false
  }
}
