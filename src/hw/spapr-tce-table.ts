import type { Profile } from '../bits/errata.ts'
import { assert } from '../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../bits/state.ts'
import { hex, hiOf, hiOfNumber, loOf, loOfNumber } from '../bits/u64.ts'
import type { TceEntries } from '../table/tce-entries.ts'
import { TCE_PERM } from '../table/tce-entry.ts'
import { TceRun } from '../table/tce-run.ts'
import { TceStore } from '../table/tce-store.ts'
import type { TceWindow } from '../table/tce-window.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'
import type { IommuChange, IommuListener } from './iommu-listener.ts'
import type { Life } from './life.ts'
import type { TableBacking, WindowWatcher } from './window-watcher.ts'

/** What the tables of a machine share. */
export interface TableParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly life: Life
  readonly profile: Profile
  /** The number of the next window's life: one counter for the whole machine. */
  readonly nextWindow: () => number
  /** Bytes that one table may take; 1 GiB unless said otherwise. */
  readonly maxTableBytes?: number
  /** Who else may hold entries; left out, the emulator alone. */
  readonly backing?: TableBacking
  /** Who is told of windows that open and close. */
  readonly watcher?: WindowWatcher
}

/** Where a window lies, and what it holds. */
export interface WindowShape {
  readonly pageShift: number
  readonly busOffset: bigint
  readonly entries: number
  /** It is known to be empty: listeners that come with it are told nothing, and nobody looks (ibm,create-pe-dma-window). */
  readonly isKnownEmpty?: boolean
}

const SET = KIND['tce.set']
const IS_DEFAULT = 1
const NEEDS_VFIO = 2
const IS_POISONED = 4
const MAX_TABLE_BYTES = 2 ** 30

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/**
 * A TCE table object: it has its LIOBN for ever, and a window from time to time.
 *
 * Writers of entries put them into `window.store` and then call `announce` once for a run of them, which makes
 * the record and tells the listeners. (QEMU 7.2 hw/ppc/spapr_iommu.c)
 */
export class SpaprTceTable {
  readonly liobn: number
  /** The PHB or VIO device that it belongs to. */
  readonly unit: string
  window: TceWindow | null = null
  /** Whether writers must find out for `announce` if an entry let a device through before. */
  wantsOld = false
  readonly #parts: TableParts
  readonly #flags: Cells
  readonly #stores = new Map<number, TceStore>()
  readonly #listeners: IommuListener[] = []
  #change: Writable<IommuChange> | undefined
  readonly #flagSticks: boolean
  readonly #tellsUnmapFirst: boolean
  #isKnownEmpty = false
  #hearMap = false
  #hearUnmap = false

  constructor(liobn: number, unit: string, parts: TableParts) {
    this.liobn = liobn
    this.unit = unit
    this.#parts = parts
    this.#flags = new Cells(parts.journal, keyOf('tce-table', liobn), 1)
    this.#flagSticks = parts.profile.has('Q7')
    this.#tellsUnmapFirst = !parts.profile.has('B12')
  }

  /** Whether its window counts as the default one: its removal does not bring the default one back. */
  get isDefault(): boolean {
    return this.#has(IS_DEFAULT)
  }

  set isDefault(on: boolean) {
    this.#put(IS_DEFAULT, on)
  }

  /** Whether its entries must be where VFIO and vhost hear of them, so not in KVM. */
  get needsVfio(): boolean {
    return this.#has(NEEDS_VFIO)
  }

  /** Whether an enable that went wrong left the table's region behind (Q9). */
  get isPoisoned(): boolean {
    return this.#has(IS_POISONED)
  }

