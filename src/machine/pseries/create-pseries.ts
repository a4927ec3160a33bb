import { gpa as gpaFrom, ua as uaFrom } from '../../bits/brand.ts'
import { Clock } from '../../bits/clock.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { U64_MAX } from '../../bits/u64.ts'
import { deviceHandlers } from '../../hw/device-handlers.ts'
import { Edu } from '../../hw/edu.ts'
import { Life } from '../../hw/life.ts'
import { LiobnMap } from '../../hw/liobn-map.ts'
import { SpaprPhb } from '../../hw/spapr-phb.ts'
import type { TableParts } from '../../hw/spapr-tce-table.ts'
import { VioBus, VioDevice } from '../../hw/vio-bus.ts'
import { guestHandlers } from '../../kernel/guest/handlers.ts'
import { hcallHandlers } from '../../kernel/qemu/hcall-handlers.ts'
import { rtasHandlers } from '../../kernel/qemu/rtas-handlers.ts'
import { SpaprHcalls } from '../../kernel/qemu/spapr-hcalls.ts'
import { SpaprRtas } from '../../kernel/qemu/spapr-rtas.ts'
import type { RamRegion } from '../../kernel/qemu/vhost-update.ts'
import { GuestMemory } from '../../memory/guest-memory.ts'
import { Host } from '../../memory/host.ts'
import { memHandlers } from '../../memory/mem-handlers.ts'
import { procHandlers } from '../../memory/proc-handlers.ts'
import { ProcessTable } from '../../memory/process.ts'
import { Machine, type MachineOptions } from '../machine.ts'
import { createVirtio, QEMU } from '../qemu-virtio.ts'
import { ERRATA } from '../registry.ts'
import { tickHandler } from '../tick-handler.ts'
import type { VirtioDevices } from '../virtio-wiring.ts'
import { windowCounter } from '../window-counter.ts'
import type { PhbDescription, PseriesDescription } from './description.ts'
import { createGuestKernel } from './guest-wiring.ts'

const TCE_BYTES = 8n
/** IOMMU pages of a machine without a hypervisor have 4 KiB. */
const IOMMU_PAGE_SHIFT = 12n

/** Physical memory of the host behind a machine, beside its guest's: what is never written costs nothing. */
const HOST_SPARE_BYTES = 2 ** 30
/** Bytes that the contents of modelled memory may take. */
const CONTENTS_BYTES_MAX = 2 ** 31
/** Where QEMU maps guest memory in its own address space. */
const GUEST_UA = 0x7f00_0000_0000n

/** The host and the QEMU process, with the guest's memory mapped in it. */
function createMemory(machine: Machine, description: PseriesDescription) {
  const { stage, journal } = machine
  const guestBytes = description.ram.reduce((n, r) => n + r.bytes, 0n)
  const host = new Host({
    stage,
    journal,
    pageShift: description.hostPageShift,
    ramBytes: Number(guestBytes) + HOST_SPARE_BYTES,
    maxBytes: CONTENTS_BYTES_MAX,
  })
  const processes = new ProcessTable(host)
  const qemu = processes.spawn(QEMU, { memlockBytes: U64_MAX, hasIpcLock: false })
  machine.actAs = (name = QEMU) => {
    processes.actor = name
  }
  const guest = new GuestMemory(host)
  const ram: RamRegion[] = []
  let ua = GUEST_UA
  for (const { gpa, bytes, owner } of description.ram) {
    qemu.mm.mmap({ address: ua, bytes, read: true, write: true, fixed: true, noreplace: false })
    const slot = guest.addSlot({ gpa: gpaFrom(gpa), bytes, mm: qemu.mm, ua: uaFrom(ua) })
    if (slot < 0)
      throw new IommulatorError('ERR_MACHINE', `guest memory at 0x${gpa.toString(16)} cannot be there`)
    ram.push({ gpa, bytes, ua })
    machine.log.emit('page.own', null, {
      space: 'gpa',
      pageShift: 12,
      first: Number(gpa >> 12n),
      count: Number(bytes >> 12n),
      owner,
      generation: 0,
    })
    ua += bytes
  }
  return { host, processes, guest, ram }
}

