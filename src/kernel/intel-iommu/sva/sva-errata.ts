import { declareErrata } from '../../../bits/errata.ts'

const SVM = 'drivers/iommu/intel/svm.c'

/**
 * Where shared virtual addresses of Linux 6.1 do not do what their users, or devices, may rely on, and what was otherwise
 * in 5.14 to 6.0. Not modelled of those: that enabling the feature switches PASIDs on, that a response takes pasid_mutex,
 * and that a unit that does not snoop its walks (ECAP.SMPWCS) is no obstacle.
 */
export const SVA_ERRATA = declareErrata([
  {
    id: 'K6-last-pasid',
    title: 'who has the last PASID of a device cannot be bound to it again',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.18', until: '6.4' }],
    wrong:
      'PASIDs are handed out up to the last one that a device has, but a later bind of the same address space takes that one for too large: -EOVERFLOW, for the same device too.',
    right: 'A PASID that a device has is in range, the last one as well.',
    source: `Linux v6.1 drivers/iommu/iommu-sva-lib.c, iommu_sva_alloc_pasid, since v5.18 "iommu/sva: Assign a PASID to mm on PASID allocation and free it on mm exit"; ${SVM}, intel_svm_alloc_pasid`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-last-pasid.yaml',
  },
  {
    id: 'K6-zero-pasid',
    title: 'a page request with PASID 0 is never answered',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '6.1', until: '6.9' }],
    wrong:
      'A group of page requests with PASID 0 reaches a worker, which finds no address space; the response is then refused, because the PASID is 0. The device waits for ever.',
    right: 'It is answered: invalid.',
    source: `Linux v6.1 ${SVM}, intel_svm_page_response. Up to v6.0 the thread finds no bind (K5-bound-only); the check is gone with v6.9 "iommu: Make iopf_group_response() return void"`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-zero-pasid.yaml',
    finding: 'page-request-answer',
  },
  {
    id: 'K6-foreign-pasid',
    title: 'a device has pages brought in for processes that it is not bound to',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '6.1', until: '6.2' }],
    wrong:
      'A worker finds the address space of a page request by its PASID alone. A device that is not bound to it, or is not bound any more, has pages allocated and copied there, and is told that it may ask again.',
    right: 'Without a bind of this device the request is invalid.',
    source: `Linux v6.1 drivers/iommu/io-pgfault.c, iopf_handle_single; since 06f4b8d09dba "iommu/vt-d: Remove unnecessary SVA data accesses in page fault path"; v6.2 iopf_handler, which looks for the domain of device and PASID`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-foreign-pasid.yaml',
    finding: 'pasid-crosstalk',
  },
  {
    id: 'K6-response-code',
    title: 'a response of failure has a code that units do not know',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.9' }],
    wrong:
      'The number that the kernel has for failure (2) is put into the page group response as it is. The unit has 1111b for it; 2 is reserved.',
    right: 'The descriptor says 1111b.',
    source: `Linux v6.1 ${SVM}, intel_svm_page_response; include/uapi/linux/iommu.h, iommu_page_response_code`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-response-code.yaml',
    finding: 'page-request-answer',
  },
  {
    id: 'K6-no-page-drain',
    title: 'a unit that cannot drain page requests hangs an unbind',
    kind: 'defect',
    family: 'linux',
    versions: [
      { since: '5.8', until: '5.15.195' },
      { since: '5.16', until: '6.1.157' },
      { since: '6.2', until: '6.6.113' },
      { since: '6.7', until: '6.12.54' },
      { since: '6.13', until: '6.17.4' },
    ],
    wrong:
      'Page requests are switched on also where the unit has no page-request drain (ECAP.PDS). The wait descriptor of an unbind asks for one all the same (PD): the bit is reserved there, the queue stops, and the kernel waits for ever.',
    right: 'Without page-request drain there are no page requests, and the feature is refused.',
    source:
      'Linux v6.18 drivers/iommu/intel/iommu.c, intel_iommu_probe_device (5ef7e24c7420 "iommu/vt-d: PRS isn`t usable if PDS isn`t supported", fixes 66ac4db36f4c of v5.8); v5.15.195, v6.1.157, v6.6.113 and v6.17.4 have it, v6.12.54 is of the same day',
    evidence: 'source',
    scenario: 'scenarios/errata/k6-no-page-drain.yaml',
    finding: 'stopped',
  },
  {
    id: 'K6-null-svm',
    title: 'an unbind of a PASID that nobody is bound by dereferences NULL',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.14', until: '6.2' }],
    wrong:
      'What the PASID stands for is read before it is known whether it stands for anything. Whether the kernel falls over it depends on where the compiler leaves the read: the model does not guess.',
    right: 'Nothing is bound, and nothing is read: -EINVAL.',
    source: `Linux v5.15 and v6.1 ${SVM}, intel_svm_unbind_mm, pasid_to_svm_sdev; from v6.2 on iommu_sva_unbind_device takes the domain of the bind`,
    evidence: 'source',
    scenario: 'scenarios/errata/k6-null-svm.yaml',
    finding: 'unmodelled',
  },
  {
    id: 'K5-bound-only',
    title: 'the page request thread itself looks for the bind',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '5.14', until: '6.1' }],
    wrong:
      'The thread refuses a page request whose PASID the device is not bound by, or that is of the kernel`s tables. A request behind another one of the same device is not looked up again, and may have the PASID of others: it is handled.',
    right: 'The thread queues the requests of every device that has the feature, and a worker refuses them.',
    source: `Linux v5.15 ${SVM}, prq_event_thread; gone with 06f4b8d09dba in v6.1`,
    evidence: 'source',
    scenario: 'scenarios/errata/k5-bound-only.yaml',
  },
  {
    id: 'K5-lost-response',
    title: 'page requests that an unbind overtakes are never answered',
    kind: 'defect',
    family: 'linux',
    versions: [{ since: '5.14', until: '6.1' }],
    wrong:
      'A response needs the bind, which an unbind takes away before it waits for the workers: their responses are refused (-ENODEV). The device waits for ever.',
    right: 'The response of a group is sent, whether its device is still bound or not.',
    source: `Linux v5.15 ${SVM}, intel_svm_page_response, intel_svm_unbind_mm; gone with 06f4b8d09dba in v6.1`,
    evidence: 'source',
    scenario: 'scenarios/errata/k5-lost-response.yaml',
    finding: 'page-request-answer',
  },
  {
    id: 'K5-pasid-freed',
    title: 'the last unbind gives the PASID of an address space back',
    kind: 'change',
    family: 'linux',
    versions: [{ since: '5.14', until: '5.18' }],
    wrong:
      'The PASID is free with the last unbind; the next bind of the address space may give it another one.',
    right: 'An address space keeps its PASID as long as it lives.',
    source:
      'Linux v5.15 drivers/iommu/iommu-sva-lib.c, iommu_sva_free_pasid; v5.18 "iommu/sva: Assign a PASID to mm on PASID allocation and free it on mm exit"',
    evidence: 'source',
    scenario: 'scenarios/errata/k5-pasid-freed.yaml',
  },
])
