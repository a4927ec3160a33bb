import { H_CODES } from '../../src/bits/codes.ts'
import { wordOf } from '../../src/bits/u64.ts'
import type { GuestRam, HcallPort, RtasPort, WindowNumbers } from '../../src/kernel/ports.ts'
import { KIND } from '../../src/trace/event.ts'
import type { Stage } from '../../src/trace/stage.ts'

export type HcallName = 'H_PUT_TCE' | 'H_PUT_TCE_INDIRECT' | 'H_STUFF_TCE' | 'H_GET_TCE'

/** A hypercall or RTAS call as the fake saw it. */
export interface SeenCall {
  readonly call: string
  readonly args: readonly bigint[]
  /** Entries of the list of H_PUT_TCE_INDIRECT. */
  readonly list?: readonly bigint[]
}

interface FakeWindow {
  readonly number: number
  readonly liobn: number
  readonly pageShift: number
  readonly base: bigint
  readonly entries: bigint
  readonly tces: Map<bigint, bigint>
}

/** What the fake firmware answers to a query for windows, and where it puts the next one. */
export interface FakeFirmware {
  windows: number
  largest: bigint
  pageSizes: number
  nextBase: bigint
  nextLiobn: number
  /** Status of the next create calls; 0 where the list is empty. */
  createStatus: number[]
}

/**
 * A hypervisor for tests of the guest kernel alone: it keeps every call that it gets, holds the entries of its
 * windows in maps, and refuses what a test tells it to.
 */
export class FakeHypervisor implements HcallPort, RtasPort, GuestRam, WindowNumbers {
  r4Hi = 0
  r4Lo = 0
  readonly calls: SeenCall[] = []
  readonly memory = new Map<number, bigint>()
  readonly windows = new Map<number, FakeWindow>()
  readonly firmware: FakeFirmware = {
    windows: 1,
    largest: 1n << 37n,
    pageSizes: 0x107,
    nextBase: 1n << 59n,
    nextLiobn: 0x8000_0001,
    createStatus: [],
  }
  /** Answers a code for a call that shall be refused, undefined for others; asked before anything is written. */
  refuse: (call: HcallName, ioba: bigint, count: bigint) => number | undefined = () => undefined
  #made = 0
  readonly #stage: Stage
  readonly #defaults: (() => void)[] = []

  constructor(stage: Stage) {
    this.#stage = stage
  }

