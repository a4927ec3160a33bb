import type { Answer } from '../bits/answer.ts'
import { IommulatorError } from '../bits/errors.ts'
import {
  type Coverage,
  POWERNV_MACHINE,
  POWERNV_WITH_GUEST,
  PSERIES_MACHINE,
  Q35_MACHINE,
  X86_MACHINE,
} from '../check/coverage.ts'
import { Judge } from '../check/judge.ts'
import type { Finding, Verdict } from '../check/rule.ts'
import { type Ledger, LedgerCounter } from '../report/ledger.ts'
import { createMachine } from './create-machine.ts'
import type { MachineDescription } from './description.ts'
import { unexpected } from './expectation.ts'
import type { Machine, MachineOptions } from './machine.ts'
import type { Operation } from './operation.ts'
import type { Scenario, Step } from './scenario/scenario.ts'
import { ScenarioWalk } from './scenario-walk.ts'

/** One step of a scenario that was run. */
export interface StepResult {
  /** From 1. */
  readonly step: number
  readonly operation: Operation
  readonly answer: Answer
  /** Records [from, end) that the step left. */
  readonly from: number
  readonly end: number
  /**
   * Where it stands in the scenario: `steps.0`, `concurrent.exit.1`; empty where a lane only goes on with a call that it
   * has begun.
   */
  readonly place: string
  /** Of a call that was started: the step at which it ended. `answer` is then that of its end. */
  readonly endedAt?: number
  /** Whether the scenario says what the answer is. */
  readonly isNamed: boolean
  /** What the answer has other than the scenario expects: one sentence each. */
  readonly wrong: readonly string[]
}

/** What a machine can leave records of: a rule that needs others is not judged. */
export function coverageOf(machine: MachineDescription): Coverage {
  if (machine.kind === 'pseries') return PSERIES_MACHINE
  if (machine.kind === 'q35') return Q35_MACHINE
  if (machine.kind === 'x86') return X86_MACHINE
  return machine.guest === undefined ? POWERNV_MACHINE : POWERNV_WITH_GUEST
}

/** What came of a scenario. Plain data, but for the machine at its end. */
export interface RunResult {
  readonly title: string
  readonly profile: string
  readonly steps: readonly StepResult[]
  readonly findings: readonly Finding[]
  readonly findingsDropped: number
  readonly verdicts: readonly Verdict[]
  /** Findings that were expected and did not come, and those that came unexpected: one sentence each. */
  readonly wrongFindings: readonly string[]
  readonly ledger: Ledger
  readonly machine: Machine
}

/** Answers and findings are all as the scenario says. */
export const isAsExpected = (r: RunResult): boolean =>
  r.wrongFindings.length === 0 && r.steps.every((s) => s.wrong.length === 0)

/** The step whose records hold a seq; 0 for those of the end. */
export const stepOf = (steps: readonly StepResult[], seq: number): number =>
  steps.find((s) => seq >= s.from && seq < s.end)?.step ?? 0

const lastSeq = (finding: Finding): number => finding.because[finding.because.length - 1]?.seq ?? -1

function compareFindings(
  scenario: Scenario,
  findings: readonly Finding[],
  steps: readonly StepResult[],
): string[] {
  const wrong: string[] = []
  for (const { rule, step } of scenario.findings) {
    const found = findings.filter((f) => f.rule === rule)
    if (found.length === 0) wrong.push(`${rule} was expected and not found`)
    else if (step !== undefined && !found.some((f) => stepOf(steps, lastSeq(f)) === step)) {
      const at = [...new Set(found.map((f) => stepOf(steps, lastSeq(f))))].join(', ')
      wrong.push(`${rule} was expected at step ${step} and found at step ${at}`)
    }
  }
  const expected = new Set(scenario.findings.map((f) => f.rule))
  for (const rule of new Set(findings.map((f) => f.rule))) {
    if (!expected.has(rule)) wrong.push(`${rule} was found and not expected`)
  }
  return wrong
}

/** Does one operation; one that cannot be done at all is an error that names its step and line. */
export function performed(machine: Machine, operation: Operation, step: number): Answer {
  try {
    return machine.perform(operation)
  } catch (error) {
    if (!(error instanceof IommulatorError)) throw error
    const where = { ...error.where, ...(operation.line === undefined ? {} : { line: operation.line }) }
    throw new IommulatorError(error.code, `step ${step}: ${error.message}`, where, error)
  }
}

/** Takes down what each operation of a run answers. */
class StepLog {
  readonly steps: StepResult[] = []
  readonly #machine: Machine
  /** Calls that were started and have not ended: their tasks, and their places in `steps`. */
  readonly #open = new Map<string, { readonly at: number; readonly step: Step | undefined }>()

  constructor(machine: Machine) {
    this.#machine = machine
  }

  perform(operation: Operation, step: Step | undefined, place: string): void {
    const from = this.#machine.log.length
    const number = this.steps.length + 1
    const answer = performed(this.#machine, operation, number)
    this.steps.push({
      step: number,
      operation,
      answer,
      from,
      end: this.#machine.log.length,
      place,
      ...told(step, answer),
    })
    if (operation.start !== undefined && answer.state === 'pending') {
      this.#open.set(operation.start, { at: number - 1, step })
    }
    for (const [task, { at, step: begun }] of this.#open) {
      const said = this.#machine.tasks.find(task)?.answer
      if (said === undefined) continue
      this.#open.delete(task)
      const result = this.steps[at] as StepResult
      this.steps[at] = { ...result, answer: said, endedAt: number, ...told(begun, said) }
    }
  }
}

/** What an answer has other than the step of the scenario expects. */
const told = (step: Step | undefined, answer: Answer): Pick<StepResult, 'isNamed' | 'wrong'> => ({
  isNamed: step?.expect !== undefined,
  wrong: step?.expect === undefined ? [] : unexpected(answer, step.expect),
})

/** How a scenario is run, beside what it says itself. */
export interface RunOptions extends MachineOptions {
  /** Rules to judge; all where it is left out. */
  readonly rules?: readonly string[]
}

/**
 * Runs a scenario on a machine of its own, judges all records, and compares with what the scenario expects.
 *
 * @throws IommulatorError where the machine cannot be wired or an operation is not complete
 */
export function runScenario(scenario: Scenario, { rules, ...options }: RunOptions = {}): RunResult {
  const judge = new Judge(rules === undefined ? {} : { rules })
  const counter = new LedgerCounter(judge)
  const machine = createMachine(scenario.machine, {
    ...options,
    source: scenario.title,
    watch: (log) => {
      judge.attach(log)
      counter.attach(log)
    },
  })
  const log = new StepLog(machine)
  const walk = new ScenarioWalk(scenario, machine)
  walk.run((operation, step, place) => log.perform(operation, step, place))
  const { steps } = log
  machine.log.emit('run.end', null, { settled: scenario.settled ? 1 : 0 })
  judge.finish()
  const { findings } = judge
  return {
    title: scenario.title,
    profile: machine.profile.name,
    steps,
    findings,
    findingsDropped: judge.dropped,
    verdicts: judge.verdicts(coverageOf(scenario.machine)),
    wrongFindings: compareFindings(scenario, findings, steps),
    ledger: counter.ledger(),
    machine,
  }
}
