import { type Journal, keyOf } from '../../bits/state.ts'
import { Held } from './held.ts'

/** Pages [first, end) of the guest's memory. */
export interface PageRange {
  readonly first: number
  readonly end: number
}

const hashOf = (ranges: readonly PageRange[]): number => keyOf(...ranges.flatMap((r) => [r.first, r.end]))

/** The memory that the guest kernel has now, in system pages: ascending ranges that do not touch. */
export class SystemRam {
  readonly pageShift: number
  readonly #ranges: Held<readonly PageRange[]>
  readonly #maxBytes: bigint

  /** @param maxBytes end of all memory that can ever be plugged in */
  constructor(journal: Journal, pageShift: number, maxBytes: bigint) {
    this.pageShift = pageShift
    this.#maxBytes = maxBytes
    this.#ranges = new Held<readonly PageRange[]>(journal, 'system ram', [], hashOf)
  }

  get ranges(): readonly PageRange[] {
    return this.#ranges.value
  }

  /** First page past all memory. */
  get endPage(): number {
    return this.ranges.at(-1)?.end ?? 0
  }

  /** End of all memory that is there or can come, in bytes. */
  get maxBytes(): bigint {
    const end = BigInt(this.endPage) << BigInt(this.pageShift)
    return end > this.#maxBytes ? end : this.#maxBytes
  }

  /** Address of the last page that is there: what a device must reach to reach all memory. */
  get lastPage(): bigint {
    return BigInt(Math.max(0, this.endPage - 1)) << BigInt(this.pageShift)
  }

  overlaps({ first, end }: PageRange): boolean {
    return this.ranges.some((r) => r.first < end && first < r.end)
  }

  covers({ first, end }: PageRange): boolean {
    return this.ranges.some((r) => r.first <= first && end <= r.end)
  }

  add({ first, end }: PageRange): void {
    const out: PageRange[] = []
    for (const range of [...this.ranges, { first, end }].sort((a, b) => a.first - b.first)) {
      const last = out.at(-1)
      if (last !== undefined && last.end === range.first)
        out[out.length - 1] = { first: last.first, end: range.end }
      else out.push(range)
    }
    this.#ranges.set(out)
  }

  remove({ first, end }: PageRange): void {
    this.#ranges.set(
      this.ranges
        .flatMap((r) => [
          { first: r.first, end: Math.min(r.end, first) },
          { first: Math.max(r.first, end), end: r.end },
        ])
        .filter((r) => r.first < r.end),
    )
  }
}
