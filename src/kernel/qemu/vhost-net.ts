import type { Answer } from '../../bits/answer.ts'
import { answerNumber } from '../../bits/answer.ts'
import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import { featureBits, VIRTIO_F } from '../../hw/virtio/features.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import type { DriverQueue, HostCalls, IotlbMiss, IotlbSink } from '../ports.ts'
import { isOk } from './qemu-process.ts'
import type { VhostBackend } from './vhost-devices.ts'
import type { RamRegion } from './vhost-update.ts'

const DEVICE_PATH = '/dev/vhost-net'
/** The driver of a device behind an IOMMU has both of these. */
const DRIVER_FEATURES = featureBits(VIRTIO_F.VERSION_1, VIRTIO_F.ACCESS_PLATFORM)
/** VHOST_BACKEND_F_IOTLB_MSG_V2 */
const BACKEND_FEATURES = 1n << 1n
const NO_FILE = 0xffff_ffffn
/** Queue 0 receives, queue 1 transmits. */
const QUEUES = [0n, 1n] as const

/** Descriptors of a device: its own, its tap's, and the eventfds of its queues. */
interface Files {
  readonly device: bigint
  readonly tap: bigint
  readonly kicks: readonly bigint[]
  readonly calls: readonly bigint[]
}

const NO_FILES: Files | null = null

export interface QemuVhostNetParts {
  readonly journal: Journal
  /** Name of the device. */
  readonly name: string
  readonly call: HostCalls
  /** The tap behind it. */
  readonly tapPath: string
  readonly ram: readonly RamRegion[]
  /** The device is open, at a descriptor. */
  readonly opened: (fd: number) => void
  /** The kernel has the IOTLB of the device with a descriptor forget a range. */
  readonly forget: (fd: number, iova: bigint, bytes: bigint) => void
  /** QEMU goes on in a way that the model does not know. */
  readonly onUnknown: (why: string) => void
}

/**
 * The system calls with which QEMU has vhost-net serve a virtio network device behind a vIOMMU.
 * (QEMU 7.2 net/tap.c, net_init_tap_one; hw/virtio/vhost.c, vhost_dev_init, vhost_dev_start, vhost_virtqueue_start,
 * vhost_dev_stop; hw/net/vhost_net.c, vhost_net_start_one; hw/virtio/vhost-backend.c)
 */
export class QemuVhostNet implements IotlbSink, VhostBackend {
  readonly queues = QUEUES.length
  readonly #parts: QemuVhostNetParts
  readonly #files: Held<Files | null>

