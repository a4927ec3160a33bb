import type { CallHandler } from '../../bits/answer.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { IommulatorError } from '../../bits/errors.ts'
import type { BusMaster } from '../../hw/bus-master.ts'
import { Life } from '../../hw/life.ts'
import { LiobnMap } from '../../hw/liobn-map.ts'
import { SpaprPhb } from '../../hw/spapr-phb.ts'
import type { TableParts } from '../../hw/spapr-tce-table.ts'
import type { WindowWatcher } from '../../hw/window-watcher.ts'
import type { FileTable } from '../../kernel/files.ts'
import { virtioHandlers } from '../../kernel/guest/virtio-handlers.ts'
import type { Kvm } from '../../kernel/kvm/kvm.ts'
import type { TceMapping } from '../../kernel/ports.ts'
import { GuestRam } from '../../kernel/qemu/guest-ram.ts'
import { KvmTables } from '../../kernel/qemu/kvm-tables.ts'
import { NO_FD, QemuProcess } from '../../kernel/qemu/qemu-process.ts'
import { SpaprHcalls } from '../../kernel/qemu/spapr-hcalls.ts'
import { SpaprRtas } from '../../kernel/qemu/spapr-rtas.ts'
import { type VfioGroupRef, VfioGroups } from '../../kernel/qemu/vfio-groups.ts'
import { Vmm } from '../../kernel/qemu/vmm.ts'
import { absent, hcallExit, vmmHandlers, withOutput } from '../../kernel/qemu/vmm-handlers.ts'
import type { Vhost } from '../../kernel/vhost/vhost.ts'
import type { Process, ProcessTable } from '../../memory/process.ts'
import type { Machine } from '../machine.ts'
import { ERRATA } from '../registry.ts'
import { VirtioDevices } from '../virtio-wiring.ts'
import { type PowernvDescription, pciAddress } from './description.ts'
import type { GuestDescription } from './guest-description.ts'

interface GuestHost {
  readonly processes: ProcessTable
  readonly files: FileTable
  readonly kvm: Kvm
  readonly vhost: Vhost
  /** The number of the next window's life. */
  readonly nextWindow: () => number
}

const SIGSEGV = 'QEMU reaches memory of its guest that its process has not mapped'

/** A table of KVM behind a mapping of a process. */
const mappedTable = (files: FileTable, process: string, map: string): TceMapping | undefined => {
  const target = files.mapping(process, map)?.target
  return target?.kind === 'tce-table' ? (target as unknown as TceMapping) : undefined
}

/** A group of the host by its number, with the devices that VFIO hands out. */
function groupOf({ phbs }: PowernvDescription, number: number): VfioGroupRef {
  for (const phb of phbs) {
    for (const pe of phb.pes) {
      if (pe.group !== number) continue
      const devices = pe.devices.filter(({ driver }) => driver === undefined)
      return { number, devices: devices.map((device) => pciAddress(phb, pe, device)) }
    }
  }
  return { number, devices: [] }
}

function processOf(processes: ProcessTable, { process }: GuestDescription): Process {
  const found = processes.get(process)
  if (found === undefined) throw new IommulatorError('ERR_MACHINE', `the host has no process ${process}`)
  return found
}

/** A guest as the machine has it: its calls, the devices that QEMU emulates, and QEMU's main loop. */
interface Guest {
  readonly handlers: readonly CallHandler[]
  readonly devices: ReadonlyMap<string, BusMaster>
  elapse(): void
}

/** First one watcher, then the other; when a window closes the other way round. */
const both = (first: WindowWatcher, second: WindowWatcher): WindowWatcher => ({
  opened(table) {
    first.opened(table)
    second.opened(table)
  },
  closing(table) {
    second.closing(table)
    first.closing(table)
  },
})

/**
 * Wires a guest that QEMU runs on a POWER host: QEMU's own tables, hypercalls and RTAS calls, the system calls by which it
 * has KVM and VFIO do the work, and the way from KVM back to it.
 */
