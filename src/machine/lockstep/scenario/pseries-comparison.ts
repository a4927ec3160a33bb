import type { Value } from '../../../bits/answer.ts'
import { bytesOf, bytesText } from '../../../bits/byte-text.ts'
import { type CallDecl, callNumber } from '../../../bits/call.ts'
import { codeName } from '../../../bits/codes.ts'
import { CREATE_PE_DMA_WINDOW, H_GET_TCE, QUERY_PE_DMA_WINDOW } from '../../../kernel/qemu/calls.ts'
import { PSERIES, type SmallestPseriesDifference } from '../pseries-compare.ts'
import type { PseriesScriptPeer } from '../pseries-peer-port.ts'
import type { PseriesScript, PseriesStep } from '../pseries-step.ts'
import type { Answers } from '../script-comparison.ts'
import { declarationOf } from './declaration.ts'
import { judgeExpectation, type Shown } from './judge-expectation.ts'
import type { JudgedExpectation } from './plan.ts'
import type { PseriesPlan } from './pseries-plan.ts'
import type { FiledPlan, ScenarioResult } from './result.ts'
import { compareScenarios, type ScenarioCompareOptions, type ScenarioKind } from './script-scenarios.ts'

const U32_BITS = 32n

/** Bytes as answers of the model spell them. */
const textOf = (digits: string): string => bytesText(bytesOf(`hex:${digits}`))

/** What the cells behind the status of an RTAS call are called. */
function cellsByName(token: number, cells: readonly bigint[]): Record<string, Value> {
  if (token === callNumber(CREATE_PE_DMA_WINDOW)) {
    const [liobn = 0n, hi = 0n, lo = 0n] = cells
    return { liobn, addr_hi: hi, addr_lo: lo }
  }
  if (token !== callNumber(QUERY_PE_DMA_WINDOW)) return {}
  const [windows = 0n, first = 0n, ...rest] = cells
  const isWide = cells.length === 5
  const largest = isWide ? (first << U32_BITS) | (rest[0] ?? 0n) : first
  const [sizes = 0n, migration = 0n] = isWide ? rest.slice(1) : rest
  return { windows, largest, page_sizes: sizes, migration }
}

/** What an answer shows of the outputs of a call. */
function shownBy(step: PseriesStep, decl: CallDecl, answer: string): Shown {
  if (step.kind === 'peek') return { code: 'OK', outputs: { data: textOf(answer) } }
  const [status = '', ...words] = answer.split(' ')
  if (!/^-?\d+$/.test(status)) return { code: undefined, outputs: {} }
  const code = codeName(decl.family, Number(status))
  if (step.kind === 'hcall') {
    const r4 = BigInt(words[0]?.replace('r4=', '') ?? 0)
    const isEntry = decl.name === H_GET_TCE.name && status === '0'
    return { code, outputs: { r4, ...(isEntry && { tce: r4 }) } }
  }
  if (step.kind !== 'rtas') return { code: undefined, outputs: {} }
  return { code, outputs: status === '0' ? cellsByName(step.token, words.map(BigInt)) : {} }
}

/** Holds the expectations of a scenario against what a peer answered to its script. */
export function judgePseriesExpectations(plan: PseriesPlan, answers: Answers): JudgedExpectation[] {
  const { scenario, script, asked, shows } = plan
  const buffer = shows === undefined ? '' : (answers[shows] ?? '')
  return asked.flatMap(({ step, at, read }) => {
    const { operation, expect } = scenario.steps[step - 1] as (typeof scenario.steps)[number]
    const decl = declarationOf('pseries', operation.verb, operation.call)
    if (expect === undefined || decl === undefined) return []
    let shown: Shown | undefined
    if (read !== undefined) {
      const digits = buffer.slice(read.at * 2, (read.at + read.bytes) * 2)
      if (digits.length === read.bytes * 2) shown = { code: undefined, outputs: { data: textOf(digits) } }
    } else if (at !== undefined && answers[at] !== undefined) {
      shown = shownBy(script.steps[at] as PseriesStep, decl, answers[at])
    }
    if (shown === undefined) return []
    return judgeExpectation(step, expect, decl, shown, plan.answers[step - 1]) ?? []
  })
}

const SCENARIOS: ScenarioKind<PseriesStep, PseriesScript, PseriesPlan, SmallestPseriesDifference> = {
  steps: PSERIES,
  judge: judgePseriesExpectations,
  placed: (small) => small,
}

/** Runs scenarios on a pseries machine and on the model: see `compareScenarios`. */
export const comparePseriesScenarios = (
  peer: PseriesScriptPeer,
  model: PseriesScriptPeer,
  plans: readonly FiledPlan<PseriesPlan>[],
  options: ScenarioCompareOptions<PseriesScript>,
): Promise<ScenarioResult<SmallestPseriesDifference>[]> =>
  compareScenarios(SCENARIOS, [peer, model], plans, options)
