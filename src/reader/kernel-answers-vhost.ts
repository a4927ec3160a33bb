import { agentCommand } from './agent-command.ts'

const hexArg = (doc: string): { readonly kind: 'hex'; readonly doc: string } => ({ kind: 'hex', doc })
const decArg = (doc: string): { readonly kind: 'dec'; readonly doc: string } => ({ kind: 'dec', doc })

const FILE = decArg('Which of the files of vhost that the agent keeps: 0 to 7.')
const QUEUE = decArg('Number of the queue.')
const FEATURES = hexArg('Feature bits.')
const OTHER = {
  kind: 'word',
  choices: ['none', 'bad', '0', '1', '2', '3', '4', '5', '6', '7'],
  doc: 'The file that the queue gets; none: descriptor -1, bad: one that no process has.',
} as const
const BYTES = { kind: 'word', doc: 'Bytes as pairs of hexadecimal digits; - for none.' } as const
const DEVICE = { args: { file: FILE }, done: [''] } as const
const ON_QUEUE = { args: { file: FILE, queue: QUEUE, other: OTHER }, done: [''] } as const
const OPTIONAL_GPA = { kind: 'hex', optional: true, initial: 0n, doc: 'Guest address of a region.' } as const
const OPTIONAL_BYTES = { kind: 'hex', optional: true, initial: 0n, doc: 'Bytes of the region.' } as const
const OPTIONAL_UA = {
  kind: 'hex',
  optional: true,
  initial: 0n,
  doc: 'Address of the region in the process.',
} as const

