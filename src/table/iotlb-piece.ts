import type { VhostIotlb } from './vhost-iotlb.ts'

const TWO_32 = 0x1_0000_0000

/** Bytes from an address to a later one, in lanes: exact below 2^53. */
const distance = (lastHi: number, lastLo: number, hi: number, lo: number): number =>
  ((lastHi >>> 0) - (hi >>> 0)) * TWO_32 + (lastLo >>> 0) - (lo >>> 0)

/** Whether [hi:lo, + bytes) goes on behind the last address of 64 bits. */
export const endsBehindSpace = (hi: number, lo: number, bytes: number): boolean =>
  distance(-1, -1, hi, lo) + 1 < bytes

/** Part of an access that one map holds: where it is in user memory, and how long. Filled anew; allocates nothing. */
export class IotlbPiece {
  uaHi = 0
  uaLo = 0
  bytes = 0
  /** Where the access goes on behind it. */
  nextHi = 0
  nextLo = 0

  /** The piece of [hi:lo, + left) that the map in an IOTLB's fields holds; the map holds the address. */
  take(iotlb: VhostIotlb, hi: number, lo: number, left: number): void {
    this.bytes = Math.min(left, distance(iotlb.lastHi, iotlb.lastLo, hi, lo) + 1)
    this.locate(hi, lo, iotlb.startHi, iotlb.startLo, iotlb.addrHi, iotlb.addrLo)
    this.nextHi = (hi + Math.floor(((lo >>> 0) + this.bytes) / TWO_32)) | 0
    this.nextLo = (lo + this.bytes) | 0
  }

  /** Where an address is: addr + (at - start), all mod 2^64. */
  locate(hi: number, lo: number, startHi: number, startLo: number, addrHi: number, addrLo: number): void {
    const low = (addrLo >>> 0) + (lo >>> 0) - (startLo >>> 0)
    this.uaLo = low | 0
    this.uaHi = (addrHi + hi - startHi + Math.floor(low / TWO_32)) | 0
  }
}