/** A PHB as it is described. One whose TCEs lie in guest memory has a window as large as they are, and no LIOBN. */
function createPhb(
  d: PhbDescription,
  shared: { memory: GuestMemory; liobns: LiobnMap },
  common: TableParts,
  virtio: VirtioDevices,
): SpaprPhb {
  const { bare, listener } = d
  const parts = { ...common, watcher: virtio.watcherOf(() => phb) }
  const phb: SpaprPhb = new SpaprPhb(
    {
      ...d,
      ...shared,
      hasDdw: d.ddw,
      ...(bare && {
        liobns: new LiobnMap(),
        defaultBytes: (bare.bytes / TCE_BYTES) << IOMMU_PAGE_SHIFT,
      }),
    },
    parts,
  )
  for (const device of d.virtio) virtio.add(phb, device)
  if (listener === 'none') return phb
  for (const table of phb.tables) {
    table.listen({ name: `listener of ${d.name}`, wants: listener, notify: () => undefined })
  }
  return phb
}

/** The buses of a description with their windows open, as after power-on. */
function createBuses(
  machine: Machine,
  description: PseriesDescription,
  guest: GuestMemory,
  life: Life,
  virtio: VirtioDevices,
) {
  const { stage, journal, profile } = machine
  const liobns = new LiobnMap()
  const parts: TableParts = { stage, journal, life, profile, nextWindow: windowCounter(journal) }
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const devices = new Map<string, Edu>()
  const phbs = description.phbs.map((d) => {
    const phb = createPhb(d, { memory: guest, liobns }, parts, virtio)
    for (const { name, dmaMask } of d.devices) {
      devices.set(name, new Edu({ name, space: phb.space, dmaMask }, { ...parts, clock }))
      machine.log.emit('device.add', null, { device: name, unit: d.name, mask: dmaMask })
    }
    return phb
  })
  const vio = new VioBus()
  for (const d of description.vio) vio.add(new VioDevice({ ...d, memory: guest, liobns }, parts))
  for (const phb of phbs) phb.reset('power-on')
  vio.reset('power-on')
  return { liobns, clock, devices, phbs, vio }
}

/**
 * Wires a pseries machine: the host and QEMU's process with the guest's memory, PHBs, VIO devices and bus masters, the
 * hypercalls and RTAS calls of QEMU, and the guest's kernel on top.
 *
 * @throws IommulatorError ERR_MACHINE where the parts do not fit together, ERR_PROFILE for an unknown profile
 */
export function createPseries(description: PseriesDescription, options: MachineOptions = {}): Machine {
  const machine = new Machine(description, resolveProfile(ERRATA, description.profile), options)
  const { stage, profile } = machine
  const { processes, guest, ram } = createMemory(machine, description)
  const life = new Life(stage, machine.journal)
  const hasVhost = description.phbs.some((phb) => phb.virtio.some((d) => d.hasVhost && d.kind === 'net'))
  const { virtio, handlers } = createVirtio(machine, { life, processes, ram, hasVhost })
  const { liobns, clock, devices, phbs } = createBuses(machine, description, guest, life, virtio)
  const hcalls = new SpaprHcalls({ stage, life, profile, liobns, memory: guest })
  const rtas = new SpaprRtas({ stage, life, profile, liobns, phbs })
  const kernel = createGuestKernel({ machine, description, hcall: hcalls, rtas, guest, liobns, phbs })
  machine.register([
    ...guestHandlers(kernel),
    ...hcallHandlers(hcalls, life),
    ...rtasHandlers(rtas, life),
    ...deviceHandlers({
      devices: new Map([...devices, ...virtio.masters]),
      stage,
      life,
      handleOf: (name) => kernel.buffers.get(name)?.handle,
    }),
    ...handlers,
    ...memHandlers(processes, guest),
    ...procHandlers(processes),
    tickHandler(machine, clock, [...devices.values(), virtio]),
  ])
  virtio.open()
  return machine
}
