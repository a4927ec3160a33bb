import { ERRNO_CODES } from '../../bits/codes.ts'
import { wordOf } from '../../bits/u64.ts'
import { BLK_HEADER_BYTES, BLK_TYPE } from '../../hw/virtio/blk-format.ts'
import { ACCESS, type AccessNumber, RING_PART, type RingPartNumber } from '../../hw/virtio/ring-memory.ts'
import type { VirtioBlk } from '../../hw/virtio/virtio-blk.ts'
import type { FrontEndRequest } from '../../reader/vhost-user-format.ts'
import type { VhostIotlb } from '../../table/vhost-iotlb.ts'
import { KIND } from '../../trace/event.ts'
import { IOTLB_MESSAGE } from '../../trace/event-codes.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import type { DiskWatcher } from './blk-device.ts'
import { BackEndCounts } from './counts.ts'
import { DataSegments } from './data-segments.ts'
import type { Message } from './descriptors.ts'
import type { Fault } from './faults.ts'
import type { RegionSetup } from './guest-regions.ts'
import { type MessageLog, statOf } from './message-log.ts'
import type { IotlbMessage, SessionWatcher } from './session-watcher.ts'
import { SilentUnmaps } from './silent-unmaps.ts'
import type { Vring } from './vring.ts'

/** Header and status of a request. */
const BLK_FRAME_BYTES = BLK_HEADER_BYTES + 1
const USE = KIND['iotlb.use']
const HELD_FIELDS = 7
const U64_LAST = (1n << 64n) - 1n

/** Words of `vhost.queue` for the states of a queue here. */
const STATE_WORDS = {
  stopped: 'stopped',
  runs: 'runs',
  waits: 'waits',
  starved: 'waits',
  failed: 'failed',
} as const

export interface RecorderOptions {
  readonly log: RecordLog
  /** What records call the device. */
  readonly device: string
  /** Whose memory it is that the front end shares. */
  readonly owner: string
  readonly messages?: MessageLog | undefined
}

/**
 * Makes records, message log and counts of what happens in the sessions of a back end. Records name the line of the
 * message log that they come from.
 */
export class Recorder implements SessionWatcher, DiskWatcher {
  readonly counts = new BackEndCounts()
  /** Maps in the IOTLB. */
  entries = 0
  /** Queues, for the table. */
  queueStates: string[] = []
  readonly #log: RecordLog
  readonly #options: RecorderOptions
  readonly #messages: MessageLog | undefined
  readonly #data = new DataSegments()
  readonly #unmaps: SilentUnmaps
  /** Uses of buffers by a request that is not complete: it may have to wait, and start again. */
  readonly #held: number[] = []
  /** Of the IOTLB: its number in the records, and how many maps the ones before it had. */
  #iotlb = 0
  #mapBase = 0
  #maps = 0

  constructor(options: RecorderOptions) {
    this.#options = options
    this.#log = options.log
    this.#messages = options.messages
    this.#unmaps = new SilentUnmaps(options.log, options.device)
  }

