import type { EventKind } from '../trace/event.ts'
import { valueText } from './expectation.ts'
import { type RunResult, runScenario, type StepResult } from './run-scenario.ts'
import type { Scenario } from './scenario/scenario.ts'

/** One scenario on two machines, which differ in an erratum. */
export interface ErratumRuns {
  readonly withIt: RunResult
  readonly without: RunResult
}

/** Where two runs part: what both say of a step, or of the whole run (step 0). */
export interface RunDifference {
  /** From 1; 0 for what is found. */
  readonly step: number
  /** The call of the step, empty for the whole run. */
  readonly call: string
  readonly about: 'answer' | 'outputs' | 'warnings' | 'records' | 'findings'
  readonly withIt: string
  readonly without: string
}

/**
 * Runs a scenario as it is with one erratum on, and with it off.
 *
 * @throws IommulatorError as `runScenario` does, and ERR_PROFILE for an unknown erratum
 */
export function runErratum(scenario: Scenario, id: string): ErratumRuns {
  const run = (toggle: string): RunResult => {
    const profile = `${scenario.machine.profile},${toggle}`
    return runScenario({ ...scenario, machine: { ...scenario.machine, profile } })
  }
  return { withIt: run(id), without: run(`-${id}`) }
}

type Says = readonly [about: RunDifference['about'], text: string]

const listed = (items: readonly string[]): string => (items.length === 0 ? 'none' : items.join(', '))

const says = ({ answer }: StepResult): Says[] => [
  ['answer', `${answer.code} (${answer.rule})`],
  ['outputs', listed(Object.entries(answer.outputs).map(([name, value]) => `${name} ${valueText(value)}`))],
  ['warnings', listed(answer.warnings)],
]

/** How many records of each kind a step has left. */
function kindsOf({ machine: { log } }: RunResult, { from, end }: StepResult): Map<EventKind, number> {
  const kinds = new Map<EventKind, number>()
  for (let seq = Math.max(from, log.firstKept); seq < end; seq++) {
    const kind = log.kindOf(seq)
    if (kind !== 'call.return') kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  }
  return kinds
}

/** The kinds of which one step has left more than the other, with both counts. */
function recordsThatDiffer(
  a: ReadonlyMap<EventKind, number>,
  b: ReadonlyMap<EventKind, number>,
): [string, string] {
  const kinds = [...new Set([...a.keys(), ...b.keys()])].filter((kind) => a.get(kind) !== b.get(kind)).sort()
  const text = (of: ReadonlyMap<EventKind, number>) =>
    listed(kinds.map((kind) => `${of.get(kind) ?? 0} ${kind}`))
  return [text(a), text(b)]
}

/** The first thing in which a step differs: what the caller sees comes first, then what only records show. */
function stepDifference({ withIt, without }: ErratumRuns, a: StepResult, b: StepResult): RunDifference[] {
  const common = { step: a.step, call: a.operation.call }
  const other = says(b)
  for (const [i, [about, text]] of says(a).entries()) {
    const otherText = other[i]?.[1] ?? ''
    if (text !== otherText) return [{ ...common, about, withIt: text, without: otherText }]
  }
  const [x, y] = recordsThatDiffer(kindsOf(withIt, a), kindsOf(without, b))
  return x === y ? [] : [{ ...common, about: 'records', withIt: x, without: y }]
}

const rulesOf = ({ findings }: RunResult): string => listed([...new Set(findings.map((f) => f.rule))].sort())

/** Where the two runs part: for each step the first thing in which it differs, then the findings. */
export function erratumDifferences(runs: ErratumRuns): RunDifference[] {
  const { withIt, without } = runs
  // What a lane only goes on with may be another step in the other run.
  const others = new Map(without.steps.filter((s) => s.place !== '').map((s) => [s.place, s]))
  const steps = withIt.steps.flatMap((step) => {
    const other = others.get(step.place)
    return other === undefined ? [] : stepDifference(runs, step, other)
  })
  const [a, b] = [rulesOf(withIt), rulesOf(without)]
  if (a === b) return steps
  return [...steps, { step: 0, call: '', about: 'findings', withIt: a, without: b }]
}

/** Characters before the first one that differs. */
const BEFORE = 24

/**
 * Both sides of a difference, of at most about `most` characters each, with the place in it where they part.
 *
 * @example shortened({ withIt: 'a long text, and so on', without: 'a long text' }, 8)
 */
export function shortened(
  { withIt, without }: Pick<RunDifference, 'withIt' | 'without'>,
  most: number,
): Pick<RunDifference, 'withIt' | 'without'> {
  let same = 0
  while (same < withIt.length && withIt[same] === without[same]) same++
  const fits = Math.max(withIt.length, without.length) <= most
  const from = fits || same < most - BEFORE ? 0 : same - BEFORE
  const cut = (text: string): string => {
    const head = from > 0 ? '...' : ''
    const tail = text.length > from + most ? '...' : ''
    return `${head}${text.slice(from, from + most)}${tail}`
  }
  return { withIt: cut(withIt), without: cut(without) }
}
