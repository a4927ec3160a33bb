import { numberOf, pageOf, wordOf } from '../bits/u64.ts'
import { KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'

const SET = slotMap('tce.set')
const SEEN = slotMap('tce.seen')
const TCE_SET = KIND['tce.set']
const TCE_SEEN = KIND['tce.seen']
const UNIT_SHIFT = 12

/** What `memoryPageOf` answers where the record is no longer kept. */
export const NO_PAGE = -1

/** The raw entry that a `tce.set` or `tce.seen` record gave to an entry, or undefined where it is no longer kept. */
export function tceAt(log: RecordLog, record: number, entry: number): bigint | undefined {
  if (!log.has(record)) return undefined
  if (log.kindOf(record) === 'tce.seen') {
    return wordOf(log.slot(record, SEEN.tce + 1), log.slot(record, SEEN.tce))
  }
  const base = wordOf(log.slot(record, SET.tce + 1), log.slot(record, SET.tce))
  const step = log.slot(record, SET.step)
  const first = numberOf(log.slot(record, SET.first + 1), log.slot(record, SET.first))
  return step < 0 ? base : BigInt.asUintN(64, base + (BigInt(entry - first) << BigInt(step)))
}

/**
 * The 4 KiB page of memory at which the IOMMU page of an entry begins, as a `tce.set` or `tce.seen` record set
 * it; NO_PAGE where that is no longer kept. `units` is the IOMMU page in 4 KiB. Allocates nothing.
 */
export function memoryPageOf(log: RecordLog, record: number, entry: number, units: number): number {
  if (!log.has(record)) return NO_PAGE
  if (log.kindNumberOf(record) === TCE_SEEN) {
    const page = pageOf(log.slot(record, SEEN.tce + 1), log.slot(record, SEEN.tce), UNIT_SHIFT)
    return Math.floor(page / units) * units
  }
  const page = pageOf(log.slot(record, SET.tce + 1), log.slot(record, SET.tce), UNIT_SHIFT)
  const first = numberOf(log.slot(record, SET.first + 1), log.slot(record, SET.first))
  return Math.floor((page + (entry - first) * strideOf(log.slot(record, SET.step))) / units) * units
}

/** Distance of neighbours of a `tce.set` record in 4 KiB pages; the table of powers is for the hot path. */
const strideOf = (step: number): number => (step < 0 ? 0 : (POWERS[step] as number) / UNIT_BYTES)
const UNIT_BYTES = 2 ** UNIT_SHIFT
const POWERS = Float64Array.from({ length: 64 }, (_, shift) => 2 ** shift)

/** Whether a record maps neighbouring entries to neighbouring memory, or maps one entry. */
export const isRow = (log: RecordLog, record: number, count: number, pageShift: number): boolean =>
  count === 1 ||
  (log.has(record) && log.kindNumberOf(record) === TCE_SET && log.slot(record, SET.step) === pageShift)

/** Neighbouring entries that map neighbouring memory, in 4 KiB pages. */
export interface Extent {
  readonly first: number
  readonly count: number
  readonly page: number
  readonly pages: number
}

/** The memory behind `count` entries from `first` on, as a record set them; nothing where it is no longer kept. */
export function* extentsOf(
  log: RecordLog,
  record: number,
  entries: { readonly first: number; readonly count: number; readonly pageShift: number },
): Generator<Extent> {
  const { first, count, pageShift } = entries
  const units = 2 ** (pageShift - UNIT_SHIFT)
  if (isRow(log, record, count, pageShift)) {
    const page = memoryPageOf(log, record, first, units)
    if (page !== NO_PAGE) yield { first, count, page, pages: count * units }
    return
  }
  for (let entry = first; entry < first + count; entry++) {
    const page = memoryPageOf(log, record, entry, units)
    if (page === NO_PAGE) return
    yield { first: entry, count: 1, page, pages: units }
  }
}
