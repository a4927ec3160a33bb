import type { Finding, Verdict } from '../check/rule.ts'
import { RULES } from '../check/rules.ts'
import { counted } from '../check/words.ts'
import { COLUMNS, table, wrapped } from './layout.ts'

/** How a terminal shows words; the model floors know no terminal. Lengths are measured before painting. */
export interface Paint {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
  green(text: string): string
  yellow(text: string): string
  cyan(text: string): string
}

const same = (text: string): string => text

/** No colour. */
export const PLAIN: Paint = { bold: same, dim: same, red: same, green: same, yellow: same, cyan: same }

export interface TextOptions {
  readonly paint?: Paint
  readonly columns?: number
  /** Findings that were only counted, because too many were kept already. */
  readonly dropped?: number
  /** What a line of the input is called: `line`, or `step` in a scenario. */
  readonly lineName?: string
  /**
   * What to call rules that cannot be judged because a machine of this kind leaves no such records: they are named
   * together. Left out where it is a log that may lack them: each then says what it needs.
   */
  readonly foreign?: string
  /** Known errata of the machine that a finding may be, by id. */
  readonly errataOf?: (finding: Finding) => readonly string[]
}

const FOUND = 'FOUND  '

/** One finding: its rule and message, the chain of records that led to it, how often it came. */
export function findingText(finding: Finding, options: TextOptions = {}): string[] {
  const { paint = PLAIN, columns = COLUMNS, lineName = 'line' } = options
  const indent = ' '.repeat(FOUND.length)
  const [first = '', ...more] = wrapped(`${FOUND}${finding.rule}  `, finding.message, columns)
  const heads = finding.because.map(
    ({ seq, line }) => [line === 0 ? '' : `${lineName} ${line}`, `#${seq}`] as const,
  )
  const lineWidth = Math.max(0, ...heads.map(([line]) => line.length))
  const seqWidth = Math.max(0, ...heads.map(([, seq]) => seq.length))
  const chain = finding.because.flatMap(({ text }, i) => {
    const [line = '', seq = ''] = heads[i] ?? []
    const gap = lineWidth === 0 ? '' : `${line.padEnd(lineWidth)}  `
    return wrapped(`${indent}  ${gap}${seq.padEnd(seqWidth)}  `, text, columns)
  })
  const notes = [
    ...(finding.times > 1 ? [`seen ${finding.times} times; the chain is of the first`] : []),
    ...(finding.inferred ? ['rests on a value that the log does not show'] : []),
  ]
  return [
    first.replace(
      `${FOUND}${finding.rule}`,
      () => `${paint.red(paint.bold('FOUND'))}  ${paint.bold(finding.rule)}`,
    ),
    ...more,
    ...(chain.length > 0 ? [`${indent}because`] : []),
    ...chain,
    ...notes.map((note) => paint.dim(indent + note)),
  ]
}

/** All findings, an empty line between two, and how many there are; `advice` once for each broken rule. */
export function findingsText(findings: readonly Finding[], options: TextOptions = {}): string[] {
  const { paint = PLAIN, columns = COLUMNS, dropped = 0, errataOf } = options
  const lines = findings.flatMap((finding) => [...findingText(finding, options), ''])
  const broken = RULES.filter(({ id }) => findings.some((f) => f.rule === id))
  for (const { id, advice } of broken) {
    const known = [
      ...new Set(findings.flatMap((finding) => (finding.rule === id ? (errataOf?.(finding) ?? []) : []))),
    ]
    const more =
      known.length === 0
        ? ''
        : ` Errata of the profile that show so: ${known.join(', ')} (iommulator errata ID).`
    lines.push(...wrapped(`${id}: `, advice + more, columns).map((l) => paint.dim(l)))
  }
  const total = counted(findings.length, 'finding')
  const more = dropped > 0 ? `, ${dropped} more only counted` : ''
  const summary = findings.length === 0 && dropped === 0 ? paint.green(total) : paint.red(total + more)
  return [...lines, ...(broken.length > 0 ? [''] : []), summary]
}

const STATE_PAINT = { kept: 'green', broken: 'red', 'cannot judge': 'yellow' } as const

/** What can be said of each rule, a line each; why a rule cannot be judged. */
export function verdictsText(verdicts: readonly Verdict[], options: TextOptions = {}): string[] {
  const { paint = PLAIN, columns = COLUMNS, foreign } = options
  const isForeign = ({ state, missing }: Verdict) =>
    foreign !== undefined && state === 'cannot judge' && missing.length > 0
  const names = verdicts.filter(isForeign).map(({ rule }) => rule)
  const rows = verdicts.flatMap((verdict) => {
    if (isForeign(verdict)) return []
    const { rule, state, missing, skipped } = verdict
    const why = [
      ...(missing.length > 0 ? [`needs records of ${missing.join(', ')}`] : []),
      ...(skipped > 0 ? [`${counted(skipped, 'value')} not shown by the log, not judged`] : []),
    ]
    return [[rule, state, why.join('; ')]]
  })
  const lines = table(rows, { columns }).map((line) => {
    const verdict = verdicts.find(({ rule }) => line.startsWith(`${rule} `))
    if (verdict === undefined) return line
    return line.replace(`  ${verdict.state}`, () => `  ${paint[STATE_PAINT[verdict.state]](verdict.state)}`)
  })
  // Two columns less: the promises of a report are indented.
  return names.length === 0
    ? lines
    : [...lines, ...wrapped(`${foreign}: `, names.join(', '), columns - 2).map((l) => paint.dim(l))]
}
