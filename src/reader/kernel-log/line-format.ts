import { IommulatorError } from '../../bits/errors.ts'

/** How a value stands in a line: the characters that it takes, and what it is read as. Every form is bounded. */
export const LINE_KINDS = {
  x: { pattern: '[0-9a-fA-F]{1,16}', doc: 'hexadecimal digits without 0x; a bigint' },
  d: { pattern: '[0-9]{1,15}', doc: 'decimal digits; a number' },
  sd: { pattern: '-?[0-9]{1,15}', doc: 'a signed decimal number' },
  bdf: { pattern: '[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]', doc: 'bus:device.function; a text' },
  bdf0x: { pattern: '0x[0-9a-f]{2}:0x[0-9a-f]{2}\\.[0-7]', doc: 'the same with 0x, read without it' },
  sbdf: {
    pattern: '[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]',
    doc: 'segment:bus:device.function; a text',
  },
  access: {
    pattern: 'DMA (?:Read|Write)(?: NO_PASID| PASID 0x[0-9a-f]{1,8})?',
    doc: 'what a VT-d unit says of a request: its direction, and its PASID where the version prints it there',
  },
  blank: {
    pattern: '[ \\t]{1,16}',
    doc: 'blanks and tabs, which copies of a log rarely keep as they were; a text',
  },
  name: { pattern: '[a-z0-9_]{1,60}', doc: 'letters, digits and underscores; a text' },
  word: { pattern: '[^\\s]{1,80}', doc: 'a text without blanks' },
  text: { pattern: '.{0,300}', doc: 'any text; at most two of a line' },
  long: { pattern: '.{0,1800}', doc: 'any text to the end of the line' },
} as const

export type LineKind = keyof typeof LINE_KINDS

interface LineKindValues {
  x: bigint
  d: number
  sd: number
  bdf: string
  bdf0x: string
  sbdf: string
  access: string
  blank: string
  name: string
  word: string
  text: string
  long: string
}

type Braced<T extends string> = T extends `${string}{${infer F}:${infer K}}${infer Rest}`
  ? [F, K] | Braced<Rest>
  : never
type NameOf<P> = P extends [infer F extends string, string] ? F : never
type ValueOf<P> = P extends [string, infer K extends LineKind] ? LineKindValues[K] : never

/** Values of the fields of a template, by name. */
export type LineValues<T extends string> = { readonly [P in Braced<T> as NameOf<P>]: ValueOf<P> }

export interface LineField {
  readonly name: string
  readonly kind: LineKind
}

/** One kind of line, as a kernel, a hypervisor or QEMU prints it. */
export interface LineTemplate<T extends string = string> {
  readonly id: string
  /** What may stand before the template: a message in which only its prefix changed between versions. */
  readonly heads: readonly string[]
  /** The message behind time stamp and prefix: literal text, with `{field:kind}` where values stand. */
  readonly template: T
  /** Which versions print it, in words: `Linux 5.4-5.13`. */
  readonly era: string
  /** What happened when this line was printed, and what of it is easily misread. */
  readonly doc: string
  /** A line as a real log has it, with its prefix. */
  readonly example: string
  readonly fields: readonly LineField[]
  /** Matches the template from `lastIndex` to the end of the line; blanks may follow it. */
  readonly pattern: RegExp
  /** The longest literal of it: a line without that text is not looked at. */
  readonly anchor: string
}

/** The lines of one driver or program. */
export interface LineFamily {
  readonly id: string
  readonly title: string
  /** Where the texts come from: files and versions. */
  readonly source: string
  /** Whether the model knows this hardware; otherwise lines are decoded, and the output says so. */
  readonly isModelled: boolean
  /** Words that only lines of this family hold: a line with one of them that no template takes is told of. */
  readonly mentions: readonly string[]
  readonly templates: readonly LineTemplate[]
}

const FIELD = /\{(\w+):(\w+)\}/g
const HEX_GOES_ON = /^(?:$|[0-9a-fA-F])/
const DECIMAL_GOES_ON = /^(?:$|[0-9])/
const CONTINUES: Readonly<Record<LineKind, RegExp>> = {
  x: HEX_GOES_ON,
  d: DECIMAL_GOES_ON,
  sd: DECIMAL_GOES_ON,
  bdf: /^$/,
  bdf0x: /^$/,
  sbdf: /^$/,
  access: /^$/,
  blank: /^(?:$|[ \t])/,
  name: /^(?:$|[a-z0-9_])/,
  word: /^$/,
  text: /^$/,
  long: /^/,
}
const TEXTS_MAX = 2
/** A template is looked for by its longest literal: a shorter one stands in too many lines. */
const ANCHOR_MIN = 4

