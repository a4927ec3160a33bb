import type { LogBatch } from '../../../reader/log-batch.ts'
import { LANES_MAX } from '../../../reader/log-format.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import type { InvalidationLines } from './invalidation-lines.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot

/** The source-id of a device that a line names in parts. */
export const sourceOf = (bus: number, slot: number, fn: number): number =>
  ((bus & 0xff) << 8) | ((slot & 31) << 3) | (fn & 7)

/** Takes a line that says what QEMU does about an invalidation. Whether it is one. */
export function flushRow(flushes: InvalidationLines, batch: LogBatch, row: number, line: number): boolean {
  const at = row * LANES_MAX
  const u32 = (slot: number) => (batch.lanes[at + slot] as number) >>> 0
  switch (batch.events[row]) {
    case N.vtd_inv_desc_iotlb_pages: {
      const s = S.vtd_inv_desc_iotlb_pages
      const iova = at + s.iova
      const [hi, lo] = [batch.lanes[iova + 1] as number, batch.lanes[iova] as number]
      flushes.pages(u32(s.domain), hi, lo, u32(s.order) & 0x3f, line)
      return true
    }
    case N.vtd_inv_desc_wait_sw:
    case N.vtd_inv_desc_wait_irq:
      flushes.wait(line)
      return true
    case N.vtd_inv_desc_iotlb_domain:
      flushes.domain(u32(S.vtd_inv_desc_iotlb_domain.domain), line)
      return true
    case N.vtd_inv_desc_iotlb_global:
      flushes.all(line)
      return true
    case N.vtd_inv_desc_cc_global:
      flushes.allContexts(line)
      return true
    case N.vtd_inv_desc_cc_domain:
      flushes.contextsOf(u32(S.vtd_inv_desc_cc_domain.domain), line)
      return true
    case N.vtd_inv_desc_cc_devices: {
      const s = S.vtd_inv_desc_cc_devices
      flushes.contextOf(u32(s.sid), u32(s.fmask), line)
      return true
    }
    case N.vtd_inv_desc_cc_device: {
      const s = S.vtd_inv_desc_cc_device
      flushes.forgotContext(sourceOf(u32(s.bus), u32(s.slot), u32(s.fn)))
      return true
    }
    case N.vtd_inv_desc_iotlb_pasid_pages: {
      const s = S.vtd_inv_desc_iotlb_pasid_pages
      flushes.pasidPages(u32(s.domain), u32(s.pasid), batch.u64(row, s.iova), u32(s.order), line)
      return true
    }
    case N.vtd_inv_desc_iotlb_pasid: {
      const s = S.vtd_inv_desc_iotlb_pasid
      flushes.pasid(u32(s.domain), u32(s.pasid), line)
      return true
    }
    default:
      return false
  }
}
