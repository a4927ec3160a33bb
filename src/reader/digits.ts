/**
 * Numbers in the bytes of a line, without making anything. Each function reads at `at`, writes the value as
 * int32 lanes (low first) at `slot` and answers where the number ends; NO_NUMBER where none stands there or
 * it does not fit. A number is read as printf writes it, so a zero is one digit: what follows a leading zero
 * is left to whoever looks at the text after the number.
 */
export const NO_NUMBER = -1

/** Value of each byte as a lower-case hexadecimal digit, 16 for others. */
const HEX = Uint8Array.from({ length: 256 }, (_, byte) => {
  const value = '0123456789abcdef'.indexOf(String.fromCharCode(byte))
  return value < 0 ? 16 : value
})

const ZERO = 0x30
const MINUS = 0x2d
const TWO_32 = 0x1_0000_0000

/** Up to 8 hexadecimal digits. */
export function readHex32(bytes: Uint8Array, at: number, lanes: Int32Array, slot: number): number {
  let value = HEX[bytes[at] as number] as number
  if (value > 15) return NO_NUMBER
  let end = at + 1
  if (value !== 0) {
    const most = at + 8
    for (; end < most; end++) {
      const digit = HEX[bytes[end] as number] as number
      if (digit > 15) break
      value = (value << 4) | digit
    }
  }
  lanes[slot] = value
  return end
}

/** Up to 16 hexadecimal digits. */
export function readHex64(bytes: Uint8Array, at: number, lanes: Int32Array, slot: number): number {
  let value = HEX[bytes[at] as number] as number
  if (value > 15) return NO_NUMBER
  let end = at + 1
  if (value !== 0) {
    const most = at + 8
    for (; end < most; end++) {
      const digit = HEX[bytes[end] as number] as number
      if (digit > 15) break
      value = (value << 4) | digit
    }
    if (end === most) return readLowLane(bytes, end, lanes, slot, value)
  }
  lanes[slot] = value
  lanes[slot + 1] = 0
  return end
}

/** The digits after the eighth one: they push the first eight (`first`) upwards. */
function readLowLane(bytes: Uint8Array, at: number, lanes: Int32Array, slot: number, first: number): number {
  const most = at + 8
  let end = at
  let value = 0
  for (; end < most; end++) {
    const digit = HEX[bytes[end] as number] as number
    if (digit > 15) break
    value = (value << 4) | digit
  }
  const shift = (end - at) * 4
  if (shift === 0) {
    lanes[slot] = first
    lanes[slot + 1] = 0
  } else if (shift === 32) {
    lanes[slot] = value
    lanes[slot + 1] = first
  } else {
    lanes[slot] = (first << shift) | value
    lanes[slot + 1] = first >>> (32 - shift)
  }
  return end
}

/** An unsigned decimal number of 32 bits. */
export function readU32(bytes: Uint8Array, at: number, lanes: Int32Array, slot: number): number {
  let value = (bytes[at] as number) - ZERO
  if (value < 0 || value > 9) return NO_NUMBER
  let end = at + 1
  if (value !== 0) {
    for (; end < at + 11; end++) {
      const digit = (bytes[end] as number) - ZERO
      if (digit < 0 || digit > 9) break
      value = value * 10 + digit
    }
    if (value >= TWO_32) return NO_NUMBER
  }
  lanes[slot] = value | 0
  return end
}

/** A signed decimal number of 32 bits. */
export function readD32(bytes: Uint8Array, at: number, lanes: Int32Array, slot: number): number {
  if (bytes[at] !== MINUS) {
    const end = readU32(bytes, at, lanes, slot)
    return end > 0 && (lanes[slot] as number) < 0 ? NO_NUMBER : end
  }
  const end = readU32(bytes, at + 1, lanes, slot)
  const value = (lanes[slot] as number) >>> 0
  if (end < 0 || value === 0 || value > 0x8000_0000) return NO_NUMBER
  lanes[slot] = -value | 0
  return end
}

/** A signed decimal number of 64 bits. */
export function readD64(bytes: Uint8Array, at: number, lanes: Int32Array, slot: number): number {
  const first = bytes[at] as number
  const next = (bytes[at + 1] as number) - ZERO
  if (first >= ZERO && first <= ZERO + 9 && (next < 0 || next > 9)) {
    lanes[slot] = first - ZERO
    lanes[slot + 1] = 0
    return at + 1
  }
  const negative = first === MINUS
  const start = negative ? at + 1 : at
  let end = start
  let hi = 0
  let lo = 0
  for (; end < start + 20; end++) {
    const digit = (bytes[end] as number) - ZERO
    if (digit < 0 || digit > 9) break
    lo = lo * 10 + digit
    const carry = Math.floor(lo / TWO_32)
    lo -= carry * TWO_32
    hi = hi * 10 + carry
    if (end === start && digit === 0) {
      end++
      break
    }
  }
  if (end === start || hi >= TWO_32) return NO_NUMBER
  const most = 0x8000_0000
  if (negative ? hi > most || (hi === most && lo > 0) || (hi === 0 && lo === 0) : hi >= most) return NO_NUMBER
  lanes[slot] = negative ? -lo | 0 : lo | 0
  lanes[slot + 1] = negative ? ~hi + (lo === 0 ? 1 : 0) : hi | 0
  return end
}