const wrong = (id: string, why: string): IommulatorError =>
  new IommulatorError('ERR_DECLARATION', `line ${id}: ${why}`)

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')

/**
 * Declares one kind of line. A template whose fields cannot be told apart, or that could be slow on some input, does
 * not load.
 *
 * @throws IommulatorError ERR_DECLARATION
 * @example
 * kernelLine('vtd-status', 'DRHD: handling fault status reg {status:x}', {
 *   heads: ['DMAR: ', 'dmar: ', ''],
 *   era: 'all',
 *   doc: 'The fault interrupt came.',
 *   example: '[    5.793582] DMAR: DRHD: handling fault status reg 2',
 * })
 */
export function kernelLine<const T extends string>(
  id: string,
  template: T,
  about: {
    readonly heads?: readonly string[]
    readonly era: string
    readonly doc: string
    readonly example: string
  },
): LineTemplate<T> {
  const fields: LineField[] = []
  const literals: string[] = []
  let source = ''
  let at = 0
  let texts = 0
  for (const found of template.matchAll(FIELD)) {
    const [, name = '', kind = ''] = found
    if (!Object.hasOwn(LINE_KINDS, kind)) throw wrong(id, `no kind of field is called ${kind}`)
    if (fields.some((field) => field.name === name)) throw wrong(id, `field ${name} stands twice`)
    const literal = template.slice(at, found.index)
    const before = fields.at(-1)
    // Blanks end a number as a literal does.
    const next = literal === '' && kind === 'blank' ? ' ' : literal
    if (before !== undefined && CONTINUES[before.kind].test(next)) {
      throw wrong(id, `no text shows where field ${before.name} ends`)
    }
    const field = { name, kind: kind as LineKind }
    if (field.kind === 'text' || field.kind === 'long') texts++
    fields.push(field)
    literals.push(literal)
    source += `${escaped(literal)}(${LINE_KINDS[field.kind].pattern}${field.kind === 'text' || field.kind === 'long' ? '?' : ''})`
    at = found.index + found[0].length
  }
  if (texts > TEXTS_MAX) throw wrong(id, `it has ${texts} texts, at most ${TEXTS_MAX}`)
  const tail = template.slice(at)
  const final = fields.at(-1)
  if (tail !== '' && final !== undefined && CONTINUES[final.kind].test(tail)) {
    throw wrong(id, `no text shows where field ${final.name} ends`)
  }
  literals.push(tail)
  const anchor = literals.reduce(
    (longest, literal) => (literal.length > longest.length ? literal : longest),
    '',
  )
  if (anchor.trim().length < ANCHOR_MIN) throw wrong(id, `no literal of it has ${ANCHOR_MIN} letters`)
  const pattern = new RegExp(`${source}${escaped(tail)}\\s{0,8}$`, 'y')
  return Object.freeze({ id, template, fields, anchor, pattern, heads: [''], ...about })
}

/** The values of a match, in the order of the fields of the template. */
export function lineValues<T extends string>(
  { fields }: LineTemplate<T>,
  found: readonly (string | undefined)[],
): LineValues<T> {
  const values: Record<string, bigint | number | string> = {}
  fields.forEach(({ name, kind }, i) => {
    values[name] = readAs(kind, found[i + 1] ?? '')
  })
  return values as LineValues<T>
}

function readAs(kind: LineKind, text: string): bigint | number | string {
  switch (kind) {
    case 'x':
      return BigInt(`0x${text}`)
    case 'd':
    case 'sd':
      return Number(text)
    case 'bdf0x':
      return text.replaceAll('0x', '')
    default:
      return text
  }
}

/** Gathers the lines of one driver. @throws IommulatorError ERR_DECLARATION */
export function declareLineFamily(family: LineFamily): LineFamily {
  const ids = family.templates.map(({ id }) => id)
  const twice = ids.find((id, i) => ids.indexOf(id) !== i)
  if (twice !== undefined) throw wrong(twice, 'it stands twice')
  const short = family.mentions.find((word) => word.length < ANCHOR_MIN)
  if (short !== undefined) throw wrong(family.id, `"${short}" has less than ${ANCHOR_MIN} letters`)
  return Object.freeze(family)
}
