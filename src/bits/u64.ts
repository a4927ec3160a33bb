import { IommulatorError } from './errors.ts'

/**
 * 64-bit words at the edges (bigint) and inside (two int32 lanes).
 *
 * A lane is an int32 (`| 0`), because V8 keeps those out of the heap across calls; an unsigned lane above
 * 2^31 would be allocated. Page numbers of 64-bit addresses fit a double from 4 KiB pages on.
 */
export const U64_MAX = 0xffff_ffff_ffff_ffffn
const TWO_32 = 0x1_0000_0000

/** 2^n for n from 0 to 63: a power with an exponent that varies costs more than a read. */
export const POWERS_OF_TWO: Readonly<Float64Array> = Float64Array.from({ length: 64 }, (_, n) => 2 ** n)

/** The upper lane of a word. */
export const hiOf = (word: bigint): number => Number(BigInt.asIntN(32, word >> 32n))
/** The lower lane of a word. */
export const loOf = (word: bigint): number => Number(BigInt.asIntN(32, word))
/** A word from its lanes; unsigned. */
export const wordOf = (hi: number, lo: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)

/** Whether a word in lanes is below another; unsigned. */
export const isBelow = (aHi: number, aLo: number, bHi: number, bLo: number): boolean =>
  aHi === bHi ? aLo >>> 0 < bLo >>> 0 : aHi >>> 0 < bHi >>> 0

/** Lanes of an exact non-negative integer below 2^53. */
export const hiOfNumber = (n: number): number => (n < TWO_32 ? 0 : Math.floor(n / TWO_32) | 0)
export const loOfNumber = (n: number): number => n | 0
/** The number in two lanes; exact below 2^53. */
export const numberOf = (hi: number, lo: number): number => (hi >>> 0) * TWO_32 + (lo >>> 0)

/**
 * Page number of the address in two lanes: address >> `pageShift`, for shifts from 12 to 51.
 * Exact, because at most 52 bits remain.
 */
export function pageOf(hi: number, lo: number, pageShift: number): number {
  if (pageShift >= 32) return (hi >>> 0) >>> (pageShift - 32)
  return (hi >>> 0) * (1 << (32 - pageShift)) + (lo >>> pageShift)
}

/** A lane with its bytes in reverse: between the engine's order and big-endian memory. */
export const swap32 = (x: number): number =>
  (x << 24) | ((x & 0xff00) << 8) | ((x >>> 8) & 0xff00) | (x >>> 24)

/** Lanes of the address at which a page starts: page << `pageShift`, for shifts from 1 to 31. */
export const hiOfPage = (page: number, pageShift: number): number =>
  Math.floor(page / (POWERS_OF_TWO[32 - pageShift] as number)) | 0
export const loOfPage = (page: number, pageShift: number): number => page << pageShift

/** `0x` and lower-case hexadecimal digits, as every log and file of ours writes 64-bit values. */
export const hex = (value: bigint | number): string =>
  `0x${(typeof value === 'bigint' ? BigInt.asUintN(64, value) : value).toString(16)}`

const NUMBER = /^(?:0x[0-9a-f]+(?:_[0-9a-f]+)*|0b[01]+(?:_[01]+)*|0o[0-7]+(?:_[0-7]+)*|[0-9]+(?:_[0-9]+)*)$/i

/**
 * The number that a text stands for: decimal, or hexadecimal, octal or binary with its prefix; a `_`
 * between two digits groups them. Negative numbers are refused.
 *
 * @throws IommulatorError ERR_NUMBER when it is none, or needs more than `bits` bits
 * @example parseU64('0x8000_0000') // 2147483648n
 */
export function parseU64(text: string, bits = 64): bigint {
  const digits = text.trim()
  if (digits.length > 120 || !NUMBER.test(digits)) {
    throw new IommulatorError('ERR_NUMBER', `not a number: "${text.slice(0, 40)}"`)
  }
  const value = BigInt(digits.replaceAll('_', ''))
  if (value >> BigInt(bits) !== 0n) {
    throw new IommulatorError('ERR_NUMBER', `${text.slice(0, 40)} does not fit ${bits} bits`)
  }
  return value
}

/** Smallest n with 2^n >= value; 0 for 0 and 1. */
export function ceilLog2(value: bigint): number {
  return value <= 1n ? 0 : (value - 1n).toString(2).length
}

/** Greatest n with 2^n <= value; -1 for 0. */
export const floorLog2 = (value: bigint): number => (value === 0n ? -1 : value.toString(2).length - 1)

/** Whether a word in two lanes has bits below 2^shift. */
export function hasLowBits(hi: number, lo: number, shift: number): boolean {
  if (shift < 32) return (lo & ((1 << shift) - 1)) !== 0
  return lo !== 0 || (hi & ((1 << (shift - 32)) - 1)) !== 0
}
