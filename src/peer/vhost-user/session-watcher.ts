import type { AccessNumber, RingPartNumber } from '../../hw/virtio/ring-memory.ts'
import type { FrontEndRequest } from '../../reader/vhost-user-format.ts'
import type { VhostIotlb } from '../../table/vhost-iotlb.ts'
import type { Message } from './descriptors.ts'
import type { Fault } from './faults.ts'
import type { RegionSetup } from './guest-regions.ts'
import type { Vring } from './vring.ts'

/** An UPDATE or INVALIDATE. */
export interface IotlbMessage {
  readonly type: number
  readonly iova: bigint
  readonly bytes: bigint
  readonly ua: bigint
  readonly perm: number
}

/** Sees what happens in a session, as it happens: the records, the message log and the counts are made of it. */
export interface SessionWatcher {
  /** A request came; before it is carried out. */
  onRequest(name: FrontEndRequest, message: Message): void
  /** A region of guest memory comes or goes. */
  onRegion(setup: RegionSetup, isThere: boolean): void
  /** The device has an empty IOTLB. */
  onNewIotlb(limit: number): void
  /** An IOTLB message was taken, or refused: `maps` says how many it dropped, and the IOTLB what it added. */
  onIotlb(message: IotlbMessage, fault: Fault | undefined, iotlb: VhostIotlb | undefined, maps: number): void
  /** A queue does not find an address; a message went out where `isAsked`. */
  onMiss(queue: number, iova: bigint, access: number, isAsked: boolean): void
  /** A miss was answered. */
  onMissAnswer(iova: bigint, access: number, isDone: boolean): void
  onRefusal(queue: number, iova: bigint, access: number, code: number): void
  onUse(
    map: number,
    hi: number,
    lo: number,
    uaHi: number,
    uaLo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
  ): void
  onReach(hi: number, lo: number, bytes: number, part: RingPartNumber): void
  /** A queue comes to another state. */
  onQueue(vring: Vring): void
  /** A run of a queue begins, and is over. */
  onRun(isOver: boolean): void
}
