import { kernelLine } from './line-format.ts'

const DMAR = ['DMAR: ', '']
/** Lines about page requests have no prefix of the driver (svm.c and prq.c define none); a distribution may add it. */
const PLAIN = ['', 'DMAR: ']

/** The invalidation queue stopped. */
export const QUEUE_ERROR = kernelLine(
  'vtd-queue-error',
  'VT-d detected Invalidation Queue Error: Reason {reason:x}',
  {
    heads: DMAR,
    era: 'Linux 5.13 on',
    doc: 'A descriptor that the unit does not take; the queue stops at it.',
    example: '[   77.100000] DMAR: VT-d detected Invalidation Queue Error: Reason 4',
  },
)
export const QUEUE_TIMEOUT = kernelLine(
  'vtd-queue-timeout',
  'VT-d detected Invalidation Time-out Error: SID {source:x}',
  {
    heads: DMAR,
    era: 'Linux 5.13 on',
    doc: 'A device did not answer an invalidation of its TLB in time.',
    example: '[   77.100000] DMAR: VT-d detected Invalidation Time-out Error: SID 310',
  },
)
export const QUEUE_COMPLETION = kernelLine(
  'vtd-queue-completion',
  'VT-d detected Invalidation Completion Error: SID {source:x}',
  {
    heads: DMAR,
    era: 'Linux 5.13 on',
    doc: 'An answer to an invalidation came that nobody waits for.',
    example: '[   77.100000] DMAR: VT-d detected Invalidation Completion Error: SID 310',
  },
)
export const QUEUE_HEAD = kernelLine(
  'vtd-queue-head',
  'QI HEAD: {type:text} qw0 = 0x{qw0:x}, qw1 = 0x{qw1:x}',
  {
    heads: DMAR,
    era: 'Linux 5.13 on',
    doc: 'The descriptor at the head of the queue when it stopped.',
    example: '[   77.100000] DMAR: QI HEAD: Device-TLB Invalidation qw0 = 0x31000040003, qw1 = 0x40200001',
  },
)
export const QUEUE_PRIOR = kernelLine(
  'vtd-queue-prior',
  'QI PRIOR: {type:text} qw0 = 0x{qw0:x}, qw1 = 0x{qw1:x}',
  {
    heads: DMAR,
    era: 'Linux 5.13 on',
    doc: 'The descriptor before it.',
    example: '[   77.100000] DMAR: QI PRIOR: IOTLB Invalidation qw0 = 0x500f2, qw1 = 0x40201000',
  },
)
export const QUEUE_CLEARED = kernelLine(
  'vtd-queue-cleared',
  'Invalidation {what:text} Error ({short:word}) cleared',
  {
    heads: DMAR,
    era: 'Linux 5.13 on',
    doc: 'The driver let the queue go on.',
    example: '[   77.100000] DMAR: Invalidation Queue Error (IQE) cleared',
  },
)

