import { type CallHandler, dead } from '../../bits/answer.ts'
import { Clock } from '../../bits/clock.ts'
import { type Profile, resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { deviceHandlers } from '../../hw/device-handlers.ts'
import { Edu } from '../../hw/edu.ts'
import type { IodaPe } from '../../hw/ioda-pe.ts'
import { IodaPhb } from '../../hw/ioda-phb.ts'
import { openSegments } from '../../hw/ioda1-window.ts'
import { Life } from '../../hw/life.ts'
import { eehHandlers } from '../../kernel/eeh/handlers.ts'
import { kvmHandlers } from '../../kernel/kvm/handlers.ts'
import { Kvm } from '../../kernel/kvm/kvm.ts'
import { PreregisteredMemory } from '../../kernel/prereg/preregistered-memory.ts'
import { rawIoctl } from '../../kernel/raw-ioctl.ts'
import type { VfioGroupOptions } from '../../kernel/vfio/group.ts'
import { vfioHandlers } from '../../kernel/vfio/handlers.ts'
import { Vfio } from '../../kernel/vfio/vfio.ts'
import { vhostHandlers } from '../../kernel/vhost/handlers.ts'
import { Vhost } from '../../kernel/vhost/vhost.ts'
import { Host } from '../../memory/host.ts'
import { Injection } from '../../memory/injection.ts'
import { memHandlers } from '../../memory/mem-handlers.ts'
import { procHandlers } from '../../memory/proc-handlers.ts'
import { ProcessTable } from '../../memory/process.ts'
import type { HwTableParts } from '../../table/multi-level-table.ts'
import { Machine, type MachineOptions } from '../machine.ts'
import { ERRATA } from '../registry.ts'
import { tickHandler } from '../tick-handler.ts'
import { windowCounter } from '../window-counter.ts'
import {
  type IodaPhbDescription,
  type PeDescription,
  type PeDeviceDescription,
  type PowernvDescription,
  pciAddress,
} from './description.ts'
import { createEeh } from './eeh-wiring.ts'
import { createGuest } from './guest-wiring.ts'

/** Bytes that the contents of modelled memory may take. */
const CONTENTS_BYTES_MAX = 2 ** 31
/** Host bridges of hosts that have no radix MMU. */
const BEFORE_POWER9: readonly string[] = ['P7IOC', 'PHB3']

/** The host's memory and the processes that are there from the start; the first one acts where nobody is named. */
function createHost(machine: Machine, description: PowernvDescription) {
  const { stage, journal } = machine
  const host = new Host({
    stage,
    journal,
    pageShift: description.hostPageShift,
    ramBytes: Number(description.ramBytes),
    maxBytes: CONTENTS_BYTES_MAX,
  })
  const processes = new ProcessTable(host)
  for (const { name, ...task } of description.processes) processes.spawn(name, task)
  const first = description.processes[0]?.name
  machine.defaultActor = first ?? 'kernel'
  machine.actAs = (name = first) => {
    processes.actor = name ?? ''
  }
  return { host, processes }
}

/** A PE with the windows that the kernel gives it at boot. */
function bootPe(phb: IodaPhb, shape: PeDescription): IodaPe {
  const pe = phb.addPe(shape)
  if (pe.ops !== null) pe.ops.releaseOwnership()
  else openSegments(phb, pe)
  if (pe.tables[0] === null) {
    throw new IommulatorError('ERR_MACHINE', `no memory for the tables of group ${shape.group}`)
  }
  return pe
}

const createPhb = (d: IodaPhbDescription, tables: HwTableParts, profile: Profile): IodaPhb =>
  new IodaPhb({
    name: d.name,
    platform: d.platform,
    tables,
    freeze: profile.has('Q13') ? 'none' : d.freeze,
    caches: !profile.has('Q14'),
    wraps: profile.has('Q15'),
    m32Base: d.m32Base,
    profile,
    ...(d.cacheEntries !== undefined && { cacheEntries: d.cacheEntries }),
    ...(d.pageShifts !== undefined && { pageShifts: d.pageShifts }),
    ...(d.killsWholePe !== undefined && { killsWholePe: d.killsWholePe }),
  })

/** A device without a driver of the host is there for processes, by VFIO. */
const isForProcesses = (device: PeDeviceDescription): boolean => device.driver === undefined

/** The PHBs with their PEs and devices, as after the kernel has booted, and the groups that VFIO hands out. */
function createBuses(machine: Machine, description: PowernvDescription, tables: HwTableParts, life: Life) {
  const { stage, journal, profile } = machine
  const clock = new Clock(new Cells(journal, keyOf('clock')))
  const devices = new Map<string, Edu>()
  const groups: VfioGroupOptions[] = []
  const phbs: IodaPhb[] = []
  for (const d of description.phbs) {
    const phb = createPhb(d, tables, profile)
    phbs.push(phb)
    for (const shape of d.pes) {
      const pe = bootPe(phb, shape)
      for (const { name, dmaMask } of shape.devices) {
        devices.set(name, new Edu({ name, space: pe, dmaMask }, { stage, journal, life, profile, clock }))
        machine.log.emit('device.add', null, { device: name, unit: d.name, mask: dmaMask })
      }
      groups.push({
        table: pe,
        devices: shape.devices.filter(isForProcesses).map((device) => pciAddress(d, shape, device)),
        hasKernelDriver: shape.hasKernelDriver || !shape.devices.every(isForProcesses),
      })
    }
  }
  return { clock, devices, groups, phbs }
}

/** A call that the kernel serves: it does not come back once the kernel has stopped, be it in this very call. */
const whileAlive = (life: Life, { decl, run }: CallHandler): CallHandler => ({
  decl,
  run(args) {
    if (life.isDead) return dead(life.why)
    const answer = run(args)
    return life.isDead ? dead(life.why) : answer
  },
})

/**
 * Wires a bare-metal POWER host: its memory and processes, PHBs with their PEs and devices as after boot,
 * preregistered memory, VFIO, KVM, and vhost.
 *
 * @throws IommulatorError ERR_MACHINE where the parts do not fit together, ERR_PROFILE for an unknown profile
 */
export function createPowernv(description: PowernvDescription, options: MachineOptions = {}): Machine {
  const machine = new Machine(description, resolveProfile(ERRATA, description.profile), options)
  const { stage, journal, profile } = machine
  const { host, processes } = createHost(machine, description)
  const life = new Life(stage, journal, 'kernel')
  processes.kernel = life
  // What the kernel allocates while it boots is not counted.
  let allocations: Injection | undefined
  const onAllocate = () => allocations?.take() ?? true
  const nextWindow = windowCounter(journal)
  const tables: HwTableParts = {
    host,
    nextTable: nextWindow,
    onAllocate,
    onBug: (why) => life.die(why),
  }
  const { clock, devices, groups, phbs } = createBuses(machine, description, tables, life)
  const eeh = createEeh(machine, description, { host, clock, phbs })
  const { inject } = description
  const firstMappings = new Injection(journal, 'first mapping', inject?.regionGoing)
  const memory = new PreregisteredMemory({
    host,
    has: profile.has,
    onAllocate,
    onFirstMapping: () => firstMappings.take(),
  })
  const vfio = new Vfio({ processes, memory, profile, groups, eeh, onAllocate })
  const kvm = new Kvm({
    processes,
    files: vfio.files,
    memory,
    profile,
    hasV3Mmu: description.phbs.every(({ platform }) => !BEFORE_POWER9.includes(platform)),
    onAllocate,
    onBug: (why) => life.die(why),
    vhostRemedy: description.guest?.vhostRemedy,
  })
  const vhost = new Vhost({
    processes,
    files: vfio.files,
    profile,
    iotlbEntries: description.iotlbEntries,
    onAllocate,
    onBug: (why) => life.die(why),
  })
  // Files of a process that ends are closed before the kernel looks for memory that is left.
  processes.watch(memory)
  allocations = new Injection(journal, 'allocation', inject?.alloc)
  const { files } = vfio
  const guest =
    description.guest &&
    createGuest(machine, description, description.guest, { processes, files, kvm, vhost, nextWindow })
  const ioctls = [...vfioHandlers(vfio), ...kvmHandlers(kvm), ...vhostHandlers(vhost)]
  const served = [
    ...(guest?.handlers ?? []),
    ...ioctls,
    rawIoctl(processes, files, ioctls),
    ...eehHandlers(eeh, stage),
    ...procHandlers(processes),
  ]
  machine.register([
    ...served.map((handler) => whileAlive(life, handler)),
    ...deviceHandlers({
      devices: new Map([...devices, ...(guest?.devices ?? [])]),
      stage,
      life,
      onAllOnes: (device) => eeh.readAllOnes(device),
    }),
    ...memHandlers(processes, undefined),
    tickHandler(machine, clock, [...devices.values(), eeh, ...(guest === undefined ? [] : [guest])]),
  ])
  return machine
}
