import { declareCall } from '../../bits/call.ts'
import {
  arg,
  argsz,
  BAD_POINTER,
  COPIED,
  DEFAULT_WINDOW,
  DRIVER,
  DRIVER_V1,
  DRIVER_V2,
  fd,
  flags,
  IOCTL,
  NOT_ENABLED,
  NOT_WRITABLE,
  nr,
  process,
  SHORT,
  SPAPR,
  structArgs,
  u32,
  u64,
} from './call-parts.ts'
import { STRUCTS } from './structs.ts'

export const VFIO_IOMMU_SPAPR_TCE_GET_INFO = declareCall({
  name: 'VFIO_IOMMU_SPAPR_TCE_GET_INFO',
  ...IOCTL,
  nr: nr(12),
  args: { process, fd, arg, argsz: argsz(STRUCTS.info) },
  outputs: {
    flags: { type: 'u32', doc: '1 where the members after dma32_bytes count.' },
    dma32_start: { type: 'u32', doc: 'Bus address of the 32-bit window.' },
    dma32_bytes: { type: 'u32', doc: 'Bytes of the 32-bit window, be it there or not.' },
    pgsizes: { type: 'u64', doc: 'Bit n: IOMMU pages of 2^n bytes.' },
    max_windows: { type: 'u32', doc: 'Windows that a group can have.' },
    levels: { type: 'u32', doc: 'Levels that a table can have.' },
  },
  answers: [
    ...DRIVER,
    BAD_POINTER,
    SHORT,
    NOT_WRITABLE,
    { rule: 'done', code: 'OK', when: '32 bytes are written where argsz has them, else 16.' },
  ],
  source: SPAPR,
  doc: 'Asks for the windows of the group that was attached last.',
})

/** How mapping and unmapping begin. */
const MAPPING = [
  ...DRIVER,
  NOT_ENABLED,
  ...COPIED,
  ...DEFAULT_WINDOW,
  { rule: 'no-window', code: 'ENXIO', when: 'No window has the bus address.' },
] as const

export const VFIO_IOMMU_MAP_DMA = declareCall({
  name: 'VFIO_IOMMU_MAP_DMA',
  ...IOCTL,
  nr: nr(13),
  args: {
    ...structArgs(STRUCTS.map),
    flags: { ...flags, initial: 3n, doc: '1 the device may read, 2 it may write.' },
    vaddr: u64('User address.'),
    iova: u64('Bus address.'),
    bytes: u64('How many bytes.'),
  },
  answers: [
    ...MAPPING,
    { rule: 'unaligned', code: 'EINVAL', when: 'bytes or vaddr is no multiple of the IOMMU page.' },
    { rule: 'no-direction', code: 'EINVAL', when: 'The device may neither read nor write.' },
    { rule: 'iova-unaligned', code: 'EINVAL', when: 'iova is no multiple of the IOMMU page.' },
    { rule: 'iova-unaligned-returns-1', code: 'RETURN_1', when: 'The same, as kernels answer it.' },
    { rule: 'past-window', code: 'EINVAL', when: 'The range passes the end of its window.' },
    {
      rule: 'no-memory',
      code: 'ENOMEM',
      when: 'There is no memory for a level of the table or of its userspace view.',
    },
    {
      rule: 'not-registered',
      code: 'EINVAL',
      when: 'v2: a page is not wholly in one registered region that backs IOMMU pages of this length.',
    },
    { rule: 'not-pinnable', code: 'EFAULT', when: 'v1: a page is not mapped, or not for writing.' },
    { rule: 'not-contained', code: 'EPERM', when: 'A page of memory is smaller than the IOMMU page.' },
    { rule: 'region-going', code: 'ENXIO', when: 'v2: the region of a page is being given back.' },
    {
      rule: 'stopped-early',
      code: 'OK',
      when: 'The same, as kernels answer it: the pages before it are mapped.',
    },
    { rule: 'done', code: 'OK', when: 'All pages are mapped; none where bytes is 0.' },
  ],
  source: SPAPR,
  doc: 'Maps memory of the process for the devices of a container. On an error the entries before the failing one are cleared.',
})

