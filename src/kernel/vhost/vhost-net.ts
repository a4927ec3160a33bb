import { ERRNO_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, U64_MAX, wordOf } from '../../bits/u64.ts'
import { hasFeature, VIRTIO_F } from '../../hw/virtio/features.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { Process } from '../../memory/process.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import type { Stage } from '../../trace/stage.ts'
import type { FileTarget, IoctlRefusal } from '../files.ts'
import { DeviceTables } from './device-tables.ts'
import type { VhostErrata } from './errata.ts'
import { IotlbRecords } from './iotlb-records.ts'
import { MessageLists } from './message-lists.ts'
import { type IotlbMessage, PERM } from './messages.ts'
import { NetQueue } from './net-queue.ts'
import { VhostMemory } from './vhost-memory.ts'

/** Bits that vhost-net has beside those of every virtio device. (Linux v6.1 include/uapi/linux/vhost.h, virtio_net.h) */
export const NET_F = { MRG_RXBUF: 15, LOG_ALL: 26, VIRTIO_NET_HDR: 27, RING_RESET: 40 } as const

const bitsOf = (...bits: readonly number[]): bigint =>
  bits.reduce((word, bit) => word | (1n << BigInt(bit)), 0n)

/** What vhost-net of every kernel offers. (Linux v6.1 drivers/vhost/vhost.h, VHOST_FEATURES; net.c, VHOST_NET_FEATURES) */
const NET_FEATURES = bitsOf(
  NET_F.MRG_RXBUF,
  VIRTIO_F.NOTIFY_ON_EMPTY,
  NET_F.LOG_ALL,
  NET_F.VIRTIO_NET_HDR,
  VIRTIO_F.RING_INDIRECT_DESC,
  VIRTIO_F.RING_EVENT_IDX,
  VIRTIO_F.VERSION_1,
  VIRTIO_F.ACCESS_PLATFORM,
)
/** What vhost-net of a kernel offers. */
export const offeredFeatures = ({ lacksRingReset }: VhostErrata): bigint =>
  lacksRingReset ? NET_FEATURES : NET_FEATURES | bitsOf(NET_F.RING_RESET)

/** VHOST_BACKEND_F_IOTLB_MSG_V2: a number of a bit, as all of its kind. */
const IOTLB_MSG_V2 = 1
export const NET_BACKEND_FEATURES = bitsOf(IOTLB_MSG_V2)

const QUEUES = 2
/** sizeof(virtio_net_hdr), and with the number of buffers. */
const HEADER_BYTES = 10
const LONG_HEADER_BYTES = 12

/** How writing a message ends: a rule of `VHOST_WRITE`. */
export type MessageEnd = 'empty' | 'no-iotlb' | 'not-user-memory' | 'wraps' | 'message-unknown' | 'done'

const { EINVAL, EFAULT } = ERRNO_CODES
const CODES: Readonly<Record<MessageEnd, number>> = {
  empty: EINVAL,
  'no-iotlb': EFAULT,
  'not-user-memory': EFAULT,
  wraps: EFAULT,
  'message-unknown': EFAULT,
  done: 0,
}

interface DeviceState {
  readonly owner: AddressSpace | null
  readonly features: bigint
  readonly backendFeatures: bigint
}

const NEW: DeviceState = { owner: null, features: 0n, backendFeatures: 0n }
const hashOf = ({ owner, features, backendFeatures }: DeviceState): number =>
  keyOf(owner?.name ?? '', hiOf(features), loOf(features), loOf(backendFeatures))

export interface VhostNetParts {
  readonly stage: Stage
  readonly journal: Journal
  /** How records name it. */
  readonly name: string
  readonly errata: VhostErrata
  /** Maps that an IOTLB keeps. */
  readonly limit: number
  readonly nextIotlb: () => number
  readonly nextContainer: () => number
  readonly onUnknown: (why: string) => void
  readonly onSpin: () => void
  readonly onRelease: (device: VhostNet) => void
}

/**
 * An open file of /dev/vhost-net: a network device whose rings the kernel works on, in the address space of its owner.
 *
 * Its queues run in a worker, which has finished before a call that led there returns. Who serves the misses of the
 * device (`onReadable`) is called by the worker between two runs, as a thread of its own would be.
 * (Linux v6.1 drivers/vhost/vhost.c, net.c)
 */
