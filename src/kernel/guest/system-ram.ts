import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'

/** Pages [first, end) of the guest's memory. */
export interface PageRange {
  readonly first: number
  readonly end: number
}

const hashOf = (ranges: readonly PageRange[]): number => keyOf(...ranges.flatMap((r) => [r.first, r.end]))

/**
 * The memory that the guest kernel has now, in system pages: ascending ranges. What is there at boot is one range
 * where it meets; what is plugged in later stays a range of its own, as each is a resource of its own, and windows
 * are filled resource by resource. (Linux v6.1 arch/powerpc/mm/mem.c, kernel/resource.c, walk_system_ram_range)
 */
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
    let at = first
    for (const r of this.ranges) if (r.first <= at && at < r.end) at = r.end
    return at >= end
  }

  /** Memory that is found at boot. */
  add({ first, end }: PageRange): void {
    const before = this.ranges.find((r) => r.end === first)
    const behind = this.ranges.find((r) => r.first === end)
    const rest = this.ranges.filter((r) => r !== before && r !== behind)
    this.#set([...rest, { first: before?.first ?? first, end: behind?.end ?? end }])
  }

  /** Memory that is plugged in. */
  plug(range: PageRange): void {
    this.#set([...this.ranges, range])
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

  #set(ranges: readonly PageRange[]): void {
    this.#ranges.set(ranges.toSorted((a, b) => a.first - b.first))
  }
}
