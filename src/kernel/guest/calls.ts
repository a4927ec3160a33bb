import { type ArgDecl, declareCall } from '../../bits/call.ts'

const MAPPING =
  'Linux v6.1 kernel/dma/mapping.c, arch/powerpc/kernel/dma-iommu.c, arch/powerpc/kernel/iommu.c'
const DIRECT = 'kernel/dma/direct.c'
const PSERIES = 'Linux v6.1 arch/powerpc/platforms/pseries/iommu.c'
const PAGES = 'Linux v6.1 mm/page_alloc.c'
const MEMORY = 'Linux v6.1 mm/memory_hotplug.c, drivers/base/memory.c'

const DEVICE: ArgDecl = { type: 'name', doc: 'Device whose driver calls.' }
const AS: ArgDecl = { type: 'name', doc: 'Name under which later steps find the buffer.', optional: true }
const BUFFER: ArgDecl = { type: 'name', doc: 'Buffer that an earlier step named.', optional: true }
const DIR: ArgDecl = {
  type: 'choice',
  doc: 'Who reads and writes: the device reads memory (to-device), writes it, or both.',
  choices: ['to-device', 'from-device', 'bidirectional'],
  optional: true,
  initial: 'bidirectional',
}
const HANDLE: ArgDecl = { type: 'u64', doc: 'Bus address for the device.' }
const GPA: ArgDecl = { type: 'u64', doc: 'Guest physical address.' }
const MASK: ArgDecl = { type: 'u64', doc: 'Bus addresses that the device can form.' }

const NOT_BOOTED = {
  rule: 'kernel-not-booted',
  code: 'ENODEV',
  when: 'The guest kernel has not booted.',
} as const
const NO_DEVICE = {
  rule: 'device-unknown',
  code: 'ENODEV',
  when: 'The kernel found no such device.',
} as const
const NO_BUFFER = {
  rule: 'buffer-unknown',
  code: 'EINVAL',
  when: 'No buffer has that name, or neither a name nor an address is given, or it has no such mapping.',
} as const
const BESIDE_BUFFER = {
  rule: 'outside-buffer',
  code: 'EINVAL',
  when: 'The bytes do not lie in the named buffer, or in any memory.',
} as const
const WITHOUT_TABLE = 'The device has no IOMMU table.'
const NO_TABLE = {
  rule: 'no-table',
  code: 'DONE',
  when: 'The device has no IOMMU table: nothing happens.',
} as const
const BEYOND_MASK =
  'The memory lies below the limit of direct access, but its bus address above a mask that was lowered since.'

/** Starts the guest kernel. */
export const BOOT = declareCall({
  name: 'boot',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {},
  outputs: { tables: { type: 'count', doc: 'IOMMU tables that were set up.' } },
  answers: [
    { rule: 'already-booted', code: 'EBUSY', when: 'The guest kernel runs already.' },
    { rule: 'done', code: 'DONE', when: 'Every window that the device tree tells of has its table.' },
  ],
  source: `${PSERIES}, iommu_init_early_pSeries, pci_dma_bus_setup_pSeriesLP`,
  doc: 'Starts the guest kernel: it reads the device tree, makes a table for every DMA window and clears the windows.',
})

const MASK_ANSWERS = [
  { rule: 'no-table', code: 'EIO', when: 'The device has no IOMMU table and cannot reach memory directly.' },
  { rule: 'window-above-mask', code: 'EIO', when: 'The window begins above what the mask reaches.' },
  {
    rule: 'done-limited',
    code: 'DONE',
    when: 'The device reaches memory up to a limit directly, the rest through its table.',
  },
  { rule: 'done-direct', code: 'DONE', when: 'The device reaches all memory directly.' },
  { rule: 'done-table', code: 'DONE', when: 'The device reaches memory through its IOMMU table.' },
] as const

const MASK_OUTPUTS = {
  offset: { type: 'u64', doc: 'Bus address of memory address 0, where the device reaches memory directly.' },
  limit: { type: 'u64', doc: 'Highest bus address of direct access, 0 for none.' },
} as const satisfies Readonly<Record<string, ArgDecl>>

