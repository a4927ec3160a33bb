import { pageOf } from '../../bits/u64.ts'

/** 4 KiB: no IOMMU of ours unmaps less. */
const PAGE_SHIFT = 12
const OFFSET_MASK = (1 << PAGE_SHIFT) - 1
const BIG_SHIFT = BigInt(PAGE_SHIFT)
/** Pages that are remembered, at most: as many as 32 bits of bus addresses have. Behind that it begins anew. */
const PAGES_MAX = 1 << 20

/**
 * Knows of stale maps from the device's side alone. A driver that goes through Linux's DMA API maps each buffer for one
 * request, and unmaps it when that is answered. So buffers of an answered request are given back; where a later request
 * has a buffer at the same bus page, and nothing was invalidated there in between, the map that the device still has is
 * of memory that was unmapped since.
 *
 * That is what drivers do, and no rule: one that maps its memory once and goes on using it breaks no promise. It is known
 * by its maps, which all lead to memory by one offset (Linux's direct windows of sPAPR, enable_ddw in
 * arch/powerpc/platforms/pseries/iommu.c; an identity domain); nothing is said of it.
 */
export class GivenBack {
  /** Bus pages of buffers of answered requests, until they are invalidated: whether one was said to be. */
  readonly #pages = new Map<number, boolean>()
  /** Those of the request that is served now. */
  readonly #held = new Set<number>()
  #offset: bigint | undefined
  #isDirect = true

  /** The device has a new IOTLB, and remembers nothing. */
  renew(): void {
    this.#pages.clear()
    this.#held.clear()
    this.#offset = undefined
    this.#isDirect = true
  }

  /**
   * A map of [iova, last] enters the IOTLB, which is what the IOMMU has now.
   *
   * @param memory guest address behind its first byte, undefined where no slot has it
   */
  filled(iova: bigint, last: bigint, memory: bigint | undefined): void {
    this.invalidated(iova, last)
    const offset = memory === undefined ? undefined : memory - iova
    if (offset === undefined || (this.#offset !== undefined && this.#offset !== offset))
      this.#isDirect = false
    this.#offset ??= offset
  }

  /** Bus addresses [iova, last] are invalidated. */
  invalidated(iova: bigint, last: bigint): void {
    const [first, end] = [Number(iova >> BIG_SHIFT), Number(last >> BIG_SHIFT)]
    if (end - first < this.#pages.size) {
      for (let page = first; page <= end; page++) this.#pages.delete(page)
    } else {
      for (const page of this.#pages.keys()) if (page >= first && page <= end) this.#pages.delete(page)
    }
  }

  /** The device looks at a request, for the first time or again: what it reached before was none that it answered. */
  begin(): void {
    this.#held.clear()
  }

  /** The device reaches a buffer. @returns whether one of its bus pages was given back, which is said once of a page */
  reach(hi: number, lo: number, bytes: number): boolean {
    const first = pageOf(hi, lo, PAGE_SHIFT)
    const pages = ((lo & OFFSET_MASK) + bytes + OFFSET_MASK) >>> PAGE_SHIFT
    let isNews = false
    for (let page = first; page < first + pages; page++) {
      this.#held.add(page)
      if (this.#isDirect || this.#pages.get(page) !== false) continue
      this.#pages.set(page, true)
      isNews = true
    }
    return isNews
  }

  /** The request is answered. */
  answered(): void {
    if (this.#pages.size >= PAGES_MAX) this.#pages.clear()
    for (const page of this.#held) if (!this.#pages.has(page)) this.#pages.set(page, false)
    this.#held.clear()
  }
}
