import { hex } from '../../../bits/u64.ts'
import { KVM_CALLS } from '../../../kernel/kvm/calls.ts'
import { type CallTranslation, commandOf, one, type Translated, u64 } from './kernel-step.ts'
import type { AgentFile } from './kernel-variables.ts'

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

/** How the agent makes ioctls by number. */
export const RAW_STEPS: Readonly<Record<string, CallTranslation>> = {
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
}
