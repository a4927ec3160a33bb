import { hex, numberOf, POWERS_OF_TWO, pageOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { CACHED, CachedTces } from './cached-tces.ts'
import { requestOf } from './describe.ts'
import { because } from './evidence.ts'
import { type CheckerOptions, ListedChecker } from './listed-checker.ts'
import { NO_RECORD } from './lives.ts'
import type { RuleId } from './rules.ts'
import type { ReachWatcher } from './uses.ts'
import type { WindowShadow } from './window-shadow.ts'
import { counted } from './words.ts'

const RULE = 'stale-tce'
const SET = slotMap('hw.set')
const FILL = slotMap('hw.fill')
const KILL = slotMap('hw.kill')
const RETURN = slotMap('call.return')
const T = slotMap('dma.translate')
const HW_SET = KIND['hw.set']
const HW_FILL = KIND['hw.fill']
const HW_KILL = KIND['hw.kill']
const UNIT_SHIFT = 12
const TCE_PERM = 3
/** `scope` of a kill. */
const SCOPE_PE = 1
const SCOPE_ALL = 2
/** Part of the key of a finding: at the return of a call, or where a device used it. */
const HELD = 0
const USED = 1

/** A window of a PE that changed: what was cached of it should be gone when the call returns. */
interface ChangedWindow {
  readonly cache: CachedTces
  readonly window: WindowShadow
  readonly seq: number
}

/** What of one cache is stale when a call returns. */
interface Held {
  readonly cache: CachedTces
  /** The first of them: its page, and the records that filled and changed it. */
  readonly page: number
  readonly filled: number
  readonly changed: number
  readonly tce: bigint
  count: number
}

/**
 * Judges `stale-tce`: a PHB that still remembers a TCE when the call that changed the table, or the window, has
 * returned. Found at the return, and again where a device reaches memory through it.
 *
 * An entry that changes is looked up in the caches of the PEs that use its table; nothing is walked, except where
 * a window changes while its PE has something cached.
 */
export class StaleTce extends ListedChecker implements ReachWatcher {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = ['hw.set', 'hw.window', 'hw.fill', 'hw.kill', 'call.return']
  /** By interned name of the PHB, then by PE. */
  readonly #caches = new Map<number, (CachedTces | undefined)[]>()
  // Entries that changed while they were cached, side by side.
  #changedIn: CachedTces[] = []
  #changedPages: number[] = []
  #windows: ChangedWindow[] = []
  #log: RecordLog | undefined

  constructor(options: CheckerOptions) {
    super(options)
    options.uses.watchReach(this)
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === HW_SET) this.#set(log, seq)
    else if (kind === HW_FILL) this.#fill(log, seq)
    else if (kind === HW_KILL) this.#kill(log, seq)
    else if (kind === KIND['hw.window']) this.#program(log, seq)
    else if (this.#changedIn.length > 0 || this.#windows.length > 0) this.#returned(log, seq)
  }

  override finish(): void {
    const log = this.#log
    if (log !== undefined && (this.#changedIn.length > 0 || this.#windows.length > 0))
      this.#judge(log, NO_RECORD)
  }

  reached(log: RecordLog, seq: number, window: WindowShadow): void {
    const cache = this.#find(window.unit, window.hardware?.pe ?? 0)
    if (cache === undefined || cache.stale === 0) return
    const [hi, lo] = [log.slot(seq, T.address + 1), log.slot(seq, T.address)]
    const page = pageOf(hi, lo, window.pageShift) * window.units
    const at = cache.find(page)
    if (at < 0 || cache.state[at] !== CACHED.STALE) return
    const [by, ended] = [cache.filled[at] as number, cache.changed[at] as number]
    const key = { rule: RULE, window: window.number, entry: page, by, ended, outcome: USED }
    if (this.list.again(key)) return
    const does = (log.slot(seq, T.need) & 2) === 0 ? 'read' : 'wrote'
    const device = requestOf(log, seq)?.device || 'a device'
    const memory = hex(BigInt.asUintN(64, wordAt(log, seq, T.gpa)))
    const message =
      `${device} ${does} memory ${memory} by a TCE that ${log.names.word(window.unit)} holds and ` +
      `the table no longer has, at ${placeText(cache, page)}`
    this.list.add({ rule: RULE, message, because: because(this.scene(log), by, ended, seq), inferred: false })
  }

  #find(unit: number, pe: number): CachedTces | undefined {
    return this.#caches.get(unit)?.[pe]
  }

  #fill(log: RecordLog, seq: number): void {
    this.#log = log
    const lanes = log.lanesOf(seq)
    const row = log.rowOf(seq)
    const at = (slot: number) => lanes[row + slot] as number
    const [unit, pe] = [at(FILL.unit), at(FILL.pe) >>> 0]
    let ofUnit = this.#caches.get(unit)
    if (ofUnit === undefined) {
      ofUnit = []
      this.#caches.set(unit, ofUnit)
    }
    let cache = ofUnit[pe]
    if (cache === undefined) {
      cache = new CachedTces(unit, pe)
      ofUnit[pe] = cache
    }
    const page = pageOf(at(FILL.address + 1), at(FILL.address), UNIT_SHIFT)
    cache.fill(page, at(FILL.pageShift), at(FILL.tce + 1), at(FILL.tce), seq)
  }

  #set(log: RecordLog, seq: number): void {
    const lanes = log.lanesOf(seq)
    const row = log.rowOf(seq)
    const table = this.windows.hardware.find((lanes[row] as number) >>> 0)
    if (table === undefined) return
    const entry = numberOf(lanes[row + SET.entry + 1] as number, lanes[row + SET.entry] as number)
    const count = numberOf(lanes[row + SET.count + 1] as number, lanes[row + SET.count] as number)
    const first = table.firstPage + entry * table.units
    const end = first + count * table.units
    let before: CachedTces | undefined
    for (let i = 0; i < table.windows.length; i++) {
      const window = table.windows[i] as WindowShadow
      const cache = this.#find(window.unit, window.hardware?.pe ?? 0)
      if (cache === undefined || cache === before || cache.count === 0) continue
      before = cache
      if (count <= cache.count) {
        for (let page = first; page < end; page += table.units) {
          const at = cache.find(page)
          if (at >= 0) this.#compare(log, seq, cache, at, (page - first) / table.units)
        }
        continue
      }
      for (let at = 0; at < cache.capacity; at++) {
        const page = cache.pageAt(at)
        if (page >= first && page < end) this.#compare(log, seq, cache, at, (page - first) / table.units)
      }
    }
  }

  /** What is cached at a place, against the entry number `i` of a record. */
  #compare(log: RecordLog, seq: number, cache: CachedTces, at: number, i: number): void {
    const [hi, lo] = [log.slot(seq, SET.tce + 1), log.slot(seq, SET.tce)]
    const step = log.slot(seq, SET.step)
    const stride = step < 0 ? 0 : (POWERS_OF_TWO[step - UNIT_SHIFT] as number)
    const memory = pageOf(hi, lo, UNIT_SHIFT) + i * stride
    if (cache.isSame(at, Math.floor(memory / 0x10_0000) | 0, (memory << UNIT_SHIFT) | (lo & TCE_PERM))) {
      cache.mark(at, CACHED.FRESH, NO_RECORD)
      return
    }
    if (cache.state[at] === CACHED.FRESH) {
      this.#changedIn.push(cache)
      this.#changedPages.push(cache.pageAt(at))
    }
    cache.mark(at, cache.state[at] === CACHED.STALE ? CACHED.STALE : CACHED.CHANGED, seq)
  }

  #kill(log: RecordLog, seq: number): void {
    const scope = log.slot(seq, KILL.scope)
    const unit = log.slot(seq, KILL.unit)
    if (scope === SCOPE_ALL) {
      for (const cache of this.#caches.get(unit) ?? []) cache?.clear()
      return
    }
    const cache = this.#find(unit, log.slot(seq, KILL.pe) >>> 0)
    if (cache === undefined || cache.count === 0) return
    if (scope === SCOPE_PE) cache.clear()
    else {
      const first = pageOf(log.slot(seq, KILL.address + 1), log.slot(seq, KILL.address), UNIT_SHIFT)
      const shift = Math.max(UNIT_SHIFT, log.slot(seq, KILL.pageShift))
      const count = numberOf(log.slot(seq, KILL.count + 1), log.slot(seq, KILL.count))
      cache.drop(first, count, POWERS_OF_TWO[shift - UNIT_SHIFT] as number)
    }
  }

  /** A window that did something does something else, or nothing. */
  #program(log: RecordLog, seq: number): void {
    const window = this.windows.programmed(log, seq)
    if (window?.hardware === undefined) return
    const cache = this.#find(window.unit, window.hardware.pe)
    if (cache !== undefined && cache.count > 0) this.#windows.push({ cache, window, seq })
  }

  #returned(log: RecordLog, seq: number): void {
    this.#judge(log, seq)
  }

  /** What changed in a call that returns, or in none. @param seq its return, NO_RECORD at the end of the run */
  #judge(log: RecordLog, seq: number): void {
    const call = seq === NO_RECORD ? NO_RECORD : log.causeOf(seq)
    const isOver = (record: number): boolean => {
      const cause = log.has(record) ? log.causeOf(record) : NO_RECORD
      return seq === NO_RECORD || cause === call || cause === NO_RECORD
    }
    const held = new Map<CachedTces, Held>()
    this.#judgeWindows(held, isOver)
    this.#judgeEntries(held, isOver)
    for (const found of held.values()) this.#report(log, seq, found)
  }

  #judgeWindows(held: Map<CachedTces, Held>, isOver: (record: number) => boolean): void {
    const windows = this.#windows
    this.#windows = windows.filter(({ seq }) => !isOver(seq))
    for (const { cache, window, seq } of windows) {
      const table = window.hardware?.table
      if (table === undefined || cache.count === 0 || !isOver(seq)) continue
      for (const page of cache.pages(table.firstPage, table.firstPage + table.entries * table.units)) {
        const at = cache.find(page)
        if ((cache.filled[at] as number) < seq && cache.state[at] !== CACHED.STALE)
          hold(held, cache, page, seq)
      }
    }
  }

  #judgeEntries(held: Map<CachedTces, Held>, isOver: (record: number) => boolean): void {
    const [caches, pages] = [this.#changedIn, this.#changedPages]
    this.#changedIn = []
    this.#changedPages = []
    for (let i = 0; i < caches.length; i++) {
      const [cache, page] = [caches[i] as CachedTces, pages[i] as number]
      const at = cache.find(page)
      if (at < 0 || cache.state[at] !== CACHED.CHANGED) continue
      const changed = cache.changed[at] as number
      if (isOver(changed)) hold(held, cache, page, changed)
      else {
        this.#changedIn.push(cache)
        this.#changedPages.push(page)
      }
    }
  }

  #report(log: RecordLog, seq: number, { cache, page, filled, changed, tce, count }: Held): void {
    const { unit, pe } = cache
    const key = { rule: RULE, window: unit, entry: page, by: filled, ended: changed, outcome: HELD }
    if (this.list.again(key)) return
    const after =
      seq === NO_RECORD ? 'at the end' : `after ${log.names.word(log.slot(seq, RETURN.call))} returned`
    const what = count === 1 ? 'a TCE' : counted(count, 'TCE')
    const isWindow = log.has(changed) && log.kindOf(changed) === 'hw.window'
    const message =
      `${log.names.word(unit)} still holds ${what} of PE ${pe} ${after}: ${placeText(cache, page)} as ${hex(tce)}, ` +
      (isWindow ? 'of a window that is gone' : 'which the table no longer has')
    const chain = because(this.scene(log), filled, changed, seq)
    this.list.add({ rule: RULE, message, because: chain, inferred: false })
  }
}

function hold(held: Map<CachedTces, Held>, cache: CachedTces, page: number, changed: number): void {
  const at = cache.find(page)
  const known = held.get(cache)
  if (known === undefined) {
    held.set(cache, {
      cache,
      page,
      filled: cache.filled[at] as number,
      changed,
      tce: cache.tceAt(at),
      count: 1,
    })
  } else known.count++
  cache.mark(at, CACHED.STALE, changed)
}

const placeText = ({ pe }: CachedTces, page: number): string =>
  `bus address ${hex(BigInt(page) << 12n)} of PE ${pe}`

const wordAt = (log: RecordLog, seq: number, slot: number): bigint =>
  (BigInt(log.slot(seq, slot + 1) >>> 0) << 32n) | BigInt(log.slot(seq, slot) >>> 0)
