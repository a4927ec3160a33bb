import { type EventKind, slotMap } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'
import { LIVE } from './lives.ts'
import { pageSlot, type WindowShadow, type WindowShadows } from './window-shadow.ts'

const T = slotMap('dma.translate')
const NEED = T.need
const ALLOWED = T.allowed
const ENTRY = T.entry

/** A translation that is not plainly granted and allowed. */
export interface Use {
  readonly log: RecordLog
  readonly seq: number
  readonly window: WindowShadow
  readonly entry: number
  /** Direction that the device needs; 0 where a log does not say. */
  readonly need: number
  readonly isAllowed: boolean
}

/** Wants to see every translation that led a device to memory through a hardware table. */
export interface ReachWatcher {
  reached(log: RecordLog, seq: number, window: WindowShadow): void
}

/** Wants to judge the translations that are not plainly granted and allowed. */
export interface UseWatcher {
  used(use: Use): void
}

/**
 * Sees every translation, once for all checkers: those that are granted and allowed, as nearly all are, are done
 * with here; the others go to the watchers. Counts all of them.
 */
export class Uses implements RecordSink {
  readonly kinds: readonly EventKind[] = ['dma.translate']
  /** Translations seen. */
  count = 0
  /** Of these, through windows that are not open as far as the log shows: nobody can judge them. */
  stray = 0
  strayRefused = 0
  /** Of these, through windows of PEs. */
  hardware = 0
  hardwareRefused = 0
  readonly #windows: WindowShadows
  readonly #watchers: UseWatcher[] = []
  readonly #reachWatchers: ReachWatcher[] = []

  constructor(windows: WindowShadows) {
    this.#windows = windows
  }

  watch(watcher: UseWatcher): void {
    this.#watchers.push(watcher)
  }

  watchReach(watcher: ReachWatcher): void {
    this.#reachWatchers.push(watcher)
  }

  see(log: RecordLog, seq: number): void {
    const lanes = log.lanesOf(seq)
    const row = log.rowOf(seq)
    const isAllowed = lanes[row + ALLOWED] === 1
    const need = lanes[row + NEED] as number
    const window = this.#windows.find((lanes[row] as number) >>> 0)
    this.count++
    if (window === undefined) {
      this.stray++
      if (!isAllowed) this.strayRefused++
      return
    }
    if (window.hardware !== undefined) {
      this.hardware++
      if (!isAllowed) this.hardwareRefused++
      if (window.isBypass) return
      if (isAllowed)
        for (let i = 0; i < this.#reachWatchers.length; i++)
          (this.#reachWatchers[i] as ReachWatcher).reached(log, seq, window)
    }
    const lives = window.grants ?? window.tce
    const state = lives.stateAt(lanes[row + ENTRY + 1] as number, lanes[row + ENTRY] as number)
    if (isAllowed) {
      window.allowed++
      if ((state & LIVE) !== 0 && (need & ~state) === 0) return
    } else window.refused++
    const use: Use = { log, seq, window, entry: pageSlot(log, seq, ENTRY), need, isAllowed }
    for (const watcher of this.#watchers) watcher.used(use)
  }
}
