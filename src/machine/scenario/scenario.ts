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

/** Steps that come in their order, with those of other lanes between them: a process, a device, a kernel thread. */
export interface Lane {
  readonly name: string
  readonly steps: readonly Step[]
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
  /** What happens then, side by side: calls that are made of steps are done step by step. */
  readonly concurrent?: readonly Lane[]
  /** Which lane takes a step, by its name; after it the first one that can go on. */
  readonly order?: readonly string[]
  /** What happens when no lane can go on. */
  readonly after?: readonly Step[]
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
  const { args, by, start, expect } = rest as {
    readonly args?: Readonly<Record<string, Value>>
    readonly by?: Actor
    readonly start?: string
    readonly expect?: string | LongExpectation
  }
  const operation: Operation = {
    verb: key as Verb,
    call: name,
    args: args ?? {},
    ...(by !== undefined && { by }),
    ...(start !== undefined && { start }),
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

/** A step, and where it stands in the document. */
interface PlacedStep {
  readonly path: Path
  readonly step: Step
  readonly lane?: string
}

/** All steps of a scenario, in the order of the document. */
function placedSteps({ steps, concurrent = [], after = [] }: Scenario): PlacedStep[] {
  const placed = (list: readonly Step[], ...path: Path): PlacedStep[] =>
    list.map((step, i) => ({ path: [...path, i], step }))
  const ofLane = ({ name, steps: own }: Lane) =>
    placed(own, 'concurrent', name).map((s) => ({ ...s, lane: name }))
  return [...placed(steps, 'steps'), ...concurrent.flatMap(ofLane), ...placed(after, 'after')]
}

const isFork = ({ verb, call }: Operation): boolean => (verb === 'proc' || verb === 'sys') && call === 'fork'

/**
 * Steps of processes that are not there, nor made by a step before, where the step does not expect just that. What one
 * lane forks may be there for any other.
 */
function strangers(scenario: Scenario): { readonly path: Path; readonly message: string }[] {
  const placed = placedSteps(scenario)
  const childOf = ({ operation }: Step): string[] => {
    const { child } = operation.args
    return isFork(operation) && typeof child === 'string' ? [child] : []
  }
  const known = new Set(firstActors(scenario))
  const found: { path: Path; message: string }[] = []
  let isConcurrent = false
  for (const { path, step, lane } of placed) {
    if (lane !== undefined && !isConcurrent) {
      isConcurrent = true
      for (const other of placed)
        if (other.lane !== undefined) for (const c of childOf(other.step)) known.add(c)
    }
    const { operation, expect } = step
    const named: readonly (readonly [Path, Value | undefined])[] = [
      [[...path, 'by', 'process'], operation.by?.process],
      [[...path, 'args', 'process'], operation.args['process']],
    ]
    for (const [at, name] of named) {
      if (typeof name !== 'string' || known.has(name) || expect?.rule === 'no-such-process') continue
      const hint = `${didYouMean(name, [...known])}; known: ${[...known].join(', ')}`
      found.push({ path: at, message: `no process is called "${name}"${hint}` })
    }
    for (const child of childOf(step)) known.add(child)
  }
  return found
}

type Say = (path: Path, message: string) => void

/** Lanes that are misnamed, or do what only steps of their own may. */
function laneContradictions({ concurrent, order = [] }: Scenario, say: Say): void {
  const names = (concurrent ?? []).map((lane) => lane.name)
  order.forEach((name, i) => {
    // The kernel's own tasks are lanes as well: which there are shows when they run.
    if (names.includes(name) || (names.length > 0 && /[/:]/.test(name))) return
    const known = names.length === 0 ? 'there is no `concurrent`' : `lanes: ${names.join(', ')}`
    say(['order', i], `no lane is called "${name}"${didYouMean(name, names)}; ${known}`)
  })
  for (const { name, steps } of concurrent ?? []) {
    steps.forEach(({ operation }, i) => {
      const path = ['concurrent', name, i]
      if (operation.start !== undefined) {
        say([...path, 'start'], 'a lane is a task of its own: its calls are done step by step as they are')
      }
      if (operation.verb === 'task') say([...path, 'task'], 'which lane takes a step is for `order` to say')
    })
  }
}

/** What the schema cannot say: parts that contradict each other. */
function contradictions(scenario: Scenario, { calls }: Catalogue): Issue[] {
  const issues: Issue[] = []
  const say: Say = (path, message) => issues.push({ path, at: 'value', code: 'conflict', message })
  for (const { path, message } of machineConflicts(scenario.machine)) say(['machine', ...path], message)
  for (const { path, message } of strangers(scenario)) say(path, message)
  laneContradictions(scenario, say)
  const verbs = callsByVerb(calls)
  for (const { path, step } of placedSteps(scenario)) {
    const { operation, expect } = step
    const { cpus } = scenario.machine
    const cpu = operation.by?.cpu ?? 0
    if (cpu >= cpus) say([...path, 'by', 'cpu'], `no CPU ${cpu}: the machine has ${cpus}, from 0 on`)
    const { code, rule } = expect ?? {}
    if (code === undefined || rule === undefined) continue
    const layers = verbs.get(operation.verb)?.get(operation.call) ?? []
    const given = layers.flatMap((d) => d.answers.filter((a) => a.rule === rule).map((a) => a.code))
    if (!given.includes(code)) {
      say(
        [...path, 'expect', 'code'],
        `rule ${rule} of ${operation.call} gives ${given.join(' or ')}, not ${code}`,
      )
    }
  }
  // How many steps lanes take shows when they run.
  const most =
    scenario.concurrent === undefined ? scenario.steps.length + (scenario.after?.length ?? 0) : undefined
  scenario.findings.forEach(({ step = 1 }, i) => {
    if (most !== undefined && step > most)
      say(['expect', 'findings', i, 'step'], `there is no step ${step}: the scenario has ${most}`)
  })
  return issues
}

function scenarioOf(doc: ScenarioDocument, { lineOf }: ReadOptions): Scenario {
  const { concurrent, order, after } = doc
  const stepsOf = (steps: readonly VariantValue[], ...path: Path): Step[] =>
    steps.map((step, i) => stepOf(step, lineOf?.([...path, i])))
  const lanes = Object.entries(concurrent ?? {}).map(([name, steps]) => ({
    name,
    steps: stepsOf(steps, 'concurrent', name),
  }))
  return {
    version: 1,
    title: doc.title,
    ...(doc.doc !== undefined && { doc: doc.doc }),
    machine: completeMachine(machineInput(doc.machine ?? {})),
    steps: stepsOf(doc.steps, 'steps'),
    ...(concurrent !== undefined && { concurrent: lanes }),
    ...(order !== undefined && { order }),
    ...(after !== undefined && { after: stepsOf(after, 'after') }),
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
  placedSteps(scenario).forEach(({ step }, i) => {
    const { verb, call, line } = step.operation
    if (verbs.get(verb)?.has(call) === true) return
    const where = { step: i + 1, ...(line !== undefined && { line }) }
    throw new IommulatorError('ERR_SCENARIO', `step ${i + 1}: no ${verb} is called ${call}`, where)
  })
  return scenario.steps
}
