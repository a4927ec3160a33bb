import { Journal } from '../../bits/state.ts'
import { wordOf } from '../../bits/u64.ts'
import { hasFeature, VIRTIO_F } from '../../hw/virtio/features.ts'
import { SplitRing } from '../../hw/virtio/split-ring.ts'
import {
  CONFIG_BYTES_MAX,
  FRONT_END_REQUESTS,
  type FrontEndRequest,
  frontEndRequest,
  HEADER_FLAGS,
  PROTOCOL_FEATURES,
  type ProtocolFeature,
  type RequestDecl,
  TRANSPORT_FEATURES,
} from '../../reader/vhost-user-format.ts'
import { payloadBytes, payloadOf, readField, readNumber, replyOf, wordPayload } from './codec.ts'
import type { DescriptorPort, Message } from './descriptors.ts'
import { DeviceMemory } from './device-memory.ts'
import { Fault } from './faults.ts'
import { GuestRegions } from './guest-regions.ts'
import { IotlbSide } from './iotlb-side.ts'
import { addRegion, REGIONS_MAX, removeRegion, setMemoryTable } from './memory-requests.ts'
import type { ServedDevice } from './served-device.ts'
import type { SessionWatcher } from './session-watcher.ts'
import { Vring } from './vring.ts'
import { VringRequests } from './vring-requests.ts'

/** Protocol features that are offered. */
const OFFERED: readonly ProtocolFeature[] = [
  'MQ',
  'REPLY_ACK',
  'BACKEND_REQ',
  'CONFIG',
  'RESET_DEVICE',
  'CONFIGURE_MEM_SLOTS',
  'STATUS',
]
const OFFERED_WORD = OFFERED.reduce((word, name) => word | (1n << BigInt(PROTOCOL_FEATURES[name])), 0n)

const RING_FEATURES = [
  VIRTIO_F.RING_INDIRECT_DESC,
  VIRTIO_F.RING_EVENT_IDX,
  TRANSPORT_FEATURES.PROTOCOL_FEATURES,
  TRANSPORT_FEATURES.VERSION_1,
  TRANSPORT_FEATURES.ACCESS_PLATFORM,
].reduce((word, bit) => word | (1n << BigInt(bit)), 0n)

/** Maps of the IOTLB: what Linux keeps where nobody says otherwise (max_iotlb_entries). */
export const IOTLB_LIMIT = 2048

export interface SessionOptions {
  readonly device: ServedDevice
  readonly descriptors: DescriptorPort
  readonly watcher: SessionWatcher
  /** Maps that the IOTLB keeps; the oldest makes room. */
  readonly iotlbLimit?: number
}

/** What a request gives: the payload of its own reply, nothing, or the rule that it broke. */
export type Answer = Uint8Array | Fault | undefined
type Handler = (payload: Uint8Array, fds: number[]) => Answer
type Served = {
  [K in FrontEndRequest]: (typeof FRONT_END_REQUESTS)[K] extends { readonly isUnserved: true } ? never : K
}[FrontEndRequest]

/** What is to be done after a message: send these bytes; or close the connection. */
export interface Taken {
  readonly reply?: Uint8Array
  readonly fault?: Fault
}

/**
 * A connection with a front end: what was agreed on, guest memory, IOTLB and queues. Everything that the front end
 * says is checked before it is used; the checks of a message stand in the order of `FAULTS`.
 *
 * A message is answered before anything else happens. Queues run between messages, by `runQueues`: so no reply ever
 * waits for a translation, which QEMU from 7.2.3 on would not give while it waits itself.
 */
export class Session {
  readonly regions = new GuestRegions()
  readonly memory: DeviceMemory
  readonly queues: readonly Vring[]
  readonly iotlb: IotlbSide
  features = 0n
  protocolFeatures = 0n
  status = 0
  readonly #device: ServedDevice
  readonly #descriptors: DescriptorPort
  readonly #watcher: SessionWatcher
  readonly #vrings: VringRequests
  readonly #handlers: Readonly<Record<Served, Handler>>
  #isOpen = true
  #fault: Fault | undefined