  /** Opens a window. An open one stays as it is; a poisoned table kills the emulator instead (Q9). */
  open(shape: WindowShape): void {
    const { pageShift, busOffset, entries, isKnownEmpty = false } = shape
    if (this.window !== null) return
    if (this.isPoisoned) {
      this.#parts.life.die('memory-region-added-twice')
      return
    }
    const { stage, nextWindow, backing, watcher } = this.#parts
    const window: TceWindow = {
      number: nextWindow(),
      liobn: this.liobn,
      pageShift,
      busOffset,
      busHi: hiOf(busOffset),
      busLo: loOf(busOffset),
      entries,
      store: backing?.allocate(this.liobn, shape, this.needsVfio) ?? this.#storeFor(entries),
    }
    stage.log.emit('window.open', stage.cause < 0 ? null : stage.cause, {
      window: window.number,
      liobn: this.liobn,
      pageShift,
      busOffset,
      entries,
      unit: this.unit,
    })
    this.#setWindow(window)
    if (this.#listeners.length > 0) this.#moveForListeners()
    this.#isKnownEmpty = isKnownEmpty
    watcher?.opened(this)
    this.#isKnownEmpty = false
  }

  /** Closes the window; its entries are gone. */
  close(why: string): void {
    if (this.window === null) return
    this.#parts.watcher?.closing(this)
    const { window } = this
    if (window === null) return
    const { log, cause } = this.#parts.stage
    log.append(KIND['window.close'], cause, window.number, this.liobn | 0, log.names.intern(why))
    this.#setWindow(null)
    this.#free(window)
    this.#put(NEEDS_VFIO, false)
    if (!this.#flagSticks) this.#put(IS_DEFAULT, false)
  }

  /** From now on the next window kills the emulator. */
  poison(): void {
    this.#put(IS_POISONED, true)
  }

  /**
   * Entries [first, first + count) of the open window have been written, as `tce.set` tells them: makes the
   * record, then tells the listeners. `wasLive` matters only where `wantsOld` is true.
   */
  announce(
    first: number,
    count: number,
    hi: number,
    lo: number,
    step: number,
    wasLive: boolean,
    how: number,
  ): void {
    this.#record(first, count, hi, lo, step, how)
    if (!this.#hearMap && !this.#hearUnmap) return
    const isMap = (lo & TCE_PERM) !== 0
    if (isMap && wasLive) this.#tell(first, count, 0, 0, -1, false)
    this.#tell(first, count, hi, lo, step, isMap)
  }

  /**
   * Somebody else (KVM) has written entries [first, first + count) of the open window: makes the records. Listeners
   * hear nothing of it.
   */
  wroteElsewhere(first: number, count: number): void {
    const window = this.window as TceWindow
    const { store, pageShift } = window
    const run = new TceRun()
    run.begin(pageShift)
    const flush = () => this.#record(run.first, run.count, run.hi, run.lo, run.step, 0)
    for (let entry = first; entry < first + count; entry++) {
      store.load(entry)
      if (run.count > 0 && run.takes(store.hi, store.lo, false)) continue
      if (run.count > 0) flush()
      run.start(entry, store.hi, store.lo, false)
    }
    if (run.count > 0) flush()
  }

  /**
   * Registers a listener of the windows that open here. The first one moves the table to where all changes are
   * heard. A listener of MAP is told of the live entries at once.
   *
   * @returns false where the flavour is refused (-EINVAL): nothing is registered
   */
  listen(listener: IommuListener): boolean {
    if (listener.wants === 'device-iotlb') return false
    this.#listeners.push(listener)
    this.#hear()
    this.#parts.journal.change(keyOf('listener', this.liobn, listener.name), 0, 1, () => this.#drop(listener))
    if (this.window === null) return true
    if (this.#listeners.length === 1) this.#moveForListeners()
    if (listener.wants !== 'unmap' && !this.#isKnownEmpty) this.#replay(listener, this.window)
    return true
  }

  unlisten(listener: IommuListener): void {
    const at = this.#listeners.indexOf(listener)
    if (at === -1) return
    this.#drop(listener)
    this.#parts.journal.change(keyOf('listener', this.liobn, listener.name), 1, 0, () => {
      this.#listeners.splice(at, 0, listener)
      this.#hear()
    })
    if (this.#listeners.length === 0) this.#put(NEEDS_VFIO, false)
  }

  #drop(listener: IommuListener): void {
    this.#listeners.splice(this.#listeners.indexOf(listener), 1)
    this.#hear()
  }

  #hear(): void {
    this.#hearMap = this.#listeners.some((l) => l.wants !== 'unmap')
    this.#hearUnmap = this.#listeners.some((l) => l.wants !== 'map')
    this.wantsOld = this.#tellsUnmapFirst && this.#hearUnmap
  }

  /** Entries that listeners cannot stay with are allocated anew. (QEMU 7.2 hw/ppc/spapr_iommu.c, spapr_tce_set_need_vfio) */
  #moveForListeners(): void {
    const { backing, stage } = this.#parts
    const { log, cause } = stage
    const window = this.window as TceWindow
    this.#put(NEEDS_VFIO, true)
    if (backing?.keeps(window.store) === true) return
    const store = backing?.allocate(this.liobn, window, true) ?? this.#storeFor(window.entries)
    if (store !== window.store) {
      for (const [entry, tce] of window.store.held()) store.set(entry, loOf(tce), hiOf(tce))
      this.#setWindow({ ...window, store })
      this.#free(window)
    }
    log.append(KIND['window.move'], cause, window.number, this.liobn | 0, 0)
  }

  #replay(listener: IommuListener, window: TceWindow): void {
    const run = new TceRun()
    run.begin(window.pageShift)
    const flush = () => {
      if (run.count > 0) this.#tell(run.first, run.count, run.hi, run.lo, run.step, true, listener)
    }
    for (const [entry, tce] of window.store.live()) {
      const goesOn = run.count > 0 && entry === run.first + run.count
      if (goesOn && run.takes(hiOf(tce), loOf(tce), false)) continue
      flush()
      run.start(entry, hiOf(tce), loOf(tce), false)
    }
    flush()
  }

