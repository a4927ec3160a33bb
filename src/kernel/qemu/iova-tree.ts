import { RangeMap } from '../../bits/range-map.ts'
import { type Journal, keyOf } from '../../bits/state.ts'

/** Bits of the target page in the first of the two values of a range. */
const TARGET_BITS = 30
const TARGET_UNIT = 2 ** TARGET_BITS
const PERM_BITS = 2

/**
 * What QEMU's intel-iommu believes that the listeners of a device have mapped: disjoint ranges of 4 KiB bus pages, each
 * with the page that it leads to and its permissions. (QEMU 7.2 util/iova-tree.c)
 */
export class IovaTree {
  // Pages are below 2^52: their lower 30 bits here, the others with the permissions there.
  readonly #low: RangeMap
  readonly #high: RangeMap

  /** @param name stands for the device in the hash of the state */
  constructor(journal: Journal, name: string) {
    this.#low = new RangeMap({ journal, key: keyOf('iova tree', name), merge: false })
    this.#high = new RangeMap({ journal, key: keyOf('iova tree targets', name), merge: false })
  }

  /** Ranges. */
  get count(): number {
    return this.#low.count
  }

  /** Whether a range shares a page with [first, end). */
  overlaps(first: number, end: number): boolean {
    return this.#low.next(first) && this.#low.start < end
  }

  /** Whether exactly this range is there. */
  holds(first: number, end: number, target: number, perm: number): boolean {
    const [low, high] = [this.#low, this.#high]
    if (!low.next(first) || low.start !== first || low.end !== end || low.value !== lowOf(target))
      return false
    return high.get(first) === highOf(target, perm)
  }

  /** A range that overlaps none is added. */
  insert(first: number, end: number, target: number, perm: number): void {
    this.#low.set(first, end, lowOf(target))
    this.#high.set(first, end, highOf(target, perm))
  }

  /** Every range that shares a page with [first, end) goes, whole. */
  remove(first: number, end: number): void {
    while (this.overlaps(first, end)) {
      const { start, end: stop } = this.#low
      this.#low.erase(start, stop)
      this.#high.erase(start, stop)
    }
  }
}

const lowOf = (target: number): number => target % TARGET_UNIT
const highOf = (target: number, perm: number): number =>
  (Math.floor(target / TARGET_UNIT) << PERM_BITS) | perm
