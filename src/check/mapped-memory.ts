import type { RecordLog } from '../trace/record-log.ts'
import { LIVE, type LifeRun } from './lives.ts'
import { PageCounts } from './page-counts.ts'
import type { PageSpan } from './page-owners.ts'
import { type Extent, extentsOf, isRow, memoryPageOf, NO_PAGE } from './tce-value.ts'
import type { WindowShadow } from './window-shadow.ts'

/** Entries that are looked at one by one; a longer range is walked by its runs. */
const STEPS_MAX = 4096

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

  /** Entries [first, first + count) were set by a record, with some permission. Allocates nothing. */
  add(log: RecordLog, record: number, window: WindowShadow, first: number, count: number): void {
    this.#count(log, record, window, first, count, 1)
  }

  /** Entries [first, first + count) are about to be written: what they map now counts no more. */
  take(log: RecordLog, window: WindowShadow, first: number, count: number): void {
    const { tce } = window
    if (count > STEPS_MAX) {
      this.#countRuns(log, window, tce.runs(first, first + count), -1)
      return
    }
    const end = first + count
    for (let at = first; at < end; ) {
      tce.loadAt(at)
      const { begun, state } = tce
      let stop = at + 1
      for (; stop < end; stop++) {
        tce.loadAt(stop)
        if (tce.begun !== begun || tce.state !== state) break
      }
      if ((state & LIVE) !== 0) this.#count(log, begun, window, at, stop - at, -1)
      at = stop
    }
  }

  /** All that a window maps counts (1), or counts no more (-1). */
  window(log: RecordLog, window: WindowShadow, delta: 1 | -1): void {
    this.#countRuns(log, window, window.tce.runs(), delta)
  }

  #countRuns(log: RecordLog, window: WindowShadow, runs: Iterable<LifeRun>, delta: 1 | -1): void {
    for (const { first, count, state, begun } of runs) {
      if ((state & LIVE) !== 0) this.#count(log, begun, window, first, count, delta)
    }
  }

  #count(
    log: RecordLog,
    record: number,
    window: WindowShadow,
    first: number,
    count: number,
    delta: 1 | -1,
  ): void {
    const { units, pageShift } = window
    const isOne = isRow(log, record, count, pageShift)
    const stride = isOne ? count : 1
    for (let entry = first; entry < first + count; entry += stride) {
      const page = memoryPageOf(log, record, entry, units)
      if (page === NO_PAGE) return
      this.#counts.add(page, page + stride * units, delta)
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
