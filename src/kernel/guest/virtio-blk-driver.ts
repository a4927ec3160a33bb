import type { RuleOf } from '../../bits/call.ts'
import { BLK_HEADER_BYTES, BLK_TYPE } from '../../hw/virtio/blk-format.ts'
import type { VIRTIO_REQUEST } from './virtio-calls.ts'
import { VirtioDriver, type VirtioDriverParts } from './virtio-driver.ts'

const QUEUE = 0
const QUEUES = 1
/** The header and the status behind it, as one request has them in guest memory. */
const OWN_BYTES = BLK_HEADER_BYTES + 1
/** A status that no device answers: it has not come yet. */
const NO_STATUS = 0xff
const TYPES = { read: BLK_TYPE.IN, write: BLK_TYPE.OUT, flush: BLK_TYPE.FLUSH } as const

/** What a driver asks a disk for. */
export interface BlkRequest {
  readonly type: keyof typeof TYPES
  readonly sector: bigint
  /** Where header and status lie: for the driver, and for the device. */
  readonly gpa: bigint
  readonly header: bigint
  /** The data: none where there are no bytes. */
  readonly iova: bigint
  readonly bytes: number
}

/** The driver of a virtio disk in its guest. */
export class VirtioBlkDriver extends VirtioDriver {
  constructor(parts: VirtioDriverParts) {
    super(parts, QUEUES)
  }

  request({ type, sector, gpa, header, iova, bytes }: BlkRequest): RuleOf<typeof VIRTIO_REQUEST> {
    const { hasMemory, memory } = this.parts
    const free = this.freeOf(QUEUE)
    if (free === undefined) return 'no-such-queue'
    if (!hasMemory(gpa, BigInt(OWN_BYTES))) return 'outside-memory'
    const data = bytes === 0 ? [] : [{ address: iova, bytes, isWritten: type === 'read' }]
    if (free < data.length + 2) return 'full'
    const own = new Uint8Array(OWN_BYTES)
    const words = new DataView(own.buffer)
    words.setUint32(0, TYPES[type], true)
    words.setBigUint64(8, sector, true)
    words.setUint8(BLK_HEADER_BYTES, NO_STATUS)
    memory.store(Number(gpa), own, 0, OWN_BYTES)
    const status = BigInt.asUintN(64, header + BigInt(BLK_HEADER_BYTES))
    return this.add(QUEUE, [
      { address: header, bytes: BLK_HEADER_BYTES, isWritten: false },
      ...data,
      { address: status, bytes: 1, isWritten: true },
    ])
  }
}
