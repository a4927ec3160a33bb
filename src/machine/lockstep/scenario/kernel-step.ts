import type { Value } from '../../../bits/answer.ts'
import type { AgentCommandName } from '../../../reader/kernel-answers-format.ts'
import { type AgentCommand, agentCommandOf } from '../../../reader/kernel-answers-line.ts'
import type { DeviceBuffers } from './device-buffers.ts'
import type { AgentFile, AgentVariables, OnlyFile, PeerDevices } from './kernel-variables.ts'

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

export const u64 = (args: Args, name: string): bigint => (args[name] ?? 0n) as bigint
export const one = (
  command: AgentCommand,
  rest: Omit<Exclude<Translated, string>, 'commands'> = {},
): Translated => ({
  commands: [command],
  ...rest,
})

type Numbers = Readonly<Record<string, bigint | number | string>>
type CommandOf = (name: AgentCommandName, args: Numbers) => AgentCommand
/** The declarations say what a command takes; here its name is a value. */
export const commandOf = agentCommandOf as CommandOf

/** A call on a container: its name as a command, and its arguments by theirs. */
export function ofContainer(
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
export const ofGroup = (
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
export const ofOnly = (
  kind: 'kvm' | 'vm' | 'vfio',
  carries: readonly string[],
  to: (translation: Translation, args: Args) => Translated,
  rest: Omit<CallTranslation, 'carries' | 'to'> = {},
): CallTranslation => ({
  carries: ['fd', ...carries],
  ...rest,
  to: (translation, args) => translation.own.only(kind, u64(args, 'fd')) ?? to(translation, args),
})

export const once = (own: AgentVariables, kind: OnlyFile): string | undefined =>
  own.has(kind) ? `the agent has one file of this kind (${kind})` : undefined

/** A call of the process alone. */
export const ofProcess = (
  carries: readonly string[],
  to: (args: Args) => Translated,
  rest: Omit<CallTranslation, 'carries' | 'to'> = {},
): CallTranslation => ({ carries, ...rest, to: (_, args) => to(args) })