export function createGuest(
  machine: Machine,
  description: PowernvDescription,
  guest: GuestDescription,
  { processes, files, kvm, vhost, nextWindow }: GuestHost,
): Guest {
  const { stage, journal } = machine
  const profile = resolveProfile(ERRATA, guest.profile)
  const life = new Life(stage, journal)
  const { process: name } = guest
  const qemu = new QemuProcess({
    stage,
    journal,
    life,
    name,
    call: (verb, call, args) => machine.callFromInside(verb, call, { process: name, ...args }),
  })
  const process = processOf(processes, guest)
  const ram = new GuestRam({
    mm: process.mm,
    ua: guest.ua,
    bytes: guest.ramBytes,
    onFault: () => qemu.doNotKnow(SIGSEGV),
  })
  const keepsOut = kvm.vhosts.remedy === 'userspace'
  const tables = new KvmTables(qemu, (map) => mappedTable(files, name, map), keepsOut)
  const virtio = new VirtioDevices({
    machine,
    profile,
    process: name,
    files,
    call: (verb, call, args) => qemu.system(verb, call, args),
    mm: process.mm,
    ram: [{ gpa: 0n, bytes: guest.ramBytes, ua: guest.ua }],
    print: (text) => qemu.print(text),
    takePrinted: () => qemu.takeOutput().printed,
    vhost,
    onUnknown: (why) => qemu.doNotKnow(why),
    ...(guest.hasKvm && { links: kvm.vhosts.portOf(process.mm) }),
  })
  const { hostPageShift } = description
  const ramPageShift = guest.hugeShift === 0 ? hostPageShift : guest.hugeShift
  const groups = new VfioGroups({ qemu, tables, ram, ramPageShift, hostPageShift })
  const liobns = new LiobnMap()
  const phbs = guest.phbs.map((d) => {
    const watcher = both(
      groups.watcherOf(() => phb),
      virtio.watcherOf(() => phb),
    )
    const parts: TableParts = { stage, journal, life, profile, nextWindow, backing: tables, watcher }
    const { name: phbName, index, buid, pageShifts, windowBytes } = d
    const shape = { name: phbName, index, buid, pageShifts, hasDdw: d.ddw, defaultBytes: windowBytes }
    const phb: SpaprPhb = new SpaprPhb({ ...shape, memory: ram, liobns }, parts)
    for (const device of d.virtio) virtio.add(phb, device)
    return { phb, groups: d.groups.map((number) => groupOf(description, number)) }
  })
  const vmm = new Vmm(
    {
      qemu,
      ram,
      phbs,
      groups,
      vhosts: virtio.vhosts,
      resetVirtio: () => virtio.reset(),
      groupOf: (number) => groupOf(description, number),
      isThere: () => process.isAlive,
    },
    { hasKvm: guest.hasKvm, hasMultiTce: guest.hasMultiTce, hugeShift: guest.hugeShift },
  )
  const exited = (gone: Process): void => {
    if (gone === process) vmm.ended()
  }
  processes.watch({ exited }, true)
  const hcalls = new SpaprHcalls({ stage, life, profile, liobns, memory: ram })
  const exit = hcallExit(vmm, hcalls, liobns)
  kvm.exitOf = (actor, vm) => {
    if ((actor ?? processes.actor) !== name) return null
    if (vm === undefined) return qemu.kvm.vm === NO_FD || qemu.hasEnded ? exit : null
    return files.find(name, qemu.kvm.vm)?.target === vm ? exit : null
  }
  const rtas = new SpaprRtas({ stage, life, profile, liobns, phbs: vmm.phbs })
  const drivers = virtioHandlers({
    stage,
    life,
    drivers: virtio.drivers,
    absent: () => (qemu.isRunning ? undefined : absent(vmm)),
    finish: (answer) => withOutput(vmm, answer),
  })
  return {
    handlers: [...vmmHandlers(vmm, rtas), ...drivers],
    devices: virtio.masters,
    elapse() {
      if (!qemu.isRunning) return
      virtio.vhosts.elapse()
      // What it printed is in the records; a tick has no place for it.
      qemu.takeOutput()
    },
  }
}
