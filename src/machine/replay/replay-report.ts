import { bytesText, counted } from '../../check/words.ts'
import type { LogSummary } from '../../reader/log-summary.ts'
import { findingsJson, ledgerJson } from '../../report/json.ts'
import { judgedLines } from '../../report/judged-text.ts'
import { table, wrapped } from '../../report/layout.ts'
import type { Paint } from '../../report/text.ts'
import { knownErrata } from '../known-errata.ts'
import type { ReasonCount } from './reasons.ts'
import { isClean, type ReplayResult, wrongOfVtd } from './result.ts'

/** Divergences, damaged lines and assumptions that the text shows; the JSON has all that were kept. */
const SHOWN_MAX = 10

/** A share of a whole as people read it; nothing for a whole of 0. */
const share = (part: number, whole: number): string =>
  whole === 0 ? '' : ` (${((part / whole) * 100).toFixed(1)} %)`

const some = (count: number | undefined, text: string): string[] => ((count ?? 0) > 0 ? [text] : [])

/** What the lines of a log are, beside its events. */
function logRow({ log, from }: ReplayResult): string[] {
  const isTranscript = from === 'kernel-answers'
  const unknown = log.unknown.reduce((n, u) => n + u.count, 0)
  const kinds = isTranscript
    ? [
        counted(log.events, 'answer'),
        ...some(unknown, `${unknown} of commands that are not declared`),
        ...some(log.marks, counted(log.marks ?? 0, 'mark')),
        ...some(log.comments, counted(log.comments ?? 0, 'comment')),
        ...some(log.messages, counted(log.messages ?? 0, 'kernel message')),
        ...some(log.noise, `${log.noise} of other programs`),
      ]
    : [
        ...some(log.events, `${log.events} events`),
        ...some(unknown, `${unknown} of events that are not declared`),
      ]
  kinds.push(
    ...some(log.damaged.count, `${log.damaged.count} damaged`),
    ...some(log.empty, `${log.empty} empty`),
  )
  const cut = log.truncated ? '; the last one has no end' : ''
  return ['log', `${counted(log.lines, 'line')}: ${kinds.join(', ')}${cut}`]
}

/** Counts of a VT-d unit. */
function vtdRows({ vtd }: ReplayResult): string[][] {
  if (vtd === undefined) return []
  const { translations: t, faults: f, flushes } = vtd
  const left = [
    ...some(t.learned, `${t.learned} showed what was not known`),
    ...some(t.unjudged, `${t.unjudged} without the lines that explain them`),
  ]
  const parts = [`${t.total}: ${t.explained} explained`, `${t.unexplained} unexplained`, ...left]
  const likely = some(f.inferred, `${f.inferred} of tables that the log does not show`)
  const faults = [`${f.total}: ${f.explained} explained`, ...likely, `${f.unexplained} unexplained`]
  const count = flushes.reduce((n, flush) => n + flush.count, 0)
  return [
    ['translations', parts.join(', ')],
    ['faults', `${faults.join(', ')}; ${f.recorded} recorded`],
    ['invalidations', String(count)],
  ]
}

/** Counts of the trace of a kernel. */
function kernelRows({ ftrace, from }: ReplayResult): string[][] {
  if (ftrace === undefined) return []
  const { log, maps, unmaps, flushes: f, unshown, unplaced } = ftrace
  const lost = log.damaged.count === 0 ? '' : `, ${log.damaged.count} damaged`
  const isAlone = from === 'linux-ftrace'
  const rest = unshown === 0 ? '' : `; ${unshown} of QEMU's trace are not in it`
  const adrift = f.adrift === 0 ? '' : `, ${f.adrift} whose place does not show`
  const places = unplaced === 0 ? '' : `; of ${unplaced} no line shows the domain`
  return [
    ...(isAlone ? [] : [["kernel's trace", `${counted(log.lines, 'line')}: ${log.events} events${lost}`]]),
    ['mappings', `${counted(maps, 'map')}, ${counted(unmaps, 'unmap')}${places}`],
    [
      'descriptors',
      isAlone
        ? String(f.total)
        : `${f.total}: ${f.matched} matched, ${f.unmatched} without a partner${adrift}${rest}`,
    ],
  ]
}

/** How the trace stands to tables in memory. */
function tableRows({ tables }: ReplayResult): string[][] {
  if (tables === undefined) return []
  const { translations: t, held, contexts } = tables
  return [
    [
      'in the tables',
      `of ${counted(t.total, 'page')} of devices ${t.same} lead where they led last, ${t.unmapped} are unmapped, ${t.elsewhere} lead elsewhere`,
    ],
    [
      'still cached',
      `${held.total} translations, ${held.stale} of them not so in the tables; ${contexts.total} contexts, ${contexts.other} of them not so`,
    ],
  ]
}

