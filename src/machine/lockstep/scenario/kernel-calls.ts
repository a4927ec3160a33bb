import type { Value } from '../../../bits/answer.ts'
import { bytesOf } from '../../../bits/byte-text.ts'
import { hex } from '../../../bits/u64.ts'
import { KVM_CALLS } from '../../../kernel/kvm/calls.ts'
import type { AgentCommandName } from '../../../reader/kernel-answers-format.ts'
import { type AgentCommand, agentCommandOf } from '../../../reader/kernel-answers-line.ts'
import type { DeviceBuffers } from './device-buffers.ts'
import {
  type AgentFile,
  type AgentVariables,
  maskFault,
  type OnlyFile,
  type PeerDevices,
  TABLES,
} from './kernel-variables.ts'

export type Args = Readonly<Record<string, Value>>

/** What a step of a scenario becomes. A text says why it cannot be done. */
export type Translated =
  | string
  | {
      readonly commands: readonly AgentCommand[]
      /** The command whose answer is that of the step: the last where it is left out, none for -1. */
      readonly asked?: number
      /** What the descriptor that the step hands out stands for. */
      readonly made?: AgentFile
      /** What the variables become when the step is done. */
      readonly whenDone?: () => void
      /** Where the device puts what it reads. */
      readonly read?: { readonly address: string; readonly at: number; readonly bytes: number }
    }

/** What calls are translated with. */
export interface Translation {
  readonly own: AgentVariables
  readonly devices: PeerDevices
  readonly buffers: DeviceBuffers
}

export interface CallTranslation {
  /** Arguments that the agent passes on; others must be as they are where they are left out. */
  readonly carries: readonly string[]
  /** Fields of the agent's answer, by the outputs that they show. */
  readonly outputs?: Readonly<Record<string, string>>
  /** locked_vm may change: it is asked for afterwards. */
  readonly locks?: true
  readonly to: (translation: Translation, args: Args) => Translated
}

const u64 = (args: Args, name: string): bigint => (args[name] ?? 0n) as bigint
const one = (
  command: AgentCommand,
  rest: Omit<Exclude<Translated, string>, 'commands'> = {},
): Translated => ({
  commands: [command],
  ...rest,
})

type Numbers = Readonly<Record<string, bigint | number | string>>
type CommandOf = (name: AgentCommandName, args: Numbers) => AgentCommand
/** The declarations say what a command takes; here its name is a value. */
const commandOf = agentCommandOf as CommandOf

/** A call on a container: its name as a command, and its arguments by theirs. */
function ofContainer(
  name: AgentCommandName,
  names: Readonly<Record<string, string>>,
  rest: Omit<CallTranslation, 'carries' | 'to'> = {},
): CallTranslation {
  return {
    carries: ['fd', ...Object.keys(names)],
    ...rest,
    to: ({ own }, args) => {
      const use = own.use(u64(args, 'fd'))
      if (typeof use === 'string') return use
      const passed = Object.entries(names).map(([arg, to]) => [to, u64(args, arg)] as const)
      return { commands: [...use, commandOf(name, Object.fromEntries(passed))] }
    },
  }
}

/** A call on a group. */
const ofGroup = (
  name: AgentCommandName,
  rest: Omit<CallTranslation, 'carries' | 'to'> = {},
): CallTranslation => ({
  carries: ['fd'],
  ...rest,
  to: ({ own }, args) => {
    const group = own.groupOf(u64(args, 'fd'))
    return typeof group === 'string' ? group : one(commandOf(name, { group }))
  },
})

/** A call on the one file of a kind that the agent has. */
const ofOnly = (
  kind: 'kvm' | 'vm' | 'vfio',
  carries: readonly string[],
  to: (translation: Translation, args: Args) => Translated,
  rest: Omit<CallTranslation, 'carries' | 'to'> = {},
): CallTranslation => ({
  carries: ['fd', ...carries],
  ...rest,
  to: (translation, args) => translation.own.only(kind, u64(args, 'fd')) ?? to(translation, args),
})

const once = (own: AgentVariables, kind: OnlyFile): string | undefined =>
  own.has(kind) ? `the agent has one file of this kind (${kind})` : undefined

