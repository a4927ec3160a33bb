/**
 * Numbers in the bytes of a line, without making anything. Each function reads at `at`, writes the value as
 * int32 lanes (low first) from `slot` on and answers where the number ends; NO_NUMBER where none stands there
 * or it does not fit. Numbers are taken as printf writes them: no leading zeros, lower-case digits.
 *
 * The common lengths are read without a loop, four bytes in one int32, because a loop costs more than its
 * work and a mispredicted end more still. So 20 bytes must be readable behind `at`, whatever they are.
 */
export const NO_NUMBER = -1

const ZERO = 0x30
const MINUS = 0x2d
/** 1 for each byte that is a lower-case hexadecimal digit. */
const IS_HEX = Uint8Array.from({ length: 256 }, (_, byte) =>
  /[0-9a-f]/.test(String.fromCharCode(byte)) ? 1 : 0,
)
const TWO_32 = 0x1_0000_0000

/** Bit 7 of each byte of a word that is no decimal digit. */
function notDecimal(word: number): number {
  const a = word ^ 0x3030_3030
  return (((a & 0x7f7f_7f7f) + 0x7676_7676) | a) & 0x8080_8080
}

/** Bit 7 of each byte of a word that is no lower-case hexadecimal digit. */
function notHex(word: number): number {
  const a = word ^ 0x3030_3030
  const b = word ^ 0x6060_6060
  const b7 = b & 0x7f7f_7f7f
  const notDigit = ((a & 0x7f7f_7f7f) + 0x7676_7676) | a
  const notLetter = (b7 + 0x7979_7979) | ~(b7 + 0x7f7f_7f7f) | b
  return notDigit & notLetter & 0x8080_8080
}

/** The value of four hexadecimal digits; the first byte is the highest digit. */
function hexValue(word: number): number {
  const letters = (word >>> 6) & 0x0101_0101
  const nibbles = (word & 0x0f0f_0f0f) + (letters << 3) + letters
  const pairs = ((nibbles << 4) & 0x00f0_00f0) | ((nibbles >>> 8) & 0x000f_000f)
  return ((pairs & 0xff) << 8) | ((pairs >>> 16) & 0xff)
}

/** Bits 7, 15, 23 and 31 as bits 0 to 3. */
const gathered = (marks: number): number => Math.imul(marks >>> 7, 0x1020_4080) >>> 28

/** How many of the 8 bytes in two words are hexadecimal digits, up to the first that is none. */
function hexDigits(first: number, second: number): number {
  const bad = gathered(notHex(first)) | (gathered(notHex(second)) << 4) | 0x100
  return 31 - Math.clz32(bad & -bad)
}

/** Up to 8 hexadecimal digits. */
export function readHex32(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const first = view.getInt32(at, true)
  const second = view.getInt32(at + 4, true)
  const digits = hexDigits(first, second)
  if (digits === 0 || ((first & 0xff) === ZERO && digits > 1)) return NO_NUMBER
  lanes[slot] = ((hexValue(first) << 16) | hexValue(second)) >>> (32 - 4 * digits)
  return at + digits
}

/** Two hexadecimal digits, and no third one. */
export function readHex8(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const word = view.getInt32(at, true)
  if ((gathered(notHex(word)) & 7) !== 4) return NO_NUMBER
  lanes[slot] = hexValue(word) >>> 8
  return at + 2
}

/** Up to 16 hexadecimal digits. */
export function readHex64(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const end = readHex32(view, at, lanes, slot)
  if (end < 0) return NO_NUMBER
  lanes[slot + 1] = 0
  // One test, nearly always the same way: whether there are just 8 digits or fewer is anybody's guess.
  const goesOn = ((end - at) >> 3) & (IS_HEX[view.getUint8(at + 8)] as number)
  return goesOn !== 0 ? readLowDigits(view, end, lanes, slot) : end
}

/** What may follow the first 8 of 16 hexadecimal digits: it pushes them up. */
function readLowDigits(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const first = view.getInt32(at, true)
  const second = view.getInt32(at + 4, true)
  const digits = hexDigits(first, second)
  if (digits === 0) return at
  const high = lanes[slot] as number
  const low = ((hexValue(first) << 16) | hexValue(second)) >>> (32 - 4 * digits)
  lanes[slot] = digits === 8 ? low : (high << (4 * digits)) | low
  lanes[slot + 1] = high >>> (32 - 4 * digits)
  return at + digits
}

