import type { CallHandler } from '../../bits/answer.ts'
import type { Life } from '../../hw/life.ts'
import type { RemappingUnit } from '../../hw/vtd/remapping-unit.ts'
import type { GuestDevice } from '../../kernel/intel-iommu/guest-device.ts'
import { iommuHandlers } from '../../kernel/intel-iommu/handlers.ts'
import type { UnitPort } from '../../kernel/intel-iommu/unit-port.ts'
import { VtdDriver } from '../../kernel/intel-iommu/vtd-driver.ts'
import { Tasks } from '../../kernel/steps.ts'
import type { Machine } from '../machine.ts'
import { type X86Description, x86Shape } from './description.ts'

/** What the kernel of an x86 machine stands on. */
export interface KernelParts {
  readonly machine: Machine
  readonly unit: RemappingUnit
  /** The unit as its driver meets it. */
  readonly port: UnitPort
  readonly life: Life
  readonly devices: readonly GuestDevice[]
}

/** The kernel of an x86 machine: its tasks, its processes, the driver of its unit, and their calls. */
export function wireKernel(description: X86Description, parts: KernelParts): CallHandler[] {
  const { machine, life } = parts
  const tasks = new Tasks(machine.stage, machine.journal)
  tasks.isStopped = () => life.isDead
  return driverCalls(description, parts)
}

/** The driver of the unit, which it has started, and its calls. */
function driverCalls({ iommu, tables }: X86Description, parts: KernelParts): CallHandler[] {
  const { machine, port, life, devices } = parts
  const { stage, journal, profile } = machine
  const { driver: mode } = iommu
  if (mode === 'none' || mode === 'extended') return []
  const area = { first: Number(tables.gpa >> 12n), pages: Number(tables.bytes >> 12n) }
  const { hostAddressBits } = x86Shape(iommu)
  const options = { port, hostAddressBits, area, wantsScalable: mode === 'scalable' }
  const driver = new VtdDriver(options, { stage, journal, profile, life }, devices)
  driver.start()
  return iommuHandlers(driver, { stage, lives: [life] })
}
