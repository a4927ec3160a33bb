import { assert } from '../../bits/errors.ts'
import { wordOf } from '../../bits/u64.ts'
import { RING_PART, type RingPartNumber } from '../../hw/virtio/ring-memory.ts'
import { VhostIotlb } from '../../table/vhost-iotlb.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import { readField, readNumber } from './codec.ts'
import type { DescriptorPort, Message } from './descriptors.ts'
import type { DeviceMemory } from './device-memory.ts'
import { Fault } from './faults.ts'
import { Misses, PAGE_SHIFT } from './misses.ts'
import type { IotlbMessage, SessionWatcher } from './session-watcher.ts'
import type { Vring } from './vring.ts'

const TWO_64 = 1n << 64n

export interface IotlbSideOptions {
  readonly memory: DeviceMemory
  readonly queues: readonly Vring[]
  readonly watcher: SessionWatcher
  readonly descriptors: DescriptorPort
  readonly limit: number
}

/** The IOTLB of a session: its messages in both directions, and the queues that wait for them. */
export class IotlbSide {
  /** Whether a miss is answered on its own channel, beside the UPDATE. */
  needsAnswers = false
  /** What the front end broke on the back-end channel. */
  onFault: (fault: Fault) => void = () => undefined
  readonly #options: IotlbSideOptions
  readonly #misses = new Misses()

  constructor(options: IotlbSideOptions) {
    this.#options = options
  }

  /** Maps that there are. */
  get entries(): number {
    return this.#options.memory.iotlb?.count ?? 0
  }

  /** Begins with an empty IOTLB, or with none. */
  renew(isOn: boolean, needsAnswers: boolean): void {
    const { memory, limit, watcher } = this.#options
    this.needsAnswers = needsAnswers
    memory.iotlb = isOn ? new VhostIotlb({ limit, retire: true }) : undefined
    if (isOn) watcher.onNewIotlb(limit)
  }

  /** SET_BACKEND_REQ_FD. */
  openChannel(fds: number[]): Fault | undefined {
    const { descriptors } = this.#options
    const fd = fds[0] as number
    if (descriptors.kindOf(fd) !== 'socket') return new Fault('not-an-event', 'SET_BACKEND_REQ_FD')
    const channel = descriptors.openChannel(fd, {
      takesReplies: true,
      onMessage: (message) => this.#answered(message),
      onEnd: (fault) => {
        this.#misses.use(undefined)
        if (fault !== undefined) this.onFault(fault)
      },
    })
    if (channel === undefined) return new Fault('not-an-event', 'SET_BACKEND_REQ_FD')
    fds[0] = -1
    this.#misses.use(channel)
    return undefined
  }

  /** IOTLB_MSG of the front end. */
  take(payload: Uint8Array, isOn: boolean): Fault | undefined {
    const message: IotlbMessage = {
      type: readNumber('iotlb', payload, 'type'),
      iova: readField('iotlb', payload, 'iova'),
      bytes: readField('iotlb', payload, 'bytes'),
      ua: readField('iotlb', payload, 'ua'),
      perm: readNumber('iotlb', payload, 'perm'),
    }
    const { memory, watcher } = this.#options
    const iotlb = isOn ? memory.iotlb : undefined
    const fault = iotlbFault(message, iotlb)
    if (fault !== undefined || iotlb === undefined) {
      watcher.onIotlb(message, fault, iotlb, 0)
      return fault
    }
    const { iova, bytes, ua, perm } = message
    // As Linux: INVALIDATE of 0 bytes at 0 is one of everything.
    const last = BigInt.asUintN(64, iova + bytes - 1n)
    if (message.type === IOTLB_MESSAGE.INVALIDATE) {
      watcher.onIotlb(message, undefined, iotlb, iotlb.delete(iova, last))
      return undefined
    }
    // The oldest map makes room, and no message has the bytes of the whole space: nothing is refused.
    assert(iotlb.add(iova, last, ua, perm) === 0, 'the IOTLB takes every map')
    watcher.onIotlb(message, undefined, iotlb, 0)
    this.#wake(iova, last)
    return undefined
  }

  /** A queue does not find an address: it waits, for the last one of those that it asks for. False where nobody is asked. */
  miss(queue: number, iova: bigint, access: number, part: RingPartNumber, isAhead: boolean): boolean {
    const { queues, watcher } = this.#options
    const asked = this.#misses.ask(iova, access, this.needsAnswers)
    if (asked === 'lost' && isAhead) return false
    const vring = queues[queue] as Vring
    vring.awaited = { iova, access, isBuffer: part === RING_PART.BUFFER }
    vring.state = asked === 'lost' ? 'starved' : 'waits'
    watcher.onMiss(queue, iova, access, asked === 'asked')
    return asked !== 'lost'
  }

  /** A queue may not do what it wants. */
  refuse(queue: number, hi: number, lo: number, access: number, code: number): void {
    this.#options.watcher.onRefusal(queue, wordOf(hi, lo), access, code)
  }

  /** Queues that wait for an address in [first, last] go on. */
  #wake(first: bigint, last: bigint): void {
    for (const vring of this.#options.queues) {
      const { awaited } = vring
      if (awaited === undefined || awaited.iova < first || awaited.iova > last) continue
      vring.awaited = undefined
      vring.state = 'runs'
      vring.hasWork = true
      this.#options.watcher.onQueue(vring)
    }
  }

  /** The front end says what came of a miss. An UPDATE came before, or there is no translation. */
  #answered(message: Message): void {
    for (const fd of message.fds) this.#options.descriptors.close(fd)
    const asked = this.#misses.answered(message)
    if (asked instanceof Fault) {
      this.onFault(asked)
      return
    }
    const { queues, watcher } = this.#options
    watcher.onMissAnswer(asked.iova, asked.access, asked.isDone)
    for (const vring of queues) {
      const { awaited } = vring
      // All that waited for the page: one question stood for them.
      if (vring.state !== 'waits' || awaited === undefined || awaited.access !== asked.access) continue
      if (awaited.iova >> PAGE_SHIFT !== asked.iova >> PAGE_SHIFT) continue
      // The UPDATE may have come and have been taken back before the queue had its turn; or the guest kicked after the
      // question: both are reasons to ask again.
      const isRetried = asked.isDone || vring.hasWork
      vring.state = isRetried ? 'runs' : 'starved'
      vring.hasWork = isRetried
      watcher.onQueue(vring)
    }
  }

  close(): void {
    this.#misses.use(undefined)
  }
}

/** What is wrong with an IOTLB message, in the order of vhost's checks. */
function iotlbFault(
  { type, iova, bytes, ua }: IotlbMessage,
  iotlb: VhostIotlb | undefined,
): Fault | undefined {
  const { UPDATE, INVALIDATE } = IOTLB_MESSAGE
  if (type !== UPDATE && type !== INVALIDATE) return new Fault('iotlb-type', String(type))
  if (iotlb === undefined) return new Fault('iotlb-off')
  const isWrong = iova + bytes > TWO_64 || (type === UPDATE && (bytes === 0n || ua + bytes > TWO_64))
  return isWrong
    ? new Fault('iotlb-range', `0x${bytes.toString(16)} bytes at 0x${iova.toString(16)}`)
    : undefined
}