  /** Tells all listeners that want it, or one, and says so in a record. */
  #tell(
    first: number,
    count: number,
    hi: number,
    lo: number,
    step: number,
    isMap: boolean,
    only?: IommuListener,
  ): void {
    if (isMap ? !this.#hearMap : !this.#hearUnmap) return
    const window = this.window as TceWindow
    const { log, cause } = this.#parts.stage
    log.append(
      KIND['iommu.notify'],
      cause,
      window.number,
      loOfNumber(first),
      hiOfNumber(first),
      loOfNumber(count),
      hiOfNumber(count),
      lo,
      hi,
      step,
      isMap ? 1 : 0,
    )
    this.#change ??= { window, first, count, tceHi: hi, tceLo: lo, step, isMap }
    const change = this.#change
    change.window = window
    change.first = first
    change.count = count
    change.tceHi = hi
    change.tceLo = lo
    change.step = step
    change.isMap = isMap
    if (only !== undefined) only.notify(change)
    else
      for (const listener of this.#listeners) {
        if (listener.wants !== (isMap ? 'unmap' : 'map')) listener.notify(change)
      }
  }

  #record(first: number, count: number, hi: number, lo: number, step: number, how: number): void {
    const { log, cause } = this.#parts.stage
    if (!log.on) return
    const at = log.begin(SET, cause)
    const { lanes } = log
    lanes[at] = (this.window as TceWindow).number
    lanes[at + 1] = first | 0
    lanes[at + 2] = hiOfNumber(first)
    lanes[at + 3] = count | 0
    lanes[at + 4] = hiOfNumber(count)
    lanes[at + 5] = lo | 0
    lanes[at + 6] = hi | 0
    lanes[at + 7] = step | 0
    lanes[at + 8] = how | 0
    log.commit(SET)
  }

  /** Memory of the emulator alone is used again, with zeros in it. */
  #free({ store, entries }: TceWindow): void {
    if (this.#parts.backing?.release(store) !== true) store.fill(0, entries, 0, 0)
  }

  #storeFor(entries: number): TceEntries {
    let store = this.#stores.get(entries)
    if (store === undefined) {
      const { journal, maxTableBytes } = this.#parts
      const maxBytes = maxTableBytes ?? MAX_TABLE_BYTES
      store = new TceStore({ entries, journal, key: this.liobn, maxBytes })
      this.#stores.set(entries, store)
    }
    return store
  }

  #setWindow(window: TceWindow | null): void {
    const before = this.window
    this.window = window
    this.#parts.journal.change(keyOf('window', this.liobn), keyOfWindow(before), keyOfWindow(window), () => {
      this.window = before
    })
  }

  #has(flag: number): boolean {
    return (this.#flags.get(0) & flag) !== 0
  }

  #put(flag: number, on: boolean): void {
    const flags = this.#flags.get(0)
    this.#flags.set(0, on ? flags | flag : flags & ~flag)
  }
}

/** What the hash of a machine's state sees of a window; 0 for none. Its number is history, not state. */
function keyOfWindow(window: TceWindow | null): number {
  if (window === null) return 0
  const { pageShift, busOffset, entries } = window
  assert(pageShift >= 12 && entries > 0, 'a window has pages')
  return keyOf(pageShift, hex(busOffset), entries) | 1
}
