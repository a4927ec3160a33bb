import { pageOf } from '../../bits/u64.ts'

/** No handle is kept from one allocation to the next. */
export const NO_HANDLE = -1

/**
 * What a caller of the table allocator wants beside a number of entries. One object serves many allocations: an
 * allocation changes `handle` only.
 */
export class AllocRequest {
  /** CPU that asks: chooses the pool. */
  cpu = 0
  /** Slot to begin at in the first pass, 0 for none yet; afterwards the slot behind the allocation. NO_HANDLE keeps none. */
  handle = NO_HANDLE
  /** The slot must be a multiple of 2^alignOrder. */
  alignOrder = 0
  /** Highest absolute entry that the device reaches: its DMA mask >> page shift. */
  maskPages = 0
  /** IOMMU pages that an allocation must not cross a multiple of; a power of two. */
  boundary = 1

  /** Takes the reach of a DMA mask, given in lanes, in a table of 2^`pageShift`-byte pages. */
  reach(hi: number, lo: number, pageShift: number): this {
    this.maskPages = pageOf(hi, lo, pageShift)
    return this
  }

  /** Takes a segment boundary mask, given in lanes: all ones never comes in the way. */
  bound(hi: number, lo: number, pageShift: number): this {
    this.boundary = pageOf(hi, lo, pageShift) + 1
    return this
  }
}
