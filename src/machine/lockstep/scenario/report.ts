import { table } from '../../../report/layout.ts'
import type { Paint } from '../../../report/text.ts'
import type { Path } from '../../schema/issue.ts'
import type { JudgedExpectation, LeftOut } from './plan.ts'
import { expectationCounts, isAsModelled, type ScenarioResult, stepsLeftOut } from './result.ts'

/** How a report of scenarios is written for one peer. */
export interface ReportedWith<D> {
  /** The peer in one line. */
  readonly peer: string
  /** Whose errata the model has. */
  readonly profile: string
  /** Scenarios that were to be run; the first differences may end it before the last. */
  readonly planned: number
  /** Line of a part of a scenario in its file. */
  readonly lineOf: (file: string, path: Path) => number
  readonly differenceLines: (difference: D) => string[]
  readonly differenceJson: (difference: D) => object
}

/** A part of a scenario that is left out, in one line. */
export const leftOutLine = (file: string, line: number, { step, what, why }: LeftOut): string =>
  `${file}:${line}: ${step === undefined ? '' : `step ${step}, `}${what}: ${why}`

const sum = (
  results: readonly ScenarioResult<unknown>[],
  of: (r: ScenarioResult<unknown>) => number,
): number => results.reduce((n, r) => n + of(r), 0)

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)]
}

/** Why answers are not judged, all scenarios together. */
function reasonLines(results: readonly ScenarioResult<unknown>[]): string[] {
  const counts = new Map<string, number>()
  for (const { why, count } of results.flatMap(({ reasons }) => reasons)) {
    counts.set(why, (counts.get(why) ?? 0) + count)
  }
  return table(
    [...counts].map(([why, count]) => [why, String(count)]),
    { right: [1] },
  )
}

function expectationLines<D>(
  results: readonly ScenarioResult<D>[],
  kept: JudgedExpectation['kept'],
  { lineOf }: ReportedWith<D>,
): string[] {
  return results.flatMap(({ file, profile, expectations }) =>
    expectations
      .filter((e) => e.kept === kept)
      .map(({ step, wrong }) => {
        const where = `${file}:${lineOf(file, ['steps', step - 1])}`
        return `${where}: step ${step}: ${wrong.join('; ')} (profile ${profile})`
      }),
  )
}

/** What scenarios gave on a peer, for people: a line each, and what is not as it should be. */
export function scenariosText<D>(
  results: readonly ScenarioResult<D>[],
  made: ReportedWith<D>,
  paint: Paint,
): string {
  const counts = results.map((r) => ({ ...expectationCounts(r), left: stepsLeftOut(r) }))
  const total = (of: 'kept' | 'elsewhere' | 'broken' | 'left') => counts.reduce((n, c) => n + c[of], 0)
  const unjudged = sum(results, (r) => r.unjudged)
  const ended = made.planned - results.length
  const differences = results.filter((r) => r.difference !== undefined)
  const head = table([
    ['peer', made.peer],
    ['model', made.profile],
    ['scenarios', ended > 0 ? `${results.length}; ${ended} not run (--most)` : String(results.length)],
    ['steps', `${sum(results, (r) => r.steps) - total('left')} done, ${total('left')} left out`],
    ['answers', `${sum(results, (r) => r.equal)} equal${unjudged > 0 ? `, ${unjudged} not judged` : ''}`],
    [
      'expected',
      `${total('kept')} kept, ${total('elsewhere')} on the scenario's own machine only, ${total('broken')} not kept`,
    ],
    ['differences', String(sum(results, (r) => r.differing))],
  ])
  const rows = results.map((r, i) => {
    const { kept = 0, elsewhere = 0, broken = 0, left = 0 } = counts[i] ?? {}
    return [r.file, ...[r.steps, left, r.equal, r.differing, kept, elsewhere, broken].map(String)]
  })
  const each = table(
    [['scenario', 'steps', 'left out', 'equal', 'differ', 'kept', 'own only', 'not kept'], ...rows],
    { right: [1, 2, 3, 4, 5, 6, 7] },
  )
  const left = results.flatMap(({ file, leftOut }) =>
    leftOut.map((l) => leftOutLine(file, made.lineOf(file, l.path), l)),
  )
  return `${[
    ...head,
    '',
    ...each,
    ...section('answers that are not judged', reasonLines(results)),
    ...section('left out', left),
    ...section(
      "expected, and so on the scenario's own machine only",
      expectationLines(results, 'elsewhere', made),
    ),
    ...section(paint.red('expected, and not so'), expectationLines(results, 'broken', made)),
    ...differences.flatMap(({ file, difference }) => [
      '',
      paint.bold(file),
      ...(typeof difference === 'string'
        ? [paint.yellow(`seen once, and not again in the same script: ${difference}`)]
        : made.differenceLines(difference as D)),
    ]),
    '',
    isAsModelled(results) ? paint.green('no answer differs') : paint.red('not all is as expected'),
  ].join('\n')}\n`
}

/** The same as plain data: `schema` names its form. */
export function scenariosJson<D>(results: readonly ScenarioResult<D>[], made: ReportedWith<D>): object {
  return {
    schema: 'iommulator/connect-scenarios/1',
    peer: made.peer,
    profile: made.profile,
    planned: made.planned,
    scenarios: results.map(({ difference, leftOut, expectations, ...rest }) => ({
      ...rest,
      leftOut: leftOut.map(({ path, ...l }) => ({ line: made.lineOf(rest.file, path), ...l })),
      expectations: expectationCounts({ ...rest, leftOut, expectations, difference }),
      otherwise: expectations
        .filter((e) => e.kept !== 'kept')
        .map((e) => ({ line: made.lineOf(rest.file, ['steps', e.step - 1]), ...e })),
      difference:
        difference === undefined || typeof difference === 'string'
          ? (difference ?? null)
          : made.differenceJson(difference),
    })),
    isAsExpected: isAsModelled(results),
  }
}
