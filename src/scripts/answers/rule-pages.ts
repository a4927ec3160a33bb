import type { CallDecl } from '../../bits/call.ts'
import { CALLS } from '../../machine/registry.ts'
import { callAnchors, callsByVerb } from '../call-order.ts'
import { alignedGrid, paragraph } from '../markdown.ts'
import { type RuleCount, type RuleCounts, summed } from './rule-counts.ts'

/** Calls of one interface, and the page that shows them. */
export interface CallFamily {
  readonly file: string
  readonly title: string
  readonly intro: string
  readonly calls: readonly CallDecl[]
}

export const NOT_RUN = 'not run'
export const CONFIRMED = 'confirmed'
export const DIFFERS = 'differs'

/** A column of a page: one recording, or all traces together. */
interface Column {
  readonly title: string
  readonly cell: (decl: CallDecl, rule: string) => string
}

const placed = ({ count, first }: RuleCount['same'], word = ''): string =>
  count === 0 ? '' : `${count}${word} (line ${first})`

const cellOf = ({ same, different }: RuleCount): string =>
  [placed(same), placed(different, ' differ')].filter((t) => t !== '').join(', ')

const ofRecording = (counts: RuleCounts): Column => ({
  title: counts.name,
  cell: (decl, rule) => cellOf(counts.of(decl, rule)),
})

function ofTraces(traces: readonly RuleCounts[]): Column {
  const part = (decl: CallDecl, rule: string, which: keyof RuleCount, word: string): string => {
    const counts = traces.map((t) => ({ name: t.name, count: t.of(decl, rule)[which] }))
    const { total, logs, place } = summed(counts)
    return total === 0 ? '' : `${total}${word} in ${logs} (${place})`
  }
  return {
    title: 'traces',
    cell: (decl, rule) =>
      [part(decl, rule, 'same', ''), part(decl, rule, 'different', ' differ')]
        .filter((t) => t !== '')
        .join(', '),
  }
}

/** What the recordings together say of a rule. */
export function stateOf(counts: readonly RuleCounts[], decl: CallDecl, rule: string): string {
  const found = counts.map((c) => c.of(decl, rule))
  if (found.some(({ different }) => different.count > 0)) return DIFFERS
  return found.some(({ same }) => same.count > 0) ? CONFIRMED : NOT_RUN
}

const asksOf = (calls: readonly CallDecl[]) => (counts: RuleCounts) =>
  calls.some((decl) => decl.answers.some(({ rule }) => cellOf(counts.of(decl, rule)) !== ''))

/** Answers to a call, over all recordings. */
export const answersTo = (counts: readonly RuleCounts[], decl: CallDecl): number =>
  decl.answers
    .flatMap(({ rule }) => counts.map((c) => c.of(decl, rule)))
    .reduce((sum, { same, different }) => sum + same.count + different.count, 0)

/** Where the page of all calls has each of them. */
const IN_CALLS = callAnchors(callsByVerb(CALLS))

function callSection(decl: CallDecl, columns: readonly Column[], counts: readonly RuleCounts[]): string {
  const rows = decl.answers.map(({ rule, code }) => [
    `\`${rule}\``,
    code,
    ...columns.map(({ cell }) => cell(decl, rule)),
    stateOf(counts, decl, rule),
  ])
  const head = ['rule', 'code', ...columns.map(({ title }) => title), 'state']
  return [
    `## ${decl.name}`,
    '',
    paragraph(`[When each rule answers](calls.md#${IN_CALLS.get(decl) ?? ''}). Read in: ${decl.source}.`),
    '',
    alignedGrid(head, rows),
    '',
  ].join('\n')
}

/** The page of a family: every call, its rules in the order of the checks, and what was recorded of each. */
export function familyPage({ title, intro, calls }: CallFamily, counts: readonly RuleCounts[]): string {
  const asked = counts.filter(asksOf(calls))
  const traces = asked.filter(({ run }) => run.recording.kind === 'qemu-trace')
  const others = asked.filter(({ run }) => run.recording.kind !== 'qemu-trace')
  const columns = [...others.map(ofRecording), ...(traces.length === 0 ? [] : [ofTraces(traces)])]
  return [
    `# ${title}`,
    '',
    paragraph(intro),
    '',
    paragraph(
      'How to read the tables: [What a real kernel answers](real-answers.md). A recording that asks none of these calls has no column.',
    ),
    '',
    ...calls.map((decl) => callSection(decl, columns, counts)),
  ].join('\n')
}
