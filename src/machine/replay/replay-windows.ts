import { hex } from '../../bits/u64.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import { TCE_PERM } from '../../table/tce-entry.ts'
import type { TceWindow } from '../../table/tce-window.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { INFERRED, Knowledge, SEEN, UNKNOWN } from './knowledge.ts'
import { isPciLiobn, type PseriesWindows, phbIndexOf, windowIndexOf } from './pseries-windows.ts'
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
  inKvm: boolean
  /** Whether the machine was reset, where nobody knows that; and which entries were written since. */
  doubt: Doubt | undefined
  since: Knowledge | undefined
  /** What speaks against a default window that is larger than it was taken to be. */
  readonly bound: WindowBound
}

/**
 * Evidence for the end of a default window: the lowest entry that was refused, and how far the guest cleared it
 * from its first entry on. A kernel clears all of a window before it uses it, so a clearing that stopped at the
 * end shows the end.
 */
export interface WindowBound {
  refusedFrom: number
  sweptTo: number
}

/** Tables that were made anew for a listener, with their contents, or by a reset of the machine, without. */
interface Doubt {
  readonly line: number
  readonly assumptions: readonly OpenAssumption[]
  readonly windows: readonly ReplayWindow[]
}

interface NewTable {
  readonly liobn: number
  readonly line: number
  readonly inKvm: boolean
}

const shapeText = ({ entries, pageShift, busOffset }: TceWindow): string =>
  `${entries} entries of ${hex(2 ** pageShift)} bytes at ${hex(busOffset)}`

/**
 * The windows of a log's machine, and what `spapr_iommu_new_table` lines mean for them.
 *
 * A new-table line says that a table was allocated, not why. Before a create or reset line it belongs to that;
 * for a LIOBN without a window it is the default window of a machine that starts; for an open window it is a
 * listener's arrival (the contents stay) or a reset of the machine (they do not). Lines are kept until one of
 * another kind decides. Where they alone do not tell a listener from a reset, the first is assumed until a
 * line confirms or contradicts it.
 */
export class ReplayWindows {
  /** By LIOBN as an int32: most are above 2^31, and a number there is allocated and hashed for each look-up. */
  readonly #byLiobn = new Map<number, ReplayWindow>()
  /** New-table lines whose reason the next line will show, in order. */
  #pending: NewTable[] = []
  readonly #seen = new Set<number>()
  /** LIOBNs of default windows that the log did not see being made. */
  readonly #assumed = new Set<number>()
  /** What the shapes of default windows were taken to be. */
  readonly #shapes = new Map<number, OpenAssumption>()
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

  /** Whether the default window of a LIOBN was made before the log begins: other windows may have been, too. */
  isAssumed(liobn: number): boolean {
    return this.#assumed.has(liobn)
  }

