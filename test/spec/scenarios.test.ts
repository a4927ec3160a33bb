import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { RULE_IDS } from '../../src/check/index.ts'
import { RULES } from '../../src/check/rules.ts'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { erratumDifferences, runErratum } from '../../src/machine/erratum-runs.ts'
import { CATALOGUE, ERRATA } from '../../src/machine/registry.ts'
import { type RunResult, runScenario, stepOf } from '../../src/machine/run-scenario.ts'
import { toJsonLine } from '../../src/trace/jsonl.ts'

const files = readdirSync('scenarios', { recursive: true, encoding: 'utf8' })
  .map((f) => join('scenarios', f))
  .filter((f) => f.endsWith('.yaml'))
  .sort()
const below = (folder: string): string[] => files.filter((f) => f.startsWith(`scenarios/${folder}/`))

const load = (file: string) => parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE)

/** Everything that is not as the scenario says, with the step. */
const wrongIn = ({ steps, wrongFindings }: RunResult): string[] => [
  ...steps.flatMap((s) => s.wrong.map((text) => `step ${s.step}: ${text}`)),
  ...wrongFindings,
]

const rulesFound = ({ findings }: RunResult): string[] => [...new Set(findings.map((f) => f.rule))].sort()

/** `foreign-memory` of foreign-memory-broken.yaml and of foreign-memory-reused-broken.yaml. */
function ruleOf(file: string): { rule: string | undefined; side: string | undefined } {
  const name = file.slice('scenarios/rules/'.length)
  const side = /-(broken|kept)\.yaml$/.exec(name)?.[1]
  const rule = RULE_IDS.filter((id) => name.startsWith(`${id}-`)).sort((a, b) => b.length - a.length)[0]
  return { rule, side }
}

describe('every scenario', () => {
  it.each(files)('%s: answers and findings are exactly as it expects', (file) => {
    expect(wrongIn(runScenario(load(file)))).toEqual([])
  })

  it.each(files)('%s: the same again leaves the same records', (file) => {
    const records = () => [...runScenario(load(file)).machine.log.records()].map(toJsonLine).join('\n')
    const first = records()
    expect(records()).toBe(first)
  })

  it.each(files)('%s: says what it shows, in a line and a few more', (file) => {
    const { title, doc = '' } = load(file)
    expect(title.length).toBeLessThanOrEqual(100)
    expect(doc.trimEnd().split('\n').length).toBeGreaterThanOrEqual(2)
    expect(doc.trimEnd().split('\n').length).toBeLessThanOrEqual(5)
  })

  it('belongs to a rule, to an erratum or to the tour', () => {
    const owned = new Set([
      ...below('rules').filter((f) => ruleOf(f).rule !== undefined && ruleOf(f).side !== undefined),
      ...ERRATA.map((e) => e.scenario),
      ...below('sva'),
      ...below('svm'),
      ...below('tour'),
      ...below('vhost'),
      ...below('vtd'),
    ])
    expect(files.filter((f) => !owned.has(f))).toEqual([])
    expect(below('tour').length).toBeGreaterThanOrEqual(5)
  })

  it('at each step says what the answer is, where the step is not mere set-up', () => {
    for (const file of files) {
      const { steps } = load(file)
      const silent = steps.filter((s) => s.expect === undefined).map((s) => s.operation.call)
      expect([file, silent.filter((call) => !['boot', 'write'].includes(call))]).toEqual([file, []])
    }
  })
})

describe.each(RULES.map((r) => [r.id, r] as const))('the rule %s', (id, rule) => {
  const broken = below('rules').filter((f) => ruleOf(f).rule === id && ruleOf(f).side === 'broken')
  const kept = below('rules').filter((f) => ruleOf(f).rule === id && ruleOf(f).side === 'kept')

  it('has the scenarios that its declaration names, and one that keeps it for each that breaks it', () => {
    expect([existsSync(rule.broken), existsSync(rule.kept)]).toEqual([true, true])
    expect(broken).toContain(rule.broken)
    expect(kept).toEqual(broken.map((f) => f.replace('-broken', '-kept')).sort())
  })

  it.each(broken)('%s: is found, at a step that the scenario names', (file) => {
    const scenario = load(file)
    const result = runScenario(scenario)
    expect(rulesFound(result)).toContain(id)
    const steps = scenario.findings.filter((f) => f.rule === id).map((f) => f.step)
    expect(steps).not.toContain(undefined)
    expect(steps.length).toBeGreaterThan(0)
    const shown = result.findings
      .filter((f) => f.rule === id)
      .map((f) => stepOf(result.steps, f.because.at(-1)?.seq ?? -1))
    for (const step of steps) expect(shown).toContain(step)
  })

  it.each(kept)('%s: has no finding at all', (file) => {
    expect(runScenario(load(file)).findings).toEqual([])
  })

  it.each(broken)('%s: is missed where the rule is not judged, and that shows', (file) => {
    const others = RULE_IDS.filter((other) => other !== id)
    expect(wrongIn(runScenario(load(file), { rules: others }))).toContain(`${id} was expected and not found`)
  })

  it.each(broken)('%s: a finding that is not expected shows, and one at another step', (file) => {
    const scenario = load(file)
    expect(wrongIn(runScenario({ ...scenario, findings: [] }))).toContain(`${id} was found and not expected`)
    const moved = scenario.findings.map((f) => ({ ...f, step: scenario.steps.length + 1 }))
    const [wrong = ''] = wrongIn(runScenario({ ...scenario, findings: moved }))
    expect(wrong).toContain(`was expected at step ${scenario.steps.length + 1} and found at step`)
  })
})

describe.each(ERRATA.map((e) => [e.id, e] as const))('the erratum %s', (id, erratum) => {
  const scenario = load(erratum.scenario)
  const runs = runErratum(scenario, id)

  it('is in the profile of its scenario, and in a version that it is declared for', () => {
    expect(resolveProfile(ERRATA, scenario.machine.profile).has(id)).toBe(true)
    expect([...below('errata'), ...below('svm')]).toContain(erratum.scenario)
  })

  it('does what its scenario expects, and something else without it', () => {
    expect(wrongIn(runs.withIt)).toEqual([])
    expect(erratumDifferences(runs)).not.toEqual([])
  })

  it('is found by its rule exactly where it is', () => {
    const { finding } = erratum
    if (finding === undefined) return
    expect(rulesFound(runs.withIt)).toContain(finding)
    expect(rulesFound(runs.without)).not.toContain(finding)
  })
})

describe('differences of an erratum', () => {
  it('are none where the scenario does not meet it', () => {
    expect(erratumDifferences(runErratum(load('scenarios/tour/one-dma.yaml'), 'X13'))).toEqual([])
  })

  it('are what the caller sees, else what records show, else nothing; then the findings', () => {
    const about = (id: string) => {
      const { scenario } = ERRATA.find((e) => e.id === id)!
      return erratumDifferences(runErratum(load(scenario), id)).map((d) => `${d.step} ${d.call} ${d.about}`)
    }
    expect(about('Q5')).toEqual(['2 H_STUFF_TCE records', '3 H_GET_TCE outputs'])
    expect(about('X15')).toEqual(['3 probe warnings'])
    expect(about('B12')).toEqual(['4 H_PUT_TCE records', '5 write records', '0  findings'])
    expect(about('X17')).toEqual(['4 dma_map_sg records', '0  findings'])
  })
})
