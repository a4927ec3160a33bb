import { hex } from '../bits/u64.ts'
import { type EventKind, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { busAddress } from './describe.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { INFERRED, LIVE, type LifeRun } from './lives.ts'
import type { RuleId } from './rules.ts'
import { tceAt } from './tce-value.ts'
import type { WindowShadow } from './window-shadow.ts'
import { counted } from './words.ts'

const SET = slotMap('tce.set')
const TCE_PERM = 3n
const HOW_UNKNOWN = 2
/** Entries of one run that are compared one by one at most. */
const COMPARED_MAX = 4096

interface Overwritten {
  first: number
  count: number
  begun: number
  inferred: boolean
}

/** Judges `double-map`: a live entry that gets another live value. The same value again is none. */
export class DoubleMap extends ListedChecker {
  readonly rules: readonly RuleId[] = ['double-map']
  readonly kinds: readonly EventKind[] = ['tce.set']

  see(log: RecordLog, seq: number): void {
    const update = this.windows.update(log, seq)
    if (update === undefined || update.perm === 0 || update.how === HOW_UNKNOWN) return
    this.list.skipped += update.unknown
    if (update.live === 0) return
    const { window, first, end } = update
    this.#overwrites(log, seq, window, window.tce.runs(first, end))
  }

  #overwrites(log: RecordLog, seq: number, window: WindowShadow, runs: Iterable<LifeRun>): void {
    let hit: Overwritten | undefined
    for (const run of runs) {
      if ((run.state & LIVE) === 0) continue
      if (!log.has(run.begun)) {
        this.list.skipped += run.count
        continue
      }
      const differing = firstDifferent(log, run, seq, window.pageShift)
      if (differing < 0) continue
      hit ??= { first: differing, count: 0, begun: run.begun, inferred: log.slot(seq, SET.how) === 1 }
      hit.count += run.first + run.count - differing
      hit.inferred ||= (run.state & INFERRED) !== 0
    }
    if (hit !== undefined) this.#report(log, seq, window, hit)
  }

  #report(log: RecordLog, seq: number, window: WindowShadow, hit: Overwritten): void {
    const { first, count, begun, inferred } = hit
    const rule = 'double-map'
    if (this.list.again({ rule, window: window.number, entry: first, by: begun, ended: seq })) return
    const from = hex(tceAt(log, begun, first) ?? 0n)
    const to = hex(tceAt(log, seq, first) ?? 0n)
    const what = count === 1 ? 'a live entry was' : `${counted(count, 'live entry', 'live entries')} were`
    const message = `${what} overwritten at bus address ${hex(busAddress(window, first))}: ${from} became ${to}`
    this.list.add({ rule, message, because: because(this.scene(log), begun, seq), inferred })
  }
}

/** The first entry of a run that a later record gives another page or other permissions, or -1. */
function firstDifferent(log: RecordLog, run: LifeRun, seq: number, pageShift: number): number {
  const before = effective(log, run.begun, run.first, pageShift)
  if (before !== effective(log, seq, run.first, pageShift)) return run.first
  if (run.count === 1 || stepOf(log, run.begun) === stepOf(log, seq)) return -1
  const end = run.first + Math.min(run.count, COMPARED_MAX)
  for (let entry = run.first + 1; entry < end; entry++) {
    if (effective(log, run.begun, entry, pageShift) !== effective(log, seq, entry, pageShift)) return entry
  }
  return -1
}

const stepOf = (log: RecordLog, record: number): number =>
  log.kindOf(record) === 'tce.set' ? log.slot(record, SET.step) : -1

/** What of an entry takes part in a translation: its page and its permissions. */
function effective(log: RecordLog, record: number, entry: number, pageShift: number): bigint {
  const tce = tceAt(log, record, entry) ?? 0n
  return ((tce >> BigInt(pageShift)) << BigInt(pageShift)) | (tce & TCE_PERM)
}