export class VhostNet implements FileTarget {
  readonly kind = 'vhost-net'
  readonly name: string
  readonly tables: DeviceTables
  readonly messages: MessageLists
  readonly queues: readonly NetQueue[]
  /** Told when there are new messages to read. */
  onReadable: (() => void) | null = null
  readonly #parts: VhostNetParts
  readonly #state: Held<DeviceState>
  readonly #records: IotlbRecords
  readonly #work = new Set<number>()
  #isWorking = false
  /** Whether a message has come that who serves misses was not told of. */
  readonly #hasNews: Held<boolean>

  constructor(parts: VhostNetParts) {
    const { stage, journal, name, errata, limit, nextIotlb, nextContainer, onUnknown, onSpin } = parts
    const splitsFullRange = !errata.takesEmptyUpdate
    this.name = name
    this.#parts = parts
    this.#state = new Held(journal, name, NEW, hashOf)
    this.#hasNews = new Held<boolean>(journal, `${name} news`, false, Number)
    this.#records = new IotlbRecords(stage)
    this.tables = new DeviceTables({ stage, journal, name, limit, splitsFullRange, nextIotlb, nextContainer })
    this.messages = new MessageLists(journal, name, errata.wakesLate)
    this.queues = Array.from({ length: QUEUES }, (_, queue) => {
      const memory = new VhostMemory({
        stage,
        name: `${name} queue ${queue}`,
        queue,
        tables: this.tables,
        owner: () => this.owner,
        miss: (hi, lo, access) => this.#miss(queue, hi, lo, access),
        onUnknown,
        onSpin,
      })
      return new NetQueue({
        stage,
        journal,
        device: name,
        number: queue,
        memory,
        features: () => this.#netFeatures(),
        onWork: () => this.#queueWork(queue),
        onUnknown,
      })
    })
  }

  get owner(): AddressSpace | null {
    return this.#state.value.owner
  }

  get features(): bigint {
    return this.#state.value.features
  }

  isOwnedBy(process: Process): boolean {
    return this.owner === process.mm
  }

  setOwner(mm: AddressSpace): void {
    mm.grab()
    this.#state.set({ ...this.#state.value, owner: mm })
  }

  /** As new, without an owner; with an empty memory table where it goes on (`isReset`). */
  cleanUp(isReset: boolean): void {
    const { owner } = this
    for (const queue of this.queues) queue.reset()
    this.tables.clear(isReset ? this.tables.makeMemory([]) : null)
    this.messages.clear()
    this.#work.clear()
    this.#state.set(NEW)
    owner?.drop()
  }

  /** Features are in force; those of an IOTLB give the device a new one. */
  setFeatures(features: bigint): void {
    if (hasFeature(features, VIRTIO_F.ACCESS_PLATFORM)) {
      this.tables.beginIotlb()
      for (const queue of this.queues) queue.memory.forget()
    }
    this.#state.set({ ...this.#state.value, features })
    const hasEventIndex = hasFeature(features, VIRTIO_F.RING_EVENT_IDX)
    for (const { ring } of this.queues) ring.setUp({ ...ring.setup, hasEventIndex })
  }

  setBackendFeatures(backendFeatures: bigint): void {
    this.#state.set({ ...this.#state.value, backendFeatures })
  }

  /** What a process writes to the file; nobody asks whether it owns the device. */
  write(message: IotlbMessage, writer: Process): MessageEnd {
    const end = this.#decide(message, writer)
    const { log, cause } = this.#parts.stage
    const { type, iova, bytes, ua, perm } = message
    const fields = { device: this.name, from: writer.name, type, iova, bytes, ua, perm, code: CODES[end] }
    const seq = log.emit('vhost.message', cause, fields)
    if (end === 'done') this.#apply(message, seq)
    return end
  }

  /**
   * Drops the maps that overlap [iova, iova + bytes), as an INVALIDATE of user space does: the way in for who is in the
   * kernel itself. Nothing happens where the device has no IOTLB.
   */
  invalidate(iova: bigint, bytes: bigint): void {
    if (this.tables.iotlb === null) return
    this.#forget()
    this.tables.invalidate({ version: 2, type: IOTLB_MESSAGE.INVALIDATE, iova, bytes, ua: 0n, perm: 0 })
  }

  /** The oldest message, which is read then; null where there is none. */
  read(): IotlbMessage | null {
    return this.messages.take()
  }

  released(): void {
    this.cleanUp(false)
    this.#parts.onRelease(this)
  }

