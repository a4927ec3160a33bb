import { ERRNO_CODES } from '../../bits/codes.ts'
import { numberOf } from '../../bits/u64.ts'
import type { AccessNumber, Reach, RingMemory, RingPartNumber } from '../../hw/virtio/ring-memory.ts'
import type { Segments } from '../../hw/virtio/segments.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import { endsBehindSpace, IotlbPiece } from '../../table/iotlb-piece.ts'
import type { Stage } from '../../trace/stage.ts'
import type { DeviceTables, MemoryRegion } from './device-tables.ts'
import { IotlbRecords } from './iotlb-records.ts'

const { EFAULT, EPERM } = ERRNO_CODES
/** User addresses are exact numbers below this. */
const PLACE_END_HI = 2 ** 21

export interface VhostUserMemoryParts {
  readonly stage: Stage
  readonly tables: DeviceTables
  /** Guest memory that the front end has given away, at its own user addresses. */
  readonly regions: readonly MemoryRegion[]
  /** Address space of the front end, whose pages the regions are. */
  readonly mm: AddressSpace
  /** Asks the front end for an address. */
  readonly miss: (hi: number, lo: number, access: AccessNumber, part: RingPartNumber) => void
  /** The model does not know what comes of an access. */
  readonly onUnknown: (why: string) => void
}

interface Place {
  readonly first: number
  readonly end: number
}

/**
 * Guest memory as a vhost-user back end sees it: bus addresses through its IOTLB, to user addresses of the front end, and
 * of those only what lies in the regions that it was given. Nothing is remembered between two looks.
 *
 * It asks for the first address that is missing, and tries again after the answer. A map has to allow all that an access
 * needs. (vhost-user protocol, Communication, VHOST_USER_IOTLB_MSG and IOMMU support)
 */
export class VhostUserMemory implements RingMemory {
  readonly #parts: VhostUserMemoryParts
  readonly #records: IotlbRecords
  readonly #places: readonly Place[]
  readonly #piece = new IotlbPiece()

  constructor(parts: VhostUserMemoryParts) {
    this.#parts = parts
    this.#records = new IotlbRecords(parts.stage)
    this.#places = parts.regions.map(({ ua, bytes }) => ({ first: Number(ua), end: Number(ua + bytes) }))
  }

  reach(
    queue: number,
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
    into: Segments,
  ): Reach {
    const { tables, miss } = this.#parts
    const { iotlb } = tables
    const piece = this.#piece
    if (bytes === 0) return 'ok'
    if (iotlb === null || endsBehindSpace(hi, lo, bytes)) return this.#refuse(queue, hi, lo, access, EFAULT)
    for (let left = bytes; ; ) {
      if (into.isFull) return 'ok'
      if (!iotlb.at(hi, lo)) {
        miss(hi, lo, access, part)
        return 'pending'
      }
      if ((iotlb.perm & access) !== access) return this.#refuse(queue, hi, lo, access, EPERM)
      piece.take(iotlb, hi, lo, left)
      const { uaHi, uaLo, bytes: here } = piece
      if (!this.#isGiven(uaHi, uaLo, here)) return this.#refuse(queue, hi, lo, access, EFAULT)
      const map = tables.mapNumber(iotlb.mapNumber)
      this.#records.use(tables.number, map, hi, lo, uaHi, uaLo, here, access, part)
      into.addPlace(numberOf(uaHi, uaLo), here)
      left -= here
      if (left === 0) return 'ok'
      hi = piece.nextHi
      lo = piece.nextLo
    }
  }

  load(place: number, into: Uint8Array, at: number, bytes: number): void {
    const { code } = this.#parts.mm.read(BigInt(place), into.subarray(at, at + bytes))
    this.#check(code)
  }

  store(place: number, from: Uint8Array, at: number, bytes: number): void {
    const { code } = this.#parts.mm.write(BigInt(place), from.subarray(at, at + bytes))
    this.#check(code)
  }

  /** The back end has mapped the memory itself: what its front end has unmapped is there for it all the same. */
  #check(code: number): void {
    if (code !== 0)
      this.#parts.onUnknown('a vhost-user device reaches memory that its front end has unmapped')
  }

  #isGiven(hi: number, lo: number, bytes: number): boolean {
    if (hi >>> 0 >= PLACE_END_HI) return false
    const place = numberOf(hi, lo)
    return this.#places.some(({ first, end }) => first <= place && place + bytes <= end)
  }

  #refuse(queue: number, hi: number, lo: number, access: AccessNumber, code: number): Reach {
    this.#records.refuse(this.#parts.tables.number, queue, hi, lo, access, code)
    return 'refused'
  }
}
