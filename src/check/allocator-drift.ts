import { hex } from '../bits/u64.ts'
import { type EventKind, KIND } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { busAddress } from './describe.ts'
import { because, refusalNear } from './evidence.ts'
import { type JointRun, jointRuns } from './joint-runs.ts'
import { type CheckerOptions, ListedChecker } from './listed-checker.ts'
import { INFERRED, LIVE, NO_RECORD, RESERVED, UNKNOWN } from './lives.ts'
import type { RuleId } from './rules.ts'
import type { Use, UseWatcher } from './uses.ts'
import type { WindowShadow } from './window-shadow.ts'
import { counted } from './words.ts'

const RULE = 'allocator-drift'
/** What is wrong with an entry: part of the key of a finding. */
const LIVE_BUT_FREE = 1
const GRANTED_BUT_CLEAR = 2
const USED_BUT_CLEAR = 3

/** Entries of a window, and the record that shows what is wrong with them. */
interface Place {
  readonly log: RecordLog
  readonly seq: number
  readonly window: WindowShadow
  readonly first: number
  readonly count: number
}

/** The records that led to it. */
interface Causes {
  readonly by: number
  readonly ended: number
}

/**
 * Judges `allocator-drift` in windows that have an allocator, at the end of a run:
 * a live entry that is marked free; a granted entry that is not live (the driver holds a bus address that
 * nothing translates); an entry that is marked used, neither live nor granted (lost). The second also when a
 * device is refused there.
 */
export class AllocatorDrift extends ListedChecker implements UseWatcher {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['alloc.take', 'run.end']
  #log: RecordLog | undefined
  #isOver = false

  constructor(options: CheckerOptions) {
    super(options)
    options.uses.watch(this)
  }

  see(log: RecordLog, seq: number): void {
    this.#log = log
    this.#isOver = log.kindNumberOf(seq) === KIND['run.end']
    if (this.#isOver) this.#compare(log, seq)
  }

  override finish(): void {
    if (this.#log !== undefined && !this.#isOver) this.#compare(this.#log, this.#log.length - 1)
    this.#isOver = true
  }

  used({ log, seq, window, entry, isAllowed }: Use): void {
    const { alloc, grants, tce } = window
    if (isAllowed || alloc === undefined || grants === undefined) return
    grants.loadAt(entry)
    tce.loadAt(entry)
    if ((grants.state & LIVE) === 0 || (tce.state & (LIVE | UNKNOWN)) !== 0) return
    this.#unset({ log, seq, window, first: entry, count: 1 }, { by: grants.begun, ended: tce.ended })
  }

  #compare(log: RecordLog, seq: number): void {
    for (const window of this.windows.all()) {
      if (window.alloc === undefined) continue
      for (const run of jointRuns([window.tce, window.alloc, window.grants])) {
        this.#judge({ log, seq, window, first: run.first, count: run.count }, run.parts)
      }
    }
  }

  #judge(place: Place, [tce, alloc, grant]: JointRun['parts']): void {
    const [held, used, granted] = [tce?.state ?? 0, alloc?.state ?? 0, grant?.state ?? 0]
    const clearedBy = tce?.ended ?? NO_RECORD
    if ((held & UNKNOWN) !== 0) this.list.skipped += place.count
    else if ((held & LIVE) !== 0) {
      const causes = { by: tce?.begun ?? NO_RECORD, ended: alloc?.ended ?? NO_RECORD }
      if ((used & LIVE) === 0) this.#free(place, causes, (held & INFERRED) !== 0)
    } else if ((granted & LIVE) !== 0) this.#unset(place, { by: grant?.begun ?? NO_RECORD, ended: clearedBy })
    else if ((used & LIVE) !== 0 && (used & RESERVED) === 0) {
      this.#lost(place, { by: alloc?.begun ?? NO_RECORD, ended: clearedBy })
    }
  }

  #free(place: Place, { by, ended }: Causes, inferred: boolean): void {
    const { log, seq, window, first, count } = place
    const key = { rule: RULE, window: window.number, entry: first, by, ended, outcome: LIVE_BUT_FREE }
    if (this.list.again(key)) return
    const message = `${entriesText(place)} live, and the allocator has ${count === 1 ? 'it' : 'them'} marked as free`
    this.list.add({ rule: RULE, message, because: because(this.scene(log), by, ended, seq), inferred })
  }

  /** One finding a grant, at a refused DMA or at the end. */
  #unset(place: Place, { by, ended }: Causes): void {
    const { log, seq, window } = place
    const outcome = GRANTED_BUT_CLEAR
    const key = { rule: RULE, window: window.number, entry: 0, by, ended: NO_RECORD, outcome }
    const isUse = log.kindOf(seq) === 'dma.translate'
    if ((!isUse && this.list.isKnown(key)) || this.list.again(key)) return
    const use = isUse ? '; a device was refused there' : ''
    const message = `${entriesText(place)} granted, and the table maps nothing there${use}`
    const refusal = ended === NO_RECORD ? refusalNear(log, by) : NO_RECORD
    const chain = because(this.scene(log), refusal, by, ended, seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false })
  }

  #lost(place: Place, { by, ended }: Causes): void {
    const { log, seq, window, first } = place
    const key = { rule: RULE, window: window.number, entry: first, by, ended, outcome: USED_BUT_CLEAR }
    if (this.list.again(key)) return
    const message = `${entriesText(place)} marked as used, and neither mapped nor granted`
    const chain = because(this.scene(log), refusalNear(log, by), by, ended, seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false })
  }
}

const entriesText = ({ window, first, count }: Place): string =>
  `${counted(count, 'entry', 'entries')} from bus address ${hex(busAddress(window, first))} ${count === 1 ? 'is' : 'are'}`
