import type { Profile } from '../bits/errata.ts'
import type { BusMaster } from '../hw/bus-master.ts'
import type { SpaprPhb } from '../hw/spapr-phb.ts'
import type { DriverMemory } from '../hw/virtio/driver-ring.ts'
import type { WindowWatcher } from '../hw/window-watcher.ts'
import type { FileTable } from '../kernel/files.ts'
import { VirtioBlkDriver } from '../kernel/guest/virtio-blk-driver.ts'
import type { VirtioDriver, VirtioDriverParts } from '../kernel/guest/virtio-driver.ts'
import { VirtioNetDriver } from '../kernel/guest/virtio-net-driver.ts'
import type { HostCalls, IotlbSink, VhostLinkPort, VirtioDevicePort } from '../kernel/ports.ts'
import { QemuVhost } from '../kernel/qemu/vhost-device.ts'
import { type VhostBackend, VhostDevices } from '../kernel/qemu/vhost-devices.ts'
import { QemuVhostNet } from '../kernel/qemu/vhost-net.ts'
import type { RamRegion } from '../kernel/qemu/vhost-update.ts'
import { QemuMover, VhostMover, VirtioEngine } from '../kernel/qemu/virtio-engine.ts'
import { TAP_PATH, type Vhost } from '../kernel/vhost/vhost.ts'
import { VhostNet } from '../kernel/vhost/vhost-net.ts'
import { VhostUserBlk } from '../kernel/vhost/vhost-user-blk.ts'
import type { AddressSpace } from '../memory/address-space.ts'
import type { Machine } from './machine.ts'
import type { VirtioDescription } from './virtio-description.ts'

const DMA_MASK = 2n ** 64n - 1n

/** What QEMU's virtio devices stand on. */
export interface VirtioHost {
  readonly machine: Machine
  /** Whose deviations QEMU has. */
  readonly profile: Profile
  /** The process that is QEMU, and its files. */
  readonly process: string
  readonly files: FileTable
  readonly call: HostCalls
  readonly mm: AddressSpace
  readonly ram: readonly RamRegion[]
  readonly print: (text: string) => void
  /** What was printed since it was asked last. */
  readonly takePrinted: () => readonly string[]
  readonly onUnknown: (why: string) => void
  /** The host's vhost, for the numbers of IOTLBs beside its own. */
  readonly vhost: Pick<Vhost, 'nextIotlb' | 'nextContainer'>
  /** Where KVM is told of vhost devices. */
  readonly links?: VhostLinkPort
}

/** What QEMU does for a vhost device behind a vIOMMU. */
interface AttachedVhost {
  /** Counts the UPDATEs that vhost has taken. */
  readonly vhost: { readonly updates: number; readonly isStarted: boolean }
  readonly device: VirtioDevicePort
  /** For those that `VhostDevices` does not have. */
  readonly own?: OwnVhost
}

/** A vhost device that is served by itself. */
interface OwnVhost {
  /** QEMU sets it up, before the guest runs. */
  open(): void
  /** It is open: what the records of the kernel call it. */
  opened(kernelName: string): void
  /** QEMU's main loop comes to run. */
  elapse(): void
}

/** The virtio devices of a machine: who moves their bytes, and their drivers in the guest. */
export class VirtioDevices {
  readonly vhosts: VhostDevices
  readonly masters = new Map<string, BusMaster>()
  /** By the names of devices; null where their rings are not modelled. */
  readonly drivers = new Map<string, VirtioDriver | null>()
  readonly #host: VirtioHost
  readonly #own: OwnVhost[] = []

  constructor(host: VirtioHost) {
    this.#host = host
    this.vhosts = new VhostDevices(host.machine.journal, host.links)
  }

  /** Who is told of the windows of a PHB. */
  watcherOf(phb: () => SpaprPhb): WindowWatcher {
    return this.vhosts.watcherOf(() => phb().space)
  }