/** A driver takes a device. */
export const PROBE = declareCall({
  name: 'probe',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    device: DEVICE,
    mask: { ...MASK, optional: true, initial: 0xffff_ffff_ffff_ffffn },
    coherent_mask: {
      ...MASK,
      doc: 'The same for coherent memory; `mask` where it is left out.',
      optional: true,
    },
    max_segment: {
      type: 'u32',
      doc: 'Bytes that one segment of a list may have; 0 for 64 KiB.',
      optional: true,
      initial: 65_536n,
    },
    boundary: {
      type: 'u64',
      doc: 'Segments do not cross a multiple of this + 1, which is a power of two; 0 for no boundary.',
      optional: true,
      initial: 0xffff_ffffn,
    },
    owner: {
      type: 'name',
      doc: 'For whom its buffers are; the device where it is left out.',
      optional: true,
    },
  },
  outputs: MASK_OUTPUTS,
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    { rule: 'driver-bound', code: 'EBUSY', when: 'The device has a driver.' },
    { rule: 'boundary-odd', code: 'EINVAL', when: 'boundary + 1 is no power of two.' },
    ...MASK_ANSWERS,
  ],
  source: `${MAPPING}; ${PSERIES}, enable_ddw`,
  doc: 'A driver takes a device: it sets its segment limits and both DMA masks. May make a 64-bit DMA window.',
})

export const DMA_SET_MASK = declareCall({
  name: 'dma_set_mask',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: { device: DEVICE, mask: MASK },
  outputs: MASK_OUTPUTS,
  answers: [NOT_BOOTED, NO_DEVICE, ...MASK_ANSWERS],
  source: `${MAPPING}; ${PSERIES}, enable_ddw`,
  doc: 'Says which bus addresses a device can form. All 64 bits make the kernel try a 64-bit DMA window.',
})

export const DMA_SET_COHERENT_MASK = declareCall({
  name: 'dma_set_coherent_mask',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: { device: DEVICE, mask: MASK },
  outputs: MASK_OUTPUTS,
  answers: [NOT_BOOTED, NO_DEVICE, ...MASK_ANSWERS],
  source: `${MAPPING}; ${PSERIES}, enable_ddw`,
  doc: 'Says which bus addresses a device can form for coherent memory.',
})

/** The driver of a device ends. */
export const REMOVE = declareCall({
  name: 'remove',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: { device: DEVICE },
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    { rule: 'no-driver', code: 'ENODEV', when: 'No driver has the device.' },
    { rule: 'done', code: 'DONE', when: 'The driver is gone; what it mapped stays mapped.' },
  ],
  source: 'Linux v6.1 drivers/base/dd.c',
  doc: 'The driver of a device ends. It should have given all its mappings back.',
})

export const DMA_ALLOC_COHERENT = declareCall({
  name: 'dma_alloc_coherent',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: { device: DEVICE, bytes: { type: 'u32', doc: 'Length; rounded up to system pages.' }, as: AS },
  outputs: { handle: HANDLE, gpa: GPA },
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    { rule: 'order-too-large', code: 'NULL', when: 'The buffer needs 2^13 system pages or more.' },
    { rule: 'no-table', code: 'NULL', when: WITHOUT_TABLE },
    { rule: 'no-memory', code: 'NULL', when: 'The kernel has no block of pages that large.' },
    {
      rule: 'no-entries',
      code: 'NULL',
      when: 'The table has no room in reach of the coherent mask; or no entries are asked for.',
    },
    { rule: 'set-failed', code: 'NULL', when: 'The hypervisor refused the entries.' },
    { rule: 'done-direct', code: 'DONE', when: 'The device reaches the buffer directly.' },
    { rule: 'done', code: 'DONE', when: 'The buffer is mapped in both directions.' },
  ],
  source: `${MAPPING}, iommu_alloc_coherent; ${DIRECT}`,
  doc: 'Memory that CPU and device share. Allocates pages and maps them.',
})

export const DMA_FREE_COHERENT = declareCall({
  name: 'dma_free_coherent',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    device: DEVICE,
    buffer: BUFFER,
    bytes: {
      type: 'u32',
      doc: 'Length as it was allocated; that of the named buffer where left out.',
      optional: true,
    },
    gpa: { ...GPA, optional: true },
    handle: { ...HANDLE, optional: true },
  },
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    NO_BUFFER,
    NO_TABLE,
    {
      rule: 'not-allocated',
      code: 'DONE',
      when: 'The pages were not allocated: the kernel warns, the entries are gone.',
    },
    {
      rule: 'outside-table',
      code: 'DONE',
      when: 'The bus address lies outside the table: the entries stay, the pages are free.',
    },
    { rule: 'done-direct', code: 'DONE', when: 'The pages are free; there were no entries.' },
    { rule: 'done', code: 'DONE', when: 'Entries and pages are free.' },
  ],
  source: `${MAPPING}, iommu_free_coherent; ${DIRECT}`,
  doc: 'Gives memory back that dma_alloc_coherent gave.',
})

