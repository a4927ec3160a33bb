import { U64_MAX } from '../../bits/u64.ts'

/**
 * A small language for the shape of documents. One schema gives the validator (`checkValue`), the normalised typed
 * value, and the JSON Schema (`jsonSchemaOf`). Schemas do not recurse, so documents have a bounded depth.
 */

declare const out: unique symbol

/** A text. Lengths count characters. */
export interface TextNode {
  readonly kind: 'text'
  readonly what: string
  readonly minChars: number
  readonly maxChars: number
  /** Regular expression for the whole text, and what it says in words. */
  readonly pattern?: string
  readonly form?: string
}
/** One of some words or small numbers. */
export interface ChoiceNode {
  readonly kind: 'choice'
  readonly what: string
  readonly values: readonly (string | number)[]
}
/** true or false. */
interface FlagNode {
  readonly kind: 'flag'
  readonly what: string
}
/** A whole number: an integer, or a text in decimal or `0x` form, where `sizes` says so with a unit. */
export interface IntegerNode {
  readonly kind: 'integer'
  readonly what: string
  readonly min: bigint
  readonly max: bigint
  readonly as: 'number' | 'bigint'
  readonly sizes: boolean
  /** Where only some numbers will do. */
  readonly among?: readonly bigint[]
}
export interface ListNode {
  readonly kind: 'list'
  readonly what: string
  readonly item: Schema
  readonly maxItems: number
  readonly minItems: number
}
/** A key of a map: its schema, whether it may be missing, what it is for. */
export interface KeyDecl {
  readonly schema: Schema
  readonly optional: boolean
  readonly doc: string
}
export interface MapNode {
  readonly kind: 'map'
  /** With its article, for messages: `the machine`, `the arguments of H_PUT_TCE`. */
  readonly what: string
  readonly keys: Readonly<Record<string, KeyDecl>>
  /** Keys that mean something, but not yet or not here: the message for whoever writes them. */
  readonly reserved: Readonly<Record<string, string>>
}
/** A map whose keys are names of the writer's own, and whose values are all of one shape. */
export interface NamedNode {
  readonly kind: 'named'
  readonly what: string
  readonly name: TextNode
  readonly item: Schema
  readonly maxItems: number
  readonly minItems: number
}
/** Either a scalar, a list or a map: the form of the value decides by which schema it is read. */
export interface FormsNode {
  readonly kind: 'forms'
  readonly what: string
  readonly scalar?: Schema
  readonly list?: Schema
  readonly map?: Schema
}
/** A map that is told apart by one key and the name that is its value. */
export interface VariantNode {
  readonly kind: 'variant'
  readonly what: string
  /** For each telling key, for each of its names: the other keys of the map. */
  readonly cases: Readonly<Record<string, Readonly<Record<string, VariantCase>>>>
  /** Other keys that every case has. */
  readonly common: Readonly<Record<string, KeyDecl>>
  readonly reserved: Readonly<Record<string, string>>
}
export interface VariantCase {
  readonly doc: string
  readonly keys: Readonly<Record<string, KeyDecl>>
}

/** One of several maps: the value of one key says which, and its absence means the first. */
export interface TaggedNode {
  readonly kind: 'tagged'
  readonly what: string
  readonly key: string
  /** What the key's values are called: `kind of machine`. */
  readonly keyWhat: string
  readonly cases: Readonly<Record<string, Schema & MapNode>>
}

export type SchemaNode =
  | TextNode
  | ChoiceNode
  | FlagNode
  | IntegerNode
  | ListNode
  | MapNode
  | NamedNode
  | FormsNode
  | VariantNode
  | TaggedNode

/** A schema whose values are of type T once they are checked. */
export type Schema<T = unknown> = SchemaNode & { readonly [out]: T }
export type Infer<S> = S extends { readonly [out]: infer T } ? T : never

const typed = <T>(node: SchemaNode): Schema<T> => Object.freeze(node) as Schema<T>

type Bounds = { readonly minChars?: number; readonly maxChars?: number }
type Form = { readonly pattern: string; readonly form: string }

/** A text; `maxChars` is 200 where nothing is said. */
export const text = (what: string, { minChars = 1, maxChars = 200, ...form }: Bounds & Partial<Form> = {}) =>
  typed<string>({ kind: 'text', what, minChars, maxChars, ...form })

