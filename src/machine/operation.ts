import type { Answer, Value } from '../bits/answer.ts'
import type { CallDecl, Verb } from '../bits/call.ts'

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
  /** Line of the input that it comes from. */
  readonly line?: number
}

/** A unit's handler of one declared call. */
export interface CallHandler {
  readonly decl: CallDecl
  /** Arguments are complete and in range: the machine has checked them against the declaration. */
  run(args: Readonly<Record<string, Value>>): Answer
}

/** What an operation should answer; parts that are left out may be anything. */
export interface Expectation {
  readonly code?: string
  readonly rule?: string
  readonly outputs?: Readonly<Record<string, Value>>
}
