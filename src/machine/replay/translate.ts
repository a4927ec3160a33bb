import { hex, hiOfNumber, pageOf, wordOf } from '../../bits/u64.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import { INFERRED, TRANSLATED, UNKNOWN } from './knowledge.ts'
import type { ReplayWindow, ReplayWindows } from './replay-windows.ts'
import { READ, TableReads } from './table-reads.ts'
import type { Tally } from './tally.ts'

/** What a line says of an entry that the replay had a value for. */
export const VERDICT = { AS_KNOWN: 0, CONFIRMS: 1, CONTRADICTS: 2, TEACHES: 3, BREAKS: 4 } as const

/** A translation as a log line shows it; addresses in lanes. */
export interface ShownTranslation {
  liobn: number
  offsetHi: number
  offsetLo: number
  gpaHi: number
  gpaLo: number
  perm: number
  /** IOMMU page size - 1, cut to 32 bits. */
  mask: number
  line: number
}

const ALL_ONES = 0xffff_ffff
const TRANSLATE = KIND['dma.translate']

/** Judges the translations that a log shows by what the replay knows of the table. */
export class Translations {
  readonly #stage: Stage
  readonly #windows: ReplayWindows
  readonly #tally: Tally
  readonly #reads = new TableReads()

  constructor(stage: Stage, windows: ReplayWindows, tally: Tally) {
    this.#stage = stage
    this.#windows = windows
    this.#tally = tally
  }

  /** A table was made: a listener may read it now. */
  expectRead(liobn: number): void {
    this.#reads.expect(liobn)
  }

  /** A guest runs again: whoever wanted to read a table has done so. */
  expectNoRead(): void {
    this.#reads.expectNone()
  }

  /** Whether it must be told of lines that are no translations. */
  get isWaiting(): boolean {
    return this.#reads.isOn
  }

  /** A translation through the window at `offset` bytes from its start: the log counts from there. */
  see(t: ShownTranslation): void {
    if (!this.#reads.isOn) {
      this.#judge(t, false)
      return
    }
    const what = this.#reads.see(t)
    if (what === READ.HELD) return
    this.#release(what === READ.TABLE)
    this.#judge(t, what === READ.TABLE)
  }

  /** No translation comes next: what waits for one is judged. */
  settle(): void {
    if (this.#reads.held.length > 0) this.#release(false)
  }

  #release(isRead: boolean): void {
    for (const t of this.#reads.release()) this.#judge(t, isRead)
  }

  /** @param isRead a listener read the table: no device used the entry */
  #judge(t: ShownTranslation, isRead: boolean): void {
    let open = this.#windows.find(t.liobn) ?? this.#windows.assumeDefault(t.liobn, t.line)
    if (open === undefined) {
      this.#tally.unjudgedTranslations++
      return
    }
    const entry = pageOf(t.offsetHi, t.offsetLo, open.window.pageShift)
    if (entry >= open.window.entries && t.mask === open.pageBytes - 1) {
      open = this.#windows.grow(open, entry, t.line)
    }
    const { window } = open
    if (entry >= window.entries) {
      this.#outside(t, open)
      return
    }
    if (!isRead) this.#record(t, open, entry)
    window.store.load(entry)
    let fits = this.#fits(t, open)
    if (open.doubt !== undefined) {
      this.#windows.shown(open, entry, fits, t.perm)
      window.store.load(entry)
      fits = this.#fits(t, open)
    }
    const how = open.knowledge.get(entry)
    if (open.inKvm || how === UNKNOWN) this.#learn(t, open, entry)
    else if (fits && how !== INFERRED) this.#tally.explained++
    else if (fits) this.#confirm(t, open, entry)
    else if (how === INFERRED) this.#contradict(t, open, entry)
    else this.#unexplained(t, open, entry)
  }

