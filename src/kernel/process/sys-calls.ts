import { declareCall } from '../../bits/call.ts'

const process = {
  type: 'name',
  optional: true,
  doc: 'The process that acts; left out, the one that the operation says.',
} as const
const NO_PROCESS = {
  rule: 'no-such-process',
  code: 'ESRCH',
  when: 'There is no such process, or it has ended.',
} as const
const address = { type: 'u64', doc: 'First byte.' } as const
const bytes = { type: 'u64', doc: 'Bytes; rounded up to pages of 4 KiB.' } as const
const UNALIGNED = {
  rule: 'unaligned',
  code: 'EINVAL',
  when: 'The address is not a multiple of 4 KiB.',
} as const
const SPLIT_PAST_LIMIT = {
  rule: 'split-past-limit',
  code: 'ENOMEM',
  when: 'It would split an area and pass vm.max_map_count.',
} as const
const NO_MEMORY = { rule: 'no-memory', code: 'ENOMEM', when: 'No page is left for a page table.' } as const
const flag = (doc: string, initial = false) => ({ type: 'flag', optional: true, initial, doc }) as const

export const SYS_FORK = declareCall({
  name: 'fork',
  verb: 'sys',
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
    NO_MEMORY,
    {
      rule: 'done',
      code: 'OK',
      when: 'The child has the same files and areas; private pages are write-protected in both, and not accessed in the child; notifiers of the parent are told of each area that has some.',
    },
  ],
  source:
    'Linux v4.9 and v6.1 kernel/fork.c (copy_process, dup_mmap), mm/memory.c (copy_page_range; copy_one_pte, copy_present_pte)',
  doc: 'A process makes a child.',
})

export const SYS_MMAP = declareCall({
  name: 'mmap',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    address: {
      type: 'u64',
      optional: true,
      initial: 0n,
      doc: 'Where to map (fixed), or a hint; 0 is none. The process has CAP_SYS_RAWIO: vm.mmap_min_addr binds hints only.',
    },
    bytes,
    read: flag('PROT_READ.', true),
    write: flag('PROT_WRITE; such memory can be read as well.', true),
    execute: flag('PROT_EXEC.'),
    shared: flag('MAP_SHARED; else MAP_PRIVATE.'),
    fixed: flag('MAP_FIXED: replaces what is mapped there.'),
    growsdown: flag('MAP_GROWSDOWN: a stack, which grows with the first access below it.'),
    fd: {
      type: 'u32',
      optional: true,
      doc: 'The file that is mapped, of a driver; left out, MAP_ANONYMOUS. What its driver shows there is not modelled: an access ends with SIGBUS.',
    },
  },
  outputs: { address: { type: 'u64', doc: 'First byte; the choice of the kernel unless fixed.' } },
  answers: [
    NO_PROCESS,
    { rule: 'bad-fd', code: 'EBADF', when: 'The process has no such descriptor.' },
    { rule: 'empty', code: 'EINVAL', when: 'bytes is 0.' },
    { rule: 'bytes-wrap', code: 'ENOMEM', when: 'bytes, rounded up to pages, does not fit 64 bits.' },
    { rule: 'too-many-areas', code: 'ENOMEM', when: 'The process has more areas than vm.max_map_count.' },
    {
      rule: 'no-room',
      code: 'ENOMEM',
      when: 'No gap is large enough, or a fixed range passes the end of user space.',
    },
    {
      rule: 'unaligned',
      code: 'EINVAL',
      when: 'A fixed address is not a multiple of 4 KiB.',
    },
    { rule: 'shared-stack', code: 'EINVAL', when: 'growsdown is set for a file, or for shared memory.' },
    SPLIT_PAST_LIMIT,
    {
      rule: 'done',
      code: 'OK',
      when: 'The range is mapped; its pages come when they are first used. A file has one reference more.',
    },
  ],
  source:
    'Linux v4.9 and v6.1 mm/mmap.c (ksys_mmap_pgoff, do_mmap, get_unmapped_area, mmap_region), arch/x86/kernel/sys_x86_64.c',
  doc: 'A process maps anonymous memory, or the file of a driver.',
})

export const SYS_MUNMAP = declareCall({
  name: 'munmap',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: { process, address, bytes },
  answers: [
    NO_PROCESS,
    UNALIGNED,
    { rule: 'past-end', code: 'EINVAL', when: 'The range passes the end of user space.' },
    { rule: 'empty', code: 'EINVAL', when: 'bytes is 0.' },
    SPLIT_PAST_LIMIT,
    {
      rule: 'done',
      code: 'OK',
      when: 'Nothing is mapped in the range any more: entries are cleared and notifiers told, tables taken out and notifiers told, then pages and tables are freed, and files let go.',
    },
  ],
  source:
    'Linux v4.9 mm/mmap.c (do_munmap, unmap_region), mm/memory.c (unmap_vmas, free_pgtables, tlb_finish_mmu); v6.1 mm/mmap.c (do_mas_munmap)',
  doc: 'A process gives memory back.',
})

