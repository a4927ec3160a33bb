/** What a function has, as its configuration space says. What is left out it has not. */
export interface DeviceCapabilities {
  /** ATS: invalidation requests that it takes at once (32 where left out). */
  readonly depth?: number
  /** PRI. */
  readonly hasRequests?: boolean
  /** PASIDs that it can use; 0 for none. */
  readonly pasids?: number
  /** Its physical function, where it is a virtual one. */
  readonly physical?: number
  /** It needs every invalidation of its TLB twice. (Linux v6.1 drivers/iommu/intel/iommu.c, dev_needs_extra_dtlb_flush) */
  readonly isTwice?: boolean
  /** Other devices are in its IOMMU group. */
  readonly sharesGroup?: boolean
}

/** A device as its driver knows it. */
export interface GuestDevice {
  readonly name: string
  /** What else records call it: what serves it in the kernel of the host. */
  readonly otherNames: readonly string[]
  readonly source: number
  /** It has the ATS capability. */
  readonly offersAts: boolean
  readonly capabilities?: DeviceCapabilities
  /** The guest writes its ATS control register. */
  setAts(on: boolean): void
  /** The same of PRI and PASID, where it has them. */
  setRequests?(on: boolean): void
  setPasid?(on: boolean): void
}