  constructor({ device, descriptors, watcher, iotlbLimit = IOTLB_LIMIT }: SessionOptions) {
    this.#device = device
    this.#descriptors = descriptors
    this.#watcher = watcher
    this.memory = new DeviceMemory(this.regions, {
      onMiss: (queue, hi, lo, access, part, isAhead) =>
        this.iotlb.miss(queue, wordOf(hi, lo), access, part, isAhead),
      onRefusal: (queue, hi, lo, access, code) => this.iotlb.refuse(queue, hi, lo, access, code),
      onUse: (map, hi, lo, uaHi, uaLo, bytes, access, part) =>
        watcher.onUse(map, hi, lo, uaHi, uaLo, bytes, access, part),
      onReach: (hi, lo, bytes, part) => watcher.onReach(hi, lo, bytes, part),
    })
    const journal = new Journal()
    const { memory } = this
    this.queues = Array.from({ length: device.queues }, (_, index) => {
      const ring = new SplitRing({ memory, queue: index, journal, name: `queue ${index}` })
      return new Vring(index, ring, device.server)
    })
    this.iotlb = new IotlbSide({ memory, queues: this.queues, watcher, descriptors, limit: iotlbLimit })
    this.#vrings = new VringRequests(this, descriptors, watcher)
    this.#vrings.onFault = (fault) => (this.#fault ??= fault)
    this.iotlb.onFault = (fault) => (this.#fault ??= fault)
    this.#handlers = this.#handlersOf()
  }

  get hasIotlb(): boolean {
    return hasFeature(this.features, TRANSPORT_FEATURES.ACCESS_PLATFORM)
  }

  has(feature: ProtocolFeature): boolean {
    return hasFeature(this.protocolFeatures, PROTOCOL_FEATURES[feature])
  }

  /** Features that the back end offers. */
  get offered(): bigint {
    return this.#device.features | RING_FEATURES
  }

  /** Takes a message. Its descriptors are closed, or kept to be closed with the session. */
  take(message: Message): Taken {
    const { fds } = message
    try {
      return this.#take(message)
    } finally {
      for (const fd of fds) if (fd >= 0) this.#descriptors.close(fd)
    }
  }

  #take(message: Message): Taken {
    const { header, payload, fds } = message
    const name = frontEndRequest(header.request)
    if (name === undefined) return { fault: new Fault('request-unknown', String(header.request)) }
    const decl: RequestDecl = FRONT_END_REQUESTS[name]
    this.#watcher.onRequest(name, message)
    const fault = this.#check(name, decl, payload, fds)
    if (fault !== undefined) return { fault }
    const answer = this.#handlers[name as Served](payload, fds)
    const isFault = answer instanceof Fault
    if (isFault && !answer.isRefusal) return { fault: answer }
    const isOwed = decl.reply !== undefined || this.#needsReply(header.flags)
    if (isFault && !isOwed) return { fault: answer }
    if (!isOwed) return {}
    if (answer instanceof Uint8Array) return { reply: replyOf(decl.nr, answer) }
    return { reply: replyOf(decl.nr, wordPayload(isFault ? 1 : 0)) }
  }

