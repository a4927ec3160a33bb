import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { type Exploration, explore } from '../../src/machine/explore/explore.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import type { Scenario } from '../../src/machine/scenario/scenario.ts'
import { BY_KERNEL, processScenario } from '../support/bound-process.ts'

const scenario = (text: string): Scenario => parseScenario(text, 'reduced.yaml', CATALOGUE)

/** What may stand in a lane beside a process that is bound to a device. */
const CALLS = [
  'dma: write, args: { device: a, iova: 0x1000010, pasid: 0, data: one }',
  'dma: read, args: { device: a, iova: 0x1001010, pasid: 0, bytes: 5 }',
  'sys: munmap, by: { process: P }, args: { address: 0x1000000, bytes: 4 KiB }',
  'sys: mprotect, by: { process: P }, args: { address: 0x1000000, bytes: 8 KiB, read: true }',
  'svm: unbind, by: { process: P }, args: { device: a, pasid: 0 }',
  'pri: request, args: { device: a, pasid: 0, iova: 0x1001000, group: 1, write: true }',
  'pri: request, args: { device: a, pasid: 7, iova: 0x1000000, group: 2, write: true }',
  'svm: prq_event_thread',
  'cpu: store, by: { process: P }, args: { address: 0x1001000, data: two }',
  'sys: exit_group, by: { process: P }',
] as const
const ERRATA = ['', ',svm-release-no-clear', ',svm-mm-users-held', ',svm-null-svm'] as const

const besides = (errata: string, lanes: readonly (readonly string[])[]): Scenario =>
  processScenario(
    `intended${errata}`,
    `${BY_KERNEL}
  - { by: { process: P }, cpu: store, args: { address: 0x1000010, data: hello } }`,
    lanes.map((calls, i) => `  L${i}: [${calls.map((call) => `{ ${call} }`).join(', ')}]`).join('\n'),
  )

/** What an exploration is for: how many orders there are to each is all that a reduced one may differ in. */
const comesTo = ({ broken, states, stuck, unmodelled, longest }: Exploration) => ({
  broken: [...broken.keys()].sort(),
  states,
  isStuck: stuck !== undefined,
  isUnmodelled: unmodelled > 0,
  longest,
})

describe('a reduced exploration', () => {
  it('breaks the rules that all orders break, and ends in the states that they end in', () => {
    const sum = { all: 0, reduced: 0 }
    const seen = new Set<string>()
    const lanes = fc.array(fc.array(fc.constantFrom(...CALLS), { minLength: 1, maxLength: 2 }), {
      minLength: 2,
      maxLength: 3,
    })
    fc.assert(
      fc.property(fc.constantFrom(...ERRATA), lanes, (errata, concurrent) => {
        const described = besides(errata, concurrent)
        const all = explore(described, { mode: 'all', bound: 300 })
        fc.pre(all.isComplete)
        const reduced = explore(described)
        expect(comesTo(reduced)).toEqual(comesTo(all))
        expect(reduced.standFor).toBe(BigInt(all.orders))
        sum.all += all.orders
        sum.reduced += reduced.orders
        for (const rule of all.broken.keys()) seen.add(rule)
      }),
      { numRuns: 30, seed: 7 },
    )
    expect(sum.reduced).toBeLessThan(sum.all / 3)
    expect(seen.size).toBeGreaterThan(2)
  })

  // The read changes nothing: a search that looked at the state alone would have it exchanged with the unmapping.
  const RACE = scenario(`
version: 1
title: a device reads while its page is unmapped
machine:
  kind: x86
  profile: intended
  ram: 64 MiB
  iommu: { preset: skylake, driver: legacy }
  devices:
    - { name: edu0, kind: edu, slot: 3 }
steps:
  - { iommu: attach, args: { device: edu0, domain: 5 }, expect: OK }
  - iommu: map
    args: { domain: 5, iova: 0x100000, gpa: 0x200000, bytes: 4 KiB, owner: packet }
    expect: OK
  - { dma: read, args: { device: edu0, iova: 0x100010, bytes: 5 } }
concurrent:
  device:
    - { dma: read, args: { device: edu0, iova: 0x100010, bytes: 5 } }
  driver:
    - { iommu: unmap, args: { domain: 5, iova: 0x100000, bytes: 4 KiB, owner: free, flush: none } }
    - { iommu: flush_pages, args: { domain: 5, iova: 0x100000, bytes: 4 KiB } }
`)

  it('keeps orders apart that a rule tells apart, though the states are the same', () => {
    const found = explore(RACE)
    expect([found.orders, [...found.broken.keys()]]).toEqual([3, ['stale-translation']])
  })

  it('leaves them out where no rule that is judged does', () => {
    expect(explore(RACE, { rules: ['stopped'] }).orders).toBe(2)
  })
})
