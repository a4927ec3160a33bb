import { expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { CallDecl, RuleOf } from '../../src/bits/call.ts'

/** Inputs that each rule of a call must answer: a rule without one does not compile. */
export type RuleTable<D extends CallDecl> = Record<RuleOf<D>, () => Answer[]>

/** One test for each rule of a call: every input of its row is answered by that rule, with the declared code. */
export function testRules<D extends CallDecl>(decl: D, cases: RuleTable<D>): void {
  it.each(decl.answers)('$code by $rule: $when', ({ rule, code }) => {
    const answers = cases[rule as RuleOf<D>]()
    expect(answers.length).toBeGreaterThan(0)
    for (const got of answers) {
      expect(got).toMatchObject({ rule, code, state: 'done' })
      // The kernel answers a rule for real mode there.
      expect(got.layer).toBe(rule.endsWith('-real') ? `${decl.layer}-real` : decl.layer)
    }
  })
}
