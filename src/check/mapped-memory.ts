import type { RecordLog } from '../trace/record-log.ts'
import { LIVE, type LifeRun } from './lives.ts'
import { PageCounts } from './page-counts.ts'
import type { PageSpan } from './page-owners.ts'
import { type Extent, extentsOf, memoryPageOf, NO_PAGE } from './tce-value.ts'
import type { WindowShadow } from './window-shadow.ts'

const UNIT_SHIFT = 12

/** A run of live entries, and the first stretch of memory behind it that was asked for. */
export interface Mapping {
  readonly window: WindowShadow
  readonly run: LifeRun
  readonly extent: Extent
}

/**
 * How many live entries map each 4 KiB page of memory. A quick answer to "does anything still map it?", so
 * that the tables are walked only where something does.
 */
export class MappedMemory {
  readonly #counts = new PageCounts()

  /** Whether a page of a span may be mapped by a window that is counted. */
  any({ start, end }: PageSpan): boolean {
    return this.#counts.any(start, end)
  }

  add({ page, pages }: Extent): void {
    this.#counts.add(page, page + pages, 1)
  }

  /** Entries [first, first + count) are about to be written: what they map now counts no more. */
  take(log: RecordLog, { tce, pageShift }: WindowShadow, first: number, count: number): void {
    if (count !== 1) {
      this.#countRuns(log, pageShift, tce.runs(first, first + count), -1)
      return
    }
    tce.loadAt(first)
    if ((tce.state & LIVE) === 0) return
    const page = memoryPageOf(log, tce.begun, first, pageShift)
    if (page !== NO_PAGE) this.#counts.add(page, page + 2 ** (pageShift - UNIT_SHIFT), -1)
  }

  /** All that a window maps counts (1), or counts no more (-1). */
  window(log: RecordLog, { tce, pageShift }: WindowShadow, delta: 1 | -1): void {
    this.#countRuns(log, pageShift, tce.runs(), delta)
  }

  #countRuns(log: RecordLog, pageShift: number, runs: Iterable<LifeRun>, delta: 1 | -1): void {
    for (const { first, count, state, begun } of runs) {
      if ((state & LIVE) === 0) continue
      for (const { page, pages } of extentsOf(log, begun, { first, count, pageShift })) {
        this.#counts.add(page, page + pages, delta)
      }
    }
  }
}

/** What maps a page of a span now: each run of entries that does, with the first stretch that does. */
export function* mappingsOf(
  log: RecordLog,
  windows: Iterable<WindowShadow>,
  span: PageSpan,
): Generator<Mapping> {
  for (const window of windows) {
    const { pageShift } = window
    for (const run of window.tce.runs()) {
      if ((run.state & LIVE) === 0) continue
      for (const extent of extentsOf(log, run.begun, { first: run.first, count: run.count, pageShift })) {
        if (extent.page >= span.end || extent.page + extent.pages <= span.start) continue
        yield { window, run, extent }
        break
      }
    }
  }
}