  /** Unknown ioctls go to the queues, which read an index first. (Linux v6.1 drivers/vhost/vhost.c, vhost_vring_ioctl) */
  refusal(process: Process, argument = 0n): IoctlRefusal {
    if (!this.isOwnedBy(process)) return 'other-process'
    const index = new Uint8Array(4)
    if (process.mm.read(argument, index).moved !== index.length) return 'bad-pointer'
    const queue = new DataView(index.buffer).getUint32(0, true)
    return queue < QUEUES ? 'unknown' : 'no-such-queue'
  }

  #decide(message: IotlbMessage, { mm }: Process): MessageEnd {
    const { errata } = this.#parts
    const { type, iova, bytes, ua, perm } = message
    const isUpdate = type === IOTLB_MESSAGE.UPDATE
    const isInvalidate = type === IOTLB_MESSAGE.INVALIDATE
    if (bytes === 0n && isUpdate && !errata.takesEmptyUpdate) return 'empty'
    if (bytes === 0n && isInvalidate && errata.refusesEmptyInvalidate) return 'empty'
    if (!isUpdate && !isInvalidate) return 'message-unknown'
    if (this.tables.iotlb === null) return 'no-iotlb'
    if (isInvalidate) return 'done'
    if (!isUserMemory(mm, ua, bytes, perm)) return 'not-user-memory'
    if (BigInt.asUintN(64, iova + bytes - 1n) >= iova) return 'done'
    this.#forget()
    return 'wraps'
  }

  #apply(message: IotlbMessage, seq: number): void {
    const { stage } = this.#parts
    const before = stage.cause
    stage.cause = seq
    this.#forget()
    if (message.type === IOTLB_MESSAGE.INVALIDATE) this.tables.invalidate(message)
    else {
      this.tables.fill(message)
      const woken = new Set(this.messages.wake(message.iova, message.bytes))
      for (const number of woken) {
        const queue = this.queues[number]
        if (queue?.isActive === true) queue.states.become('woken')
        this.#work.add(number)
      }
    }
    this.#drain()
    stage.cause = before
  }

  #forget(): void {
    for (const { memory } of this.queues) memory.forget()
  }

  #miss(queue: number, hi: number, lo: number, access: number): void {
    const { stage } = this.#parts
    const version = ((this.#state.value.backendFeatures >> BigInt(IOTLB_MSG_V2)) & 1n) === 1n ? 2 : 1
    const iova = wordOf(hi, lo)
    const type = IOTLB_MESSAGE.MISS
    this.messages.add({ queue, message: { version, type, iova, bytes: 0n, ua: 0n, perm: access } })
    this.#records.miss(this.tables.number, queue, hi, lo, access)
    const fields = { device: this.name, from: 'vhost', type, iova, bytes: 0n, ua: 0n, perm: access, code: 0 }
    stage.log.emit('vhost.message', stage.cause, fields)
    if (!this.#hasNews.value) this.#hasNews.set(true)
  }

  #queueWork(queue: number): void {
    this.#work.add(queue)
    this.#drain()
  }

  /** The worker: runs queues until none is left, and lets who reads messages answer in between. */
  #drain(): void {
    if (this.#isWorking) return
    this.#isWorking = true
    for (;;) {
      const [queue] = this.#work
      if (queue !== undefined) {
        this.#work.delete(queue)
        this.queues[queue]?.run()
      } else if (this.#hasNews.value && this.onReadable !== null) {
        this.#hasNews.set(false)
        this.onReadable()
      } else break
    }
    this.#isWorking = false
  }

  #netFeatures() {
    const { features } = this.#state.value
    const isMergeable = hasFeature(features, NET_F.MRG_RXBUF)
    const isLong = isMergeable || hasFeature(features, VIRTIO_F.VERSION_1)
    return {
      isMergeable,
      ownsHeader: hasFeature(features, NET_F.VIRTIO_NET_HDR),
      countsBuffers: isMergeable || (isLong && !this.#parts.errata.leavesBufferCount),
      headerBytes: isLong ? LONG_HEADER_BYTES : HEADER_BYTES,
    }
  }
}

/** vhost_overflow, and access_ok for what the device may do: a permission of 0 asks for nothing. */
function isUserMemory(mm: AddressSpace, ua: bigint, bytes: bigint, perm: number): boolean {
  if (bytes > 0n && ua > U64_MAX - bytes + 1n) return false
  return (perm & PERM.RW) === 0 || mm.reaches(ua, bytes)
}
