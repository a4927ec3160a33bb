import { rulesOf } from '../../bits/call.ts'
import type { Profile } from '../../bits/errata.ts'
import { hasLowBits, pageOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import type { LiobnMap } from '../../hw/liobn-map.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import type { BusMemory } from '../../memory/ports.ts'
import { TCE_LIST_BYTES, TCE_LIST_MAX, TCE_PERM } from '../../table/tce-entry.ts'
import { TceRun } from '../../table/tce-run.ts'
import { entryAt, OUTSIDE, type TceWindow } from '../../table/tce-window.ts'
import type { Stage } from '../../trace/stage.ts'
import { type HcallPort, NO_ANSWER } from '../ports.ts'
import { H_GET_TCE, H_PUT_TCE, H_PUT_TCE_INDIRECT, H_STUFF_TCE, H_UNKNOWN } from './calls.ts'

const PUT = rulesOf(H_PUT_TCE)
const INDIRECT = rulesOf(H_PUT_TCE_INDIRECT)
const STUFF = rulesOf(H_STUFF_TCE)
const GET = rulesOf(H_GET_TCE)
const UNKNOWN = rulesOf(H_UNKNOWN)

const MEMORY_PAGE_SHIFT = 12
const MEMORY_PAGES = 2 ** 40
const SEEN = 0
/** A TCE that may be stored; else what is wrong with it. */
const TCE_FITS = 0
const UNALIGNED = 1
const NO_RAM = 2

export interface HcallParts {
  readonly stage: Stage
  readonly life: Life
  readonly profile: Profile
  readonly liobns: LiobnMap
  readonly memory: BusMemory
}

/**
 * The TCE hypercalls as QEMU itself handles them: always under TCG, and for tables that KVM does not hold.
 *
 * Registers are lanes, and nothing allocates. `rule` is the place of the last answer in its declaration. The
 * order of the checks is part of the interface. (QEMU 7.2 hw/ppc/spapr_iommu.c)
 */
export class SpaprHcalls implements HcallPort {
  r4Hi = 0
  r4Lo = 0
  /** Place of the last answer in the declaration of its call. */
  rule = 0
  readonly #stage: Stage
  readonly #life: Life
  readonly #liobns: LiobnMap
  readonly #memory: BusMemory
  readonly #put
  readonly #indirect
  readonly #stuff
  readonly #get
  readonly #unknown
  readonly #run = new TceRun()
  /** The list of an INDIRECT: lanes high, low. */
  readonly #list = new Int32Array(TCE_LIST_MAX * 2)
  readonly #roundsIoba: boolean
  readonly #stuffMaps: boolean
  readonly #refusesZeroPages: boolean
  readonly #takesAnyTce: boolean
  readonly #keepsPart: boolean
  readonly #readsAnyList: boolean

  constructor({ stage, life, profile, liobns, memory }: HcallParts) {
    this.#stage = stage
    this.#life = life
    this.#liobns = liobns
    this.#memory = memory
    this.#put = stage.tag(H_PUT_TCE)
    this.#indirect = stage.tag(H_PUT_TCE_INDIRECT)
    this.#stuff = stage.tag(H_STUFF_TCE)
    this.#get = stage.tag(H_GET_TCE)
    this.#unknown = stage.tag(H_UNKNOWN)
    this.#roundsIoba = profile.has('Q1')
    this.#stuffMaps = profile.has('Q2')
    this.#refusesZeroPages = profile.has('Q3')
    this.#takesAnyTce = profile.has('Q4')
    this.#keepsPart = profile.has('Q5')
    this.#readsAnyList = profile.has('Q6')
  }

  putTce(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    tceHi: number,
    tceLo: number,
  ): number {
    if (this.#life.isDead) return NO_ANSWER
    const tags = this.#put
    const before = this.#stage.enter(tags, liobnLo, liobnHi, iobaLo, iobaHi, tceLo, tceHi)
    this.r4Hi = liobnHi
    this.r4Lo = liobnLo
    this.rule = this.#putRule(this.#liobns.find(liobnHi, liobnLo), iobaHi, iobaLo, tceHi, tceLo)
    this.#stage.leave(tags, before, this.rule, liobnLo, liobnHi)
    return tags.codes[this.rule] as number
  }

  putTceIndirect(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    listHi: number,
    listLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number {
    if (this.#life.isDead) return NO_ANSWER
    const tags = this.#indirect
    const stage = this.#stage
    const before = stage.enter(tags, liobnLo, liobnHi, iobaLo, iobaHi, listLo, listHi, npagesLo, npagesHi)
    this.r4Hi = liobnHi
    this.r4Lo = liobnLo
    const table = this.#liobns.find(liobnHi, liobnLo)
    if (table === undefined) this.rule = INDIRECT['liobn-unknown']
    else if (npagesHi !== 0 || npagesLo >>> 0 > TCE_LIST_MAX) this.rule = INDIRECT['too-many']
    else if ((listLo & (TCE_LIST_BYTES - 1)) !== 0) this.rule = INDIRECT['list-unaligned']
    else this.rule = this.#indirectRule(table, iobaHi, iobaLo, listHi, listLo, npagesLo)
    stage.leave(tags, before, this.rule, liobnLo, liobnHi)
    return tags.codes[this.rule] as number
  }

  stuffTce(
    liobnHi: number,
    liobnLo: number,
    iobaHi: number,
    iobaLo: number,
    valueHi: number,
    valueLo: number,
    npagesHi: number,
    npagesLo: number,
  ): number {
    if (this.#life.isDead) return NO_ANSWER
    const tags = this.#stuff
    const stage = this.#stage
    const before = stage.enter(tags, liobnLo, liobnHi, iobaLo, iobaHi, valueLo, valueHi, npagesLo, npagesHi)
    this.r4Hi = liobnHi
    this.r4Lo = liobnLo
    const table = this.#liobns.find(liobnHi, liobnLo)
    if (table === undefined) this.rule = STUFF['liobn-unknown']
    else if (npagesHi !== 0 || npagesLo >>> 0 > (table.window?.entries ?? 0)) this.rule = STUFF['too-many']
    else this.rule = this.#stuffRule(table, iobaHi, iobaLo, valueHi, valueLo, npagesLo >>> 0)
    stage.leave(tags, before, this.rule, liobnLo, liobnHi)
    return tags.codes[this.rule] as number
  }

  getTce(liobnHi: number, liobnLo: number, iobaHi: number, iobaLo: number): number {
    if (this.#life.isDead) return NO_ANSWER
    const tags = this.#get
    const before = this.#stage.enter(tags, liobnLo, liobnHi, iobaLo, iobaHi)
    this.r4Hi = liobnHi
    this.r4Lo = liobnLo
    this.rule = this.#getRule(this.#liobns.find(liobnHi, liobnLo), iobaHi, iobaLo)
    this.#stage.leave(tags, before, this.rule, this.r4Lo, this.r4Hi)
    return tags.codes[this.rule] as number
  }

  /** A hypercall that nobody handles. */
  unknown(opcodeHi: number, opcodeLo: number, r4Hi: number, r4Lo: number): number {
    if (this.#life.isDead) return NO_ANSWER
    const before = this.#stage.enter(this.#unknown, opcodeLo, opcodeHi, r4Lo, r4Hi)
    this.r4Hi = r4Hi
    this.r4Lo = r4Lo
    this.rule = UNKNOWN['opcode-unknown']
    this.#stage.leave(this.#unknown, before, this.rule, r4Lo, r4Hi)
    return this.#unknown.codes[this.rule] as number
  }

  #putRule(
    table: SpaprTceTable | undefined,
    iobaHi: number,
    iobaLo: number,
    tceHi: number,
    tceLo: number,
  ): number {
    if (table === undefined) return PUT['liobn-unknown']
    const { window } = table
    if (window === null) return PUT['window-closed']
    if (!this.#roundsIoba && hasLowBits(iobaHi, iobaLo, window.pageShift)) return PUT['ioba-unaligned']
    const entry = entryAt(window, iobaHi, iobaLo)
    if (entry === OUTSIDE) return PUT['ioba-outside']
    if (!this.#takesAnyTce) {
      const fault = this.#faultOf(tceHi, tceLo, window.pageShift)
      if (fault !== TCE_FITS) return fault === UNALIGNED ? PUT['tce-unaligned'] : PUT['tce-outside-ram']
    }
    const wasLive = table.wantsOld && isLive(window, entry)
    window.store.set(entry, tceLo, tceHi)
    table.announce(entry, 1, tceHi, tceLo, -1, wasLive, this.#stage.how)
    return PUT.done
  }

  #indirectRule(
    table: SpaprTceTable,
    iobaHi: number,
    iobaLo: number,
    listHi: number,
    listLo: number,
    npages: number,
  ): number {
    if (npages === 0 && this.#refusesZeroPages) return INDIRECT['zero-pages']
    const { window } = table
    if (window === null) return INDIRECT['window-closed']
    if (!this.#roundsIoba && hasLowBits(iobaHi, iobaLo, window.pageShift)) return INDIRECT['ioba-unaligned']
    const room = roomAt(window, iobaHi, iobaLo)
    if (npages > room && !this.#keepsPart) return INDIRECT['ioba-outside']
    const isReadable = this.#readList(listHi, listLo, npages)
    if (!isReadable && !this.#readsAnyList) return INDIRECT['list-outside-ram']
    if (!this.#takesAnyTce) {
      for (let i = 0; i < npages; i++) {
        const fault = this.#faultOf(
          this.#list[i * 2] as number,
          this.#list[i * 2 + 1] as number,
          window.pageShift,
        )
        if (fault !== TCE_FITS)
          return fault === UNALIGNED ? INDIRECT['tce-unaligned'] : INDIRECT['tce-outside-ram']
      }
    }
    if (room > 0) {
      const count = Math.min(npages, room)
      this.#putList(table, window, entryAt(window, iobaHi, iobaLo), count, count === npages)
    }
    return npages > room ? INDIRECT['ioba-outside'] : INDIRECT.done
  }

  #stuffRule(
    table: SpaprTceTable,
    iobaHi: number,
    iobaLo: number,
    valueHi: number,
    valueLo: number,
    npages: number,
  ): number {
    if (npages === 0 && this.#refusesZeroPages) return STUFF['zero-pages']
    const { window } = table
    if (window === null) return STUFF['window-closed']
    if (!this.#roundsIoba && hasLowBits(iobaHi, iobaLo, window.pageShift)) return STUFF['ioba-unaligned']
    const room = roomAt(window, iobaHi, iobaLo)
    if (npages > room && !this.#keepsPart) return STUFF['ioba-outside']
    if (!this.#stuffMaps && (valueLo & TCE_PERM) !== 0) return STUFF['value-grants-access']
    if (room > 0 && npages > 0) {
      const first = entryAt(window, iobaHi, iobaLo)
      this.#putSame(table, window, first, first + Math.min(npages, room), valueHi, valueLo)
    }
    return npages > room ? STUFF['ioba-outside'] : STUFF.done
  }

  #getRule(table: SpaprTceTable | undefined, iobaHi: number, iobaLo: number): number {
    if (table === undefined) return GET['liobn-unknown']
    const { window } = table
    if (window === null) return GET['window-closed']
    if (!this.#roundsIoba && hasLowBits(iobaHi, iobaLo, window.pageShift)) return GET['ioba-unaligned']
    const entry = entryAt(window, iobaHi, iobaLo)
    if (entry === OUTSIDE) return GET['ioba-outside']
    window.store.load(entry)
    this.r4Hi = window.store.hi
    this.r4Lo = window.store.lo
    return GET.done
  }

  /** Takes the list out of memory, zeros where there is none; false if that was anywhere. */
  #readList(listHi: number, listLo: number, npages: number): boolean {
    const page = pageOf(listHi, listLo, MEMORY_PAGE_SHIFT)
    if (npages === 0) return true
    if (page < MEMORY_PAGES) return this.#memory.loadWords(page, npages, this.#list)
    this.#list.fill(0, 0, npages * 2)
    return false
  }

  /** Writes the first `count` values of the list; one record a run of neighbours. */
  #putList(table: SpaprTceTable, window: TceWindow, first: number, count: number, isWhole: boolean): void {
    const run = this.#run
    const list = this.#list
    const { store } = window
    const { wantsOld } = table
    const { how } = this.#stage
    // A log shows only the last value of a list that went through: that one is known, and stands alone.
    const lastAlone = how === SEEN || !isWhole ? -1 : count - 1
    run.begin(window.pageShift)
    if (!wantsOld) store.setList(first, count, list)
    for (let i = 0; i < count; i++) {
      const hi = list[i * 2] as number
      const lo = list[i * 2 + 1] as number
      const wasLive = wantsOld && isLive(window, first + i)
      if (wantsOld) store.set(first + i, lo, hi)
      if (i === 0 || i === lastAlone || !run.takes(hi, lo, wasLive)) {
        if (run.count > 0) table.announce(run.first, run.count, run.hi, run.lo, run.step, run.wasLive, how)
        run.start(first + i, hi, lo, wasLive)
      }
    }
    if (run.count > 0) {
      const known = lastAlone === -1 ? how : SEEN
      table.announce(run.first, run.count, run.hi, run.lo, run.step, run.wasLive, known)
    }
  }

  /** Entries [first, end) become one value; one record a stretch of equal history. */
  #putSame(
    table: SpaprTceTable,
    window: TceWindow,
    first: number,
    end: number,
    hi: number,
    lo: number,
  ): void {
    const { how } = this.#stage
    for (let start = first; start < end; ) {
      let stop = end
      let wasLive = false
      if (table.wantsOld) {
        wasLive = isLive(window, start)
        stop = start + 1
        while (stop < end && isLive(window, stop) === wasLive) stop++
      }
      window.store.fill(start, stop, lo, hi)
      table.announce(start, stop - start, hi, lo, -1, wasLive, how)
      start = stop
    }
  }

  /** What is wrong with a TCE: its address must be aligned to the IOMMU page, and all of that be guest memory. */
  #faultOf(hi: number, lo: number, pageShift: number): number {
    if ((lo & TCE_PERM) === 0) return TCE_FITS
    if (hasLowBits(hi, lo & ~TCE_PERM, pageShift)) return UNALIGNED
    const first = pageOf(hi, lo, MEMORY_PAGE_SHIFT)
    const end = first + (1 << (pageShift - MEMORY_PAGE_SHIFT))
    if (end > MEMORY_PAGES) return NO_RAM
    for (let page = first; page < end; page++) if (!this.#memory.isRam(page)) return NO_RAM
    return TCE_FITS
  }
}

/** Entries from the IOBA to the end of the window; 0 at its end, and less anywhere else outside. */
function roomAt(window: TceWindow, iobaHi: number, iobaLo: number): number {
  const low = (iobaLo >>> 0) - (window.busLo >>> 0)
  const high = (iobaHi - window.busHi - (low < 0 ? 1 : 0)) | 0
  return window.entries - pageOf(high, low | 0, window.pageShift)
}

function isLive(window: TceWindow, entry: number): boolean {
  window.store.load(entry)
  return (window.store.lo & TCE_PERM) !== 0
}
