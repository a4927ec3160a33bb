import { declareCall } from '../../../bits/call.ts'

const SVM_C = 'Linux v4.9 drivers/iommu/intel-svm.c'
const SVM = { verb: 'svm', family: 'errno', layer: 'kernel' } as const

const device = { type: 'name', doc: 'The device.' } as const
const pasid = { type: 'u32', doc: 'The PASID.' } as const
const NO_UNIT = { rule: 'no-unit', code: 'EINVAL', when: 'No unit has such a device behind it.' } as const
const NO_TABLES = {
  rule: 'no-tables',
  code: 'EINVAL',
  when: 'The unit has no PASID table: it has no PASIDs, or there was no memory for it. (Since v4.11; before it a bind went on with none.)',
} as const

export const SVM_BIND = declareCall({
  name: 'bind',
  ...SVM,
  args: {
    device,
    pasid: {
      type: 'flag',
      optional: true,
      initial: true,
      doc: 'Whether a PASID is wanted. Without one the device is only prepared for PASIDs.',
    },
    private: {
      type: 'flag',
      optional: true,
      doc: 'Whether the PASID is to be shared with no other bind (SVM_FLAG_PRIVATE_PASID).',
    },
    supervisor: {
      type: 'flag',
      optional: true,
      doc: 'Whether the kernel`s address space is meant, not the caller`s (SVM_FLAG_SUPERVISOR_MODE).',
    },
    ops: {
      type: 'name',
      optional: true,
      initial: 'fault_cb',
      doc: 'What the driver is called back with after a page request: binds of one device and address space must name the same.',
    },
  },
  outputs: { pasid: { type: 'u32', doc: 'The PASID, where one is wanted.' } },
  answers: [
    NO_UNIT,
    NO_TABLES,
    { rule: 'no-pasids', code: 'EINVAL', when: 'The device has no PASID capability.' },
    {
      rule: 'no-supervisor',
      code: 'EINVAL',
      when: 'The kernel`s address space is meant, and the unit has no requests with privilege (ECAP.SRS).',
    },
    {
      rule: 'pasid-too-wide',
      code: 'ENOSPC',
      when: 'The address space has a PASID, which the device cannot use.',
    },
    {
      rule: 'other-ops',
      code: 'EBUSY',
      when: 'The device is bound to the address space with another callback.',
    },
    {
      rule: 'no-domain',
      code: 'EINVAL',
      when: 'The device is attached to no domain, and cannot be: no page is left for its tables.',
    },
    { rule: 'prepared', code: 'OK', when: 'No PASID is wanted: requests of the device may have one now.' },
    {
      rule: 'no-pasid-left',
      code: 'ENOSPC',
      when: 'All PASIDs are taken: those below the smaller of what device and unit have, less one; from 1 on for a unit in caching mode, else from 0.',
    },
    {
      rule: 'no-notifier',
      code: 'ENOMEM',
      when: 'The address space cannot tell of its changes.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The entry of the PASID leads to the address space. Its PASID is the one that it has, if it is not private; its users are as many as before, its count is one more for a new PASID.',
    },
  ],
  source: `${SVM_C}, intel_svm_bind_mm; intel-iommu.c, intel_iommu_enable_pasid`,
  doc: 'A driver binds a device to the address space of the process that calls it. A caller without one ends the kernel.',
})

export const SVM_UNBIND = declareCall({
  name: 'unbind',
  ...SVM,
  args: { device, pasid },
  answers: [
    NO_UNIT,
    NO_TABLES,
    { rule: 'pasid-unknown', code: 'EINVAL', when: 'Nothing is bound by the PASID.' },
    { rule: 'not-bound', code: 'EINVAL', when: 'The device is not bound by it.' },
    { rule: 'still-bound', code: 'OK', when: 'It was bound more than once: nothing but the count changes.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The PASID of the device is flushed: its entry, its translations, then those in the TLB of the device. With the last device the entry is clear, the PASID is free, and the address space is told of no more.',
    },
  ],
  source: `${SVM_C}, intel_svm_unbind_mm`,
  doc: 'A driver unbinds a device. No DMA and no page request of the PASID may be on the way: what is freed is poisoned.',
})

export const SVM_IS_VALID = declareCall({
  name: 'is_pasid_valid',
  ...SVM,
  args: { device, pasid },
  answers: [
    NO_UNIT,
    NO_TABLES,
    { rule: 'pasid-unknown', code: 'EINVAL', when: 'Nothing is bound by the PASID.' },
    { rule: 'kernel', code: 'OK', when: 'Returns 1: it is one of the kernel, which is always there.' },
    { rule: 'alive', code: 'OK', when: 'Returns 1: its address space has users (mm_users).' },
    {
      rule: 'dead',
      code: 'OK',
      when: 'Returns 0: its address space has none any more, because its process has exited.',
    },
  ],
  source: 'Linux v4.11 drivers/iommu/intel-svm.c, intel_svm_is_pasid_valid',
  doc: 'A driver asks whether a PASID is of use.',
})

export const SVM_THREAD = declareCall({
  name: 'prq_event_thread',
  ...SVM,
  args: {},
  answers: [
    { rule: 'no-queue', code: 'ENODEV', when: 'The driver has no page request queue.' },
    {
      rule: 'not-woken',
      code: 'OK',
      when: 'No page request interrupt has come since the thread was woken last: it sleeps.',
    },
    { rule: 'none', code: 'OK', when: 'No request was in the queue (IRQ_NONE).' },
    {
      rule: 'done',
      code: 'OK',
      when: 'All requests that were in the queue when it read the tail are handled, and the head is that tail.',
    },
  ],
  source: `${SVM_C}, prq_event_thread`,
  doc: 'The thread of the page request interrupt runs. A request gets a response where it is the last of its group, or asks for a stream response.',
})

export const SVM_VMALLOC = declareCall({
  name: 'vmalloc',
  ...SVM,
  args: { bytes: { type: 'u64', doc: 'How many: whole pages are taken.' } },
  outputs: { address: { type: 'u64', doc: 'Where the kernel has it.' } },
  answers: [
    { rule: 'no-bytes', code: 'ENOMEM', when: 'Nothing is wanted, or more than 1 GiB.' },
    { rule: 'no-memory', code: 'ENOMEM', when: 'Not so many pages are left.' },
    { rule: 'done', code: 'OK', when: 'The pages are mapped one after the other, in an area of their own.' },
  ],
  source: 'Linux v4.9 mm/vmalloc.c, __vmalloc_node_range; arch/x86/include/asm/pgtable_64_types.h',
  doc: 'The kernel maps memory of its own beside the map of all memory one to one. PASIDs of the kernel lead there as well.',
})

export const SVM_VFREE = declareCall({
  name: 'vfree',
  ...SVM,
  args: { address: { type: 'u64', doc: 'Where the area begins.' } },
  answers: [
    { rule: 'no-area', code: 'EINVAL', when: 'No area begins there: the kernel warns, and does nothing.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The area is unmapped, PASIDs of the kernel are flushed, then its pages are freed.',
    },
  ],
  source:
    'Linux v4.9 mm/vmalloc.c, __vunmap; that PASIDs are flushed is the model`s, see erratum svm-supervisor',
  doc: 'The kernel gives memory of its own back.',
})

/** What a kernel of 4.x does with shared virtual memory, as operations. */
export const SVM_CALLS = Object.freeze([
  SVM_BIND,
  SVM_UNBIND,
  SVM_IS_VALID,
  SVM_THREAD,
  SVM_VMALLOC,
  SVM_VFREE,
])