export const VFIO_IOMMU_UNMAP_DMA = declareCall({
  name: 'VFIO_IOMMU_UNMAP_DMA',
  ...IOCTL,
  nr: nr(14),
  args: {
    ...structArgs(STRUCTS.unmap),
    iova: u64('Bus address.'),
    bytes: u64('How many bytes.'),
  },
  outputs: { bytes: { type: 'u64', doc: 'As the caller gave it: never written.' } },
  answers: [
    ...MAPPING,
    { rule: 'unaligned', code: 'EINVAL', when: 'bytes is no multiple of the IOMMU page.' },
    {
      rule: 'bad-range',
      code: 'EINVAL',
      when: 'iova is no multiple of the IOMMU page, or the range passes the end.',
    },
    { rule: 'bad-range-returns-1', code: 'RETURN_1', when: 'The same, as kernels answer it.' },
    {
      rule: 'past-window',
      code: 'OK',
      when: 'The range passes the end, and nobody looks: entries past the table.',
    },
    { rule: 'done', code: 'OK', when: 'The entries are clear, mapped before or not.' },
  ],
  source: SPAPR,
  doc: 'Takes mappings back.',
})

export const VFIO_IOMMU_ENABLE = declareCall({
  name: 'VFIO_IOMMU_ENABLE',
  ...IOCTL,
  nr: nr(15),
  args: { process, fd },
  answers: [
    ...DRIVER_V1,
    { rule: 'enabled', code: 'EBUSY', when: 'The container is enabled.' },
    {
      rule: 'no-32-bit-window',
      code: 'EPERM',
      when: 'The group that was attached last has no 32-bit window.',
    },
    {
      rule: 'limit',
      code: 'ENOMEM',
      when: 'The pages of the 32-bit window pass RLIMIT_MEMLOCK of the caller.',
    },
    { rule: 'done', code: 'OK', when: 'All pages that the 32-bit window can map are charged.' },
  ],
  source: SPAPR,
  doc: 'Lets a v1 container map, and charges the process once for all of it.',
})

export const VFIO_IOMMU_DISABLE = declareCall({
  name: 'VFIO_IOMMU_DISABLE',
  ...IOCTL,
  nr: nr(16),
  args: { process, fd },
  answers: [
    ...DRIVER_V1,
    { rule: 'not-enabled', code: 'OK', when: 'The container is not enabled; nothing happens.' },
    { rule: 'done', code: 'OK', when: 'The charge is given back; mappings stay.' },
  ],
  source: SPAPR,
  doc: 'Ends VFIO_IOMMU_ENABLE.',
})

const UNALIGNED = {
  rule: 'unaligned',
  code: 'EINVAL',
  when: 'vaddr or bytes is no multiple of the system page.',
} as const

const MEMORY_ARGS = {
  ...structArgs(STRUCTS.memory),
  vaddr: u64('User address.'),
  bytes: u64('How many bytes.'),
} as const

export const VFIO_IOMMU_SPAPR_REGISTER_MEMORY = declareCall({
  name: 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY',
  ...IOCTL,
  nr: nr(17),
  args: MEMORY_ARGS,
  outputs: { pinned: { type: 'count', optional: true, doc: 'What the ioctl returns where it is above 0.' } },
  answers: [
    ...DRIVER_V2,
    ...COPIED,
    UNALIGNED,
    { rule: 'range-wraps', code: 'EINVAL', when: 'The range does not fit 64 bits.' },
    { rule: 'held', code: 'EBUSY', when: 'The container has registered exactly this range.' },
    {
      rule: 'limit',
      code: 'ENOMEM',
      when: 'The pages pass RLIMIT_MEMLOCK of the caller, or there is no memory.',
    },
    {
      rule: 'partly-pinned',
      code: 'OK',
      when: 'A page cannot be pinned, as kernels may answer it: the ioctl returns how many it had pinned before. Nothing is registered.',
    },
    { rule: 'not-pinnable', code: 'EFAULT', when: 'A page is not mapped, or not for writing.' },
    { rule: 'overlap', code: 'EINVAL', when: 'A registered region of the process overlaps.' },
    {
      rule: 'no-entry-record',
      code: 'ENOMEM',
      when: 'There is no memory for the container’s record of it; the registration is taken back.',
    },
    {
      rule: 'shared',
      code: 'OK',
      when: 'The process has registered exactly this range through another container; nothing is charged.',
    },
    { rule: 'done', code: 'OK', when: 'The pages are pinned and charged.' },
  ],
  source: `${SPAPR}; arch/powerpc/mm/book3s64/iommu_api.c`,
  doc: 'Registers memory of the process, so that it can be mapped.',
})

