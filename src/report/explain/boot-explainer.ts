import {
  BOOT_LINES,
  COMMAND_LINE,
  IOMMU_GROUP,
  IOMMU_GROUP_OLD,
  LINUX_VERSION,
  MEMORY_MAP,
  PCI_DEVICE,
  ZONE,
} from '../../reader/kernel-log/boot-lines.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import type { FamilyExplainer, FaultLog } from './fault-log.ts'

/** Words of a command line that say how IOMMUs are used. */
const IOMMU_OPTION = /^(?:intel_iommu|amd_iommu|iommu|iommu\.\w+|disable_ddw|vfio[\w.]*|intremap|pci)(?:=|$)/

/** Keeps what a kernel says of its machine, for the explainers of faults. */
export class BootExplainer implements FamilyExplainer {
  readonly family = BOOT_LINES.id

  take(line: FoundLine, log: FaultLog): void {
    const version = valuesOf(LINUX_VERSION, line)
    if (version !== undefined) {
      log.fact(`version ${version.version}`, line, `Linux ${version.version}`, { version: version.version })
      return
    }
    const command = valuesOf(COMMAND_LINE, line)
    if (command !== undefined) {
      const options = command.line.split(/\s+/).filter((word) => IOMMU_OPTION.test(word))
      if (options.length > 0)
        log.fact(`options ${options}`, line, `started with ${options.join(' ')}`, {
          options: options.join(' '),
        })
      return
    }
    const memory = valuesOf(MEMORY_MAP, line)
    if (memory !== undefined) {
      const text = memory.type === 'usable' ? 'usable RAM' : memory.type
      log.machine.region({ first: memory.first, last: memory.last, line: line.line, text })
      return
    }
    const zone = valuesOf(ZONE, line)
    if (zone !== undefined) {
      log.machine.zone({ first: zone.first, last: zone.last, line: line.line, text: 'memory of the kernel' })
      return
    }
    const pci = valuesOf(PCI_DEVICE, line)
    if (pci !== undefined) {
      log.machine.device(
        pci.device,
        line.line,
        `${pci.device} is [${pci.id}], class ${pci.class.replace('0x', '')}`,
      )
      return
    }
    const group = valuesOf(IOMMU_GROUP, line) ?? valuesOf(IOMMU_GROUP_OLD, line)
    if (group !== undefined)
      log.machine.device(group.device, line.line, `${group.device} is in IOMMU group ${group.group}`)
  }
}