  constructor(parts: QemuVhostNetParts) {
    this.#parts = parts
    this.#files = new Held<Files | null>(parts.journal, `qemu vhost-net ${parts.name}`, NO_FILES, (f) =>
      f === null ? 0 : Number(f.device) + 1,
    )
  }

  /** Descriptor of the device in QEMU; undefined before `open`. */
  get fd(): bigint | undefined {
    return this.#files.value?.device
  }

  /** QEMU sets the network device up. What it does where a call fails is not modelled. */
  open(): void {
    const tap = this.#fdOf('proc', 'open', { path: this.#parts.tapPath })
    const device = this.#fdOf('proc', 'open', { path: DEVICE_PATH })
    this.#parts.opened(Number(device))
    this.#ioctl('VHOST_SET_OWNER', { fd: device })
    this.#ioctl('VHOST_GET_FEATURES', { fd: device })
    for (const index of QUEUES) {
      for (const call of ['VHOST_SET_VRING_CALL', 'VHOST_SET_VRING_ERR']) {
        this.#ioctl(call, { fd: device, index, file: this.#eventfd() })
      }
    }
    const kicks = QUEUES.map(() => this.#eventfd())
    const calls = QUEUES.map(() => this.#eventfd())
    this.#files.set({ device, tap, kicks, calls })
  }

  /** The driver is ready; `listen` registers QEMU's listener, which comes before vhost learns of memory and queues. */
  start(queues: readonly DriverQueue[], listen: () => void): void {
    const files = this.#files.value
    if (files === null) return
    const fd = files.device
    this.#ioctl('VHOST_SET_FEATURES', { fd, features: DRIVER_FEATURES })
    this.#ioctl('VHOST_GET_BACKEND_FEATURES', { fd })
    this.#ioctl('VHOST_SET_BACKEND_FEATURES', { fd, features: BACKEND_FEATURES })
    listen()
    const regions = this.#parts.ram.flatMap(({ gpa, bytes, ua }) => [gpa, bytes, ua])
    this.#ioctl('VHOST_SET_MEM_TABLE', { fd, regions })
    for (const queue of queues) this.#startQueue(files, queue)
  }

  /** Queues get their tap, when their used rings have been translated. */
  connect(queues: readonly DriverQueue[]): void {
    const files = this.#files.value
    if (files === null) return
    for (const { index } of queues) {
      this.#ioctl('VHOST_NET_SET_BACKEND', { fd: files.device, index: BigInt(index), file: files.tap })
    }
  }

  /** The driver has reset the device. */
  stop(queues: readonly DriverQueue[], unlisten: () => void): void {
    const files = this.#files.value
    if (files === null) return
    const fd = files.device
    for (const index of QUEUES) this.#ioctl('VHOST_NET_SET_BACKEND', { fd, index, file: NO_FILE })
    for (const { index } of queues) this.#ioctl('VHOST_GET_VRING_BASE', { fd, index: BigInt(index) })
    unlisten()
  }

  /** The driver tells of new buffers: KVM signals the eventfd of the queue. */
  kick(index: number): void {
    const fd = this.#files.value?.kicks[index]
    if (fd !== undefined) this.#expect(this.#parts.call('vhost', 'signal', { fd }))
  }

  forget(iova: bigint, bytes: bigint): void {
    const { fd } = this
    if (fd !== undefined) this.#parts.forget(Number(fd), iova, bytes)
  }

  update(iova: bigint, bytes: bigint, ua: bigint, perm: number): number {
    return this.#write({ type: BigInt(IOTLB_MESSAGE.UPDATE), iova, bytes, ua, perm: BigInt(perm) })
  }

  invalidate(iova: bigint, bytes: bigint): number {
    return this.#write({ type: BigInt(IOTLB_MESSAGE.INVALIDATE), iova, bytes })
  }

  nextMiss(): IotlbMiss | undefined {
    const { fd } = this
    if (fd === undefined) return undefined
    const answer = this.#parts.call('vhost', 'read', { fd })
    if (!isOk(answer)) return undefined
    const { iova, perm } = answer.outputs
    return { iova: iova as bigint, access: Number(perm) }
  }

  #startQueue({ device: fd, kicks, calls }: Files, queue: DriverQueue): void {
    const index = BigInt(queue.index)
    const { descriptors: desc, available: avail, used } = queue
    this.#ioctl('VHOST_SET_VRING_NUM', { fd, index, num: BigInt(queue.entries) })
    this.#ioctl('VHOST_SET_VRING_BASE', { fd, index, num: 0n })
    this.#ioctl('VHOST_SET_VRING_ADDR', { fd, index, flags: 0n, desc, used, avail, log: used })
    this.#ioctl('VHOST_SET_VRING_KICK', { fd, index, file: kicks[queue.index] as bigint })
    this.#ioctl('VHOST_SET_VRING_CALL', { fd, index, file: calls[queue.index] as bigint })
  }

  /** What a write answers: 0, or a negative errno. */
  #write(message: Readonly<Record<string, bigint>>): number {
    const { fd } = this
    if (fd === undefined) return 0
    return Math.min(0, answerNumber(this.#parts.call('vhost', 'write', { fd, version: 2n, ...message })))
  }

  #eventfd(): bigint {
    return this.#fdOf('vhost', 'eventfd', {})
  }

  #fdOf(verb: 'proc' | 'vhost', call: string, args: Readonly<Record<string, string>>): bigint {
    const answer = this.#parts.call(verb, call, args)
    this.#expect(answer)
    return (answer.outputs['fd'] as bigint | undefined) ?? NO_FILE
  }

  #ioctl(call: string, args: Readonly<Record<string, bigint | readonly bigint[]>>): void {
    this.#expect(this.#parts.call('ioctl', call, args))
  }

  #expect(answer: Answer): void {
    if (!isOk(answer)) this.#parts.onUnknown('a vhost device that QEMU cannot set up')
  }
}
