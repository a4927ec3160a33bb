import { RangeMap } from '../bits/range-map.ts'
import { hex } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { busAddress } from './describe.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import { EVER, type LifeRun, NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import { pageSlot, type TceUpdate, type WindowShadow } from './window-shadow.ts'
import { counted } from './words.ts'

const TCE_SET = KIND['tce.set']
const HOW_UNKNOWN = 2
const REVOKE = slotMap('dma.revoke')
const END = slotMap('run.end')
const RULE = 'unmap-miss'
const NO_SWEEP = -1
/** Suspects of one sweep that are kept; the rest would not be kept as findings either. */
const SUSPECTS_MAX = 1000

interface Suspect {
  readonly seq: number
  readonly first: number
  readonly count: number
  readonly mappedBy: number
  readonly clearedBy: number
}

/** What one window has seen of clears. */
class Clears {
  readonly window: WindowShadow
  /** Entries that were cleared at least once while nothing was there. */
  readonly initialised = new RangeMap()
  /** Where the run of clears that began at entry 0 has come to. */
  sweepEnd = NO_SWEEP
  sweepCalls = 0
  suspects: Suspect[] = []

  constructor(window: WindowShadow) {
    this.window = window
  }
}

/**
 * Judges `unmap-miss`: a clear of entries none of which is live, or a revoke of what is not granted.
 *
 * A table is cleared when it is set up, by a run of clears from its first entry to its last without a gap;
 * those are none, in a kernel started by another one too. Nor is the first clear of an entry that nobody has
 * mapped or cleared yet, the undo of a failed map (the allocator still holds the entries), or the clear of a
 * range of a direct window. So a clear inside a run from entry 0 is a suspect until the run ends.
 */
