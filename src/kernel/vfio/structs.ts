import { type StructDecl, u32, u64 } from '../user-struct.ts'

const HEAD = [u32('argsz', 0), u32('flags', 4)] as const

/** Structures of VFIO as ppc64le lays them out; `bytes` stands for the member `size`. (Linux v6.1 include/uapi/linux/vfio.h) */
export const STRUCTS = {
  groupStatus: { name: 'vfio_group_status', bytes: 8, fields: HEAD },
  containerFd: { name: 'int', bytes: 4, fields: [u32('container', 0)] },
  info: {
    name: 'vfio_iommu_spapr_tce_info',
    bytes: 32,
    fields: [
      ...HEAD,
      u32('dma32_start', 8),
      u32('dma32_bytes', 12),
      u64('pgsizes', 16),
      u32('max_windows', 24),
      u32('levels', 28),
    ],
  },
  map: {
    name: 'vfio_iommu_type1_dma_map',
    bytes: 32,
    fields: [...HEAD, u64('vaddr', 8), u64('iova', 16), u64('bytes', 24)],
  },
  unmap: {
    name: 'vfio_iommu_type1_dma_unmap',
    bytes: 24,
    fields: [...HEAD, u64('iova', 8), u64('bytes', 16)],
  },
  memory: {
    name: 'vfio_iommu_spapr_register_memory',
    bytes: 24,
    fields: [...HEAD, u64('vaddr', 8), u64('bytes', 16)],
  },
  create: {
    name: 'vfio_iommu_spapr_tce_create',
    bytes: 40,
    fields: [
      ...HEAD,
      u32('page_shift', 8),
      u64('window_bytes', 16),
      u32('levels', 24),
      u64('start_addr', 32),
    ],
  },
  eehOp: {
    name: 'vfio_eeh_pe_op',
    bytes: 40,
    fields: [...HEAD, u32('op', 8), u32('type', 16), u32('func', 20), u64('addr', 24), u64('mask', 32)],
  },
  remove: {
    name: 'vfio_iommu_spapr_tce_remove',
    bytes: 16,
    fields: [...HEAD, u64('start_addr', 8)],
  },
} as const satisfies Record<string, StructDecl>
