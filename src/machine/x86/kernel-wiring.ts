import type { CallHandler } from '../../bits/answer.ts'
import { IommulatorError } from '../../bits/errors.ts'
import type { Life } from '../../hw/life.ts'
import type { RemappingUnit } from '../../hw/vtd/remapping-unit.ts'
import type { GuestDevice } from '../../kernel/intel-iommu/guest-device.ts'
import { iommuHandlers } from '../../kernel/intel-iommu/handlers.ts'
import { svaHandlers } from '../../kernel/intel-iommu/sva/handlers.ts'
import { SvaDriver } from '../../kernel/intel-iommu/sva/sva-driver.ts'
import { svmBindPort, svmHandlers } from '../../kernel/intel-iommu/svm/handlers.ts'
import { Svm } from '../../kernel/intel-iommu/svm/svm.ts'
import type { InterruptPort, UnitPort } from '../../kernel/intel-iommu/unit-port.ts'
import { VtdDriver } from '../../kernel/intel-iommu/vtd-driver.ts'
import { cpuHandlers } from '../../kernel/process/cpu-handlers.ts'
import { makeProcesses, type ProcessSystem } from '../../kernel/process/process-system.ts'
import { sysHandlers } from '../../kernel/process/sys-handlers.ts'
import type { Tasks } from '../../kernel/steps.ts'
import { TaskCalls } from '../../kernel/task-calls.ts'
import type { Machine } from '../machine.ts'
import { LOW_BYTES, type X86Description, x86Shape } from './description.ts'

const PAGE_SHIFT = 12n

/** What the kernel of an x86 machine stands on. */
export interface KernelParts {
  readonly machine: Machine
  readonly unit: RemappingUnit
  /** The unit as its driver meets it. */
  readonly port: UnitPort
  /** Where the interrupts of the unit arrive. */
  readonly interrupts: InterruptPort
  readonly life: Life
  readonly devices: readonly GuestDevice[]
}

/** The kernel of an x86 machine: its tasks, its processes, the driver of its unit, and their calls. */
export function wireKernel(description: X86Description, parts: KernelParts): CallHandler[] {
  const { machine, life } = parts
  const { stage, tasks } = machine
  tasks.isStopped = () => life.isDead
  const system = processesOf(description, parts, tasks)
  const { processes, files } = system
  const driver = driverOf(description, parts)
  const helpers: (() => boolean)[] = []
  const calls = new TaskCalls({
    ...{ tasks, stage, life, helpers },
    takePrinted: () => driver?.core.takePrinted() ?? [],
    takeUnknown: () => driver?.core.flusher.queue.takeUnknown(),
    afterwards: () => files.releaseDelayed(),
  })
  const handlers = [...sysHandlers({ ...system, calls }), ...cpuHandlers(processes, calls)]
  if (driver === undefined) return handlers
  handlers.push(...sharedMemoryCalls(description, parts, { driver, tasks, calls, system, helpers }))
  driver.start()
  return [...handlers, ...iommuHandlers(driver, { stage, lives: [life] })]
}

/**
 * The processes of a description, and the page allocator: it has all memory between the first MiB and the driver's tables.
 *
 * @throws IommulatorError ERR_MACHINE where memory is too small for them
 */
function processesOf(
  description: X86Description,
  { machine, port, devices }: KernelParts,
  tasks: Tasks,
): ProcessSystem {
  const { stage, journal } = machine
  const { iommu, tables, ramBytes } = description
  const first = Number(LOW_BYTES >> PAGE_SHIFT)
  const isNew = iommu.driver === 'scalable'
  const system = makeProcesses({
    stage,
    journal,
    tasks,
    memory: port.memory,
    first,
    pages: Number(tables.gpa >> PAGE_SHIFT) - first,
    ramPages: Number(ramBytes >> PAGE_SHIFT),
    isNew,
    // Linux 4.9 does not set NXE, without which units take XD for a reserved bit.
    hasNx: isNew,
    devices: devices.map(({ name }) => name),
  })
  const { processes } = system
  for (const { name } of description.processes) {
    if (processes.spawn(name) === undefined) {
      throw new IommulatorError('ERR_MACHINE', `no memory for the process "${name}"`, { name })
    }
  }
  machine.actAs = (name) => {
    processes.actor = name
  }
  return system
}

/** The driver of the unit, which it has not started; none where only steps drive the unit. */
function driverOf({ iommu, tables }: X86Description, parts: KernelParts): VtdDriver | undefined {
  const { machine, port, life, devices } = parts
  const { stage, journal, profile } = machine
  const { driver: mode } = iommu
  if (mode === 'none') return undefined
  const area = { first: Number(tables.gpa >> PAGE_SHIFT), pages: Number(tables.bytes >> PAGE_SHIFT) }
  const { hostAddressBits } = x86Shape(iommu)
  const modes = { wantsScalable: mode === 'scalable', wantsExtended: mode === 'extended' }
  return new VtdDriver({ port, hostAddressBits, area, ...modes }, { stage, journal, profile, life }, devices)
}

interface KernelSystem {
  readonly driver: VtdDriver
  readonly tasks: Tasks
  readonly calls: TaskCalls
  readonly system: ProcessSystem
  /** What the kernel does while a call waits. */
  readonly helpers: (() => boolean)[]
}

/** Address spaces of processes for devices, in the way of the kernel that drives the unit. */
function sharedMemoryCalls(
  { iommu }: X86Description,
  { machine, interrupts, devices }: KernelParts,
  { driver, tasks, calls, system, helpers }: KernelSystem,
): CallHandler[] {
  const { processes, files } = system
  const { stage, journal, profile } = machine
  if (iommu.driver === 'scalable') {
    const names = new Map(devices.map((d) => [d.source, d.name]))
    const sva = new SvaDriver({ driver, tasks, processes, interrupts, stage, journal, profile }, names)
    helpers.push(() => sva.help())
    files.drivers.binder = sva
    return svaHandlers({ sva, calls, actor: () => processes.actor })
  }
  if (iommu.driver !== 'extended') return []
  const svm = new Svm({ driver, tasks, processes, pages: processes.pages, interrupts, profile })
  files.drivers.binder = svmBindPort(svm, tasks)
  return svmHandlers({ svm, driver, tasks, calls, processes, actor: () => processes.actor ?? '' })
}