  get #line(): number {
    return this.#messages?.lines ?? 0
  }

  onRequest(name: FrontEndRequest, message: Message): void {
    this.#messages?.request(name, message, this.counts)
  }

  onRegion(region: RegionSetup, isThere: boolean): void {
    const { gpa, bytes, ua } = region
    const { owner } = this.#options
    this.#unmaps.region(region, isThere)
    this.#log.emit('memory.slot', null, { gpa, bytes, ua, owner, present: isThere ? 1 : 0 })
  }

  onNewIotlb(limit: number): void {
    this.#iotlb++
    this.#mapBase += this.#maps
    this.#maps = 0
    this.entries = 0
    this.#log.emit('iotlb.new', null, { iotlb: this.#iotlb, device: this.#options.device, limit })
    this.#unmaps.renew()
  }

  onIotlb(
    message: IotlbMessage,
    fault: Fault | undefined,
    iotlb: VhostIotlb | undefined,
    maps: number,
  ): void {
    const { type, iova, bytes, ua, perm } = message
    const { device } = this.#options
    const code = fault === undefined ? 0 : ERRNO_CODES.EFAULT
    const from = 'the front end'
    const cause = this.#log.emit('vhost.message', null, { device, from, type, iova, bytes, ua, perm, code })
    if (fault !== undefined || iotlb === undefined) return
    if (type === IOTLB_MESSAGE.UPDATE) {
      this.counts.updates++
      for (let part = 0; part < iotlb.addedMaps; part++) this.#filled(iotlb, part, cause)
    } else {
      this.counts.invalidations++
      const last = BigInt.asUintN(64, iova + bytes - 1n)
      this.#log.emit('iotlb.drop', cause, { iotlb: this.#iotlb, iova, last, maps, why: 'invalidate' })
      this.#unmaps.invalidated(iova, last)
    }
    this.entries = iotlb.count
  }

  #filled(iotlb: VhostIotlb, part: number, cause: number): void {
    iotlb.showAdd(part)
    const { evicted, evictedStart, evictedLast, added, start, last, address: ua, perm } = iotlb
    if (evicted >= 0) {
      this.counts.evictions++
      const map = this.#mapBase + evicted
      this.#log.emit('iotlb.evict', cause, { iotlb: this.#iotlb, map, iova: evictedStart, last: evictedLast })
    }
    this.#maps = Math.max(this.#maps, added)
    const map = this.#mapBase + added
    this.#log.emit('iotlb.fill', cause, { iotlb: this.#iotlb, map, iova: start, last, ua, perm })
    this.#unmaps.filled(start, last, ua)
  }

  onMiss(queue: number, iova: bigint, access: number, isAsked: boolean): void {
    if (isAsked) {
      this.counts.misses++
      this.#messages?.miss(queue, iova, access)
    }
    const line = this.#line
    const cause = this.#log.emit('iotlb.miss', null, { iotlb: this.#iotlb, queue, iova, access, line })
    if (!isAsked) return
    const { device } = this.#options
    const type = IOTLB_MESSAGE.MISS
    const fields = { device, from: device, type, iova, bytes: 0n, ua: 0n, perm: access, code: 0 }
    this.#log.emit('vhost.message', cause, fields)
  }

  onMissAnswer(iova: bigint, access: number, isDone: boolean): void {
    if (isDone) return
    this.counts.unanswered++
    this.#messages?.own('miss-unanswered', { iova, w: access === ACCESS.WRITE })
  }

  onRefusal(queue: number, iova: bigint, access: number, code: number): void {
    this.counts.refusals++
    this.#log.emit('iotlb.refuse', null, { iotlb: this.#iotlb, queue, iova, access, code })
  }

  onUse(
    map: number,
    hi: number,
    lo: number,
    uaHi: number,
    uaLo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
  ): void {
    if (part !== RING_PART.BUFFER) this.#used(map, hi, lo, uaHi, uaLo, bytes, access, part)
    else this.#held.push(map, hi, lo, uaHi, uaLo, bytes, access)
  }

  #used(
    map: number,
    hi: number,
    lo: number,
    uaHi: number,
    uaLo: number,
    bytes: number,
    access: number,
    part: number,
  ): void {
    this.counts.hits++
    this.#messages?.use(wordOf(hi, lo), wordOf(uaHi, uaLo), bytes, access, part)
    const isWrite = access === ACCESS.WRITE ? 1 : 0
    const [iotlb, number, line] = [this.#iotlb, this.#mapBase + map, this.#line]
    this.#log.append(USE, -1, iotlb, number, lo, hi, uaLo, uaHi, bytes, isWrite, part, line)
  }

  /** A request is about to be carried out: its buffers are used now. Those of one that had to wait were not. */
  onDiskChain(): void {
    const held = this.#held
    this.#unmaps.begin()
    for (let i = 0; i < held.length; i += HELD_FIELDS) {
      const at = (field: number): number => held[i + field] as number
      this.#unmaps.reach(at(1), at(2), at(5), this.#line)
      this.#used(at(0), at(1), at(2), at(3), at(4), at(5), at(6), RING_PART.BUFFER)
    }
    held.length = 0
  }

  onReach(hi: number, lo: number, bytes: number, part: RingPartNumber): void {
    if (this.#messages !== undefined && part === RING_PART.BUFFER) this.#data.add(hi, lo, bytes)
  }

  onQueue(vring: Vring): void {
    const { index: queue, state, fault } = vring
    this.queueStates[queue] = state === 'failed' ? `failed by ${fault}` : state
    const code = state === 'starved' || state === 'failed' ? ERRNO_CODES.EFAULT : 0
    const { device } = this.#options
    this.#log.emit('vhost.queue', null, { device, queue, state: STATE_WORDS[state], code })
    if (state === 'failed') this.#messages?.own('error', { e: fault })
  }

  onRun(isOver: boolean): void {
    if (isOver) return
    this.#data.clear()
    this.#held.length = 0
  }

  /** A request of the disk was answered. @param chainBytes bytes of its buffers, header and status among them */
  onDiskRequest(blk: VirtioBlk, chainBytes: number): void {
    const { lastType: type, lastSector: sector } = blk
    this.#unmaps.answered()
    this.counts.requests++
    if (type === BLK_TYPE.IN || type === BLK_TYPE.OUT) this.counts.bytes += chainBytes - BLK_FRAME_BYTES
    if (this.#messages === undefined) return
    this.#messages.own('blk', { type, sector, segs: this.#data.take(chainBytes) })
  }

  /** A connection is there. */
  begin(): void {
    this.counts.sessions++
    this.queueStates = []
  }

  /** It is gone: what the IOTLB held is, too. */
  end(): void {
    if (this.entries > 0) {
      const fields = { iotlb: this.#iotlb, iova: 0n, last: U64_LAST, maps: this.entries, why: 'reset' }
      this.#log.emit('iotlb.drop', null, fields)
      this.entries = 0
    }
    this.#messages?.own('closed', statOf(this.counts))
  }
}
