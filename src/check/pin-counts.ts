import { RangeMap } from '../bits/range-map.ts'

/** How often each page of a process is pinned, and by which record last. */
export class PinCounts {
  readonly #counts = new RangeMap()
  readonly #pinnedBy = new RangeMap()
  #total = 0
  #loose = 0

  /** Pages that are pinned at least once. */
  get pages(): number {
    return this.#counts.pages
  }

  /** Pins that are left, those taken back at a place that is not known counted out; below 0 where there were fewer. */
  get left(): number {
    return this.#total - this.#loose
  }

  /** Whether pins were taken back that could have been of any page. */
  get isLoose(): boolean {
    return this.#loose > 0
  }

  /** Pins are taken back, and the log does not say of which pages. */
  unpinSomewhere(count: number): void {
    this.#loose += count
  }

  /** Pages [from, end) are pinned once more by a record. */
  pin(from: number, end: number, record: number): void {
    this.#pinnedBy.set(from, end, record)
    this.#change(from, end, 1)
    this.#total += end - from
  }

  /** Pages [from, end) are pinned once less. Answers how many of them were pinned. */
  unpin(from: number, end: number): number {
    const pinned = this.#change(from, end, -1)
    this.#total -= pinned
    return pinned
  }

  /** The first stretch of pinned pages: where it starts, how many pages, and the record that pinned it last. */
  first(): { readonly page: number; readonly pages: number; readonly record: number } | undefined {
    const counts = this.#counts
    if (!counts.next(0)) return undefined
    const { start, end } = counts
    return { page: start, pages: end - start, record: this.#pinnedBy.get(start) }
  }

  #change(from: number, end: number, delta: 1 | -1): number {
    const counts = this.#counts
    let pinned = 0
    for (let at = from; at < end; ) {
      let stop = end
      let count = 0
      if (counts.next(at) && counts.start < end) {
        if (counts.start > at) stop = counts.start
        else {
          count = counts.value
          stop = Math.min(end, counts.end)
        }
      }
      if (count > 0) pinned += stop - at
      if (count + delta > 0) counts.set(at, stop, count + delta)
      else counts.erase(at, stop)
      at = stop
    }
    return pinned
  }
}
