import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { TICK_ADVANCE, TICKS_MAX } from '../../src/machine/tick-calls.ts'

describe('advance: simulated time', () => {
  const machine = createMachine(describeMachine())
  const advance = (ticks: bigint): Answer =>
    machine.perform({ verb: 'tick', call: 'advance', args: { ticks } })

  const cases: Record<RuleOf<typeof TICK_ADVANCE>, () => Answer[]> = {
    'too-many-ticks': () => [advance(BigInt(TICKS_MAX) + 1n)],
    done: () => [advance(0n), advance(1n), advance(41n)],
  }
  it.each(TICK_ADVANCE.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('time is where it was told to be, and a refusal moves nothing', () => {
    expect(advance(0n).outputs['tick']).toBe(42n)
    advance(BigInt(TICKS_MAX) + 1n)
    expect(advance(0n).outputs['tick']).toBe(42n)
    expect(machine.log.tick).toBe(42)
  })
})
