import { AMD_LINES } from './amd-lines.ts'
import { BOOT_LINES } from './boot-lines.ts'
import { CAUSE_LINES } from './cause-lines.ts'
import { EEH_LINES } from './eeh-lines.ts'
import type { LineFamily } from './line-format.ts'
import { POWERPC_LINES } from './powerpc-lines.ts'
import { QEMU_LINES } from './qemu-lines.ts'
import { SMMU_LINES } from './smmu-lines.ts'
import { SMMU_V2_LINES } from './smmu-v2-lines.ts'
import { TRACE_LINES } from './trace-lines.ts'
import { VFIO_LINES } from './vfio-lines.ts'
import { VTD_LINES } from './vtd-lines.ts'

/** Every family of lines that is read, in the order in which their templates are tried. */
export const LINE_FAMILIES: readonly LineFamily[] = [
  VTD_LINES,
  EEH_LINES,
  POWERPC_LINES,
  VFIO_LINES,
  AMD_LINES,
  SMMU_LINES,
  SMMU_V2_LINES,
  QEMU_LINES,
  TRACE_LINES,
  CAUSE_LINES,
  BOOT_LINES,
]