function messageRows({ vhost }: ReplayResult): string[][] {
  if (vhost === undefined) return []
  const { messages: m, log, requests, bytes, maps, overtaken } = vhost
  const lost = log.damaged.count === 0 ? '' : `, ${log.damaged.count} damaged`
  const late = overtaken === 0 ? '' : `; a flush overtook ${counted(overtaken, 'buffer')} of them`
  return [
    ['message log', `${counted(log.lines, 'line')}: ${log.events} entries${lost}`],
    [
      'messages',
      `${m.total}: ${m.matched} matched${share(m.matched, m.total)}, ${m.unmatched} without a partner`,
    ],
    [
      'device',
      `${counted(requests, 'request')}, ${bytesText(bytes)} of buffers${late}; ${counted(maps, 'map')} in its IOTLB at the end`,
    ],
  ]
}

/** So many messages have no partner that the two logs hardly go together. */
const isForeign = ({ messages }: NonNullable<ReplayResult['vhost']>): boolean =>
  messages.unmatched * 4 > messages.total

/** A list of reasons with its title. */
function reasonLines(title: string, reasons: readonly ReasonCount[]): string[] {
  const rows = reasons.map((u) => [`  ${u.why}`, String(u.count), `first in line ${u.firstLine}`])
  return section(title, table(rows, { right: [1] }), reasons.length, reasons.length)
}

/** What messages and flushes were, and which have no partner. */
function messageLines({ vhost }: ReplayResult, paint: Paint): string[] {
  if (vhost === undefined) return []
  const { reasons, unmatched, flushes } = vhost
  return [
    ...reasonLines('messages by what they are', reasons),
    ...reasonLines(paint.red('messages without a partner'), unmatched),
    ...(isForeign(vhost)
      ? wrapped('  ', 'so many have none that the two logs may be of different runs, or one of them cut off')
      : []),
    ...reasonLines('flushes of the IOMMU', flushes),
  ]
}

/** What explains translations and faults of a VT-d unit, and what it was told to forget. */
function vtdLines({ vtd, ftrace }: ReplayResult): string[] {
  if (vtd === undefined) return []
  const standings = ftrace?.standings ?? []
  return [
    ...reasonLines('translations by what explains them', vtd.reasons),
    ...reasonLines("translations by what the kernel's trace says of them", standings),
    ...reasonLines('faults by what leads to them', vtd.faultReasons),
    ...reasonLines('faults by what became of them', vtd.faultEnds),
    ...reasonLines('invalidations by what they name', vtd.flushes),
  ]
}

function answersRow({ answers: a, from }: ReplayResult): string[] {
  const left = from === 'kernel-answers' ? 'not judged' : 'about windows that the log does not show'
  const parts = [
    `${a.total}: ${a.matched} matched${share(a.matched, a.total)}`,
    `${a.diverged} diverged`,
    ...(a.unjudged === 0 ? [] : [`${a.unjudged} ${left}`]),
  ]
  return ['answers', parts.join(', ')]
}

function countLines(r: ReplayResult): string[] {
  const { translations: t, entries: e } = r
  const rows = [logRow(r), ...messageRows(r), ...kernelRows(r), ...vtdRows(r), ...tableRows(r), answersRow(r)]
  if (r.from === 'kernel-answers') return table(rows)
  // A machine without TCE tables has no answers and no translations of them.
  const hasOther = r.vhost !== undefined || r.vtd !== undefined || r.ftrace !== undefined
  if (hasOther && r.answers.total + t.total === 0) return table(rows.slice(0, -1))
  return table([
    ...rows,
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
  ])
}

/** A bounded list with a title, and how many more there are. */
/** Some of `total` entries, each of which may take several lines. */
function section(title: string, lines: readonly string[], shown: number, total: number): string[] {
  if (total === 0) return []
  const more = total > shown ? [`  ... and ${total - shown} more (--json has them)`] : []
  return ['', title, ...lines, ...more]
}

const shownOf = (entries: readonly unknown[]): number => Math.min(entries.length, SHOWN_MAX)

