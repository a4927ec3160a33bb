import type { Answer, LayerAnswer, Value } from '../bits/answer.ts'
import { counted } from '../check/words.ts'
import { findingsJson, ledgerJson } from '../report/json.ts'
import { judgedLines } from '../report/judged-text.ts'
import { COLUMNS, wrapped } from '../report/layout.ts'
import type { Paint } from '../report/text.ts'
import { valueText } from './expectation.ts'
import { knownErrata } from './known-errata.ts'
import type { Operation } from './operation.ts'
import { isAsExpected, type RunResult, type StepResult } from './run-scenario.ts'

/** Characters of one value in the report; the JSON has all of them. */
const VALUE_CHARS = 64

const shortened = (text: string): string =>
  text.length <= VALUE_CHARS + 16 ? text : `${text.slice(0, VALUE_CHARS)}...(${text.length} characters)`

const valuesText = (values: Readonly<Record<string, Value>>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name}=${shortened(valueText(value))}`)
    .join(' ')

const answerText = (a: Answer): string =>
  [a.code, `(${a.rule})`, valuesText(a.outputs), ...a.warnings.map((w) => `warning: ${w}`)]
    .filter((part) => part !== '')
    .join(' ')

/** Where a hypercall of a guest on a POWER host is answered, level by level, by the layer that answers there. */
const LEVELS: Readonly<Record<string, string>> = {
  'kvm-real': 'real mode',
  kvm: 'virtual mode',
  qemu: 'user space',
}

/** What a step is answered; a hypercall on a POWER host says at which level, and what the levels before it have said. */
function answerTexts(answer: Answer, hasLevels: boolean): string[] {
  const levelOf = ({ layer, family }: LayerAnswer) => (family === 'hcall' ? LEVELS[layer] : undefined)
  const last = levelOf(answer)
  if (!hasLevels || last === undefined) return [answerText(answer)]
  const before = answer.layers.slice(0, -1).map((l) => `${levelOf(l)}: ${l.code} (${l.rule})`)
  return [...before, `${last}: ${answerText(answer)}`]
}

/** What a step does, with its arguments. */
export const callText = ({ verb, call, args, by, start }: Operation): string =>
  [
    `${verb} ${call} ${valuesText(args)}`.trim(),
    by?.cpu === undefined ? '' : ` on CPU ${by.cpu}`,
    start === undefined ? '' : ` as task ${start}`,
  ].join('')

/** One step: the call with its arguments, its answer, and what is not as expected. */
function stepLines(
  { step, operation, answer, endedAt, wrong }: StepResult,
  { paint, hasLevels }: { readonly paint: Paint; readonly hasLevels: boolean },
): string[] {
  const head = `#${step}`.padEnd(5)
  return [
    ...wrapped(head, callText(operation)),
    ...answerTexts(answer, hasLevels).flatMap((text) =>
      wrapped('     -> ', endedAt === undefined ? text : `${text}, at step #${endedAt}`),
    ),
    ...wrong.flatMap((w) => wrapped('     ', `NOT AS EXPECTED: ${w}`).map((l) => paint.red(l))),
  ]
}

function titleLines({ title, profile }: RunResult, paint: Paint): string[] {
  const isShort = title.length + profile.length + 4 <= COLUMNS
  if (isShort) return [`${paint.bold(title)}  (${profile})`]
  return [...wrapped('', title).map((line) => paint.bold(line)), ...wrapped('', `(${profile})`)]
}

/** Which answers were compared: a step may leave open what comes. */
function namedText({ steps }: RunResult): string {
  const named = steps.filter((s) => s.isNamed).length
  if (named === steps.length) return 'every answer and every finding is what the scenario says'
  return `the ${counted(named, 'answer')} that the scenario names (of ${steps.length}), and every finding`
}

/** The report of a scenario as text of at most 100 columns. */
export function runText(r: RunResult, paint: Paint): string {
  const { description } = r.machine
  const hasLevels = description.kind === 'powernv'
  const platform = description.kind === 'q35' || description.kind === 'x86' ? 'x86' : 'power'
  const guestProfile = hasLevels ? description.guest?.profile : undefined
  const options = {
    paint,
    dropped: r.findingsDropped,
    foreign: 'rules of other machines',
    errataOf: knownErrata(r.profile, guestProfile, platform),
  }
  const wrongSteps = r.steps.filter((s) => s.wrong.length > 0).length
  const summary = isAsExpected(r)
    ? paint.green(`as expected: ${namedText(r)}`)
    : paint.red(
        `not as expected: ${counted(wrongSteps, 'answer')}, ${counted(r.wrongFindings.length, 'finding')}`,
      )
  return [
    ...titleLines(r, paint),
    '',
    ...r.steps.flatMap((s) => stepLines(s, { paint, hasLevels })),
    ...judgedLines(r, options),
    ...r.wrongFindings.map((w) => paint.red(`NOT AS EXPECTED: ${w}`)),
    summary,
    '',
  ].join('\n')
}

/** The report as one object: fields are added, never renamed, without a new schema number. */
export function runJson(r: RunResult): object {
  const { findings, dropped } = findingsJson(r.findings, r.findingsDropped)
  return {
    schema: 'iommulator/run/1',
    title: r.title,
    profile: r.profile,
    asExpected: isAsExpected(r),
    steps: r.steps.map(({ step, operation, answer, from, end, endedAt, wrong }) => ({
      step,
      operation,
      answer,
      records: { from, end },
      ...(endedAt !== undefined && { endedAt }),
      wrong,
    })),
    findings,
    findingsDropped: dropped,
    wrongFindings: r.wrongFindings,
    verdicts: r.verdicts,
    ledger: ledgerJson(r.ledger),
  }
}
