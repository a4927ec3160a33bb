import { ERRNO_CODES } from '../../bits/codes.ts'
import type { AccessNumber, Reach, RingMemory, RingPartNumber } from '../../hw/virtio/ring-memory.ts'
import type { Segments } from '../../hw/virtio/segments.ts'
import { endsBehindSpace, IotlbPiece } from '../../table/iotlb-piece.ts'
import type { VhostIotlb } from '../../table/vhost-iotlb.ts'
import type { GuestRegions } from './guest-regions.ts'

const TWO_32 = 0x1_0000_0000
/** Misses are for pages of 4 KiB, whatever the IOMMU's are. */
const PAGE_BYTES = 4096
/** Pages that are asked for at once: an access is done when it has all of them. */
const ASKED_MAX = 32

/** Is told what a device does with addresses; words in lanes. */
export interface MemoryWatcher {
  /**
   * Nothing translates the address: somebody must be asked, or was. False where there is nobody.
   *
   * @param isAhead the device waits for an address before this one already
   */
  onMiss(
    queue: number,
    hi: number,
    lo: number,
    access: AccessNumber,
    part: RingPartNumber,
    isAhead: boolean,
  ): boolean
  /** A map, by its number, forbids the access, or leads outside of memory. */
  onRefusal(queue: number, hi: number, lo: number, access: AccessNumber, code: number): void
  /** Bytes are reached through a map. */
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
  /** The device asks for memory, translated or not. */
  onReach(hi: number, lo: number, bytes: number, part: RingPartNumber): void
}

/**
 * Guest memory as the device behind the socket sees it: by bus addresses through the IOTLB where there is one, by
 * guest addresses else. Nothing outside of the regions is ever reached.
 */
export class DeviceMemory implements RingMemory {
  /** Bus addresses go through it; undefined where addresses are those of the guest. */
  iotlb: VhostIotlb | undefined
  readonly #regions: GuestRegions
  readonly #watcher: MemoryWatcher
  readonly #piece = new IotlbPiece()

  constructor(regions: GuestRegions, watcher: MemoryWatcher) {
    this.#regions = regions
    this.#watcher = watcher
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
    if (bytes === 0) return 'ok'
    if (endsBehindSpace(hi, lo, bytes)) return this.#refuse(queue, hi, lo, access, ERRNO_CODES.EFAULT)
    this.#watcher.onReach(hi, lo, bytes, part)
    const { iotlb } = this
    if (iotlb !== undefined) return this.#translate(iotlb, queue, hi, lo, bytes, access, part, into)
    if (this.#regions.addGuest(hi, lo, bytes, into)) return 'ok'
    return this.#refuse(queue, hi, lo, access, ERRNO_CODES.EFAULT)
  }

  /** Memory here is mapped: nothing lies at a place. */
  load(): never {
    throw new Error('model bug: mapped memory is read in place')
  }

  store(): never {
    throw new Error('model bug: mapped memory is written in place')
  }

  #translate(
    iotlb: VhostIotlb,
    queue: number,
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
    into: Segments,
  ): Reach {
    const piece = this.#piece
    for (let left = bytes; ; ) {
      if (into.isFull) return 'ok'
      if (!iotlb.at(hi, lo)) {
        this.#ask(iotlb, queue, hi, lo, left, access, part)
        return 'pending'
      }
      if ((iotlb.perm & access) !== access) return this.#refuse(queue, hi, lo, access, ERRNO_CODES.EPERM)
      piece.take(iotlb, hi, lo, left)
      const { uaHi, uaLo, bytes: here } = piece
      if (!this.#regions.addUser(uaHi, uaLo, here, into)) {
        return this.#refuse(queue, hi, lo, access, ERRNO_CODES.EFAULT)
      }
      this.#watcher.onUse(iotlb.mapNumber, hi, lo, uaHi, uaLo, here, access, part)
      left -= here
      if (left === 0) return 'ok'
      hi = piece.nextHi
      lo = piece.nextLo
    }
  }

  /** Asks for the pages of a range that are missing, the first ones of them: every answer takes its time. */
  #ask(
    iotlb: VhostIotlb,
    queue: number,
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
  ): void {
    const watcher = this.#watcher
    if (!watcher.onMiss(queue, hi, lo, access, part, false)) return
    const inside = lo & (PAGE_BYTES - 1)
    const pages = Math.min(ASKED_MAX, Math.ceil((inside + bytes) / PAGE_BYTES))
    for (let page = 1; page < pages; page++) {
      const low = (lo >>> 0) - inside + page * PAGE_BYTES
      const nextHi = ((hi >>> 0) + Math.floor(low / TWO_32)) | 0
      if (!iotlb.at(nextHi, low | 0) && !watcher.onMiss(queue, nextHi, low | 0, access, part, true)) return
    }
  }

  #refuse(queue: number, hi: number, lo: number, access: AccessNumber, code: number): Reach {
    this.#watcher.onRefusal(queue, hi, lo, access, code)
    return 'refused'
  }
}