export class UnmapMiss extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['tce.set', 'dma.revoke', 'window.close', 'run.end']
  readonly #clears = new Map<number, Clears>()
  #last: Clears | undefined
  #log: RecordLog | undefined

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['run.end']) {
      this.#endOf(log, log.slot(seq, END.settled) === 1)
      return
    }
    if (kind === TCE_SET) {
      const update = this.windows.update(log, seq)
      if (update !== undefined) this.#set(log, seq, update)
      return
    }
    const window = this.windows.find(log.slot(seq, 0) >>> 0)
    if (window === undefined) return
    if (kind === KIND['dma.revoke']) this.#revoke(log, seq, window)
    else {
      const clears = this.#clears.get(window.number)
      if (clears !== undefined) this.#settle(log, window, clears)
      this.#clears.delete(window.number)
      this.#last = undefined
    }
  }

  override finish(): void {
    if (this.#log !== undefined) this.#endOf(this.#log, false)
  }

  #set(log: RecordLog, seq: number, update: TceUpdate): void {
    this.#log = log
    const { window, first, end, perm, how } = update
    const isClear = perm === 0 && how !== HOW_UNKNOWN
    const clears = this.#clearsOf(window, isClear && first < end)
    if (clears === undefined) return
    if (!isClear) {
      if (clears.sweepEnd !== NO_SWEEP) this.#settle(log, window, clears)
      return
    }
    if (first >= end) return
    if (first !== clears.sweepEnd) {
      if (clears.sweepEnd !== NO_SWEEP) this.#settle(log, window, clears)
      if (first === 0) clears.sweepEnd = 0
    }
    const suspect = this.#suspect(seq, update, clears)
    if (clears.sweepEnd === NO_SWEEP) {
      if (suspect !== undefined) this.#report(log, window, suspect)
      return
    }
    if (suspect !== undefined && clears.suspects.length < SUSPECTS_MAX) clears.suspects.push(suspect)
    clears.sweepEnd = end
    clears.sweepCalls++
    if (end === window.entries) this.#forget(clears)
  }

  /** The clears of a window; made where `isNeeded` and there are none. */
  #clearsOf(window: WindowShadow, isNeeded: boolean): Clears | undefined {
    if (this.#last?.window === window) return this.#last
    let clears = this.#clears.get(window.number)
    if (clears === undefined && isNeeded) {
      clears = new Clears(window)
      this.#clears.set(window.number, clears)
    }
    this.#last = clears
    return clears
  }

  /** Whether a clear takes back nothing that was there; remembers what it initialises. */
  #suspect(seq: number, update: TceUpdate, clears: Clears): Suspect | undefined {
    const { window, first, end, live, unknown, ever } = update
    const { tce, alloc } = window
    this.list.skipped += unknown
    if (live > 0 || unknown > 0) return undefined
    if (ever < end - first && !clears.initialised.covers(first, end)) {
      clears.initialised.set(first, end, 1)
      return undefined
    }
    if (window.isDirect) return undefined
    alloc?.scan(first, end)
    if (alloc !== undefined && alloc.scannedLive > 0) return undefined
    let last: LifeRun | undefined
    if (ever > 0) for (const run of tce.runs(first, end)) if ((run.state & EVER) !== 0) last ??= run
    const [mappedBy, clearedBy] = [last?.begun ?? NO_RECORD, last?.ended ?? NO_RECORD]
    return { seq, first, count: end - first, mappedBy, clearedBy }
  }

  /** The run of clears from entry 0 is over without having reached the last entry: its suspects are findings. */
  #settle(log: RecordLog, window: WindowShadow, clears: Clears): void {
    for (const suspect of clears.suspects) this.#report(log, window, suspect)
    this.#forget(clears)
  }

  #forget(clears: Clears): void {
    if (clears.suspects.length > 0) clears.suspects = []
    clears.sweepEnd = NO_SWEEP
    clears.sweepCalls = 0
  }

  /** A log may end in the middle of a sweep; a settled run, or a single clear, is no sweep. */
  #endOf(log: RecordLog, isSettled: boolean): void {
    for (const [number, clears] of this.#clears) {
      const window = this.windows.find(number)
      if (window === undefined) continue
      if (isSettled || clears.sweepCalls === 1) this.#settle(log, window, clears)
      else this.#forget(clears)
    }
  }

  #report(log: RecordLog, window: WindowShadow, suspect: Suspect): void {
    const { seq, first, count, mappedBy, clearedBy } = suspect
    if (this.list.again({ rule: RULE, window: window.number, entry: first, by: mappedBy, ended: clearedBy }))
      return
    const bus = hex(busAddress(window, first))
    const what = counted(count, 'entry', 'entries')
    const isOne = count === 1
    const state =
      mappedBy === NO_RECORD
        ? `${isOne ? 'was' : 'were'} never mapped`
        : `${isOne ? 'is' : 'are'} not mapped any more`
    const message = `an unmap of ${what} from bus address ${bus} that ${state}`
    const chain = because(this.scene(log), mappedBy, clearedBy, seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false })
  }

  #revoke(log: RecordLog, seq: number, window: WindowShadow): void {
    const first = pageSlot(log, seq, REVOKE.first)
    const count = pageSlot(log, seq, REVOKE.count)
    if (count === 0) return
    const { grants } = window
    grants?.scan(first, first + count)
    const granted = grants?.scannedLive ?? 0
    if (granted === count) return
    let run: LifeRun | undefined
    for (const r of grants?.runs(first, first + count) ?? []) run ??= r
    const [by, ended] = [run?.begun ?? NO_RECORD, run?.ended ?? NO_RECORD]
    if (this.list.again({ rule: RULE, window: window.number, entry: first, by, ended, outcome: 1 })) return
    const bus = hex(busAddress(window, first))
    const message =
      granted === 0
        ? `an unmap at bus address ${bus}, where nothing is granted${by === NO_RECORD ? '' : ' any more'}`
        : `an unmap of ${counted(count, 'entry', 'entries')} from bus address ${bus}, of which ${granted} ${granted === 1 ? 'is' : 'are'} granted`
    const chain = because(this.scene(log), by, ended, seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false })
  }
}
