import {
  CAUSE_AER,
  CAUSE_COPIED,
  CAUSE_DIRECT,
  CAUSE_DIRECT_TEXT,
  CAUSE_DMA_DEBUG,
  CAUSE_LEFT_ON,
  CAUSE_LINES,
  CAUSE_NOT_COPIED,
  CAUSE_REMOVED,
  CAUSE_RMRR,
  CAUSE_RMRR_TEXT,
  CAUSE_VFIO,
} from '../../reader/kernel-log/cause-lines.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import type { FamilyExplainer, FaultLog, FaultWords } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'
import { pageTopic } from './vtd-fault-words.ts'

const NAMED = /\b((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\b/

/** The error that a program gets with such a line; nothing for other lines. (Linux v5.10 intel/iommu.c, v6.6 iommu.c) */
function refusalOf(text: string): string | undefined {
  if (text.includes(CAUSE_RMRR_TEXT)) return 'EPERM'
  return text.includes(CAUSE_DIRECT_TEXT) ? 'EINVAL' : undefined
}

const refusedWords = (device: string, error: string): FaultWords => ({
  kind: 'group',
  title: `${device} may not be given away: the firmware uses memory by it`,
  device,
  fields: { errnoName: error },
  rows: [
    [
      'means',
      'The firmware says that memory must stay mapped one to one for the device (RMRR of Intel, unity map of AMD, reserved memory of Arm). A guest, or a program with VFIO, could not keep it so.',
    ],
    [
      'answer',
      `${error}, for the program that takes the group: QEMU without iommufd prints "Failed to set ${error === 'EPERM' ? 'iommu for container' : 'group container'}"`,
    ],
  ],
  because: [],
  checks: [
    `reserved_regions in /sys/bus/pci/devices/${device.length > 7 ? device : `0000:${device}`}/iommu_group: its lines "direct" are those mappings`,
    'is there a setting of the firmware that lets the device go (shared memory, legacy USB, HP "RMRR")? A newer firmware may do so as well',
  ],
})

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
    const refused = valuesOf(CAUSE_RMRR, line) ?? valuesOf(CAUSE_DIRECT, line) ?? vfio
    const error = refused === undefined ? undefined : refusalOf(line.text)
    if (refused !== undefined && error !== undefined) {
      const device = shortDevice(refused.device)
      log.remember('vfio', line, `the kernel refused to give ${device} away: the firmware uses memory by it`)
      log.fault({
        key: `refused ${device} ${error}`,
        line,
        describe: () => refusedWords(device, error),
        identify: () => log.machine.linesOf(device),
      })
      return
    }
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
