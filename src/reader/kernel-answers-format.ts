import { type AgentArg, type AgentCommandDecl, agentCommand, answerShape } from './agent-command.ts'
import { VHOST_COMMANDS } from './kernel-answers-vhost.ts'

const hexArg = (doc: string): { readonly kind: 'hex'; readonly doc: string } => ({ kind: 'hex', doc })
const decArg = (doc: string): { readonly kind: 'dec'; readonly doc: string } => ({ kind: 'dec', doc })

const NOTHING = { args: {}, done: [''] } as const
const SLOT = decArg('Which of the container files that the agent keeps: 0 to 7.')
const GROUP = decArg('IOMMU group.')
const TABLE = decArg('Which of the tables that the agent made, counted from 0.')
const IOVA = hexArg('Bus address.')
const VADDR = hexArg('Address in the process.')
const BYTES = hexArg('Bytes.')
const LIOBN = hexArg('LIOBN of the table.')
const EXTENSION = decArg('Number of the extension.')
const NO_FLAGS = { kind: 'dec', doc: 'Flags.', optional: true, initial: 0n } as const
const HCALL_WORD = { kind: 'hex', doc: 'Argument of the hypercall.', optional: true, initial: 0n } as const

const FLAGS = 'flags=0x{flags:x64}'
const R4 = 'r4=0x{r4:x64}'
const EXIT_TO_USER = 'EXIT-TO-USER nr=0x{nr:x64} args 0x{arg1:x64} 0x{arg2:x64} 0x{arg3:x64} 0x{arg4:x64}'

