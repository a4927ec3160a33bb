/**
 * Whole numbers as texts: decimal, `0x` hexadecimal, `_` between digits, and sizes such as `256 MiB`. The grammar
 * exists twice, as a reader and as regular expressions for JSON Schema; a property test holds them together.
 */

/** Texts longer than this are no numbers: 64 bits need at most 20 digits. */
export const NUMBER_CHARS = 80

const UNIT_SHIFTS = { K: 10n, M: 20n, G: 30n, T: 40n, P: 50n, E: 60n } as const
type Unit = keyof typeof UNIT_SHIFTS
const UNITS = Object.keys(UNIT_SHIFTS) as Unit[]

const DECIMAL = '(?:0|[1-9][0-9]*(?:_[0-9]+)*)'
const PLAIN = new RegExp(`^(?:${DECIMAL}|0x[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)$`)
const SIZE = new RegExp(`^(${DECIMAL}) ?([${UNITS.join('')}])(?:iB)?$`)

/** The number that a text stands for, or undefined where it is none. */
export function readNumber(text: string, sizes: boolean): bigint | undefined {
  if (text.length > NUMBER_CHARS) return undefined
  if (PLAIN.test(text)) return BigInt(text.replaceAll('_', ''))
  const match = sizes ? SIZE.exec(text) : null
  if (match === null) return undefined
  const [, digits = '', unit = 'K'] = match
  return BigInt(digits.replaceAll('_', '')) << UNIT_SHIFTS[unit as Unit]
}

/** Bytes as a person writes them: in the greatest unit that divides them, or plain. */
export function sizeText(bytes: bigint): string {
  const unit = UNITS.findLast((u) => bytes !== 0n && bytes % (1n << UNIT_SHIFTS[u]) === 0n)
  return unit === undefined ? bytes.toString() : `${bytes >> UNIT_SHIFTS[unit]} ${unit}iB`
}

/** A class of the digits `from` to `to`, in both cases of letters. */
function digitClass(from: number, to: number): string {
  const digits = Array.from({ length: to - from + 1 }, (_, i) => (from + i).toString(16))
  return `[${digits.map((d) => (/[a-f]/.test(d) ? d + d.toUpperCase() : d)).join('')}]`
}

/** Texts without leading zeros, `_` allowed between digits, for the numbers from 1 to `most`. */
function positivePattern(most: bigint, radix: 10 | 16): string {
  const digits = [...most.toString(radix)].map((d) => Number.parseInt(d, radix))
  const rest = `(?:_?${digitClass(0, radix - 1)})`
  const ways: string[] = []
  if (digits.length > 1) ways.push(`${digitClass(1, radix - 1)}${rest}{0,${digits.length - 2}}`)
  let prefix = ''
  digits.forEach((digit, i) => {
    const lowest = i === 0 ? 1 : 0
    const after = digits.length - 1 - i
    if (digit > lowest)
      ways.push(`${prefix}${digitClass(lowest, digit - 1)}${after === 0 ? '' : `${rest}{${after}}`}`)
    prefix += `${digitClass(digit, digit)}${after === 0 ? '' : '_?'}`
  })
  return `(?:${[...ways, prefix].join('|')})`
}

/** Texts of the numbers from 0 to `most`, in every form. */
function upTo(most: bigint, sizes: boolean): string {
  const ways = ['0', '0x0(?:_?0)*']
  if (most > 0n) ways.push(positivePattern(most, 10), `0x(?:0_?)*${positivePattern(most, 16)}`)
  for (const unit of sizes ? UNITS : []) {
    const units = most >> UNIT_SHIFTS[unit]
    ways.push(`(?:0${units > 0n ? `|${positivePattern(units, 10)}` : ''}) ?${unit}(?:iB)?`)
  }
  return `(?:${ways.join('|')})`
}

/** Texts of one number from 1 on, in every form. */
function exactly(value: bigint): string {
  const digits = (radix: 10 | 16) =>
    [...value.toString(radix)].map((d) => digitClass(Number.parseInt(d, radix), Number.parseInt(d, radix)))
  const ways = [digits(10).join('_?'), `0x(?:0_?)*${digits(16).join('_?')}`]
  for (const unit of UNITS) {
    const units = value >> UNIT_SHIFTS[unit]
    if (units > 0n && units << UNIT_SHIFTS[unit] === value) {
      ways.push(`${[...units.toString()].join('_?')} ?${unit}(?:iB)?`)
    }
  }
  return `(?:${ways.join('|')})`
}

/** A regular expression for exactly the texts with which `readNumber` gives one of these numbers. */
export const amongPattern = (values: readonly bigint[]): string => `^(?:${values.map(exactly).join('|')})$`

/** A regular expression for exactly the texts that `readNumber` takes and that lie in [min, max]. */
export function numberPattern(min: bigint, max: bigint, sizes: boolean): string {
  const notBelow = min > 0n ? `(?!${upTo(min - 1n, sizes)}$)` : ''
  return `^${notBelow}${upTo(max, sizes)}$`
}
