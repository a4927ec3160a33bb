import type { Profile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Journal } from '../../bits/state.ts'
import { SpaprHcalls } from '../../kernel/qemu/spapr-hcalls.ts'
import { SpaprRtas } from '../../kernel/qemu/spapr-rtas.ts'
import { type BatchSink, DAMAGED_LINE, type LogBatch } from '../../reader/log-batch.ts'
import { LANES_MAX } from '../../reader/log-format.ts'
import { QEMU_TRACE } from '../../reader/qemu-trace-format.ts'
import type { TceWindow } from '../../table/tce-window.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { Stage } from '../../trace/stage.ts'
import { DdwCalls } from './ddw-calls.ts'
import { ListMemory } from './list-memory.ts'
import { PseriesWindows } from './pseries-windows.ts'
import { ReplayWindows } from './replay-windows.ts'
import { type OnAnswer, Tally } from './tally.ts'
import { type ShownCall, TceCalls } from './tce-calls.ts'
import { type ShownTranslation, Translations } from './translate.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot

/** Both flavours of a call have their fields in the same places. */
const STUFF = { ...S.spapr_iommu_stuff, ioba: S.spapr_iommu_stuff.iobaEnd }
const INDIRECT = { ...S.spapr_iommu_indirect, tce: S.spapr_iommu_indirect.lastTce }

/** Events whose line changes a table: a damaged one leaves every entry in doubt. */
const CHANGES: ReadonlySet<number> = new Set([
  N.spapr_iommu_put,
  N.spapr_iommu_pci_put,
  N.spapr_iommu_stuff,
  N.spapr_iommu_pci_stuff,
  N.spapr_iommu_indirect,
  N.spapr_iommu_pci_indirect,
])

/** Events before which it must be clear what new tables were: the others about windows decide that, or have no part in it. */
const SETTLES: ReadonlySet<number> = new Set([
  ...CHANGES,
  N.spapr_iommu_get,
  N.spapr_iommu_pci_get,
  N.spapr_iommu_ddw_query,
  N.spapr_iommu_ddw_remove,
])

/**
 * Replays a QEMU trace log of a pseries machine: each line becomes the operation that it tells of, is put
 * through the model's own handlers, and the answer is compared with the line's.
 *
 * @example
 * const replay = new QemuReplay(log, profile)
 * new QemuTraceReader(replay, { markDamaged: true })
 */
