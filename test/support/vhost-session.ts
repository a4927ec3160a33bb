import { Journal } from '../../src/bits/state.ts'
import { MemoryBlockStore } from '../../src/hw/virtio/block-store.ts'
import { blkDevice } from '../../src/peer/vhost-user/blk-device.ts'
import { payloadOf, readField, readHeader } from '../../src/peer/vhost-user/codec.ts'
import { Recorder } from '../../src/peer/vhost-user/recorder.ts'
import { Session, type Taken } from '../../src/peer/vhost-user/session.ts'
import {
  FRONT_END_REQUESTS,
  type FrontEndRequest,
  HEADER_BYTES,
  HEADER_FLAGS,
} from '../../src/reader/vhost-user-format.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { FakeDescriptors } from './fake-descriptors.ts'

export const RAM_BYTES = 1 << 20
export const RAM_UA = 0x7f00_0000_0000n
export const DISK_SECTORS = 256

/** Features of virtio 1 with protocol features, and those with an IOMMU. */
export const PLAIN = (1n << 30n) | (1n << 32n)
export const BEHIND_IOMMU = PLAIN | (1n << 33n)

export const NOTHING = new Uint8Array(0)

export interface TestSessionOptions {
  readonly queues?: number
  readonly iotlbLimit?: number
  /** What many sessions have in common. */
  readonly ram?: Uint8Array
  readonly log?: RecordLog
  readonly store?: MemoryBlockStore
}

/** A session without a kernel: what comes in is a message, what goes out an answer. */
export class TestSession {
  readonly descriptors = new FakeDescriptors()
  readonly log: RecordLog
  readonly recorder: Recorder
  readonly store: MemoryBlockStore
  readonly session: Session
  readonly ram: Uint8Array

  constructor(options: TestSessionOptions = {}) {
    const { queues = 2, iotlbLimit = 64 } = options
    this.ram = options.ram ?? new Uint8Array(RAM_BYTES)
    this.log = options.log ?? new RecordLog({ keepRecords: 1 << 16 })
    this.store = options.store ?? new MemoryBlockStore('disk', DISK_SECTORS, new Journal())
    this.recorder = new Recorder({ log: this.log, device: 'disk', owner: 'guest' })
    const { store, recorder, descriptors } = this
    const device = blkDevice({ store, queues, watcher: recorder })
    this.session = new Session({ device, descriptors, watcher: recorder, iotlbLimit })
  }

  take(request: number, flags: number, payload: Uint8Array = NOTHING, fds: number[] = []): Taken {
    return this.session.take({ header: { request, flags, payloadBytes: payload.length }, payload, fds })
  }

  send(name: FrontEndRequest, payload: Uint8Array = NOTHING, fds: number[] = []): Taken {
    return this.take(FRONT_END_REQUESTS[name].nr, HEADER_FLAGS.VERSION, payload, fds)
  }

  /** The same with the flag that asks for an answer. */
  ask(name: FrontEndRequest, payload: Uint8Array = NOTHING, fds: number[] = []): Taken {
    const flags = HEADER_FLAGS.VERSION | HEADER_FLAGS.NEED_REPLY
    return this.take(FRONT_END_REQUESTS[name].nr, flags, payload, fds)
  }

  /** All protocol features, these virtio features, 1 MiB of memory at guest address 0, and a back-end channel. */
  begin(features = BEHIND_IOMMU, ramBytes = RAM_BYTES): this {
    this.send('SET_PROTOCOL_FEATURES', wordOf(this.send('GET_PROTOCOL_FEATURES')))
    this.send('SET_FEATURES', payloadOf('word', { value: features }))
    this.send('SET_BACKEND_REQ_FD', NOTHING, [this.descriptors.make('socket')])
    this.addMemory(ramBytes)
    return this
  }

  addMemory(regionBytes = RAM_BYTES): Taken {
    const region = payloadOf('region', { gpa: 0, regionBytes, ua: RAM_UA })
    const table = payloadOf('memTable', { regions: 1 }, region)
    return this.send('SET_MEM_TABLE', table, [this.descriptors.make('file', this.ram)])
  }

  /** A queue up to its kick, which is answered. */
  setUp(index = 0, { num = 8, at = 0x1000n }: { readonly num?: number; readonly at?: bigint } = {}): number {
    const base = this.session.hasIotlb ? at : RAM_UA + at
    const kick = this.descriptors.make('event')
    this.send('SET_VRING_NUM', payloadOf('vringState', { index, num }))
    this.send('SET_VRING_BASE', payloadOf('vringState', { index, num: 0 }))
    const addresses = { index, desc: base, avail: base + 0x800n, used: base + 0x1000n }
    this.send('SET_VRING_ADDR', payloadOf('vringAddr', addresses))
    this.send('SET_VRING_KICK', payloadOf('notifier', { value: index }), [kick])
    this.send('SET_VRING_ENABLE', payloadOf('vringState', { index, num: 1 }))
    return kick
  }

  kick(fd: number): void {
    this.descriptors.watched.get(fd)?.()
  }

  /** Runs queues until they have no more to do. */
  run(): void {
    for (let turns = 0; this.session.fault === undefined && this.session.runQueues(); turns++) {
      if (turns > 10_000) throw new Error('queues run for ever')
    }
  }

  /** The session ends: true where everything that the front end sent was given back. */
  close(): boolean {
    this.session.close()
    const { open, watched, mapped } = this.descriptors
    return open.size === 0 && watched.size === 0 && mapped === 0
  }
}

const wordOf = ({ reply }: Taken): Uint8Array => reply?.slice(HEADER_BYTES) ?? NOTHING

/** The word in the reply to a request; undefined where there is none. */
export function replyWord({ reply }: Taken): bigint | undefined {
  if (reply === undefined || readHeader(reply).payloadBytes !== 8) return undefined
  return readField('word', reply.subarray(HEADER_BYTES), 'value')
}
