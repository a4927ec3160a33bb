import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  type Coverage,
  POWERNV_MACHINE,
  POWERNV_WITH_GUEST,
  PSERIES_MACHINE,
  Q35_MACHINE,
  seenIn,
} from '../../src/check/coverage.ts'
import { SVM_RULES } from '../../src/check/svm-rules.ts'
import { VTD_RULES } from '../../src/check/vtd-rules.ts'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { type RunResult, runScenario } from '../../src/machine/run-scenario.ts'
import type { Scenario } from '../../src/machine/scenario/scenario.ts'

const load = (file: string) => parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE)
const scenarios = readdirSync('scenarios', { recursive: true, encoding: 'utf8' })
  .filter((f) => f.endsWith('.yaml'))
  .map((f) => load(join('scenarios', f)))
const isWithGuest = ({ machine }: Scenario): boolean =>
  machine.kind === 'powernv' && machine.guest !== undefined
const isOf = (kind: string) => (s: Scenario) => s.machine.kind === kind && !isWithGuest(s)

describe.each<[string, (s: Scenario) => boolean, Coverage, Coverage]>([
  ['a machine of kind pseries', isOf('pseries'), PSERIES_MACHINE, POWERNV_MACHINE],
  ['a machine of kind powernv', isOf('powernv'), POWERNV_MACHINE, PSERIES_MACHINE],
  ['a machine of kind q35', isOf('q35'), Q35_MACHINE, POWERNV_WITH_GUEST],
  ['a machine of kind powernv with a guest', isWithGuest, POWERNV_WITH_GUEST, PSERIES_MACHINE],
])('what %s leaves records of', (_, isIt, coverage, other) => {
  const seen = new Set(scenarios.filter(isIt).flatMap((s) => [...seenIn(runScenario(s).machine.log)]))

  it('is in its coverage: no scenario leaves another kind', () => {
    expect(seen.size).toBeGreaterThan(10)
    expect([...seen].filter((event) => !coverage.has(event))).toEqual([])
  })

  it('is what the other kind does not have, for the kinds that are left out there', () => {
    expect([...seen].filter((event) => !other.has(event)).length).toBeGreaterThan(5)
  })
})

describe('a rule that a machine of a kind cannot break', () => {
  const notJudged = ({ verdicts }: RunResult): string[] =>
    verdicts.filter((v) => v.state === 'cannot judge').map((v) => v.rule)
  const run = (file: string): RunResult => runScenario(load(file))

  it('is not said to be kept by a guest', () => {
    const rules = notJudged(run('scenarios/tour/one-dma.yaml'))
    expect(rules).toContain('leak-pin')
    expect(rules).toContain('stale-tce')
    expect(rules).not.toContain('use-after-unmap')
  })

  it('is not said to be kept by a host', () => {
    const rules = notJudged(run('scenarios/tour/vfio-windows.yaml'))
    expect(rules).toContain('allocator-drift')
    expect(rules).toContain('unmap-miss')
    for (const rule of ['use-after-unmap', 'foreign-memory', 'leak-pin']) expect(rules).not.toContain(rule)
  })

  it('is judged where a host has a guest', () => {
    const rules = notJudged(run('scenarios/tour/guest-hypercalls-in-kvm.yaml'))
    expect(rules).toEqual(['allocator-drift', ...[...VTD_RULES, ...SVM_RULES].map(({ id }) => id)])
  })
})