export const VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY = declareCall({
  name: 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY',
  ...IOCTL,
  nr: nr(18),
  args: MEMORY_ARGS,
  answers: [
    ...DRIVER_V2,
    {
      rule: 'no-process-yet',
      code: 'EPERM',
      when: 'The container has neither registered nor created anything.',
    },
    ...COPIED,
    UNALIGNED,
    { rule: 'not-registered', code: 'ENOENT', when: 'The process has no region of exactly this range.' },
    { rule: 'not-held', code: 'ENOENT', when: 'The region is there, but not of this container.' },
    { rule: 'in-use', code: 'EBUSY', when: 'Mappings are live in the region; it stays.' },
    {
      rule: 'orphaned',
      code: 'OK',
      when: 'Mappings are live, and kernels answer so: the region stays, and the container has forgotten it.',
    },
    { rule: 'done', code: 'OK', when: 'The container has it no more; with the last one the pages are free.' },
  ],
  source: `${SPAPR}; arch/powerpc/mm/book3s64/iommu_api.c`,
  doc: 'Gives registered memory back: exactly the range that was registered.',
})

export const VFIO_IOMMU_SPAPR_TCE_CREATE = declareCall({
  name: 'VFIO_IOMMU_SPAPR_TCE_CREATE',
  ...IOCTL,
  nr: nr(19),
  args: {
    ...structArgs(STRUCTS.create),
    page_shift: u32('log2 of the IOMMU page.'),
    window_bytes: u64('Bytes of the window.'),
    levels: u32('Levels of the table.'),
    start_addr: u64('What the structure has there before the call.'),
  },
  outputs: { start_addr: { type: 'u64', doc: 'Bus address of the window; as it was where the call fails.' } },
  answers: [
    ...DRIVER_V2,
    ...COPIED,
    ...DEFAULT_WINDOW,
    { rule: 'no-free-window', code: 'ENOSPC', when: 'Both windows are there.' },
    { rule: 'page-size-unknown', code: 'EINVAL', when: 'The platform has no IOMMU pages of this length.' },
    {
      rule: 'bad-geometry',
      code: 'EINVAL',
      when: 'window_bytes is no power of two, or levels is not 1 to 5.',
    },
    { rule: 'limit', code: 'ENOMEM', when: 'The table passes RLIMIT_MEMLOCK of the caller.' },
    { rule: 'table-refused', code: 'EINVAL', when: 'Window, page and levels fit no table.' },
    {
      rule: 'no-memory',
      code: 'ENOMEM',
      when: 'There is no memory for the table (before its form is looked at), its first level, or its link to a group.',
    },
    {
      rule: 'firmware-refused',
      code: 'ENXIO',
      when: 'Firmware refuses to program the window (its code goes through).',
    },
    NOT_WRITABLE,
    { rule: 'done', code: 'OK', when: 'The window is programmed into every group.' },
  ],
  source: SPAPR,
  doc: 'Makes a DMA window for all groups of a v2 container: the first that is free, at bus address 0 or 1 << 59.',
})

export const VFIO_IOMMU_SPAPR_TCE_REMOVE = declareCall({
  name: 'VFIO_IOMMU_SPAPR_TCE_REMOVE',
  ...IOCTL,
  nr: nr(20),
  args: { ...structArgs(STRUCTS.remove), start_addr: u64('A bus address in the window.') },
  answers: [
    ...DRIVER_V2,
    ...COPIED,
    {
      rule: 'cancelled',
      code: 'OK',
      when: 'start_addr is 0, and the 32-bit window was still to be made: it will not be.',
    },
    { rule: 'no-window', code: 'EINVAL', when: 'No window has the bus address.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The window is gone with all its mappings, and its charge is given back.',
    },
  ],
  source: SPAPR,
  doc: 'Removes a DMA window of a v2 container.',
})

/** The calls of the SPAPR TCE driver. */
export const SPAPR_CALLS = [
  VFIO_IOMMU_SPAPR_TCE_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_IOMMU_ENABLE,
  VFIO_IOMMU_DISABLE,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
] as const
