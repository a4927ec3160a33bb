import { type Answer, answerNumber, type Value } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import type { AgentAnswer } from '../../reader/kernel-answers-line.ts'

const U32 = 0xffff_ffffn
/** What a process can address. */
export const TASK_BYTES = 1n << 47n
/** Where the agent itself lies: its program and heap, and what the kernel chose an address for. */
const OWN_MEMORY = [
  [0x1000_0000n, 0x5000_0000n],
  [0x7ff0_0000_0000n, TASK_BYTES],
] as const

/** What the program would print for a command. */
export type AgentSaid =
  | {
      readonly state: 'answered'
      readonly answer: AgentAnswer
      readonly rule: string
      /** Fields that the kernel was free to choose. */
      readonly free?: readonly string[]
    }
  /** It does not take the command. */
  | { readonly state: 'refused' }
  /** It prints nothing any more: a signal, or the end of its machine. */
  | { readonly state: 'died'; readonly why: string }
  /** The model does not have what the command needs. */
  | {
      readonly state: 'unmodelled'
      readonly why: string
      /** What the program then does to itself nobody knows. */
      readonly isWild?: true
    }

export type AgentArgs = Readonly<Record<string, bigint | string>>
/** What a command makes the program do. */
export type AgentRun = (args: AgentArgs) => AgentSaid
/** A call of the process on the modelled host. */
export type ProcessCall = (
  decl: Pick<CallDecl, 'verb' | 'name'>,
  args: Readonly<Record<string, Value>>,
) => Answer

export function answered(
  value: bigint,
  rest: Partial<AgentAnswer> & { readonly rule?: string } = {},
): AgentSaid {
  const { errno, fields = {}, rule = 'done' } = rest
  return { state: 'answered', answer: { value, errno, fields }, rule }
}

export const unmodelled = (why: string): AgentSaid => ({ state: 'unmodelled', why })

/** What a system call returns, as the C library hands it on. */
export function returned(answer: Answer, fields: AgentAnswer['fields'] = {}): AgentSaid {
  const { state, rule, code } = answer
  if (state === 'unmodelled') return unmodelled(rule)
  if (state !== 'done') return { state: 'died', why: rule }
  const number = answerNumber(answer)
  if (number < 0) return answered(-1n, { errno: code, fields, rule })
  // A call that answers a count has it among its outputs: the pages that REGISTER_MEMORY had pinned.
  const { pinned = BigInt(number) } = answer.outputs
  return answered(pinned as bigint, { fields, rule })
}

export const u64 = (args: AgentArgs, name: string): bigint => (args[name] ?? 0n) as bigint
/** The low half of a word: the program stores it in a member of 32 bits. */
export const u32 = (args: AgentArgs, name: string): bigint => u64(args, name) & U32
export const outputOf = ({ outputs }: Answer, name: string): bigint => (outputs[name] ?? 0n) as bigint

const isOwn = (from: bigint, bytes: bigint): boolean =>
  from + bytes <= TASK_BYTES && OWN_MEMORY.some(([start, end]) => from < end && from + bytes > start)

/** A command about memory, where that is not the program's own. */
export const elsewhere =
  (run: AgentRun): AgentRun =>
  (args) =>
    isOwn(u64(args, 'vaddr'), u64(args, 'bytes')) ? unmodelled('memory of the agent itself') : run(args)

/** A command that is one call, and prints nothing but what it returns. */
export const oneCall =
  (
    call: ProcessCall,
    decl: Pick<CallDecl, 'verb' | 'name'>,
    argsOf: (args: AgentArgs) => Readonly<Record<string, Value>>,
  ): AgentRun =>
  (args) =>
    returned(call(decl, argsOf(args)))
