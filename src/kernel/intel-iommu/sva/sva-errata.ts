import { declareErrata } from '../../../bits/errata.ts'

const SVM = 'drivers/iommu/intel/svm.c'

/** Where shared virtual addresses of Linux 6.1 do not do what their users, or devices, may rely on. */
export const SVA_ERRATA = declareErrata([
  {
    id: 'K6-last-pasid',
    title: 'who has the last PASID of a device cannot be bound to it again',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.14', until: '6.4' }],
    wrong:
      'PASIDs are handed out up to the last one that a device has, but a later bind of the same address space takes that one for too large: -EOVERFLOW, for the same device too.',
    right: 'A PASID that a device has is in range, the last one as well.',
    source: `Linux v6.1 drivers/iommu/iommu-sva-lib.c, iommu_sva_alloc_pasid; ${SVM}, intel_svm_alloc_pasid`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-last-pasid.yaml',
  },
  {
    id: 'K6-zero-pasid',
    title: 'a page request with PASID 0 is never answered',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.14', until: '6.10' }],
    wrong:
      'A group of page requests with PASID 0 reaches a worker, which finds no address space; the response is then refused, because the PASID is 0. The device waits for ever.',
    right: 'It is answered: invalid.',
    source: `Linux v6.1 ${SVM}, intel_svm_page_response; the check of the PASID is gone in v6.10`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-zero-pasid.yaml',
    finding: 'page-request-answer',
  },
  {
    id: 'K6-foreign-pasid',
    title: 'a device has pages brought in for processes that it is not bound to',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.14', until: '6.2' }],
    wrong:
      'A worker finds the address space of a page request by its PASID alone. A device that is not bound to it, or is not bound any more, has pages allocated and copied there, and is told that it may ask again.',
    right: 'Without a bind of this device the request is invalid.',
    source: `Linux v6.1 drivers/iommu/io-pgfault.c, iopf_handle_single; v6.2 iopf_handler, which looks for the domain of device and PASID`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-foreign-pasid.yaml',
    finding: 'pasid-crosstalk',
  },
  {
    id: 'K6-response-code',
    title: 'a response of failure has a code that units do not know',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.8' }],
    wrong:
      'The number that the kernel has for failure (2) is put into the page group response as it is. The unit has 1111b for it; 2 is reserved.',
    right: 'The descriptor says 1111b.',
    source: `Linux v6.1 ${SVM}, intel_svm_page_response; include/uapi/linux/iommu.h, iommu_page_response_code`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-response-code.yaml',
    finding: 'page-request-answer',
  },
])
