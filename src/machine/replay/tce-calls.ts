import { hex, pageOf, wordOf } from '../../bits/u64.ts'
import type { HcallPort } from '../../kernel/ports.ts'
import { TCE_LIST_MAX, TCE_PERM } from '../../table/tce-entry.ts'
import { entryAt, OUTSIDE } from '../../table/tce-window.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import { INFERRED, SEEN, TRANSLATED, UNKNOWN } from './knowledge.ts'
import type { ListMemory } from './list-memory.ts'
import { isPciLiobn } from './pseries-windows.ts'
import type { ReplayWindow, ReplayWindows } from './replay-windows.ts'
import type { Tally } from './tally.ts'
import { VERDICT } from './translate.ts'

/** A hypercall as a log line shows it: registers in lanes, and the answer. */
export interface ShownCall {
  name: string
  liobnHi: number
  liobnLo: number
  iobaHi: number
  iobaLo: number
  tceHi: number
  tceLo: number
  /** List address (INDIRECT). */
  listHi: number
  listLo: number
  /** Index of the last entry (INDIRECT) or number of pages (STUFF); high lane in `countHi`. */
  countHi: number
  countLo: number
  retHi: number
  retLo: number
  line: number
}

const H_PARAMETER = -4
const TWO_32 = 0x1_0000_0000

/** Whether what the replay holds of a window may be gone without a line that says so. */
const mayBeGone = (open: ReplayWindow): boolean => open.doubt !== undefined || !isPciLiobn(open.liobn)

/** Whether TCEs that differ in these bits translate alike. */
const isAlike = (hi: number, lo: number, pageShift: number): boolean =>
  (lo & TCE_PERM) === 0 && wordOf(hi, lo) >> BigInt(pageShift) === 0n

/** Replays hypercalls that a log shows through the model's own handlers, and compares the answers. */
export class TceCalls {
  readonly #stage: Stage
  readonly #port: HcallPort
  readonly #list: ListMemory
  readonly #windows: ReplayWindows
  readonly #tally: Tally

  constructor(parts: {
    stage: Stage
    port: HcallPort
    list: ListMemory
    windows: ReplayWindows
    tally: Tally
  }) {
    this.#stage = parts.stage
    this.#port = parts.port
    this.#list = parts.list
    this.#windows = parts.windows
    this.#tally = parts.tally
  }

  put(c: ShownCall): void {
    const found = this.#windowFor(c)
    if (found === undefined && this.#isUnjudged(c)) return
    const open = found && this.#reaching(found, c, c.iobaHi, c.iobaLo)
    const entry = open === undefined ? OUTSIDE : this.#entry(open, c)
    if (open !== undefined && mayBeGone(open)) this.#overwrites(open, entry, c)
    const code = this.#port.putTce(c.liobnHi, c.liobnLo, c.iobaHi, c.iobaLo, c.tceHi, c.tceLo)
    if (!this.#compare(c, code) || open === undefined) return
    if (code !== 0) {
      this.#refused(open, c.iobaHi, c.iobaLo)
      return
    }
    open.knowledge.set(entry, SEEN)
    open.since?.set(entry, SEEN)
    this.#tally.entries.known++
  }

  /**
   * The window as large as a call shows it to be that wrote up to a bus address; as it is where earlier lines
   * show its end. A call that clears may go on with the clearing of the whole window.
   */
  #reaching(open: ReplayWindow, c: ShownCall, hi: number, lo: number, cleared = 0): ReplayWindow {
    const { window, bound } = open
    if (c.retLo !== 0 || entryAt(window, hi, lo) !== OUTSIDE) return open
    const entry = pageOf(hi, lo, window.pageShift)
    const goesOnClearing = cleared > 0 && entry + 1 - cleared === bound.sweptTo
    if (entry >= bound.refusedFrom || (bound.sweptTo === window.entries && !goesOnClearing)) return open
    return this.#windows.grow(open, entry, c.line)
  }

  /** A call was refused, as it should be, at a bus address: a default window ends before it. */
  #refused({ window, bound }: ReplayWindow, hi: number, lo: number): void {
    const entry = pageOf(hi, lo, window.pageShift)
    if (entry >= window.entries) bound.refusedFrom = Math.min(bound.refusedFrom, entry)
  }