function open({ own, devices }: Translation, args: Args): Translated {
  const path = args['path'] as string
  if (path === '/dev/kvm') return once(own, 'kvm') ?? one(commandOf('kvm', {}), { made: { kind: 'kvm' } })
  if (path === '/dev/vfio/vfio') {
    const slot = own.freeSlot()
    if (slot === undefined) return 'the agent has no room for another container'
    return one(commandOf('open', { slot }), { made: { kind: 'container', slot } })
  }
  const number = /^\/dev\/vfio\/(\d{1,9})$/.exec(path)?.[1]
  if (number === undefined) return `the agent does not open ${path}`
  const group = devices.group(Number(number))
  if (own.hasGroup(group)) return 'the agent forgets the file of a group that it opens once more'
  return one(commandOf('group', { group }), { made: { kind: 'group', group } })
}

function close({ own }: Translation, args: Args): Translated {
  const fd = u64(args, 'fd')
  const file = own.fileOf(fd)
  const whenDone = () => own.free(fd)
  if (file === undefined) return one(commandOf('close', { slot: own.slotOf(fd) as number }))
  switch (file.kind) {
    case 'container':
      return one(commandOf('close', { slot: file.slot }), { whenDone })
    case 'group':
      return one(commandOf('groupclose', { group: file.group }), { whenDone })
    case 'table':
      return one(commandOf('tceclose', { table: file.table }), { whenDone })
    case 'device':
      return own.bar === undefined || own.bar === file.name
        ? one(commandOf('devclose', {}), { whenDone })
        : 'the agent has the file of the device that it opened last'
    case 'missing':
      return `descriptor ${fd} comes from step ${file.step}, which is left out`
    case 'kvm':
      return 'the agent does not close /dev/kvm'
    default:
      return one(commandOf(`${file.kind}close`, {}), { whenDone })
  }
}

function openDevice({ own, devices }: Translation, args: Args): Translated {
  const group = own.groupOf(u64(args, 'fd'))
  if (typeof group === 'string') return group
  const name = devices.address(args['name'] as string)
  if (name === '') return 'the agent cannot pass a name without characters'
  const whenDone = () => {
    own.bar = name
  }
  return one(commandOf('device', { group, name }), { made: { kind: 'device', name }, whenDone })
}

/** Commands that set bytes of the process: a run of equal ones each. */
export function pokeCommands(vaddr: bigint, data: Uint8Array): AgentCommand[] {
  const commands: AgentCommand[] = []
  for (let at = 0; at < data.length; ) {
    const fill = data[at] as number
    let end = at
    while (data[end] === fill) end++
    commands.push(commandOf('poke', { vaddr: vaddr + BigInt(at), fill, bytes: end - at }))
    at = end
  }
  return commands
}

/** Commands of one step. */
const COMMANDS_MAX = 512
const WORD_BYTES = 8

function writtenBytes(args: Args): Uint8Array | string {
  const { data, words } = args
  if ((data === undefined) === (words === undefined)) return 'the agent writes `data`, or `words`'
  if (data !== undefined) return bytesOf(data as string)
  const list = words as readonly bigint[]
  const view = new DataView(new ArrayBuffer(list.length * WORD_BYTES))
  for (const [i, word] of list.entries()) view.setBigUint64(i * WORD_BYTES, word)
  return new Uint8Array(view.buffer)
}

function writeMemory(args: Args): Translated {
  const bytes = writtenBytes(args)
  if (typeof bytes === 'string') return bytes
  const commands = pokeCommands(u64(args, 'address'), bytes)
  return commands.length > COMMANDS_MAX ? `more than ${COMMANDS_MAX} runs of equal bytes` : { commands }
}

/** Bytes that a line of the agent can show. */
const PEEK_BYTES_MAX = 2000n

const needsUa = (args: Args): string | undefined =>
  args['space'] === 'ua' ? undefined : 'the agent knows addresses of its own only (`space: ua`)'

