import { hex, wordOf } from '../../../bits/u64.ts'
import { type BatchSink, DAMAGED_LINE, type LogBatch } from '../../../reader/log-batch.ts'
import { LANES_MAX } from '../../../reader/log-format.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import { FaultLines, type FaultStory } from './fault-lines.ts'
import { InvalidationLines } from './invalidation-lines.ts'
import { flushRow, sourceOf } from './invalidation-rows.ts'
import { contextText, isSameContext, type SeenContext, SeenContexts } from './seen-contexts.ts'
import { SeenIotlb } from './seen-iotlb.ts'
import { SeenPages } from './seen-pages.ts'
import type { HeldState } from './tables-check.ts'
import { type ShownEntry, type ShownTranslation, TranslationLines } from './translation-lines.ts'
import { VtdRecords } from './vtd-records.ts'
import { VtdTally } from './vtd-tally.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot

/** Offsets of registers that matter here: FSTS, and the one fault recording register. */
const FSTS = 0x34
const FRCD_HI = 0x228
const FRCD_HI_HI = 0x22c

/** Events of a VT-d unit that show or change something. */
const TAKEN: readonly number[] = [
  N.vtd_inv_desc,
  N.vtd_inv_desc_cc_domain,
  N.vtd_inv_desc_cc_global,
  N.vtd_inv_desc_cc_device,
  N.vtd_inv_desc_cc_devices,
  N.vtd_inv_desc_iotlb_global,
  N.vtd_inv_desc_iotlb_domain,
  N.vtd_inv_desc_iotlb_pages,
  N.vtd_inv_desc_iotlb_pasid_pages,
  N.vtd_inv_desc_iotlb_pasid,
  N.vtd_inv_desc_wait_sw,
  N.vtd_inv_desc_wait_irq,
  N.vtd_context_cache_reset,
  N.vtd_re_not_present,
  N.vtd_ce_not_present,
  N.vtd_iotlb_page_hit,
  N.vtd_iotlb_page_update,
  N.vtd_iotlb_cc_hit,
  N.vtd_iotlb_cc_update,
  N.vtd_iotlb_reset,
  N.vtd_fault_disabled,
  N.vtd_translate_pt,
  N.vtd_dmar_translate,
  N.vtd_dmar_fault,
  N.vtd_reg_write,
  N.vtd_reg_dmar_root,
  N.vtd_dmar_enable,
  N.vtd_frr_new,
  N.vtd_reset_exit,
]
const IS_TAKEN = Uint8Array.from({ length: 256 }, (_, event) => (TAKEN.includes(event) ? 1 : 0))

/** Whether an event is one that a replay of a VT-d unit takes. */
export const isOfVtd = (event: number): boolean => IS_TAKEN[event] !== 0

/**
 * Replays the lines of QEMU's intel-iommu in a trace log: every translation must be explained by what came before it, every
 * fault expected, and lines of caches and invalidations must fit together. What happened becomes records, for the checkers.
 *
 * It takes a log of any other machine as well, and finds nothing in it.
 *
 * @example
 * const replay = new VtdReplay(log)
 * new QemuTraceReader(replay, { markDamaged: true })
 */