  /** A device comes, below its PHB. */
  add(phb: SpaprPhb, { name, kind, hasVhost }: VirtioDescription): void {
    const { log } = this.#host.machine
    log.emit('device.add', null, { device: name, unit: phb.name, mask: DMA_MASK })
    if (hasVhost) {
      const { profile, ram, print, onUnknown } = this.#host
      const { journal } = this.#host.machine
      const givesBoth = profile.has('iotlb-perm-widening')
      const attach = (backend: VhostBackend & IotlbSink): AttachedVhost => {
        const { space } = phb
        const vhost = new QemuVhost({ name, journal, space, ram, sink: backend, givesBoth, print, onUnknown })
        return { vhost, device: this.vhosts.add(vhost, backend) }
      }
      if (kind === 'blk') this.#addUserBlk(phb.name, name, attach)
      else this.addVhost(phb.name, name, attach)
    } else {
      const mover = new QemuMover(phb.space, log.names.intern(name))
      this.masters.set(name, new VirtioEngine(name, mover, this.#host.takePrinted))
      this.drivers.set(name, null)
    }
  }

  /** The guest is reset: its drivers know no ring any more. */
  reset(): void {
    for (const driver of this.drivers.values()) driver?.reset()
  }

  /** QEMU sets the devices up, before the guest runs. */
  open(): void {
    this.vhosts.open()
    for (const vhost of this.#own) vhost.open()
  }

  /** QEMU's main loop comes to run. */
  elapse(): void {
    this.vhosts.elapse()
    for (const vhost of this.#own) vhost.elapse()
  }

  /** A device whose bytes vhost moves comes, below a unit. */
  addVhost(unit: string, name: string, attach: (net: QemuVhostNet) => AttachedVhost): void {
    const { machine, call, ram, onUnknown } = this.#host
    const { journal, stage } = machine
    const fileOf = (fd: number): VhostNet | undefined => this.#vhostAt(fd)
    let own: OwnVhost | undefined
    const net = new QemuVhostNet({
      journal,
      name,
      call,
      tapPath: TAP_PATH,
      ram,
      opened: (fd) => {
        const served = fileOf(fd)
        if (served === undefined) return
        // Records of the kernel have its own name of the device.
        stage.log.emit('device.add', stage.cause, { device: served.name, unit, mask: DMA_MASK })
        served.onReadable = () => this.elapse()
        own?.opened(served.name)
      },
      forget: (fd, iova, bytes) => fileOf(fd)?.invalidate(iova, bytes),
      onUnknown,
    })
    const { vhost, device, own: its } = attach(net)
    own = its
    if (own !== undefined) this.#own.push(own)
    const mover = new VhostMover({
      stage,
      device: stage.log.names.intern(name),
      vhost,
      memory: () => (net.fd === undefined ? undefined : fileOf(Number(net.fd))?.queues[0]?.memory),
      wait: () => this.elapse(),
    })
    this.masters.set(name, new VirtioEngine(name, mover, this.#host.takePrinted))
    this.drivers.set(name, new VirtioNetDriver(this.#driverParts(name, device)))
  }

  /** A disk that a process beside QEMU serves comes, below a unit. */
  #addUserBlk(unit: string, name: string, attach: (backend: VhostUserBlk) => AttachedVhost): void {
    const { machine, process, mm, ram, onUnknown } = this.#host
    const { nextIotlb, nextContainer } = this.#host.vhost
    const { journal, stage } = machine
    const backend = new VhostUserBlk({
      stage,
      journal,
      name: `vhost-user-${name}`,
      frontEnd: process,
      mm,
      ram,
      nextIotlb,
      nextContainer,
      onUnknown,
    })
    // Its records have its own name, as those of the kernel's devices have.
    stage.log.emit('device.add', null, { device: backend.name, unit, mask: DMA_MASK })
    backend.onReadable = () => this.elapse()
    const { vhost, device } = attach(backend)
    const mover = new VhostMover({
      stage,
      device: stage.log.names.intern(name),
      vhost,
      memory: () => backend.memory,
      wait: () => this.elapse(),
    })
    this.masters.set(name, new VirtioEngine(name, mover, this.#host.takePrinted))
    this.drivers.set(name, new VirtioBlkDriver(this.#driverParts(name, device)))
  }

  #driverParts(name: string, device: VirtioDevicePort): VirtioDriverParts {
    return {
      name,
      journal: this.#host.machine.journal,
      memory: this.#memory(),
      hasMemory: (gpa, bytes) => this.#regionOf(gpa, bytes) !== undefined,
      device,
    }
  }

  #vhostAt(fd: number): VhostNet | undefined {
    const { files, process } = this.#host
    const target = files.find(process, fd)?.target
    return target instanceof VhostNet ? target : undefined
  }

  #regionOf(gpa: bigint, bytes: bigint): RamRegion | undefined {
    return this.#host.ram.find((r) => r.gpa <= gpa && gpa + bytes <= r.gpa + r.bytes)
  }

  /** Guest memory, as a driver's CPU reaches it. */
  #memory(): DriverMemory {
    const uaOf = (address: number, bytes: number): bigint => {
      const region = this.#regionOf(BigInt(address), BigInt(bytes))
      if (region === undefined) throw new Error('model bug: a ring outside of guest memory')
      return region.ua + BigInt(address) - region.gpa
    }
    const { mm } = this.#host
    return {
      load: (address, into, at, bytes) => {
        mm.read(uaOf(address, bytes), into.subarray(at, at + bytes))
      },
      store: (address, from, at, bytes) => {
        mm.write(uaOf(address, bytes), from.subarray(at, at + bytes))
      },
    }
  }
}