  get(c: ShownCall): void {
    const open = this.#windowFor(c)
    if (open === undefined && this.#isUnjudged(c)) return
    if (open?.doubt !== undefined && c.retLo === 0) this.#shows(open, this.#entry(open, c), c)
    const code = this.#port.getTce(c.liobnHi, c.liobnLo, c.iobaHi, c.iobaLo)
    const fits = this.#port.r4Hi === c.tceHi && this.#port.r4Lo === c.tceLo
    if (code !== 0 || open === undefined || c.retLo !== 0 || c.retHi !== 0 || fits) {
      if (!this.#compare(c, code) || open === undefined) return
      if (code !== 0) this.#refused(open, c.iobaHi, c.iobaLo)
      else if (fits) this.#confirm(open, c)
      return
    }
    const entry = this.#entry(open, c)
    const how = open.inKvm ? UNKNOWN : open.knowledge.get(entry)
    const { r4Hi, r4Lo } = this.#port
    const isSameTranslation = isAlike(r4Hi ^ c.tceHi, r4Lo ^ c.tceLo, open.window.pageShift)
    if (how === SEEN || (how === TRANSLATED && !isSameTranslation)) {
      this.#diverge(c, `H_SUCCESS with ${hex(wordOf(r4Hi, r4Lo))}`, 'entry-differs')
      return
    }
    this.#tally.match(c.line)
    if (how === INFERRED) this.#tally.entries.contradicted++
    else if (how === UNKNOWN) this.#tally.entries.learned++
    open.window.store.set(entry, c.tceLo, c.tceHi)
    open.knowledge.set(entry, SEEN)
    if (how === TRANSLATED) return
    this.#seen(open, c, entry, how === INFERRED ? VERDICT.CONTRADICTS : VERDICT.TEACHES)
  }

  /** `iobaLo`, `iobaHi` are the address after the last page that was done: that is what the line prints. */
  stuff(c: ShownCall): void {
    const found = this.#windowFor(c)
    if (found === undefined) {
      if (this.#isUnjudged(c)) return
      this.#compare(c, this.#stuffAt(c, c.iobaHi, c.iobaLo))
      return
    }
    const lastHi = (c.iobaHi - (c.iobaLo === 0 ? 1 : 0)) | 0
    const open = this.#reaching(found, c, lastHi, (c.iobaLo - 1) | 0, c.countLo >>> 0)
    const done = c.retLo === 0 && c.countHi === 0 ? (c.countLo >>> 0) * open.pageBytes : 0
    const doneHi = done < TWO_32 ? 0 : Math.floor(done / TWO_32)
    const low = (c.iobaLo >>> 0) - (done - doneHi * TWO_32)
    const startHi = (c.iobaHi - doneHi - (low < 0 ? 1 : 0)) | 0
    const startLo = low | 0
    const isSweep = c.countLo >>> 0 > 1 && entryAt(open.window, startHi, startLo) === 0
    if (open.doubt !== undefined && isSweep && c.retLo === 0) this.#windows.swept(open)
    const code = this.#stuffAt(c, startHi, startLo)
    if (!this.#compare(c, code)) return
    if (code === 0) {
      const first = entryAt(open.window, startHi, startLo)
      const end = first + (c.countLo >>> 0)
      open.knowledge.fill(first, end, SEEN)
      open.since?.fill(first, end, SEEN)
      this.#tally.entries.known += c.countLo >>> 0
      const isClear = (c.tceLo & TCE_PERM) === 0
      if (isClear && (first === 0 || first === open.bound.sweptTo)) open.bound.sweptTo = end
    } else if (code === H_PARAMETER) {
      this.#refused(open, c.iobaHi, c.iobaLo)
      this.#partlyStuffed(c, open)
    }
  }

  #stuffAt(c: ShownCall, iobaHi: number, iobaLo: number): number {
    return this.#port.stuffTce(c.liobnHi, c.liobnLo, iobaHi, iobaLo, c.tceHi, c.tceLo, c.countHi, c.countLo)
  }

  /** A refused STUFF stopped at the window's end; which entries before it were written, the line leaves open. */
  #partlyStuffed(c: ShownCall, open: ReplayWindow): void {
    if (c.countLo === 0 || entryAt(open.window, c.iobaHi, c.iobaLo) !== OUTSIDE) return
    const end = open.window.entries
    const lastLow = (c.iobaLo >>> 0) - 2 ** Math.min(open.window.pageShift, 31)
    const before = entryAt(open.window, (c.iobaHi - (lastLow < 0 ? 1 : 0)) | 0, lastLow | 0)
    if (before !== end - 1) return
    const first = Math.max(0, end - ((c.countLo >>> 0) - 1))
    open.knowledge.fill(first, end, UNKNOWN)
    this.#tally.entries.unknown += end - first
    const { number } = open.window
    const { log } = this.#stage
    log.emit('tce.set', null, { window: number, first, count: end - first, tce: 0n, step: -1, how: UNKNOWN })
  }

  indirect(c: ShownCall): void {
    const found = this.#windowFor(c)
    if (found === undefined) {
      if (this.#isUnjudged(c)) return
      this.#compare(c, this.#indirectOf(c, 1))
      return
    }
    const last = (c.iobaLo >>> 0) + Math.min(c.countLo >>> 0, TCE_LIST_MAX) * found.pageBytes
    const open = this.#reaching(found, c, (c.iobaHi + Math.floor(last / TWO_32)) | 0, last | 0)
    const { window } = open
    const first = entryAt(window, c.iobaHi, c.iobaLo)
    const shown = (c.countLo >>> 0) + 1
    let pages = shown
    if (c.retLo !== 0) {
      // Refused at entry k: k - 1 is printed, 0 for k = 0 and for an empty list.
      const room = first === OUTSIDE ? 0 : window.entries - first
      pages = room === 0 ? 1 : room === shown ? shown + 1 : 0
      if (c.countHi === 0 && c.countLo === 0 && room > 1) pages = 0
    }
    const written = c.retLo === 0 ? pages : Math.max(0, pages - 1)
    const lastIndex = pages - 1
    const isRow = this.#presentRow(c, lastIndex, open.pageBytes)
    if (written > 0 && first !== OUTSIDE && mayBeGone(open)) this.#overwrites(open, first + written - 1, c)
    this.#stage.how = written > 1 || c.retLo !== 0 ? (isRow ? INFERRED : UNKNOWN) : SEEN
    const code = this.#indirectOf(c, pages)
    this.#stage.how = SEEN
    if (!this.#compare(c, code) || first === OUTSIDE || written === 0) return
    this.#learned(open, { first, written, isRow, lastIsSeen: code === 0 })
  }

  #indirectOf(c: ShownCall, pages: number): number {
    return this.#port.putTceIndirect(
      c.liobnHi,
      c.liobnLo,
      c.iobaHi,
      c.iobaLo,
      c.listHi,
      c.listLo,
      c.countHi,
      pages,
    )
  }

  /** Makes the list that ends with the TCE shown; false where no row of neighbouring pages can end so. */
  #presentRow(c: ShownCall, lastIndex: number, pageBytes: number): boolean {
    const back = Math.max(0, lastIndex) * pageBytes
    const backHi = back < TWO_32 ? 0 : Math.floor(back / TWO_32)
    const low = (c.tceLo >>> 0) - (back - backHi * TWO_32)
    const high = (c.tceHi >>> 0) - backHi - (low < 0 ? 1 : 0)
    if (high < 0) {
      this.#list.present(c.tceHi, c.tceLo, 0)
      return false
    }
    this.#list.present(high | 0, low | 0, pageBytes)
    return true
  }

  #learned(
    open: ReplayWindow,
    list: { first: number; written: number; isRow: boolean; lastIsSeen: boolean },
  ): void {
    const { first, written, isRow, lastIsSeen } = list
    const end = first + written
    open.knowledge.fill(first, end, isRow ? INFERRED : UNKNOWN)
    if (lastIsSeen) open.knowledge.set(end - 1, SEEN)
    open.since?.fill(first, end, SEEN)
    const guessed = written - (lastIsSeen ? 1 : 0)
    if (lastIsSeen) this.#tally.entries.known++
    if (isRow) this.#tally.entries.inferred += guessed
    else this.#tally.entries.unknown += guessed
  }