  /** Takes note of the window that the units have for a LIOBN now. */
  adopt(liobn: number, how: 0 | 1 | 2, inKvm: boolean): ReplayWindow | undefined {
    const table = this.#units.liobns.find(0, liobn | 0)
    const window = table?.window ?? undefined
    if (table === undefined || window === undefined) return undefined
    const pageBytes = 2 ** window.pageShift
    const knowledge = new Knowledge(inKvm ? UNKNOWN : how)
    const made: ReplayWindow = {
      liobn,
      table,
      window,
      pageBytes,
      knowledge,
      inKvm,
      doubt: undefined,
      since: undefined,
      bound: { refusedFrom: Number.POSITIVE_INFINITY, sweptTo: 0 },
    }
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
      this.#assumed.add(liobn)
      this.#tally.assume(line, `LIOBN ${hex(liobn)} is a default window, made before the log begins`)
    }
    return made
  }

  /** A line shows that a default window reaches to an entry, though it was taken to be smaller. Answers the window then. */
  grow(open: ReplayWindow, entry: number, line: number): ReplayWindow {
    const { liobn, inKvm, knowledge } = open
    if (!this.#units.grow(liobn, entry)) return open
    const made = this.adopt(liobn, this.isAssumed(liobn) ? UNKNOWN : SEEN, inKvm)
    if (made === undefined) return open
    made.knowledge = knowledge
    Object.assign(made.bound, open.bound)
    const shape = this.#shapes.get(liobn)
    if (shape !== undefined) shape.state = 'contradicted'
    const text = `LIOBN ${hex(liobn)} is the default window: ${shapeText(made.window)}, for a line reaches so far`
    this.#shapes.set(liobn, this.#tally.assume(line, text))
    return made
  }

  /** A line that may have changed any table is lost: all that was seen is only inferred from here on. */
  demote(): void {
    for (const open of this.#byLiobn.values()) open.knowledge.demote()
  }

  newTable(liobn: number, line: number, inKvm: boolean): void {
    this.#pending.push({ liobn, line, inKvm })
  }

  /** The log shows from here on what windows the host bridge of a LIOBN has. */
  isKnown(liobn: number): void {
    this.#assumed.delete(liobn)
  }

  /** The pending lines of a LIOBN belong to the create or reset that is replayed now: forget them. The last one counts. */
  claim(liobn: number): { readonly inKvm: boolean } | undefined {
    const claimed = this.#pending.findLast((p) => p.liobn === liobn)
    this.#pending = this.#pending.filter((p) => p.liobn !== liobn)
    return claimed
  }

  /** A table came in by migration: the line shows its shape; what its entries hold, nothing shows. */
  load(t: { line: number; liobn: number; entries: number; busOffset: bigint; pageShift: number }): void {
    const made = this.claim(t.liobn)
    this.settle()
    const inKvm = made?.inKvm ?? this.find(t.liobn)?.inKvm ?? false
    if (t.entries === 0) this.#units.close(t.liobn, 'migration')
    const shape = { pageShift: t.pageShift, busOffset: t.busOffset, entries: t.entries }
    if (!this.#units.open(t.liobn, shape, 'migration')) return
    this.#assumed.delete(t.liobn)
    this.adopt(t.liobn, UNKNOWN, inKvm)
    this.#tally.assume(
      t.line,
      `LIOBN ${hex(t.liobn)} came in by migration with contents that the log does not show`,
    )
  }

  /** No create or reset came: decide what the pending lines were. */
  settle(): void {
    const pending = this.#pending
    this.#pending = []
    const anew = pending.filter(({ liobn }) => this.find(liobn) !== undefined)
    if (this.#isReset(anew)) this.#reset(anew)
    else if (anew.length > 0) this.#doubt(anew)
    for (const table of pending) {
      if (anew.includes(table)) continue
      const open = this.find(table.liobn)
      if (open === undefined) this.#openFresh(table.liobn, table.line, table.inKvm)
      else open.inKvm = table.inKvm
    }
  }

  /**
   * Whether new tables of open windows can only come from a reset, or a new start. A listener belongs to one host
   * bridge, comes to all its windows, and takes tables out of KVM, never into it; VIO devices have none.
   */
  #isReset(anew: readonly NewTable[]): boolean {
    if (anew.some(({ liobn, inKvm }) => inKvm || !isPciLiobn(liobn))) return true
    const liobns = new Set(anew.map(({ liobn }) => liobn))
    const bridges = new Set([...liobns].map(phbIndexOf))
    const isLeftOut = [...bridges].some((index) =>
      this.#units.phb(index)?.tables.some(({ window, liobn }) => window !== null && !liobns.has(liobn)),
    )
    return isLeftOut || (bridges.size > 1 && [...liobns].every((liobn) => windowIndexOf(liobn) === 0))
  }

  /** Every host bridge has its default window again, and nothing else; the tables of VIO devices are emptied. */
  #reset(anew: readonly NewTable[]): void {
    const inKvm = new Map(anew.map((table) => [table.liobn, table.inKvm]))
    const named = new Set(inKvm.keys())
    this.#tally.assume(anew[0]?.line ?? 0, 'the machine was reset: its default windows are back, and empty')
    for (const liobn of this.#units.vioLiobns()) {
      if (!inKvm.has(liobn)) inKvm.set(liobn, this.find(liobn)?.inKvm ?? false)
    }
    for (const [liobn, isInKvm] of inKvm) {
      if (isPciLiobn(liobn) && windowIndexOf(liobn) !== 0) continue
      this.#units.openDefault(liobn)
      // That a table is empty which no line speaks of only follows from the reset.
      this.adopt(liobn, named.has(liobn) ? SEEN : INFERRED, isInKvm)
      this.#assumed.delete(liobn)
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
    const text = `LIOBN ${hex(liobn)} is the default window: ${shapeText(made.window)}`
    this.#shapes.set(liobn, this.#tally.assume(line, text))
    if (inKvm) this.#tally.assume(line, `LIOBN ${hex(liobn)} is handled in KVM: its hypercalls leave no line`)
  }

  /** A listener came, or the machine was reset: which of the two, only what the entries hold can show. */
  #doubt(anew: readonly NewTable[]): void {
    const tables = anew.map(({ liobn }) => this.find(liobn)).filter((w) => w !== undefined)
    const others = [...this.#units.vioLiobns()]
      .map((liobn) => this.find(liobn))
      .filter((w) => w !== undefined)
    for (const { window, liobn } of tables) {
      this.#log.emit('window.move', null, { window: window.number, liobn, how: INFERRED })
    }
    const assumptions = anew.map(({ liobn, line }) =>
      this.#tally.assume(line, `the table of LIOBN ${hex(liobn)} moved for a listener and kept its contents`),
    )
    const windows = [...new Set([...tables, ...others])]
    const doubt: Doubt = { line: anew[0]?.line ?? 0, assumptions, windows }
    for (const open of windows) {
      open.doubt = doubt
      open.since = new Knowledge(UNKNOWN)
    }
    for (const open of tables) open.inKvm = false
  }

  /** A line shows what an entry of a window in doubt translates to; `fits` says if the replay thought so. */
  shown(open: ReplayWindow, entry: number, fits: boolean, perm: number): void {
    const { doubt, since, knowledge, window } = open
    if (doubt === undefined || since?.get(entry) === SEEN || knowledge.get(entry) === UNKNOWN) return
    window.store.load(entry)
    const wasLive = (window.store.lo & TCE_PERM) !== 0
    if (fits) {
      if (wasLive) this.#decide(doubt, 'confirmed')
    } else if (wasLive && perm === 0) this.#emptied(doubt)
    else {
      this.#decide(doubt, 'contradicted')
      open.knowledge = new Knowledge(UNKNOWN)
      this.#tellUnknown(window)
    }
  }

  /**
   * An entry is about to get another live value than the one that the replay holds for it. Where that may be
   * gone it is: a guest does not overwrite what it has mapped. (The table of a VIO device goes without a line,
   * when firmware hands the machine over to the kernel.)
   */
  overwritten(open: ReplayWindow, entry: number, line: number): void {
    const { doubt, since, knowledge, liobn, window } = open
    if (since?.get(entry) === SEEN || knowledge.get(entry) === UNKNOWN) return
    if (doubt !== undefined) this.#emptied(doubt)
    else if (!isPciLiobn(liobn)) {
      open.knowledge = new Knowledge(UNKNOWN)
      this.#tellUnknown(window)
      this.#tally.assume(
        line,
        `the table of LIOBN ${hex(liobn)} was emptied before, without a line of its own`,
      )
    }
  }

  /** Many entries are cleared from the first one on: so a kernel begins, and not long after a listener came. */
  swept(open: ReplayWindow): void {
    if (open.doubt !== undefined) this.#emptied(open.doubt)
  }

  #decide({ assumptions, windows }: Doubt, state: OpenAssumption['state']): void {
    for (const assumption of assumptions) assumption.state = state
    for (const open of windows) {
      open.doubt = undefined
      open.since = undefined
    }
  }

  /** The machine was reset after all: what was not written since is gone. */
  #emptied(doubt: Doubt): void {
    for (const { window, table, knowledge, since } of doubt.windows) {
      if (table.window !== window) continue
      const { number, store } = window
      const cleared = { window: number, tce: 0n, step: -1, how: INFERRED }
      let [first, count] = [0, 0]
      for (const [entry] of store.live()) {
        if (since?.get(entry) === SEEN) continue
        if (entry !== first + count) {
          if (count > 0) this.#log.emit('tce.set', null, { ...cleared, first, count })
          first = entry
          count = 0
        }
        count++
        store.set(entry, 0, 0)
        knowledge.set(entry, INFERRED)
      }
      if (count > 0) this.#log.emit('tce.set', null, { ...cleared, first, count })
    }
    this.#decide(doubt, 'contradicted')
    this.#tally.assume(doubt.line, 'the machine was reset: its default windows are back, and empty')
  }
}