  #fits(t: ShownTranslation, open: ReplayWindow): boolean {
    const { store, pageShift } = open.window
    const maskLo = pageShift >= 32 ? -1 : (1 << pageShift) - 1
    const maskHi = pageShift > 32 ? (1 << (pageShift - 32)) - 1 : 0
    return (
      (store.lo & ~maskLo) === t.gpaLo &&
      (store.hi & ~maskHi) === t.gpaHi &&
      (store.lo & 3) === t.perm &&
      maskLo >>> 0 === t.mask
    )
  }

  #record(t: ShownTranslation, open: ReplayWindow, entry: number): void {
    const { window } = open
    const { log, cause } = this.#stage
    if (!log.on) return
    const low = (window.busLo >>> 0) + (t.offsetLo >>> 0)
    const at = log.begin(TRANSLATE, cause)
    const { lanes } = log
    lanes[at] = window.number
    lanes[at + 1] = entry | 0
    lanes[at + 2] = hiOfNumber(entry)
    lanes[at + 3] = low | 0
    lanes[at + 4] = (window.busHi + t.offsetHi + (low > ALL_ONES ? 1 : 0)) | 0
    lanes[at + 5] = t.gpaLo
    lanes[at + 6] = t.gpaHi
    lanes[at + 7] = t.perm
    lanes[at + 8] = 0
    lanes[at + 9] = t.perm === 0 ? 0 : 1
    lanes[at + 10] = t.line | 0
    log.commit(TRANSLATE)
  }

  /** The entry holds what the line shows, whatever the replay thought. */
  #adopt(t: ShownTranslation, open: ReplayWindow, entry: number, verdict: number): void {
    const { log, cause } = this.#stage
    open.window.store.set(entry, t.gpaLo | t.perm, t.gpaHi)
    open.knowledge.set(entry, TRANSLATED)
    const hi = Math.floor(entry / 0x1_0000_0000)
    log.append(
      KIND['tce.seen'],
      cause,
      open.window.number,
      entry | 0,
      hi,
      t.gpaLo | t.perm,
      t.gpaHi,
      verdict,
      t.line,
    )
  }

  #confirm(t: ShownTranslation, open: ReplayWindow, entry: number): void {
    this.#tally.inferred++
    this.#tally.entries.confirmed++
    open.knowledge.set(entry, TRANSLATED)
    const { store, number } = open.window
    const { log, cause } = this.#stage
    const hi = Math.floor(entry / 0x1_0000_0000)
    log.append(KIND['tce.seen'], cause, number, entry | 0, hi, store.lo, store.hi, VERDICT.CONFIRMS, t.line)
  }

  #contradict(t: ShownTranslation, open: ReplayWindow, entry: number): void {
    this.#tally.learned++
    this.#tally.entries.contradicted++
    this.#adopt(t, open, entry, VERDICT.CONTRADICTS)
  }

  #learn(t: ShownTranslation, open: ReplayWindow, entry: number): void {
    this.#tally.learned++
    this.#tally.entries.learned++
    this.#adopt(t, open, entry, VERDICT.TEACHES)
    if (open.inKvm) open.knowledge.set(entry, UNKNOWN)
  }

  #unexplained(t: ShownTranslation, open: ReplayWindow, entry: number): void {
    const held = open.window.store.get(entry)
    this.#tally.diverge({
      line: t.line,
      what: 'translation',
      call: `liobn ${hex(t.liobn)} offset ${hex(wordOf(t.offsetHi, t.offsetLo))}`,
      log: `${hex(wordOf(t.gpaHi, t.gpaLo))} perm ${t.perm} mask ${hex(t.mask)}`,
      model: `entry ${hex(entry)} holds ${hex(held)}`,
      rule: (held & 3n) === 0n ? 'entry-not-mapped' : 'entry-differs',
    })
  }

  /** QEMU answers an address past the table with permission none and a mask of all ones. */
  #outside(t: ShownTranslation, open: ReplayWindow): void {
    if (t.perm === 0 && t.mask === ALL_ONES && t.gpaHi === 0 && t.gpaLo === 0) {
      this.#tally.explained++
      return
    }
    this.#tally.diverge({
      line: t.line,
      what: 'translation',
      call: `liobn ${hex(t.liobn)} offset ${hex(wordOf(t.offsetHi, t.offsetLo))}`,
      log: `${hex(wordOf(t.gpaHi, t.gpaLo))} perm ${t.perm} mask ${hex(t.mask)}`,
      model: `the window has ${open.window.entries} entries`,
      rule: 'outside-window',
    })
  }
}
