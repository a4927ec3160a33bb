import { type StructDecl, u32, u64 } from '../user-struct.ts'

/** Structures of KVM as ppc64le lays them out. (Linux v6.1 include/uapi/linux/kvm.h, arch/powerpc/include/uapi/asm/kvm.h) */
export const STRUCTS = {
  slot: {
    name: 'kvm_userspace_memory_region',
    bytes: 32,
    fields: [u32('slot', 0), u32('flags', 4), u64('gpa', 8), u64('bytes', 16), u64('vaddr', 24)],
  },
  cap: {
    name: 'kvm_enable_cap',
    bytes: 104,
    fields: [u32('cap', 0), u32('flags', 4), u64('arg0', 8), u64('arg1', 16)],
  },
  mmu: { name: 'kvm_ppc_mmuv3_cfg', bytes: 16, fields: [u64('flags', 0), u64('process_table', 8)] },
  table32: { name: 'kvm_create_spapr_tce', bytes: 16, fields: [u64('liobn', 0), u32('window_bytes', 8)] },
  table64: {
    name: 'kvm_create_spapr_tce_64',
    bytes: 32,
    fields: [u64('liobn', 0), u32('page_shift', 8), u32('flags', 12), u64('offset', 16), u64('entries', 24)],
  },
  device: {
    name: 'kvm_create_device',
    bytes: 12,
    fields: [u32('type', 0), u32('device_fd', 4), u32('flags', 8)],
  },
  attribute: {
    name: 'kvm_device_attr',
    bytes: 24,
    fields: [u32('flags', 0), u32('group', 4), u64('attr', 8), u64('addr', 16)],
  },
  group: { name: 'int', bytes: 4, fields: [u32('group', 0)] },
  attach: { name: 'kvm_vfio_spapr_tce', bytes: 8, fields: [u32('group', 0), u32('table', 4)] },
} as const satisfies Record<string, StructDecl>
