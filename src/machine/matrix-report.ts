import { counted } from '../check/words.ts'
import { findingsJson } from '../report/json.ts'
import { COLUMNS, table, wrapped } from '../report/layout.ts'
import type { Paint } from '../report/text.ts'
import {
  foundBy,
  isMatrixAsExpected,
  MATRIX_BITS,
  type Matrix,
  type MatrixRun,
  otherAnswers,
} from './matrix-runs.ts'
import { isAsExpected, type RunResult } from './run-scenario.ts'

const foundText = (result: RunResult): string => {
  const found = foundBy(result).map(([rule, count]) => (count === 1 ? rule : `${rule} (${count})`))
  return found.length === 0 ? 'none' : found.join(', ')
}

/** Whether a unit answers as the scenario says, and what it answers otherwise than the first one. */
function answersText(matrix: Matrix, run: MatrixRun): string {
  const expected = isAsExpected(run.result) ? 'as expected' : 'not as expected'
  const others = otherAnswers(matrix, run)
  const [other] = others
  if (other !== undefined) {
    const more = others.length > 1 ? `, and ${counted(others.length - 1, 'other step')}` : ''
    return `${expected}; #${other.step} ${other.call}: ${other.said}, not ${other.instead}${more}`
  }
  const wrong = run.result.steps.filter((s) => s.wrong.length > 0).map((s) => `#${s.step}`)
  return wrong.length === 0 ? expected : `${expected} at ${wrong.join(', ')}`
}

/** The table of verdicts of a matrix as text of at most 100 columns. */
export function matrixText(matrix: Matrix, paint: Paint): string {
  const { bits, runs } = matrix
  const [first] = runs
  const rows = runs.map((run) => [
    ...run.set.map((isSet) => (isSet ? '1' : '0')),
    foundText(run.result),
    answersText(matrix, run),
  ])
  const head = [...bits, 'findings', 'answers']
  const good = runs.filter((r) => isAsExpected(r.result)).length
  const summary = `${counted(runs.length, 'unit')}: ${good} as expected, ${runs.length - good} not`
  return [
    ...wrapped('', `${first?.result.title ?? ''}  (${first?.result.profile ?? ''})`, COLUMNS).map((l) =>
      paint.bold(l),
    ),
    '',
    ...bits.map(
      (bit) =>
        `  ${bit.padEnd(6)}  ${MATRIX_BITS[bit].register.toUpperCase()}.${MATRIX_BITS[bit].field}: ${MATRIX_BITS[bit].doc}`,
    ),
    '',
    ...table([head, ...rows]),
    '',
    isMatrixAsExpected(matrix) ? paint.green(summary) : paint.red(summary),
    '',
  ].join('\n')
}

/** The table as one object: fields are added, never renamed, without a new schema number. */
export function matrixJson(matrix: Matrix): object {
  return {
    schema: 'iommulator/run-matrix/1',
    title: matrix.runs[0]?.result.title ?? '',
    profile: matrix.runs[0]?.result.profile ?? '',
    bits: matrix.bits,
    units: matrix.runs.map((run) => ({
      set: Object.fromEntries(matrix.bits.map((bit, i) => [bit, run.set[i] === true])),
      asExpected: isAsExpected(run.result),
      findings: findingsJson(run.result.findings, run.result.findingsDropped).findings,
      findingsDropped: run.result.findingsDropped,
      otherAnswers: otherAnswers(matrix, run),
      wrong: run.result.steps.flatMap(({ step, wrong }) => wrong.map((what) => ({ step, what }))),
      wrongFindings: run.result.wrongFindings,
    })),
  }
}