const CONTAINER_COMMANDS = {
  open: agentCommand({
    args: { slot: SLOT },
    done: [''],
    doc: 'Opens a container (/dev/vfio/vfio); the commands that follow use it.',
    example: 'open 0 => 0',
  }),
  use: agentCommand({
    args: { slot: SLOT },
    done: [''],
    doc: 'The commands that follow use this container.',
    example: 'use 1 => 0',
  }),
  close: agentCommand({
    args: { slot: SLOT },
    done: [''],
    doc: 'Closes a container file.',
    example: 'close 0 => 0',
  }),
  ext: agentCommand({
    args: { extension: EXTENSION },
    done: [''],
    doc: 'VFIO_CHECK_EXTENSION.',
    example: 'ext 7 => 1',
  }),
  version: agentCommand({ ...NOTHING, doc: 'VFIO_GET_API_VERSION.', example: 'version => 0' }),
  group: agentCommand({
    args: { group: GROUP },
    done: [''],
    doc: 'Opens a group (/dev/vfio/N).',
    example: 'group 0 => 0',
  }),
  groupstatus: agentCommand({
    args: { group: GROUP },
    done: [FLAGS],
    doc: 'VFIO_GROUP_GET_STATUS.',
    example: 'groupstatus 0 => -1 EBADF flags=0x0',
  }),
  attach: agentCommand({
    args: { group: GROUP },
    done: [''],
    doc: 'VFIO_GROUP_SET_CONTAINER, with the container in use.',
    example: 'attach 0 => 0',
  }),
  detach: agentCommand({
    args: { group: GROUP },
    done: [''],
    doc: 'VFIO_GROUP_UNSET_CONTAINER.',
    example: 'detach 0 => -1 EBUSY',
  }),
  groupclose: agentCommand({
    args: { group: GROUP },
    done: [''],
    doc: 'Closes a group file.',
    example: 'groupclose 0 => 0',
  }),
  iommu: agentCommand({
    args: { type: decArg('2 for SPAPR v1, 7 for v2.') },
    done: [''],
    doc: 'VFIO_SET_IOMMU.',
    example: 'iommu 7 => -1 EINVAL',
  }),
  enable: agentCommand({ ...NOTHING, doc: 'VFIO_IOMMU_ENABLE.', example: 'enable => -1 ENOTTY' }),
  disable: agentCommand({ ...NOTHING, doc: 'VFIO_IOMMU_DISABLE.', example: 'disable => 0' }),
  info: agentCommand({
    args: { argsz: { kind: 'dec', doc: 'Bytes of the structure.', optional: true, initial: 32n } },
    done: [
      `${FLAGS} dma32=0x{dma32Start:x64}+0x{dma32Bytes:x64} pgsizes=0x{pageSizes:x64} maxwin={windows:d64} levels={levels:d64}`,
    ],
    doc: 'VFIO_IOMMU_SPAPR_TCE_GET_INFO.',
    example: 'info => 0 flags=0x1 dma32=0x0+0x80000000 pgsizes=0x40211000 maxwin=2 levels=5',
  }),
  register: agentCommand({
    args: { vaddr: VADDR, bytes: BYTES, flags: NO_FLAGS },
    done: [''],
    doc: 'VFIO_IOMMU_SPAPR_REGISTER_MEMORY.',
    example: 'register 0x100000000 0x100000 => 0',
  }),
  unregister: agentCommand({
    args: { vaddr: VADDR, bytes: BYTES, flags: NO_FLAGS },
    done: [''],
    doc: 'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY.',
    example: 'unregister 0x100000000 0x100000 => -1 ENOENT',
  }),
  create: agentCommand({
    args: {
      pageShift: decArg('log2 of the IOMMU page.'),
      bytes: BYTES,
      levels: decArg('Levels.'),
      flags: NO_FLAGS,
    },
    done: ['start=0x{start:x64}'],
    doc: 'VFIO_IOMMU_SPAPR_TCE_CREATE; a call that fails prints the start that was passed, 0.',
    example: 'create 16 0x40000000 2 => 0 start=0x800000000000000',
  }),
  remove: agentCommand({
    args: { start: IOVA },
    done: [''],
    doc: 'VFIO_IOMMU_SPAPR_TCE_REMOVE.',
    example: 'remove 0x0 => -1 EINVAL',
  }),
  map: agentCommand({
    args: {
      iova: IOVA,
      vaddr: VADDR,
      bytes: BYTES,
      flags: { kind: 'dec', doc: '1 the device may read, 2 write.', optional: true, initial: 3n },
    },
    done: [''],
    doc: 'VFIO_IOMMU_MAP_DMA.',
    example: 'map 0x80000000 0x100000000 0x10000 => -1 ENXIO',
  }),
  unmap: agentCommand({
    args: { iova: IOVA, bytes: BYTES, flags: NO_FLAGS },
    done: ['size=0x{unmappedBytes:x64}'],
    doc: 'VFIO_IOMMU_UNMAP_DMA; size is what stands in the structure afterwards.',
    example: 'unmap 0x20000 0x10000 => 0 size=0x10000',
  }),
  ioctl: agentCommand({
    args: {
      nr: decArg('Number within the type of VFIO.'),
      argument: hexArg('The third word of the call, as it is.'),
    },
    done: [''],
    doc: 'Any ioctl on the container in use.',
    example: 'ioctl 113 0x0 => -1 EFAULT',
  }),
  eeh: agentCommand({
    args: {
      op: decArg('Operation of VFIO_EEH_PE_OP.'),
      type: { kind: 'dec', doc: 'Type of the error to inject.', optional: true, initial: 0n },
      func: { kind: 'dec', doc: 'Function of the error to inject.', optional: true, initial: 0n },
      addr: { kind: 'hex', doc: 'Address of the error to inject.', optional: true, initial: 0n },
      mask: { kind: 'hex', doc: 'Bits of the address that count.', optional: true, initial: 0n },
    },
    done: [''],
    doc: 'VFIO_EEH_PE_OP.',
    example: 'eeh 4 => 0',
  }),
  device: agentCommand({
    args: { group: GROUP, name: { kind: 'word', doc: 'Name of the device: domain:bus:device.function.' } },
    done: ['bar size 0x{barBytes:x64} mapped {mapped:word}'],
    failed: [''],
    doc: 'VFIO_GROUP_GET_DEVICE_FD; then switches bus mastering on and maps the first BAR (mapped: yes or no).',
    example: 'device 0 0001:01:00.0 => 0 bar size 0x100000 mapped yes',
  }),
  devclose: agentCommand({
    ...NOTHING,
    doc: 'Closes the device file; the mapped BAR stays.',
    example: 'devclose => 0',
  }),
  dma: agentCommand({
    args: {
      direction: {
        kind: 'word',
        doc: 'r: memory to the device. w: the device to memory.',
        choices: ['r', 'w'],
      },
      iova: IOVA,
      bytes: decArg('Bytes.'),
      at: { kind: 'dec', doc: 'Where in the buffer of the device.', optional: true, initial: 0n },
    },
    done: [''],
    doc: 'The device (edu) moves bytes between memory and its buffer. The value is -1 where it did not finish.',
    example: 'dma r 0x10000 16 => 0',
  }),
} as const

