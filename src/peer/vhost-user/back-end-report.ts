import type { Finding, Verdict } from '../../check/rule.ts'
import { bytesText, counted } from '../../check/words.ts'
import type { Divergence } from '../../machine/replay/result.ts'
import type { VhostResult } from '../../machine/replay/vhost/message-tally.ts'
import { findingsJson } from '../../report/json.ts'
import { COLUMNS, table, wrapped } from '../../report/layout.ts'
import { findingsText, type Paint, verdictsText } from '../../report/text.ts'
import { type VhostLedger, vhostSections } from '../../report/vhost-ledger.ts'
import type { BackEndCounts } from './counts.ts'

/** What a back end did, and what is to be said of it. */
export interface BackEndResult {
  readonly socket: string
  readonly disk: string
  readonly counts: BackEndCounts
  readonly ledger: VhostLedger
  readonly findings: readonly Finding[]
  readonly findingsDropped: number
  readonly verdicts: readonly Verdict[]
  /** What the trace of QEMU says, where it was read beside. */
  readonly joined: (VhostResult & { readonly divergences: readonly Divergence[] }) | undefined
  /** What front ends broke, in the order in which they did. */
  readonly faults: readonly string[]
}

const DIVERGENCES_SHOWN = 10

export const isResultClean = (r: BackEndResult): boolean =>
  r.findings.length + r.findingsDropped + (r.joined?.divergences.length ?? 0) === 0

function countLines({ counts: c }: BackEndResult): string[] {
  const rows = [
    ['front ends', `${c.sessions}`],
    ['requests', `${c.requests}, which moved ${bytesText(c.bytes)}`],
    [
      'IOTLB',
      `${counted(c.hits, 'hit')}, ${counted(c.misses, 'miss', 'misses')}, ${c.unanswered} unanswered`,
    ],
    ['messages', `${counted(c.updates, 'UPDATE')}, ${counted(c.invalidations, 'INVALIDATE')}`],
    ...(c.refusals > 0 ? [['refused', counted(c.refusals, 'access', 'accesses')]] : []),
  ]
  return table(rows, { indent: 2 })
}

/** Messages that the trace explains, flushes by what came of them, and what does not go together. */
function joinedLines({ joined }: BackEndResult, paint: Paint): string[] {
  if (joined === undefined) return []
  const { messages, flushes, divergences } = joined
  const shown = divergences.slice(0, DIVERGENCES_SHOWN)
  const more = divergences.length - shown.length
  return [
    '',
    paint.bold("QEMU's trace beside it"),
    ...table(
      [
        ['messages', `${messages.total}: ${messages.matched} matched, ${messages.unmatched} unmatched`],
        ...flushes.map(({ why, count }) => [why, `${count}`]),
      ],
      { indent: 2 },
    ),
    ...shown.flatMap((d) =>
      wrapped(`  line ${d.line}  `, `${d.call}: the log has ${d.log}; the model ${d.model} (${d.rule})`),
    ),
    ...(more > 0 ? [`  ... and ${more} more (--json has them)`] : []),
  ]
}

/** The report as text of at most 100 columns. */
export function backEndText(r: BackEndResult, paint: Paint): string {
  const options = { paint, dropped: r.findingsDropped }
  const sections = vhostSections(r.ledger, COLUMNS).filter(([, lines]) => lines.length > 0)
  return [
    `${paint.bold(r.disk)} was served over ${r.socket}`,
    '',
    ...countLines(r),
    ...(r.faults.length > 0 ? ['', paint.red('front ends broke'), ...r.faults.map((f) => `  ${f}`)] : []),
    ...joinedLines(r, paint),
    ...sections.flatMap(([title, lines]) => ['', paint.bold(title), ...lines]),
    '',
    paint.bold('promises'),
    ...verdictsText(r.verdicts, options).map((l) => `  ${l}`),
    '',
    ...findingsText(r.findings, options),
    '',
  ].join('\n')
}

/** The report as one object: fields are added, never renamed, without a new schema number. */
export function backEndJson(r: BackEndResult): object {
  const { findings, dropped } = findingsJson(r.findings, r.findingsDropped)
  return {
    schema: 'iommulator/vhost-user/1',
    socket: r.socket,
    disk: r.disk,
    clean: isResultClean(r),
    counts: { ...r.counts },
    faults: r.faults,
    findings,
    findingsDropped: dropped,
    verdicts: r.verdicts,
    vhost: r.ledger,
    joined: r.joined ?? null,
  }
}

/** A count in a few characters. */
function short(count: number): string {
  if (count < 100_000) return String(count)
  return count < 10_000_000 ? `${Math.floor(count / 1000)}k` : `${Math.floor(count / 1_000_000)}M`
}

/** What is shown while it runs: one line of a terminal. @param counts their bytes are those of the last seconds */
export function liveLine(counts: BackEndCounts, entries: number, seconds: number, findings: number): string {
  const { requests, bytes, hits, misses, invalidations } = counts
  const rate = (bytes / 1e6 / Math.max(0.001, seconds)).toFixed(1)
  const iotlb = `${short(entries)} maps, ${short(hits)} hits, ${short(misses)} misses, ${short(invalidations)} invalidated`
  return `${short(requests)} requests, ${rate} MB/s; ${iotlb}; ${counted(findings, 'finding')}`
}
