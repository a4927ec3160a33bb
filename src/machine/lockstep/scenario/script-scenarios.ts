import type { Scenario } from '../../scenario/scenario.ts'
import {
  type Answers,
  firstScriptDifference,
  type Script,
  type ScriptDifference,
  type ScriptKind,
  type ScriptPeer,
  type SmallestDifference,
  smallestScript,
} from '../script-comparison.ts'
import type { JudgedExpectation, LeftOut } from './plan.ts'
import type { FiledPlan, ScenarioResult } from './result.ts'

/** A scenario as a script. */
export interface ScriptPlan<S> {
  readonly scenario: Scenario
  readonly script: S
  readonly leftOut: readonly LeftOut[]
}

/** What a comparison of scenarios has to know of a peer's scripts. */
export interface ScenarioKind<Step, S, P, D> {
  readonly steps: ScriptKind<Step>
  /** Holds the expectations of a scenario against what a peer answered to its script. */
  readonly judge: (plan: P, answers: Answers) => readonly JudgedExpectation[]
  /** A difference with what there is to say of it in the scenario. */
  readonly placed: (small: SmallestDifference<S>, first: ScriptDifference, filed: FiledPlan<P>) => D
}

export interface ScenarioCompareOptions<S> {
  /** Different differences after which it ends. */
  readonly differencesMax: number
  /** Told before each scenario. */
  readonly onScenario?: (file: string) => void
  /** Told what the peer answered, script by script. */
  readonly onAnswers?: (script: S, answers: Answers) => void
  /** Told before a script is made smaller, which takes its time. */
  readonly onDifference?: (kind: string, file: string) => void
}

/**
 * Runs scenarios on a peer and on the model, as far as the peer can do them, and compares answer by answer. The first
 * difference of each scenario is made as small as it can be.
 *
 * @param peer one whose memory is as after its start for each script
 * @throws whatever the peer does
 */
export async function compareScenarios<Step, S extends Script<Step>, P extends ScriptPlan<S>, D>(
  of: ScenarioKind<Step, S, P, D>,
  [peer, model]: readonly [ScriptPeer<S>, ScriptPeer<S>],
  plans: readonly FiledPlan<P>[],
  options: ScenarioCompareOptions<S>,
): Promise<ScenarioResult<D>[]> {
  const results: ScenarioResult<D>[] = []
  const kinds = new Set<string>()
  for (const filed of plans) {
    if (kinds.size >= options.differencesMax) break
    const { file, plan } = filed
    options.onScenario?.(file)
    const { script, scenario, leftOut } = plan
    const theirs = await peer.run(script)
    const ours = await model.run(script)
    options.onAnswers?.(script, theirs)
    const first = firstScriptDifference(of.steps, script, theirs, ours)
    let difference: D | string | undefined
    if (first !== undefined) {
      difference = of.steps.kindOf(first)
      kinds.add(difference)
      options.onDifference?.(difference, file)
      const small = await smallestScript(of.steps, peer, model, script, first)
      if (small !== undefined) difference = of.placed(small, first, filed)
    }
    const isEqual = (i: number) => ours[i] === theirs[i]
    const answered = script.steps.flatMap((_, i) =>
      ours[i] === undefined && theirs[i] === undefined ? [] : [i],
    )
    results.push({
      file,
      profile: scenario.machine.profile,
      steps: scenario.steps.length,
      leftOut,
      equal: answered.filter(isEqual).length,
      unjudged: 0,
      reasons: [],
      differing: answered.filter((i) => !isEqual(i)).length,
      expectations: of.judge(plan, theirs),
      difference,
    })
  }
  return results
}
