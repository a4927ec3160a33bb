import { hex } from '../../bits/u64.ts'
import type { Because } from './fault-log.ts'

/** Ranges that are kept; of a longer trace the newest. */
const RANGES_MAX = 50_000
/** Ranges of so many pages and more are looked through one by one. */
const LARGE_PAGES = 512n
const LARGE_MAX = 1000
const PAGE_SHIFT = 12n

interface Range {
  readonly first: bigint
  readonly end: bigint
  readonly mapLine: number
  unmapLine: number
}

/** What a kernel traces of its mappings: when the page of an address was mapped, and when it no longer was. Bounded. */
export class TracedPages {
  /** By first page: the last range that began there. */
  readonly #ranges = new Map<bigint, Range>()
  #large: Range[] = []

  map(first: bigint, end: bigint, line: number): void {
    this.#keep({ first, end, mapLine: line, unmapLine: 0 })
  }

  unmap(first: bigint, end: bigint, line: number): void {
    const known = this.#rangeAt(first)
    if (known !== undefined && known.first === first) known.unmapLine = line
    else this.#keep({ first, end, mapLine: 0, unmapLine: line })
  }

  /** Lines that mapped the page of an address last, and unmapped it; none where the trace has none. */
  storyOf(address: bigint): readonly Because[] {
    const range = this.#rangeAt(address)
    if (range === undefined) return []
    const named = `${hex(range.first)}-${hex(range.end - 1n)}`
    return [
      ...(range.mapLine > 0 ? [{ line: range.mapLine, text: `${named} was mapped` }] : []),
      ...(range.unmapLine > range.mapLine
        ? [{ line: range.unmapLine, text: `${named} was unmapped: the device came too late` }]
        : []),
    ]
  }

  #keep(range: Range): void {
    const pages = (range.end - range.first) >> PAGE_SHIFT
    if (pages >= LARGE_PAGES) {
      if (this.#large.length >= LARGE_MAX) this.#large = this.#large.slice(LARGE_MAX >> 1)
      this.#large.push(range)
      return
    }
    for (let page = range.first >> PAGE_SHIFT; page << PAGE_SHIFT < range.end; page++) {
      // What is set again moves to the end: the oldest go first.
      this.#ranges.delete(page)
      this.#ranges.set(page, range)
      if (this.#ranges.size > RANGES_MAX) {
        for (const oldest of this.#ranges.keys()) {
          this.#ranges.delete(oldest)
          break
        }
      }
    }
  }

  #rangeAt(address: bigint): Range | undefined {
    const small = this.#ranges.get(address >> PAGE_SHIFT)
    const large = this.#large.findLast(({ first, end }) => address >= first && address < end)
    if (small === undefined || large === undefined) return small ?? large
    return latest(small) >= latest(large) ? small : large
  }
}

const latest = ({ mapLine, unmapLine }: Range): number => Math.max(mapLine, unmapLine)
