import {
  CAUSE_AER,
  CAUSE_COPIED,
  CAUSE_DMA_DEBUG,
  CAUSE_LEFT_ON,
  CAUSE_LINES,
  CAUSE_NOT_COPIED,
  CAUSE_REMOVED,
  CAUSE_VFIO,
} from '../../reader/kernel-log/cause-lines.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import type { FamilyExplainer, FaultLog } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'
import { pageTopic } from './vtd-fault-words.ts'

const NAMED = /\b((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\b/

/** Keeps lines that lead to faults of any family: a later fault of the device, or of the address, names them. */
export class CauseExplainer implements FamilyExplainer {
  readonly family = CAUSE_LINES.id

  take(line: FoundLine, log: FaultLog): void {
    const left = valuesOf(CAUSE_LEFT_ON, line)
    if (left !== undefined) {
      const text = `${left.unit} was left switched on by the firmware or the kernel before: devices may still run with its addresses`
      log.remember('cause', line, text)
      return
    }
    const copied = valuesOf(CAUSE_COPIED, line)
    if (copied !== undefined) {
      log.remember('cause', line, `${copied.unit} goes on with the tables of the kernel that crashed`)
      return
    }
    const lost = valuesOf(CAUSE_NOT_COPIED, line)
    if (lost !== undefined) {
      const text = `the tables of the kernel that crashed could not be taken over for ${lost.unit}: its devices still run`
      log.remember('cause', line, text)
      return
    }
    const removed = valuesOf(CAUSE_REMOVED, line)
    if (removed !== undefined) {
      const text = `it was taken out of IOMMU group ${removed.group}: its mappings are gone`
      log.remember('cause', line, text, shortDevice(removed.device))
      return
    }
    const vfio = valuesOf(CAUSE_VFIO, line)
    if (vfio !== undefined) {
      log.remember('cause', line, `VFIO has the device: ${vfio.what}`, shortDevice(vfio.device))
      return
    }
    const debug = valuesOf(CAUSE_DMA_DEBUG, line)
    if (debug !== undefined) {
      const text = `DMA_API_DEBUG: ${debug.what}`
      log.remember('cause', line, text, shortDevice(debug.device))
      log.remember(pageTopic(debug.address), line, text)
      return
    }
    const aer = valuesOf(CAUSE_AER, line)
    const device = NAMED.exec(aer?.what ?? '')?.[1]
    if (aer === undefined) return
    const text = `the port ${shortDevice(aer.port)} got an error message: ${aer.what}`
    log.remember('cause', line, text, shortDevice(device ?? aer.port))
  }
}