export class VtdReplay implements BatchSink {
  readonly tally = new VtdTally()
  readonly #records: VtdRecords
  readonly #contexts = new SeenContexts()
  readonly #iotlb = new SeenIotlb()
  readonly #pages = new SeenPages()
  readonly #translations: TranslationLines
  readonly #faults: FaultLines
  readonly #invalidations: InvalidationLines
  readonly #entry: ShownEntry = {
    source: 0,
    domain: 0,
    iovaHi: 0,
    iovaLo: 0,
    slpteHi: 0,
    slpteLo: 0,
    line: 0,
  }
  readonly #shown: ShownTranslation = {
    source: 0,
    iovaHi: 0,
    iovaLo: 0,
    gpaHi: 0,
    gpaLo: 0,
    maskHi: 0,
    maskLo: 0,
    line: 0,
  }
  #root = 0n
  /** The caches are emptied next because software changed the root table, or switched translation. */
  #isSwitching = false
  /** Lines about caches have come: a reset that follows is not the first thing that happened. */
  #line = 0

  /** @param onFault told of each fault of the trace, with what led to it */
  constructor(log: RecordLog, onFault?: (story: FaultStory) => void) {
    this.#records = new VtdRecords(log)
    const parts = {
      tally: this.tally,
      records: this.#records,
      contexts: this.#contexts,
      iotlb: this.#iotlb,
      pages: this.#pages,
      onFault,
    }
    this.#translations = new TranslationLines(parts)
    this.#faults = new FaultLines(parts)
    this.#invalidations = new InvalidationLines(parts)
  }

  take(batch: LogBatch): void {
    const { events } = batch
    for (let row = 0; row < batch.count; row++) {
      const event = events[row] as number
      if (IS_TAKEN[event] !== 0) this.#event(batch, row, event)
      else if (event === DAMAGED_LINE) this.#damaged(batch.lanes[row * LANES_MAX] as number)
    }
  }

  /** What the unit holds now, as far as the lines show. */
  get held(): HeldState {
    const { held: contexts, isScalable } = this.#contexts
    return { entries: this.#iotlb.entries(), contexts, isScalable }
  }

  /** The log is over. */
  end(): void {
    this.#faults.settle()
    this.#invalidations.settle()
  }

  #event(batch: LogBatch, row: number, event: number): void {
    this.tally.lines++
    this.#line = batch.lines[row] as number
    const at = row * LANES_MAX
    const { lanes } = batch
    switch (event) {
      case N.vtd_iotlb_page_hit:
        this.#translations.hit(this.#entryAt(lanes, at))
        return
      case N.vtd_iotlb_page_update:
        this.#translations.update(this.#entryAt(lanes, at))
        return
      case N.vtd_dmar_translate:
        this.#translated(lanes, at)
        return
      case N.vtd_iotlb_cc_hit:
      case N.vtd_iotlb_cc_update:
        this.#context(lanes, at, event === N.vtd_iotlb_cc_hit)
        return
      case N.vtd_inv_desc: {
        const s = S.vtd_inv_desc
        const [hi, lo] = [at + s.hi, at + s.lo]
        this.#invalidations.descriptor(
          lanes[hi + 1] as number,
          lanes[hi] as number,
          lanes[lo + 1] as number,
          lanes[lo] as number,
          this.#line,
        )
        return
      }
      case N.vtd_reg_write:
        this.#registerWrite(lanes, at)
        return
      default:
        if (!flushRow(this.#invalidations, batch, row, this.#line)) this.#rare(batch, row, event)
    }
  }

  #entryAt(lanes: Int32Array, at: number): ShownEntry {
    const s = S.vtd_iotlb_page_hit
    const e = this.#entry
    e.source = (lanes[at + s.sid] as number) & 0xffff
    e.domain = (lanes[at + s.domain] as number) & 0xffff
    e.iovaLo = lanes[at + s.iova] as number
    e.iovaHi = lanes[at + s.iova + 1] as number
    e.slpteLo = lanes[at + s.slpte] as number
    e.slpteHi = lanes[at + s.slpte + 1] as number
    e.line = this.#line
    return e
  }

  #translated(lanes: Int32Array, at: number): void {
    const s = S.vtd_dmar_translate
    const t = this.#shown
    t.source = sourceOf(lanes[at + s.bus] as number, lanes[at + s.slot] as number, lanes[at + s.fn] as number)
    t.iovaLo = lanes[at + s.iova] as number
    t.iovaHi = lanes[at + s.iova + 1] as number
    t.gpaLo = lanes[at + s.gpa] as number
    t.gpaHi = lanes[at + s.gpa + 1] as number
    t.maskLo = lanes[at + s.mask] as number
    t.maskHi = lanes[at + s.mask + 1] as number
    t.line = this.#line
    this.#translations.translated(t)
  }

  #context(lanes: Int32Array, at: number, isHit: boolean): void {
    const s = isHit ? S.vtd_iotlb_cc_hit : S.vtd_iotlb_cc_update
    const source = (((lanes[at + s.bus] as number) & 0xff) << 8) | ((lanes[at + s.devfn] as number) & 0xff)
    const held = this.#contexts.find(source)
    if (isHit && held !== undefined) {
      const generation = lanes[at + s.generation] as number
      const isHeld =
        held.loLo === lanes[at + s.lo] && held.hiLo === lanes[at + s.hi] && held.generation === generation
      if (isHeld && held.loHi === lanes[at + s.lo + 1] && held.hiHi === lanes[at + s.hi + 1]) return
    }
    const context: SeenContext = {
      hiHi: lanes[at + s.hi + 1] as number,
      hiLo: lanes[at + s.hi] as number,
      loHi: lanes[at + s.lo + 1] as number,
      loLo: lanes[at + s.lo] as number,
      generation: lanes[at + s.generation] as number,
      line: this.#line,
    }
    if (isHit && this.#contexts.isComplete) this.#wrongContext(source, context, held)
    const domain = this.#contexts.read(source, context)
    const { loHi, loLo } = context
    this.#records.context(source, wordOf(loHi, loLo), domain ?? 0, this.#line)
    if (domain !== undefined)
      this.#records.attach(source, domain, this.#contexts.hasDeviceTlb(context), this.#line)
  }

  #wrongContext(source: number, shown: SeenContext, held: SeenContext | undefined): void {
    const isOther = held !== undefined && !isSameContext(held, shown)
    this.tally.diverge({
      line: this.#line,
      what: 'record',
      call: `context hit of ${hex(source)}`,
      log: contextText(shown),
      model: isOther ? `line ${held.line} read ${contextText(held)}` : 'no entry is held',
      rule: isOther ? 'context-differs' : 'context-hit-without-read',
    })
  }

  #registerWrite(lanes: Int32Array, at: number): void {
    const s = S.vtd_reg_write
    const offset = lanes[at + s.offset] as number
    if (offset === FSTS) this.#faults.wroteStatus(lanes[at + s.value] as number)
    else if (offset === FRCD_HI && lanes[at + s.bytes] === 8)
      this.#faults.wroteRecord(lanes[at + s.value + 1] as number)
    else if (offset === FRCD_HI_HI) this.#faults.wroteRecord(lanes[at + s.value] as number)
  }

  #rare(batch: LogBatch, row: number, event: number): void {
    const at = row * LANES_MAX
    const u32 = (slot: number) => (batch.lanes[at + slot] as number) >>> 0
    const line = this.#line
    switch (event) {
      case N.vtd_dmar_fault: {
        const s = S.vtd_dmar_fault
        const [source, reason] = [u32(s.sid) & 0xffff, u32(s.fault)]
        const iova = batch.u64(row, s.iova)
        this.#faults.fault({ source, reason, iova, isWrite: u32(s.write) !== 0, line })
        return
      }
      case N.vtd_frr_new: {
        const s = S.vtd_frr_new
        const [hiLo, hiHi] = [batch.lanes[at + s.hi] as number, batch.lanes[at + s.hi + 1] as number]
        this.#faults.recorded(u32(s.record), hiHi, hiLo, batch.u64(row, s.lo), line)
        return
      }
      case N.vtd_fault_disabled:
        this.#faults.silenced(line)
        return
      case N.vtd_translate_pt: {
        const s = S.vtd_translate_pt
        const iova = at + s.iova
        this.#translations.passThrough(
          u32(s.sid) & 0xffff,
          batch.lanes[iova + 1] as number,
          batch.lanes[iova] as number,
        )
        return
      }
      case N.vtd_re_not_present:
        this.#contexts.absentRoot(u32(S.vtd_re_not_present.busNumber) & 0xff, line)
        return
      case N.vtd_ce_not_present: {
        const s = S.vtd_ce_not_present
        this.#contexts.absent(((u32(s.busNumber) & 0xff) << 8) | (u32(s.devfnNumber) & 0xff), line)
        return
      }
      case N.vtd_iotlb_reset:
        this.#translations.overflowed()
        return
      default:
        this.#unit(batch, row, event)
    }
  }

  /** The unit changes as a whole. */
  #unit(batch: LogBatch, row: number, event: number): void {
    const at = row * LANES_MAX
    const u32 = (slot: number) => (batch.lanes[at + slot] as number) >>> 0
    switch (event) {
      case N.vtd_reg_dmar_root: {
        const s = S.vtd_reg_dmar_root
        this.#root = batch.u64(row, s.address)
        this.#contexts.startAnew(u32(s.scalable) !== 0)
        this.#isSwitching = true
        this.#changed()
        return
      }
      case N.vtd_dmar_enable:
        this.#translations.isEnabled = u32(S.vtd_dmar_enable.on) !== 0
        this.#isSwitching = true
        this.#changed()
        return
      case N.vtd_context_cache_reset:
        this.#emptied()
        return
      case N.vtd_reset_exit:
        this.#reset()
        return
      default:
    }
  }

  #changed(): void {
    const isEnabled = this.#translations.isEnabled === true
    this.#records.root(this.#root, this.#contexts.isScalable, isEnabled, this.#line)
  }

  /** All caches are emptied: as software changed the root table or switched translation, or as the machine is reset. */
  #emptied(): void {
    this.#iotlb.clear(this.#line)
    this.#contexts.forget()
    this.#pages.clear()
    if (!this.#isSwitching) this.#reset()
    this.#isSwitching = false
  }

  #reset(): void {
    const wasEnabled = this.#translations.isEnabled === true
    this.#translations.isEnabled = false
    this.#root = 0n
    this.#contexts.startAnew(false)
    this.#faults.reset()
    if (wasEnabled) this.#changed()
  }

  /** A line is lost. Where it was one that changes something, what rests on it is not known any more. */
  #damaged(event: number): void {
    if (event >= 0 && IS_TAKEN[event] === 0) return
    if (this.tally.lines === 0) return
    this.#translations.doubt()
    this.#contexts.doubt()
    this.#faults.doubt()
    this.#invalidations.settle()
  }
}