export const SYS_MPROTECT = declareCall({
  name: 'mprotect',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    address,
    bytes,
    read: flag('PROT_READ.'),
    write: flag('PROT_WRITE.'),
    execute: flag('PROT_EXEC.'),
  },
  answers: [
    NO_PROCESS,
    UNALIGNED,
    { rule: 'empty', code: 'OK', when: 'bytes is 0; nothing happens.' },
    { rule: 'range-wraps', code: 'ENOMEM', when: 'The range does not fit 64 bits.' },
    { rule: 'start-not-mapped', code: 'ENOMEM', when: 'Nothing is mapped at the address.' },
    SPLIT_PAST_LIMIT,
    {
      rule: 'hole',
      code: 'ENOMEM',
      when: 'Nothing is mapped further on; what lies before the hole has changed.',
    },
    {
      rule: 'done',
      code: 'OK',
      when: 'The range has the new rights; notifiers are told of each GiB that has page tables, and on Linux 6.1 once more of all pages whose old entries have to be flushed.',
    },
  ],
  source:
    'Linux v4.9 and v6.1 mm/mprotect.c (do_mprotect_pkey, mprotect_fixup, change_protection), v6.1 arch/x86/include/asm/tlbflush.h (pte_needs_flush)',
  doc: 'A process changes the rights of its memory.',
})

export const SYS_EXECVE = declareCall({
  name: 'execve',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: { process },
  answers: [
    NO_PROCESS,
    NO_MEMORY,
    {
      rule: 'done',
      code: 'OK',
      when: 'The process has an empty address space, and has given back the old one; then descriptors with O_CLOEXEC are closed.',
    },
  ],
  source: 'Linux v4.9 fs/exec.c (flush_old_exec, exec_mmap); v6.1 fs/exec.c (begin_new_exec)',
  doc: 'A process runs another program, whose areas are not modelled: it maps them itself.',
})

export const SYS_EXIT = declareCall({
  name: 'exit_group',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: { process },
  answers: [
    NO_PROCESS,
    {
      rule: 'done',
      code: 'OK',
      when: 'The address space is given back, then files are closed and released, then the structure of the address space is let go.',
    },
  ],
  source:
    'Linux v4.9 and v6.1 kernel/exit.c (do_exit: exit_mm, exit_files, exit_task_work, exit_notify), mm/mmap.c (exit_mmap)',
  doc: 'A process ends. Other calls of it that are under way are over before its address space goes.',
})

export const SYS_OPEN = declareCall({
  name: 'open',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    path: {
      type: 'name',
      doc: 'The file: `/dev/` and the name of a device, whose driver binds processes to it.',
    },
    cloexec: flag('O_CLOEXEC: closed by execve.'),
  },
  outputs: {
    fd: { type: 'u32', doc: 'The lowest descriptor that was free, from 3 on.' },
    file: { type: 'name', doc: 'The open file, as records name it.' },
  },
  answers: [
    NO_PROCESS,
    { rule: 'too-many-files', code: 'EMFILE', when: 'The process has as many descriptors as it may have.' },
    { rule: 'no-such-file', code: 'ENOENT', when: 'There is no such device.' },
    { rule: 'done', code: 'OK', when: 'The file is open.' },
  ],
  source: 'Linux v4.9 and v6.1 fs/open.c (do_sys_open)',
  doc: 'A process opens the file of a driver.',
})

const fd = { type: 'u32', doc: 'The descriptor.' } as const
const BAD_FD = { rule: 'bad-fd', code: 'EBADF', when: 'The process has no such descriptor.' } as const

export const SYS_DUP = declareCall({
  name: 'dup',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: { process, fd },
  outputs: { fd: { type: 'u32', doc: 'The lowest descriptor that was free.' } },
  answers: [
    NO_PROCESS,
    BAD_FD,
    { rule: 'too-many-files', code: 'EMFILE', when: 'The process has as many descriptors as it may have.' },
    { rule: 'done', code: 'OK', when: 'The file has one reference more.' },
  ],
  source: 'Linux v4.9 and v6.1 fs/file.c (SYSCALL dup)',
  doc: 'A process gets another descriptor of an open file.',
})

export const SYS_CLOSE = declareCall({
  name: 'close',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: { process, fd },
  answers: [
    NO_PROCESS,
    BAD_FD,
    {
      rule: 'done',
      code: 'OK',
      when: 'The descriptor is free. Where it was the last reference, the driver releases the file before the process goes on.',
    },
  ],
  source: 'Linux v4.9 and v6.1 fs/open.c (filp_close), fs/file_table.c (fput, ____fput), kernel/task_work.c',
  doc: 'A process closes a descriptor.',
})

