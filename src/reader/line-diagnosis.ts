import { FIELD_KINDS, type LogEvent, type LogField, TEXT_BYTES_MAX } from './log-format.ts'

const HEX_DIGITS = /[0-9a-f]*/y
const DECIMAL_DIGITS = /-?[0-9]*/y
const UNPRINTABLE = /[^\x20-\x7e]/
const EXCERPT_BYTES = 120

/** The first bytes of a line as a text that is safe to print: other than printable ASCII is shown as \xNN. */
export function excerptOf(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes.subarray(0, EXCERPT_BYTES)) {
    text +=
      byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
  }
  return text
}

/** What is wrong with the digits of a number; nothing for a number that fits. */
function wrongNumber({ name, kind }: LogField, digits: string): string {
  if (digits === '' || digits === '-') return `no number stands for ${name}`
  if (/^(?:-?0.|-0)/.test(digits)) return `${name} begins with a 0`
  const bits = FIELD_KINDS[kind].lanes * 32
  const value = digits.startsWith('-')
    ? -BigInt(digits.slice(1))
    : BigInt(kind.startsWith('x') || kind === 'pointer' ? `0x${digits}` : digits)
  const signed = kind === 'd64' || kind === 'd32'
  const fits = signed ? BigInt.asIntN(bits, value) === value : BigInt.asUintN(bits, value) === value
  return fits ? '' : `${name} does not fit ${bits} bits`
}

/**
 * Why a line does not fit the template of the event that it begins with, in words; empty for a line that
 * fits. `line` begins with the event's name and has no line end.
 */
export function whyDamaged(event: LogEvent, line: string): string {
  let at = 0
  let before = 'the event name'
  const parts = event.parts.length === 0 ? [{ literal: '', field: undefined }] : event.parts
  for (const [i, { literal, field }] of parts.entries()) {
    const text = i === 0 ? event.head + literal : literal
    if (!line.startsWith(text, at)) {
      return text.startsWith(line.slice(at))
        ? `the line is cut after ${before}`
        : `"${text.trim()}" does not stand after ${before}`
    }
    at += text.length
    if (field === undefined) continue
    before = field.name
    if (field.kind === 'text') {
      const end = line.lastIndexOf(parts[i + 1]?.literal ?? '')
      if (end < at) return `the line is cut in ${before}`
      if (end - at > TEXT_BYTES_MAX) return `${before} is longer than ${TEXT_BYTES_MAX} bytes`
      if (UNPRINTABLE.test(line.slice(at, end))) return `${before} holds bytes that do not print`
      at = end
    } else {
      const wrong = numberAt(line, at, field)
      if (typeof wrong === 'string') return at === line.length ? `the line is cut before ${before}` : wrong
      at = wrong
    }
  }
  return at < line.length ? `more text stands after ${before}` : ''
}

/** Where the number at `at` ends, or what is wrong with it. */
function numberAt(line: string, at: number, field: LogField): number | string {
  let from = at
  if (field.kind === 'pointer') {
    if (line.startsWith('(nil)', at)) return at + 5
    if (!line.startsWith('0x', at)) return `no address stands for ${field.name}`
    from = at + 2
  }
  if (field.kind === 'x8') {
    const digits = /^[0-9a-f]*/.exec(line.slice(at))?.[0] ?? ''
    return digits.length === 2 ? at + 2 : `no two digits stand for ${field.name}`
  }
  if (field.kind === 'x64z') {
    const digits = /^[0-9a-f]*/.exec(line.slice(at))?.[0] ?? ''
    return digits.length === 16 ? at + 16 : `no sixteen digits stand for ${field.name}`
  }
  if (field.kind === 'rwxpl') {
    return /^[r-][w-][x-][p-][l-]/.test(line.slice(at)) ? at + 5 : `no five letters stand for ${field.name}`
  }
  const hexadecimal = field.kind === 'x64' || field.kind === 'x32' || field.kind === 'pointer'
  const pattern = hexadecimal ? HEX_DIGITS : DECIMAL_DIGITS
  pattern.lastIndex = from
  const digits = pattern.exec(line)?.[0] ?? ''
  const wrong = wrongNumber(field, digits)
  return wrong === '' ? from + digits.length : wrong
}
