import type { CallDecl } from '../bits/call.ts'
import { CODE_FAMILIES, type CodeFamily, codeName } from '../bits/codes.ts'
import { IommulatorError } from '../bits/errors.ts'
import { didYouMean, holding } from '../bits/suggest.ts'
import { hex, parseU64 } from '../bits/u64.ts'
import { encode, type Field, get, type Word } from '../bits/word.ts'
import { FAULT_REASONS, type FaultReason } from '../hw/vtd/fault-reasons.ts'
import { wrapped } from '../report/layout.ts'

/** Columns of an error behind the name of the program. */
const ERROR_COLUMNS = 88

/** One field of a decoded word. */
export interface DecodedField {
  readonly name: string
  /** `63:12`, or `0` for a single bit. */
  readonly bits: string
  readonly access: string
  readonly value: bigint
  readonly doc: string
}

/** What a name and a value stand for. */
export type Decoded =
  | {
      readonly kind: 'word'
      readonly word: string
      readonly widthBits: number
      readonly raw: bigint
      readonly fields: readonly DecodedField[]
      /** Bits that are set and belong to no field. */
      readonly rest: bigint
      readonly source: string
    }
  | { readonly kind: 'code'; readonly family: string; readonly name: string; readonly number: number }
  | { readonly kind: 'call'; readonly calls: readonly CallDecl[] }
  | ({ readonly kind: 'fault'; readonly name: string } & FaultReason)

/** Everything that can be decoded: the registries, so that this file knows none by name. */
export interface Dictionary {
  readonly words: readonly Word[]
  readonly calls: readonly CallDecl[]
}

/** Names under which return codes are looked up, and their families. */
export const CODE_NAMES: Readonly<Record<string, CodeFamily>> = {
  hret: 'hcall',
  rtas_status: 'rtas',
  errno: 'errno',
}

/** Name under which fault reasons of VT-d are looked up. */
const FAULT_NAME = 'vtd_fault'

/** So many names that hold what was asked for are a help. */
const ALIKE_MAX = 12

const CALL_NAMES = ['hcall', 'rtas', 'ioctl'] as const

/** Where the direction of an ioctl stands in its number: powerpc has a bit for each, others a number of two bits. */
const DIRECTION_SHIFT = 30n
const POWERPC_DIRECTIONS: readonly bigint[] = [1n << 29n, 1n << 31n, 1n << 30n, (1n << 30n) | (1n << 31n)]

/**
 * The number of an ioctl on powerpc, given what it is on most other architectures: none, write, read or both in the
 * two upper bits. (Linux v6.1 include/uapi/asm-generic/ioctl.h, arch/powerpc/include/uapi/asm/ioctl.h)
 */
const powerpcNumber = (nr: bigint): bigint =>
  nr >> 32n === 0n && (nr & (1n << 29n)) === 0n
    ? (nr & ((1n << DIRECTION_SHIFT) - 1n)) | (POWERPC_DIRECTIONS[Number(nr >> DIRECTION_SHIFT)] as bigint)
    : nr

/** All first words that `decode` takes. */
export const decodeNames = ({ words, calls }: Dictionary): string[] => [
  ...words.map((w) => w.name),
  ...Object.keys(CODE_NAMES),
  FAULT_NAME,
  ...CALL_NAMES,
  ...new Set(calls.map((c) => c.name).filter((n) => n !== 'unknown')),
]

const byName = <T extends { readonly name: string }>(items: readonly T[], name: string): T[] =>
  items.filter((item) => item.name.toLowerCase() === name.toLowerCase())

function decodeWord(word: Word, raw: bigint): Decoded {
  if (raw >> BigInt(word.widthBits) !== 0n) {
    throw new IommulatorError(
      'ERR_NUMBER',
      `${hex(raw)} does not fit the ${word.widthBits} bits of ${word.name}`,
    )
  }
  let rest = raw
  const fields = Object.entries<Field>(word.fields)
    .sort(([, a], [, b]) => b.hi - a.hi)
    .map(([name, field]) => {
      const value = get(word, raw, name)
      rest &= ~(value << BigInt(field.lo))
      return {
        name,
        bits: field.hi === field.lo ? `${field.lo}` : `${field.hi}:${field.lo}`,
        access: field.access,
        value,
        doc: field.doc,
      }
    })
  return { kind: 'word', word: word.name, widthBits: word.widthBits, raw, fields, rest, source: word.source }
}

function encodeWord(word: Word, parts: readonly string[]): bigint {
  const values: Record<string, bigint> = {}
  for (const part of parts) {
    const [name = '', value = '1'] = part.split('=')
    const known = Object.keys(word.fields)
    const field = known.find((k) => k.toLowerCase() === name.toLowerCase())
    if (field === undefined) {
      throw new IommulatorError(
        'ERR_NUMBER',
        `${word.name} has no field "${name}"${didYouMean(name, known)}; it has: ${known.join(', ')}`,
      )
    }
    values[field] = parseU64(value)
  }
  return encode(word, values)
}

