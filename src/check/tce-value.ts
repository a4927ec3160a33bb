import { numberOf, pageOf, wordOf } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'

const SET = slotMap('tce.set')
const SEEN = slotMap('tce.seen')
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
 * it; NO_PAGE where that is no longer kept. Allocates nothing.
 */
export function memoryPageOf(log: RecordLog, record: number, entry: number, pageShift: number): number {
  if (!log.has(record)) return NO_PAGE
  const units = 2 ** (pageShift - UNIT_SHIFT)
  if (log.kindOf(record) === 'tce.seen') {
    const page = pageOf(log.slot(record, SEEN.tce + 1), log.slot(record, SEEN.tce), UNIT_SHIFT)
    return Math.floor(page / units) * units
  }
  const step = log.slot(record, SET.step)
  const first = numberOf(log.slot(record, SET.first + 1), log.slot(record, SET.first))
  const page = pageOf(log.slot(record, SET.tce + 1), log.slot(record, SET.tce), UNIT_SHIFT)
  const there = page + (step < 0 ? 0 : (entry - first) * 2 ** (step - UNIT_SHIFT))
  return Math.floor(there / units) * units
}

/** Whether neighbours of a `tce.set` record map neighbouring memory. */
export const isContiguous = (log: RecordLog, record: number, pageShift: number): boolean =>
  log.has(record) && log.kindOf(record) === 'tce.set' && log.slot(record, SET.step) === pageShift

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
  if (count === 1 || isContiguous(log, record, pageShift)) {
    const page = memoryPageOf(log, record, first, pageShift)
    if (page !== NO_PAGE) yield { first, count, page, pages: count * units }
    return
  }
  for (let entry = first; entry < first + count; entry++) {
    const page = memoryPageOf(log, record, entry, pageShift)
    if (page === NO_PAGE) return
    yield { first: entry, count: 1, page, pages: units }
  }
}
