import type { Scenario } from '../../scenario/scenario.ts'
import type { Path } from '../../schema/issue.ts'

/** A part of a scenario that a peer cannot do, and why. */
export interface LeftOut {
  /** Of a step: its number, from 1 on. */
  readonly step?: number
  /** Keys that lead to it in the scenario. */
  readonly path: Path
  /** The step, or the part of the machine. */
  readonly what: string
  /** What the peer lacks. */
  readonly why: string
}

/** What of a step's expectation a peer's answer shows. */
export type Kept =
  /** The peer answers as the scenario expects. */
  | 'kept'
  /** It does not, and neither does the model as the peer is; on the scenario's own machine the model does. */
  | 'elsewhere'
  /** It does not. */
  | 'broken'

/** An expectation that a peer's answer shows, or does not. */
export interface JudgedExpectation {
  readonly step: number
  readonly kept: Kept
  /** What the answer has other than expected, one sentence each. */
  readonly wrong: readonly string[]
}

/** An error of the description: the machine of the peer is not the scenario's. */
export const ofMachine = (field: string, why: string): LeftOut => ({
  path: ['machine', field],
  what: `machine.${field}`,
  why,
})

/** Lanes, and what comes behind them: a peer does one step after the other. */
export const lanesLeftOut = ({ concurrent = [], after = [] }: Scenario): readonly LeftOut[] => [
  ...concurrent.map(({ name }) => ({
    path: ['concurrent', name],
    what: `concurrent.${name}`,
    why: 'a peer takes no steps side by side',
  })),
  ...(after.length === 0 || concurrent.length === 0
    ? []
    : [{ path: ['after'], what: 'after', why: 'it comes behind what is side by side' }]),
]
