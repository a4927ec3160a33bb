import type { Value } from '../../bits/answer.ts'
import type { CallDecl, Verb } from '../../bits/call.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { didYouMean } from '../../bits/suggest.ts'
import { completeMachine, type MachineDescription, machineConflicts } from '../description.ts'
import type { Actor, Expectation, Operation } from '../operation.ts'
import { type Checked, checkValue } from '../schema/check-value.ts'
import type { Issue, Path } from '../schema/issue.ts'
import type { VariantValue } from '../schema/schema.ts'
import { callsByVerb } from './call-schema.ts'
import type { Catalogue } from './catalogue.ts'
import { machineInput } from './machine-schema.ts'
import { type ScenarioDocument, scenarioSchema } from './scenario-schema.ts'

/** One operation and the answer that it must give, if any. */
export interface Step {
  readonly operation: Operation
  readonly expect?: Expectation
}

/** A finding that must be there; with `step` (from 1 on) it must show at that step. */
export interface ExpectedFinding {
  readonly rule: string
  readonly step?: number
}

/** A machine, what happens to it, and what must come of it. Plain data. */
export interface Scenario {
  readonly version: 1
  /** One line. */
  readonly title: string
  readonly doc?: string
  /** Complete: defaults are applied. */
  readonly machine: MachineDescription
  readonly steps: readonly Step[]
  /** Exactly the rules that must be found, each at least once; none where empty. */
  readonly findings: readonly ExpectedFinding[]
  /** Every driver has ended when the last step is done: what is still mapped then is a leak. */
  readonly settled: boolean
}

interface ReadOptions {
  /** Line of the input for the value at a path: becomes the `line` of the operations. */
  readonly lineOf?: (path: Path) => number | undefined
}

type LongExpectation = {
  readonly code?: string
  readonly rule?: string
  readonly outputs?: Readonly<Record<string, Value>>
}

function stepOf({ key, name, rest }: VariantValue, line: number | undefined): Step {
  const { args, by, expect } = rest as {
    readonly args?: Readonly<Record<string, Value>>
    readonly by?: Actor
    readonly expect?: string | LongExpectation
  }
  const operation: Operation = {
    verb: key as Verb,
    call: name,
    args: args ?? {},
    ...(by !== undefined && { by }),
    ...(line !== undefined && { line }),
  }
  if (expect === undefined) return { operation }
  return { operation, expect: typeof expect === 'string' ? { code: expect } : expect }
}

/** Who can act before the first step: the guest and its VMM, or the processes of a host. */
const firstActors = ({ machine }: Scenario): string[] => {
  if (machine.kind === 'x86') return ['kernel', ...machine.processes.map((p) => p.name)]
  return machine.kind === 'powernv' ? machine.processes.map((p) => p.name) : ['guest', 'qemu']
}

/** Steps of processes that are not there, nor made by a step before, where the step does not expect just that. */
function strangers(scenario: Scenario): { readonly path: Path; readonly message: string }[] {
  const known = new Set(firstActors(scenario))
  const found: { path: Path; message: string }[] = []
  scenario.steps.forEach(({ operation: { verb, call, args, by }, expect }, i) => {
    const named: readonly (readonly [Path, Value | undefined])[] = [
      [['steps', i, 'by', 'process'], by?.process],
      [['steps', i, 'args', 'process'], args['process']],
    ]
    for (const [path, name] of named) {
      if (typeof name !== 'string' || known.has(name) || expect?.rule === 'no-such-process') continue
      const hint = `${didYouMean(name, [...known])}; known: ${[...known].join(', ')}`
      found.push({ path, message: `no process is called "${name}"${hint}` })
    }
    if ((verb === 'proc' || verb === 'sys') && call === 'fork' && typeof args['child'] === 'string')
      known.add(args['child'])
  })
  return found
}

/** What the schema cannot say: parts that contradict each other. */
function contradictions(scenario: Scenario, { calls }: Catalogue): Issue[] {
  const issues: Issue[] = []
  const say = (path: Path, message: string) => issues.push({ path, at: 'value', code: 'conflict', message })
  for (const { path, message } of machineConflicts(scenario.machine)) say(['machine', ...path], message)
  for (const { path, message } of strangers(scenario)) say(path, message)
  const verbs = callsByVerb(calls)
  scenario.steps.forEach(({ operation, expect }, i) => {
    const { cpus } = scenario.machine
    const cpu = operation.by?.cpu ?? 0
    if (cpu >= cpus) say(['steps', i, 'by', 'cpu'], `no CPU ${cpu}: the machine has ${cpus}, from 0 on`)
    const { code, rule } = expect ?? {}
    if (code === undefined || rule === undefined) return
    const layers = verbs.get(operation.verb)?.get(operation.call) ?? []
    const given = layers.flatMap((d) => d.answers.filter((a) => a.rule === rule).map((a) => a.code))
    if (!given.includes(code)) {
      say(
        ['steps', i, 'expect', 'code'],
        `rule ${rule} of ${operation.call} gives ${given.join(' or ')}, not ${code}`,
      )
    }
  })
  scenario.findings.forEach(({ step = 1 }, i) => {
    const most = scenario.steps.length
    if (step > most)
      say(['expect', 'findings', i, 'step'], `there is no step ${step}: the scenario has ${most}`)
  })
  return issues
}

function scenarioOf(doc: ScenarioDocument, { lineOf }: ReadOptions): Scenario {
  return {
    version: 1,
    title: doc.title,
    ...(doc.doc !== undefined && { doc: doc.doc }),
    machine: completeMachine(machineInput(doc.machine ?? {})),
    steps: doc.steps.map((step, i) => stepOf(step, lineOf?.(['steps', i]))),
    findings: doc.expect?.findings ?? [],
    settled: doc.settled ?? false,
  }
}

/**
 * Reads a scenario from a plain value (what YAML or JSON gives). All issues are reported, each with its path.
 *
 * @example readScenario({ version: 1, title: 'one put', steps: [{ hcall: 'H_PUT_TCE', args: {...} }] }, catalogue)
 */
export function readScenario(
  value: unknown,
  catalogue: Catalogue,
  options: ReadOptions = {},
): Checked<Scenario> {
  const checked = checkValue(scenarioSchema(catalogue), value)
  if (checked.value === undefined) return { ...checked, value: undefined }
  const scenario = scenarioOf(checked.value, options)
  const issues = contradictions(scenario, catalogue)
  return { value: issues.length === 0 ? scenario : undefined, issues, more: false }
}

/**
 * The operations of a scenario in their order, each with what it must answer.
 *
 * @throws IommulatorError ERR_SCENARIO where a step calls something that is not declared
 */
export function toOperations(scenario: Scenario, calls: readonly CallDecl[]): readonly Step[] {
  const verbs = callsByVerb(calls)
  scenario.steps.forEach(({ operation: { verb, call, line } }, i) => {
    if (verbs.get(verb)?.has(call) === true) return
    const where = { step: i + 1, ...(line !== undefined && { line }) }
    throw new IommulatorError('ERR_SCENARIO', `step ${i + 1}: no ${verb} is called ${call}`, where)
  })
  return scenario.steps
}
