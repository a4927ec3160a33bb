import type { Value } from '../bits/answer.ts'
import type { Verb } from '../bits/call.ts'

export type { CallHandler } from '../bits/answer.ts'

/** Who acts: memory limits, container ownership and allocator pools depend on it. */
export interface Actor {
  /** Process; `guest` where the guest acts. */
  readonly process?: string
  readonly task?: string
  readonly cpu?: number
}

/**
 * Something that happens to a machine, as plain data: a call of one of the real interfaces.
 * `args` are by the names of the call's declaration; numbers as bigint.
 */
export interface Operation {
  readonly verb: Verb
  readonly call: string
  readonly args: Readonly<Record<string, Value>>
  readonly by?: Actor
  /** The call is only begun, as a task of this name: `task` operations do its steps. */
  readonly start?: string
  /** Line of the input that it comes from. */
  readonly line?: number
}

/** What an operation should answer; parts that are left out may be anything. */
export interface Expectation {
  readonly code?: string
  readonly rule?: string
  readonly outputs?: Readonly<Record<string, Value>>
}
