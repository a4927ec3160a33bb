import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'

const load = (name: string) => {
  const file = `scenarios/${name}.yaml`
  return parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE)
}

describe('vhost on a POWER host', () => {
  it.each([
    'tour/vhost-net',
    'errata/vhost-late-wake',
    'errata/vhost-stale-metadata',
    'errata/vhost-keeps-messages',
    'errata/vhost-no-buffer-count',
    'vhost/blk-stuff-tce',
  ])('%s: goes back and forth, and is the same again', (name) => {
    const { machine: description, steps } = load(name)
    const operations = steps.map((s) => s.operation)
    const make = () => createMachine(description, { journal: true })
    const straight = make()
    const marks = operations.map((operation) => {
      straight.perform(operation)
      return { seq: straight.log.length - 1, hash: straight.journal.hash }
    })
    const travel = new TimeTravel(make, operations)
    for (const at of [marks.length - 1, 0, 11, 4, marks.length - 2, 12, 13, marks.length - 1]) {
      const { seq, hash } = marks[at]!
      expect([at, travel.goTo(seq).journal.hash]).toEqual([at, hash])
    }
  })

  it('keeps as many maps as the machine says', () => {
    const { machine: description, steps } = load('tour/vhost-net')
    if (description.kind !== 'powernv') throw new Error('no POWER host')
    const run = (iotlbEntries: number) => {
      const machine = createMachine({ ...description, iotlbEntries })
      for (const { operation } of steps) machine.perform(operation)
      return [...machine.log.records()].filter((r) => r.event.kind === 'iotlb.evict').length
    }
    // The map of the rings makes room for that of the buffers.
    expect([run(2048), run(2), run(1)]).toEqual([0, 0, 1])
  })

  it('the n-th allocation of a host may be one of vhost', () => {
    const { machine: description, steps } = load('tour/vhost-net')
    if (description.kind !== 'powernv') throw new Error('no POWER host')
    const answers = (alloc: number) => {
      const machine = createMachine({ ...description, inject: { alloc } })
      return steps.map(({ operation }) => machine.perform(operation)).find((a) => a.rule.includes('memory'))
        ?.rule
    }
    expect([2, 3, 4, 5, 6].map(answers)).toEqual([
      'no-memory',
      'no-memory',
      'no-memory',
      'no-table-memory',
      'no-iotlb-memory',
    ])
  })
})