/** A page request that the driver refused. Up to 5.13 each of these lines holds the descriptor. */
export const PRQ_NO_PASID_WORDS = kernelLine(
  'vtd-prq-no-pasid-words',
  '{unit:word}: Page request without PASID: {qw0:x} {qw1:x}',
  {
    heads: PLAIN,
    era: 'Linux 4.4-5.13',
    doc: 'A device asked for a page without a PASID. The driver answers that it failed, since 5.12 that it is invalid. Before 4.20, and in stable kernels without its fix, the thread may then use a null pointer: an oops follows.',
    example: '[  301.200000] dmar0: Page request without PASID: 300010000 7f1234567003',
  },
)
export const PRQ_INVALID_PASID = kernelLine(
  'vtd-prq-invalid-pasid',
  '{unit:word}: Page request for invalid PASID {pasid:d}: {qw0:x} {qw1:x}',
  {
    heads: PLAIN,
    era: 'Linux 4.4-5.13',
    doc: 'A device asked for a page of a PASID that nothing is bound to. The driver answers that it failed, since 5.12 that it is invalid.',
    example: '[  301.200000] dmar0: Page request for invalid PASID 5: 38000120300005c 7f1234567103',
  },
)
export const PRQ_INVALID = kernelLine(
  'vtd-prq-invalid',
  '{unit:word}: Invalid page request: {qw0:x} {qw1:x}',
  {
    heads: PLAIN,
    era: 'Linux 5.14 on',
    doc: 'The driver refused a page request. A line before it says why; where there is none, the driver found nobody to hand it to: nothing is bound to its PASID, or the device is not known.',
    example: '[  301.200000] dmar0: Invalid page request: 503100101 7f123456703f',
  },
)
export const PRQ_NO_PASID = kernelLine('vtd-prq-no-pasid', 'IOMMU: {unit:word}: Page request without PASID', {
  heads: PLAIN,
  era: 'Linux 5.14-6.12',
  doc: 'A device asked for a page without a PASID; the driver answers that it is invalid.',
  example: '[  301.200000] IOMMU: dmar0: Page request without PASID',
})
export const PRQ_NOT_CANONICAL = kernelLine(
  'vtd-prq-canonical',
  'IOMMU: {unit:word}: Address is not canonical',
  {
    heads: PLAIN,
    era: 'Linux 5.14 on',
    doc: 'A device asked for a page at an address that is not canonical.',
    example: '[  301.200000] IOMMU: dmar0: Address is not canonical',
  },
)
export const PRQ_PRIVILEGED_OLD = kernelLine(
  'vtd-prq-privileged-old',
  'Unexpected page request in Privilege Mode',
  {
    era: 'Linux 5.13, and stable kernels before',
    doc: 'A device asked for a page with privilege, and no process gives that. The line names no unit.',
    example: '[  180.187556] Unexpected page request in Privilege Mode',
  },
)
export const PRQ_PRIVILEGED = kernelLine(
  'vtd-prq-privileged',
  'IOMMU: {unit:word}: Page request in Privilege Mode',
  {
    heads: PLAIN,
    era: 'Linux 5.14 on',
    doc: 'A device asked for a page with privilege, and no process gives that.',
    example: '[  301.200000] IOMMU: dmar0: Page request in Privilege Mode',
  },
)
export const PRQ_EXECUTE_OLD = kernelLine('vtd-prq-execute-old', 'Execution request not supported', {
  era: 'Linux 5.13, and stable kernels before',
  doc: 'A device asked for a page to execute from, which the driver does not support. The line names no unit.',
  example: '[  180.187556] Execution request not supported',
})
export const PRQ_EXECUTE = kernelLine(
  'vtd-prq-execute',
  'IOMMU: {unit:word}: Execution request not supported',
  {
    heads: PLAIN,
    era: 'Linux 5.14 on',
    doc: 'A device asked for a page to execute from, which the driver does not support.',
    example: '[  301.200000] IOMMU: dmar0: Execution request not supported',
  },
)
export const PRQ_OVERFLOW = kernelLine('vtd-prq-overflow', 'IOMMU: {unit:word}: PRQ overflow detected', {
  heads: PLAIN,
  era: 'Linux 5.12 on',
  doc: 'The page request queue was full: requests were dropped, and devices got an answer that no page was mapped for.',
  example: '[  301.200000] IOMMU: dmar0: PRQ overflow detected',
})
export const PRQ_OVERFLOW_CLEARED = kernelLine(
  'vtd-prq-overflow-cleared',
  'IOMMU: {unit:word}: PRQ overflow cleared',
  {
    heads: PLAIN,
    era: 'Linux 5.12 on',
    doc: 'The queue was empty again, and takes requests.',
    example: '[  301.200000] IOMMU: dmar0: PRQ overflow cleared',
  },
)

export const VTD_QUEUE_LINES = [
  QUEUE_ERROR,
  QUEUE_TIMEOUT,
  QUEUE_COMPLETION,
  QUEUE_HEAD,
  QUEUE_PRIOR,
  QUEUE_CLEARED,
  PRQ_NO_PASID_WORDS,
  PRQ_INVALID_PASID,
  PRQ_INVALID,
  PRQ_NO_PASID,
  PRQ_NOT_CANONICAL,
  PRQ_PRIVILEGED_OLD,
  PRQ_PRIVILEGED,
  PRQ_EXECUTE_OLD,
  PRQ_EXECUTE,
  PRQ_OVERFLOW,
  PRQ_OVERFLOW_CLEARED,
] as const
