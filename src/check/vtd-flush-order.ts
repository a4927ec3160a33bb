import { hex } from '../bits/u64.ts'
import { FLUSH_SCOPE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { sourceText } from './describe-vtd.ts'
import { because } from './evidence.ts'
import { type Flush, type FlushTag, NEVER } from './vtd-flushes.ts'
import { SMALLEST } from './vtd-invalidations.ts'
import type { PageParts, TakenBack } from './vtd-table-pages.ts'
import type { VtdUnitShadow } from './vtd-unit-shadow.ts'

const RULE = 'flush-order'
const PAGE_BYTES = 4096
/** Changes that wait for their flushes, at most; the oldest go. */
const OPEN_MAX = 1024

/** A change, a device that keeps what was changed, and what has been flushed for it. */
interface OpenChange {
  readonly change: TakenBack
  readonly source: number
  readonly pasid: number
  /** What the IOTLB keeps it by for this device. */
  readonly tag: FlushTag
  /** The first flush of the IOTLB that covers it. */
  iotlb: number
  /** The last flush of the TLB of the device that came before it. */
  early: number
}

/**
 * Judges `flush-order`: of a translation that was taken back, the TLB of a device flushed before the IOTLB, and not once
 * more behind it. Only the queue's order counts, because units keep to it.
 */
export class FlushOrder {
  readonly #parts: PageParts
  #open: OpenChange[] = []

  constructor(parts: PageParts) {
    this.#parts = parts
  }

  changed(change: TakenBack): void {
    const { unit, tag, holders } = change
    for (const { source, pasid } of holders) {
      if (this.#open.length >= OPEN_MAX) {
        this.#open.shift()
        this.#parts.list.skipped++
      }
      const through = unit.pasidOf(source, pasid)
      const own = { ...tag, source, pasid: through }
      this.#open.push({ change, source, pasid, tag: own, iotlb: NEVER, early: NEVER })
    }
  }

  /** A flush, after the shadow of its unit has it. */
  flushed(unit: VtdUnitShadow, { seq, scope }: Flush): void {
    if (this.#open.length === 0) return
    const isOfDevice = scope === FLUSH_SCOPE.DEVICE_TLB || scope === FLUSH_SCOPE.PASID_DEVICE_TLB
    this.#open = this.#open.filter((open) => {
      const { change, source, pasid, tag } = open
      if (change.unit !== unit) return true
      const isCovered = isOfDevice
        ? unit.devices.last({ source, pasid, range: tag.range }) === seq
        : unit.iotlb.last(tag) === seq
      if (!isCovered) return true
      if (!isOfDevice) {
        if (open.iotlb === NEVER) open.iotlb = seq
        // Nothing came too early: what follows is in order.
        return open.early !== NEVER
      }
      if (open.iotlb !== NEVER) return false
      open.early = seq
      return true
    })
  }

  /** Nothing more comes: what was too early stays so. */
  finish(log: RecordLog): void {
    const { list, scene } = this.#parts
    for (const { change, source, pasid, tag, iotlb, early } of this.#open) {
      if (iotlb === NEVER || early === NEVER) continue
      const key = {
        rule: RULE,
        window: change.unit.number,
        entry: change.address,
        by: change.seq,
        ended: early,
      }
      if (list.again(key)) continue
      const message =
        `the TLB of ${sourceText(source)} is flushed for ${hex(tag.range.first * PAGE_BYTES)} before the IOTLB is, ` +
        `which may answer it with what was taken back: behind that it takes the invalidation of ` +
        SMALLEST.device(source, pasid, tag.range)
      list.add({
        rule: RULE,
        message,
        because: because(scene(log), change.seq, early, iotlb),
        inferred: false,
      })
    }
    this.#open = []
  }
}
