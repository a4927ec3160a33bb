import type { ArgDecl, CallDecl, Verb } from '../../bits/call.ts'
import { MODEL_CODES } from '../../bits/codes.ts'
import {
  bytes,
  choice,
  flag,
  forms,
  type KeyDecl,
  list,
  map,
  openMap,
  optional,
  required,
  type Schema,
  text,
  type VariantCase,
  word,
} from '../schema/schema.ts'

/** Most items of a list argument: a TCE list has 512, a scatter list a few thousand. */
const ITEMS_MOST = 65_536
/** Most characters of a `bytes` argument. */
const DATA_CHARS = 1 << 20

/** Words that name devices, processes, handles; a PCI address is one. */
const NAME_PATTERN = '^[A-Za-z0-9_/][A-Za-z0-9_.:/@-]*$'
const NAME_FORM = 'a word of letters, digits and _ . : / @ -'
export const nameText = (what: string) => text(what, { maxChars: 64, pattern: NAME_PATTERN, form: NAME_FORM })

/** Numbers whose name ends in "bytes" are amounts, so that `256 MiB` reads as one. */
export const isAmount = (name: string): boolean => /bytes$/i.test(name)

const number = (name: string, bits: number, what = name) =>
  isAmount(name) ? bytes(what, { max: (1n << BigInt(bits)) - 1n }) : word(what, bits)

/** Counts are exact as numbers of JavaScript. */
const COUNT_BITS = 53

const segment = (what: string) =>
  map(what, {
    address: required(number('address', 64), 'First byte.'),
    bytes: required(number('bytes', COUNT_BITS), 'How many bytes.'),
  })

/** The schema of one argument or output. */
function valueSchema(name: string, decl: ArgDecl): Schema {
  switch (decl.type) {
    case 'u8':
      return number(name, 8)
    case 'u16':
      return number(name, 16)
    case 'u32':
      return number(name, 32)
    case 'u64':
      return number(name, 64)
    case 'count':
      return number(name, COUNT_BITS)
    case 'name':
      return nameText(name)
    case 'bytes':
      return text(name, {
        minChars: 0,
        maxChars: DATA_CHARS,
        pattern: '^(?!hex:)|^hex:(?:[0-9a-fA-F]{2}|\\s)*$',
        form: 'a text, or "hex:" and pairs of hexadecimal digits',
      })
    case 'words':
      return list(name, number(name, 64, `an entry of ${name}`), { maxItems: ITEMS_MOST })
    case 'segments':
      return list(name, segment(`an entry of ${name}`), { maxItems: ITEMS_MOST })
    case 'flag':
      return flag(name)
    case 'choice':
      return choice(name, decl.choices ?? [])
  }
}

const isOptional = (decl: ArgDecl): boolean => decl.optional === true || decl.initial !== undefined

/** All declarations of one call: several layers may each declare it. */
type Layers = readonly [CallDecl, ...CallDecl[]]

const unique = (words: readonly string[]): string[] => [...new Set(words)]

/** Codes that a call can answer, in the order of its checks, and what the model may say of itself. */
const codesOfCall = (layers: readonly CallDecl[]): string[] =>
  unique([...layers.flatMap((d) => d.answers.map((a) => a.code)), ...Object.keys(MODEL_CODES)])

/** What a file may expect of a call: a code, or code, rule and outputs. */
function expectSchema(name: string, layers: Layers): Schema {
  const code = choice(`code of ${name}`, codesOfCall(layers))
  const rules = unique(layers.flatMap((d) => d.answers.map((a) => a.rule)))
  const outputs: Record<string, KeyDecl> = {}
  for (const layer of layers) {
    for (const [key, decl] of Object.entries(layer.outputs ?? {})) {
      outputs[key] ??= optional(valueSchema(key, decl), decl.doc)
    }
  }
  const some = Object.keys(outputs).length > 0
  const long = openMap(`the expectation of ${name}`, {
    code: optional(code, 'What the caller sees.'),
    rule: optional(choice(`answer rule of ${name}`, rules), 'The check that decides it.'),
    ...(some && {
      outputs: optional(
        openMap(`the outputs of ${name}`, outputs),
        'What it hands out; parts may be left out.',
      ),
    }),
  })
  return forms('expect', { scalar: code, map: long })
}

function caseOf(name: string, layers: Layers): VariantCase {
  const args: Record<string, KeyDecl> = {}
  for (const layer of layers) {
    for (const [key, decl] of Object.entries<ArgDecl>(layer.args)) {
      args[key] ??= { schema: valueSchema(key, decl), optional: isOptional(decl), doc: decl.doc }
    }
  }
  const needed = Object.values(args).some((a) => !a.optional)
  const schema = openMap(`the arguments of ${name}`, args)
  return {
    doc: layers[0].doc,
    keys: {
      args: { schema, optional: !needed, doc: 'Arguments by name.' },
      expect: optional(expectSchema(name, layers), 'The answer that it must give.'),
    },
  }
}

/** The calls of each verb, each with all layers that declare it. Verbs without calls are left out. */
export function callsByVerb(calls: readonly CallDecl[]): ReadonlyMap<Verb, ReadonlyMap<string, Layers>> {
  const verbs = new Map<Verb, Map<string, Layers>>()
  for (const decl of calls) {
    const names = verbs.get(decl.verb) ?? new Map<string, Layers>()
    const before = names.get(decl.name)
    names.set(decl.name, before === undefined ? [decl] : [...before, decl])
    verbs.set(decl.verb, names)
  }
  return verbs
}

/** For each verb and each call: the keys of a step that calls it. */
export function stepCases(calls: readonly CallDecl[]): Record<string, Record<string, VariantCase>> {
  const verbs = [...callsByVerb(calls)].map(([verb, names]) => {
    const cases = [...names].map(([name, layers]) => [name, caseOf(name, layers)] as const)
    return [verb, Object.fromEntries(cases)] as const
  })
  return Object.fromEntries(verbs)
}
