import { bytesOf, bytesText } from '../../../bits/byte-text.ts'
import type { Answers, ScriptPeer, SmallestDifference } from '../script-comparison.ts'
import { VTD } from '../vtd-compare.ts'
import type { VtdScript, VtdStep } from '../vtd-step.ts'
import { declarationOf } from './declaration.ts'
import { judgeExpectation, type Shown } from './judge-expectation.ts'
import type { JudgedExpectation } from './plan.ts'
import type { AskedQ35Step, Q35Plan } from './q35-plan.ts'
import type { FiledPlan, ScenarioResult } from './result.ts'
import { compareScenarios, type ScenarioCompareOptions, type ScenarioKind } from './script-scenarios.ts'

/** Bytes as answers of the model spell them. */
const textOf = (digits: string): string => bytesText(bytesOf(`hex:${digits}`))

const RECORD = /(?:^| )FRCD1=(0x[0-9a-f]+)/
const FAULT = 1n << 63n
const REASON_AT = 32n

/** The reason of the fault that a request has recorded, if any. */
function reasonOf(answer: string): bigint | undefined {
  const high = BigInt(RECORD.exec(answer)?.[1] ?? 0)
  return (high & FAULT) === 0n ? undefined : (high >> REASON_AT) & 0xffn
}

/** What answers show of a step. */
function shownBy({ script, shows }: Q35Plan, { at, read }: AskedQ35Step, answers: Answers): Shown {
  const [step, answer = ''] = [script.steps[at], answers[at]]
  if (step?.kind === 'look') return { code: undefined, outputs: { value: BigInt(answer) } }
  if (step?.kind === 'peek') return { code: 'OK', outputs: { data: textOf(answer) } }
  if (step?.kind !== 'dma') return { code: undefined, outputs: {} }
  const reason = reasonOf(answer)
  const buffer = read === undefined ? undefined : answers[shows.get(read.device) as number]
  const data = read && buffer?.slice(read.at * 2, (read.at + read.bytes) * 2)
  return {
    code: undefined,
    outputs: {
      ...(reason !== undefined && { reason }),
      ...(data !== undefined && { data: textOf(data) }),
    },
  }
}

/** Holds the expectations of a scenario against what a peer answered to its script. */
export function judgeQ35Expectations(plan: Q35Plan, answers: Answers): JudgedExpectation[] {
  return plan.asked.flatMap((asked) => {
    const { operation, expect } = plan.scenario.steps[asked.step - 1] as (typeof plan.scenario.steps)[number]
    const decl = declarationOf('q35', operation.verb, operation.call)
    if (expect === undefined || decl === undefined) return []
    const shown = shownBy(plan, asked, answers)
    return judgeExpectation(asked.step, expect, decl, shown, plan.answers[asked.step - 1]) ?? []
  })
}

/** A difference with the step of the scenario that shows it first. */
export interface Q35Difference extends SmallestDifference<VtdScript> {
  readonly file: string
  /** From 1 on; undefined where what devices have read shows it at the end. */
  readonly scenarioStep: number | undefined
}

const Q35: ScenarioKind<VtdStep, VtdScript, Q35Plan, Q35Difference> = {
  steps: VTD,
  judge: judgeQ35Expectations,
  placed(small, first, { file, plan }) {
    const of = plan.of[first.at] ?? 0
    const isStep = of > 0 && of <= plan.scenario.steps.length
    return { ...small, file, scenarioStep: isStep ? of : undefined }
  },
}

/** Runs scenarios on QEMU's VT-d unit and on the model: see `compareScenarios`. */
export const compareQ35Scenarios = (
  peer: ScriptPeer<VtdScript>,
  model: ScriptPeer<VtdScript>,
  plans: readonly FiledPlan<Q35Plan>[],
  options: ScenarioCompareOptions<VtdScript>,
): Promise<ScenarioResult<Q35Difference>[]> => compareScenarios(Q35, [peer, model], plans, options)
