import { declareCall } from '../bits/call.ts'

/** Who makes a call. */
export const process = {
  type: 'name',
  optional: true,
  doc: 'The process that acts; left out, the one that the operation says.',
} as const
export const NO_PROCESS = {
  rule: 'no-such-process',
  code: 'ESRCH',
  when: 'There is no such process, or it has ended.',
} as const
const UNALIGNED = {
  rule: 'unaligned',
  code: 'EINVAL',
  when: 'The address is not a multiple of the system page.',
} as const
const SPLIT_PAST_LIMIT = {
  rule: 'split-past-limit',
  code: 'ENOMEM',
  when: 'It would split a range and pass vm.max_map_count.',
} as const
const EMPTY = { rule: 'empty', code: 'EINVAL', when: 'bytes is 0.' } as const

/** fork: a child with a copy of all memory, made when one of the two writes. */
export const PROC_FORK = declareCall({
  name: 'fork',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: { process, child: { type: 'name', doc: 'Name of the child; no process may have had it before.' } },
  answers: [
    NO_PROCESS,
    {
      rule: 'name-taken',
      code: 'EEXIST',
      when: 'A process has or had the name of the child (names are ours).',
    },
    { rule: 'too-many-processes', code: 'EAGAIN', when: 'The host has no process number left.' },
    { rule: 'no-frames', code: 'ENOMEM', when: 'The host has too few free frames to copy the pinned pages.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'The child has the same ranges; a page that is pinned for long is copied at once, all others are shared until one of the two writes.',
    },
  ],
  source: 'Linux v6.1 kernel/fork.c (dup_mmap), mm/memory.c (copy_present_pte, copy_present_page)',
  doc: 'A process makes a child. Limits and capabilities are inherited; locked_vm of the child is 0.',
})

/** mmap of private anonymous memory. */
export const PROC_MMAP = declareCall({
  name: 'mmap',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    address: { type: 'u64', optional: true, initial: 0n, doc: 'Where to map (fixed), or a hint; 0 is none.' },
    bytes: { type: 'u64', doc: 'Bytes; rounded up to system pages.' },
    read: { type: 'flag', optional: true, initial: true, doc: 'PROT_READ.' },
    write: {
      type: 'flag',
      optional: true,
      initial: true,
      doc: 'PROT_WRITE; such memory can be read as well.',
    },
    fixed: { type: 'flag', optional: true, initial: false, doc: 'MAP_FIXED: replaces what is mapped there.' },
    noreplace: {
      type: 'flag',
      optional: true,
      initial: false,
      doc: 'MAP_FIXED_NOREPLACE: at this address, but not over something else.',
    },
    huge_shift: {
      type: 'u8',
      optional: true,
      initial: 0n,
      doc: 'MAP_HUGETLB with pages of 2^huge_shift bytes: 21, 24, 30 or 34. Such memory is kept from children (MADV_DONTFORK), as QEMU keeps guest memory.',
    },
  },
  outputs: { address: { type: 'u64', doc: 'First byte; the choice of the kernel unless fixed.' } },
  answers: [
    NO_PROCESS,
    { rule: 'huge-shift', code: 'EINVAL', when: 'The host has no huge pages of that size.' },
    EMPTY,
    { rule: 'bytes-wrap', code: 'ENOMEM', when: 'bytes, rounded up to pages, does not fit 64 bits.' },
    { rule: 'too-many-maps', code: 'ENOMEM', when: 'The process has more ranges than vm.max_map_count.' },
    {
      rule: 'no-room',
      code: 'ENOMEM',
      when: 'No gap is large enough, or a fixed range passes the end of user space.',
    },
    {
      rule: 'unaligned',
      code: 'EINVAL',
      when: 'A fixed address is not a multiple of the page, system page or huge page.',
    },
    { rule: 'exists', code: 'EEXIST', when: 'noreplace is set and something is mapped in the range.' },
    {
      rule: 'split-past-limit',
      code: 'ENOMEM',
      when: 'Replacing would split a range and pass vm.max_map_count.',
    },
    { rule: 'huge-page-cut', code: 'ENOMEM', when: 'Replacing would leave a part of a huge page.' },
    {
      rule: 'no-huge-pages',
      code: 'ENOMEM',
      when: 'There are too few huge pages; what was mapped there is gone.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The range is mapped; its pages come when they are first used, huge pages now.',
    },
  ],
  source:
    'Linux v6.1 mm/mmap.c (ksys_mmap_pgoff, do_mmap, get_unmapped_area, mmap_region), fs/hugetlbfs/inode.c (hugetlbfs_file_mmap)',
  doc: 'A process maps private anonymous memory.',
})

