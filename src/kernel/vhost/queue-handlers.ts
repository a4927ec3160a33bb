import type { CallHandler } from '../../bits/answer.ts'
import type { CallDecl, RuleOf } from '../../bits/call.ts'
import { availableBytes, descriptorsBytes, isRingEntries, usedBytes } from '../../hw/virtio/ring-layout.ts'
import type { RingSetup } from '../../hw/virtio/split-ring.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { OpenFile } from '../files.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type { StructCall } from '../process-call.ts'
import type { StructDecl } from '../user-struct.ts'
import {
  VHOST_GET_VRING_BASE,
  VHOST_NET_SET_BACKEND,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_ERR,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_NUM,
} from './calls.ts'
import { liesInUserSpace } from './device-handlers.ts'
import type { EventFd } from './event-fd.ts'
import type { NetQueue } from './net-queue.ts'
import { STRUCTS } from './structs.ts'
import type { Vhost } from './vhost.ts'
import { deviceHandler, queueOf } from './vhost-call.ts'
import type { VhostNet } from './vhost-net.ts'

/** A descriptor of -1: no file. */
const UNBIND = 0xffff_ffff
const INDEX_MAX = 0xffffn
const FLAG_LOG = 1n

const entriesOf = (num: bigint): number => (num <= INDEX_MAX ? Number(num) : 0)

function setNum(queue: NetQueue, { struct }: StructCall): RuleOf<typeof VHOST_SET_VRING_NUM> {
  if (queue.isActive) return 'active'
  if (!struct.copyIn(STRUCTS.state.bytes)) return 'bad-pointer'
  const entries = entriesOf(struct.get('num'))
  if (!isRingEntries(entries)) return 'num-invalid'
  queue.ring.setUp({ ...queue.ring.setup, entries })
  return 'done'
}

/** Whether rings at user addresses lie in user space. (vq_access_ok) */
function areRingsInUserSpace(mm: AddressSpace, ring: RingSetup): boolean {
  const { entries, hasEventIndex } = ring
  return (
    mm.reaches(ring.descriptors, BigInt(descriptorsBytes(entries))) &&
    mm.reaches(ring.available, BigInt(availableBytes(entries, hasEventIndex))) &&
    mm.reaches(ring.used, BigInt(usedBytes(entries, hasEventIndex)))
  )
}

function setAddr(
  device: VhostNet,
  queue: NetQueue,
  { struct, process }: StructCall,
): Outcome<RuleOf<typeof VHOST_SET_VRING_ADDR>> {
  if (!struct.copyIn(STRUCTS.place.bytes)) return 'bad-pointer'
  const flags = struct.get('flags')
  if ((flags & ~FLAG_LOG) !== 0n) return 'flags-unknown'
  const [available, used] = [struct.get('avail'), struct.get('used')]
  if ((available & 1n) !== 0n || ((used | struct.get('log')) & 3n) !== 0n) return 'unaligned'
  const ring = { ...queue.ring.setup, descriptors: struct.get('desc'), available, used }
  const looks = queue.isActive && device.tables.iotlb === null
  if (looks && !areRingsInUserSpace(process.mm, ring)) return 'not-user-memory'
  if (flags !== 0n) return unknown('a log of writes to a used ring')
  queue.ring.setUp(ring)
  return 'done'
}

function setBase(queue: NetQueue, { struct }: StructCall): RuleOf<typeof VHOST_SET_VRING_BASE> {
  if (queue.isActive) return 'active'
  if (!struct.copyIn(STRUCTS.state.bytes)) return 'bad-pointer'
  const index = struct.get('num')
  if (index > INDEX_MAX) return 'num-too-large'
  queue.ring.base = Number(index)
  return 'done'
}

function getBase(queue: NetQueue, { struct }: StructCall): RuleOf<typeof VHOST_GET_VRING_BASE> {
  struct.set('num', BigInt(queue.ring.base))
  return struct.copyOut(STRUCTS.state.bytes) ? 'done' : 'pointer-not-writable'
}

type EventFdEnd = 'bad-pointer' | 'no-such-file' | 'not-eventfd' | 'done'

