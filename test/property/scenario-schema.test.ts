import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { scenarioJsonSchema, scenarioSchema } from '../../src/machine/scenario/scenario-schema.ts'
import { checkValue } from '../../src/machine/schema/check-value.ts'
import { jsonSchemaOf } from '../../src/machine/schema/json-schema.ts'
import { amongPattern, numberPattern, readNumber, sizeText } from '../../src/machine/schema/number-text.ts'
import {
  bytes,
  bytesAmong,
  count,
  list,
  map,
  optional,
  required,
  text,
  word,
} from '../../src/machine/schema/schema.ts'
import { SAMPLE } from '../cli/sample-catalogue.ts'

/** A value as JSON has it: integers beyond 2^53 as texts. */
const json = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_key, v: unknown) => {
      if (typeof v !== 'bigint') return v
      return v > -(1n << 53n) && v < 1n << 53n ? Number(v) : `0x${v.toString(16)}`
    }) ?? 'null',
  )

describe('numbers as texts', () => {
  const group = (digits: string, at: number) =>
    digits.length > 1
      ? `${digits.slice(0, 1 + (at % (digits.length - 1)))}_${digits.slice(1 + (at % (digits.length - 1)))}`
      : digits
  const near = fc.tuple(
    fc.oneof(
      fc.bigInt(0n, 1n << 66n),
      fc.nat(64).map((n) => 1n << BigInt(n)),
      fc.nat(300).map(BigInt),
    ),
    fc.integer({ min: -2, max: 2 }),
    fc.nat(),
    fc.constantFrom(
      'dec',
      'hex',
      'HEX',
      'zeros',
      'grouped',
      'groupedHex',
      'K',
      ' MiB',
      ' G',
      'EiB',
      ' KB',
      '',
      ' ',
      '_',
    ),
  )
  const textOf = near.map(([base, off, at, form]) => {
    const n = base + BigInt(off) < 0n ? 0n : base + BigInt(off)
    const hexDigits = n.toString(16)
    const forms: Record<string, string> = {
      dec: n.toString(),
      hex: `0x${hexDigits}`,
      HEX: `0x${hexDigits.toUpperCase()}`,
      zeros: `${at % 2 === 0 ? '0x00_0' : '0'}${hexDigits}`,
      grouped: group(n.toString(), at),
      groupedHex: `0x${group(hexDigits, at)}`,
    }
    return forms[form] ?? `${n >> BigInt(at % 64)}${form}`
  })
  const bound = fc.oneof(
    fc.constantFrom(
      0n,
      1n,
      9n,
      10n,
      15n,
      16n,
      31n,
      255n,
      0xffffn,
      0xffff_ffffn,
      (1n << 53n) - 1n,
      (1n << 64n) - 1n,
    ),
    fc.bigInt(0n, (1n << 64n) - 1n),
  )

  it('the pattern accepts what the reader reads within the bounds, and nothing else', () => {
    fc.assert(
      fc.property(
        bound,
        bound,
        fc.boolean(),
        fc.array(textOf, { minLength: 20, maxLength: 20 }),
        (a, b, sizes, texts) => {
          const [min, max] = a < b ? [a, b] : [b, a]
          const pattern = new RegExp(numberPattern(min, max, sizes), 'u')
          const ends = [min, max, min - 1n, max + 1n].filter((n) => n >= 0n)
          for (const t of [...texts, ...ends.flatMap((n) => [`${n}`, `0x${n.toString(16)}`, sizeText(n)])]) {
            const n = readNumber(t, sizes)
            expect([t, pattern.test(t)]).toEqual([t, n !== undefined && n >= min && n <= max])
          }
        },
      ),
      { numRuns: 150 },
    )
  })

  it('one of some numbers: likewise', () => {
    const sizes = [4096n, 65536n, 2n << 20n, 1n << 34n, 12345n]
    const pattern = new RegExp(amongPattern(sizes), 'u')
    const forms = sizes.flatMap((s) => [`${s}`, sizeText(s), `0x${s.toString(16)}`])
    const written = [...forms, '4K', '2048K', '64K', '12_345', '16G', '0x00_1000', '04096', '17 GiB']
    fc.assert(
      fc.property(fc.oneof(textOf, fc.constantFrom(...written)), (t) => {
        const n = readNumber(t, true)
        expect([t, pattern.test(t)]).toEqual([t, n !== undefined && sizes.includes(n)])
      }),
      { numRuns: 500 },
    )
  })

  it('a size is written so that it reads as itself', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          bound,
          fc.nat(63).map((n) => 3n << BigInt(n)),
        ),
        (n) => {
          expect(readNumber(sizeText(n), true)).toBe(n)
        },
      ),
    )
  })
})

type Tree = null | boolean | number | bigint | string | Tree[] | { [key: string]: Tree }

/** Every place of a value, as its container and key. */
function placesOf(value: Tree, into: [Tree[] | { [key: string]: Tree }, string][] = []) {
  if (typeof value !== 'object' || value === null) return into
  for (const [key, item] of Object.entries(value)) {
    into.push([value, key])
    placesOf(item, into)
  }
  return into
}