export const PROC_MUNMAP = declareCall({
  name: 'munmap',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    address: { type: 'u64', doc: 'First byte.' },
    bytes: { type: 'u64', doc: 'Bytes; rounded up to system pages.' },
  },
  answers: [
    NO_PROCESS,
    UNALIGNED,
    { rule: 'past-end', code: 'EINVAL', when: 'The range passes the end of user space.' },
    EMPTY,
    SPLIT_PAST_LIMIT,
    { rule: 'huge-page-cut', code: 'EINVAL', when: 'The range begins or ends inside a huge page.' },
    {
      rule: 'done',
      code: 'OK',
      when: 'Nothing is mapped in the range any more; pages that are pinned stay with whoever pinned them.',
    },
  ],
  source: 'Linux v6.1 mm/mmap.c (do_mas_munmap, do_mas_align_munmap)',
  doc: 'A process gives memory back. Devices are not asked: a pinned page stays reachable for them.',
})

export const PROC_MPROTECT = declareCall({
  name: 'mprotect',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    address: { type: 'u64', doc: 'First byte.' },
    bytes: { type: 'u64', doc: 'Bytes; rounded up to system pages.' },
    read: { type: 'flag', optional: true, initial: false, doc: 'PROT_READ.' },
    write: { type: 'flag', optional: true, initial: false, doc: 'PROT_WRITE.' },
  },
  answers: [
    NO_PROCESS,
    UNALIGNED,
    { rule: 'empty', code: 'OK', when: 'bytes is 0; nothing happens.' },
    { rule: 'range-wraps', code: 'ENOMEM', when: 'The range does not fit 64 bits.' },
    { rule: 'start-not-mapped', code: 'ENOMEM', when: 'Nothing is mapped at the address.' },
    SPLIT_PAST_LIMIT,
    {
      rule: 'huge-page-cut',
      code: 'EINVAL',
      when: 'It would split a range inside a huge page; what lies before has changed.',
    },
    {
      rule: 'hole',
      code: 'ENOMEM',
      when: 'Nothing is mapped further on; what lies before the hole has changed.',
    },
    { rule: 'done', code: 'OK', when: 'The range has the new permissions.' },
  ],
  source: 'Linux v6.1 mm/mprotect.c (do_mprotect_pkey, mprotect_fixup)',
  doc: 'A process changes the permissions of its memory. Pins, and what a device may do through them, stay.',
})

export const PROC_EXIT = declareCall({
  name: 'exit',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: { process },
  answers: [
    NO_PROCESS,
    {
      rule: 'done',
      code: 'OK',
      when: 'Its memory is gone except what is pinned, then its files are closed; the mm structure stays while somebody holds it.',
    },
  ],
  source: 'Linux v6.1 kernel/exit.c (do_exit: exit_mm, then exit_files), mm/mmap.c (exit_mmap)',
  doc: 'A process ends.',
})

export const PROC_SETRLIMIT = declareCall({
  name: 'setrlimit',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    memlock_bytes: { type: 'u64', doc: 'RLIMIT_MEMLOCK, soft and hard together; all ones is no limit.' },
  },
  answers: [
    NO_PROCESS,
    {
      rule: 'done',
      code: 'OK',
      when: 'The limit counts from now on. What is charged stays, and it may be raised: the process has CAP_SYS_RESOURCE.',
    },
  ],
  source: 'Linux v6.1 kernel/sys.c (do_prlimit)',
  doc: 'A process sets how much memory it may lock. Children inherit it.',
})

export const PROC_CAPSET = declareCall({
  name: 'capset',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    ipc_lock: { type: 'flag', doc: 'CAP_IPC_LOCK, permitted and effective together: no limit counts.' },
  },
  answers: [
    NO_PROCESS,
    {
      rule: 'not-permitted',
      code: 'EPERM',
      when: 'The process has not got the capability: what was given up does not come back.',
    },
    { rule: 'done', code: 'OK', when: 'The process has the capability, or has it no more.' },
  ],
  source: 'Linux v6.1 security/commoncap.c (cap_capset)',
  doc: 'A process gives a capability up, or keeps it. Children inherit it.',
})

export const PROC_STATUS = declareCall({
  name: 'status',
  verb: 'proc',
  family: 'errno',
  layer: 'host',
  args: { process },
  outputs: {
    vm_lck_kib: { type: 'u64', doc: 'VmLck: locked_vm, in KiB.' },
    vm_pin_kib: { type: 'u64', doc: 'VmPin: pinned_vm, in KiB; nothing that is modelled counts there.' },
  },
  answers: [NO_PROCESS, { rule: 'done', code: 'OK', when: 'The file is read.' }],
  source: 'Linux v6.1 fs/proc/task_mmu.c (task_mem)',
  doc: 'What /proc/PID/status says of locked and pinned memory.',
})

export const PROC_CALLS = [
  PROC_FORK,
  PROC_MMAP,
  PROC_MUNMAP,
  PROC_MPROTECT,
  PROC_EXIT,
  PROC_SETRLIMIT,
  PROC_CAPSET,
  PROC_STATUS,
] as const
