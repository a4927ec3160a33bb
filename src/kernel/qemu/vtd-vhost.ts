import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { Life } from '../../hw/life.ts'
import { newRequest, PERM, type Translation, type VtdRequest } from '../../hw/vtd/ports.ts'
import { isInterruptAddress } from '../../memory/interrupt-range.ts'
import type { DriverQueue, IotlbSink, VirtioDevicePort } from '../ports.ts'
import type { VhostBackend } from './vhost-devices.ts'
import { sendUpdate, type UpdateParts } from './vhost-update.ts'
import type { UnmapListener, VtdDevice, VtdNotifier } from './vtd-notifier.ts'

const READ = 1
const PAGE_SHIFT = 12

/** What translates for it: the unit, with its caches and its fault records. */
export interface VtdTranslator {
  /** What the last request came to. */
  readonly translation: Translation
  /** Answers the fault reason, 0 for none. */
  translate(request: VtdRequest): number
}

export interface VtdVhostParts extends Omit<UpdateParts, 'sink'> {
  readonly name: string
  readonly journal: Journal
  readonly life: Life
  readonly unit: VtdTranslator
  readonly notifier: VtdNotifier
  readonly device: VtdDevice
  readonly backend: VhostBackend & IotlbSink
}

/**
 * What QEMU does for a vhost device behind intel-iommu: it has vhost forget what its notifiers are told of, and
 * translates what vhost misses. (QEMU 7.2 hw/virtio/vhost.c, vhost_dev_start, vhost_iommu_unmap_notify,
 * vhost_device_iotlb_miss)
 */
export class VtdVhost implements UnmapListener, VirtioDevicePort {
  /** UPDATEs that vhost has taken since the device was made. */
  updates = 0
  readonly #parts: VtdVhostParts
  readonly #isStarted: Held<boolean>
  readonly #request = newRequest()

  constructor(parts: VtdVhostParts) {
    this.#parts = parts
    this.#isStarted = new Held<boolean>(parts.journal, `vhost ${parts.name}`, false, Number)
  }

  get isStarted(): boolean {
    return this.#isStarted.value
  }

  /** The driver is ready. QEMU ends where the vIOMMU takes no listener. */
  start(queues: readonly DriverQueue[]): void {
    const { backend, notifier, device, life } = this.#parts
    backend.start(queues, () => notifier.start(device, this))
    if (life.isDead) return
    this.#isStarted.set(true)
    // A queue that is not laid out has its rings at 0.
    for (let index = 0; index < backend.queues; index++) {
      this.#answer(queues.find((q) => q.index === index)?.used ?? 0n, true)
    }
    backend.connect(queues)
  }

  stop(queues: readonly DriverQueue[]): void {
    const { backend, notifier, device } = this.#parts
    backend.stop(queues, () => notifier.stop(device, this))
    this.#isStarted.set(false)
  }

  kick(index: number): void {
    this.#parts.backend.kick(index)
  }

  unmapped(iova: bigint, last: bigint): void {
    const { backend, print } = this.#parts
    if (backend.invalidate(iova, last - iova + 1n) === 0) return
    print('Fail to update device iotlb')
    print('Fail to invalidate device iotlb')
  }

  /** QEMU's main loop comes to run: it answers all that vhost waits for. */
  elapse(): void {
    if (!this.isStarted) return
    const { backend } = this.#parts
    for (let miss = backend.nextMiss(); miss !== undefined; miss = backend.nextMiss()) {
      this.#answer(miss.iova, miss.access !== READ)
    }
  }

  #answer(iova: bigint, isWrite: boolean): void {
    const { unit, device, backend, ...parts } = this.#parts
    if (isInterruptAddress(iova)) return
    const request = this.#request
    request.source = device.options.source
    request.hi = hiOf(iova)
    request.lo = loOf(iova)
    request.need = isWrite ? PERM.WRITE : PERM.READ
    if (unit.translate(request) !== 0) return
    const { page: target, shift, perm } = unit.translation
    if ((perm & request.need) === 0) return
    const pages = 2 ** (shift - PAGE_SHIFT)
    const mask = (1n << BigInt(shift)) - 1n
    const page = BigInt(target - (target % pages)) << BigInt(PAGE_SHIFT)
    if (sendUpdate({ ...parts, sink: backend }, { iova, mask, page, perm })) this.updates++
  }
}
