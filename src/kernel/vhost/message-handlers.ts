import type { CallHandler } from '../../bits/answer.ts'
import { bytesOf, bytesText } from '../../bits/byte-text.ts'
import type { CallDecl, RuleOf } from '../../bits/call.ts'
import { type Outcome, unknown } from '../outcome.ts'
import type { ProcessCall } from '../process-call.ts'
import type { EventFd } from './event-fd.ts'
import {
  EVENTFD,
  EVENTFD_READ,
  EVENTFD_WRITE,
  TAP_COLLECT,
  TAP_DELIVER,
  VHOST_KICK,
  VHOST_POLL,
  VHOST_READ,
  VHOST_WRITE,
} from './message-calls.ts'
import { decodeMessage, encodeMessage, MESSAGE_BYTES } from './messages.ts'
import type { TapFile } from './tap-file.ts'
import type { Vhost } from './vhost.ts'
import { deviceHandler, isFound, targetOf, vhostHandler } from './vhost-call.ts'
import type { VhostNet } from './vhost-net.ts'

/** EPOLLIN and EPOLLRDNORM. */
const READABLE = 0x41n

/** The bytes that a process writes: those it names, or those of the members that it names. */
function written(call: ProcessCall): Uint8Array {
  if (call.args['data'] !== undefined) return bytesOf(call.text('data'))
  return encodeMessage({
    version: call.number('version'),
    type: call.number('type'),
    iova: call.u64('iova'),
    bytes: call.u64('bytes'),
    ua: call.u64('ua'),
    perm: call.number('perm'),
  })
}

function write(device: VhostNet, call: ProcessCall): RuleOf<typeof VHOST_WRITE> {
  const message = decodeMessage(written(call))
  if (typeof message === 'string') return message
  const end = device.write(message, call.process)
  if (end === 'done') call.outputs['written'] = BigInt(MESSAGE_BYTES)
  return end
}

function read(device: VhostNet, call: ProcessCall): Outcome<RuleOf<typeof VHOST_READ>> {
  if (call.u64('bytes') < BigInt(MESSAGE_BYTES)) return 'small'
  const message = device.read()
  if (message === null) {
    if (call.args['nonblock'] === true) return 'nothing'
    return device.tables.iotlb === null ? 'no-iotlb' : unknown('a read of a vhost device that waits')
  }
  const { version, type, iova, bytes, ua, perm } = message
  Object.assign(call.outputs, {
    version: BigInt(version),
    type: BigInt(type),
    iova,
    bytes,
    ua,
    perm: BigInt(perm),
  })
  call.outputs['data'] = bytesText(encodeMessage(message))
  return 'done'
}

function kick(device: VhostNet, call: ProcessCall): RuleOf<typeof VHOST_KICK> {
  const queue = device.queues[call.number('queue')]
  if (queue === undefined) return 'no-such-queue'
  if (queue.kick === null) return 'no-eventfd'
  queue.kick.signal()
  return 'done'
}

function createEventFd(vhost: Vhost, call: ProcessCall): RuleOf<typeof EVENTFD> {
  const { name } = call.process
  if (!vhost.files.hasRoom(name)) return 'too-many-files'
  if (!vhost.onAllocate()) return 'no-memory'
  call.handOut(vhost.files.open(name, vhost.createEventFd(call.u64('count'))).fd)
  return 'done'
}

function collect(tap: TapFile, call: ProcessCall): RuleOf<typeof TAP_COLLECT> {
  const first = tap.collect()
  if (first === undefined) return 'nothing'
  call.outputs['data'] = bytesText(first.frame)
  call.outputs['left'] = BigInt(first.left)
  return 'done'
}

/** Calls of verb `vhost`. */
export function messageHandlers(vhost: Vhost): CallHandler[] {
  const ofDevice = <D extends CallDecl>(
    decl: D,
    body: (device: VhostNet, call: ProcessCall) => Outcome<RuleOf<D>>,
  ): CallHandler => deviceHandler(vhost, decl, body)
  const ofEventFd = <D extends typeof EVENTFD_READ | typeof EVENTFD_WRITE>(
    decl: D,
    body: (eventfd: EventFd, call: ProcessCall) => RuleOf<D>,
  ): CallHandler =>
    vhostHandler(vhost, decl, (call) => {
      const eventfd = targetOf<EventFd, 'not-eventfd'>(vhost, call, 'eventfd', 'not-eventfd')
      return isFound(eventfd) ? body(eventfd, call) : (eventfd as Outcome<RuleOf<D>>)
    })
  const ofTap = <D extends typeof TAP_COLLECT | typeof TAP_DELIVER>(
    decl: D,
    body: (tap: TapFile, call: ProcessCall) => RuleOf<D>,
  ): CallHandler =>
    vhostHandler(vhost, decl, (call) => {
      const tap = targetOf<TapFile, 'not-a-tap'>(vhost, call, 'tap', 'not-a-tap')
      return isFound(tap) ? body(tap, call) : (tap as Outcome<RuleOf<D>>)
    })
  return [
    ofDevice(VHOST_WRITE, write),
    ofDevice(VHOST_READ, read),
    ofDevice(VHOST_POLL, (device, call) => {
      call.outputs['events'] = device.messages.readable.length > 0 ? READABLE : 0n
      return 'done'
    }),
    ofDevice(VHOST_KICK, kick),
    vhostHandler(vhost, EVENTFD, (call) => createEventFd(vhost, call)),
    ofEventFd(EVENTFD_WRITE, (eventfd) => {
      eventfd.signal()
      return 'done'
    }),
    ofEventFd(EVENTFD_READ, (eventfd, call) => {
      if (eventfd.count === 0n) return 'nothing'
      call.outputs['count'] = eventfd.take()
      return 'done'
    }),
    ofTap(TAP_DELIVER, (tap, call) => (tap.deliver(bytesOf(call.text('data'))) ? 'done' : 'full')),
    ofTap(TAP_COLLECT, collect),
  ]
}
