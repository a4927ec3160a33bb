import { RangeMap } from '../bits/range-map.ts'
import { pageOf } from '../bits/u64.ts'
import { bytesText, counted } from '../check/words.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'
import { table } from './layout.ts'

const MAP = slotMap('domain.map')
const UNMAP = slotMap('domain.unmap')
const TRANSLATE = slotMap('vtd.translate')
const PAGE_SHIFT = 12
const PAGE_BYTES = 4096

/** What page tables of a domain of a VT-d unit mapped, in 4 KiB pages. */
export interface DomainLedger {
  readonly domain: number
  readonly mapCalls: number
  readonly mapped: number
  readonly unmapCalls: number
  readonly unmapped: number
  /** Pages that are mapped: the most at one time, and at the end. */
  readonly peakPages: number
  readonly livePages: number
}

/** Requests that VT-d units translated. */
export interface TranslationLedger {
  readonly allowed: number
  readonly blocked: number
}

type Row = { -readonly [K in keyof Omit<DomainLedger, 'domain' | 'livePages'>]: DomainLedger[K] } & {
  readonly live: RangeMap
}

/** Counts what records say of the domains of VT-d units. */
export class DomainCounter implements RecordSink {
  readonly kinds: readonly EventKind[] = ['domain.map', 'domain.unmap', 'vtd.translate']
  readonly #rows = new Map<number, Row>()
  #allowed = 0
  #blocked = 0

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.translate']) {
      if (log.slot(seq, TRANSLATE.fault) === 0) this.#allowed++
      else this.#blocked++
    } else if (kind === KIND['domain.map']) this.#map(log, seq)
    else this.#unmap(log, seq)
  }

  #rowOf(domain: number): Row {
    let row = this.#rows.get(domain)
    if (row === undefined) {
      row = { mapCalls: 0, mapped: 0, unmapCalls: 0, unmapped: 0, peakPages: 0, live: new RangeMap() }
      this.#rows.set(domain, row)
    }
    return row
  }

  #map(log: RecordLog, seq: number): void {
    const row = this.#rowOf(log.slot(seq, MAP.domain) >>> 0)
    const { first, pages } = spanOf(log, seq, MAP.iova, MAP.bytes)
    if (pages === 0) return
    row.mapCalls++
    row.mapped += pages
    row.live.set(first, first + pages, 1)
    row.peakPages = Math.max(row.peakPages, row.live.pages)
  }

  #unmap(log: RecordLog, seq: number): void {
    const row = this.#rowOf(log.slot(seq, UNMAP.domain) >>> 0)
    const { first, pages } = spanOf(log, seq, UNMAP.iova, UNMAP.bytes)
    const before = row.live.pages
    if (pages === 0) row.live.erase(0, Number.MAX_SAFE_INTEGER)
    else row.live.erase(first, first + pages)
    row.unmapCalls++
    row.unmapped += before - row.live.pages
  }

  ledger(): { readonly domains: readonly DomainLedger[]; readonly translations: TranslationLedger } {
    const domains = [...this.#rows]
      .sort(([a], [b]) => a - b)
      .map(([domain, { live, ...row }]) => ({ domain, ...row, livePages: live.pages }))
    return { domains, translations: { allowed: this.#allowed, blocked: this.#blocked } }
  }
}

function spanOf(log: RecordLog, seq: number, iova: number, bytes: number) {
  const first = pageOf(log.slot(seq, iova + 1), log.slot(seq, iova), PAGE_SHIFT)
  return { first, pages: pageOf(log.slot(seq, bytes + 1), log.slot(seq, bytes), PAGE_SHIFT) }
}

const HEAD = ['domain', 'mapped', 'calls', 'unmapped', 'calls', 'peak', 'at the end', '']
/** Domains that are shown; a guest with more is one that gives each device its own. */
const ROWS_MOST = 64

/** Sections of the ledger about the domains of VT-d units; those without content are empty. */
export function domainSections(
  domains: readonly DomainLedger[],
  { allowed, blocked }: TranslationLedger,
  columns: number,
): readonly (readonly [title: string, lines: readonly string[]])[] {
  const rows = domains
    .slice(0, ROWS_MOST)
    .map((d) => [
      ...[d.domain, d.mapped, d.mapCalls, d.unmapped, d.unmapCalls, d.peakPages, d.livePages].map(String),
      bytesText(d.livePages * PAGE_BYTES),
    ])
  const more = domains.length - ROWS_MOST
  const lines = table([HEAD, ...rows], { indent: 2, right: [0, 1, 2, 3, 4, 5, 6, 7], columns })
  return [
    [
      'pages in the tables of domains',
      rows.length === 0 ? [] : [...lines, ...(more > 0 ? [`  and ${counted(more, 'more domain')}`] : [])],
    ],
    [
      'requests that the unit translated',
      allowed + blocked === 0 ? [] : [`  ${allowed + blocked}: ${allowed} allowed, ${blocked} blocked`],
    ],
  ]
}