/** Hands an eventfd to a queue, or takes one away. */
function setEventFd(vhost: Vhost, call: StructCall, set: (file: OpenFile | null) => void): EventFdEnd {
  if (!call.struct.copyIn(STRUCTS.file.bytes)) return 'bad-pointer'
  const fd = Number(call.struct.get('file'))
  if (fd === UNBIND) {
    set(null)
    return 'done'
  }
  const file = vhost.files.find(call.process.name, fd)
  if (file === undefined) return 'no-such-file'
  if (file.target.kind !== 'eventfd') return 'not-eventfd'
  set(file)
  return 'done'
}

const eventFdOf = (file: OpenFile | null): EventFd | null => (file === null ? null : (file.target as EventFd))

/** Whether the queue can run with what was set up. (vhost_vq_access_ok) */
function isReady(mm: AddressSpace, { tables }: VhostNet, { ring }: NetQueue): boolean {
  if (tables.memory === null || !liesInUserSpace(mm, tables.memory)) return false
  return tables.iotlb !== null || areRingsInUserSpace(mm, ring.setup)
}

function setBackend(vhost: Vhost, device: VhostNet, call: StructCall): RuleOf<typeof VHOST_NET_SET_BACKEND> {
  const { struct, process } = call
  if (!struct.copyIn(STRUCTS.file.bytes)) return 'bad-pointer'
  if (!device.isOwnedBy(process)) return 'not-owner'
  const queue = device.queues[Number(struct.get('index'))]
  if (queue === undefined) return 'no-such-queue'
  const fd = Number(struct.get('file'))
  if (fd === UNBIND && !vhost.errata.keepsMessages) device.messages.clear()
  if (!isReady(process.mm, device, queue)) return 'not-ready'
  const file = fd === UNBIND ? null : vhost.files.find(process.name, fd)
  if (file === undefined || (file !== null && file.target.kind !== 'tap')) return 'not-a-tap'
  return queue.setBackend(file) ? 'done' : 'used-ring-unreachable'
}

/** Calls about one queue. */
export function queueHandlers(vhost: Vhost): CallHandler[] {
  const ofDevice = <D extends CallDecl>(
    decl: D,
    struct: StructDecl,
    body: (device: VhostNet, call: StructCall) => Outcome<RuleOf<D>>,
  ): CallHandler => deviceHandler(vhost, decl, body, struct)
  const ofQueue = <D extends CallDecl>(
    decl: D,
    struct: StructDecl,
    body: (queue: NetQueue, call: StructCall, device: VhostNet) => Outcome<RuleOf<D>>,
  ): CallHandler =>
    ofDevice(decl, struct, (device, call) => {
      const queue = queueOf(device, call)
      return typeof queue === 'string' ? (queue as RuleOf<D>) : body(queue, call, device)
    })
  /** What is remembered of rings that are about to change goes, also where they stay. */
  const forgetful =
    <R extends string>(body: (queue: NetQueue, call: StructCall, device: VhostNet) => Outcome<R>) =>
    (queue: NetQueue, call: StructCall, device: VhostNet): Outcome<R> => {
      const outcome = body(queue, call, device)
      if (!vhost.errata.keepsMetadata) queue.memory.forget()
      return outcome
    }
  const { state, place, file } = STRUCTS
  return [
    ofQueue(VHOST_SET_VRING_NUM, state, forgetful(setNum)),
    ofQueue(
      VHOST_SET_VRING_ADDR,
      place,
      forgetful((queue, call, device) => setAddr(device, queue, call)),
    ),
    ofQueue(VHOST_SET_VRING_BASE, state, setBase),
    ofQueue(VHOST_GET_VRING_BASE, state, getBase),
    ofQueue(VHOST_SET_VRING_KICK, file, (queue, call) => setEventFd(vhost, call, (f) => queue.setKick(f))),
    ofQueue(VHOST_SET_VRING_CALL, file, (queue, call) =>
      setEventFd(vhost, call, (f) => queue.setCall(eventFdOf(f))),
    ),
    ofQueue(VHOST_SET_VRING_ERR, file, (queue, call) =>
      setEventFd(vhost, call, (f) => queue.setError(eventFdOf(f))),
    ),
    ofDevice(VHOST_NET_SET_BACKEND, file, (device, call) => setBackend(vhost, device, call)),
  ]
}