/** Sixteen hexadecimal digits, whatever the first ones are. */
export function readHex64z(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const [a, b] = [view.getInt32(at, true), view.getInt32(at + 4, true)]
  const [c, d] = [view.getInt32(at + 8, true), view.getInt32(at + 12, true)]
  if ((notHex(a) | notHex(b) | notHex(c) | notHex(d)) !== 0) return NO_NUMBER
  lanes[slot] = (hexValue(c) << 16) | hexValue(d)
  lanes[slot + 1] = (hexValue(a) << 16) | hexValue(b)
  return at + 16
}

/** An unsigned decimal number of 32 bits. */
export function readU32(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const end = readShort(view, at, lanes, slot)
  return end > 0 ? end : readUpTo(view, at, 0xffff_ffff, lanes, slot)
}

/** A signed decimal number of 32 bits. */
export function readD32(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const shortEnd = readShort(view, at, lanes, slot)
  if (shortEnd > 0) return shortEnd
  if (view.getUint8(at) !== MINUS) return readUpTo(view, at, 0x7fff_ffff, lanes, slot)
  const end = readUpTo(view, at + 1, 0x8000_0000, lanes, slot)
  if (lanes[slot] === 0) return NO_NUMBER
  lanes[slot] = -(lanes[slot] as number)
  return end
}

/** A signed decimal number of 64 bits. */
export function readD64(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const end = readShort(view, at, lanes, slot)
  lanes[slot + 1] = 0
  return end > 0 ? end : readLong(view, at, lanes, slot)
}

/** A decimal number of 1 to 3 digits; NO_NUMBER for all others. */
function readShort(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const word = view.getInt32(at, true)
  const bad = notDecimal(word)
  if (bad === 0 || (bad & 0x80) !== 0) return NO_NUMBER
  const bits = 31 - Math.clz32(bad & -bad) - 7
  if ((word & 0xff) === ZERO && bits > 8) return NO_NUMBER
  const digits = (word & 0x0f0f_0f0f) << (32 - bits)
  lanes[slot] = ((digits >> 8) & 0xff) * 100 + ((digits >> 16) & 0xff) * 10 + (digits >>> 24)
  return at + (bits >> 3)
}

/** Whether a number of more than one digit begins with 0. */
function hasLeadingZero(view: DataView, at: number): boolean {
  return view.getUint8(at) === ZERO && (notDecimal(view.getUint8(at + 1)) & 0x80) === 0
}

/** An unsigned decimal number that is at most `most` (below 2^32). */
function readUpTo(view: DataView, at: number, most: number, lanes: Int32Array, slot: number): number {
  let end = at
  let value = 0
  for (; end < at + 10; end++) {
    const digit = view.getUint8(end) - ZERO
    if (digit < 0 || digit > 9) break
    value = value * 10 + digit
  }
  if (end === at || value > most || hasLeadingZero(view, at)) return NO_NUMBER
  lanes[slot] = value
  return end
}

/** A signed decimal number of 64 bits and any length. */
function readLong(view: DataView, at: number, lanes: Int32Array, slot: number): number {
  const negative = view.getUint8(at) === MINUS
  const start = negative ? at + 1 : at
  let end = start
  let hi = 0
  let lo = 0
  for (; end < start + 20; end++) {
    const digit = view.getUint8(end) - ZERO
    if (digit < 0 || digit > 9) break
    lo = lo * 10 + digit
    const carry = Math.floor(lo / TWO_32)
    lo -= carry * TWO_32
    hi = hi * 10 + carry
  }
  if (end === start || hasLeadingZero(view, start)) return NO_NUMBER
  const fits = negative ? hi < 0x8000_0000 || (hi === 0x8000_0000 && lo === 0) : hi < 0x8000_0000
  if (!fits || (negative && hi === 0 && lo === 0)) return NO_NUMBER
  lanes[slot] = negative ? -lo : lo
  lanes[slot + 1] = negative ? ~hi + (lo === 0 ? 1 : 0) : hi
  return end
}
