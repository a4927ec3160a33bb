import { type CodeFamily, codeName } from '../bits/codes.ts'
import { bytesText, counted } from '../check/words.ts'
import { domainSections } from './domain-ledger.ts'
import { hostSections } from './host-ledger-text.ts'
import { COLUMNS, table } from './layout.ts'
import type { CallCount, Ledger, WindowLedger } from './ledger.ts'
import { PLAIN, type TextOptions } from './text.ts'
import { vhostSections } from './vhost-ledger.ts'

/** The ledger as tables: windows, totals, run lengths, DMA, calls. Sections without content are left out. */
export function ledgerText(ledger: Ledger, options: TextOptions = {}): string[] {
  const { paint = PLAIN, columns = COLUMNS } = options
  const sections: readonly (readonly [title: string, lines: readonly string[]])[] = [
    ['windows', windowLines(ledger.windows, columns)],
    ['mappings', mappingLines(ledger, columns)],
    ['runs of pages mapped one behind the other', runLines(ledger)],
    ...domainSections(ledger.domains, ledger.vtdTranslations, columns),
    ...hostSections(ledger.host, columns),
    ...vhostSections(ledger.vhost, columns),
    ['DMA', dmaLines(ledger, columns)],
    ['calls', callLines(ledger.calls)],
  ]
  return sections
    .filter(([, lines]) => lines.length > 0)
    .flatMap(([title, lines], i) => [...(i === 0 ? [] : ['']), paint.bold(title), ...lines])
}

const WINDOW_HEAD = ['LIOBN', 'bus address', 'page', 'entries', 'mapped', 'unmapped', 'peak', 'live', '']

function windowLines(windows: readonly WindowLedger[], columns: number): string[] {
  if (windows.length === 0) return []
  const rows = windows.map((w) => [
    w.liobn,
    w.busOffset,
    bytesText(w.pageBytes),
    ...[w.entries, w.mapped, w.unmapped, w.peakPages, w.livePages].map(String),
    w.closedBy === null ? '' : `closed${w.why === '' ? '' : ` (${w.why})`}`,
  ])
  return table([WINDOW_HEAD, ...rows], { indent: 2, right: [2, 3, 4, 5, 6, 7], columns })
}

function mappingLines(l: Ledger, columns: number): string[] {
  // A POWER host has tables of its own instead of windows of a guest, and a VT-d unit those of domains.
  const hasVtd = l.domains.length > 0 || l.vtdTranslations.allowed + l.vtdTranslations.blocked > 0
  if (l.windows.length === 0 && (hasVtd || l.host.processes.length > 0)) return []
  const { known, inferred, unknown } = l.entries
  const { confirmed, contradicted, learned } = l.shown
  const rows: string[][] = [
    ['mapped', `${counted(l.mapped, 'page')} in ${counted(l.mapCalls, 'call')}`],
    [
      'unmapped',
      `${counted(l.unmapped, 'page')} in ${counted(l.unmapCalls, 'call')}` +
        (l.cleared > l.unmapped ? `, which cleared ${counted(l.cleared, 'entry', 'entries')}` : ''),
    ],
    ['peak', `${counted(l.peakPages, 'live page')}, ${bytesText(l.peakBytes)}`],
    ['at the end', `${counted(l.livePages, 'live page')}, ${bytesText(l.liveBytes)}`],
    ['reachable', `${bytesText(l.reachableBytes)} of memory at the end${unknownText(l.unknownPages)}`],
  ]
  if (inferred + unknown > 0) {
    rows.push(['entries written', `${known} known, ${inferred} inferred, ${unknown} unknown`])
    rows.push(['shown later', `${confirmed} as inferred, ${contradicted} otherwise, ${learned} learned`])
  }
  return table(rows, { indent: 2, columns })
}

const unknownText = (pages: number): string =>
  pages === 0 ? '' : `, and ${counted(pages, 'page')} that are not known`

const runLines = ({ runs }: Ledger): string[] =>
  table(
    runs.map((r) => [
      r.from === r.to ? `${r.from}` : `${r.from} to ${r.to}`,
      counted(r.runs, 'run'),
      counted(r.pages, 'page'),
    ]),
    { indent: 2, right: [0, 1, 2] },
  )

function dmaLines({ dma }: Ledger, columns: number): string[] {
  const rows: string[][] = []
  if (dma.requests > 0) {
    const kinds = `${counted(dma.reads, 'read')}, ${counted(dma.writes, 'write')}`
    rows.push(['requests', `${dma.requests}: ${kinds}, ${bytesText(dma.bytes)}`])
    for (const d of dma.byDevice) {
      rows.push([`  ${d.device || '?'}`, `${counted(d.requests, 'request')}, ${bytesText(d.bytes)}`])
    }
  }
  const uses = dma.allowed + dma.refused
  if (uses > 0) rows.push(['translations', `${uses}: ${dma.allowed} allowed, ${dma.refused} refused`])
  if (dma.outsideWindows > 0) rows.push(['outside', `${dma.outsideWindows} in no window`])
  return table(rows, { indent: 2, columns })
}

const callLines = (calls: readonly CallCount[]): string[] =>
  table(
    calls.map((c) => [c.call, c.layer, codeText(c), String(c.count)]),
    { indent: 2, right: [3] },
  )

/** Families of codes, by how the names of their calls begin; other calls of the guest are its kernel's. */
const FAMILIES: readonly (readonly [start: string, family: CodeFamily])[] = [
  ['H_', 'hcall'],
  ['ibm,', 'rtas'],
  ['KVM_', 'errno'],
  ['ats ', 'ats'],
  ['cpu ', 'errno'],
  ['dma ', 'dma'],
  ['iommu ', 'errno'],
  ['virtio ', 'errno'],
  ['mem ', 'errno'],
  ['mmio ', 'errno'],
  ['pri ', 'ats'],
  ['sva ', 'errno'],
  ['svm ', 'errno'],
  ['sys ', 'errno'],
  ['task ', 'errno'],
  ['tick ', 'errno'],
  ['vmm ', 'vmm'],
]

/** The code as its manual names it, where the call says which manual. */
function codeText({ call, layer, code }: CallCount): string {
  const found = FAMILIES.find(([start]) => call.startsWith(start))?.[1]
  const family =
    found ?? (layer === 'guest' ? 'driver' : layer === 'host' || layer === 'kernel' ? 'errno' : undefined)
  return (family === undefined ? undefined : codeName(family, code)) ?? String(code)
}
