import { hiOfNumber } from '../../bits/u64.ts'

/**
 * A 64-bit word in two int32 lanes that arithmetic leaves its result in, so that none of it allocates.
 * Sums wrap at 64 bits, as the registers of the machine do.
 */
export class Lanes {
  hi = 0
  lo = 0

  put(hi: number, lo: number): this {
    this.hi = hi
    this.lo = lo
    return this
  }

  /** A non-negative whole number below 2^53. */
  putNumber(value: number): this {
    this.hi = hiOfNumber(value)
    this.lo = value | 0
    return this
  }

  /** `value` << `shift`, for a value below 2^31 and a shift of 12 to 51. */
  putShifted(value: number, shift: number): this {
    if (shift >= 32) {
      this.hi = value << (shift - 32)
      this.lo = 0
    } else {
      this.hi = value >>> (32 - shift)
      this.lo = value << shift
    }
    return this
  }

  add(hi: number, lo: number): this {
    const low = (this.lo >>> 0) + (lo >>> 0)
    this.hi = (this.hi + hi + (low > 0xffff_ffff ? 1 : 0)) | 0
    this.lo = low | 0
    return this
  }

  /** Adds a non-negative whole number below 2^53. */
  addNumber(value: number): this {
    return this.add(hiOfNumber(value), value | 0)
  }

  subtract(hi: number, lo: number): this {
    const low = (this.lo >>> 0) - (lo >>> 0)
    this.hi = (this.hi - hi - (low < 0 ? 1 : 0)) | 0
    this.lo = low | 0
    return this
  }
}

/** The bits of an address below its page: address mod 2^`pageShift`, for shifts from 12 to 51. */
export function offsetIn(hi: number, lo: number, pageShift: number): number {
  if (pageShift < 32) return lo & ((1 << pageShift) - 1) & 0x7fff_ffff
  return (hi & ((1 << (pageShift - 32)) - 1)) * 0x1_0000_0000 + (lo >>> 0)
}

/** The bits of a memory address (below 2^52) below its page. */
export const offsetOf = (address: number, pageShift: number): number => address % 2 ** pageShift

/** The start of the page of a memory address. */
export const pageStart = (address: number, pageShift: number): number =>
  address - offsetOf(address, pageShift)