function mapMemory(args: Args): Translated {
  const isAt = (args['fixed'] === true || args['noreplace'] === true) && u64(args, 'address') !== 0n
  if (!isAt) return 'the agent maps memory at an address that it is told (`fixed`)'
  if (args['write'] === false) return 'the agent maps memory for reading and writing'
  if (u64(args, 'huge_shift') !== 0n) return 'the agent has no huge pages'
  return one(commandOf('anon', { vaddr: u64(args, 'address'), bytes: u64(args, 'bytes') }))
}

function createVcpu({ own }: Translation, args: Args): Translated {
  const fault = once(own, 'vcpu') ?? (u64(args, 'id') === 0n ? undefined : 'the agent makes VCPU 0')
  return fault ?? one(commandOf('vcpu', {}), { made: { kind: 'vcpu' } })
}

function configureMmu(args: Args): Translated {
  if (u64(args, 'flags') !== 3n || u64(args, 'process_table') !== 1n << 63n) {
    return 'the guest of the agent has a radix MMU (flags 3, process table 1 << 63)'
  }
  return one(commandOf('radix', {}))
}

const ENABLE_HCALL = 104n
const VFIO_TYPE = 4n

const tableCall = (name: 'tce64' | 'tce32', names: Readonly<Record<string, string>>): CallTranslation =>
  ofOnly(
    'vm',
    Object.keys(names),
    ({ own }, args) => {
      if (own.tables === TABLES) return `the agent has room for ${TABLES} tables`
      const passed = Object.entries(names).map(([arg, to]) => [to, u64(args, arg)] as const)
      return one(commandOf(name, Object.fromEntries(passed)), { made: { kind: 'table', table: own.tables } })
    },
    { locks: true },
  )

const groupOfDevice = (name: 'vfioadd' | 'vfiodel'): CallTranslation =>
  ofOnly('vfio', ['group'], ({ own }, args) => {
    const group = own.groupOf(u64(args, 'group'))
    return typeof group === 'string' ? group : one(commandOf(name, { group }))
  })

const hypercall = (nr: bigint, names: readonly string[], outputs: Readonly<Record<string, string>>) => ({
  carries: ['vcpu', ...names],
  outputs,
  to: ({ own }: Translation, args: Args): Translated => {
    if (args['vcpu'] !== undefined) {
      const fault = own.only('vcpu', u64(args, 'vcpu'))
      if (fault !== undefined) return fault
    }
    if (!own.has('vcpu')) return 'the agent has no guest: it needs a VCPU'
    const passed = names.map((name, i) => [`arg${i + 1}`, u64(args, name)] as const)
    return one(commandOf('hcall', { nr, ...Object.fromEntries(passed) }))
  },
})

const dma = (isWrite: boolean): CallTranslation => ({
  carries: ['device', 'iova', 'bytes', ...(isWrite ? ['data'] : [])],
  to: ({ own, devices, buffers }, args) => {
    const device = devices.device(args['device'] as string)
    if (device === undefined) return 'the peer has no such device'
    const iova = args['iova']
    if (iova === undefined) return 'the peer has no drivers that name buffers'
    const data = args['data'] === undefined ? undefined : bytesOf(args['data'] as string)
    if (isWrite && data === undefined)
      return 'what the buffer of the device holds is chosen here: name `data`'
    const bytes = isWrite ? BigInt(data?.length ?? 0) : u64(args, 'bytes')
    if (isWrite && args['bytes'] !== undefined && u64(args, 'bytes') !== bytes) {
      return 'the device writes all of `data`'
    }
    const fault = maskFault(device, iova as bigint, bytes)
    if (fault !== undefined) return fault
    const at =
      data === undefined
        ? buffers.forRead(device.address, Number(bytes))
        : buffers.holding(device.address, data)
    if (at === undefined) return 'the buffer of the device is used up'
    const isOpen = own.bar === device.address
    own.bar = device.address
    const first = isOpen ? [] : [commandOf('device', { group: device.group, name: device.address })]
    const command = commandOf('dma', { direction: isWrite ? 'w' : 'r', iova: iova as bigint, bytes, at })
    const read = isWrite ? {} : { read: { address: device.address, at, bytes: Number(bytes) } }
    return { commands: [...first, command], ...read }
  },
})