  /** Tells the windows where a call gives a live entry another live value; `c.tce` is what the entry gets. */
  #overwrites(open: ReplayWindow, entry: number, c: ShownCall): void {
    if (entry === OUTSIDE || c.retLo !== 0 || (c.tceLo & TCE_PERM) === 0) return
    const { store, pageShift } = open.window
    store.load(entry)
    if ((store.lo & TCE_PERM) === 0 || isAlike(store.hi ^ c.tceHi, store.lo ^ c.tceLo, pageShift)) return
    this.#windows.overwritten(open, entry, c.line)
  }

  #shows(open: ReplayWindow, entry: number, c: ShownCall): void {
    if (entry === OUTSIDE) return
    const { store, pageShift } = open.window
    store.load(entry)
    const fits = isAlike(store.hi ^ c.tceHi, store.lo ^ c.tceLo, pageShift)
    this.#windows.shown(open, entry, fits, c.tceLo & TCE_PERM)
  }

  #entry(open: ReplayWindow, c: ShownCall): number {
    return entryAt(open.window, c.iobaHi, c.iobaLo)
  }

  #confirm(open: ReplayWindow, c: ShownCall): void {
    const entry = this.#entry(open, c)
    const how = open.knowledge.get(entry)
    if (how === SEEN || open.inKvm) return
    open.knowledge.set(entry, SEEN)
    if (how === TRANSLATED) return
    if (how === INFERRED) this.#tally.entries.confirmed++
    else this.#tally.entries.learned++
    this.#seen(open, c, entry, how === INFERRED ? VERDICT.CONFIRMS : VERDICT.TEACHES)
  }

  #seen(open: ReplayWindow, c: ShownCall, entry: number, verdict: number): void {
    const { log, cause } = this.#stage
    const hi = Math.floor(entry / 0x1_0000_0000)
    log.append(KIND['tce.seen'], cause, open.window.number, entry | 0, hi, c.tceLo, c.tceHi, verdict, c.line)
  }

  /** The window of the call's LIOBN. A successful call on one that the log has not shown assumes the default window. */
  #windowFor(c: ShownCall): ReplayWindow | undefined {
    if (c.liobnHi !== 0) return undefined
    const liobn = c.liobnLo >>> 0
    return (
      this.#windows.find(liobn) ?? (c.retLo === 0 ? this.#windows.assumeDefault(liobn, c.line) : undefined)
    )
  }

  /** A success on a window whose shape the log does not show: nothing can be said. */
  #isUnjudged(c: ShownCall): boolean {
    if (c.retLo !== 0 || c.liobnHi !== 0) return false
    this.#tally.unjudgedAnswers++
    return true
  }

  #compare(c: ShownCall, code: number): boolean {
    if (code === c.retLo && code >> 31 === c.retHi) {
      this.#tally.match(c.line)
      return true
    }
    // What was made before the log begins may have another shape.
    if (c.liobnHi === 0 && this.#windows.isAssumed(c.liobnLo >>> 0)) this.#tally.unjudgedAnswers++
    else this.#diverge(c, `ret=${code}`, 'answer-differs')
    return false
  }

  #diverge(c: ShownCall, model: string, rule: string): void {
    const liobn = hex(wordOf(c.liobnHi, c.liobnLo))
    this.#tally.diverge({
      line: c.line,
      what: 'answer',
      call: `${c.name} liobn=${liobn} ioba=${hex(wordOf(c.iobaHi, c.iobaLo))} tce=${hex(wordOf(c.tceHi, c.tceLo))}`,
      log: `ret=${BigInt.asIntN(64, wordOf(c.retHi, c.retLo))}`,
      model,
      rule,
    })
  }
}
