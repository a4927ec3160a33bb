import { Clock } from '../../bits/clock.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import type { BusMaster } from '../../hw/bus-master.ts'
import { deviceHandlers } from '../../hw/device-handlers.ts'
import { Life } from '../../hw/life.ts'
import { RemappingUnit } from '../../hw/vtd/remapping-unit.ts'
import { TableWatch } from '../../hw/vtd/table-watch.ts'
import { DeviceTlbs } from '../../hw/vtd-devices/device-tlbs.ts'
import { endpointHandlers } from '../../hw/vtd-devices/endpoint-handlers.ts'
import { UnitRegisters } from '../../hw/vtd-devices/unit-registers.ts'
import { Host } from '../../memory/host.ts'
import { memHandlers } from '../../memory/mem-handlers.ts'
import { PhysicalMemory } from '../../memory/physical-memory.ts'
import { ProcessTable } from '../../memory/process.ts'
import { Machine, type MachineOptions } from '../machine.ts'
import { sourceOf } from '../q35/description.ts'
import { wireDevice } from '../q35/device-wiring.ts'
import { DriverPort } from '../q35/driver-port.ts'
import { MessagePort } from '../q35/message-port.ts'
import { ERRATA } from '../registry.ts'
import { tickHandler } from '../tick-handler.ts'
import { type X86Description, x86Shape } from './description.ts'
import { Interrupts } from './interrupts.ts'
import { wireKernel } from './kernel-wiring.ts'

const PAGE_SHIFT = 12
/** Bytes that the contents of modelled memory may take. */
const CONTENTS_BYTES_MAX = 2 ** 31

/**
 * Wires an x86 machine without a hypervisor: memory, a VT-d unit with the devices behind it, and a kernel with processes
 * that drives them.
 *
 * @throws IommulatorError ERR_MACHINE where the parts do not fit together, ERR_PROFILE for an unknown profile
 */
export function createX86(description: X86Description, options: MachineOptions = {}): Machine {
  const machine = new Machine(description, resolveProfile(ERRATA, description.profile), options)
  machine.defaultActor = 'kernel'
  const { stage, journal, profile, log } = machine
  const host = new Host({
    stage,
    journal,
    pageShift: PAGE_SHIFT,
    ramBytes: Number(description.ramBytes),
    maxBytes: CONTENTS_BYTES_MAX,
  })
  const memory = new PhysicalMemory(host.memory)
  const life = new Life(stage, journal, 'kernel')
  const { name } = description.iommu
  const unit = new RemappingUnit(
    { name, memory, ...x86Shape(description.iommu) },
    { stage, journal, life, profile },
  )
  const interrupts = new Interrupts(new MessagePort(memory), journal)
  unit.msi = interrupts
  const watch = new TableWatch({ memory, stage, journal })
  log.subscribe(watch)
  memory.watcher = watch
  const tlbs = new DeviceTlbs()
  unit.deviceTlbs = tlbs
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const parts = { machine, unit, memory, tlbs, clock, life }
  const wired = description.devices.map((d) => wireDevice(d, parts))
  for (const d of description.devices) unit.translator.addSource(sourceOf(d))
  const masters = new Map<string, BusMaster>(wired.map(({ master }) => [master.name, master]))
  const endpoints = new Map(wired.map((d) => [d.master.name, d.endpoint]))
  const units = [...wired.map((d) => d.master), unit]
  const port = new DriverPort({ unit, memory, clock, log, units })
  const handlers = wireKernel(description, {
    machine,
    unit,
    port,
    interrupts,
    life,
    devices: wired.map((d) => d.guest),
  })
  machine.register([
    ...handlers,
    ...deviceHandlers({ devices: masters, units: new Map([[name, new UnitRegisters(unit)]]), stage, life }),
    ...endpointHandlers({ devices: endpoints, stage, life }),
    ...memHandlers(new ProcessTable(host), memory),
    tickHandler(machine, clock, units),
  ])
  return machine
}
