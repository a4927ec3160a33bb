import { declareCall } from '../../bits/call.ts'

const LINUX = 'Linux v6.1 drivers/iommu/intel/iommu.c'
const QUEUE = 'Linux v6.1 drivers/iommu/intel/dmar.c'
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
const FLUSHED = {
  rule: 'done',
  code: 'OK',
  when: 'The unit has carried it out, and has written the status of the wait behind it.',
} as const

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
  },
  outputs: { ats: { type: 'flag', doc: 'Whether ATS is on in the device.' } },
  answers: [
    NO_DEVICE,
    {
      rule: 'domain-reserved',
      code: 'EINVAL',
      when: 'Domain 0: a caching unit has it for what is not present, and the driver never uses it.',
    },
    { rule: 'attached', code: 'EBUSY', when: 'The device is attached to a domain.' },
    NO_TABLE,
    {
      rule: 'done',
      code: 'OK',
      when: 'The context entry of the device leads to the tables of the domain. A caching unit is made to look again; then ATS is switched on.',
    },
  ],
  source: `${LINUX}, domain_context_mapping_one, iommu_enable_dev_iotlb`,
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
      when: 'ATS is switched off, the context entry is clear, and the entry and the domain are flushed.',
    },
  ],
  source: `${LINUX}, __dmar_remove_one_dev_info, domain_context_clear_one`,
  doc: 'Takes a device away from its domain.',
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
      doc: 'What the device may do.',
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
  args: { domain, iova, bytes, owner: owner('Whom the memory belongs to from then on; free for nobody.') },
  answers: [
    NO_DOMAIN,
    UNALIGNED,
    TOO_WIDE,
    { rule: 'not-mapped', code: 'ENOENT', when: 'No page of the range is mapped.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The entries of the range are clear. Nothing is flushed.',
    },
  ],
  source: `${LINUX}, domain_unmap, dma_pte_clear_level`,
  doc: 'Takes bus addresses of a domain back. What remembers them is not told: that is what the flushes are for.',
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
  IOMMU_ATTACH,
  IOMMU_DETACH,
  IOMMU_MAP,
  IOMMU_UNMAP,
  IOMMU_FLUSH_PAGES,
  IOMMU_FLUSH_DOMAIN,
  IOMMU_FLUSH_ALL,
  IOMMU_FLUSH_DEVICE_TLB,
  IOMMU_FLUSH_CONTEXT,
  IOMMU_SUBMIT,
] as const