export class QemuReplay implements BatchSink {
  readonly tally: Tally
  readonly #stage: Stage
  readonly #windows: ReplayWindows
  readonly #calls: TceCalls
  readonly #translations: Translations
  readonly #ddw: DdwCalls
  readonly #call: ShownCall = {
    name: '',
    liobnHi: 0,
    liobnLo: 0,
    iobaHi: 0,
    iobaLo: 0,
    tceHi: 0,
    tceLo: 0,
    listHi: 0,
    listLo: 0,
    countHi: 0,
    countLo: 0,
    retHi: 0,
    retLo: 0,
    line: 0,
  }
  readonly #shown: ShownTranslation = {
    liobn: 0,
    offsetHi: 0,
    offsetLo: 0,
    gpaHi: 0,
    gpaLo: 0,
    perm: 0,
    mask: 0,
    line: 0,
  }

  constructor(log: RecordLog, profile: Profile, onAnswer?: OnAnswer) {
    const journal = new Journal()
    const stage = new Stage(log)
    stage.by = log.names.intern('guest:0')
    const list = new ListMemory()
    const units = new PseriesWindows({ stage, journal, profile, memory: list })
    const tally = new Tally(onAnswer)
    this.tally = tally
    const windows = new ReplayWindows(units, tally, log)
    const { liobns, life } = units
    const hcalls = new SpaprHcalls({ stage, liobns, life, profile, memory: list })
    const rtas = new SpaprRtas({ stage, liobns, life, profile, phbs: units.phbs })
    this.#stage = stage
    this.#windows = windows
    this.#calls = new TceCalls({ stage, port: hcalls, list, windows, tally })
    this.#translations = new Translations(stage, windows, tally)
    this.#ddw = new DdwCalls({ rtas, units, windows, tally })
  }

  take(batch: LogBatch): void {
    for (let row = 0; row < batch.count; ) row = this.#rows(batch, row)
  }

  /** Replays rows from one on; answers where to go on. A row that is too much for the model's memory is left out. */
  #rows(batch: LogBatch, from: number): number {
    let row = from
    try {
      for (; row < batch.count; row++) {
        this.#stage.line = batch.lines[row] as number
        this.#event(batch, row, batch.events[row] as number)
      }
    } catch (error) {
      if (!(error instanceof IommulatorError)) throw error
      this.#stage.cause = -1
      this.#stage.how = 0
      this.tally.unjudgedAnswers++
      this.tally.assume(this.#stage.line, `not replayed: ${error.message}`)
      this.#windows.demote()
      row++
    }
    return row
  }

  /** The window behind a LIOBN as the lines so far show it, if they do. */
  window(liobn: bigint): TceWindow | undefined {
    return liobn > 0xffff_ffffn ? undefined : this.#windows.find(Number(liobn))?.window
  }

  /** The log is over. */
  end(): void {
    this.#translations.settle()
    this.#windows.settle()
  }

  #event(batch: LogBatch, row: number, event: number): void {
    if (event === N.spapr_iommu_xlate) {
      if (this.#windows.hasPending) this.#windows.settle()
      this.#translation(batch.lanes, row * LANES_MAX)
      return
    }
    if (event === DAMAGED_LINE) {
      if (CHANGES.has(batch.lanes[row * LANES_MAX] as number)) this.#windows.demote()
      return
    }
    if (this.#translations.isWaiting || this.#windows.hasPending) this.#settle(SETTLES.has(event))
    this.#hypercall(batch, row, event)
  }

  #settle(isCall: boolean): void {
    this.#translations.settle()
    if (!isCall) return
    this.#translations.expectNoRead()
    this.#windows.settle()
  }

  #hypercall(batch: LogBatch, row: number, event: number): void {
    const { lanes } = batch
    const at = row * LANES_MAX
    switch (event) {
      case N.spapr_iommu_pci_put:
      case N.spapr_iommu_put:
        this.#begin('H_PUT_TCE', lanes, at, S.spapr_iommu_put)
        this.#calls.put(this.#call)
        return
      case N.spapr_iommu_pci_get:
      case N.spapr_iommu_get:
        this.#begin('H_GET_TCE', lanes, at, S.spapr_iommu_get)
        this.#calls.get(this.#call)
        return
      case N.spapr_iommu_pci_stuff:
      case N.spapr_iommu_stuff: {
        this.#begin('H_STUFF_TCE', lanes, at, STUFF)
        this.#count(lanes, at + STUFF.npages)
        this.#calls.stuff(this.#call)
        return
      }
      case N.spapr_iommu_pci_indirect:
      case N.spapr_iommu_indirect: {
        this.#begin('H_PUT_TCE_INDIRECT', lanes, at, INDIRECT)
        this.#count(lanes, at + INDIRECT.lastIndex)
        this.#call.listLo = lanes[at + INDIRECT.tceList] as number
        this.#call.listHi = lanes[at + INDIRECT.tceList + 1] as number
        this.#calls.indirect(this.#call)
        return
      }
      default:
        this.#windowEvent(batch, row, event)
    }
  }

  /** Takes the registers and the answer of a hypercall from a row. */
  #begin(
    name: string,
    lanes: Int32Array,
    at: number,
    slot: { readonly liobn: number; readonly ioba: number; readonly tce: number; readonly ret: number },
  ): void {
    const c = this.#call
    c.name = name
    c.line = this.#stage.line
    c.liobnLo = lanes[at + slot.liobn] as number
    c.liobnHi = lanes[at + slot.liobn + 1] as number
    c.iobaLo = lanes[at + slot.ioba] as number
    c.iobaHi = lanes[at + slot.ioba + 1] as number
    c.tceLo = lanes[at + slot.tce] as number
    c.tceHi = lanes[at + slot.tce + 1] as number
    c.retLo = lanes[at + slot.ret] as number
    c.retHi = lanes[at + slot.ret + 1] as number
  }

  #count(lanes: Int32Array, at: number): void {
    this.#call.countLo = lanes[at] as number
    this.#call.countHi = lanes[at + 1] as number
  }

  #translation(lanes: Int32Array, at: number): void {
    const s = S.spapr_iommu_xlate
    const t = this.#shown
    if ((lanes[at + s.liobn + 1] as number) !== 0) {
      this.tally.unjudgedTranslations++
      return
    }
    t.liobn = (lanes[at + s.liobn] as number) >>> 0
    t.offsetLo = lanes[at + s.windowOffset] as number
    t.offsetHi = lanes[at + s.windowOffset + 1] as number
    t.gpaLo = lanes[at + s.translated] as number
    t.gpaHi = lanes[at + s.translated + 1] as number
    t.perm = lanes[at + s.perm] as number
    t.mask = (lanes[at + s.mask] as number) >>> 0
    t.line = this.#stage.line
    this.#translations.see(t)
  }

  /** Lines about windows: rare, so their values go as bigint. */
  #windowEvent(batch: LogBatch, row: number, event: number): void {
    const { line } = this.#stage
    const at = row * LANES_MAX
    const u32 = (slot: number) => (batch.lanes[at + slot] as number) >>> 0
    switch (event) {
      case N.spapr_iommu_new_table: {
        const s = S.spapr_iommu_new_table
        const liobn = batch.u64(row, s.liobn)
        if (liobn > 0xffff_ffffn) return
        this.#windows.newTable(Number(liobn), line, u32(s.fd) !== 0xffff_ffff)
        this.#translations.expectRead(Number(liobn))
        return
      }
      case N.spapr_iommu_ddw_query: {
        const s = S.spapr_iommu_ddw_query
        this.#ddw.query({
          line,
          buid: batch.u64(row, s.buid),
          cfg: u32(s.configAddress),
          windows: u32(s.windows),
          bytesMax: batch.u64(row, s.windowBytesMax),
          pageSizes: u32(s.pageSizes),
        })
        return
      }
      case N.spapr_iommu_ddw_create: {
        const s = S.spapr_iommu_ddw_create
        this.#ddw.create({
          line,
          buid: batch.u64(row, s.buid),
          cfg: u32(s.configAddress),
          pageBytes: batch.u64(row, s.pageBytes),
          windowBytes: batch.u64(row, s.windowBytes),
          start: batch.u64(row, s.start),
          liobn: u32(s.liobn),
        })
        return
      }
      case N.spapr_iommu_ddw_remove:
        this.#ddw.remove({ line, liobn: u32(S.spapr_iommu_ddw_remove.liobn) })
        return
      case N.spapr_iommu_ddw_reset: {
        const s = S.spapr_iommu_ddw_reset
        this.#ddw.reset({ line, buid: batch.u64(row, s.buid), cfg: u32(s.configAddress) })
        return
      }
      case N.spapr_iommu_post_load:
        this.#postLoad(batch, row)
        return
      default:
    }
  }

  /** A table came in by migration: its shape shows, its contents do not. */
  #postLoad(batch: LogBatch, row: number): void {
    const s = S.spapr_iommu_post_load
    const at = row * LANES_MAX
    this.#windows.load({
      line: this.#stage.line,
      liobn: Number(batch.u64(row, s.liobn) & 0xffff_ffffn),
      entries: (batch.lanes[at + s.entries] as number) >>> 0,
      busOffset: batch.u64(row, s.busOffset),
      pageShift: (batch.lanes[at + s.pageShift] as number) >>> 0,
    })
  }
}
