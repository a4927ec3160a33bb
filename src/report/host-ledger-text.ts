import { bytesText, counted } from '../check/words.ts'
import type {
  CacheLedger,
  HostLedger,
  PeLedger,
  ProcessLedger,
  RegionLedger,
  TableLedger,
} from './host-ledger.ts'
import { table } from './layout.ts'

type Section = readonly [title: string, lines: readonly string[]]

const PROCESS_HEAD = ['process', 'locked: peak', 'at the end', 'pinned: peak', 'at the end']

const processLines = (processes: readonly ProcessLedger[]): string[] =>
  table(
    [
      PROCESS_HEAD,
      ...processes.map((p) => [
        p.process,
        ...[p.lockedPeakPages, p.lockedPages, p.pinnedPeakPages, p.pinnedPages].map((n) =>
          counted(n, 'page'),
        ),
      ]),
    ],
    { indent: 2, right: [1, 2, 3, 4] },
  )

const REGION_HEAD = ['process', 'address', 'pages', 'IOMMU pages to', 'mapped: peak', 'at the end', '']

const regionLines = (regions: readonly RegionLedger[], columns: number): string[] =>
  table(
    [
      REGION_HEAD,
      ...regions.map((r) => [
        r.process,
        r.ua,
        String(r.pages),
        r.pageBytes === 0 ? '?' : bytesText(r.pageBytes),
        String(r.mappedPeak),
        String(r.mapped),
        r.used === 0 ? 'given back' : counted(r.used, 'registration'),
      ]),
    ],
    { indent: 2, right: [2, 3, 4, 5], columns },
  )

const TABLE_HEAD = [
  'bus address',
  'page',
  'entries',
  'levels',
  'charged',
  'mapped',
  'unmapped',
  'peak',
  'live',
  '',
]

const tableLines = (tables: readonly TableLedger[], columns: number): string[] =>
  table(
    [
      TABLE_HEAD,
      ...tables.map((t) => [
        t.busOffset,
        bytesText(t.pageBytes),
        String(t.entries),
        String(t.levels),
        bytesText(t.chargedBytes),
        ...[t.mapped, t.unmapped, t.peakPages, t.livePages].map(String),
        [t.pes.join(', '), t.isFreed ? '' : 'still there'].filter((w) => w !== '').join('; '),
      ]),
    ],
    { indent: 2, right: [1, 2, 3, 4, 5, 6, 7, 8], columns },
  )

const CACHE_HEAD = ['PHB', 'fills', 'kills: pages', 'PE', 'all', 'made room', 'stores', 'firmware calls']

const cacheLines = (caches: readonly CacheLedger[]): string[] =>
  table(
    [
      CACHE_HEAD,
      ...caches.map((c) => [
        c.unit,
        ...[c.fills, c.pageKills, c.peKills, c.allKills, c.evictions, c.stores, c.firmwareCalls].map(String),
      ]),
    ],
    { indent: 2, right: [1, 2, 3, 4, 5, 6, 7] },
  )

const peLines = (pes: readonly PeLedger[], columns: number): string[] =>
  table(
    pes.map((p) => [
      p.unit,
      `PE ${p.pe}`,
      `frozen ${counted(p.freezes, 'time')}`,
      p.isFrozen ? `still, by: ${p.why}` : `last by: ${p.why}`,
    ]),
    { indent: 2, columns },
  )

/** What a POWER host shows, as sections of a ledger; those without content have no lines. */
export function hostSections(host: HostLedger, columns: number): readonly Section[] {
  const { processes, regions, tables, caches, pes } = host
  return [
    ['locked and pinned memory', processes.length === 0 ? [] : processLines(processes)],
    ['preregistered memory', regions.length === 0 ? [] : regionLines(regions, columns)],
    ['hardware tables', tables.length === 0 ? [] : tableLines(tables, columns)],
    ['TCE caches', caches.length === 0 ? [] : cacheLines(caches)],
    ['frozen PEs', peLines(pes, columns)],
  ]
}