export const DMA_MAP_PAGE = declareCall({
  name: 'dma_map_page',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    device: DEVICE,
    buffer: BUFFER,
    gpa: { ...GPA, doc: 'Memory to map, where no buffer is named.', optional: true },
    offset: { type: 'u32', doc: 'Where in the named buffer.', optional: true, initial: 0n },
    bytes: { type: 'u32', doc: 'Length; the rest of the named buffer where left out.', optional: true },
    dir: DIR,
    as: AS,
  },
  outputs: { handle: HANDLE },
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    NO_BUFFER,
    BESIDE_BUFFER,
    { rule: 'direct-beyond-mask', code: 'DMA_MAPPING_ERROR', when: BEYOND_MASK },
    { rule: 'no-table', code: 'DMA_MAPPING_ERROR', when: WITHOUT_TABLE },
    {
      rule: 'no-entries',
      code: 'DMA_MAPPING_ERROR',
      when: 'The table has no room in reach of the mask; or no bytes are mapped.',
    },
    { rule: 'set-failed', code: 'DMA_MAPPING_ERROR', when: 'The hypervisor refused the entries.' },
    { rule: 'done-direct', code: 'DONE', when: 'The device reaches the memory directly.' },
    { rule: 'done', code: 'DONE', when: 'The memory is mapped.' },
  ],
  source: `${MAPPING}, iommu_map_page; ${DIRECT}`,
  doc: 'Makes memory of a driver reachable for its device.',
})

export const DMA_UNMAP_PAGE = declareCall({
  name: 'dma_unmap_page',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    device: DEVICE,
    buffer: BUFFER,
    handle: { ...HANDLE, optional: true },
    bytes: {
      type: 'u32',
      doc: 'Length as it was mapped; that of the named mapping where left out.',
      optional: true,
    },
  },
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    NO_BUFFER,
    NO_TABLE,
    {
      rule: 'outside-table',
      code: 'DONE',
      when: 'The bus address lies outside the table: the kernel logs it and changes nothing.',
    },
    { rule: 'done-direct', code: 'DONE', when: 'The memory was reached directly: nothing to do.' },
    { rule: 'done', code: 'DONE', when: 'The entries are gone.' },
  ],
  source: `${MAPPING}, iommu_unmap_page`,
  doc: 'Takes a mapping back that dma_map_page gave. The length must be that of the mapping.',
})

export const DMA_MAP_SG = declareCall({
  name: 'dma_map_sg',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    device: DEVICE,
    buffer: BUFFER,
    segments: {
      type: 'segments',
      doc: 'Elements of the list; addresses count from the named buffer where there is one.',
    },
    dir: DIR,
    as: AS,
  },
  outputs: {
    count: { type: 'count', doc: 'Segments that the device has to do with.' },
    segments: { type: 'segments', doc: 'All places of the list; it ends at the first of 0 bytes.' },
  },
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    NO_BUFFER,
    BESIDE_BUFFER,
    { rule: 'empty', code: 'EINVAL', when: 'The list has no elements.' },
    { rule: 'direct-beyond-mask', code: 'EIO', when: BEYOND_MASK },
    { rule: 'no-table', code: 'EINVAL', when: WITHOUT_TABLE },
    {
      rule: 'no-entries',
      code: 'EIO',
      when: 'The table has no room for an element: what was mapped before it is undone.',
    },
    { rule: 'set-failed', code: 'EIO', when: 'The hypervisor refused entries of an element: all is undone.' },
    { rule: 'done-direct', code: 'DONE', when: 'The device reaches all elements directly.' },
    { rule: 'done', code: 'DONE', when: 'The list is mapped.' },
  ],
  source: `${MAPPING}, ppc_iommu_map_sg; ${DIRECT}`,
  doc: 'Maps a list of buffers; neighbours on the bus become one segment.',
})

export const DMA_UNMAP_SG = declareCall({
  name: 'dma_unmap_sg',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    device: DEVICE,
    buffer: BUFFER,
    segments: {
      type: 'segments',
      doc: 'Segments as dma_map_sg answered them, where no list is named.',
      optional: true,
    },
  },
  answers: [
    NOT_BOOTED,
    NO_DEVICE,
    NO_BUFFER,
    NO_TABLE,
    {
      rule: 'outside-table',
      code: 'DONE',
      when: 'A segment lies outside the table: the kernel logs it and leaves it.',
    },
    { rule: 'done-direct', code: 'DONE', when: 'The list was reached directly: nothing to do.' },
    { rule: 'done', code: 'DONE', when: 'The entries of all segments are gone.' },
  ],
  source: `${MAPPING}, ppc_iommu_unmap_sg`,
  doc: 'Takes a list back that dma_map_sg mapped.',
})

