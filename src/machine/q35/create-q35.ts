import type { CallHandler } from '../../bits/answer.ts'
import { gpa as gpaFrom, ua as uaFrom } from '../../bits/brand.ts'
import { Clock } from '../../bits/clock.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { U64_MAX } from '../../bits/u64.ts'
import type { BusMaster } from '../../hw/bus-master.ts'
import { deviceHandlers } from '../../hw/device-handlers.ts'
import { Life } from '../../hw/life.ts'
import { RemappingUnit } from '../../hw/vtd/remapping-unit.ts'
import { TableWatch } from '../../hw/vtd/table-watch.ts'
import { DeviceTlbs, HEARD_ELSEWHERE } from '../../hw/vtd-devices/device-tlbs.ts'
import { endpointHandlers } from '../../hw/vtd-devices/endpoint-handlers.ts'
import { UnitRegisters } from '../../hw/vtd-devices/unit-registers.ts'
import type { GuestDevice } from '../../kernel/intel-iommu/guest-device.ts'
import { iommuHandlers } from '../../kernel/intel-iommu/handlers.ts'
import { VtdDriver } from '../../kernel/intel-iommu/vtd-driver.ts'
import { VtdNotifier } from '../../kernel/qemu/vtd-notifier.ts'
import { VtdTables } from '../../kernel/qemu/vtd-tables.ts'
import { VtdVhost } from '../../kernel/qemu/vtd-vhost.ts'
import { GuestMemory } from '../../memory/guest-memory.ts'
import { Host } from '../../memory/host.ts'
import { memHandlers } from '../../memory/mem-handlers.ts'
import { procHandlers } from '../../memory/proc-handlers.ts'
import { ProcessTable } from '../../memory/process.ts'
import { Machine, type MachineOptions } from '../machine.ts'
import { createVirtio, QEMU } from '../qemu-virtio.ts'
import { ERRATA } from '../registry.ts'
import { tickHandler } from '../tick-handler.ts'
import { Q35_DEFAULTS, type Q35Description, ramSlots, sourceOf, vtdShapeOf } from './description.ts'
import { wireDevice } from './device-wiring.ts'
import { DriverPort } from './driver-port.ts'
import { MessagePort } from './message-port.ts'

const HOST_PAGE_SHIFT = 12
/** Physical memory of the host behind a machine, beside its guest's: what is never written costs nothing. */
const HOST_SPARE_BYTES = 2 ** 30
/** Bytes that the contents of modelled memory may take. */
const CONTENTS_BYTES_MAX = 2 ** 31
/** Where QEMU maps guest memory in its own address space. */
const GUEST_UA = 0x7f00_0000_0000n

/** The host and the QEMU process, with the guest's memory mapped in it. */
function createMemory(machine: Machine, { ramBytes }: Q35Description) {
  const { stage, journal } = machine
  const host = new Host({
    stage,
    journal,
    pageShift: HOST_PAGE_SHIFT,
    ramBytes: Number(ramBytes) + HOST_SPARE_BYTES,
    maxBytes: CONTENTS_BYTES_MAX,
  })
  const processes = new ProcessTable(host)
  const qemu = processes.spawn(QEMU, { memlockBytes: U64_MAX, hasIpcLock: false })
  machine.actAs = (name = QEMU) => {
    processes.actor = name
  }
  const access = { read: true, write: true, fixed: true, noreplace: false }
  qemu.mm.mmap({ address: GUEST_UA, bytes: ramBytes, ...access })
  const guest = new GuestMemory(host)
  for (const { gpa, bytes, offset } of ramSlots(ramBytes)) {
    const slot = guest.addSlot({ gpa: gpaFrom(gpa), bytes, mm: qemu.mm, ua: uaFrom(GUEST_UA + offset) })
    if (slot < 0) {
      throw new IommulatorError('ERR_MACHINE', `guest memory at 0x${gpa.toString(16)} cannot be there`)
    }
    machine.log.emit('page.own', null, {
      space: 'gpa',
      pageShift: 12,
      first: Number(gpa >> 12n),
      count: Number(bytes >> 12n),
      owner: Q35_DEFAULTS.owner,
      generation: 0,
    })
  }
  return { processes, guest }
}

/** The unit of a description with QEMU's notifiers behind it. */
function createUnit(machine: Machine, { iommu }: Q35Description, memory: GuestMemory, life: Life) {
  const { stage, journal, profile } = machine
  const { name } = iommu
  const unit = new RemappingUnit({ name, memory, ...vtdShapeOf(iommu) }, { stage, journal, life, profile })
  unit.msi = new MessagePort(memory)
  const watch = new TableWatch({ memory, stage, journal })
  machine.log.subscribe(watch)
  memory.watcher = watch
  const tlbs = new DeviceTlbs()
  unit.deviceTlbs = tlbs
  const tables = new VtdTables({ memory, features: unit.features, profile, root: unit.root })
  const notifier = new VtdNotifier(name, tables, { stage, journal, life, profile })
  unit.watcher = notifier
  return { unit, tlbs, notifier }
}

