import type { Unjudged } from '../../replay/result.ts'
import type { JudgedExpectation, LeftOut } from './plan.ts'

/** A plan with the name of the file that its scenario stands in. */
export interface FiledPlan<P> {
  readonly file: string
  readonly plan: P
}

/** What a scenario gave on a peer and on the model. */
export interface ScenarioResult<D> {
  readonly file: string
  readonly profile: string
  readonly steps: number
  readonly leftOut: readonly LeftOut[]
  /** Answers that are the same. */
  readonly equal: number
  /** Answers that the model cannot judge, and commands that were not run any more. */
  readonly unjudged: number
  /** Why these are not judged. */
  readonly reasons: readonly Omit<Unjudged, 'firstLine'>[]
  /** Answers that differ. */
  readonly differing: number
  readonly expectations: readonly JudgedExpectation[]
  /** The first difference, as small as it can be; its kind where it did not show a second time. */
  readonly difference: D | string | undefined
}

/** Steps that the peer did not do. */
export const stepsLeftOut = ({ leftOut }: ScenarioResult<unknown>): number =>
  leftOut.filter(({ step }) => step !== undefined).length

const countOf = ({ expectations }: ScenarioResult<unknown>, kept: JudgedExpectation['kept']): number =>
  expectations.filter((e) => e.kept === kept).length

/** Expectations by what became of them. */
export const expectationCounts = (result: ScenarioResult<unknown>) => ({
  kept: countOf(result, 'kept'),
  elsewhere: countOf(result, 'elsewhere'),
  broken: countOf(result, 'broken'),
})

/** Whether nothing differs, and every expectation that can be seen is kept, or is one of another machine. */
export const isAsModelled = (results: readonly ScenarioResult<unknown>[]): boolean =>
  results.every((r) => r.difference === undefined && r.differing === 0 && expectationCounts(r).broken === 0)
