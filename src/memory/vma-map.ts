import { NO_VALUE, RangeMap } from '../bits/range-map.ts'
import { type Journal, keyOf } from '../bits/state.ts'
import { MAP_COUNT_MAX } from './limits.ts'

/** Permissions of a range: bits of its value. A range with neither bit exists and cannot be used. */
export const VMA_READ = 1
export const VMA_WRITE = 2
const VMA_ACCESS = VMA_READ | VMA_WRITE
/** Where the value of a range has its huge page shift; 0 there for ordinary pages. */
const HUGE_SHIFT_AT = 2

/** The value of a range: its permissions and its huge page shift. */
export const rangeValue = (perm: number, hugeShift: number): number => perm | (hugeShift << HUGE_SHIFT_AT)
export const permOfValue = (value: number): number => value & VMA_ACCESS
export const hugeShiftOfValue = (value: number): number => value >>> HUGE_SHIFT_AT

/** What `perm` answers where nothing is mapped. */
export const NOT_MAPPED = -1
/** What `choose` answers where no gap is large enough. */
export const NO_GAP = -1

/** Distance of the highest mapping from the end of user space, without address randomisation. */
const TOP_GAP_BYTES = 128 * 1024 * 1024
/** Lowest address that the kernel chooses (Linux, vm.mmap_min_addr of Debian). */
const LOWEST_BYTES = 65_536

/** The ranges of an address space with their permissions and the pages that back them, in system pages. */
export class VmaMap {
  /** First page past user space. */
  readonly endPage: number
  readonly #ranges: RangeMap
  readonly #pageShift: number
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
    this.#pageShift = options.pageShift
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
    return value === NO_VALUE ? NOT_MAPPED : permOfValue(value)
  }

  /** Whether a page may be used as asked. Memory that may be written may be read. */
  permits(page: number, write: boolean): boolean {
    const value = this.#ranges.get(page)
    return value !== NO_VALUE && (write ? (value & VMA_WRITE) !== 0 : permOfValue(value) !== 0)
  }

  /** Ranges that reach into [from, end), in order. */
  ranges(from = 0, end = this.endPage): ReturnType<RangeMap['ranges']> {
    return this.#ranges.ranges(from, end)
  }

  isEmpty(from: number, end: number): boolean {
    return !this.#ranges.next(from) || this.#ranges.start >= end
  }

  /** @param value `rangeValue`, or permissions alone for ordinary pages */
  set(from: number, end: number, value: number): void {
    this.#ranges.set(from, end, value)
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

  /** Whether an edge of [from, end) cuts a huge page of a range in two. */
  cutsHugePage(from: number, end: number): boolean {
    return this.#isInsideHugePage(from) || this.#isInsideHugePage(end)
  }

  /** Whether another value for [from, end), which lies in one range, would make more ranges than there may be. */
  changesPastLimit(from: number, end: number, value: number): boolean {
    const ranges = this.#ranges
    if (!ranges.next(from) || ranges.value === value) return false
    const splits = (ranges.start < from ? 1 : 0) + (ranges.end > end ? 1 : 0)
    return ranges.count + splits > this.#countMax
  }

  /**
   * Where a mapping of `pages` goes that names no fixed place: the hint, rounded up, if the range is free there,
   * else the highest gap that holds it. The same ranges always give the same answer.
   *
   * @param alignPages what the first page must be a multiple of
   */
  choose(pages: number, hintPage: number, alignPages = 1): number {
    const hint = Math.ceil(hintPage / alignPages) * alignPages
    if (hint >= this.#lowestPage && hint + pages <= this.endPage && this.isEmpty(hint, hint + pages))
      return hint
    let end = this.#topPage
    for (;;) {
      const start = Math.floor((end - pages) / alignPages) * alignPages
      if (start < this.#lowestPage) return NO_GAP
      if (!this.#ranges.before(start + pages) || this.#ranges.end <= start) return start
      end = this.#ranges.start
    }
  }

  #isInsideHugePage(page: number): boolean {
    const ranges = this.#ranges
    if (!ranges.next(page) || ranges.start >= page) return false
    const hugeShift = hugeShiftOfValue(ranges.value)
    return hugeShift !== 0 && page % 2 ** (hugeShift - this.#pageShift) !== 0
  }
}
