import { amongPattern, NUMBER_CHARS, numberPattern } from './number-text.ts'
import type {
  IntegerNode,
  KeyDecl,
  MapNode,
  SchemaNode,
  TaggedNode,
  TextNode,
  VariantNode,
} from './schema.ts'

/** A JSON Schema, as plain data. */
export type JsonSchema = { readonly [key: string]: JsonValue }
type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonSchema

/**
 * The JSON Schema (draft 2020-12) of a schema. It accepts what `checkValue` accepts, with one exception that JSON
 * has: an integer above 2^53 is rounded by most readers, so its bound is the rounded one.
 */
export function jsonSchemaOf(node: SchemaNode, head: JsonSchema = {}): JsonSchema {
  const writer = new Writer()
  const body = writer.node(node)
  const defs = Object.fromEntries([...writer.defs].sort(([a], [b]) => (a < b ? -1 : 1)))
  return { $schema: 'https://json-schema.org/draft/2020-12/schema', ...head, ...body, $defs: defs }
}

type Keys = Readonly<Record<string, KeyDecl>>

class Writer {
  /** Parts that occur often, by name. */
  readonly defs = new Map<string, JsonSchema>()

  node(node: SchemaNode): JsonSchema {
    switch (node.kind) {
      case 'text':
        return textSchema(node)
      case 'choice':
        return { enum: [...node.values] }
      case 'flag':
        return { type: 'boolean' }
      case 'integer':
        return this.#integer(node)
      case 'list':
        return {
          type: 'array',
          items: this.node(node.item),
          maxItems: node.maxItems,
          ...(node.minItems > 0 && { minItems: node.minItems }),
        }
      case 'map':
        return this.#map(node)
      case 'named':
        return {
          type: 'object',
          propertyNames: textSchema(node.name),
          additionalProperties: this.node(node.item),
          maxProperties: node.maxItems,
          ...(node.minItems > 0 && { minProperties: node.minItems }),
        }
      case 'forms': {
        const known = [node.scalar, node.list, node.map].filter((n) => n !== undefined)
        return { anyOf: known.map((n) => this.node(n)) }
      }
      case 'variant':
        return this.#variant(node)
      case 'tagged':
        return this.#tagged(node)
    }
  }

  #integer({ min, max, sizes, among }: IntegerNode): JsonSchema {
    if (among !== undefined) {
      return { anyOf: [{ enum: among.map(Number) }, { type: 'string', pattern: amongPattern(among) }] }
    }
    const bits = min === 0n && (max & (max + 1n)) === 0n ? max.toString(2).length : 0
    const range = bits > 0 ? `${bits}` : `-${min}-to-${max}`
    const name = sizes ? `bytes${range}` : bits > 0 ? `u${range}` : `integer${range}`
    if (!this.defs.has(name)) {
      const text = { type: 'string', maxLength: NUMBER_CHARS, pattern: numberPattern(min, max, sizes) }
      const integer = { type: 'integer', minimum: Number(min), maximum: Number(max) }
      this.defs.set(name, { anyOf: [integer, text] })
    }
    return { $ref: `#/$defs/${name}` }
  }

  #keys(keys: Keys): JsonSchema {
    return Object.fromEntries(
      Object.entries(keys).map(([key, { schema, doc }]) => [
        key,
        { ...this.node(schema), ...(doc !== '' && { description: doc }) },
      ]),
    )
  }

  #map({ keys }: MapNode): JsonSchema {
    const required = requiredOf(keys)
    return {
      type: 'object',
      properties: this.#keys(keys),
      ...(required.length > 0 && { required }),
      additionalProperties: false,
    }
  }

  /** All keys of all cases stand side by side, so that an editor offers them; conditions then say which go together. */
  #variant(node: VariantNode): JsonSchema {
    const def = node.what.replace(/^an? /, '')
    if (!this.defs.has(def)) this.defs.set(def, this.#variantBody(node))
    return { $ref: `#/$defs/${def}` }
  }

  #variantBody({ cases, common }: VariantNode): JsonSchema {
    const telling = Object.entries(cases)
    const others = new Set(telling.flatMap(([, c]) => Object.values(c).flatMap((v) => Object.keys(v.keys))))
    const properties: Record<string, JsonSchema> = {}
    for (const [key, names] of telling) properties[key] = { enum: Object.keys(names) }
    for (const key of others) properties[key] = {}
    return {
      type: 'object',
      properties: { ...properties, ...this.#keys(common) },
      additionalProperties: false,
      oneOf: telling.map(([key]) => ({ required: [key] })),
      allOf: telling.flatMap(([key, names]) =>
        Object.entries(names).map(([name, { doc, keys }]) => {
          const def = `${key}.${name}`
          const required = requiredOf(keys)
          // A key that this case has not is refused here, because another case may have it.
          const foreign = [...others].filter((k) => !Object.hasOwn(keys, k)).map((k) => [k, false] as const)
          this.defs.set(def, {
            type: 'object',
            description: doc,
            properties: { ...this.#keys(keys), ...Object.fromEntries(foreign) },
            ...(required.length > 0 && { required }),
          })
          const is = { properties: { [key]: { const: name } }, required: [key] }
          // biome-ignore lint/suspicious/noThenProperty: a word of JSON Schema
          return { if: is, then: { $ref: `#/$defs/${def}` } }
        }),
      ),
      ...requiredPart(common),
    }
  }

  /** The keys of all cases stand side by side with the case as the condition; the last one is for a missing key. */
  #tagged({ key, cases }: TaggedNode): JsonSchema {
    const [first, ...others] = Object.entries(cases)
    const refs = [first, ...others].flatMap((entry) => {
      if (entry === undefined) return []
      const [name, node] = entry
      const def = `${key}.${name}`
      this.defs.set(def, this.#map(node))
      return [{ name, ref: { $ref: `#/$defs/${def}` } }]
    })
    const names = refs.map(({ name }) => name)
    const [initial, ...rest] = refs
    const when = (name: string, then: JsonSchema) => ({
      if: { properties: { [key]: { const: name } }, required: [key] },
      then,
    })
    return {
      type: 'object',
      properties: { [key]: { enum: names } },
      allOf: [
        ...rest.map(({ name, ref }) => when(name, ref)),
        ...(initial === undefined
          ? []
          : [
              {
                if: { not: { properties: { [key]: { enum: names.slice(1) } }, required: [key] } },
                // biome-ignore lint/suspicious/noThenProperty: a word of JSON Schema
                then: initial.ref,
              },
            ]),
      ],
    }
  }
}

const requiredOf = (keys: Keys): string[] => Object.keys(keys).filter((k) => keys[k]?.optional === false)

const requiredPart = (keys: Keys): JsonSchema => {
  const required = requiredOf(keys)
  return required.length > 0 ? { required } : {}
}

const textSchema = ({ minChars, maxChars, pattern }: TextNode): JsonSchema => ({
  type: 'string',
  ...(minChars > 0 && { minLength: minChars }),
  maxLength: maxChars,
  ...(pattern !== undefined && { pattern }),
})
