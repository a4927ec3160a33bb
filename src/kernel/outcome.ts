import { ERRNO_CODES } from '../bits/codes.ts'

/** A call that ends in no rule of its declaration: the kernel stopped, or the model does not know. */
export interface Stop {
  readonly stop: 'dead' | 'unmodelled'
  readonly why: string
}

/** How a call ends: the rule that decides it. */
export type Outcome<R extends string> = R | Stop

export const unknown = (why: string): Stop => ({ stop: 'unmodelled', why })
export const isStop = (outcome: Outcome<string>): outcome is Stop => typeof outcome !== 'string'

/** What a refusal of firmware is answered with: its code goes through, and the model knows OPAL_HARDWARE only. */
export function firmwareOutcome<R extends string>(code: number, rule: R): Outcome<R> {
  return code === ERRNO_CODES.ENXIO ? rule : unknown(`firmware answers ${code}`)
}
