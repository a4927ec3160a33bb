import type { Compared, CompareOptions, SmallestDifference } from '../compare.ts'
import { differenceKind, judgeTranscript, smallest } from '../compare.ts'
import type { ScriptPeer } from '../script-peer.ts'
import { judgeKernelExpectations } from './kernel-expectations.ts'
import type { KernelPlan } from './kernel-plan.ts'
import type { FiledPlan, ScenarioResult } from './result.ts'

export interface ScenarioOptions extends CompareOptions {
  /** Different differences after which it ends. */
  readonly differencesMax: number
  /** A peer whose host has just started: asked for where a scenario may have left its host otherwise. */
  readonly renew: (peer: ScriptPeer) => Promise<ScriptPeer>
  /** Told before each scenario. */
  readonly onScenario?: (file: string) => void
  /** Told what the peer wrote, script by script. */
  readonly onTranscript?: (transcript: string) => void
  /** Told before a script is made smaller, which takes its time. */
  readonly onDifference?: (kind: string, file: string) => void
}

/**
 * Runs scenarios on a peer and on the model, as far as the peer can do them, and compares answer by answer. The first
 * difference of each scenario is made as small as it can be.
 *
 * @throws whatever the peer does
 */
export async function compareKernelScenarios(
  first: ScriptPeer,
  plans: readonly FiledPlan<KernelPlan>[],
  options: ScenarioOptions,
): Promise<ScenarioResult<SmallestDifference>[]> {
  const results: ScenarioResult<SmallestDifference>[] = []
  const kinds = new Set<string>()
  let peer = first
  let isUsed = false
  for (const { file, plan } of plans) {
    if (kinds.size >= options.differencesMax) break
    options.onScenario?.(file)
    if (isUsed) peer = await options.renew(peer)
    isUsed = leavesTraces(plan)
    const transcript = await peer.run(plan.script)
    options.onTranscript?.(transcript)
    const compared = judgeTranscript(peer.head, plan.script, transcript, options)
    const [found] = compared.differences
    let difference: SmallestDifference | string | undefined
    if (found !== undefined) {
      isUsed = true
      difference = differenceKind(found)
      if (!kinds.has(difference)) options.onDifference?.(difference, file)
      kinds.add(difference)
      difference = (await smallest(peer, compared, options)) ?? difference
    }
    results.push({
      ...countsOf(file, plan, compared),
      expectations: judgeKernelExpectations(plan, transcript),
      difference,
    })
  }
  return results
}

/** What the end of its process does not undo: the state of a PE. */
const leavesTraces = ({ script }: KernelPlan): boolean => script.commands.some(({ name }) => name === 'eeh')

const countsOf = (
  file: string,
  { scenario, leftOut }: KernelPlan,
  { equal, unjudged, notRun, reasons, differences }: Compared,
) => ({
  file,
  profile: scenario.machine.profile,
  steps: scenario.steps.length,
  leftOut,
  equal,
  unjudged: unjudged + notRun,
  reasons: [
    ...reasons.map(({ why, count }) => ({ why, count })),
    ...(notRun > 0 ? [{ why: 'behind the end of a process', count: notRun }] : []),
  ],
  differing: differences.length,
})
