import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { DriverRing, ringPlaces } from '../../src/hw/virtio/driver-ring.ts'
import { rawIoctl } from '../../src/kernel/raw-ioctl.ts'
import { OPEN } from '../../src/kernel/vfio/calls.ts'
import { vfioHandlers } from '../../src/kernel/vfio/handlers.ts'
import * as calls from '../../src/kernel/vhost/calls.ts'
import { VHOST_ERRATA } from '../../src/kernel/vhost/errata.ts'
import { vhostHandlers } from '../../src/kernel/vhost/handlers.ts'
import * as messages from '../../src/kernel/vhost/message-calls.ts'
import { Vhost } from '../../src/kernel/vhost/vhost.ts'
import type { VhostNet } from '../../src/kernel/vhost/vhost-net.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { makeVfio, UA, type VfioWorldOptions } from './vfio.ts'

type Args = Record<string, Value>

/** Bus address at which guest memory appears in these tests, where a device has an IOTLB. */
export const IOVA = 0x1000_0000n
export const GUEST_BYTES = 0x100_0000n
/** VIRTIO_F_VERSION_1, and with VIRTIO_F_ACCESS_PLATFORM. */
export const MODERN = 1n << 32n
export const BEHIND_IOTLB = MODERN | (1n << 33n)

export interface VhostWorldOptions extends VfioWorldOptions {
  readonly iotlbEntries?: number
}

/** A host whose process `qemu` has 16 MiB at UA, VFIO, vhost, and an open vhost device. Errata of vhost are those of `profile`. */
export function makeVhost(options: VhostWorldOptions = {}) {
  const world = makeVfio({ ...options, profile: 'intended' })
  const bugs: string[] = []
  let untilFailure = 0
  const vhost = new Vhost({
    processes: world.processes,
    files: world.vfio.files,
    profile: resolveProfile(VHOST_ERRATA, options.profile ?? 'intended'),
    onAllocate: () => --untilFailure !== 0,
    onBug: (why) => bugs.push(why),
    ...(options.iotlbEntries === undefined ? {} : { iotlbEntries: options.iotlbEntries }),
  })
  const own = vhostHandlers(vhost)
  const raw = rawIoctl(world.processes, world.vfio.files, [...vfioHandlers(world.vfio), ...own])
  const handlers = new Map<CallDecl, CallHandler>([...own, raw].map((h) => [h.decl, h]))
  const call = (decl: CallDecl, args: Args = {}): Answer => {
    const handler = handlers.get(decl)
    return handler === undefined ? world.call(decl, args) : handler.run(completeArguments(decl, args))
  }
  /** Makes the n-th allocation of vhost from now on fail, and no other. */
  const failAt = (n: number) => {
    untilFailure = n
  }
  const fd = world.fdOf(call(OPEN, { path: '/dev/vhost-net' }))
  const device = vhost.devices[0] as VhostNet
  return { ...world, vhost, call, failAt, bugs, fd, device }
}

export type VhostWorld = ReturnType<typeof makeVhost>

/** With an owner, and all its memory as guest memory at 0. */
export function owned(options: VhostWorldOptions = {}) {
  const world = makeVhost(options)
  world.call(calls.VHOST_SET_OWNER, { fd: world.fd })
  world.call(calls.VHOST_SET_MEM_TABLE, { fd: world.fd, regions: [0n, GUEST_BYTES, UA] })
  return world
}

export interface RingOptions extends VhostWorldOptions {
  readonly features?: bigint
  readonly queue?: number
  readonly entries?: number
}

/**
 * With a ring of a driver at the start of guest memory (`ring`), eventfds and a tap; the tap is not the queue's backend
 * yet. Where the device has an IOTLB, its addresses are guest addresses + IOVA.
 */