  #needsReply(flags: number): boolean {
    return this.has('REPLY_ACK') && (flags & HEADER_FLAGS.NEED_REPLY) !== 0
  }

  /** What every request is checked for, in this order. */
  #check(
    name: FrontEndRequest,
    decl: RequestDecl,
    payload: Uint8Array,
    fds: readonly number[],
  ): Fault | undefined {
    if (decl.isUnserved === true) return new Fault('request-unserved', name)
    if (decl.feature !== undefined && !this.has(decl.feature)) {
      return new Fault('feature-missing', `${name} needs ${decl.feature}`)
    }
    const wanted = payloadBytes(decl.payload, payload)
    if (payload.length !== wanted) {
      return new Fault('payload-bytes', `${name} has ${payload.length}, not ${wanted}`)
    }
    const [least, most] =
      decl.fds === 'regions'
        ? [readNumber('memTable', payload, 'regions'), readNumber('memTable', payload, 'regions')]
        : (decl.fds ?? [0, 0])
    if (fds.length < least || fds.length > most) {
      return new Fault('descriptors-count', `${name} has ${fds.length}`)
    }
    return undefined
  }

  #handlersOf(): Readonly<Record<Served, Handler>> {
    const vrings = this.#vrings
    const memory = { session: this, descriptors: this.#descriptors, watcher: this.#watcher }
    return {
      GET_FEATURES: () => wordPayload(this.offered),
      SET_FEATURES: (payload) => this.#setFeatures(readField('word', payload, 'value')),
      SET_OWNER: () => undefined,
      RESET_OWNER: () => undefined,
      SET_MEM_TABLE: (payload, fds) => setMemoryTable(memory, payload, fds),
      SET_VRING_NUM: (payload) => vrings.setEntries(payload),
      SET_VRING_ADDR: (payload) => vrings.setAddresses(payload),
      SET_VRING_BASE: (payload) => vrings.setBase(payload),
      GET_VRING_BASE: (payload) => vrings.getBase(payload),
      SET_VRING_KICK: (payload, fds) => vrings.setKick(payload, fds),
      SET_VRING_CALL: (payload, fds) => vrings.setEvent(payload, fds, 'callFd'),
      SET_VRING_ERR: (payload, fds) => vrings.setEvent(payload, fds, 'errFd'),
      GET_PROTOCOL_FEATURES: () => wordPayload(OFFERED_WORD),
      SET_PROTOCOL_FEATURES: (payload) => this.#setProtocolFeatures(readField('word', payload, 'value')),
      GET_QUEUE_NUM: () => wordPayload(this.queues.length),
      SET_VRING_ENABLE: (payload) => vrings.enable(payload),
      SET_BACKEND_REQ_FD: (_, fds) => this.iotlb.openChannel(fds),
      IOTLB_MSG: (payload) => this.iotlb.take(payload, this.hasIotlb),
      GET_CONFIG: (payload) => this.#getConfig(payload),
      SET_CONFIG: (payload) => this.#setConfig(payload),
      RESET_DEVICE: () => this.#reset(),
      GET_MAX_MEM_SLOTS: () => wordPayload(REGIONS_MAX),
      ADD_MEM_REG: (payload, fds) => addRegion(memory, payload, fds),
      REM_MEM_REG: (payload) => removeRegion(memory, payload),
      SET_STATUS: (payload) => this.#setStatus(readField('word', payload, 'value')),
      GET_STATUS: () => wordPayload(this.status),
    }
  }

  #setFeatures(features: bigint): Fault | undefined {
    const strange = features & ~this.offered
    if (strange !== 0n) return new Fault('features-not-offered', `bits 0x${strange.toString(16)}`)
    this.features = features
    this.#device.negotiate(features)
    // As Linux's vhost: with every such request anew, and empty.
    this.iotlb.renew(this.hasIotlb, this.has('REPLY_ACK'))
    if (!hasFeature(features, TRANSPORT_FEATURES.PROTOCOL_FEATURES)) {
      for (const vring of this.queues) vring.isEnabled = true
    }
    return undefined
  }

  #setProtocolFeatures(features: bigint): Fault | undefined {
    const strange = features & ~OFFERED_WORD
    if (strange !== 0n) return new Fault('features-not-offered', `protocol bits 0x${strange.toString(16)}`)
    this.protocolFeatures = features
    this.iotlb.needsAnswers = this.has('REPLY_ACK')
    return undefined
  }

  #configRange(payload: Uint8Array): { readonly offset: number; readonly bytes: number } | Fault {
    const offset = readNumber('config', payload, 'offset')
    const bytes = readNumber('config', payload, 'configBytes')
    const isThere = bytes > 0 && offset + bytes <= CONFIG_BYTES_MAX && payload.length === 12 + bytes
    return isThere ? { offset, bytes } : new Fault('config-range', `${bytes} bytes at ${offset}`)
  }

  /** What the device does not have reads as zeros: front ends ask for as much as they know fields of. */
  #getConfig(payload: Uint8Array): Answer {
    const range = this.#configRange(payload)
    if (range instanceof Fault) return range
    const { offset, bytes } = range
    const space = new Uint8Array(CONFIG_BYTES_MAX)
    space.set(this.#device.config())
    return payloadOf('config', { offset, configBytes: bytes }, space.subarray(offset, offset + bytes))
  }

  #setConfig(payload: Uint8Array): Answer {
    const range = this.#configRange(payload)
    if (range instanceof Fault) return range
    this.#device.writeConfig(range.offset, payload.subarray(12))
    return undefined
  }

  #setStatus(status: bigint): undefined {
    this.status = Number(status & 0xffn)
    if (this.status === 0) this.#reset()
  }

  #reset(): undefined {
    this.status = 0
    for (const vring of this.queues) this.#vrings.stop(vring)
  }

  /** What the front end, or the driver of the guest, broke outside of a message: the connection is to be closed. */
  get fault(): Fault | undefined {
    return this.#fault
  }

  /** Serves queues that have work; true where some have more. */
  runQueues(): boolean {
    return this.#isOpen && this.#vrings.run()
  }

  /** Gives back everything that the front end sent. */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.iotlb.close()
    this.#vrings.close()
    for (const { setup } of this.regions.all) this.#watcher.onRegion(setup, false)
    this.regions.clear()
  }
}
