import { NO_PASID, type VtdInvalidation } from '../../src/hw/vtd/ports.ts'

/** An invalidation: what is not said is not there. */
export const invalidation = (
  said: Pick<VtdInvalidation, 'what' | 'scope'> & Partial<VtdInvalidation>,
): VtdInvalidation => ({
  domain: 0,
  source: 0,
  functionMask: 0,
  pasid: NO_PASID,
  address: 0n,
  order: 0,
  isLeafOnly: false,
  isGlobalToo: false,
  ...said,
})
