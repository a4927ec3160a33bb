import type { CallHandler } from '../../bits/answer.ts'
import { gpa as gpaFrom, ua as uaFrom } from '../../bits/brand.ts'
import { Clock } from '../../bits/clock.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { U64_MAX } from '../../bits/u64.ts'
import { deviceHandlers } from '../../hw/device-handlers.ts'
import { Life } from '../../hw/life.ts'
import { VtdUnit } from '../../hw/vtd/vtd-unit.ts'
import type { GuestDevice } from '../../kernel/intel-iommu/guest-device.ts'
import { iommuHandlers } from '../../kernel/intel-iommu/handlers.ts'
import { VtdDriver } from '../../kernel/intel-iommu/vtd-driver.ts'
import { VtdNotifier } from '../../kernel/qemu/vtd-notifier.ts'
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
import { Q35_DEFAULTS, type Q35Description, ramSlots, sourceOf } from './description.ts'
import { UnitRegistersPort } from './old-unit-port.ts'

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
  const unit = new VtdUnit(
    {
      name: iommu.name,
      memory,
      addressBits: iommu.awBits,
      hostAddressBits: iommu.awBits,
      hasDeviceTlb: iommu.deviceIotlb,
      hasSnoopControl: iommu.snoopControl,
      hasPassThrough: true,
    },
    { stage, journal, life },
  )
  return { unit, notifier: new VtdNotifier(unit, { stage, journal, life, profile }) }
}

/** The guest's driver of the unit, which it has started. */
function startDriver(
  { stage, journal, profile }: Machine,
  { iommu, tables }: Q35Description,
  unit: VtdUnit,
  devices: readonly GuestDevice[],
): VtdDriver {
  const area = { first: Number(tables.gpa >> 12n), pages: Number(tables.bytes >> 12n) }
  const port = new UnitRegistersPort(unit, iommu.cachingMode, journal)
  const life = new Life(stage, journal, 'guest')
  const options = { port, hostAddressBits: iommu.awBits, area, wantsScalable: false }
  const driver = new VtdDriver(options, { stage, journal, profile, life }, devices)
  driver.start()
  return driver
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
  const { unit, notifier } = createUnit(machine, description, guest, life)
  const ram = ramSlots(description.ramBytes).map(({ gpa, bytes, offset }) => ({
    gpa,
    bytes,
    ua: GUEST_UA + offset,
  }))
  const hasVhost = description.virtio.length > 0
  const { iotlbEntries } = description
  const below = { life, processes, ram, hasVhost, iotlbEntries }
  const { virtio, handlers, print, takePrinted } = createVirtio(machine, below)
  const devices = description.virtio.map((d): GuestDevice => {
    const { name } = d
    const source = sourceOf(d)
    const otherNames: string[] = []
    machine.log.emit('device.add', null, { device: name, unit: unit.options.name, mask: U64_MAX })
    const device = notifier.addDevice({ name, source, followsAts: true })
    virtio.addVhost(unit.options.name, name, (backend) => {
      const givesBoth = profile.has('iotlb-perm-widening')
      const served = new VtdVhost({
        ...{ name, journal, life, unit, notifier, device, backend },
        ...{ ram, givesBoth, print },
      })
      const own = {
        open: () => backend.open(),
        opened: (kernelName: string) => otherNames.push(kernelName),
        elapse: () => served.elapse(),
      }
      return { vhost: served, device: served, own }
    })
    const setAts = (on: boolean) => notifier.setAts(device, on)
    return { name, otherNames, source, offersAts: d.hasAts, setAts }
  })
  const driver = startDriver(machine, description, unit, devices)
  const lives = [life, driver.core.life]
  machine.register([
    ...iommuHandlers(driver, { stage, lives }).map((handler) => withPrinted(handler, takePrinted)),
    ...handlers,
    ...deviceHandlers({ devices: virtio.masters, stage, life }),
    ...memHandlers(processes, guest),
    ...procHandlers(processes),
    tickHandler(machine, new Clock(new Cells(journal, keyOf('clock'))), [virtio]),
  ])
  virtio.open()
  return machine
}
