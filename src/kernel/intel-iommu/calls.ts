import { declareCall } from '../../bits/call.ts'
import { DUTIES } from './duties.ts'

const LINUX = 'Linux v6.1 drivers/iommu/intel/iommu.c'
const QUEUE = 'Linux v6.1 drivers/iommu/intel/dmar.c'
const PASIDS = 'Linux v6.1 drivers/iommu/intel/pasid.c'
const IOMMU = { verb: 'iommu', family: 'errno', layer: 'guest' } as const

const device = { type: 'name', doc: 'The device.' } as const
const domain = { type: 'u16', doc: 'Number of the domain.' } as const
const iova = { type: 'u64', doc: 'First bus address: a multiple of 4 KiB.' } as const
const bytes = { type: 'u64', doc: 'How many: a multiple of 4 KiB.' } as const
const owner = (doc: string) => ({ type: 'name', optional: true, doc }) as const

const NO_DEVICE = { rule: 'device-unknown', code: 'ENODEV', when: 'The unit has no such device.' } as const
const NO_DOMAIN = {
  rule: 'domain-unknown',
  code: 'ENOENT',
  when: 'No device was ever attached to the domain.',
} as const
const UNALIGNED = {
  rule: 'unaligned',
  code: 'EINVAL',
  when: 'An address or the length is no multiple of 4 KiB, or the length is 0.',
} as const
const TOO_WIDE = {
  rule: 'beyond-width',
  code: 'EINVAL',
  when: 'The range leaves the bus addresses of the unit, or the memory that its entries can name.',
} as const
const NO_TABLE = {
  rule: 'no-table-page',
  code: 'ENOMEM',
  when: 'No page is left for a table; what was done until then stays.',
} as const
const NOT_ATTACHED = {
  rule: 'not-attached',
  code: 'ENOENT',
  when: 'The device is attached to no domain.',
} as const
const OFF = {
  rule: 'off',
  code: 'EBUSY',
  when: 'The driver has not started the unit, or it is asleep.',
} as const
const pasid = { type: 'u32', doc: 'The PASID.' } as const
const FLUSHED = {
  rule: 'done',
  code: 'OK',
  when: 'The unit has carried it out, and has written the status of the wait behind it.',
} as const

export const IOMMU_START = declareCall({
  name: 'start',
  ...IOMMU,
  args: {},
  answers: [
    { rule: 'on', code: 'EBUSY', when: 'The driver has started the unit.' },
    { rule: 'no-unit', code: 'EINVAL', when: 'The capability registers are all ones: there is no unit.' },
    {
      rule: 'ignored',
      code: 'OK',
      when: 'The unit has no tables that Linux can make: it is left alone, and DMA is not translated.',
    },
    {
      rule: 'no-table-page',
      code: 'ENOMEM',
      when: 'No page is left for the root table, the queue, its statuses, or the page request queue.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The queue is on where the unit has one, the root table is set and empty, faults interrupt, and DMA is translated.',
    },
  ],
  source: `${QUEUE}, alloc_iommu, dmar_enable_qi; iommu.c, init_dmars, iommu_set_root_entry`,
  doc: 'The driver starts the unit, as at boot. Every device is blocked until it is attached.',
})

export const IOMMU_STOP = declareCall({
  name: 'stop',
  ...IOMMU,
  args: {},
  answers: [OFF, { rule: 'done', code: 'OK', when: 'DMA is not translated any more; the queue stays on.' }],
  source: `${LINUX}, intel_iommu_shutdown`,
  doc: 'The driver stops the unit, as before the machine restarts. What starts it next knows nothing of this.',
})

export const IOMMU_SUSPEND = declareCall({
  name: 'suspend',
  ...IOMMU,
  args: {},
  answers: [
    OFF,
    {
      rule: 'done',
      code: 'OK',
      when: 'All caches are flushed, DMA is not translated, the fault event is kept.',
    },
  ],
  source: `${LINUX}, iommu_suspend`,
  doc: 'The driver has the unit sleep.',
})

export const IOMMU_RESUME = declareCall({
  name: 'resume',
  ...IOMMU,
  args: {},
  answers: [
    { rule: 'not-asleep', code: 'EBUSY', when: 'The unit is not asleep.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The queue begins anew, the root table is set as before, DMA is translated, the fault event is as it was.',
    },
  ],
  source: `${LINUX}, iommu_resume, init_iommu_hw; ${QUEUE}, dmar_reenable_qi`,
  doc: 'The driver wakes the unit.',
})

