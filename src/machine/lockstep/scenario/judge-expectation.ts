import type { Answer, Value } from '../../../bits/answer.ts'
import type { CallDecl } from '../../../bits/call.ts'
import { unexpected } from '../../expectation.ts'
import type { Expectation } from '../../operation.ts'
import type { JudgedExpectation } from './plan.ts'

/** What a peer showed of the answer to a step. */
export interface Shown {
  /** Undefined where the peer does not show it. */
  readonly code: string | undefined
  readonly outputs: Readonly<Record<string, Value>>
}

/** An expectation as far as a peer can show it: codes for rules, and the outputs that it has. */
function visible(expect: Expectation, decl: CallDecl, shown: Shown): Expectation {
  const ruled = decl.answers.find(({ rule }) => rule === expect.rule)?.code
  const code = shown.code === undefined ? undefined : (expect.code ?? ruled)
  const outputs = Object.entries(expect.outputs ?? {}).filter(([name]) => shown.outputs[name] !== undefined)
  return {
    ...(code !== undefined && { code }),
    ...(outputs.length > 0 && { outputs: Object.fromEntries(outputs) }),
  }
}

const asAnswer = (decl: CallDecl, { code = '', outputs }: Shown): Answer => ({
  layer: decl.layer,
  family: decl.family,
  code,
  rule: '',
  state: 'done',
  outputs,
  free: [],
  warnings: [],
  layers: [],
})

/**
 * Holds what a step expects against what a peer showed. Undefined where the peer shows nothing of it.
 *
 * @param own what the scenario's own machine answers: where that is as expected and the peer's is not, the difference
 * lies in the machines or their errata
 */
export function judgeExpectation(
  step: number,
  expect: Expectation,
  decl: CallDecl,
  shown: Shown,
  own: Answer | undefined,
): JudgedExpectation | undefined {
  const seen = visible(expect, decl, shown)
  if (seen.code === undefined && seen.outputs === undefined) return undefined
  const wrong = unexpected(asAnswer(decl, shown), seen)
  if (wrong.length === 0) return { step, kept: 'kept', wrong }
  const isOwn = own !== undefined && unexpected(own, expect).length === 0
  return { step, kept: isOwn ? 'elsewhere' : 'broken', wrong }
}
