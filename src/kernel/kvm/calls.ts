import { type CallDecl, declareCall } from '../../bits/call.ts'
import {
  arg,
  FDS,
  FLAGS,
  fd,
  io,
  iow,
  MAIN,
  NO_MEMORY,
  NO_PROCESS,
  newFd,
  OF_VM,
  POWERPC,
  process,
  TCE_TABLES,
  TOO_MANY_FILES,
  u32,
  u64,
  WITH_STRUCT,
} from './call-parts.ts'
import {
  KVM_CREATE_DEVICE,
  KVM_DEV_VFIO_GROUP_ADD,
  KVM_DEV_VFIO_GROUP_DEL,
  KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE,
  KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
} from './device-calls.ts'
import { KVM_HCALLS } from './hcall-calls.ts'

export const KVM_CHECK_EXTENSION = declareCall({
  name: 'KVM_CHECK_EXTENSION',
  verb: 'ioctl',
  nr: io(0x03),
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    fd,
    extension: {
      type: 'u64',
      doc: '63 SPAPR_TCE, 94 SPAPR_MULTITCE, 104 PPC_ENABLE_HCALL, 125 SPAPR_TCE_64, ...',
    },
  },
  answers: [
    ...OF_VM,
    {
      rule: 'supported',
      code: 'RETURN_1',
      when: 'TCE tables (63, 94, 125, 142), hypercalls that are switched on (104), capabilities of a VM (98), and, from POWER9 on, one thread a core (64) and radix guests (134).',
    },
    {
      rule: 'unsupported',
      code: 'OK',
      when: 'Capabilities of other architectures (12, 83, 95, 126); radix guests (134) before POWER9.',
    },
  ],
  source: `${POWERPC}, kvm_vm_ioctl_check_extension; a recording of Linux 6.12`,
  doc: 'Asks KVM, or a VM, what it can do. Other numbers are not modelled.',
})

export const KVM_CREATE_VM = declareCall({
  name: 'KVM_CREATE_VM',
  verb: 'ioctl',
  nr: io(0x01),
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, type: { type: 'u64', doc: '0 the best there is, 1 HV, 2 PR.' } },
  outputs: newFd('VM'),
  answers: [
    ...OF_VM,
    TOO_MANY_FILES,
    NO_MEMORY,
    { rule: 'type-unknown', code: 'EINVAL', when: 'There is no such type.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'A VM of HV KVM, without memory and VCPUs; it holds the address space.',
    },
  ],
  source: `${MAIN}, kvm_dev_ioctl_create_vm; ${POWERPC}, kvm_arch_init_vm`,
  doc: 'Makes a virtual machine.',
})

export const KVM_SET_USER_MEMORY_REGION = declareCall({
  name: 'KVM_SET_USER_MEMORY_REGION',
  verb: 'ioctl',
  nr: iow(0x46, 32),
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    fd,
    arg,
    slot: u32('Number of the slot.'),
    flags: u32('0; 1 (a log of dirty pages) is not modelled.'),
    gpa: u64('Where it begins in the guest.'),
    bytes: u64('How large it is; 0 takes the slot away.'),
    vaddr: u64('User address behind its first byte.'),
  },
  answers: [
    ...WITH_STRUCT,
    FLAGS,
    { rule: 'unaligned', code: 'EINVAL', when: 'bytes, gpa or vaddr is not a multiple of the system page.' },
    { rule: 'vaddr-outside', code: 'EINVAL', when: 'The range passes the end of user space.' },
    { rule: 'slot-unknown', code: 'EINVAL', when: 'Slots have the numbers 0 to 32766.' },
    { rule: 'gpa-wraps', code: 'EINVAL', when: 'gpa + bytes wraps at 64 bits.' },
    { rule: 'too-many-pages', code: 'EINVAL', when: 'It has more than 2^31 - 1 system pages.' },
    { rule: 'no-such-slot', code: 'EINVAL', when: 'bytes is 0, and the slot has no memory.' },
    { rule: 'removed', code: 'OK', when: 'bytes is 0: the slot has no memory any more.' },
    { rule: 'reshaped', code: 'EINVAL', when: 'The slot has memory of another size, or at another vaddr.' },
    { rule: 'same', code: 'OK', when: 'The slot is like this already.' },
    { rule: 'overlaps', code: 'EEXIST', when: 'Another slot has some of these addresses of the guest.' },
    NO_MEMORY,
    { rule: 'moved', code: 'OK', when: 'The memory of the slot lies elsewhere in the guest.' },
    { rule: 'done', code: 'OK', when: 'The guest has the memory.' },
  ],
  source: `${MAIN}, __kvm_set_memory_region`,
  doc: 'Gives memory of the process to the guest, moves it, or takes it back.',
})

