import { assert, IommulatorError } from '../bits/errors.ts'
import { hex } from '../bits/u64.ts'
import { PAGE_REQUEST } from '../trace/event-codes.ts'

/**
 * How a field of a log line is printed (in the words of C's printf) and kept.
 * Lanes are int32 columns of a batch: a 64-bit field has two, the low one first.
 */
export const FIELD_KINDS = {
  x64: { lanes: 2, doc: 'Hexadecimal, 64 bits, no prefix of its own (PRIx64).' },
  x32: { lanes: 1, doc: 'Hexadecimal, 32 bits, no prefix of its own (%x).' },
  x8: { lanes: 1, doc: 'Hexadecimal, 8 bits, always two digits (%02x).' },
  x64z: { lanes: 2, doc: 'Hexadecimal, 64 bits, always sixteen digits (%016llx).' },
  rwxpl: {
    lanes: 1,
    doc: 'Five letters, or `-` for each that is not so: r read (8), w write (4), x execute (2), p privileged (1), l last (16).',
  },
  d64: { lanes: 2, doc: 'Decimal, 64 bits, signed (PRId64).' },
  d32: { lanes: 1, doc: 'Decimal, 32 bits, signed (%d).' },
  u32: { lanes: 1, doc: 'Decimal, 32 bits, unsigned (%u).' },
  pointer: { lanes: 2, doc: 'An address of the host process: 0x and hexadecimal digits, or (nil) (%p).' },
  text: { lanes: 1, doc: 'Printable ASCII, at most 200 bytes (%s); kept as the number of an interned word.' },
} as const

export type FieldKind = keyof typeof FIELD_KINDS

interface KindValues {
  x64: bigint
  x32: number
  x8: number
  x64z: bigint
  rwxpl: number
  d64: bigint
  d32: number
  u32: number
  pointer: bigint
  text: string
}

/** Most int32 lanes that the fields of one event may take. */
export const LANES_MAX = 12
/** Longest text that a text field takes, in bytes. */
export const TEXT_BYTES_MAX = 200

/** One field of an event: `slot` is its first lane. */
export interface LogField {
  readonly name: string
  readonly kind: FieldKind
  readonly slot: number
}

/** A literal text of the line, and the field that follows it (none after the last literal). */
interface LogPart {
  readonly literal: string
  readonly field: LogField | undefined
}

/** One kind of line: its head with the event's name, and the text that the template describes. */
export interface LogEvent<N extends string = string, T extends string = string> {
  readonly name: N
  /** What the line begins with: the name, and what stands behind it. Two events may begin alike. */
  readonly head: string
  /** Literal text with `{field:kind}` where values stand. */
  readonly template: T
  /** What happened when this line was printed, and what of it is easily misread. */
  readonly doc: string
  /** A line as a real log has it. */
  readonly example: string
  readonly parts: readonly LogPart[]
  readonly fields: readonly LogField[]
}

type Braced<T extends string> = T extends `${string}{${infer F}:${infer K}}${infer Rest}`
  ? [F, K] | Braced<Rest>
  : never
type NameOf<P> = P extends [infer F extends string, string] ? F : never
type ValueOf<P> = P extends [string, infer K extends FieldKind] ? KindValues[K] : never

/** Names of the fields of an event. */
export type FieldNameOf<E extends LogEvent> = NameOf<Braced<E['template']>>

/** Values of the fields of an event, as people write them: 64-bit ones as bigint. */
export type FieldValues<E extends LogEvent> = {
  readonly [P in Braced<E['template']> as NameOf<P>]: ValueOf<P>
}

/** First lane of every field of an event. */
type SlotsOf<E extends LogEvent> = Readonly<Record<FieldNameOf<E>, number>>

/** A log format: every kind of line that it declares, in the order of their numbers. */
export interface LogFormat<E extends readonly LogEvent[] = readonly LogEvent[]> {
  readonly id: string
  readonly title: string
  readonly source: string
  readonly events: E
  /** What each field name means, wherever it occurs. */
  readonly fieldDocs: Readonly<Record<string, string>>
  /** Number of each event: what a batch holds. */
  readonly number: { readonly [V in E[number] as V['name']]: number }
  /** First lane of each field of each event. */
  readonly slot: { readonly [V in E[number] as V['name']]: SlotsOf<V> }
}

/** Letters of a `rwxpl` field, in their order, and the bit of each. */
export const ACCESS_LETTERS = [
  ['r', PAGE_REQUEST.READ],
  ['w', PAGE_REQUEST.WRITE],
  ['x', PAGE_REQUEST.EXECUTE],
  ['p', PAGE_REQUEST.PRIVILEGED],
  ['l', PAGE_REQUEST.LAST],
] as const

const NAME = /^[a-z][a-z0-9_]+$/
const PRINTABLE = /^[\x20-\x7e]*$/
/** What cannot follow a field at once: no end of the field would show. */
const HEX_GOES_ON = /^(?:$|[0-9a-f])/
const DECIMAL_GOES_ON = /^(?:$|[0-9])/
const CONTINUES: Readonly<Record<FieldKind, RegExp>> = {
  x64: HEX_GOES_ON,
  x32: HEX_GOES_ON,
  x8: HEX_GOES_ON,
  x64z: HEX_GOES_ON,
  rwxpl: /^$/,
  pointer: HEX_GOES_ON,
  d64: DECIMAL_GOES_ON,
  d32: DECIMAL_GOES_ON,
  u32: DECIMAL_GOES_ON,
  text: /^$/,
}
const FIELD = /\{(\w+):(\w+)\}/g

