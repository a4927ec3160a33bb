/** Numbers that fields of records carry: whoever makes the records and whoever reads them share them. */

/** `type` of a `vhost.message`. (Linux v6.1 include/uapi/linux/vhost_types.h; 5 and 6 are for vdpa only) */
export const IOTLB_MESSAGE = {
  MISS: 1,
  UPDATE: 2,
  INVALIDATE: 3,
  ACCESS_FAIL: 4,
  BATCH_BEGIN: 5,
  BATCH_END: 6,
} as const
export type IotlbMessageName = keyof typeof IOTLB_MESSAGE

/** Added to the `part` of an `iotlb.use` where a remembered pointer was used, and no map looked at. */
export const REMEMBERED = 4

/** `scope` of a `domain.flush`. */
export const FLUSH_SCOPE = {
  ALL: 1,
  DOMAIN: 2,
  PAGES: 3,
  DEVICE_TLB: 4,
  CONTEXT: 5,
  PASID_CACHE: 6,
  PASID_PAGES: 7,
  PASID: 8,
  PASID_DEVICE_TLB: 9,
  INTERRUPT_ENTRY: 10,
} as const

/** `cache` of a `vtd.fill`. */
export const VTD_CACHE = { IOTLB: 1, DEVICE_TLB: 2, PAGING_STRUCTURE: 3 } as const

/** Flags of a `vtd.page-request`. */
export const PAGE_REQUEST = {
  PRIVILEGED: 1,
  EXECUTE: 2,
  WRITE: 4,
  READ: 8,
  LAST: 16,
  PRIVATE_DATA: 32,
} as const

/** Stands for "no PASID", and for "more than one", in records. */
export const NONE = 0xffff_ffff

/** `mode` of a `vtd.root`, TTM: which tables the root table leads to. `EXTENDED` is bit RTT of revisions 2.x. */
export const TABLE_MODE = { LEGACY: 0, SCALABLE: 1, EXTENDED: 2, ABORT: 3 } as const
export type TableMode = (typeof TABLE_MODE)[keyof typeof TABLE_MODE]

/** `stage` of a `vtd.walk`: page tables of the first or the second level. */
export const STAGE = { FIRST: 1, SECOND: 2 } as const

/** `code` of a `vtd.response`, as devices take it: what software says of a group of page requests. */
export const PAGE_RESPONSE = { SUCCESS: 0, INVALID: 1, FAILURE: 0xf } as const

/** `flag` of a `domain.notify`: what a notifier hears, and what an event is. (QEMU 7.2 include/exec/memory.h) */
export const NOTIFIER = { UNMAP: 1, MAP: 2, DEVIOTLB_UNMAP: 4 } as const