const PROCESS_COMMANDS = {
  anon: agentCommand({
    args: {
      vaddr: VADDR,
      bytes: BYTES,
      fill: { kind: 'hex', doc: 'What each byte is set to; untouched memory without it.', optional: true },
    },
    done: [''],
    doc: 'mmap of private anonymous memory at a fixed address.',
    example: 'anon 0x100000000 0x1000000 0x41 => 0',
  }),
  unmapmem: agentCommand({
    args: { vaddr: VADDR, bytes: BYTES },
    done: [''],
    doc: 'munmap.',
    example: 'unmapmem 0x100000000 0x1000000 => 0',
  }),
  vmlck: agentCommand({
    args: {},
    done: ['VmLck={lockedKib:d64}kB VmPin={pinnedKib:d64}kB'],
    doc: 'What /proc/self/status says of locked and pinned memory, in KiB.',
    example: 'vmlck => 0 VmLck=1024kB VmPin=0kB',
  }),
  rlimit: agentCommand({
    args: { bytes: BYTES },
    done: [''],
    doc: 'setrlimit of RLIMIT_MEMLOCK, soft and hard.',
    example: 'rlimit 0x100000 => 0',
  }),
  dropcap: agentCommand({ ...NOTHING, doc: 'Gives CAP_IPC_LOCK up.', example: 'dropcap => 0' }),
  poke: agentCommand({
    args: { vaddr: VADDR, fill: hexArg('The byte.'), bytes: decArg('How many.') },
    done: [''],
    doc: 'Sets bytes of the process.',
    example: 'poke 0x100000000 0x41 16 => 0',
  }),
  peek: agentCommand({
    args: { vaddr: VADDR, bytes: decArg('How many.') },
    done: ['{data:bytes}'],
    failed: [],
    counts: { data: 'bytes' },
    doc: 'Reads bytes of the process. More than 2000 make a line that is too long to be read back.',
    example: 'peek 0x100000100 4 => 0 41414141',
  }),
  gpoke64: agentCommand({
    args: { gpa: hexArg('Address in the guest.'), value: hexArg('The word, written big-endian.') },
    done: [''],
    doc: "Sets 8 bytes of the guest's memory.",
    example: 'gpoke64 0x90000 0x400003 => 0',
  }),
  sh: agentCommand({
    args: { line: { kind: 'rest', doc: 'A command line of the shell.' } },
    done: [''],
    doc: 'Runs a shell; the value is its wait status, and its output stands before the answer.',
    example: 'sh echo 3 > /proc/sys/vm/drop_caches => 0',
  }),
  quit: agentCommand({ args: {}, done: [], doc: 'Ends the agent, which answers nothing.', example: 'quit' }),
} as const

