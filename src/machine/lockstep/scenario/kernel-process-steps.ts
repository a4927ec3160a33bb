import { bytesOf } from '../../../bits/byte-text.ts'
import type { AgentCommand } from '../../../reader/kernel-answers-line.ts'
import {
  type Args,
  type CallTranslation,
  commandOf,
  ofProcess,
  once,
  one,
  type Translated,
  type Translation,
  u64,
} from './kernel-step.ts'
import { maskFault } from './kernel-variables.ts'

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

/** How the agent does what a process does with files and memory, and a device with memory. */
export const PROCESS_STEPS: Readonly<Record<string, CallTranslation>> = {
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
}