function decodeCode(label: string, family: CodeFamily, value: string): Decoded {
  const codes: Readonly<Record<string, number>> = CODE_FAMILIES[family]
  const named = Object.keys(codes).find((k) => k.toLowerCase() === value.toLowerCase().replace(/^-/, ''))
  if (named !== undefined) return { kind: 'code', family: label, name: named, number: codes[named] as number }
  if (!/^-?(0x[0-9a-f]+|\d+)$/i.test(value)) {
    throw new IommulatorError(
      'ERR_NUMBER',
      `no ${label} is called "${value}"${didYouMean(value, Object.keys(codes))}`,
    )
  }
  // Errnos are written with and without their sign; a 64-bit register shows a negative code as its complement.
  let number = value.startsWith('-')
    ? -Number(parseU64(value.slice(1)))
    : Number(BigInt.asIntN(64, parseU64(value)))
  if (codeName(family, number) === undefined && number > 0x7fff_ffff) number |= 0
  if (codeName(family, number) === undefined) number = -number
  const name = codeName(family, number)
  if (name === undefined) throw new IommulatorError('ERR_NUMBER', `no ${label} has the number ${value}`)
  return { kind: 'code', family: label, name, number }
}

/** A fault reason by its number, its name, its condition, or what Linux prints for it. */
function decodeFault(value: string): Decoded {
  const all = Object.entries(FAULT_REASONS)
  const wanted = value.toLowerCase()
  const number = /^[0-9]/.test(value) ? Number(parseU64(value, 8)) : undefined
  const found = all.find(([name, { code, condition, kernelText }]) =>
    number === undefined
      ? [name, condition, kernelText].some((text) => text.toLowerCase() === wanted)
      : code === number,
  )
  if (found !== undefined) return { kind: 'fault', name: found[0], ...found[1] }
  const hint =
    number === undefined
      ? didYouMean(
          value,
          all.map(([name]) => name),
        )
      : ''
  throw new IommulatorError('ERR_NUMBER', `no fault reason of VT-d is ${value}${hint}`)
}

function decodeCall(verb: string, calls: readonly CallDecl[], value: string): Decoded {
  const of = calls.filter((c) => c.verb === verb)
  const found = byName(of, value)
  if (found.length > 0) return { kind: 'call', calls: found }
  const known = [...new Set(of.map((c) => c.name))]
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(value)) {
    throw new IommulatorError('ERR_NUMBER', `no ${verb} is called "${value}"${didYouMean(value, known)}`)
  }
  const given = parseU64(value)
  const has = (nr: bigint) => of.filter((c) => c.nr !== undefined && BigInt(c.nr) === nr)
  const exact = has(given)
  const numbered = exact.length === 0 && verb === 'ioctl' ? has(powerpcNumber(given)) : exact
  if (numbered.length === 0) throw new IommulatorError('ERR_NUMBER', `the model declares no ${verb} ${value}`)
  return { kind: 'call', calls: numbered }
}

/**
 * What a name and its values stand for, both directions: a word and a raw value, a word and `FIELD=VALUE`
 * parts, a family of codes and a number or name, a call.
 *
 * @throws IommulatorError ERR_NUMBER with what is known, for a name or value that is not
 * @example decodeName({ words: [TCE], calls: [] }, 'tce', ['0x1234003'])
 */
export function decodeName(dictionary: Dictionary, name: string, values: readonly string[]): Decoded {
  const [word] = byName(dictionary.words, name)
  const [first] = values
  if (word !== undefined) {
    if (first === undefined) {
      throw new IommulatorError('ERR_NUMBER', `${word.name} needs a value, or FIELD=VALUE parts`)
    }
    const isNumber = /^[0-9]/.test(first)
    return decodeWord(word, isNumber ? parseU64(first) : encodeWord(word, values))
  }
  const label = name.toLowerCase()
  const family = CODE_NAMES[label]
  // `ioctl` is the name of a call, too: with a value it is the kind of call.
  const isKind = first !== undefined && (CALL_NAMES as readonly string[]).includes(label)
  const named = isKind ? [] : byName(dictionary.calls, name)
  if (named.length > 0) return { kind: 'call', calls: named }
  if (label === FAULT_NAME && first !== undefined) return decodeFault(values.join(' '))
  if (family !== undefined || label === FAULT_NAME || (CALL_NAMES as readonly string[]).includes(label)) {
    if (first === undefined) throw new IommulatorError('ERR_NUMBER', `${label} needs a number or a name`)
    return family !== undefined
      ? decodeCode(label, family, first)
      : decodeCall(label, dictionary.calls, first)
  }
  const names = decodeNames(dictionary)
  const alike = holding(name, names)
  if (alike.length > 0 && alike.length <= ALIKE_MAX) {
    throw new IommulatorError(
      'ERR_NUMBER',
      `nothing is called "${name}"${didYouMean(name, alike)}; near it: ${alike.join(', ')}`,
    )
  }
  const known = [
    ...dictionary.words.map((w) => w.name),
    ...Object.keys(CODE_NAMES),
    FAULT_NAME,
    ...CALL_NAMES,
  ]
  const why = `nothing is called "${name}"${didYouMean(name, names)}; known: ${known.join(', ')}, and the names of calls`
  throw new IommulatorError('ERR_NUMBER', wrapped('', why, ERROR_COLUMNS).join('\n'))
}
