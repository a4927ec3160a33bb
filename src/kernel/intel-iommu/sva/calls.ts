import { declareCall } from '../../../bits/call.ts'

const SVM = 'Linux v6.1 drivers/iommu/intel/svm.c'
const IOMMU = 'Linux v6.1 drivers/iommu/iommu.c'
const INTEL = 'Linux v6.1 drivers/iommu/intel/iommu.c'
const FAULTS = 'Linux v6.1 drivers/iommu/io-pgfault.c'
const SVA = { verb: 'sva', family: 'errno', layer: 'kernel' } as const

const device = { type: 'name', doc: 'The device.' } as const
const pasid = { type: 'u32', doc: 'The PASID.' } as const
const NO_DEVICE = { rule: 'device-unknown', code: 'ENODEV', when: 'The unit has no such device.' } as const

export const SVA_ENABLE = declareCall({
  name: 'enable',
  ...SVA,
  args: { device },
  answers: [
    NO_DEVICE,
    {
      rule: 'not-capable',
      code: 'ENODEV',
      when: 'The unit is not in scalable mode, has no PASIDs, does not snoop its walks (ECAP.SMPWCS), or has no 1 GiB pages in the first level (CAP.FL1GP), which the processor has.',
    },
    {
      rule: 'features-off',
      code: 'EINVAL',
      when: 'PASIDs, page requests or ATS are off in the device: page requests also where the unit cannot drain them (ECAP.PDS).',
    },
    { rule: 'enabled', code: 'EBUSY', when: 'Page requests of the device have a queue.' },
    { rule: 'done', code: 'OK', when: 'Page requests of the device are queued for processes from now on.' },
  ],
  source: `${INTEL}, intel_iommu_enable_sva; svm.c, intel_svm_check; io-pgfault.c, iopf_queue_add_device`,
  doc: 'The driver of a device switches the feature on (IOMMU_DEV_FEAT_SVA). A bind does not ask for it; page requests do.',
})

export const SVA_DISABLE = declareCall({
  name: 'disable',
  ...SVA,
  args: { device },
  answers: [
    NO_DEVICE,
    {
      rule: 'pending',
      code: 'EBUSY',
      when: 'A group of page requests of the device waits for its response.',
    },
    { rule: 'not-enabled', code: 'EINVAL', when: 'Page requests of the device have no queue.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The queue does not know the device any more. Groups that are not whole are forgotten.',
    },
  ],
  source: `${INTEL}, intel_iommu_disable_sva; iommu.c, iommu_unregister_device_fault_handler; io-pgfault.c, iopf_queue_remove_device`,
  doc: 'The driver of a device switches the feature off.',
})

export const SVA_BIND = declareCall({
  name: 'bind',
  ...SVA,
  args: {
    device,
    process: {
      type: 'name',
      optional: true,
      doc: 'Whose address space; that of who calls if left out, and none with `supervisor`.',
    },
    supervisor: {
      type: 'flag',
      optional: true,
      doc: 'The kernel`s own page tables (SVM_FLAG_SUPERVISOR_MODE).',
    },
  },
  outputs: {
    pasid: { type: 'u32', doc: 'The PASID by which the device reaches the address space.' },
    users: { type: 'count', doc: 'How often the device is bound to it.' },
  },
  answers: [
    NO_DEVICE,
    {
      rule: 'no-address-space',
      code: 'ESRCH',
      when: 'There is no such process, or it has given its address space back (get_task_mm).',
    },
    {
      rule: 'group-shared',
      code: 'EINVAL',
      when: 'Other devices are in the IOMMU group of the device.',
    },
    {
      rule: 'supervisor-unsupported',
      code: 'EOPNOTSUPP',
      when: 'The kernel`s page tables are asked for, and the unit takes no requests with privilege (ECAP.SRS).',
    },
    {
      rule: 'supervisor-of-process',
      code: 'EINVAL',
      when: 'The kernel`s page tables are asked for, and a process is named.',
    },
    {
      rule: 'pasid-out-of-range',
      code: 'EOVERFLOW',
      when: 'The address space has a PASID, and the device is too narrow for it.',
    },
    {
      rule: 'no-pasid-left',
      code: 'ENOMEM',
      when: 'All PASIDs of the device, from 1 on, belong to address spaces that live.',
    },
    { rule: 'bound-again', code: 'OK', when: 'The device is bound to it: one user more.' },
    {
      rule: 'no-first-level',
      code: 'EINVAL',
      when: 'The unit has no first-level translation (ECAP.FLTS).',
    },
    {
      rule: 'no-entry',
      code: 'ENODEV',
      when: 'The device has no PASID tables, the PASID is beyond them, or no page is left for one.',
    },
    { rule: 'entry-present', code: 'EBUSY', when: 'The entry of the PASID leads to something else.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The entry leads to the page tables. A caching unit is made to look again.',
    },
  ],
  source: `${IOMMU}, iommu_sva_bind_device; svm.c, intel_svm_bind, intel_svm_bind_mm; iommu-sva-lib.c, iommu_sva_alloc_pasid; pasid.c, intel_pasid_setup_first_level`,
  doc: 'Binds an address space to a device (iommu_sva_bind_device). It has one PASID for all devices, as long as it lives.',
})

