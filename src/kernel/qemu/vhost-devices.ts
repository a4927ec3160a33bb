import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { DmaSpace } from '../../hw/dma-space.ts'
import type { SpaprTceTable } from '../../hw/spapr-tce-table.ts'
import type { WindowWatcher } from '../../hw/window-watcher.ts'
import type { DriverQueue, LinkedVhost, VhostLinkPort, VirtioDevicePort } from '../ports.ts'
import type { QemuVhost } from './vhost-device.ts'

/** Who serves a virtio device beside QEMU, in the kernel or in a process of its own, as QEMU sets it up. */
export interface VhostBackend {
  /** Queues of the device. */
  readonly queues: number
  open(): void
  /** The driver is ready. `listen` has QEMU listen to windows, before vhost learns of memory and queues. */
  start(queues: readonly DriverQueue[], listen: () => void): void
  /** The used rings have been translated: the queues may run. */
  connect(queues: readonly DriverQueue[]): void
  stop(queues: readonly DriverQueue[], unlisten: () => void): void
  kick(index: number): void
  /** The kernel has its IOTLB forget a range, without a message; nothing where the IOTLB is not in the kernel. */
  forget(iova: bigint, bytes: bigint): void
  /** QEMU's process is gone; left out where the kernel sees to it. */
  ended?(): void
}

interface Member {
  readonly vhost: QemuVhost
  readonly backend: VhostBackend
  readonly link: LinkedVhost
}

interface Signal {
  readonly vhost: QemuVhost
  readonly liobn: number
}

/**
 * The vhost devices of a guest, and the part of QEMU's main loop that serves them: it answers what they miss, and, with the
 * remedy `eventfd`, has them forget windows that KVM has signalled. It comes to run when a device waits for a miss, and
 * with each tick.
 */
export class VhostDevices {
  readonly #links: VhostLinkPort | undefined
  readonly #members: Member[] = []
  readonly #signals: Held<readonly Signal[]>

  /** @param links where KVM is told of them; left out without KVM */
  constructor(journal: Journal, links?: VhostLinkPort) {
    this.#links = links
    this.#signals = new Held<readonly Signal[]>(journal, 'vhost signals', [], (list) =>
      list.reduce((n, { liobn }) => n * 31 + liobn, 0),
    )
  }

  /** A device comes; answers what its driver meets. */
  add(vhost: QemuVhost, backend: VhostBackend): VirtioDevicePort {
    const { name } = vhost
    const signal = (liobn: number): void => {
      const before = this.#signals.value
      // A second signal before the first is read is the same signal.
      if (before.some((s) => s.vhost === vhost && s.liobn === liobn)) return
      this.#signals.set([...before, { vhost, liobn }])
    }
    const link = { name, forget: backend.forget.bind(backend), signal }
    const member: Member = { vhost, backend, link }
    this.#members.push(member)
    return {
      get isStarted() {
        return vhost.isStarted
      },
      start: (queues) => this.#start(member, queues),
      stop: (queues) => {
        backend.stop(queues, () => this.#unlisten(member))
        vhost.stop()
      },
      kick: (index) => backend.kick(index),
    }
  }

  /** QEMU sets the devices up, before the guest runs. */
  open(): void {
    for (const { backend } of this.#members) backend.open()
  }

  /** The process is gone: the kernel has closed the devices and sockets. */
  ended(): void {
    for (const member of this.#members) {
      if (!member.vhost.isStarted) continue
      this.#unlisten(member)
      member.vhost.stop()
    }
    for (const { backend } of this.#members) backend.ended?.()
    if (this.#signals.value.length > 0) this.#signals.set([])
  }

  /** Tells the devices on a bus of its windows. */
  watcherOf(space: () => DmaSpace): WindowWatcher {
    const tell = (of: (member: Member, table: SpaprTceTable) => void) => (table: SpaprTceTable) => {
      for (const member of this.#members) {
        if (member.vhost.space === space() && member.vhost.isStarted) of(member, table)
      }
    }
    return { opened: tell((m, t) => this.#opened(m, t)), closing: tell((m, t) => this.#closing(m, t)) }
  }

  /** QEMU's main loop comes to run. */
  elapse(): void {
    const signals = this.#signals.value
    if (signals.length > 0) this.#signals.set([])
    for (const { vhost, liobn } of signals) {
      const window = vhost.space.tables.find((t) => t.liobn === liobn)?.window
      if (window) vhost.invalidate(window.busOffset, BigInt(window.entries) << BigInt(window.pageShift))
    }
    for (const { vhost } of this.#members) if (vhost.isStarted) vhost.answerMisses()
  }

  #start(member: Member, queues: readonly DriverQueue[]): void {
    const { vhost, backend } = member
    backend.start(queues, () => {
      for (const table of openTables(vhost)) this.#opened(member, table)
    })
    vhost.start()
    for (let index = 0; index < backend.queues; index++) {
      vhost.prefill(queues.find((q) => q.index === index)?.used ?? 0n)
    }
    backend.connect(queues)
  }

  #unlisten(member: Member): void {
    for (const table of openTables(member.vhost)) this.#closing(member, table)
  }

  #opened({ vhost, link }: Member, table: SpaprTceTable): void {
    vhost.opened(table)
    this.#links?.opened(link, table.liobn)
  }

  #closing({ vhost, link }: Member, table: SpaprTceTable): void {
    this.#links?.closed(link, table.liobn)
    vhost.closing(table)
  }
}

const openTables = (vhost: QemuVhost): readonly SpaprTceTable[] =>
  vhost.space.tables.filter(({ window }) => window !== null)