/** The guest's driver of the unit, which it has started, and its calls. */
function startDriver(
  machine: Machine,
  { iommu, tables }: Q35Description,
  port: DriverPort,
  devices: readonly GuestDevice[],
  life: Life,
): readonly CallHandler[] {
  const { stage, journal, profile } = machine
  if (iommu.driver === 'none') return []
  const area = { first: Number(tables.gpa >> 12n), pages: Number(tables.bytes >> 12n) }
  const guestLife = new Life(stage, journal, 'guest')
  const { hostAddressBits } = vtdShapeOf(iommu)
  const options = { port, hostAddressBits, area, wantsScalable: iommu.driver === 'scalable' }
  const driver = new VtdDriver(options, { stage, journal, profile, life: guestLife }, devices)
  driver.start()
  return iommuHandlers(driver, { stage, lives: [life, guestLife] })
}

/** A call whose answer has what QEMU printed on the way. */
const withPrinted = ({ decl, run }: CallHandler, takePrinted: () => readonly string[]): CallHandler => ({
  decl,
  run(args) {
    const answer = run(args)
    const printed = takePrinted()
    return printed.length === 0 ? answer : { ...answer, warnings: [...answer.warnings, ...printed] }
  },
})

/**
 * Wires an x86 machine: the host with vhost, QEMU's process with the guest's memory, a VT-d unit with QEMU's notifiers
 * behind it, network devices whose bytes vhost moves, and the guest's drivers of unit and devices.
 *
 * @throws IommulatorError ERR_MACHINE where the parts do not fit together, ERR_PROFILE for an unknown profile
 */
export function createQ35(description: Q35Description, options: MachineOptions = {}): Machine {
  const machine = new Machine(description, resolveProfile(ERRATA, description.profile), options)
  const { stage, journal, profile } = machine
  const { processes, guest } = createMemory(machine, description)
  const life = new Life(stage, journal)
  const { unit, tlbs, notifier } = createUnit(machine, description, guest, life)
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const ram = ramSlots(description.ramBytes).map(({ gpa, bytes, offset }) => ({
    gpa,
    bytes,
    ua: GUEST_UA + offset,
  }))
  const hasVhost = description.virtio.length > 0
  const { iotlbEntries } = description
  const below = { life, processes, ram, hasVhost, iotlbEntries }
  const { virtio, handlers, print, takePrinted } = createVirtio(machine, below)
  const served = description.virtio.map((d): GuestDevice => {
    const { name } = d
    const source = sourceOf(d)
    const otherNames: string[] = []
    machine.log.emit('device.add', null, { device: name, unit: unit.name, mask: U64_MAX })
    const device = notifier.addDevice({ name, source, followsAts: true })
    tlbs.add(source, HEARD_ELSEWHERE)
    unit.translator.addSource(source)
    virtio.addVhost(unit.name, name, (backend) => {
      const givesBoth = profile.has('iotlb-perm-widening')
      const vhost = new VtdVhost({
        ...{ name, journal, life, unit, notifier, device, backend },
        ...{ ram, givesBoth, print },
      })
      const own = {
        open: () => backend.open(),
        opened: (kernelName: string) => otherNames.push(kernelName),
        elapse: () => vhost.elapse(),
      }
      return { vhost, device: vhost, own }
    })
    const setAts = (on: boolean) => notifier.setAts(device, on)
    return { name, otherNames, source, offersAts: d.hasAts, setAts }
  })
  const parts = { machine, unit, memory: guest, tlbs, clock, life }
  const wired = description.devices.map((d) => wireDevice(d, parts))
  for (const d of description.devices) unit.translator.addSource(sourceOf(d))
  const masters = new Map<string, BusMaster>([
    ...wired.map(({ master }) => [master.name, master] as const),
    ...virtio.masters,
  ])
  const endpoints = new Map(
    [...masters.keys()].map((name) => [name, wired.find((d) => d.master.name === name)?.endpoint]),
  )
  const units = [...wired.map((d) => d.master), unit]
  const port = new DriverPort({ unit, memory: guest, clock, log: machine.log, units })
  const driverCalls = startDriver(machine, description, port, [...served, ...wired.map((d) => d.guest)], life)
  machine.register([
    ...driverCalls.map((handler) => withPrinted(handler, takePrinted)),
    ...handlers,
    ...deviceHandlers({
      devices: masters,
      units: new Map([[unit.name, new UnitRegisters(unit)]]),
      stage,
      life,
    }),
    ...endpointHandlers({ devices: endpoints, stage, life }),
    ...memHandlers(processes, guest),
    ...procHandlers(processes),
    tickHandler(machine, clock, [...units, virtio]),
  ])
  virtio.open()
  return machine
}