const KVM_COMMANDS = {
  kvm: agentCommand({ ...NOTHING, doc: 'Opens /dev/kvm.', example: 'kvm => 0' }),
  kvmcap: agentCommand({
    args: { extension: EXTENSION },
    done: [''],
    doc: 'KVM_CHECK_EXTENSION on /dev/kvm.',
    example: 'kvmcap 98 => 1',
  }),
  vmcap: agentCommand({
    args: { extension: EXTENSION },
    done: [''],
    doc: 'KVM_CHECK_EXTENSION on the VM.',
    example: 'vmcap 64 => 1',
  }),
  vm: agentCommand({
    args: { type: decArg('Kind of the VM.') },
    done: [''],
    doc: 'KVM_CREATE_VM.',
    example: 'vm 0 => 0',
  }),
  radix: agentCommand({ ...NOTHING, doc: 'KVM_PPC_CONFIGURE_V3_MMU: a radix guest.', example: 'radix => 0' }),
  hcall_enable: agentCommand({
    args: { nr: hexArg('Number of the hypercall.'), on: decArg('1: the kernel answers it; 0: user space.') },
    done: [''],
    doc: 'KVM_ENABLE_CAP with KVM_CAP_PPC_ENABLE_HCALL.',
    example: 'hcall_enable 0x138 1 => 0',
  }),
  ram: agentCommand({
    args: {
      bytes: BYTES,
      vaddr: { kind: 'hex', doc: 'Where it lies; new memory anywhere without it.', optional: true },
    },
    done: ['at 0x{vaddr:x64}'],
    doc: 'KVM_SET_USER_MEMORY_REGION: slot 0, from guest address 0 on.',
    example: 'ram 0x4000000 0x100000000 => 0 at 0x100000000',
  }),
  slot: agentCommand({
    args: {
      slot: decArg('Number of the slot; the agent has number 30000, at 0x10000000000, for itself.'),
      gpa: hexArg('Address in the guest.'),
      bytes: BYTES,
      vaddr: VADDR,
      flags: NO_FLAGS,
    },
    done: [''],
    doc: 'KVM_SET_USER_MEMORY_REGION: any slot.',
    example: 'slot 1 0x4000000 0x100000 0x100000000 => 0',
  }),
  vcpu: agentCommand({
    args: {},
    done: ['first exit nr=0x{nr:x64}'],
    failed: ['', 'first exit nr=0x{nr:x64}'],
    doc: 'KVM_CREATE_VCPU and the loop that makes hypercalls, in memory of its own; runs it to its first exit. A VCPU that was there is closed.',
    example: 'vcpu => 0 first exit nr=0x7f0',
  }),
  vmclose: agentCommand({ ...NOTHING, doc: 'Closes the file of the VM.', example: 'vmclose => 0' }),
  vcpuclose: agentCommand({ ...NOTHING, doc: 'Closes the VCPU.', example: 'vcpuclose => 0' }),
  tce64: agentCommand({
    args: {
      liobn: LIOBN,
      pageShift: decArg('log2 of the IOMMU page.'),
      offset: hexArg('Window start in IOMMU pages.'),
      entries: hexArg('IOMMU pages.'),
      flags: NO_FLAGS,
    },
    done: ['table {table:d64} mmap {mmap:word}'],
    failed: [''],
    doc: 'KVM_CREATE_SPAPR_TCE_64, and a mapping of the table (mmap: ok or failed).',
    example: 'tce64 0x80000000 12 0x0 0x1000 => 0 table 0 mmap ok',
  }),
  tce32: agentCommand({
    args: { liobn: LIOBN, windowBytes: BYTES },
    done: ['table {table:d64}'],
    failed: [''],
    doc: 'KVM_CREATE_SPAPR_TCE.',
    example: 'tce32 0x80000000 0x1000000 => 0 table 0',
  }),
  tceclose: agentCommand({
    args: { table: TABLE },
    done: [''],
    doc: 'Closes the file of a table; its mapping stays.',
    example: 'tceclose 0 => 0',
  }),
  tceunmap: agentCommand({
    args: { table: TABLE },
    done: [''],
    doc: 'Takes the mapping of a table away; dumps of it are refused from then on.',
    example: 'tceunmap 0 => 0',
  }),
  tcepoke: agentCommand({
    args: { table: TABLE, entry: hexArg('The entry.'), tce: hexArg('What it then holds.') },
    done: [''],
    doc: 'Writes an entry of a table through its mapping.',
    example: 'tcepoke 0 0x3 0x200003 => 0',
  }),
  tcedump: agentCommand({
    args: { table: TABLE, first: hexArg('First entry.'), entries: decArg('How many, at most.') },
    done: ['{tces:list}', ''],
    failed: [],
    counts: { tces: 'entries' },
    doc: 'Entries of a table as its mapping shows them, as far as the table reaches.',
    example: 'tcedump 0 0x0 4 => 0 0x0 0x200003 0x0 0x0',
  }),
  vfiodev: agentCommand({
    ...NOTHING,
    doc: 'KVM_CREATE_DEVICE: the VFIO device of KVM.',
    example: 'vfiodev => 0',
  }),
  vfioclose: agentCommand({
    ...NOTHING,
    doc: 'Closes the VFIO device of KVM.',
    example: 'vfioclose => 0',
  }),
  vfioadd: agentCommand({
    args: { group: GROUP },
    done: [''],
    doc: 'KVM_DEV_VFIO_GROUP_ADD.',
    example: 'vfioadd 0 => 0',
  }),
  vfiodel: agentCommand({
    args: { group: GROUP },
    done: [''],
    doc: 'KVM_DEV_VFIO_GROUP_DEL.',
    example: 'vfiodel 0 => 0',
  }),
  vfiotce: agentCommand({
    args: { group: GROUP, table: TABLE },
    done: [''],
    doc: 'KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE.',
    example: 'vfiotce 0 0 => -1 ENOENT',
  }),
  rawioctl: agentCommand({
    args: {
      file: {
        kind: 'word',
        choices: ['container', 'kvm', 'vm', 'vcpu', 'vfio', 'tce'],
        doc: 'The container in use, a file of KVM (vfio: its VFIO device), or table 0.',
      },
      cmd: hexArg('Number of the ioctl.'),
      argument: hexArg('The third word of the call, as it is.'),
    },
    done: [''],
    doc: 'Any ioctl on a file. A file that it makes is closed again; then 0 is printed.',
    example: 'rawioctl vm 0x2000ae77 0x0 => -1 ENOTTY',
  }),
  hcall: agentCommand({
    args: {
      nr: hexArg('Number of the hypercall.'),
      arg1: HCALL_WORD,
      arg2: HCALL_WORD,
      arg3: HCALL_WORD,
      arg4: HCALL_WORD,
      arg5: HCALL_WORD,
      arg6: HCALL_WORD,
      arg7: HCALL_WORD,
      arg8: HCALL_WORD,
      arg9: HCALL_WORD,
    },
    done: [R4, EXIT_TO_USER, 'exit reason (fault)', 'odd exit nr=0x{nr:x64}'],
    failed: [R4, 'exit reason (fault)'],
    doc: "The guest makes a hypercall. The value is the hypercall's; EXIT-TO-USER says that the kernel left it to user space. A negative value of a hypercall has no errno, which prints as 0.",
    example: 'hcall 0x1c 0x80000000 0x1000 => 0 r4=0x200003',
  }),
} as const

