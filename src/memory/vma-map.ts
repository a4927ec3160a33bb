import { NO_VALUE, RangeMap } from '../bits/range-map.ts'
import { type Journal, keyOf } from '../bits/state.ts'
import { MAP_COUNT_MAX } from './limits.ts'

/** Permissions of a range: bits of its value. A range with neither bit exists and cannot be used. */
export const VMA_READ = 1
export const VMA_WRITE = 2

/** What `perm` answers where nothing is mapped. */
export const NOT_MAPPED = -1
/** What `choose` answers where no gap is large enough. */
export const NO_GAP = -1

/** Distance of the highest mapping from the end of user space, without address randomisation. */
const TOP_GAP_BYTES = 128 * 1024 * 1024
/** Lowest address that the kernel chooses (Linux, vm.mmap_min_addr of Debian). */
const LOWEST_BYTES = 65_536

/** The ranges of an address space with their permissions, in system pages. */
export class VmaMap {
  /** First page past user space. */
  readonly endPage: number
  readonly #ranges: RangeMap
  readonly #topPage: number
  readonly #lowestPage: number
  readonly #countMax: number

  constructor(options: {
    readonly journal: Journal
    readonly name: string
    readonly pageShift: number
    readonly taskBytes: number
    readonly countMax?: number
  }) {
    const pageBytes = 2 ** options.pageShift
    this.#ranges = new RangeMap({ journal: options.journal, key: keyOf('vma', options.name) })
    this.endPage = Math.floor(options.taskBytes / pageBytes)
    this.#topPage = Math.floor((options.taskBytes - TOP_GAP_BYTES) / pageBytes)
    this.#lowestPage = Math.max(1, LOWEST_BYTES / pageBytes)
    this.#countMax = options.countMax ?? MAP_COUNT_MAX
  }

  get count(): number {
    return this.#ranges.count
  }

  get isOverLimit(): boolean {
    return this.#ranges.count > this.#countMax
  }

  /** Permissions at a page, or NOT_MAPPED. */
  perm(page: number): number {
    const value = this.#ranges.get(page)
    return value === NO_VALUE ? NOT_MAPPED : value
  }

  /** Whether a page may be used as asked. Memory that may be written may be read. */
  permits(page: number, write: boolean): boolean {
    const value = this.#ranges.get(page)
    return value !== NO_VALUE && (write ? (value & VMA_WRITE) !== 0 : value !== 0)
  }

  /** Ranges that reach into [from, end), in order. */
  ranges(from = 0, end = this.endPage): ReturnType<RangeMap['ranges']> {
    return this.#ranges.ranges(from, end)
  }

  isEmpty(from: number, end: number): boolean {
    return !this.#ranges.next(from) || this.#ranges.start >= end
  }

  set(from: number, end: number, perm: number): void {
    this.#ranges.set(from, end, perm)
  }

  erase(from: number, end: number): void {
    this.#ranges.erase(from, end)
  }

  /** Whether taking [from, end) out of the middle of one range would make more ranges than there may be. */
  splitsPastLimit(from: number, end: number): boolean {
    const { count } = this.#ranges
    return (
      count >= this.#countMax &&
      this.#ranges.next(from) &&
      this.#ranges.start < from &&
      this.#ranges.end > end
    )
  }

  /** Whether other permissions for [from, end), which lies in one range, would make more ranges than there may be. */
  changesPastLimit(from: number, end: number, perm: number): boolean {
    const ranges = this.#ranges
    if (!ranges.next(from) || ranges.value === perm) return false
    const splits = (ranges.start < from ? 1 : 0) + (ranges.end > end ? 1 : 0)
    return ranges.count + splits > this.#countMax
  }

  /**
   * Where a mapping of `pages` goes that names no fixed place: the hint if the range is free there, else the
   * highest gap that holds it. The same ranges always give the same answer.
   */
  choose(pages: number, hintPage: number): number {
    if (
      hintPage >= this.#lowestPage &&
      hintPage + pages <= this.endPage &&
      this.isEmpty(hintPage, hintPage + pages)
    ) {
      return hintPage
    }
    let end = this.#topPage
    for (;;) {
      const start = end - pages
      if (start < this.#lowestPage) return NO_GAP
      if (!this.#ranges.before(end) || this.#ranges.end <= start) return start
      end = this.#ranges.start
    }
  }
}