const REFUSALS = [
  {
    rule: 'refused-invalid',
    code: 'EINVAL',
    when: 'The driver of the unit refuses: no unit, no PASIDs, a PASID that is not bound, or flags that it does not know.',
  },
  { rule: 'refused-no-memory', code: 'ENOMEM', when: 'No memory, or (Linux 6.1) no PASID is left.' },
  { rule: 'refused-no-pasid', code: 'ENOSPC', when: 'No PASID is left that the device can use.' },
  {
    rule: 'refused-busy',
    code: 'EBUSY',
    when: 'The device is bound to the process already, in another way.',
  },
  { rule: 'refused-no-device', code: 'ENODEV', when: 'The device has nothing of the kind.' },
  {
    rule: 'refused-unsupported',
    code: 'EOPNOTSUPP',
    when: 'The unit does not support what the flags ask for.',
  },
  {
    rule: 'refused-overflow',
    code: 'EOVERFLOW',
    when: 'The PASID of the process is too large for the device.',
  },
] as const

export const SYS_IOCTL = declareCall({
  name: 'ioctl',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    fd,
    request: {
      type: 'choice',
      choices: ['bind', 'unbind'],
      doc: 'What the driver is to do: bind the process to its device, or unbind a PASID.',
    },
    flags: {
      type: 'u32',
      optional: true,
      initial: 0n,
      doc: 'For bind, as the driver hands them on. Linux 4.9: 1 a PASID of its own, 2 supervisor. Linux 6.1: 1 supervisor.',
    },
    pasid: { type: 'u32', optional: true, initial: 0n, doc: 'For unbind.' },
  },
  outputs: { pasid: { type: 'u32', doc: 'Of bind.' } },
  answers: [
    NO_PROCESS,
    BAD_FD,
    {
      rule: 'unknown-request',
      code: 'ENOTTY',
      when: 'The driver does not know the request: nobody drives the unit in a mode that binds processes.',
    },
    ...REFUSALS,
    {
      rule: 'done',
      code: 'OK',
      when: 'It is done. The file holds what was bound until it is unbound, or released.',
    },
  ],
  source: 'Linux v4.9 fs/ioctl.c, drivers/iommu/intel-svm.c; v6.1 drivers/iommu/intel/svm.c',
  doc: 'A process asks the driver of a device to bind it. The driver itself is ours: it hands on, and unbinds at release.',
})

export const SYS_STATE = declareCall({
  name: 'state',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: {
    process,
    mm: {
      type: 'name',
      optional: true,
      doc: 'An address space by its name in records, also one whose process has ended; left out, that of the process.',
    },
  },
  outputs: {
    mm: { type: 'name', doc: 'The address space.' },
    users: { type: 'u32', doc: 'mm_users.' },
    count: { type: 'u32', doc: 'mm_count.' },
    areas: { type: 'u32', doc: 'Areas (VMAs).' },
    pages: { type: 'count', doc: 'Pages that its tables lead to.' },
    notifiers: { type: 'u32', doc: 'MMU notifiers.' },
    free: { type: 'count', doc: 'Pages that the page allocator has left.' },
  },
  answers: [
    {
      rule: 'no-such-process',
      code: 'ESRCH',
      when: 'There is no such process or address space, or it has ended.',
    },
    { rule: 'done', code: 'OK', when: 'It is there.' },
  ],
  source: 'Linux v4.9 and v6.1 include/linux/mm_types.h (mm_struct), as a debugger shows it',
  doc: 'What the kernel holds of an address space. Nothing changes.',
})

export const SYS_FILE = declareCall({
  name: 'file',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: { file: { type: 'name', doc: 'An open file, as records name it.' } },
  outputs: {
    refs: { type: 'u32', doc: 'f_count; 0 once it is released.' },
    binds: { type: 'u32', doc: 'Binds that it holds.' },
  },
  answers: [
    { rule: 'no-such-file', code: 'ENOENT', when: 'No file of the name was ever open.' },
    { rule: 'done', code: 'OK', when: 'It is there, or was.' },
  ],
  source: 'Linux v4.9 and v6.1 include/linux/fs.h (struct file), as a debugger shows it',
  doc: 'What the kernel holds of an open file. Nothing changes.',
})

export const SYS_PAGEMAP = declareCall({
  name: 'pagemap',
  verb: 'sys',
  family: 'errno',
  layer: 'host',
  args: { process, address: { type: 'u64', doc: 'A user address.' } },
  outputs: {
    target: { type: 'u64', doc: 'Physical address that it leads to.' },
    entry: { type: 'u64', doc: 'The entry of its page table.' },
  },
  answers: [
    NO_PROCESS,
    { rule: 'not-present', code: 'ENXIO', when: 'Nothing is mapped there, or it may not be used at all.' },
    { rule: 'done', code: 'OK', when: 'A page is there.' },
  ],
  source:
    'Linux v4.9 and v6.1 fs/proc/task_mmu.c (pagemap_read) tells the page; the entry is what a debugger shows',
  doc: 'Which page a user address leads to. Nothing changes.',
})

export const SYS_CALLS = [
  SYS_FORK,
  SYS_MMAP,
  SYS_MUNMAP,
  SYS_MPROTECT,
  SYS_EXECVE,
  SYS_EXIT,
  SYS_OPEN,
  SYS_DUP,
  SYS_CLOSE,
  SYS_IOCTL,
  SYS_STATE,
  SYS_FILE,
  SYS_PAGEMAP,
] as const