const VALID = ['every-kind.yaml', 'least.json', 'powernv.yaml', 'q35.yaml'].map(
  (name) =>
    parse(readFileSync(`test/cli/valid-scenarios/${name}`, 'utf8'), {
      intAsBigInt: true,
      maxAliasCount: 100,
    }) as Tree,
)
const WORDS = VALID.flatMap((v) =>
  placesOf(structuredClone(v)).flatMap(([c, k]) => [k, (c as { [key: string]: Tree })[k]]),
)
const KEYS = WORDS.filter((w): w is string => typeof w === 'string')

const strange: fc.Arbitrary<Tree> = fc.oneof(
  fc.constantFrom<Tree>(
    null,
    true,
    false,
    0n,
    1n,
    -1n,
    1.5,
    2.0,
    255n,
    256n,
    4096n,
    1n << 32n,
    (1n << 53n) - 1n,
    1n << 53n,
    1n << 70n,
  ),
  fc.constantFrom<Tree>(
    '',
    ' ',
    '0',
    '0x',
    '0x10',
    '1_0',
    '4 KiB',
    '4K',
    '4KB',
    'hex:',
    'hex:12',
    'hex:1',
    'H_SUCCESS',
    'a\nb',
    'a b',
  ),
  fc.constantFrom<Tree>(
    [],
    {},
    [[]],
    [{}],
    { a: 1n },
    '\u{1f600}'.repeat(64),
    'x'.repeat(64),
    'x'.repeat(65),
    'x'.repeat(201),
  ),
  fc.constantFrom(...WORDS.filter((w): w is Tree => w !== undefined)),
)

const mutation = fc.record({
  place: fc.nat(),
  how: fc.constantFrom('replace', 'remove', 'rename', 'add', 'copy', 'shorten'),
  key: fc.oneof(
    fc.constantFrom(...KEYS),
    fc.constantFrom('start', 'vhost', 'zz', '__proto__', 'constructor'),
  ),
  value: strange,
})
type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never

function mutate(value: Tree, { place, how, key, value: other }: Mutation): void {
  const places = placesOf(value)
  const [container, at] = places[place % places.length] as (typeof places)[number]
  const set = (k: string, v: Tree) =>
    Object.defineProperty(container, k, { value: v, enumerable: true, configurable: true, writable: true })
  const old = (container as { [key: string]: Tree })[at] as Tree
  if (Array.isArray(container)) {
    if (how === 'remove' || how === 'shorten') container.splice(Number(at), 1)
    else if (how === 'copy') container.push(structuredClone(old))
    else container[Number(at)] = structuredClone(other)
  } else if (how === 'replace') set(at, structuredClone(other))
  else if (how === 'shorten' && typeof old === 'string') set(at, old.slice(1))
  else if (how === 'add') set(key, structuredClone(other))
  else {
    if (how !== 'copy') delete container[at]
    if (how !== 'remove') set(key, old)
  }
}

describe('our validator and the JSON Schema', () => {
  const schema = scenarioSchema(SAMPLE)
  const ajv = new Ajv2020({ strict: true, allErrors: false, strictRequired: false })
  const validate = ajv.compile(scenarioJsonSchema(SAMPLE))

  it('accept the valid scenarios', () => {
    for (const value of VALID) {
      expect(checkValue(schema, value).issues).toEqual([])
      expect([validate(json(value)), validate.errors]).toEqual([true, null])
    }
  })

  it('agree on every mutation of them', () => {
    let broken = 0
    fc.assert(
      fc.property(
        fc.constantFrom(...VALID),
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        (valid, mutations) => {
          const value = structuredClone(valid)
          for (const m of mutations) mutate(value, m)
          const plain = json(value)
          const { issues } = checkValue(schema, plain)
          if (issues.length > 0) broken++
          expect([issues.length === 0, issues]).toEqual([validate(plain), issues])
        },
      ),
      { numRuns: 4000 },
    )
    expect(broken).toBeGreaterThan(1000)
  })

  it('agree on small schemas with bounds', () => {
    const small = map('x', {
      a: required(count('a', 3, 1000)),
      b: optional(word('b', 32)),
      c: optional(bytes('c', { min: 4096n, max: 1n << 40n })),
      d: optional(list('d', text('t', { minChars: 2, maxChars: 3 }), { minItems: 1, maxItems: 2 })),
      e: optional(bytesAmong('e', [4096n, 1n << 20n])),
    })
    const check = new Ajv2020({ strict: true }).compile(jsonSchemaOf(small))
    const value = fc.oneof(
      strange,
      fc.array(fc.string({ maxLength: 4, unit: 'binary' }), { maxLength: 3 }),
      fc.integer({ min: -1, max: 5000 }),
    )
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd', 'e'), value), (v) => {
        const plain = json(v)
        const { issues } = checkValue(small, plain)
        expect([issues.length === 0, issues]).toEqual([check(plain), issues])
      }),
      { numRuns: 3000 },
    )
  })
})
