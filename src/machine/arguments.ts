import type { Value } from '../bits/answer.ts'
import type { ArgDecl, ArgType, CallDecl } from '../bits/call.ts'
import { IommulatorError } from '../bits/errors.ts'
import { didYouMean } from '../bits/suggest.ts'
import { hex, parseU64 } from '../bits/u64.ts'

const WIDTH_BITS: Partial<Record<ArgType, number>> = { u8: 8, u16: 16, u32: 32, u64: 64, count: 53 }

/** What is wrong with a value for an argument, as the end of a sentence. */
type Wrong = string

function numberOf(value: Value, bits: number): bigint | Wrong {
  if (typeof value === 'string') {
    try {
      return parseU64(value, bits)
    } catch (error) {
      return (error as Error).message
    }
  }
  if (typeof value !== 'bigint' && typeof value !== 'number') return 'must be a number'
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    return `${value} is not an exact whole number`
  const n = BigInt(value)
  return n < 0n || n >> BigInt(bits) !== 0n ? `${n < 0n ? n : hex(n)} does not fit ${bits} bits` : n
}

function textOf(value: Value, arg: ArgDecl): Value | Error {
  if (typeof value !== 'string') return new Error('must be a text')
  if (arg.type === 'choice' && !(arg.choices ?? []).includes(value)) {
    return new Error(
      `"${value}" is none of ${(arg.choices ?? []).join(', ')}${didYouMean(value, arg.choices ?? [])}`,
    )
  }
  if (arg.type === 'bytes' && value.startsWith('hex:') && !/^hex:([0-9a-f]{2}|\s)*$/i.test(value)) {
    return new Error('"hex:" is followed by pairs of hexadecimal digits')
  }
  return value
}

function listOf(value: Value, arg: ArgDecl): Value | Error {
  if (!Array.isArray(value)) return new Error('must be a list')
  const out: Value[] = []
  for (const [i, item] of (value as readonly Value[]).entries()) {
    if (arg.type === 'words') {
      const n = numberOf(item, 64)
      if (typeof n === 'string') return new Error(`item ${i + 1}: ${n}`)
      out.push(n)
      continue
    }
    const segment = item as Readonly<Record<string, Value>>
    const address = numberOf(segment?.['address'] ?? '', 64)
    const bytes = numberOf(segment?.['bytes'] ?? '', 53)
    if (typeof address === 'string') return new Error(`item ${i + 1}: address ${address}`)
    if (typeof bytes === 'string') return new Error(`item ${i + 1}: bytes ${bytes}`)
    out.push({ address, bytes })
  }
  return out
}

function valueFor(value: Value, arg: ArgDecl): Value | Error {
  const bits = WIDTH_BITS[arg.type]
  if (bits !== undefined) {
    const n = numberOf(value, bits)
    return typeof n === 'string' ? new Error(n) : n
  }
  if (arg.type === 'flag') return typeof value === 'boolean' ? value : new Error('must be true or false')
  if (arg.type === 'words' || arg.type === 'segments') return listOf(value, arg)
  return textOf(value, arg)
}

/**
 * The arguments of a call, complete and in the types that handlers expect: numbers as bigint, optional ones
 * that are missing at their initial value (left out where there is none).
 *
 * @throws IommulatorError ERR_OPERATION naming the argument: missing, unknown, or of the wrong kind
 * @example completeArguments(H_GET_TCE, { liobn: '0x80000000', ioba: 4096 }) // { liobn: 2147483648n, ioba: 4096n }
 */
export function completeArguments(
  decl: CallDecl,
  given: Readonly<Record<string, Value>>,
): Readonly<Record<string, Value>> {
  const known = Object.keys(decl.args)
  const refuse = (field: string, what: string) => {
    throw new IommulatorError('ERR_OPERATION', `${decl.name}: ${field} ${what}`, { call: decl.name, field })
  }
  for (const field of Object.keys(given)) {
    if (!Object.hasOwn(decl.args, field)) {
      refuse(field, `is no argument of it${didYouMean(field, known)}; it has: ${known.join(', ') || 'none'}`)
    }
  }
  const out: Record<string, Value> = {}
  for (const [field, arg] of Object.entries<ArgDecl>(decl.args)) {
    const value = given[field] ?? arg.initial
    if (value === undefined) {
      if (arg.optional !== true) refuse(field, 'is missing')
      continue
    }
    const made = valueFor(value, arg)
    if (made instanceof Error) refuse(field, made.message)
    else out[field] = made
  }
  return out
}