/** Files that the agent makes any ioctl on, and their names there; of tables it is the first. */
const KVM_FILES: ReadonlyMap<AgentFile['kind'], string> = new Map(
  (['kvm', 'vm', 'vcpu', 'vfio', 'table'] as const).map((kind) => [kind, kind === 'table' ? 'tce' : kind]),
)
/** Calls that the model declares: some make files, or find descriptors in memory, and the agent's are others. */
const KVM_NUMBERS = new Map(
  KVM_CALLS.flatMap((d) => ('nr' in d && d.verb === 'ioctl' ? [[BigInt(d.nr), d.name]] : [])),
)

function rawIoctl(file: AgentFile, cmd: bigint, argument: bigint): Translated {
  const known = KVM_NUMBERS.get(cmd)
  if (known !== undefined) return `the agent makes ${known} by its name only`
  if (file.kind === 'table' && file.table !== 0)
    return 'the agent makes ioctls by number on its first table only'
  return one(commandOf('rawioctl', { file: KVM_FILES.get(file.kind) as string, cmd, argument }))
}

const IO = 0x2000_3b00n
const IO_NR = 0xffn
const U64_MAX = (1n << 64n) - 1n

const ofProcess = (
  carries: readonly string[],
  to: (args: Args) => Translated,
  rest: Omit<CallTranslation, 'carries' | 'to'> = {},
): CallTranslation => ({ carries, ...rest, to: (_, args) => to(args) })

