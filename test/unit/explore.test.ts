import { describe, expect, it } from 'vitest'
import { describeMachine } from '../../src/machine/description.ts'
import { explore, isSound } from '../../src/machine/explore/explore.ts'
import { shortestOrder } from '../../src/machine/explore/shortest.ts'
import type { Scenario, Step } from '../../src/machine/scenario/scenario.ts'
import { bump, peek, toyMachine } from '../support/toy-steps.ts'

const make = () => toyMachine().machine
const scenarioOf = (
  lanes: Record<string, readonly Step['operation'][]>,
  more: Partial<Scenario> = {},
): Scenario => ({
  version: 1,
  title: 'toys',
  machine: describeMachine({ kind: 'x86' }),
  steps: [],
  concurrent: Object.entries(lanes).map(([name, operations]) => ({
    name,
    steps: operations.map((operation) => ({ operation })),
  })),
  findings: [],
  settled: false,
  ...more,
})

describe('how many orders there are', () => {
  const all = (scenario: Scenario) => explore(scenario, { mode: 'all', make }).orders

  it('of two calls of two steps: six; where they have no counter in common, two that stand for them', () => {
    expect(all(scenarioOf({ A: [bump(0)], B: [bump(0)] }))).toBe(6)
    expect(all(scenarioOf({ A: [bump(0)], B: [bump(1)] }))).toBe(6)
    const { orders, standFor } = explore(scenarioOf({ A: [bump(0)], B: [bump(1)] }), { make })
    // Which call ended first is what a rule may ask; nothing else makes a difference.
    expect([orders, standFor]).toEqual([2, 6n])
    const { orders: unasked } = explore(scenarioOf({ A: [bump(0)], B: [bump(1)] }), {
      make,
      rules: ['stopped'],
    })
    expect(unasked).toBe(1)
  })

  it('of calls under a lock: one waits for the other', () => {
    const scenario = scenarioOf({ A: [bump(0, { lock: true })], B: [bump(0, { lock: true })] })
    const found = explore(scenario, { mode: 'all', make })
    expect(found.stuck).toBeUndefined()
    expect(found.states).toBe(2)
  })

  it('of calls without steps: those of their order', () => {
    expect(all(scenarioOf({ A: [peek(0), peek(1)], B: [peek(2)] }))).toBe(3)
  })

  it('of one lane, and of lanes without calls: one', () => {
    expect(all(scenarioOf({ A: [bump(0), bump(1)] }))).toBe(1)
    expect(all(scenarioOf({ A: [], B: [] }))).toBe(1)
  })
})

describe('lanes that wait for ever', () => {
  // The lock is held by a task that nobody takes on.
  const stuck = scenarioOf(
    { A: [bump(1)], B: [bump(0, { lock: true })] },
    {
      steps: [
        { operation: { ...bump(0, { lock: true }), start: 'held' } },
        { operation: { verb: 'task', call: 'step', args: { task: 'held' } } },
      ],
    },
  )

  it('are found in every order, and said', () => {
    const found = explore(stuck, { mode: 'all', make })
    expect(found.stuck?.orders).toBe(found.orders)
    expect(found.stuck?.first.stuck).toEqual(['B waits for cell0, which held has'])
    expect(isSound(found)).toBe(false)
  })

  it('are the shortest order that goes wrong, which needs no entry', () => {
    const shortest = shortestOrder(explore(stuck, { make }), { make })
    expect(shortest?.end.said).toBe(0)
    expect(shortest?.isProven).toBe(true)
  })

  it('are none where the kernel has stopped', () => {
    const found = explore(scenarioOf({ A: [bump(0, { die: true })], B: [bump(1)] }), { make })
    expect(found.stuck).toBeUndefined()
    expect(found.broken.has('stopped')).toBe(true)
    expect(found.broken.get('stopped')?.orders).toBe(found.orders)
  })
})

describe('what an exploration says', () => {
  it('which orders the model does not know all of', () => {
    const found = explore(scenarioOf({ A: [bump(0, { unknown: true })], B: [bump(0)] }), {
      mode: 'all',
      make,
    })
    expect(found.unmodelled).toBe(found.orders)
  })

  it('refuses what begins otherwise than expected', () => {
    const scenario = scenarioOf({ A: [] }, { steps: [{ operation: bump(0), expect: { code: 'EINVAL' } }] })
    expect(() => explore(scenario, { make })).toThrow('step 1, before the lanes: code OK, not EINVAL')
  })

  it('a shortest order is not proven where too few are tried', () => {
    const dies = scenarioOf({ A: [peek(0), peek(1), peek(2)], B: [bump(0, { die: true })] })
    const found = explore(dies, { make })
    expect(shortestOrder(found, { make })?.isProven).toBe(true)
    expect(shortestOrder(explore(scenarioOf({ A: [bump(0)] }), { make }), { make })).toBeUndefined()
  })
})
