import { counted } from '../../check/words.ts'
import { findingsJson, ledgerJson } from '../../report/json.ts'
import { judgedLines } from '../../report/judged-text.ts'
import { table, wrapped } from '../../report/layout.ts'
import type { Paint } from '../../report/text.ts'
import { isClean, type ReplayResult } from './result.ts'

/** Divergences, damaged lines and assumptions that the text shows; the JSON has all that were kept. */
const SHOWN_MAX = 10

/** A share of a whole as people read it; nothing for a whole of 0. */
const share = (part: number, whole: number): string =>
  whole === 0 ? '' : ` (${((part / whole) * 100).toFixed(1)} %)`

const only = (parts: readonly (readonly [count: number, text: string])[]): string =>
  parts
    .filter(([count]) => count > 0)
    .map(([count, text]) => `${count} ${text}`)
    .join(', ')

function countLines(r: ReplayResult): string[] {
  const { answers: a, translations: t, entries: e, log } = r
  const rows = [
    [
      'log',
      `${counted(log.lines, 'line')}: ${only([
        [log.events, 'events'],
        [log.unknown.reduce((n, u) => n + u.count, 0), 'of events that are not declared'],
        [log.damaged.count, 'damaged'],
        [log.empty, 'empty'],
      ])}${log.truncated ? '; the last one has no end' : ''}`,
    ],
    [
      'answers',
      `${a.total}: ${a.matched} matched${share(a.matched, a.total)}, ${a.diverged} diverged${
        a.unjudged === 0 ? '' : `, ${a.unjudged} about windows that the log does not show`
      }`,
    ],
    [
      'translations',
      `${t.total}: ${t.explained} explained, ${t.inferred} inferred, ${t.unexplained} unexplained${
        t.learned === 0 ? '' : `, ${t.learned} showed what was not known`
      }${t.unjudged === 0 ? '' : `, ${t.unjudged} through windows that the log does not show`}`,
    ],
    [
      'entries',
      `${e.known} seen, ${e.inferred} inferred, ${e.unknown} unknown; of the inferred ones later lines ` +
        `confirmed ${e.confirmed} and contradicted ${e.contradicted}`,
    ],
  ]
  return table(rows)
}

/** A bounded list with a title, and how many more there are. */
function section(title: string, lines: readonly string[], total: number): string[] {
  if (total === 0) return []
  const more = total > lines.length ? [`  ... and ${total - lines.length} more (--json has them)`] : []
  return ['', title, ...lines, ...more]
}

function problemLines(r: ReplayResult, paint: Paint): string[] {
  const diverged = r.divergences
    .slice(0, SHOWN_MAX)
    .flatMap((d) => [
      ...wrapped(`  line ${d.line}  `, `${d.call}: the log has ${d.log}; the model ${d.model} (${d.rule})`),
    ])
  const damaged = r.log.damaged.first
    .slice(0, SHOWN_MAX)
    .flatMap((d) => wrapped(`  line ${d.line}  `, `${d.reason}: ${d.excerpt}`))
  const unknown = table(
    r.log.unknown
      .slice(0, SHOWN_MAX)
      .map((u) => [`  ${u.name}`, String(u.count), `first in line ${u.firstLine}`]),
    { right: [1] },
  )
  return [
    ...section(paint.red('divergences'), diverged, r.answers.diverged + r.translations.unexplained),
    ...section(paint.yellow('damaged lines'), damaged, r.log.damaged.count),
    ...section('events that are not declared', unknown, r.log.unknown.length),
  ]
}

const assumptionLines = (r: ReplayResult): string[] =>
  section(
    'taken to be so, because the log leaves it open',
    r.assumptions
      .slice(0, SHOWN_MAX)
      .flatMap((a) => wrapped(`  line ${a.line}  `, `${a.text}${a.state === 'open' ? '' : ` [${a.state}]`}`)),
    r.assumptions.length,
  )

/** The report of a replay as text of at most 100 columns. */
export function replayText(r: ReplayResult, paint: Paint): string {
  const options = { paint, dropped: r.findingsDropped }
  const verdict = isClean(r)
    ? paint.green('clean: every answer and every translation is explained, and no promise is broken')
    : paint.red(
        `not clean: ${counted(r.answers.diverged + r.translations.unexplained, 'divergence')}, ` +
          counted(r.findings.length + r.findingsDropped, 'finding'),
      )
  return [
    `${paint.bold(r.source)} replayed as ${r.profile}`,
    '',
    ...countLines(r),
    ...problemLines(r, paint),
    ...assumptionLines(r),
    ...judgedLines(r, options),
    verdict,
    '',
  ].join('\n')
}

/** The report as one object: fields are added, never renamed, without a new schema number. */
export function replayJson(r: ReplayResult): object {
  const { log } = r
  const { findings, dropped } = findingsJson(r.findings, r.findingsDropped)
  return {
    schema: 'iommulator/replay/1',
    source: r.source,
    profile: r.profile,
    clean: isClean(r),
    log: {
      lines: log.lines,
      bytes: log.bytes,
      events: log.events,
      unknown: log.unknown.reduce((n, u) => n + u.count, 0),
      damaged: log.damaged.count,
      empty: log.empty,
      truncated: log.truncated,
      eventsByName: log.declared,
      unknownByName: log.unknown,
      damagedLines: log.damaged.first,
    },
    answers: r.answers,
    translations: r.translations,
    entries: r.entries,
    assumptions: r.assumptions,
    divergences: r.divergences,
    findings,
    findingsDropped: dropped,
    verdicts: r.verdicts,
    ledger: ledgerJson(r.ledger),
  }
}