export const choice = <const V extends readonly (string | number)[]>(what: string, values: V) =>
  typed<V[number]>({ kind: 'choice', what, values })

export const flag = (what: string) => typed<boolean>({ kind: 'flag', what })

/** A whole number that is a `number` once checked. `max` is at most 2^53 - 1. */
export const count = (what: string, min: number, max: number) =>
  typed<number>({ kind: 'integer', what, min: BigInt(min), max: BigInt(max), as: 'number', sizes: false })

/** A number of up to `bits` bits that is a `bigint` once checked. */
export const word = (what: string, bits = 64) =>
  typed<bigint>({
    kind: 'integer',
    what,
    min: 0n,
    max: (1n << BigInt(bits)) - 1n,
    as: 'bigint',
    sizes: false,
  })

/** A number of bytes: a `word` that may be written with a unit. */
export const bytes = (what: string, { min = 0n, max = U64_MAX } = {}) =>
  typed<bigint>({ kind: 'integer', what, min, max, as: 'bigint', sizes: true })

/** One of some numbers of bytes, in ascending order. */
export const bytesAmong = (what: string, among: readonly bigint[]) => {
  const range = { min: among[0] ?? 0n, max: among.at(-1) ?? 0n }
  return typed<bigint>({ kind: 'integer', what, ...range, as: 'bigint', sizes: true, among })
}

export const list = <T>(what: string, item: Schema<T>, { maxItems = 1000, minItems = 0 } = {}) =>
  typed<readonly T[]>({ kind: 'list', what, item, maxItems, minItems })

/** What a key of a map is declared as. */
export interface Key<T = unknown, O extends boolean = boolean> extends KeyDecl {
  readonly schema: Schema<T>
  readonly optional: O
}
export const required = <T>(schema: Schema<T>, doc = ''): Key<T, false> => ({ schema, optional: false, doc })
export const optional = <T>(schema: Schema<T>, doc = ''): Key<T, true> => ({ schema, optional: true, doc })

type Keys = Readonly<Record<string, Key>>
type ValueOf<K> = K extends { readonly schema: { readonly [out]: infer T } } ? T : never
export type MapOf<K extends Keys> = {
  readonly [P in keyof K as K[P]['optional'] extends true ? never : P]: ValueOf<K[P]>
} & { readonly [P in keyof K as K[P]['optional'] extends true ? P : never]?: ValueOf<K[P]> }

export const map = <const K extends Keys>(
  what: string,
  keys: K,
  reserved: Readonly<Record<string, string>> = {},
) => typed<MapOf<K>>({ kind: 'map', what, keys, reserved })

/** A map whose keys are only known when the program runs. */
export const openMap = (what: string, keys: Readonly<Record<string, KeyDecl>>) =>
  typed<Readonly<Record<string, unknown>>>({ kind: 'map', what, keys, reserved: {} })

/** Values by names of the writer's own; `name` says what these look like. */
export const named = <T>(
  what: string,
  name: Schema<string> & SchemaNode,
  item: Schema<T>,
  { maxItems = 1000, minItems = 0 } = {},
) =>
  typed<Readonly<Record<string, T>>>({
    kind: 'named',
    what,
    name: name as unknown as TextNode,
    item,
    maxItems,
    minItems,
  })

/** Either form; one that is not named is not allowed. */
export const forms = <S = never, L = never, M = never>(
  what: string,
  by: { readonly scalar?: Schema<S>; readonly list?: Schema<L>; readonly map?: Schema<M> },
) => typed<S | L | M>({ kind: 'forms', what, ...by })

/** What a checked variant is: the telling key, its name, and the other keys of the map. */
export interface VariantValue {
  readonly key: string
  readonly name: string
  readonly rest: Readonly<Record<string, unknown>>
}
export const variant = (what: string, node: Omit<VariantNode, 'kind' | 'what'>) =>
  typed<VariantValue>({ kind: 'variant', what, ...node })

/** One of several maps, told apart by a key that each of them declares. Without the key it is the first one. */
export const tagged = <const C extends Readonly<Record<string, Schema>>>(
  what: string,
  node: { readonly key: string; readonly keyWhat: string; readonly cases: C },
) =>
  typed<Infer<C[keyof C]>>({
    kind: 'tagged',
    what,
    ...node,
    cases: node.cases as unknown as TaggedNode['cases'],
  })
