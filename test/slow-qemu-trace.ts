import { ACCESS_LETTERS, type LogEvent, type LogField } from '../src/reader/log-format.ts'
import { QEMU_TRACE } from '../src/reader/qemu-trace-format.ts'

/**
 * The reader of QEMU traces written a second time, as plainly as can be: a line is a string, a template is a
 * regular expression. Much too slow for logs; it says what the fast one must find.
 */
export type SlowLine =
  | {
      readonly kind: 'event'
      readonly name: string
      readonly fields: Record<string, bigint | number | string>
    }
  | { readonly kind: 'unknown'; readonly name: string }
  | { readonly kind: 'damaged' | 'empty' }

const DAMAGED = { kind: 'damaged' } as const
const HEX64 = '(0|[1-9a-f][0-9a-f]{0,15})'
const DECIMAL = '(0|-?[1-9][0-9]{0,18})'
const PATTERNS: Record<LogField['kind'], string> = {
  x64: HEX64,
  x32: '(0|[1-9a-f][0-9a-f]{0,7})',
  x8: '([0-9a-f]{2})',
  d64: DECIMAL,
  d32: DECIMAL,
  u32: DECIMAL,
  pointer: '(\\(nil\\)|0x(?:0|[1-9a-f][0-9a-f]{0,15}))',
  text: '([ -~]{0,200})',
  x64z: '([0-9a-f]{16})',
  rwxpl: '([r-][w-][x-][p-][l-])',
}
const RANGES: Partial<Record<LogField['kind'], readonly [bigint, bigint]>> = {
  d64: [-(1n << 63n), (1n << 63n) - 1n],
  d32: [-(1n << 31n), (1n << 31n) - 1n],
  u32: [0n, (1n << 32n) - 1n],
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

const TEMPLATES = new Map(
  QEMU_TRACE.events.map((event: LogEvent) => {
    const body = event.parts.map(
      (p) => escaped(p.literal) + (p.field === undefined ? '' : PATTERNS[p.field.kind]),
    )
    return [event.name, { event, pattern: new RegExp(`^${event.name} ${body.join('')}$`) }]
  }),
)

function valueIn(kind: LogField['kind'], text: string): bigint | number | string | undefined {
  if (kind === 'text') return text
  if (kind === 'pointer') return text === '(nil)' ? 0n : BigInt(text)
  if (kind === 'x64' || kind === 'x64z') return BigInt(`0x${text}`)
  if (kind === 'x32' || kind === 'x8') return Number.parseInt(text, 16)
  if (kind === 'rwxpl')
    return ACCESS_LETTERS.reduce((bits, [l, bit]) => (text.includes(l) ? bits | bit : bits), 0)
  const value = BigInt(text)
  const [least, most] = RANGES[kind]!
  if (value < least || value > most) return undefined
  return kind === 'd64' ? value : Number(value)
}

function eventOf(line: string, name: string): SlowLine {
  const template = TEMPLATES.get(name)
  if (template === undefined) return { kind: 'unknown', name }
  const found = template.pattern.exec(line)
  if (found === null) return DAMAGED
  const fields: Record<string, bigint | number | string> = {}
  for (const [i, { name, kind }] of template.event.fields.entries()) {
    const value = valueIn(kind, found[i + 1]!)
    if (value === undefined) return DAMAGED
    fields[name] = value
  }
  return { kind: 'event', name, fields }
}

const PID_STAMP = /^\d{1,10}@(\d{1,10})\.(\d{6})[: ]/
const ISO_STAMP =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{6})?Z /

/** One line without its newline. */
export function slowLine(whole: string): SlowLine {
  let line = whole.endsWith('\r') ? whole.slice(0, -1) : whole
  if (whole.length > 4096) return DAMAGED
  if (line === '') return { kind: 'empty' }
  if (/^\d/.test(line)) {
    const stamp = PID_STAMP.exec(line)
    const iso = ISO_STAMP.exec(line)
    if (stamp !== null) {
      if (BigInt(stamp[1]! + stamp[2]!) > BigInt(Number.MAX_SAFE_INTEGER)) return DAMAGED
      line = line.slice(stamp[0].length)
    } else if (iso !== null) line = line.slice(iso[0].length)
    else return DAMAGED
  }
  const name = /^([a-z][a-z0-9_]{1,99})(?: |$)/.exec(line)?.[1]
  return name === undefined ? DAMAGED : eventOf(line, name)
}
