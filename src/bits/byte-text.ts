const HEX = 'hex:'

/** The bytes that a text stands for: `hex:` and hexadecimal digits, blanks apart, or the text itself as UTF-8. */
export function bytesOf(text: string): Uint8Array {
  if (!text.startsWith(HEX)) return new TextEncoder().encode(text)
  const digits = text.slice(HEX.length).replaceAll(/\s/g, '')
  const bytes = new Uint8Array(digits.length >> 1)
  for (let i = 0; i < bytes.length; i++) bytes[i] = (digit(digits, i * 2) << 4) | digit(digits, i * 2 + 1)
  return bytes
}

/** The value of a hexadecimal digit. */
function digit(text: string, at: number): number {
  const code = text.charCodeAt(at)
  return code < 0x3a ? code - 0x30 : (code | 0x20) - 0x57
}

/** Bytes as pairs of hexadecimal digits. */
export const hexDigits = (bytes: Uint8Array): string =>
  Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')

/** The bytes of a text in Latin-1: one for each character. */
export const latin1Bytes = (text: string): Uint8Array =>
  Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff)

/** The text of bytes, the one form that they have: printable ASCII as it is, all else as `hex:` and digits. */
export function bytesText(bytes: Uint8Array): string {
  const isPrintable = bytes.every((b) => b >= 0x20 && b < 0x7f)
  const text = isPrintable ? new TextDecoder().decode(bytes) : ''
  if (isPrintable && !text.startsWith(HEX)) return text
  return HEX + hexDigits(bytes)
}
