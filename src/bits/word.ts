import { IommulatorError } from './errors.ts'
import { hex } from './u64.ts'

/**
 * How software may touch a field.
 * `rw` read and write, `ro` read only, `wo` write only (reads 0), `rw1c` write 1 to clear, `rsvd` reserved:
 * keeps its value, reads 0.
 */
export type Access = 'rw' | 'ro' | 'wo' | 'rw1c' | 'rsvd'

/** Bits `hi`..`lo` of a word, counted from the least significant bit. */
export interface Field {
  readonly hi: number
  readonly lo: number
  readonly access: Access
  readonly doc: string
}

/** A register, a table entry or a descriptor word: a name, a width and its fields. */
export interface Word<F extends string = string> {
  readonly name: string
  readonly widthBits: 8 | 16 | 32 | 64
  /** Manual and section title, or kernel version and file. */
  readonly source: string
  readonly fields: Readonly<Record<F, Field>>
}

export const bits = (hi: number, lo: number, access: Access, doc: string): Field => ({ hi, lo, access, doc })
export const bit = (at: number, access: Access, doc: string): Field => bits(at, at, access, doc)

const widthOf = ({ hi, lo }: Field): bigint => BigInt(hi - lo + 1)
const maskOfField = (field: Field): bigint => ((1n << widthOf(field)) - 1n) << BigInt(field.lo)

/**
 * Declares a word. Fields may not overlap nor leave the word: a wrong declaration does not load.
 *
 * @throws IommulatorError ERR_DECLARATION
 * @example
 * const TCE = word('TCE', 64, 'LoPAR, TCE definition', { read: bit(0, 'rw', 'The device may read.') })
 */
export function word<F extends string>(
  name: string,
  widthBits: Word['widthBits'],
  source: string,
  fields: Readonly<Record<F, Field>>,
): Word<F> {
  let used = 0n
  for (const [key, field] of Object.entries<Field>(fields)) {
    const mask = maskOfField(field)
    if (field.lo < 0 || field.hi < field.lo || field.hi >= widthBits) {
      throw new IommulatorError(
        'ERR_DECLARATION',
        `${name}.${key}: bits ${field.hi}:${field.lo} leave the word`,
      )
    }
    if ((used & mask) !== 0n) throw new IommulatorError('ERR_DECLARATION', `${name}.${key} overlaps a field`)
    used |= mask
  }
  return Object.freeze({ name, widthBits, source, fields })
}

/** The bits of a word that software may touch in the given way. */
export function maskOf(w: Word, access: Access): bigint {
  let mask = 0n
  for (const field of Object.values(w.fields)) if (field.access === access) mask |= maskOfField(field)
  return mask
}

/** The bits of one field. */
export const fieldMask = <F extends string>(w: Word<F>, field: F): bigint => maskOfField(w.fields[field])

/** The value of one field. */
export function get<F extends string>(w: Word<F>, raw: bigint, field: F): bigint {
  const f = w.fields[field]
  return (raw & maskOfField(f)) >> BigInt(f.lo)
}

/** The word with one field replaced. @throws IommulatorError ERR_WORD_RANGE */
export function put<F extends string>(w: Word<F>, raw: bigint, field: F, value: bigint): bigint {
  const f = w.fields[field]
  if (value < 0n || value >> widthOf(f) !== 0n) {
    throw new IommulatorError('ERR_WORD_RANGE', `${hex(value)} does not fit ${w.name}.${field}`, { field })
  }
  return (raw & ~maskOfField(f)) | (value << BigInt(f.lo))
}

/** All fields of a raw word. Bits outside every field are not shown. */
export function decode<F extends string>(w: Word<F>, raw: bigint): Record<F, bigint> {
  const out = {} as Record<F, bigint>
  for (const name of Object.keys(w.fields) as F[]) out[name] = get(w, raw, name)
  return out
}

/** A raw word from fields; those not given are 0. @throws IommulatorError ERR_WORD_RANGE */
export function encode<F extends string>(w: Word<F>, values: Partial<Record<NoInfer<F>, bigint>>): bigint {
  let raw = 0n
  for (const [name, value] of Object.entries<bigint | undefined>(values)) {
    if (value !== undefined) raw = put(w, raw, name as F, value)
  }
  return raw
}
