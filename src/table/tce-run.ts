/**
 * A run of neighbouring entries that one record can tell: the first holds `hi` and `lo`, each next one 2^step
 * more, or the same for step -1. Entries are offered in order; one that does not go on with the run is refused,
 * and the caller then ends the run and starts another.
 *
 * `wasLive` (whether the entries let a device through before they were written) is the same all over a run.
 */
export class TceRun {
  first = 0
  count = 0
  hi = 0
  lo = 0
  step = -1
  wasLive = false
  #pageShift = 12
  #pageHi = 0
  #pageLo = 0
  #nextHi = 0
  #nextLo = 0

  /** IOMMU page size of the window that the entries are in; nothing is in the run. */
  begin(pageShift: number): void {
    this.count = 0
    this.#pageShift = pageShift
    this.#pageLo = pageShift < 32 ? 1 << pageShift : 0
    this.#pageHi = pageShift < 32 ? 0 : 1 << (pageShift - 32)
  }

  start(entry: number, hi: number, lo: number, wasLive: boolean): void {
    this.first = entry
    this.count = 1
    this.hi = hi
    this.lo = lo
    this.step = -1
    this.wasLive = wasLive
    this.#after(hi, lo)
  }

  /** Whether the next entry goes on with the run; it is then part of it. */
  takes(hi: number, lo: number, wasLive: boolean): boolean {
    if (wasLive !== this.wasLive) return false
    const isNext = lo === this.#nextLo && hi === this.#nextHi
    if (this.count === 1 && isNext) this.step = this.#pageShift
    else if (this.step === -1 ? lo !== this.lo || hi !== this.hi : !isNext) return false
    this.count++
    if (isNext) this.#after(hi, lo)
    return true
  }

  #after(hi: number, lo: number): void {
    const low = (lo >>> 0) + (this.#pageLo >>> 0)
    this.#nextLo = low | 0
    this.#nextHi = (hi + this.#pageHi + (low > 0xffff_ffff ? 1 : 0)) | 0
  }
}
