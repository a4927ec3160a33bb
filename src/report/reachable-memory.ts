import { LIVE, type LifeRun, type Lives } from '../check/lives.ts'
import { extentsOf } from '../check/tce-value.ts'
import type { WindowShadow } from '../check/window-shadow.ts'
import type { RecordLog } from '../trace/record-log.ts'

const UNIT_BYTES = 4096

/** Distinct memory behind the live entries of windows, and the live entries whose memory is not known. */
export function reachableMemory(
  log: RecordLog | undefined,
  windows: readonly WindowShadow[],
): { readonly reachableBytes: number; readonly unknownPages: number } {
  const spans: { start: number; end: number }[] = []
  let unknownPages = 0
  if (log === undefined) return { reachableBytes: 0, unknownPages }
  for (const shadow of windows) {
    for (const run of liveRuns(shadow.tce)) {
      let found = 0
      const entries = { first: run.first, count: run.count, pageShift: shadow.pageShift }
      for (const extent of extentsOf(log, run.begun, entries)) {
        spans.push({ start: extent.page, end: extent.page + extent.pages })
        found += extent.count
      }
      unknownPages += run.count - found
    }
  }
  return { reachableBytes: pagesOf(spans) * UNIT_BYTES, unknownPages }
}

function* liveRuns(lives: Lives): Generator<LifeRun> {
  for (const run of lives.runs()) if ((run.state & LIVE) !== 0) yield run
}

/** Pages in at least one of the spans. */
function pagesOf(spans: { start: number; end: number }[]): number {
  let pages = 0
  let reached = 0
  for (const { start, end } of spans.sort((a, b) => a.start - b.start)) {
    pages += Math.max(0, end - Math.max(start, reached))
    reached = Math.max(reached, end)
  }
  return pages
}