export const KVM_CREATE_VCPU = declareCall({
  name: 'KVM_CREATE_VCPU',
  verb: 'ioctl',
  nr: io(0x41),
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, id: { type: 'u64', doc: 'Number of the VCPU; from 2048 on it is not modelled.' } },
  outputs: newFd('VCPU'),
  answers: [
    ...OF_VM,
    NO_MEMORY,
    {
      rule: 'core-taken',
      code: 'EINVAL',
      when: 'The VM has a VCPU of this number, from POWER9 on, where each one is a core of its own.',
    },
    { rule: 'id-taken', code: 'EEXIST', when: 'The VM has a VCPU of this number, before POWER9.' },
    TOO_MANY_FILES,
    {
      rule: 'done',
      code: 'OK',
      when: 'A VCPU that can make hypercalls (KVM_CAP_PPC_PAPR is taken for granted).',
    },
  ],
  source: `${MAIN}, kvm_vm_ioctl_create_vcpu; Linux v6.12 arch/powerpc/kvm/book3s_hv.c, kvmppc_core_vcpu_create_hv; a running 6.12 kernel`,
  doc: 'Makes a VCPU. Its guest is whoever the scenario lets make hypercalls.',
})

export const KVM_ENABLE_CAP = declareCall({
  name: 'KVM_ENABLE_CAP',
  verb: 'ioctl',
  nr: iow(0xa3, 104),
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    fd,
    arg,
    cap: u32('104: PPC_ENABLE_HCALL; others are not modelled.'),
    flags: u32('0.'),
    arg0: u64('Number of the hypercall.'),
    arg1: u64('1: the kernel answers it; 0: user space does.'),
  },
  answers: [
    ...WITH_STRUCT,
    FLAGS,
    { rule: 'hcall-invalid', code: 'EINVAL', when: 'arg0 is not a multiple of 4, or arg1 is above 1.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'H_PUT_TCE and H_GET_TCE are on from the start, the other two are not.',
    },
  ],
  source: `${POWERPC}, kvm_vm_ioctl_enable_cap`,
  doc: 'Switches a hypercall on or off in the kernel. Only those for TCEs are modelled.',
})

export const KVM_PPC_CONFIGURE_V3_MMU = declareCall({
  name: 'KVM_PPC_CONFIGURE_V3_MMU',
  verb: 'ioctl',
  nr: iow(0xaf, 16),
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    fd,
    arg,
    flags: u64('1 radix, 2 the guest invalidates itself.'),
    process_table: u64('Its register.'),
  },
  answers: [
    ...WITH_STRUCT,
    { rule: 'no-v3-mmu', code: 'ENODEV', when: 'The host is older than POWER9.' },
    FLAGS,
    {
      rule: 'table-disagrees',
      code: 'EINVAL',
      when: 'Bit 63 of the process table is not what flags say of radix.',
    },
    { rule: 'table-too-large', code: 'EINVAL', when: 'The size field of the process table is above 24.' },
    { rule: 'done', code: 'OK', when: 'The guest has a radix or a hash MMU from now on.' },
  ],
  source: 'Linux v6.1 arch/powerpc/kvm/book3s_hv.c, kvmhv_configure_mmu',
  doc: 'Says which MMU the guest has. On a POWER9 it starts with radix.',
})

const NO_ENTRIES = { rule: 'empty', code: 'EINVAL', when: 'The window has no page.' } as const
/** How making a table ends after its shape has been looked at. */
const MAKING = [
  { rule: 'limit', code: 'ENOMEM', when: 'Its pages pass RLIMIT_MEMLOCK of the caller.' },
  {
    rule: 'no-memory',
    code: 'ENOMEM',
    when: 'There is no memory for its record, which has 8 bytes for each page of entries.',
  },
  { rule: 'liobn-taken', code: 'EBUSY', when: 'The VM has a table with this LIOBN.' },
  TOO_MANY_FILES,
  {
    rule: 'done',
    code: 'OK',
    when: 'The table is there: charged in full, its pages come with the first entry that is not 0 or with the first access.',
  },
] as const
const liobn = u64('Name of the table in hypercalls; all 64 bits count.')

export const KVM_CREATE_SPAPR_TCE = declareCall({
  name: 'KVM_CREATE_SPAPR_TCE',
  verb: 'ioctl',
  nr: iow(0xa8, 16),
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    fd,
    arg,
    liobn,
    window_bytes: u32('Bytes of bus addresses, from 0 on, in pages of 4 KiB.'),
  },
  outputs: newFd('table'),
  answers: [...WITH_STRUCT, NO_ENTRIES, ...MAKING],
  source: `${TCE_TABLES}; ${POWERPC}, kvm_arch_vm_ioctl`,
  doc: 'Makes a TCE table for the guest in the kernel: the form before windows of any size.',
})

