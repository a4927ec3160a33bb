import { bit, bits, type Field, type Word, word } from '../../bits/word.ts'

const MANUAL = 'Intel Virtualization Technology for Directed I/O'
const QUEUE = `${MANUAL}, rev. 4.1, Queued Invalidation Interface`
const REQUESTS = `${MANUAL}, rev. 4.1, Page Request Queue, Page Group Response Descriptor`
/** Revisions 2.x have descriptors of 128 bits only, and some fields elsewhere. */
const OLD = `${MANUAL}, rev. 2.x; Linux v4.4 to v4.15 drivers/iommu/intel-svm.c, include/linux/intel-iommu.h`

const descriptor = <F extends string>(
  name: string,
  source: string,
  fields: Readonly<Record<F, Field>>,
): Word<F> => word(`VTD_${name}`, 64, source, fields)

const TYPE = (type: number) => bits(3, 0, 'rw', `Type of the descriptor: ${type}.`)
const TYPE_HI = bits(11, 9, 'rw', 'Type of the descriptor, upper bits: 0.')
const rsvd = (hi: number, lo = hi) => bits(hi, lo, 'rsvd', 'Reserved.')
const DID = bits(31, 16, 'rw', 'Domain-id.')
const PASID = bits(51, 32, 'rw', 'PASID.')
const PFSID_LO = bits(
  15,
  12,
  'rw',
  'Source-id of the physical function, bits 3 to 0; reserved without ECAP.DIT.',
)
const PFSID_HI = bits(
  63,
  52,
  'rw',
  'Source-id of the physical function, bits 15 to 4; reserved without ECAP.DIT.',
)
const PAGES = bits(63, 12, 'rw', 'First page; what lies below 2^AM pages does not take part.')
const IH = bit(6, 'rw', 'Invalidation hint: only entries that map pages have changed.')
const AM = bits(5, 0, 'rw', 'Address mask: 2^AM pages.')
const SIZED = 'The page; with S its lowest bits that are 1 say how many pages.'
const SIZE = 'More than one page: 2^(n+1), where bits 12 to 11+n are 1 and bit 12+n is 0.'

/** Types of descriptors in the invalidation queue. */
export const DESCRIPTOR_TYPE = {
  CONTEXT: 1,
  IOTLB: 2,
  DEVICE_TLB: 3,
  INTERRUPT_ENTRY: 4,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
  PASID_DEVICE_TLB: 8,
  GROUP_RESPONSE: 9,
  STREAM_RESPONSE: 10,
} as const