  /** Opens a window, as firmware does before the guest starts. */
  open(liobn: number, pageShift: number, base: bigint, bytes: bigint): void {
    const make = () => {
      const entries = bytes >> BigInt(pageShift)
      const number = ++this.#made
      this.windows.set(liobn, { number, liobn, pageShift, base, entries, tces: new Map() })
      this.#stage.log.emit('window.open', null, {
        window: number,
        liobn,
        pageShift,
        busOffset: base,
        entries: Number(entries),
        unit: 'phb',
      })
    }
    this.#defaults.push(make)
    make()
  }

  windowOf(liobn: number): number {
    return this.windows.get(liobn)?.number ?? 0
  }

  /** Entries with a permission, by bus address, over all windows or one. */
  live(liobn?: number): Map<bigint, bigint> {
    const out = new Map<bigint, bigint>()
    for (const w of this.windows.values()) {
      if (liobn !== undefined && w.liobn !== liobn) continue
      for (const [entry, tce] of w.tces)
        if ((tce & 3n) !== 0n) out.set(w.base + (entry << BigInt(w.pageShift)), tce)
    }
    return out
  }

  /** Calls of one name since the beginning. */
  seen(call: string): readonly bigint[][] {
    return this.calls.filter((c) => c.call === call).map((c) => [...c.args])
  }

  putTce(lh: number, ll: number, ih: number, il: number, th: number, tl: number): number {
    const [liobn, ioba, tce] = [wordOf(lh, ll), wordOf(ih, il), wordOf(th, tl)]
    this.calls.push({ call: 'H_PUT_TCE', args: [liobn, ioba, tce] })
    return this.refuse('H_PUT_TCE', ioba, 1n) ?? this.#set(liobn, ioba, [tce])
  }

  putTceIndirect(
    lh: number,
    ll: number,
    ih: number,
    il: number,
    ah: number,
    al: number,
    nh: number,
    nl: number,
  ): number {
    const [liobn, ioba, list, count] = [wordOf(lh, ll), wordOf(ih, il), wordOf(ah, al), wordOf(nh, nl)]
    const tces = Array.from({ length: Number(count) }, (_, i) => this.memory.get(Number(list) + i * 8) ?? 0n)
    this.calls.push({ call: 'H_PUT_TCE_INDIRECT', args: [liobn, ioba, list, count], list: tces })
    if (count === 0n || count > 512n) return H_CODES.H_PARAMETER
    return this.refuse('H_PUT_TCE_INDIRECT', ioba, count) ?? this.#set(liobn, ioba, tces)
  }

  stuffTce(
    lh: number,
    ll: number,
    ih: number,
    il: number,
    vh: number,
    vl: number,
    nh: number,
    nl: number,
  ): number {
    const [liobn, ioba, value, count] = [wordOf(lh, ll), wordOf(ih, il), wordOf(vh, vl), wordOf(nh, nl)]
    this.calls.push({ call: 'H_STUFF_TCE', args: [liobn, ioba, value, count] })
    if (count === 0n) return H_CODES.H_PARAMETER
    return this.refuse('H_STUFF_TCE', ioba, count) ?? this.#fill(liobn, ioba, value, count)
  }

  getTce(lh: number, ll: number, ih: number, il: number): number {
    const [liobn, ioba] = [wordOf(lh, ll), wordOf(ih, il)]
    const w = this.windows.get(Number(liobn))
    const entry = w === undefined ? 0n : (ioba - w.base) >> BigInt(w.pageShift)
    const isThere = w !== undefined && ioba >= w.base && entry < w.entries
    const refused = this.refuse('H_GET_TCE', ioba, 1n)
    const rc = isThere ? (refused ?? H_CODES.H_SUCCESS) : H_CODES.H_PARAMETER
    // A call that fails leaves the register as it was passed.
    const r4 = rc === H_CODES.H_SUCCESS ? (w?.tces.get(entry) ?? 0n) : liobn
    this.r4Hi = Number(BigInt.asIntN(32, r4 >> 32n))
    this.r4Lo = Number(BigInt.asIntN(32, r4))
    return rc
  }

  storeU64be(gpa: number, hi: number, lo: number): boolean {
    // Words that were never written read as 0, too.
    if ((hi | lo) === 0) this.memory.delete(gpa)
    else this.memory.set(gpa, wordOf(hi, lo))
    return true
  }

  call(token: number, args: readonly number[], nret: number): readonly number[] {
    this.calls.push({ call: `rtas 0x${token.toString(16)}`, args: args.map(BigInt) })
    const { firmware } = this
    const [hi, lo] = [Number(firmware.largest >> 32n), Number(firmware.largest & 0xffff_ffffn)]
    if (token === 0x2026) {
      const out =
        nret === 6
          ? [0, firmware.windows, hi, lo, firmware.pageSizes, 0]
          : [0, firmware.windows, lo, firmware.pageSizes, 0]
      return out
    }
    if (token === 0x2027) {
      const status = firmware.createStatus.shift() ?? 0
      if (status !== 0) return [status]
      const base = firmware.nextBase
      const liobn = firmware.nextLiobn
      this.open(liobn, args[3] as number, base, 1n << BigInt(args[4] as number))
      this.#defaults.pop()
      firmware.windows--
      return [0, liobn, Number(base >> 32n), Number(base & 0xffff_ffffn)]
    }
    if (token === 0x2028) {
      firmware.windows++
      return [this.windows.delete(args[0] as number) ? 0 : -3]
    }
    this.windows.clear()
    for (const make of this.#defaults) make()
    return [0]
  }

  #fill(liobn: bigint, ioba: bigint, value: bigint, count: bigint): number {
    const w = this.windows.get(Number(liobn))
    if (w === undefined) return H_CODES.H_PARAMETER
    const first = (ioba - w.base) >> BigInt(w.pageShift)
    const end = first + count
    const stop = end < w.entries ? end : w.entries
    if (ioba < w.base || first >= w.entries) return H_CODES.H_PARAMETER
    if (value === 0n && w.tces.size < Number(count)) {
      for (const entry of [...w.tces.keys()]) if (entry >= first && entry < stop) w.tces.delete(entry)
    } else for (let entry = first; entry < stop; entry++) w.tces.set(entry, value)
    const fields = {
      window: w.number,
      first: Number(first),
      count: Number(stop - first),
      tce: value,
      step: -1,
      how: 0,
    }
    this.#stage.log.emit('tce.set', this.#stage.cause, fields)
    return stop === end ? H_CODES.H_SUCCESS : H_CODES.H_PARAMETER
  }

  #set(liobn: bigint, ioba: bigint, tces: readonly bigint[]): number {
    const w = this.windows.get(Number(liobn))
    if (w === undefined) return H_CODES.H_PARAMETER
    const first = (ioba - w.base) >> BigInt(w.pageShift)
    for (const [i, tce] of tces.entries()) {
      const entry = first + BigInt(i)
      if (ioba < w.base || entry >= w.entries) return H_CODES.H_PARAMETER
      if (tce === 0n) w.tces.delete(entry)
      else w.tces.set(entry, tce)
      this.#stage.log.append(
        KIND['tce.set'],
        this.#stage.cause,
        w.number,
        Number(entry),
        0,
        1,
        0,
        Number(BigInt.asIntN(32, tce)),
        Number(BigInt.asIntN(32, tce >> 32n)),
        -1,
        0,
      )
    }
    return H_CODES.H_SUCCESS
  }
}