export const KVM_CREATE_SPAPR_TCE_64 = declareCall({
  name: 'KVM_CREATE_SPAPR_TCE_64',
  verb: 'ioctl',
  nr: iow(0xa8, 32),
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    fd,
    arg,
    liobn,
    page_shift: u32('log2 of the IOMMU page of the guest.'),
    flags: u32('0.'),
    offset: u64('First page of the window.'),
    entries: u64('Pages of the window.'),
  },
  outputs: newFd('table'),
  answers: [
    ...WITH_STRUCT,
    FLAGS,
    NO_ENTRIES,
    { rule: 'page-shift', code: 'EINVAL', when: 'Pages have 2^12 to 2^34 bytes.' },
    {
      rule: 'window-wraps',
      code: 'EINVAL',
      when: 'The window passes the last 64-bit bus address (or reaches it). offset + entries is a sum of 64 bits: where that wraps, nobody sees it.',
    },
    ...MAKING,
  ],
  source: TCE_TABLES,
  doc: 'Makes a TCE table for the guest in the kernel.',
})

const map = { type: 'name', doc: 'Name of the mapping.' } as const
const NOT_MAPPED = {
  rule: 'not-mapped',
  code: 'ENOENT',
  when: 'The process has no mapping of a table of this name (names are ours).',
} as const
const PAST_END = {
  rule: 'past-end',
  code: 'EFAULT',
  when: 'The table has no such page: the process gets SIGBUS.',
} as const

export const MMAP_TCE = declareCall({
  name: 'mmap_tce',
  verb: 'proc',
  family: 'errno',
  layer: 'kvm',
  args: { process, fd, map: { type: 'name', doc: 'A name for the mapping; stands for its address.' } },
  answers: [
    ...FDS,
    { rule: 'name-taken', code: 'EEXIST', when: 'The process has a mapping of this name (names are ours).' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The mapping holds the table, with its charge, as the descriptor does.',
    },
  ],
  source: `${TCE_TABLES}, kvm_spapr_tce_mmap`,
  doc: 'A process maps a TCE table of its VM. `munmap_device` takes the mapping away.',
})

export const READ_TCE = declareCall({
  name: 'read_tce',
  verb: 'proc',
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    map,
    first: {
      type: 'count',
      optional: true,
      initial: 0n,
      doc: 'First entry, counted from the start of the table.',
    },
    count: { type: 'u16', optional: true, initial: 1n, doc: 'How many entries.' },
  },
  outputs: { tces: { type: 'words', doc: 'The entries.' } },
  answers: [
    NO_PROCESS,
    NOT_MAPPED,
    PAST_END,
    { rule: 'done', code: 'OK', when: 'Entries that were never written are 0.' },
  ],
  source: `${TCE_TABLES}, kvm_spapr_tce_fault`,
  doc: 'A process reads entries of a TCE table through a mapping. A page that is not there yet comes with the access.',
})

export const WRITE_TCE = declareCall({
  name: 'write_tce',
  verb: 'proc',
  family: 'errno',
  layer: 'kvm',
  args: {
    process,
    map,
    entry: { type: 'count', doc: 'The entry, counted from the start of the table.' },
    tce: { type: 'u64', doc: 'What it then holds.' },
  },
  answers: [
    NO_PROCESS,
    NOT_MAPPED,
    PAST_END,
    { rule: 'done', code: 'OK', when: 'H_GET_TCE finds it; hardware tables behind the table do not change.' },
  ],
  source: `${TCE_TABLES}, kvm_spapr_tce_fault`,
  doc: 'A process writes an entry of a TCE table through a mapping.',
})

/** Every call that KVM answers. */
export const KVM_CALLS = [
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VM,
  KVM_SET_USER_MEMORY_REGION,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_PPC_CONFIGURE_V3_MMU,
  KVM_CREATE_SPAPR_TCE,
  KVM_CREATE_SPAPR_TCE_64,
  KVM_CREATE_DEVICE,
  KVM_DEV_VFIO_GROUP_ADD,
  KVM_DEV_VFIO_GROUP_DEL,
  KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE,
  KVM_SET_DEVICE_ATTR,
  KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR,
  MMAP_TCE,
  READ_TCE,
  WRITE_TCE,
  ...KVM_HCALLS,
] as const satisfies readonly CallDecl[]
