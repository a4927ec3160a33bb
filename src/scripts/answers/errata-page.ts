import { erratumLink } from '../erratum-pages.ts'
import { alignedGrid, paragraph } from '../markdown.ts'
import { type ErratumCount, erratumCounts } from './erratum-evidence.ts'
import { learnedList } from './learned.ts'
import type { RecordedRun } from './recorded-run.ts'

interface Row {
  readonly link: string
  readonly title: string
  readonly profile: string
  readonly shown: string
  readonly evidence: string
}

function rowOf(found: readonly ErratumCount[]): Row[] {
  const [first] = found
  if (first === undefined) return []
  const { id, title, evidence } = first.erratum
  return [
    {
      link: erratumLink(id),
      title,
      evidence,
      profile: first.isThere ? 'on' : 'off',
      shown: found
        .filter(({ count }) => count > 0)
        .map(({ recording, count, first: line }) => `${count} (${recording}:${line})`)
        .join(', '),
    },
  ]
}

/** The page that says which errata recorded answers show. Takes some seconds: all is run again for each of them. */
export function errataPage(runs: readonly RecordedRun[]): string {
  const counts = runs.flatMap(erratumCounts)
  const ids = [...new Set(counts.map(({ erratum }) => erratum.id))]
  const rows = ids.flatMap((id) => rowOf(counts.filter(({ erratum }) => erratum.id === id)))
  const shown = rows.filter((r) => r.shown !== '')
  const others = rows.filter((r) => r.shown === '')
  return [
    '# What the recordings say of errata',
    '',
    paragraph(
      'Each recording is run again without an erratum that its machine has (`on`), or with one that it has not (`off`). The answers that are others then say that the machine is as the profile has it: so many of them, the first in that line. Deviations of what no recording asks are left out: those of a guest’s drivers and of recovery from errors.',
    ),
    '',
    '## Shown by recorded answers',
    '',
    alignedGrid(
      ['erratum', 'profile', 'answers that say so', 'known by', ''],
      shown.map((r) => [r.link, r.profile, r.shown, r.evidence, r.title]),
    ),
    '',
    '## No recorded answer rests on them',
    '',
    paragraph(
      'Either no recording gets there, or what is wrong does not show in an answer (a count that leaks, a cache that is not told). They rest on what the column `known by` says: read in a source, seen in a run by other means, or inferred.',
    ),
    '',
    alignedGrid(
      ['erratum', 'profile', 'known by', ''],
      others.map((r) => [r.link, r.profile, r.evidence, r.title]),
    ),
    '',
    '## What runs said first',
    '',
    paragraph(
      'Sources and manuals had been read before any of these machines ran. Here they had been silent, or read wrongly.',
    ),
    '',
    learnedList(runs, counts),
    '',
  ].join('\n')
}
