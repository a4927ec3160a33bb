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
import type { Scenario } from './scenario/scenario.ts'

/** One step of a scenario that was run. */
export interface StepResult {
  /** From 1. */
  readonly step: number
  readonly operation: Operation
  readonly answer: Answer
  /** Records [from, end) that the step left. */
  readonly from: number
  readonly end: number
  /** Whether the scenario says what the answer is. */
  readonly isNamed: boolean
  /** What the answer has other than the scenario expects: one sentence each. */
  readonly wrong: readonly string[]
}

/** What a machine can leave records of: a rule that needs others is not judged. */
function coverageOf(machine: MachineDescription): Coverage {
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

/** Does one step; an operation that cannot be done at all is an error that names its step and line. */
function performed(machine: Machine, operation: Operation, step: number): Answer {
  try {
    return machine.perform(operation)
  } catch (error) {
    if (!(error instanceof IommulatorError)) throw error
    const where = { ...error.where, ...(operation.line === undefined ? {} : { line: operation.line }) }
    throw new IommulatorError(error.code, `step ${step}: ${error.message}`, where, error)
  }
}

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
  const steps = scenario.steps.map(({ operation, expect }, i): StepResult => {
    const from = machine.log.length
    const answer = performed(machine, operation, i + 1)
    return {
      step: i + 1,
      operation,
      answer,
      from,
      end: machine.log.length,
      isNamed: expect !== undefined,
      wrong: expect === undefined ? [] : unexpected(answer, expect),
    }
  })
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
