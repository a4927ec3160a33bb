import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { describeMachine } from '../../src/machine/description.ts'
import { explore } from '../../src/machine/explore/explore.ts'
import type { Machine } from '../../src/machine/machine.ts'
import type { Lane, Scenario } from '../../src/machine/scenario/scenario.ts'
import { ScenarioWalk } from '../../src/machine/scenario-walk.ts'
import { bump, peek, toyMachine } from '../support/toy-steps.ts'

const scenarioOf = (concurrent: readonly Lane[]): Scenario => ({
  version: 1,
  title: 'toys',
  machine: describeMachine({ kind: 'x86' }),
  steps: [],
  concurrent,
  findings: [],
  settled: false,
})
const make = () => toyMachine().machine

/** Calls of toys: a few cells, with and without locks, and calls without steps. */
const call = fc
  .record({ cell: fc.nat(2), lock: fc.boolean(), isPeek: fc.integer({ min: 0, max: 9 }).map((n) => n === 0) })
  .map(({ cell, lock, isPeek }) => ({ operation: isPeek ? peek(cell) : bump(cell, { lock }) }))
const lanes = (most: number, calls: number) =>
  fc
    .array(fc.array(call, { maxLength: calls }), { minLength: 1, maxLength: most })
    .map((all): Lane[] => all.map((steps, i) => ({ name: `L${i}`, steps })))

/** Ends of all orders by brute force: each prefix is run again on a machine of its own. */
function naive(scenario: Scenario): { orders: number; states: Set<string> } {
  const states = new Set<string>()
  let orders = 0
  const visit = (prefix: readonly string[]) => {
    const machine: Machine = make()
    const walk = new ScenarioWalk(scenario, machine)
    for (const lane of prefix) walk.lanes.advance(lane, (operation) => machine.perform(operation))
    const ready = walk.lanes.ready()
    if (ready.length === 0) {
      orders++
      states.add(machine.journal.hash)
    }
    for (const lane of ready) visit([...prefix, lane])
  }
  visit([])
  return { orders, states }
}

describe('explore', () => {
  it('finds every order, and every state that one ends in, as a search by brute force does', () => {
    fc.assert(
      fc.property(lanes(2, 1), (concurrent) => {
        const scenario = scenarioOf(concurrent)
        const want = naive(scenario)
        const all = explore(scenario, { mode: 'all', make })
        expect([all.orders, all.states, all.isComplete]).toEqual([want.orders, want.states.size, true])
        const reduced = explore(scenario, { make })
        expect([reduced.states, reduced.isComplete]).toEqual([want.states.size, true])
        expect(reduced.orders).toBeLessThanOrEqual(all.orders)
      }),
      { numRuns: 15 },
    )
  })

  it('reduced, comes to the same ends and the same lanes that wait for ever as with all orders', () => {
    let fewer = 0
    fc.assert(
      fc.property(lanes(3, 2), (concurrent) => {
        const scenario = scenarioOf(concurrent)
        const all = explore(scenario, { mode: 'all', make, bound: 400 })
        fc.pre(all.isComplete)
        const reduced = explore(scenario, { make })
        expect(reduced.states).toBe(all.states)
        expect(reduced.stuck === undefined).toBe(all.stuck === undefined)
        expect(reduced.orders).toBeLessThanOrEqual(all.orders)
        if (reduced.orders < all.orders) fewer++
      }),
      { numRuns: 40 },
    )
    expect(fewer).toBeGreaterThan(3)
  })

  it('leaves the machine as it was: nothing of an order is left', () => {
    fc.assert(
      fc.property(lanes(3, 1), fc.nat(), (concurrent, seed) => {
        const { machine, cells } = toyMachine()
        const before = [machine.journal.hash, machine.log.length, ...cells.data]
        explore(scenarioOf(concurrent), { mode: 'random', bound: 5, seed, make: () => machine })
        expect([machine.journal.hash, machine.log.length, ...cells.data]).toEqual(before)
        expect(machine.tasks.all()).toEqual([])
      }),
      { numRuns: 30 },
    )
  })
})