function problemLines(r: ReplayResult, paint: Paint): string[] {
  const diverged = r.divergences
    .slice(0, SHOWN_MAX)
    .flatMap((d) => [
      ...wrapped(`  line ${d.line}  `, `${d.call}: the log has ${d.log}; the model: ${d.model} (${d.rule})`),
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
  const unjudged = table(
    r.unjudged
      .slice(0, SHOWN_MAX)
      .map((u) => [`  ${u.why}`, String(u.count), `first in line ${u.firstLine}`]),
    { right: [1] },
  )
  return [
    ...section(paint.red('divergences'), diverged, shownOf(r.divergences), divergencesOf(r)),
    ...section(paint.yellow('damaged lines'), damaged, shownOf(r.log.damaged.first), r.log.damaged.count),
    ...section(
      r.from === 'kernel-answers' ? 'commands that are not declared' : 'events that are not declared',
      unknown,
      shownOf(r.log.unknown),
      r.log.unknown.length,
    ),
    ...section('answers that are not judged', unjudged, shownOf(r.unjudged), r.unjudged.length),
  ]
}

const assumptionLines = (r: ReplayResult): string[] =>
  section(
    'taken to be so, because the log leaves it open',
    r.assumptions
      .slice(0, SHOWN_MAX)
      .flatMap((a) => wrapped(`  line ${a.line}  `, `${a.text}${a.state === 'open' ? '' : ` [${a.state}]`}`)),
    shownOf(r.assumptions),
    r.assumptions.length,
  )

const divergencesOf = (r: ReplayResult): number =>
  r.answers.diverged +
  r.translations.unexplained +
  (r.ftrace?.diverged ?? 0) +
  (r.vhost?.diverged ?? 0) +
  (r.vtd === undefined ? 0 : wrongOfVtd(r.vtd))

function cleanWords(r: ReplayResult): string {
  if (r.vhost !== undefined) return 'every message is explained'
  if (r.from === 'linux-ftrace') return 'maps, unmaps and flushes go together'
  if (r.vtd !== undefined) return 'every translation is explained, and every fault expected'
  if (r.from !== 'kernel-answers') return 'every answer and every translation is explained'
  return r.answers.unjudged === 0
    ? 'every answer is explained'
    : 'every answer that can be judged is explained'
}

/** A trace may hold lines that are known, but of no call and no IOMMU. */
const holdsNothing = (r: ReplayResult): boolean =>
  r.vhost === undefined &&
  r.vtd === undefined &&
  r.ftrace === undefined &&
  r.from !== 'kernel-answers' &&
  r.answers.total + r.translations.total === 0

function verdictOf(r: ReplayResult, paint: Paint): string {
  if (!isClean(r)) {
    const findings = counted(r.findings.length + r.findingsDropped, 'finding')
    const alone = [
      ...some(r.vhost?.messages.unmatched, `, ${counted(r.vhost?.messages.unmatched ?? 0, 'message')}`),
      ...some(r.ftrace?.flushes.unmatched, `, ${counted(r.ftrace?.flushes.unmatched ?? 0, 'descriptor')}`),
    ].map((text) => `${text} without a partner`)
    return paint.red(`not clean: ${counted(divergencesOf(r), 'divergence')}, ${findings}${alone.join('')}`)
  }
  const more = isHalf(r) ? '\n(give the message log of the back end of the same run as well)' : ''
  if (holdsNothing(r))
    return `nothing to judge: the log has no hypercall and no translation of an IOMMU${more}`
  return paint.green(`clean: ${cleanWords(r)}, and no promise is broken`) + more
}

/** The trace is of a run with a vhost-user back end, whose own log is not there. */
const isHalf = (r: ReplayResult): boolean =>
  r.vhost === undefined && r.log.declared.some(({ name }) => name.startsWith('vhost_user_'))

/** The report of a replay as text of at most 100 columns. */
export function replayText(r: ReplayResult, paint: Paint): string {
  // A guest of sPAPR cannot do without hypercalls.
  const isX86 = [r.vtd, r.ftrace, r.vhost].some((part) => part !== undefined)
  const platform = isX86 && r.answers.total === 0 ? 'x86' : 'power'
  const options = { paint, dropped: r.findingsDropped, errataOf: knownErrata(r.profile, undefined, platform) }
  return [
    `${paint.bold(r.source)} replayed as ${r.profile}`,
    '',
    ...countLines(r),
    ...messageLines(r, paint),
    ...vtdLines(r),
    ...problemLines(r, paint),
    ...assumptionLines(r),
    ...judgedLines(r, options),
    verdictOf(r, paint),
    '',
  ].join('\n')
}

/** What came of a second log, and what that held. */
function partnerJson({ log, ...result }: { readonly log: LogSummary }): object {
  const { lines, bytes, events, unknown, damaged, empty, truncated } = log
  return {
    log: {
      lines,
      bytes,
      events,
      unknown: unknown.reduce((n, u) => n + u.count, 0),
      damaged: damaged.count,
      empty,
      truncated,
      damagedLines: damaged.first,
    },
    ...result,
  }
}

/** The report as one object: fields are added, never renamed, without a new schema number. */
export function replayJson(r: ReplayResult): object {
  const { log } = r
  const { findings, dropped } = findingsJson(r.findings, r.findingsDropped)
  return {
    schema: 'iommulator/replay/1',
    source: r.source,
    from: r.from,
    profile: r.profile,
    clean: isClean(r),
    log: {
      lines: log.lines,
      bytes: log.bytes,
      events: log.events,
      unknown: log.unknown.reduce((n, u) => n + u.count, 0),
      damaged: log.damaged.count,
      empty: log.empty,
      ...(log.marks === undefined
        ? {}
        : { marks: log.marks, comments: log.comments, messages: log.messages, noise: log.noise }),
      truncated: log.truncated,
      eventsByName: log.declared,
      unknownByName: log.unknown,
      damagedLines: log.damaged.first,
    },
    answers: r.answers,
    unjudged: r.unjudged,
    translations: r.translations,
    entries: r.entries,
    assumptions: r.assumptions,
    divergences: r.divergences,
    findings,
    findingsDropped: dropped,
    verdicts: r.verdicts,
    ledger: ledgerJson(r.ledger),
    ...(r.vtd !== undefined && { vtd: r.vtd }),
    ...(r.tables !== undefined && { tables: r.tables }),
    ...(r.ftrace !== undefined && { ftrace: partnerJson(r.ftrace) }),
    ...(r.vhost !== undefined && { vhost: partnerJson(r.vhost) }),
  }
}