export const IOMMU_FORGET = declareCall({
  name: 'forget',
  ...IOMMU,
  args: {
    duty: { type: 'choice', choices: Object.keys(DUTIES), doc: 'What it leaves out.' },
    on: {
      type: 'flag',
      optional: true,
      initial: true,
      doc: 'Whether it leaves it out from now on, or does it again.',
    },
  },
  answers: [{ rule: 'done', code: 'OK', when: 'Always.' }],
  source: 'the model: no kernel has such a switch',
  doc: `The driver leaves a duty out, so that a scenario shows what it is for. ${Object.entries(DUTIES)
    .map(([name, what]) => `\`${name}\`: ${what}`)
    .join(' ')}`,
})

export const IOMMU_FAULTS = declareCall({
  name: 'faults',
  ...IOMMU,
  args: {},
  outputs: {
    records: { type: 'words', doc: 'Fault records as they were read: lower and upper word of each.' },
  },
  answers: [
    {
      rule: 'none',
      code: 'OK',
      when: 'No fault recording register holds a fault (FSTS.PPF): nothing is cleared.',
    },
    { rule: 'done', code: 'OK', when: 'All records from FSTS.FRI on are read and cleared, then FSTS.' },
  ],
  source: `${QUEUE}, dmar_fault`,
  doc: 'The fault handler runs.',
})

export const IOMMU_PAGE_REQUESTS = declareCall({
  name: 'page_requests',
  ...IOMMU,
  args: {
    answer: {
      type: 'choice',
      choices: ['success', 'invalid'],
      optional: true,
      initial: 'success',
      doc: 'What comes of the requests: the pages are there now, or the process has none.',
    },
  },
  outputs: {
    requests: { type: 'count', doc: 'Requests that were in the queue.' },
    responses: { type: 'count', doc: 'Page group responses that were sent.' },
  },
  answers: [
    {
      rule: 'no-queue',
      code: 'ENODEV',
      when: 'The driver has no page request queue: without scalable mode, PASIDs and page requests there is none.',
    },
    {
      rule: 'overflow',
      code: 'OK',
      when: 'The queue was full at some time (PRS.PRO), so that requests are lost. The bit is cleared where the queue is empty by then.',
    },
    { rule: 'none', code: 'OK', when: 'The queue is empty.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The queue is empty now. Requests without PASID, with privilege, to execute, not canonical, or of a device without page requests are invalid; the last one of a group, and one with private data, is responded to.',
    },
  ],
  source:
    'Linux v6.1 drivers/iommu/intel/svm.c, prq_event_thread, handle_bad_prq_event, intel_svm_page_response',
  doc: 'The thread of the page request interrupt runs. Pages are mapped by other steps, before it.',
})

export const IOMMU_ATTACH = declareCall({
  name: 'attach',
  ...IOMMU,
  args: {
    device,
    domain,
    ats: {
      type: 'flag',
      optional: true,
      initial: true,
      doc: 'Whether the guest uses ATS where unit and device have it.',
    },
    kind: {
      type: 'choice',
      choices: ['dma', 'unmanaged', 'identity'],
      optional: true,
      initial: 'dma',
      doc: 'What the domain is for, where it is new: DMA of drivers, a user of its own, or memory as it is. In scalable mode DMA goes through the first level where the unit has it, a user through the second.',
    },
  },
  outputs: { ats: { type: 'flag', doc: 'Whether ATS is on in the device.' } },
  answers: [
    NO_DEVICE,
    {
      rule: 'domain-reserved',
      code: 'EINVAL',
      when: 'Domain 0: a caching unit has it for what is not present, and the driver never uses it. Domain 1 in scalable mode: PASIDs that pass through have it.',
    },
    { rule: 'beyond-domains', code: 'ENOSPC', when: 'The unit has no such domain-id (CAP.ND).' },
    { rule: 'attached', code: 'EBUSY', when: 'The device is attached to a domain.' },
    NO_TABLE,
    {
      rule: 'done',
      code: 'OK',
      when: 'The entries of the device lead to the tables of the domain. A caching unit is made to look again; then PASIDs, page requests and ATS are switched on, in this order.',
    },
  ],
  source: `${LINUX}, domain_context_mapping_one, iommu_enable_dev_iotlb; ${PASIDS}, intel_pasid_setup_second_level`,
  doc: 'Puts a device behind the page tables of a domain, which begins empty.',
})

export const IOMMU_DETACH = declareCall({
  name: 'detach',
  ...IOMMU,
  args: { device },
  answers: [
    NO_DEVICE,
    NOT_ATTACHED,
    {
      rule: 'done',
      code: 'OK',
      when: 'Its PASID entries are clear and flushed, ATS is switched off, the context entry is clear, and the entry and the domain are flushed.',
    },
  ],
  source: `${LINUX}, dmar_remove_one_dev_info, domain_context_clear_one; ${PASIDS}, intel_pasid_tear_down_entry`,
  doc: 'Takes a device away from its domain.',
})

export const IOMMU_ATTACH_PASID = declareCall({
  name: 'attach_pasid',
  ...IOMMU,
  args: { device, pasid, domain },
  answers: [
    NO_DEVICE,
    NOT_ATTACHED,
    NO_DOMAIN,
    {
      rule: 'no-pasids',
      code: 'EINVAL',
      when: 'PASIDs are not on in the device: it has none, or the unit is not in scalable mode.',
    },
    {
      rule: 'no-entry',
      code: 'ENODEV',
      when: 'The PASID is beyond the directory of the device, or no page is left for its table.',
    },
    { rule: 'present', code: 'EBUSY', when: 'The PASID has an entry; PASID 0 is for requests without one.' },
    { rule: 'done', code: 'OK', when: 'The entry is written. A caching unit is made to look again.' },
  ],
  source: `${PASIDS}, intel_pasid_get_entry, intel_pasid_setup_first_level, intel_pasid_setup_second_level`,
  doc: 'Puts a PASID of an attached device behind the page tables of a domain that has them.',
})

export const IOMMU_DETACH_PASID = declareCall({
  name: 'detach_pasid',
  ...IOMMU,
  args: {
    device,
    pasid,
    silent: {
      type: 'flag',
      optional: true,
      doc: 'Whether faults of the PASID are not reported from then on (FPD), as when a process ends.',
    },
  },
  answers: [
    NO_DEVICE,
    NOT_ATTACHED,
    { rule: 'not-present', code: 'OK', when: 'The PASID has no entry: nothing happens.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The entry is clear, it and its translations are flushed, and page requests of the PASID are drained.',
    },
  ],
  source: `${PASIDS}, intel_pasid_tear_down_entry; svm.c, intel_svm_drain_prq`,
  doc: 'Takes a PASID of a device back.',
})

export const IOMMU_MAP = declareCall({
  name: 'map',
  ...IOMMU,
  args: {
    domain,
    iova,
    gpa: { type: 'u64', doc: 'First byte of memory: a multiple of 4 KiB.' },
    bytes,
    dir: {
      type: 'choice',
      choices: ['read', 'write', 'both'],
      optional: true,
      initial: 'both',
      doc: 'What the device may do. Who may write may read too, as Linux has it since 5.12.',
    },
    owner: owner('Whom the memory belongs to from then on.'),
  },
  answers: [
    NO_DOMAIN,
    UNALIGNED,
    TOO_WIDE,
    { rule: 'mapped', code: 'EEXIST', when: 'A page of the range is mapped.' },
    NO_TABLE,
    {
      rule: 'done',
      code: 'OK',
      when: 'The range is mapped, in the largest pages that fit. A caching unit is made to look again.',
    },
  ],
  source: `${LINUX}, __domain_mapping, __mapping_notify_one`,
  doc: 'Maps bus addresses of a domain to memory.',
})

export const IOMMU_UNMAP = declareCall({
  name: 'unmap',
  ...IOMMU,
  args: {
    domain,
    iova,
    bytes,
    owner: owner('Whom the memory belongs to from then on; free for nobody.'),
    flush: {
      type: 'choice',
      choices: ['none', 'strict', 'lazy'],
      optional: true,
      initial: 'none',
      doc: 'How caches are told: not at all, before the call returns, or with others when 255 wait or `flush_queue` comes.',
    },
  },
  answers: [
    NO_DOMAIN,
    UNALIGNED,
    TOO_WIDE,
    { rule: 'not-mapped', code: 'ENOENT', when: 'No page of the range is mapped.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The entries of the range are clear. Only a strict one is flushed by now: the IOTLB first, then TLBs of devices.',
    },
  ],
  source: `${LINUX}, domain_unmap, dma_pte_clear_level, intel_iommu_tlb_sync; dma-iommu.c, queue_iova`,
  doc: 'Takes bus addresses of a domain back. What remembers them is told as `flush` says; else that is what the flushes are for.',
})

export const IOMMU_FLUSH_PAGES = declareCall({
  name: 'flush_pages',
  ...IOMMU,
  args: { domain, iova, bytes },
  answers: [
    NO_DOMAIN,
    UNALIGNED,
    TOO_WIDE,
    {
      rule: 'too-many',
      code: 'OK',
      when: 'The range needs an address mask above CAP.MAMV: the whole domain is flushed.',
    },
    FLUSHED,
  ],
  source: `${LINUX}, iommu_flush_iotlb_psi`,
  doc: 'Flushes pages of a domain: the smallest aligned power of two that holds them all.',
})

export const IOMMU_FLUSH_DOMAIN = declareCall({
  name: 'flush_domain',
  ...IOMMU,
  args: { domain },
  answers: [NO_DOMAIN, FLUSHED],
  source: `${LINUX}, intel_flush_iotlb_all; ${QUEUE}, qi_flush_iotlb`,
  doc: 'Flushes all of a domain, as lazy mode does for all that was unmapped since.',
})

export const IOMMU_FLUSH_QUEUE = declareCall({
  name: 'flush_queue',
  ...IOMMU,
  args: { domain },
  answers: [
    NO_DOMAIN,
    { rule: 'empty', code: 'OK', when: 'No lazy unmapping waits.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'All of the domain is flushed, then the TLBs of its devices.',
    },
  ],
  source: `Linux v6.1 drivers/iommu/dma-iommu.c, fq_flush_timeout; ${LINUX}, intel_flush_iotlb_all`,
  doc: 'The timer of a flush queue: 10 ms after a lazy unmapping all that wait are flushed.',
})

export const IOMMU_FLUSH_ALL = declareCall({
  name: 'flush_all',
  ...IOMMU,
  args: {},
  answers: [FLUSHED],
  source: `${QUEUE}, qi_flush_iotlb`,
  doc: 'Flushes the whole IOTLB.',
})

export const IOMMU_FLUSH_DEVICE_TLB = declareCall({
  name: 'flush_device_tlb',
  ...IOMMU,
  args: {
    device,
    iova: { ...iova, optional: true, initial: 0n, doc: 'First bus address: a multiple of the length.' },
    bytes: {
      ...bytes,
      optional: true,
      initial: 0n,
      doc: 'How many: a power of two from 4 KiB on; everything if left out.',
    },
  },
  answers: [
    NO_DEVICE,
    NOT_ATTACHED,
    {
      rule: 'no-block',
      code: 'EINVAL',
      when: 'The length is no power of two from 4 KiB on, or the address is no multiple of it.',
    },
    { rule: 'ats-off', code: 'OK', when: 'ATS is off in the device: nothing is sent.' },
    FLUSHED,
  ],
  source: `${LINUX}, __iommu_flush_dev_iotlb; ${QUEUE}, qi_flush_dev_iotlb`,
  doc: 'Flushes the TLB of a device: after the flush of the domain, never before it.',
})

export const IOMMU_FLUSH_CONTEXT = declareCall({
  name: 'flush_context',
  ...IOMMU,
  args: { device },
  answers: [NO_DEVICE, FLUSHED],
  source: `${QUEUE}, qi_flush_context`,
  doc: 'Flushes the context entry of a device.',
})

export const IOMMU_SUBMIT = declareCall({
  name: 'submit',
  ...IOMMU,
  args: {
    lo: { type: 'u64', doc: 'Lower word of the descriptor.' },
    hi: { type: 'u64', optional: true, initial: 0n, doc: 'Upper word.' },
  },
  answers: [
    {
      rule: 'refused',
      code: 'EINVAL',
      when: 'The unit refuses the descriptor (IQE): the driver puts a wait in its place and clears the error.',
    },
    FLUSHED,
  ],
  source: `${QUEUE}, qi_submit_sync, qi_check_fault`,
  doc: 'Puts a descriptor of 128 bits on the invalidation queue, and a wait behind it.',
})

/** What a guest does with its VT-d unit. */
export const IOMMU_CALLS = [
  IOMMU_START,
  IOMMU_STOP,
  IOMMU_SUSPEND,
  IOMMU_RESUME,
  IOMMU_FORGET,
  IOMMU_FAULTS,
  IOMMU_PAGE_REQUESTS,
  IOMMU_ATTACH,
  IOMMU_DETACH,
  IOMMU_ATTACH_PASID,
  IOMMU_DETACH_PASID,
  IOMMU_MAP,
  IOMMU_UNMAP,
  IOMMU_FLUSH_PAGES,
  IOMMU_FLUSH_DOMAIN,
  IOMMU_FLUSH_QUEUE,
  IOMMU_FLUSH_ALL,
  IOMMU_FLUSH_DEVICE_TLB,
  IOMMU_FLUSH_CONTEXT,
  IOMMU_SUBMIT,
] as const