/** Commands of the agent about vhost-net. The worker of a device rests before a command is answered. */
export const VHOST_COMMANDS = {
  vhopen: agentCommand({
    ...DEVICE,
    doc: 'Opens /dev/vhost-net, so that reads do not wait. A file that was there is closed.',
    example: 'vhopen 0 => 0',
  }),
  eventfd: agentCommand({
    args: { file: FILE, count: { kind: 'dec', doc: 'What it counts from.', optional: true, initial: 0n } },
    done: [''],
    doc: 'Makes an eventfd, whose reads do not wait.',
    example: 'eventfd 3 0 => 0',
  }),
  tap: agentCommand({
    ...DEVICE,
    doc: 'Opens /dev/net/tun and makes a tap with headers of 12 bytes, whose interface is up.',
    example: 'tap 2 => 0',
  }),
  deliver: agentCommand({
    args: { file: FILE, data: BYTES },
    done: [''],
    doc: 'The network sends a frame to a tap; the value is its bytes.',
    example: 'deliver 2 ffffffffffff02000000000188b5 => 14',
  }),
  collect: agentCommand({
    args: { file: FILE },
    done: ['{data:bytes}'],
    failed: [''],
    doc: 'The frame that came out of a tap first; the value is its bytes.',
    example: 'collect 2 => -1 EAGAIN',
  }),
  fileclose: agentCommand({ ...DEVICE, doc: 'Closes a file of vhost.', example: 'fileclose 0 => 0' }),
  evsignal: agentCommand({ ...DEVICE, doc: 'Writes 1 to an eventfd.', example: 'evsignal 3 => 0' }),
  evcount: agentCommand({
    args: { file: FILE },
    done: ['count={count:d64}'],
    failed: [''],
    doc: 'Reads an eventfd.',
    example: 'evcount 4 => 0 count=1',
  }),
  vhfeatures: agentCommand({
    args: { file: FILE },
    done: ['features=0x{features:x64}'],
    doc: 'VHOST_GET_FEATURES.',
    example: 'vhfeatures 0 => 0 features=0x1033d008000',
  }),
  vhsetfeatures: agentCommand({
    args: { file: FILE, features: FEATURES },
    done: [''],
    doc: 'VHOST_SET_FEATURES.',
    example: 'vhsetfeatures 0 0x300000000 => 0',
  }),
  vhbackendfeatures: agentCommand({
    args: { file: FILE },
    done: ['features=0x{features:x64}'],
    doc: 'VHOST_GET_BACKEND_FEATURES.',
    example: 'vhbackendfeatures 0 => 0 features=0x2',
  }),
  vhsetbackendfeatures: agentCommand({
    args: { file: FILE, features: FEATURES },
    done: [''],
    doc: 'VHOST_SET_BACKEND_FEATURES.',
    example: 'vhsetbackendfeatures 0 0x2 => 0',
  }),
  vhowner: agentCommand({ ...DEVICE, doc: 'VHOST_SET_OWNER.', example: 'vhowner 0 => -1 EBUSY' }),
  vhreset: agentCommand({ ...DEVICE, doc: 'VHOST_RESET_OWNER.', example: 'vhreset 0 => -1 EPERM' }),
  vhmem: agentCommand({
    args: {
      file: FILE,
      nregions: decArg('How many regions the table says it has; those that are not named are zeros.'),
      padding: hexArg('The padding of the structure.'),
      gpa1: OPTIONAL_GPA,
      bytes1: OPTIONAL_BYTES,
      ua1: OPTIONAL_UA,
      gpa2: OPTIONAL_GPA,
      bytes2: OPTIONAL_BYTES,
      ua2: OPTIONAL_UA,
      gpa3: OPTIONAL_GPA,
      bytes3: OPTIONAL_BYTES,
      ua3: OPTIONAL_UA,
      gpa4: OPTIONAL_GPA,
      bytes4: OPTIONAL_BYTES,
      ua4: OPTIONAL_UA,
    },
    done: [''],
    doc: 'VHOST_SET_MEM_TABLE.',
    example: 'vhmem 0 1 0x0 0x0 0x1000000 0x100000000 => 0',
  }),
  vhnum: agentCommand({
    args: { file: FILE, queue: QUEUE, num: decArg('Descriptors.') },
    done: [''],
    doc: 'VHOST_SET_VRING_NUM.',
    example: 'vhnum 0 1 4 => 0',
  }),
  vhaddr: agentCommand({
    args: {
      file: FILE,
      queue: QUEUE,
      flags: decArg('Flags.'),
      desc: hexArg('Descriptors.'),
      used: hexArg('Used ring.'),
      avail: hexArg('Available ring.'),
      log: { kind: 'hex', doc: 'Log of the used ring.', optional: true, initial: 0n },
    },
    done: [''],
    doc: 'VHOST_SET_VRING_ADDR.',
    example: 'vhaddr 0 1 0 0x20000000 0x20000100 0x20000080 => 0',
  }),
  vhbase: agentCommand({
    args: { file: FILE, queue: QUEUE, num: decArg('Index in the available ring.') },
    done: [''],
    doc: 'VHOST_SET_VRING_BASE.',
    example: 'vhbase 0 1 65536 => -1 EINVAL',
  }),
  vhgetbase: agentCommand({
    args: { file: FILE, queue: QUEUE },
    done: ['num={num:d64}'],
    doc: 'VHOST_GET_VRING_BASE.',
    example: 'vhgetbase 0 1 => 0 num=1',
  }),
  vhkick: agentCommand({ ...ON_QUEUE, doc: 'VHOST_SET_VRING_KICK.', example: 'vhkick 0 1 3 => 0' }),
  vhcall: agentCommand({ ...ON_QUEUE, doc: 'VHOST_SET_VRING_CALL.', example: 'vhcall 0 1 4 => 0' }),
  vherr: agentCommand({ ...ON_QUEUE, doc: 'VHOST_SET_VRING_ERR.', example: 'vherr 0 1 5 => 0' }),
  vhbackend: agentCommand({
    ...ON_QUEUE,
    doc: 'VHOST_NET_SET_BACKEND.',
    example: 'vhbackend 0 1 2 => -1 EFAULT',
  }),
  vhioctl: agentCommand({
    args: {
      file: FILE,
      cmd: hexArg('Number of the ioctl.'),
      argument: hexArg('The third word of the call, as it is.'),
    },
    done: [''],
    doc: 'Any ioctl on a file of vhost.',
    example: 'vhioctl 0 0x8008af10 0x0 => -1 EFAULT',
  }),
  vhmsg: agentCommand({
    args: {
      file: FILE,
      version: decArg('1 or 2: the kind of the message.'),
      type: decArg('1 MISS, 2 UPDATE, 3 INVALIDATE.'),
      iova: hexArg('Bus address.'),
      bytes: hexArg('Bytes.'),
      ua: hexArg('Address in the process.'),
      perm: decArg('1 read, 2 write, 3 both.'),
      asid: { kind: 'hex', doc: 'The word behind the kind.', optional: true, initial: 0n },
    },
    done: [''],
    doc: 'Writes a message of 72 bytes; the value is what write returns.',
    example: 'vhmsg 0 2 2 0x20000000 0x10000 0x100010000 3 => 72',
  }),
  vhwrite: agentCommand({
    args: { file: FILE, data: BYTES },
    done: [''],
    doc: 'Writes bytes to a file of vhost.',
    example: 'vhwrite 0 01000000 => -1 EINVAL',
  }),
  vhfill: agentCommand({
    args: {
      file: FILE,
      iova: hexArg('Bus address of the first range.'),
      bytes: hexArg('Bytes of each range.'),
      ua: hexArg('Address of the first range in the process.'),
      count: decArg('How many ranges.'),
    },
    done: [''],
    doc: 'Writes UPDATEs of ranges that follow each other; the value says how many were taken.',
    example: 'vhfill 0 0x40000000 0x1000 0x100000000 2048 => 2048',
  }),
  vhread: agentCommand({
    args: {
      file: FILE,
      bytes: decArg('Bytes of the buffer, at most 4096.'),
      waits: { kind: 'dec', doc: '1: the read waits, for a second.', optional: true, initial: 0n },
    },
    done: ['{data:bytes}'],
    failed: [''],
    doc: 'Reads a message; the value is what read returns.',
    example: 'vhread 0 8 => 0 ',
  }),
  vhpoll: agentCommand({
    args: { file: FILE },
    done: ['events=0x{events:x64}'],
    doc: 'poll, for reading and writing.',
    example: 'vhpoll 0 => 0 events=0x41',
  }),
  bytes: agentCommand({
    args: { vaddr: hexArg('Address in the process.'), data: BYTES },
    done: [''],
    doc: 'Writes bytes of the process.',
    example: 'bytes 0x100000000 0100000004000000 => 0',
  }),
  forked: agentCommand({
    args: { line: { kind: 'rest', doc: 'The command.' } },
    done: [''],
    doc: 'A child of the process runs a command and ends; what its call returned, without fields.',
    example: 'forked vhreset 0 => -1 EPERM',
  }),
} as const