function partsOf(name: string, template: string): LogPart[] {
  const parts: LogPart[] = []
  let at = 0
  let slot = 0
  for (const found of template.matchAll(FIELD)) {
    const kind = found[2] as FieldKind
    const lanes = Object.hasOwn(FIELD_KINDS, kind) ? FIELD_KINDS[kind].lanes : undefined
    if (lanes === undefined) throw wrong(name, `no kind of field is called ${kind}`)
    parts.push({ literal: template.slice(at, found.index), field: { name: found[1] as string, kind, slot } })
    slot += lanes
    at = found.index + found[0].length
  }
  if (slot > LANES_MAX) throw wrong(name, `its fields take ${slot} lanes, at most ${LANES_MAX}`)
  if (at < template.length) parts.push({ literal: template.slice(at), field: undefined })
  return parts
}

const wrong = (event: string, why: string): IommulatorError =>
  new IommulatorError('ERR_DECLARATION', `log event ${event}: ${why}`)

/** What makes a template ambiguous: the end of every field must show in the literal that follows it, or be that of the line. */
function checkParts(name: string, parts: readonly LogPart[]): void {
  const names = new Set<string>()
  let texts = 0
  parts.forEach(({ literal, field }, i) => {
    if (!PRINTABLE.test(literal)) throw wrong(name, 'a literal holds other than printable ASCII')
    if (field === undefined) return
    if (names.has(field.name)) throw wrong(name, `field ${field.name} stands twice`)
    names.add(field.name)
    const after = parts[i + 1]?.literal
    if (after !== undefined && CONTINUES[field.kind].test(after)) {
      throw wrong(name, `no text shows where field ${field.name} ends`)
    }
    if (field.kind !== 'text') return
    texts++
    const later = parts.slice(i + 2).map((p) => p.literal)
    if (texts > 1 || (after !== undefined && later.some((l) => l.includes(after)))) {
      throw wrong(name, `the end of text ${field.name} can be read in two ways`)
    }
  })
}

/**
 * Declares one kind of line: `head` is left out where it is the name and a space. A template whose fields cannot be told apart does not load.
 *
 * @throws IommulatorError ERR_DECLARATION
 * @example
 * logEvent('tick', 'n={count:u32} at 0x{address:x64}', { doc: 'A tick.', example: 'tick n=1 at 0xff' })
 */
export function logEvent<const N extends string, const T extends string>(
  name: N,
  template: T,
  about: { readonly doc: string; readonly example: string; readonly head?: string },
): LogEvent<N, T> {
  if (!NAME.test(name)) throw wrong(name, 'this is no event name')
  const parts = partsOf(name, template)
  checkParts(name, parts)
  const fields = parts.flatMap(({ field }) => (field === undefined ? [] : [field]))
  return Object.freeze({ name, head: `${name} `, template, parts, fields, ...about })
}

/** Gathers the events of a format; every field name needs its meaning. @throws IommulatorError ERR_DECLARATION */
export function declareLogFormat<const E extends readonly LogEvent[]>(
  about: Pick<LogFormat, 'id' | 'title' | 'source'>,
  events: E,
  fieldDocs: Readonly<Record<FieldNameOf<E[number]>, string>>,
): LogFormat<E> {
  const names = events.map((event) => event.name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw wrong(twice, 'it stands twice')
  // Made at once: an object that grows key by key becomes a hash table, and these are asked for every line.
  const number = Object.fromEntries(names.map((name, i) => [name, i]))
  const slot = Object.fromEntries(
    events.map(({ name, fields }) => [name, Object.fromEntries(fields.map((f) => [f.name, f.slot]))]),
  )
  return Object.freeze({
    ...about,
    events,
    fieldDocs,
    number: Object.freeze(number) as LogFormat<E>['number'],
    slot: Object.freeze(slot) as LogFormat<E>['slot'],
  })
}

function printed(kind: FieldKind, value: bigint | number | string): string {
  switch (kind) {
    case 'x64':
      return BigInt.asUintN(64, value as bigint).toString(16)
    case 'x32':
      return ((value as number) >>> 0).toString(16)
    case 'x64z':
      return BigInt.asUintN(64, value as bigint)
        .toString(16)
        .padStart(16, '0')
    case 'rwxpl':
      return ACCESS_LETTERS.map(([letter, bit]) => (((value as number) & bit) !== 0 ? letter : '-')).join('')
    case 'x8':
      return ((value as number) & 0xff).toString(16).padStart(2, '0')
    case 'pointer':
      return value === 0n ? '(nil)' : hex(value as bigint)
    default:
      return String(value)
  }
}

/**
 * The line that the machine prints for an event, without a line end.
 *
 * @example formatLine(TICK, { count: 1, address: 0xffn }) // 'tick n=1 at 0xff'
 */
export function formatLine<E extends LogEvent>(event: E, values: FieldValues<E>): string {
  let line = event.head
  for (const { literal, field } of event.parts) {
    line += literal
    if (field === undefined) continue
    const value = (values as Readonly<Record<string, bigint | number | string>>)[field.name]
    assert(value !== undefined, `event ${event.name} has its field ${field.name}`)
    line += printed(field.kind, value)
  }
  return line
}