/** Context-cache invalidate descriptor; its other words are reserved. */
export const CC_INV_DSC_QW0 = descriptor('CC_INV_DSC_QW0', QUEUE, {
  RSVD_50: rsvd(63, 50),
  FM: bits(49, 48, 'rw', 'Function mask: how many low bits of the function are not compared.'),
  SID: bits(47, 32, 'rw', 'Source-id.'),
  DID,
  RSVD_12: rsvd(15, 12),
  TYPE_HI,
  RSVD_6: rsvd(8, 6),
  G: bits(5, 4, 'rw', 'Granularity: 1 global, 2 domain, 3 device.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.CONTEXT),
})

export const IOTLB_INV_DSC_QW0 = descriptor('IOTLB_INV_DSC_QW0', QUEUE, {
  RSVD_32: rsvd(63, 32),
  DID,
  RSVD_12: rsvd(15, 12),
  TYPE_HI,
  RSVD_8: rsvd(8),
  DR: bit(7, 'rw', 'Drain reads.'),
  DW: bit(6, 'rw', 'Drain writes.'),
  G: bits(5, 4, 'rw', 'Granularity: 1 global, 2 domain, 3 pages of a domain.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.IOTLB),
})
export const IOTLB_INV_DSC_QW1 = descriptor('IOTLB_INV_DSC_QW1', QUEUE, {
  ADDR: PAGES,
  RSVD_7: rsvd(11, 7),
  IH,
  AM,
})

export const DEV_TLB_INV_DSC_QW0 = descriptor('DEV_TLB_INV_DSC_QW0', QUEUE, {
  PFSID_HI,
  RSVD_48: rsvd(51, 48),
  SID: bits(47, 32, 'rw', 'Source-id of the device.'),
  RSVD_21: rsvd(31, 21),
  MIP: bits(20, 16, 'rw', 'Most invalidations pending in the device; 0 stands for 32.'),
  PFSID_LO,
  TYPE_HI,
  RSVD_4: rsvd(8, 4),
  TYPE: TYPE(DESCRIPTOR_TYPE.DEVICE_TLB),
})
export const DEV_TLB_INV_DSC_QW1 = descriptor('DEV_TLB_INV_DSC_QW1', QUEUE, {
  ADDR: bits(63, 12, 'rw', SIZED),
  RSVD_1: rsvd(11, 1),
  S: bit(0, 'rw', SIZE),
})

/** Interrupt entry cache invalidate descriptor; its other words are reserved. */
export const IEC_INV_DSC_QW0 = descriptor('IEC_INV_DSC_QW0', QUEUE, {
  RSVD_48: rsvd(63, 48),
  IIDX: bits(47, 32, 'rw', 'Interrupt index.'),
  IM: bits(31, 27, 'rw', 'Index mask: 2^IM entries.'),
  RSVD_12: rsvd(26, 12),
  TYPE_HI,
  RSVD_5: rsvd(8, 5),
  G: bit(4, 'rw', 'Granularity: 0 global, 1 by index.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.INTERRUPT_ENTRY),
})

export const INV_WAIT_DSC_QW0 = descriptor('INV_WAIT_DSC_QW0', QUEUE, {
  STATUS_DATA: bits(63, 32, 'rw', 'What SW writes.'),
  RSVD_12: rsvd(31, 12),
  TYPE_HI,
  RSVD_8: rsvd(8),
  PD: bit(7, 'rw', 'Page-request drain; reserved without ECAP.PDS.'),
  FN: bit(6, 'rw', 'Fence: what is behind waits for what is before.'),
  SW: bit(5, 'rw', 'Status write.'),
  IF: bit(4, 'rw', 'Interrupt.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.WAIT),
})
export const INV_WAIT_DSC_QW1 = descriptor('INV_WAIT_DSC_QW1', QUEUE, {
  STATUS_ADDRESS: bits(63, 2, 'rw', 'Where SW writes, in units of 4 bytes.'),
  RSVD_0: rsvd(1, 0),
})

/** PASID-based-IOTLB invalidate descriptor. */
export const P_IOTLB_INV_DSC_QW0 = descriptor('P_IOTLB_INV_DSC_QW0', QUEUE, {
  RSVD_52: rsvd(63, 52),
  PASID,
  DID,
  RSVD_12: rsvd(15, 12),
  TYPE_HI,
  RSVD_6: rsvd(8, 6),
  G: bits(
    5,
    4,
    'rw',
    'Granularity: 2 a PASID, 3 pages of a PASID; of revisions 2.x also 0 all PASIDs, 1 all PASIDs but for global pages.',
  ),
  TYPE: TYPE(DESCRIPTOR_TYPE.PASID_IOTLB),
})
export const P_IOTLB_INV_DSC_QW1 = descriptor('P_IOTLB_INV_DSC_QW1', QUEUE, {
  ADDR: PAGES,
  RSVD_7: rsvd(11, 7),
  IH,
  AM,
})
export const EXT_IOTLB_INV_DSC_QW1 = descriptor('EXT_IOTLB_INV_DSC_QW1', OLD, {
  ADDR: PAGES,
  RSVD_8: rsvd(11, 8),
  GL: bit(7, 'rw', 'Global pages too.'),
  IH,
  AM,
})

/** PASID-cache invalidate descriptor; its other words are reserved. */
export const PC_INV_DSC_QW0 = descriptor('PC_INV_DSC_QW0', QUEUE, {
  RSVD_52: rsvd(63, 52),
  PASID,
  DID,
  RSVD_12: rsvd(15, 12),
  TYPE_HI,
  RSVD_6: rsvd(8, 6),
  G: bits(5, 4, 'rw', 'Granularity: 0 all PASIDs of a domain, 1 a PASID, 3 global (not in revisions 2.x).'),
  TYPE: TYPE(DESCRIPTOR_TYPE.PASID_CACHE),
})

/** PASID-based-device-TLB invalidate descriptor. */
export const P_DEV_TLB_INV_DSC_QW0 = descriptor('P_DEV_TLB_INV_DSC_QW0', QUEUE, {
  PFSID_HI,
  PASID,
  SID: bits(31, 16, 'rw', 'Source-id of the device.'),
  PFSID_LO,
  TYPE_HI,
  MIP: bits(8, 4, 'rw', 'Most invalidations pending in the device; 0 stands for 32.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.PASID_DEVICE_TLB),
})
export const P_DEV_TLB_INV_DSC_QW1 = descriptor('P_DEV_TLB_INV_DSC_QW1', QUEUE, {
  ADDR: bits(63, 12, 'rw', SIZED),
  S: bit(11, 'rw', SIZE),
  RSVD_1: rsvd(10, 1),
  G: bit(0, 'rw', 'Global: for all PASIDs of the device.'),
})

/** Page group response; words 2 and 3 are private data. */
export const PAGE_GRP_RESP_DSC_QW0 = descriptor('PAGE_GRP_RESP_DSC_QW0', REQUESTS, {
  RSVD_52: rsvd(63, 52),
  PASID,
  RID: bits(31, 16, 'rw', 'Requester-id.'),
  RC: bits(15, 12, 'rw', 'Response code: 0 success, 1 invalid request, 15 failure.'),
  TYPE_HI,
  RSVD_6: rsvd(8, 6),
  PDP: bit(5, 'rw', 'Private data present.'),
  PP: bit(4, 'rw', 'PASID present.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.GROUP_RESPONSE),
})
export const PAGE_GRP_RESP_DSC_QW1 = descriptor('PAGE_GRP_RESP_DSC_QW1', REQUESTS, {
  RSVD_12: rsvd(63, 12),
  PRGI: bits(11, 3, 'rw', 'Page request group index.'),
  LPIG: bit(2, 'rw', 'The request that is answered was the last one of its group.'),
  RSVD_0: rsvd(1, 0),
})

/** Page group response of revisions 2.x. */
export const PGRP_RESP_DSC_QW0 = descriptor('PGRP_RESP_DSC_QW0', OLD, {
  RSVD_52: rsvd(63, 52),
  PASID,
  RID: bits(31, 16, 'rw', 'Requester-id.'),
  RSVD_5: rsvd(15, 5),
  PP: bit(4, 'rw', 'PASID present.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.GROUP_RESPONSE),
})
export const PGRP_RESP_DSC_QW1 = descriptor('PGRP_RESP_DSC_QW1', OLD, {
  PRGI: bits(63, 55, 'rw', 'Page request group index.'),
  PRIVATE: bits(54, 32, 'rw', 'Private data.'),
  RSVD_4: rsvd(31, 4),
  RC: bits(3, 0, 'rw', 'Response code: 0 success, 1 invalid request, 15 failure.'),
})

/** Page stream response: of revisions 2.x only. */
export const PSTRM_RESP_DSC_QW0 = descriptor('PSTRM_RESP_DSC_QW0', OLD, {
  PRGI: bits(63, 55, 'rw', 'Page request group index.'),
  PRIVATE: bits(54, 32, 'rw', 'Private data.'),
  BUS: bits(31, 24, 'rw', 'Bus of the requester.'),
  PASID: bits(23, 4, 'rw', 'PASID.'),
  TYPE: TYPE(DESCRIPTOR_TYPE.STREAM_RESPONSE),
})
export const PSTRM_RESP_DSC_QW1 = descriptor('PSTRM_RESP_DSC_QW1', OLD, {
  ADDR: bits(63, 12, 'rw', 'Page.'),
  DEVFN: bits(11, 4, 'rw', 'Device and function of the requester.'),
  RC: bits(3, 0, 'rw', 'Response code: 0 success, 1 invalid request, 15 failure.'),
})

/** Page request; words 2 and 3 are private data. */
export const PAGE_REQ_DSC_QW0 = descriptor('PAGE_REQ_DSC_QW0', REQUESTS, {
  RSVD_54: rsvd(63, 54),
  PMR: bit(53, 'rw', 'Privileged mode requested.'),
  EXR: bit(52, 'rw', 'Execute requested.'),
  PASID,
  RID: bits(31, 16, 'rw', 'Requester-id.'),
  RSVD_10: rsvd(15, 10),
  PDP: bit(9, 'rw', 'Private data present.'),
  PP: bit(8, 'rw', 'PASID present.'),
  TYPE: bits(7, 0, 'rw', 'Type: 1.'),
})
export const PAGE_REQ_DSC_QW1 = descriptor('PAGE_REQ_DSC_QW1', REQUESTS, {
  ADDR: bits(63, 12, 'rw', 'Page.'),
  PRGI: bits(11, 3, 'rw', 'Page request group index.'),
  LPIG: bit(2, 'rw', 'Last of its group.'),
  WRR: bit(1, 'rw', 'Write requested.'),
  RDR: bit(0, 'rw', 'Read requested.'),
})

/** Page request of revisions 2.x. */
export const PAGE_REQ_DSC_128_QW0 = descriptor('PAGE_REQ_DSC_128_QW0', OLD, {
  PRGI: bits(63, 55, 'rw', 'Page request group index.'),
  PRIVATE: bits(54, 32, 'rw', 'Private data.'),
  BUS: bits(31, 24, 'rw', 'Bus of the requester.'),
  PASID: bits(23, 4, 'rw', 'PASID.'),
  LPIG: bit(3, 'rw', 'Last of its group.'),
  PP: bit(2, 'rw', 'PASID present.'),
  BOF: bit(1, 'rw', 'Blocked on fault.'),
  SRR: bit(0, 'rw', 'Stream response requested.'),
})
export const PAGE_REQ_DSC_128_QW1 = descriptor('PAGE_REQ_DSC_128_QW1', OLD, {
  ADDR: bits(63, 12, 'rw', 'Page.'),
  DEVFN: bits(11, 4, 'rw', 'Device and function of the requester.'),
  PRIV: bit(3, 'rw', 'Privileged mode requested.'),
  EXE: bit(2, 'rw', 'Execute requested.'),
  WR: bit(1, 'rw', 'Write requested.'),
  RD: bit(0, 'rw', 'Read requested.'),
})

/** Every word of a descriptor that is declared. */
export const VTD_DESCRIPTOR_WORDS: readonly Word[] = Object.freeze([
  CC_INV_DSC_QW0,
  IOTLB_INV_DSC_QW0,
  IOTLB_INV_DSC_QW1,
  DEV_TLB_INV_DSC_QW0,
  DEV_TLB_INV_DSC_QW1,
  IEC_INV_DSC_QW0,
  INV_WAIT_DSC_QW0,
  INV_WAIT_DSC_QW1,
  P_IOTLB_INV_DSC_QW0,
  P_IOTLB_INV_DSC_QW1,
  EXT_IOTLB_INV_DSC_QW1,
  PC_INV_DSC_QW0,
  P_DEV_TLB_INV_DSC_QW0,
  P_DEV_TLB_INV_DSC_QW1,
  PAGE_GRP_RESP_DSC_QW0,
  PAGE_GRP_RESP_DSC_QW1,
  PGRP_RESP_DSC_QW0,
  PGRP_RESP_DSC_QW1,
  PSTRM_RESP_DSC_QW0,
  PSTRM_RESP_DSC_QW1,
  PAGE_REQ_DSC_QW0,
  PAGE_REQ_DSC_QW1,
  PAGE_REQ_DSC_128_QW0,
  PAGE_REQ_DSC_128_QW1,
])