export const SVA_UNBIND = declareCall({
  name: 'unbind',
  ...SVA,
  args: { device, pasid },
  answers: [
    NO_DEVICE,
    { rule: 'not-bound', code: 'EINVAL', when: 'No device is bound by that PASID.' },
    {
      rule: 'bound-by-others',
      code: 'OK',
      when: 'Other devices are bound by that PASID, and this one is not: nothing happens.',
    },
    { rule: 'still-bound', code: 'OK', when: 'It was bound more than once: one user less.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The entry is clear, where the process had not ended, and flushed; page requests of the PASID are drained. The PASID stays with the address space.',
    },
  ],
  source: `${SVM}, intel_svm_unbind, intel_svm_unbind_mm, intel_svm_drain_prq; pasid.c, intel_pasid_tear_down_entry`,
  doc: 'Takes a bind back (iommu_sva_unbind_device). It waits for the page request thread and, where the device has the feature, for groups that are handled.',
})

export const SVA_PRQ_EVENT_THREAD = declareCall({
  name: 'prq_event_thread',
  ...SVA,
  args: {},
  outputs: {
    requests: { type: 'count', doc: 'Requests that were in the queue.' },
    responses: { type: 'count', doc: 'Responses that the thread itself sent: refusals.' },
    groups: { type: 'count', doc: 'Groups that are whole now, and wait for a worker.' },
  },
  answers: [
    { rule: 'no-queue', code: 'ENODEV', when: 'The driver has no page request queue.' },
    { rule: 'not-woken', code: 'EAGAIN', when: 'No interrupt of the page request event has come.' },
    {
      rule: 'overflow',
      code: 'OK',
      when: 'Requests were lost (PRS.PRO). Where the queue is empty the bit is cleared, and groups that are not whole are forgotten.',
    },
    { rule: 'none', code: 'OK', when: 'The queue is empty.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The queue is empty. Requests that no process can have, and those of a device without the feature, are refused; the last one of a group hands it to a worker.',
    },
  ],
  source: `${SVM}, prq_event_thread, intel_svm_prq_report, handle_bad_prq_event; io-pgfault.c, iommu_queue_iopf`,
  doc: 'The thread of the page request interrupt runs.',
})

export const SVA_IOPF_WORK = declareCall({
  name: 'iopf_work',
  ...SVA,
  args: {
    device: { type: 'name', optional: true, doc: 'Whose group; any device`s if left out.' },
    group: { type: 'u16', optional: true, doc: 'Its index; the oldest one if left out.' },
  },
  outputs: {
    faults: { type: 'count', doc: 'Page requests of the group.' },
    result: { type: 'name', doc: 'What came of them: success, or invalid with the first that failed.' },
    response: { type: 'flag', doc: 'Whether the device got a response.' },
  },
  answers: [
    { rule: 'none', code: 'EAGAIN', when: 'No such group waits for a worker.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'Its requests are handled in order until one fails, and one response is sent.',
    },
  ],
  source: `${FAULTS}, iopf_handle_group, iopf_handle_single; iommu.c, iommu_page_response; svm.c, intel_svm_page_response`,
  doc: 'A worker handles a group of page requests. Workers take groups in any order.',
})

export const SVA_PAGE_RESPONSE = declareCall({
  name: 'page_response',
  ...SVA,
  args: {
    device,
    pasid,
    group: { type: 'u16', doc: 'Index of the group.' },
    code: {
      type: 'choice',
      choices: ['success', 'invalid', 'failure'],
      doc: 'What it says: ask again, the access fails, or no page requests any more.',
    },
  },
  answers: [
    NO_DEVICE,
    { rule: 'no-handler', code: 'EINVAL', when: 'The feature is off in the device.' },
    {
      rule: 'none-pending',
      code: 'EINVAL',
      when: 'No group of the device waits for a response: the kernel warns.',
    },
    { rule: 'no-match', code: 'EINVAL', when: 'None with that index and PASID does.' },
    {
      rule: 'pasid-reserved',
      code: 'EINVAL',
      when: 'The PASID is 0: the group does not wait any more, and no response is sent.',
    },
    {
      rule: 'not-bound',
      code: 'ENODEV',
      when: 'Linux before 6.1: the device is not bound by the PASID. The group does not wait any more, and no response is sent.',
    },
    { rule: 'done', code: 'OK', when: 'The response is sent.' },
  ],
  source: `${IOMMU}, iommu_page_response; svm.c, intel_svm_page_response`,
  doc: 'A driver answers a group of page requests of its device itself. The worker`s own answer is dropped then.',
})

/** Shared virtual addresses of Linux 6.1. */
export const SVA_CALLS = [
  SVA_ENABLE,
  SVA_DISABLE,
  SVA_BIND,
  SVA_UNBIND,
  SVA_PRQ_EVENT_THREAD,
  SVA_IOPF_WORK,
  SVA_PAGE_RESPONSE,
] as const
