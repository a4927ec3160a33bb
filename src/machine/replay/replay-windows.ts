import { hex } from '../../bits/u64.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import type { TceWindow } from '../../table/tce-window.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { INFERRED, Knowledge, SEEN, UNKNOWN } from './knowledge.ts'
import { isPciLiobn, type PseriesWindows, windowIndexOf } from './pseries-windows.ts'
import type { OpenAssumption, Tally } from './tally.ts'

/** What the replay knows of the window behind a LIOBN. */
export interface ReplayWindow {
  readonly liobn: number
  readonly table: SpaprTceTable
  /** The window that the table had when the replay took note of it. */
  readonly window: TceWindow
  readonly pageBytes: number
  knowledge: Knowledge
  /** The table lives in KVM: its hypercalls leave no line, so no value is certain. */
  readonly inKvm: boolean
}

/**
 * The windows of a log's machine, and what `spapr_iommu_new_table` lines mean for them.
 *
 * A new-table line says that a table was allocated, not why. Before a create or reset line it belongs to that;
 * for a LIOBN without a window it is the default window of a machine that starts; for an open window it is a
 * listener's arrival (the contents stay) or a reset of the machine (they do not). The line is kept until the
 * next one decides; the last case is an assumption that later lines confirm or contradict.
 */
export class ReplayWindows {
  /** By LIOBN as an int32: most are above 2^31, and a number there is allocated and hashed for each look-up. */
  readonly #byLiobn = new Map<number, ReplayWindow>()
  /** New-table lines whose reason the next line will show, in order. */
  #pending: { readonly liobn: number; readonly line: number; readonly inKvm: boolean }[] = []
  readonly #seen = new Set<number>()
  readonly #moved = new Map<number, OpenAssumption>()
  readonly #units: PseriesWindows
  readonly #tally: Tally
  readonly #log: RecordLog

  constructor(units: PseriesWindows, tally: Tally, log: RecordLog) {
    this.#units = units
    this.#tally = tally
    this.#log = log
  }

  get hasPending(): boolean {
    return this.#pending.length > 0
  }

  /** The window of a LIOBN, or undefined where the log has shown none. */
  find(liobn: number): ReplayWindow | undefined {
    const found = this.#byLiobn.get(liobn | 0)
    if (found !== undefined && found.table.window === found.window) return found
    const now = this.#units.windowOf(liobn)
    if (now === undefined) {
      if (found !== undefined) this.#byLiobn.delete(liobn | 0)
      return undefined
    }
    return this.adopt(liobn, SEEN, false)
  }

  /** Whether a LIOBN ever had a window in this log. */
  hasSeen(liobn: number): boolean {
    return this.#seen.has(liobn)
  }

  /** Takes note of the window that the units have for a LIOBN now. */
  adopt(liobn: number, how: 0 | 1 | 2, inKvm: boolean): ReplayWindow | undefined {
    const table = this.#units.liobns.find(0, liobn | 0)
    const window = table?.window ?? undefined
    if (table === undefined || window === undefined) return undefined
    const pageBytes = 2 ** window.pageShift
    const knowledge = new Knowledge(inKvm ? UNKNOWN : how)
    const made: ReplayWindow = { liobn, table, window, pageBytes, knowledge, inKvm }
    if (how === UNKNOWN || inKvm) this.#tellUnknown(window)
    this.#byLiobn.set(liobn | 0, made)
    this.#seen.add(liobn)
    return made
  }

  /** Says in a record that nothing is known of a window's entries, so that no rule judges by what they are not. */
  #tellUnknown(window: TceWindow): void {
    const { number, entries } = window
    this.#log.emit('tce.set', null, {
      window: number,
      first: 0,
      count: entries,
      tce: 0n,
      step: -1,
      how: UNKNOWN,
    })
  }

  /** A line names a LIOBN whose window the log has not shown: the default one, with unknown contents. */
  assumeDefault(liobn: number, line: number): ReplayWindow | undefined {
    if (isPciLiobn(liobn) && windowIndexOf(liobn) !== 0) return undefined
    this.#units.openDefault(liobn)
    const made = this.adopt(liobn, UNKNOWN, false)
    if (made !== undefined) {
      this.#tally.assume(line, `LIOBN ${hex(liobn)} is a default window, made before the log begins`)
    }
    return made
  }

  /** A line that may have changed any table is lost: all that was seen is only inferred from here on. */
  demote(): void {
    for (const open of this.#byLiobn.values()) open.knowledge.demote()
  }

  newTable(liobn: number, line: number, inKvm: boolean): void {
    this.#pending.push({ liobn, line, inKvm })
  }

  /** The pending line of a LIOBN belongs to the create or reset that is replayed now: forget it. */
  claim(liobn: number): { readonly inKvm: boolean } | undefined {
    const claimed = this.#pending.find((p) => p.liobn === liobn)
    this.#pending = this.#pending.filter((p) => p !== claimed)
    return claimed
  }

  /** A table came in by migration: the line shows its shape; what its entries hold, nothing shows. */
  load(t: { line: number; liobn: number; entries: number; busOffset: bigint; pageShift: number }): void {
    const shape = { pageShift: t.pageShift, busOffset: t.busOffset, entries: t.entries }
    if (!this.#units.open(t.liobn, shape)) return
    this.adopt(t.liobn, UNKNOWN, false)
    this.#tally.assume(
      t.line,
      `LIOBN ${hex(t.liobn)} came in by migration with contents that the log does not show`,
    )
  }

  /** No create or reset came: decide what the pending lines were. */
  settle(): void {
    const pending = this.#pending
    this.#pending = []
    for (const { liobn, line, inKvm } of pending) {
      const open = this.find(liobn)
      if (open === undefined) this.#openFresh(liobn, line, inKvm)
      else this.#move(open, line)
    }
  }

  #openFresh(liobn: number, line: number, inKvm: boolean): void {
    if (isPciLiobn(liobn) && windowIndexOf(liobn) !== 0) {
      this.#tally.assume(line, `a table for LIOBN ${hex(liobn)} was made; the log does not show its window`)
      return
    }
    this.#units.openDefault(liobn)
    const made = this.adopt(liobn, SEEN, inKvm)
    if (made === undefined) return
    const { entries, pageShift } = made.window
    const shape = `${entries} entries of ${hex(2 ** pageShift)} bytes at ${hex(made.window.busOffset)}`
    this.#tally.assume(line, `LIOBN ${hex(liobn)} is the default window: ${shape}`)
    if (inKvm) this.#tally.assume(line, `LIOBN ${hex(liobn)} is handled in KVM: its hypercalls leave no line`)
  }

  #move(open: ReplayWindow, line: number): void {
    const { window } = open
    this.#log.emit('window.move', null, { window: window.number, liobn: open.liobn, how: INFERRED })
    this.#moved.set(
      open.liobn,
      this.#tally.assume(
        line,
        `the table of LIOBN ${hex(open.liobn)} moved for a listener and kept its contents`,
      ),
    )
  }

  /** Whether it is still open if the window's table kept its contents. */
  hasMoved(liobn: number): boolean {
    return this.#moved.size > 0 && this.#moved.has(liobn)
  }

  /** A line shows whether the table kept its contents. If not, nothing is known of it from here on. */
  moveShown(open: ReplayWindow, kept: boolean): void {
    const assumption = this.#moved.get(open.liobn)
    if (assumption === undefined) return
    assumption.state = kept ? 'confirmed' : 'contradicted'
    if (!kept) {
      open.knowledge = new Knowledge(UNKNOWN)
      this.#tellUnknown(open.window)
    }
    this.#moved.delete(open.liobn)
  }
}