export const ALLOC_PAGES = declareCall({
  name: 'alloc_pages',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    order: { type: 'u8', doc: 'log2 of the number of system pages.', optional: true, initial: 0n },
    owner: { type: 'name', doc: 'Whose pages they are.' },
    as: AS,
  },
  outputs: { gpa: GPA, bytes: { type: 'u64', doc: 'Length of the block.' } },
  answers: [
    NOT_BOOTED,
    { rule: 'order-too-large', code: 'NULL', when: 'No block has that many pages.' },
    { rule: 'no-memory', code: 'NULL', when: 'No free block is large enough.' },
    { rule: 'done', code: 'DONE', when: 'The pages belong to the owner.' },
  ],
  source: `${PAGES}, __alloc_pages`,
  doc: 'Takes pages from the kernel: a block of 2^order, naturally aligned.',
})

export const FREE_PAGES = declareCall({
  name: 'free_pages',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: {
    buffer: BUFFER,
    gpa: { ...GPA, doc: 'First byte of the block, where no buffer is named.', optional: true },
  },
  answers: [
    NOT_BOOTED,
    NO_BUFFER,
    { rule: 'not-allocated', code: 'DONE', when: 'No allocated block begins there: the kernel warns.' },
    { rule: 'done', code: 'DONE', when: 'The whole block is free.' },
  ],
  source: `${PAGES}, __free_pages`,
  doc: 'Gives a block of pages back to the kernel. Nothing takes mappings of them away.',
})

const RANGE: Readonly<Record<'gpa' | 'bytes', ArgDecl>> = {
  gpa: { type: 'u64', doc: 'First byte of the memory.' },
  bytes: { type: 'u64', doc: 'Length.' },
}
const UNALIGNED = {
  rule: 'unaligned',
  code: 'EINVAL',
  when: 'Start or length is no multiple of the system page, or the length is 0.',
} as const

export const MEMORY_ONLINE = declareCall({
  name: 'memory_online',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: RANGE,
  answers: [
    NOT_BOOTED,
    UNALIGNED,
    { rule: 'too-high', code: 'EINVAL', when: 'The memory ends past all that can ever be plugged in.' },
    { rule: 'already-there', code: 'EEXIST', when: 'The kernel has memory there.' },
    {
      rule: 'window-refused',
      code: 'EPERM',
      when: 'A DMA window could not take the memory: what was set is cleared again.',
    },
    {
      rule: 'done',
      code: 'DONE',
      when: 'The kernel uses the memory; devices with a direct window reach it.',
    },
  ],
  source: `${MEMORY}; ${PSERIES}, iommu_mem_notifier`,
  doc: 'Memory is plugged in and put to use.',
})

export const MEMORY_OFFLINE = declareCall({
  name: 'memory_offline',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: RANGE,
  answers: [
    NOT_BOOTED,
    UNALIGNED,
    { rule: 'not-there', code: 'EINVAL', when: 'The kernel does not have all of that memory.' },
    { rule: 'in-use', code: 'EBUSY', when: 'A page of it is allocated.' },
    {
      rule: 'done',
      code: 'DONE',
      when: 'The kernel does not use the memory any more; direct windows do not reach it.',
    },
  ],
  source: `${MEMORY}; ${PSERIES}, iommu_mem_notifier`,
  doc: 'Memory is taken out of use, to be unplugged.',
})

export const DETACH_NODE = declareCall({
  name: 'detach_node',
  verb: 'driver',
  family: 'driver',
  layer: 'guest',
  args: { node: { type: 'name', doc: 'A PHB by its name, or any node by its path.' } },
  answers: [
    NOT_BOOTED,
    { rule: 'node-unknown', code: 'ENOENT', when: 'The device tree has no such node.' },
    { rule: 'done', code: 'DONE', when: 'The node, its window and its tables are gone.' },
  ],
  source: `${PSERIES}, iommu_reconfig_notifier`,
  doc: 'A node of the device tree is unplugged with everything below it.',
})

/** Every call of the guest kernel. */
export const GUEST_CALLS = [
  BOOT,
  PROBE,
  DMA_SET_MASK,
  DMA_SET_COHERENT_MASK,
  REMOVE,
  DMA_ALLOC_COHERENT,
  DMA_FREE_COHERENT,
  DMA_MAP_PAGE,
  DMA_UNMAP_PAGE,
  DMA_MAP_SG,
  DMA_UNMAP_SG,
  ALLOC_PAGES,
  FREE_PAGES,
  MEMORY_ONLINE,
  MEMORY_OFFLINE,
  DETACH_NODE,
] as const