export function withRing(options: RingOptions = {}) {
  const world = owned(options)
  const { call, fd, fdOf, qemu, journal } = world
  const { features = BEHIND_IOTLB, queue = 1, entries = 4 } = options
  const index = BigInt(queue)
  const hasIotlb = (features >> 33n) & 1n
  const hasEventIndex = ((features >> 29n) & 1n) === 1n
  const base = hasIotlb === 1n ? IOVA : UA
  const bufferBase = hasIotlb === 1n ? IOVA : 0n
  const places = ringPlaces(entries, Number(UA), hasEventIndex)
  const ring = new DriverRing({
    memory: {
      load: (address, into, at, bytes) => void qemu.mm.read(BigInt(address), into.subarray(at, at + bytes)),
      store: (address, from, at, bytes) => void qemu.mm.write(BigInt(address), from.subarray(at, at + bytes)),
    },
    journal,
    name: 'driver',
    entries,
    places,
    hasEventIndex,
  })
  ring.reset()
  const at = (place: number) => base + BigInt(place) - UA
  call(calls.VHOST_SET_FEATURES, { fd, features })
  call(calls.VHOST_SET_VRING_NUM, { fd, index, num: BigInt(entries) })
  const addresses = {
    desc: at(places.descriptors),
    avail: at(places.available),
    used: at(places.used),
  }
  call(calls.VHOST_SET_VRING_ADDR, { fd, index, ...addresses })
  const eventfd = (count = 0n) => fdOf(call(messages.EVENTFD, { count }))
  const [kickFd, callFd, errFd] = [eventfd(), eventfd(), eventfd()]
  call(calls.VHOST_SET_VRING_KICK, { fd, index, file: kickFd })
  call(calls.VHOST_SET_VRING_CALL, { fd, index, file: callFd })
  call(calls.VHOST_SET_VRING_ERR, { fd, index, file: errFd })
  const tap = fdOf(call(OPEN, { path: '/dev/tap1' }))
  const setBackend = (file = tap) => call(calls.VHOST_NET_SET_BACKEND, { fd, index, file })
  const kick = () => call(messages.VHOST_KICK, { fd, queue: index })
  const update = (iova: bigint, bytes: bigint, ua: bigint, perm = 3n) =>
    call(messages.VHOST_WRITE, { fd, type: 2n, iova, bytes, ua, perm })
  const invalidate = (iova: bigint, bytes: bigint) =>
    call(messages.VHOST_WRITE, { fd, type: 3n, iova, bytes })
  const read = () => call(messages.VHOST_READ, { fd }).outputs
  /** How often the eventfd of a descriptor was signalled since the last time. */
  const signals = (of: bigint) => Number(call(messages.EVENTFD_READ, { fd: of }).outputs['count'] ?? 0n)
  /** Puts a chain of buffers into the ring; of frames to send, the bytes. */
  const send = (data: Uint8Array, gpa: bigint) => {
    const frame = new Uint8Array(12 + data.length)
    frame.set(data, 12)
    qemu.mm.write(UA + gpa, frame)
    const head = ring.add([{ address: bufferBase + gpa, bytes: frame.length, isWritten: false }])
    ring.publish()
    return head
  }
  const offer = (gpa: bigint, bytes: number) => {
    const head = ring.add([{ address: bufferBase + gpa, bytes, isWritten: true }])
    ring.publish()
    return head
  }
  const collect = () => call(messages.TAP_COLLECT, { fd: tap }).outputs['data']
  const queueOf = () => world.device.queues[queue]!
  return {
    ...world,
    ...{ index, ring, places, addresses, kickFd, callFd, errFd, tap, setBackend, kick, update, invalidate },
    ...{ read, signals, send, offer, collect, queueOf, bufferBase, eventfd },
  }
}

/** With a running queue: its rings are mapped where the device has an IOTLB. */
export function running(options: RingOptions = {}) {
  const world = withRing(options)
  if (((options.features ?? BEHIND_IOTLB) >> 33n) & 1n) world.update(IOVA, 0x1_0000n, UA)
  const started = world.setBackend()
  if (started.rule !== 'done') throw new Error(`${started.rule} instead of a backend`)
  return world
}

/** Lanes of a word, for calls that take them. */
export const lanes = (word: bigint): [number, number] => [hiOf(word), loOf(word)]
