import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  TRACE_ATTACH,
  TRACE_FAULT,
  TRACE_LINES,
  TRACE_MAP,
  TRACE_REQUEST,
  TRACE_UNMAP,
} from '../../reader/kernel-log/trace-lines.ts'
import type { FamilyExplainer, FaultLog } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'

/** Flag of an io_page_fault (Linux include/linux/iommu.h IOMMU_FAULT_WRITE). */
const FAULT_WRITE = 1n

/** Reads what Linux traces of its IOMMU: its faults, and mappings that explain faults of any family. */
export class TraceExplainer implements FamilyExplainer {
  readonly family = TRACE_LINES.id

  take(line: FoundLine, log: FaultLog): void {
    const map = valuesOf(TRACE_MAP, line)
    if (map !== undefined) {
      log.machine.pages.map(map.iova, map.end, line.line)
      return
    }
    const unmap = valuesOf(TRACE_UNMAP, line)
    if (unmap !== undefined) {
      log.machine.pages.unmap(unmap.iova, unmap.end, line.line)
      return
    }
    const attach = valuesOf(TRACE_ATTACH, line)
    if (attach !== undefined) {
      log.remember('cause', line, 'the device came into another domain', shortDevice(attach.device))
      return
    }
    const request = valuesOf(TRACE_REQUEST, line)
    if (request !== undefined) {
      const device = request.device.slice(request.device.indexOf('/') + 1)
      const page = hex(request.page << 12n)
      const text = `it asked for the page at ${page} of PASID ${hex(request.pasid)} (${request.access})`
      log.remember('page-request', line, text, shortDevice(device))
      return
    }
    const fault = valuesOf(TRACE_FAULT, line)
    if (fault === undefined) return
    const isWrite = (fault.flags & FAULT_WRITE) !== 0n
    const device = shortDevice(fault.device)
    log.fault({
      key: `${device} ${fault.driver} ${isWrite}`,
      line,
      address: fault.iova,
      describe: () => ({
        kind: 'dma',
        title: `DMA ${isWrite ? 'write' : 'read'} by ${device} was blocked`,
        device,
        fields: { access: isWrite ? 'write' : 'read', driver: fault.driver },
        rows: [
          ['driver', fault.driver === '' ? 'none' : fault.driver],
          ['means', 'The unit refused the request, and the kernel told the handler of the domain.'],
        ],
        because: [...log.machine.pages.storyOf(fault.iova), ...log.earlier('cause', device).slice(0, 4)],
        checks: [
          'was the address mapped, and unmapped before the fault? The lines map and unmap of the same trace tell',
          `lspci -nnks ${device}: what the device is, and which driver has it`,
        ],
      }),
    })
  }
}