/** Every command of the agent, by name, in the order of the reference. */
export const AGENT_COMMANDS = {
  ...CONTAINER_COMMANDS,
  ...PROCESS_COMMANDS,
  ...KVM_COMMANDS,
  ...VHOST_COMMANDS,
} as const
export type AgentCommandName = keyof typeof AGENT_COMMANDS

type Args<N extends AgentCommandName> = (typeof AGENT_COMMANDS)[N]['args']
type Written<A extends AgentArg> = A['kind'] extends 'word' | 'rest' ? string : bigint | number
type OptionalOf<N extends AgentCommandName> = {
  [K in keyof Args<N>]: Args<N>[K] extends { readonly optional: true } ? K : never
}[keyof Args<N>]

/** Arguments of a command as a person gives them. */
export type AgentArgsOf<N extends AgentCommandName> = {
  readonly [K in Exclude<keyof Args<N>, OptionalOf<N>>]: Args<N>[K] extends AgentArg
    ? Written<Args<N>[K]>
    : never
} & {
  readonly [K in OptionalOf<N>]?: Args<N>[K] extends AgentArg ? Written<Args<N>[K]> : never
}

/** The declaration of a command; undefined where no command is called so. */
export function agentCommandNamed(name: string): AgentCommandDecl | undefined {
  return Object.hasOwn(AGENT_COMMANDS, name) ? AGENT_COMMANDS[name as AgentCommandName] : undefined
}

/** What the agent's surroundings print between commands: this word, a blank, and one of the texts. */
export const MARK_WORD = 'ORACLE'

/** Marks by name, each with the text that follows `MARK_WORD`, in the order in which they are tried. */
export const AGENT_MARKS = {
  kernel: { shape: answerShape('kernel {release:word} up {seconds:word}'), doc: 'The kernel runs.' },
  pci: {
    shape: answerShape('pci {device:word} 0x{vendorId:x16}:0x{deviceId:x16} group={group:d64}'),
    doc: 'A device of an IOMMU group.',
  },
  pciWithoutGroup: {
    shape: answerShape('pci {device:word} 0x{vendorId:x16}:0x{deviceId:x16} group='),
    doc: 'A device of no IOMMU group.',
  },
  scriptEnd: { shape: answerShape('script end rc={code:d64}'), doc: 'The agent ended; its exit code.' },
  script: { shape: answerShape('script {script:word}'), doc: 'The agent runs a script, as a new process.' },
  live: { shape: answerShape('live'), doc: 'The agent takes commands from a terminal.' },
  end: { shape: answerShape('end up {seconds:word}'), doc: 'The last script has ended.' },
} as const
export type AgentMarkName = keyof typeof AGENT_MARKS

/** A transcript of commands to a real kernel and its answers. */
export const KERNEL_ANSWERS = {
  id: 'kernel-answers',
  title: 'transcript of kernel answers',
  source:
    'an agent on a POWER host that makes one call of VFIO or KVM per line and prints `COMMAND => VALUE [ERRNO] [FIELDS]`',
} as const
