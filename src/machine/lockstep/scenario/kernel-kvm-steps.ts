import { KVM_CAP, KVM_DEV_TYPE_VFIO } from '../../../kernel/kvm-numbers.ts'
import { TCE_HCALL_R3 } from '../../../kernel/tce-hcalls.ts'
import {
  type Args,
  type CallTranslation,
  commandOf,
  ofOnly,
  once,
  one,
  type Translated,
  type Translation,
  u64,
} from './kernel-step.ts'
import { TABLES } from './kernel-variables.ts'

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

/** How the agent makes ioctls of KVM and hypercalls, and looks into tables. */
export const KVM_STEPS: Readonly<Record<string, CallTranslation>> = {
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
    u64(args, 'cap') === KVM_CAP.PPC_ENABLE_HCALL
      ? one(commandOf('hcall_enable', { nr: u64(args, 'arg0'), on: u64(args, 'arg1') }))
      : `the agent enables capability ${KVM_CAP.PPC_ENABLE_HCALL}`,
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
    u64(args, 'type') === KVM_DEV_TYPE_VFIO
      ? (once(own, 'vfio') ?? one(commandOf('vfiodev', {}), { made: { kind: 'vfio' } }))
      : `the agent makes KVM's VFIO device (type ${KVM_DEV_TYPE_VFIO})`,
  ),
  'ioctl KVM_DEV_VFIO_GROUP_ADD': groupOfDevice('vfioadd'),
  'ioctl KVM_DEV_VFIO_GROUP_DEL': groupOfDevice('vfiodel'),
  'ioctl KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE': ofOnly('vfio', ['group', 'table'], ({ own }, args) => {
    const group = own.groupOf(u64(args, 'group'))
    if (typeof group === 'string') return group
    const table = own.tableOf(u64(args, 'table'))
    return typeof table === 'string' ? table : one(commandOf('vfiotce', { group, table }))
  }),
  'hcall H_PUT_TCE': hypercall(TCE_HCALL_R3.H_PUT_TCE, ['liobn', 'ioba', 'tce'], { r4: 'r4' }),
  'hcall H_GET_TCE': hypercall(TCE_HCALL_R3.H_GET_TCE, ['liobn', 'ioba'], { r4: 'r4', tce: 'r4' }),
  'hcall H_STUFF_TCE': hypercall(TCE_HCALL_R3.H_STUFF_TCE, ['liobn', 'ioba', 'value', 'npages'], {
    r4: 'r4',
  }),
  'hcall H_PUT_TCE_INDIRECT': hypercall(
    TCE_HCALL_R3.H_PUT_TCE_INDIRECT,
    ['liobn', 'ioba', 'list', 'npages'],
    { r4: 'r4' },
  ),
}