/** How the agent does the calls that it can do, by verb and name. */
export const KERNEL_CALLS: Readonly<Record<string, CallTranslation>> = {
  'proc open': { carries: ['path'], to: open },
  'proc close': { carries: ['fd'], to: close, locks: true },
  'proc mmap': ofProcess(
    ['address', 'bytes', 'read', 'write', 'fixed', 'noreplace', 'huge_shift'],
    mapMemory,
  ),
  'proc munmap': ofProcess(['address', 'bytes'], (args) =>
    one(commandOf('unmapmem', { vaddr: u64(args, 'address'), bytes: u64(args, 'bytes') })),
  ),
  'proc setrlimit': ofProcess(['memlock_bytes'], (args) =>
    one(commandOf('rlimit', { bytes: u64(args, 'memlock_bytes') })),
  ),
  'proc capset': ofProcess(['ipc_lock'], (args) =>
    args['ipc_lock'] === false ? one(commandOf('dropcap', {})) : 'the agent gives the capability up only',
  ),
  'proc status': ofProcess([], () => one(commandOf('vmlck', {})), {
    outputs: { vm_lck_kib: 'lockedKib', vm_pin_kib: 'pinnedKib' },
  }),
  // The process ends with its script.
  'proc exit': ofProcess([], () => ({ commands: [], asked: -1 })),
  'proc mmap_tce': {
    carries: ['fd', 'map'],
    to: ({ own }, args) => {
      const table = own.tableOf(u64(args, 'fd'))
      if (typeof table === 'string') return table
      own.maps.set(args['map'] as string, table)
      // The agent maps each table when it makes it.
      return { commands: [], asked: -1 }
    },
  },
  'proc read_tce': {
    carries: ['map', 'first', 'count'],
    outputs: { tces: 'tces' },
    to: ({ own }, args) => {
      const table = own.maps.get(args['map'] as string)
      if (table === undefined) return 'the agent has no such mapping'
      return one(commandOf('tcedump', { table, first: u64(args, 'first'), entries: u64(args, 'count') }))
    },
  },
  'proc write_tce': {
    carries: ['map', 'entry', 'tce'],
    to: ({ own }, args) => {
      const table = own.maps.get(args['map'] as string)
      if (table === undefined) return 'the agent has no such mapping'
      return one(commandOf('tcepoke', { table, entry: u64(args, 'entry'), tce: u64(args, 'tce') }))
    },
  },
  'proc munmap_device': {
    carries: ['map'],
    to: ({ own }, args) => {
      const table = own.maps.get(args['map'] as string)
      if (table === undefined) return 'the agent unmaps tables of KVM only'
      return one(commandOf('tceunmap', { table }), { whenDone: () => own.maps.delete(args['map'] as string) })
    },
  },
  'mem read': ofProcess(
    ['space', 'address', 'bytes'],
    (args) =>
      needsUa(args) ??
      (u64(args, 'bytes') > PEEK_BYTES_MAX
        ? `the agent shows at most ${PEEK_BYTES_MAX} bytes at once`
        : one(commandOf('peek', { vaddr: u64(args, 'address'), bytes: u64(args, 'bytes') }))),
    { outputs: { data: 'data' } },
  ),
  'mem write': ofProcess(['space', 'address', 'data', 'words'], (args) => needsUa(args) ?? writeMemory(args)),
  'dma read': dma(false),
  'dma write': dma(true),
  'ioctl VFIO_GET_API_VERSION': ofContainer('version', {}),
  'ioctl VFIO_CHECK_EXTENSION': ofContainer('ext', { extension: 'extension' }),
  'ioctl VFIO_SET_IOMMU': ofContainer('iommu', { type: 'type' }, { locks: true }),
  'ioctl ioctl': {
    carries: ['fd', 'cmd', 'arg'],
    to: ({ own }, args) => {
      const cmd = u64(args, 'cmd')
      const file = own.fileOf(u64(args, 'fd'))
      if (file !== undefined && KVM_FILES.has(file.kind)) return rawIoctl(file, cmd, u64(args, 'arg'))
      if ((cmd & ~IO_NR) !== IO) return `the agent makes ioctls from ${hex(IO)} to ${hex(IO | IO_NR)}`
      const use = own.use(u64(args, 'fd'))
      if (typeof use === 'string') return use
      return { commands: [...use, commandOf('ioctl', { nr: cmd & IO_NR, argument: u64(args, 'arg') })] }
    },
  },
  'ioctl VFIO_GROUP_GET_STATUS': ofGroup('groupstatus', { outputs: { flags: 'flags' } }),
  'ioctl VFIO_GROUP_SET_CONTAINER': {
    carries: ['fd', 'container'],
    locks: true,
    to: ({ own }, args) => {
      const group = own.groupOf(u64(args, 'fd'))
      if (typeof group === 'string') return group
      const use = own.use(u64(args, 'container'))
      return typeof use === 'string' ? use : { commands: [...use, commandOf('attach', { group })] }
    },
  },
  'ioctl VFIO_GROUP_UNSET_CONTAINER': ofGroup('detach', { locks: true }),
  'ioctl VFIO_GROUP_GET_DEVICE_FD': { carries: ['fd', 'name'], to: openDevice },
  'ioctl VFIO_IOMMU_ENABLE': ofContainer('enable', {}, { locks: true }),
  'ioctl VFIO_IOMMU_DISABLE': ofContainer('disable', {}, { locks: true }),
  'ioctl VFIO_IOMMU_SPAPR_TCE_GET_INFO': ofContainer(
    'info',
    { argsz: 'argsz' },
    {
      outputs: {
        flags: 'flags',
        dma32_start: 'dma32Start',
        dma32_bytes: 'dma32Bytes',
        pgsizes: 'pageSizes',
        max_windows: 'windows',
        levels: 'levels',
      },
    },
  ),
  'ioctl VFIO_IOMMU_SPAPR_REGISTER_MEMORY': ofContainer(
    'register',
    { vaddr: 'vaddr', bytes: 'bytes', flags: 'flags' },
    { locks: true },
  ),
  'ioctl VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY': ofContainer(
    'unregister',
    { vaddr: 'vaddr', bytes: 'bytes', flags: 'flags' },
    { locks: true },
  ),
  'ioctl VFIO_IOMMU_SPAPR_TCE_CREATE': ofContainer(
    'create',
    { page_shift: 'pageShift', window_bytes: 'bytes', levels: 'levels', flags: 'flags' },
    { locks: true, outputs: { start_addr: 'start' } },
  ),
  'ioctl VFIO_IOMMU_SPAPR_TCE_REMOVE': ofContainer('remove', { start_addr: 'start' }, { locks: true }),
  'ioctl VFIO_IOMMU_MAP_DMA': ofContainer(
    'map',
    { iova: 'iova', vaddr: 'vaddr', bytes: 'bytes', flags: 'flags' },
    { locks: true },
  ),
  'ioctl VFIO_IOMMU_UNMAP_DMA': ofContainer(
    'unmap',
    { iova: 'iova', bytes: 'bytes', flags: 'flags' },
    { locks: true, outputs: { bytes: 'unmappedBytes' } },
  ),
  'ioctl VFIO_EEH_PE_OP': ofContainer('eeh', { op: 'op' }),
  'ioctl KVM_CHECK_EXTENSION': {
    carries: ['fd', 'extension'],
    to: ({ own }, args) => {
      const extension = u64(args, 'extension')
      const name = own.fileOf(u64(args, 'fd'))?.kind === 'vm' ? 'vmcap' : 'kvmcap'
      const fault = own.only(name === 'vmcap' ? 'vm' : 'kvm', u64(args, 'fd'))
      return fault ?? one(commandOf(name, { extension }))
    },
  },
  'ioctl KVM_CREATE_VM': ofOnly(
    'kvm',
    ['type'],
    ({ own }, args) =>
      once(own, 'vm') ?? one(commandOf('vm', { type: u64(args, 'type') }), { made: { kind: 'vm' } }),
  ),
  'ioctl KVM_SET_USER_MEMORY_REGION': ofOnly('vm', ['slot', 'flags', 'gpa', 'bytes', 'vaddr'], (_, args) => {
    const names = ['slot', 'gpa', 'bytes', 'vaddr', 'flags'] as const
    return one(commandOf('slot', Object.fromEntries(names.map((name) => [name, u64(args, name)]))))
  }),
  'ioctl KVM_CREATE_VCPU': ofOnly('vm', ['id'], createVcpu),
  'ioctl KVM_ENABLE_CAP': ofOnly('vm', ['cap', 'arg0', 'arg1'], (_, args) =>
    u64(args, 'cap') === ENABLE_HCALL
      ? one(commandOf('hcall_enable', { nr: u64(args, 'arg0'), on: u64(args, 'arg1') }))
      : `the agent enables capability ${ENABLE_HCALL}`,
  ),
  'ioctl KVM_PPC_CONFIGURE_V3_MMU': ofOnly('vm', ['flags', 'process_table'], (_, args) => configureMmu(args)),
  'ioctl KVM_CREATE_SPAPR_TCE_64': tableCall('tce64', {
    liobn: 'liobn',
    page_shift: 'pageShift',
    flags: 'flags',
    offset: 'offset',
    entries: 'entries',
  }),
  'ioctl KVM_CREATE_SPAPR_TCE': tableCall('tce32', { liobn: 'liobn', window_bytes: 'windowBytes' }),
  'ioctl KVM_CREATE_DEVICE': ofOnly('vm', ['type'], ({ own }, args) =>
    u64(args, 'type') === VFIO_TYPE
      ? (once(own, 'vfio') ?? one(commandOf('vfiodev', {}), { made: { kind: 'vfio' } }))
      : "the agent makes KVM's VFIO device (type 4)",
  ),
  'ioctl KVM_DEV_VFIO_GROUP_ADD': groupOfDevice('vfioadd'),
  'ioctl KVM_DEV_VFIO_GROUP_DEL': groupOfDevice('vfiodel'),
  'ioctl KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE': ofOnly('vfio', ['group', 'table'], ({ own }, args) => {
    const group = own.groupOf(u64(args, 'group'))
    if (typeof group === 'string') return group
    const table = own.tableOf(u64(args, 'table'))
    return typeof table === 'string' ? table : one(commandOf('vfiotce', { group, table }))
  }),
  'hcall H_PUT_TCE': hypercall(0x20n, ['liobn', 'ioba', 'tce'], { r4: 'r4' }),
  'hcall H_GET_TCE': hypercall(0x1cn, ['liobn', 'ioba'], { r4: 'r4', tce: 'r4' }),
  'hcall H_STUFF_TCE': hypercall(0x138n, ['liobn', 'ioba', 'value', 'npages'], { r4: 'r4' }),
  'hcall H_PUT_TCE_INDIRECT': hypercall(0x13cn, ['liobn', 'ioba', 'list', 'npages'], { r4: 'r4' }),
}

/** What a limit that is none is written as. */
export const UNLIMITED = U64_MAX
