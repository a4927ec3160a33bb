import type { Erratum, VersionRange } from '../bits/errata.ts'
import { counted } from '../check/words.ts'
import { loadScenario } from '../cli/load-scenario.ts'
import {
  type ErratumRuns,
  erratumDifferences,
  type RunDifference,
  runErratum,
  shortened,
} from '../machine/erratum-runs.ts'
import { ERRATA } from '../machine/registry.ts'
import { callText } from '../machine/run-report.ts'
import type { RunResult } from '../machine/run-scenario.ts'
import { wrapped } from '../report/layout.ts'
import { findingText } from '../report/text.ts'
import { grid, paragraph } from './markdown.ts'

const HEAD = '<!-- Made by `npm run docs` from the declaration and a run of its scenario; do not edit. -->\n'
/** Steps and findings that a page shows; more are counted. */
const STEPS_MOST = 12
const FINDINGS_MOST = 3
/** Characters of one side of a difference. */
const TEXT_MOST = 300

const KINDS: Readonly<Record<Erratum['kind'], string>> = {
  defect: 'a defect: a rule finds it',
  quirk: 'a quirk: an answer of its own, without harm to isolation',
  change: 'a change of an interface: no side is wrong',
}
const EVIDENCE: Readonly<Record<Erratum['evidence'], string>> = {
  run: 'run on a real one',
  source: 'read in the source',
  inferred: 'inferred',
}

/** The versions of an erratum in words. */
export function versionText(versions: readonly VersionRange[]): string {
  if (versions.length === 0) return 'in no release'
  return versions
    .map(
      ({ since, until }) =>
        [since === undefined ? '' : `from ${since}`, until === undefined ? '' : `before ${until}`]
          .filter((part) => part !== '')
          .join(' ') || 'all',
    )
    .join('; ')
}

/** The page of an erratum, as pages of docs/reference link to it. */
export const erratumLink = (id: string): string => `[${id}](errata/${id}.md)`

const block = (lines: readonly string[]): string => ['```text', ...lines, '```'].join('\n')

/** One step in which the runs part, with what both say. */
function differenceLines({ withIt: run }: ErratumRuns, { step, about, ...texts }: RunDifference): string[] {
  const { withIt, without } = shortened(texts, TEXT_MOST)
  const { operation } = run.steps[step - 1] as RunResult['steps'][number]
  const head = `#${step}`.padEnd(5)
  const what = about === 'answer' ? '' : `${about} `
  return [
    ...wrapped(head, callText(operation)),
    ...wrapped(`     with it:    ${what}`, withIt),
    ...wrapped(`     without it: ${what}`, without),
  ]
}

function findingsPart(runs: ErratumRuns): string {
  const known = new Set(runs.without.findings.map((f) => `${f.rule} ${f.message}`))
  const own = runs.withIt.findings.filter((f) => !known.has(`${f.rule} ${f.message}`))
  if (own.length === 0) return 'No rule finds anything in one run that it does not find in the other.'
  const more = own.length - FINDINGS_MOST
  return [
    'Found with it only:\n',
    block(own.slice(0, FINDINGS_MOST).flatMap((f, i) => [...(i === 0 ? [] : ['']), ...findingText(f)])),
    ...(more > 0 ? [`\nand ${counted(more, 'more finding')}.`] : []),
  ].join('\n')
}

function runPart(e: Erratum, runs: ErratumRuns): string {
  const steps = erratumDifferences(runs).filter(({ step }) => step > 0)
  const more = steps.length - STEPS_MOST
  const shown = steps.slice(0, STEPS_MOST).flatMap((d) => differenceLines(runs, d))
  return [
    paragraph(
      `Both runs have ${counted(runs.withIt.steps.length, 'step')}, on profile ${runs.withIt.profile} and the same without ${e.id}.`,
    ),
    ...(shown.length === 0 ? [] : [`\n${block(shown)}`]),
    ...(more > 0 ? [`\nand ${counted(more, 'more step')} in which they part.`] : []),
    `\n${findingsPart(runs)}`,
  ].join('\n')
}

/** One erratum: what it is, and what a run of its scenario shows with it and without it. */
async function erratumPage(e: Erratum): Promise<string> {
  const scenario = await loadScenario(e.scenario, process.stdin)
  const facts: string[][] = [
    ['kind', KINDS[e.kind]],
    ['in', `${e.family}, ${versionText(e.versions)}`],
    ['evidence', EVIDENCE[e.evidence]],
    ['source', e.source],
    ...(e.finding === undefined ? [] : [['found by', `[\`${e.finding}\`](../rules.md#${e.finding})`]]),
  ]
  return [
    `${HEAD}# ${e.id}: ${e.title}`,
    '',
    paragraph(`**Wrong:** ${e.wrong}`),
    '',
    paragraph(`**Right:** ${e.right}`),
    '',
    grid(['', ''], facts),
    '',
    '## What a run shows',
    '',
    paragraph(`\`${e.scenario}\`: ${scenario.title}.`),
    ...(scenario.doc === undefined ? [] : ['', paragraph(scenario.doc.replaceAll('\n', ' ').trim())]),
    '',
    runPart(e, runErratum(scenario, e.id)),
    '',
    'Run it:',
    '',
    '```sh',
    `iommulator errata ${e.id} --run`,
    `iommulator run ${e.scenario}`,
    '```',
    '',
  ].join('\n')
}

function indexPage(): string {
  const families = [...new Set(ERRATA.map((e) => e.family))].sort()
  const part = (family: string): string => {
    const rows = ERRATA.filter((e) => e.family === family).map((e) => [
      erratumLink(e.id),
      e.title,
      e.kind,
      versionText(e.versions),
      e.finding === undefined ? '' : `\`${e.finding}\``,
    ])
    return `## ${family}\n\n${grid(['erratum', 'what', 'kind', 'versions', 'found by'], rows)}\n`
  }
  const lead = paragraph(
    'Named deviations from the plain path of the model, which is the right behaviour. Each page says what is wrong, in which versions, and shows a run of its scenario with the erratum and without it.',
  )
  return `${HEAD}# Errata\n\n${lead}\n\n${families.map(part).join('\n')}`
}

/** The list of all errata, and a page for each. */
export async function erratumPages(): Promise<Readonly<Record<string, string>>> {
  const pages: Record<string, string> = { 'errata.md': indexPage() }
  for (const erratum of ERRATA) pages[`errata/${erratum.id}.md`] = await erratumPage(erratum)
  return pages
}
