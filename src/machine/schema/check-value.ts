import { nearest } from '../../bits/suggest.ts'
import { type Issue, type Path, showValue } from './issue.ts'
import { readNumber, sizeText } from './number-text.ts'
import type {
  ChoiceNode,
  FormsNode,
  IntegerNode,
  KeyDecl,
  ListNode,
  MapNode,
  NamedNode,
  Schema,
  SchemaNode,
  TaggedNode,
  TextNode,
  VariantNode,
} from './schema.ts'

/** What a check found. `value` is complete and typed where there are no issues, and undefined otherwise. */
export interface Checked<T> {
  readonly value: T | undefined
  readonly issues: readonly Issue[]
  /** True where the search stopped because there were too many. */
  readonly more: boolean
}

const ISSUES_MOST = 50

/** Stands for a value that is not right; no value of a document is this. */
const BAD = Symbol('bad')

type Plain = Readonly<Record<string, unknown>>
const isMap = (value: unknown): value is Plain =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * Checks a plain value (maps, lists, texts, numbers, bigints, booleans, null) and gives it back normalised: numbers
 * as declared, keys in the order of the declaration. All issues are reported, up to `most`.
 */
export function checkValue<T>(schema: Schema<T>, value: unknown, most = ISSUES_MOST): Checked<T> {
  const run = new Check(most)
  const result = run.node(schema, value, [])
  const { issues } = run
  return { value: issues.length === 0 && result !== BAD ? (result as T) : undefined, issues, more: run.more }
}

class Check {
  readonly issues: Issue[] = []
  readonly #most: number
  more = false

  constructor(most: number) {
    this.#most = most
  }

  #bad(issue: Issue): typeof BAD {
    if (this.issues.length < this.#most) this.issues.push(issue)
    else this.more = true
    return BAD
  }

  #wrongType(path: Path, { what }: SchemaNode, value: unknown, needed: string): typeof BAD {
    const message = `${what} must be ${needed}, not ${showValue(value)}`
    return this.#bad({ path, at: 'value', code: 'wrong-type', message })
  }

  node(node: SchemaNode, value: unknown, path: Path): unknown {
    switch (node.kind) {
      case 'text':
        return this.#text(node, value, path)
      case 'choice':
        return this.#choice(node, value, path)
      case 'flag':
        return typeof value === 'boolean' ? value : this.#wrongType(path, node, value, 'true or false')
      case 'integer':
        return this.#integer(node, value, path)
      case 'list':
        return this.#list(node, value, path)
      case 'map':
        return isMap(value)
          ? this.#map(node, value, path)
          : this.#wrongType(path, node, value, `a map${needs(node.keys)}`)
      case 'named':
        return isMap(value) ? this.#named(node, value, path) : this.#wrongType(path, node, value, 'a map')
      case 'forms':
        return this.#forms(node, value, path)
      case 'variant':
        return isMap(value)
          ? this.#variant(node, value, path)
          : this.#wrongType(path, node, value, `a map with one of ${Object.keys(node.cases).join(', ')}`)
      case 'tagged':
        return isMap(value) ? this.#tagged(node, value, path) : this.#wrongType(path, node, value, 'a map')
    }
  }

  #text(node: TextNode, value: unknown, path: Path): unknown {
    if (typeof value !== 'string') return this.#wrongType(path, node, value, 'a text')
    const { what, minChars, maxChars } = node
    const chars = charsOf(value)
    if (chars > maxChars || chars < minChars) {
      const message = `${what} must have ${minChars} to ${maxChars} characters, not ${chars}`
      return this.#bad({ path, at: 'value', code: 'bad-text', message })
    }
    if (node.pattern !== undefined && !new RegExp(node.pattern, 'u').test(value)) {
      const message = `${what} must be ${node.form ?? `a text like ${node.pattern}`}, not ${showValue(value)}`
      return this.#bad({ path, at: 'value', code: 'bad-text', message })
    }
    return value
  }

  #choice(node: ChoiceNode, value: unknown, path: Path): unknown {
    const plain = typeof value === 'bigint' ? Number(value) : value
    if (node.values.some((v) => v === plain)) return plain
    return this.#unknownName(node.what, value, node.values.map(String), path)
  }

  #unknownName(what: string, value: unknown, allowed: readonly string[], path: Path): typeof BAD {
    const suggestion = typeof value === 'string' ? nearest(value, allowed) : undefined
    const message = `unknown ${what} ${showValue(value)}`
    return this.#bad({
      path,
      at: 'value',
      code: 'unknown-name',
      message,
      allowed,
      ...(suggestion !== undefined && { suggestion }),
    })
  }

  #integer(node: IntegerNode, value: unknown, path: Path): unknown {
    const { what, min, max } = node
    const read = typeof value === 'string' ? readNumber(value, node.sizes) : value
    const whole = typeof read === 'bigint' || (typeof read === 'number' && Number.isInteger(read))
    if (!whole) {
      const examples = node.sizes ? '4096, 0x1000 or 256 MiB' : '4096, 0x1000 or 0x8000_0000'
      const needed = typeof value === 'number' ? 'a whole number' : `a number such as ${examples}`
      const message = `${what} must be ${needed}, not ${showValue(value)}`
      return this.#bad({ path, at: 'value', code: 'not-a-number', message })
    }
    if (typeof read === 'number' && !Number.isSafeInteger(read)) {
      const message = `${what}: ${read} has lost digits; write it as a text in 0x form`
      return this.#bad({ path, at: 'value', code: 'not-a-number', message })
    }
    const big = BigInt(read as number | bigint)
    if (node.among !== undefined && !node.among.includes(big)) {
      const message = `unknown ${what} ${showValue(value)}`
      return this.#bad({
        path,
        at: 'value',
        code: 'unknown-name',
        message,
        allowed: node.among.map(sizeText),
      })
    }
    if (big >= min && big <= max) return node.as === 'number' ? Number(big) : big
    const message = `${what} must be from ${showValue(min)} to ${showValue(max)}, not ${showNumber(big)}`
    return this.#bad({ path, at: 'value', code: 'out-of-range', message })
  }

  /** Whether there are as many entries as there may be. */
  #isCounted({ what, minItems, maxItems }: ListNode | NamedNode, entries: number, path: Path): boolean {
    if (entries >= minItems && entries <= maxItems) return true
    const message = `${what} must have ${minItems} to ${maxItems} entries, not ${entries}`
    this.#bad({ path, at: 'value', code: entries < minItems ? 'too-few' : 'too-many', message })
    return false
  }

  #named(node: NamedNode, value: Plain, path: Path): unknown {
    const names = Object.keys(value)
    if (!this.#isCounted(node, names.length, path)) return BAD
    const items: [string, unknown][] = []
    for (const name of names) {
      if (this.more) return BAD
      const known = this.issues.length
      this.#text(node.name, name, [...path, name])
      const last = this.issues[known]
      if (last !== undefined) this.issues[known] = { ...last, at: 'key' }
      items.push([name, this.node(node.item, value[name], [...path, name])])
    }
    return Object.fromEntries(items)
  }

  #list(node: ListNode, value: unknown, path: Path): unknown {
    if (!Array.isArray(value)) return this.#wrongType(path, node, value, 'a list')
    if (!this.#isCounted(node, value.length, path)) return BAD
    const items: unknown[] = []
    for (let i = 0; i < value.length && !this.more; i++)
      items.push(this.node(node.item, value[i], [...path, i]))
    return items
  }

  #forms(node: FormsNode, value: unknown, path: Path): unknown {
    const form = Array.isArray(value) ? 'list' : isMap(value) ? 'map' : 'scalar'
    const chosen = node[form]
    if (chosen !== undefined) return this.node(chosen, value, path)
    const known = [node.scalar && 'a single value', node.list && 'a list', node.map && 'a map']
    return this.#wrongType(path, node, value, known.filter((k) => k !== undefined).join(' or '))
  }

  #map(node: Omit<MapNode, 'kind'>, value: Plain, path: Path): unknown {
    const known = Object.keys(node.keys)
    const excused = new Set<string>()
    for (const key of Object.keys(value)) {
      if (this.more) return BAD
      if (!Object.hasOwn(node.keys, key)) this.#unknownKey(node, key, known, [...path, key], excused)
    }
    const result: Record<string, unknown> = {}
    for (const [key, { schema, optional }] of Object.entries(node.keys)) {
      if (Object.hasOwn(value, key)) result[key] = this.node(schema, value[key], [...path, key])
      else if (!optional && !excused.has(key)) {
        const message = `missing key "${key}" in ${node.what}${inside(schema)}`
        this.#bad({ path, at: 'value', code: 'missing-key', message })
      }
    }
    return result
  }

  #unknownKey(
    node: Pick<MapNode, 'what' | 'reserved'>,
    key: string,
    known: readonly string[],
    path: Path,
    excused: Set<string>,
  ): void {
    if (Object.hasOwn(node.reserved, key)) {
      this.#bad({ path, at: 'key', code: 'reserved', message: node.reserved[key] ?? '' })
      return
    }
    const suggestion = nearest(key, known)
    // The key that was probably meant is not reported as missing a second time.
    if (suggestion !== undefined) excused.add(suggestion)
    const message = `unknown key ${showValue(key)} in ${node.what}`
    this.#bad({
      path,
      at: 'key',
      code: 'unknown-key',
      message,
      allowed: known,
      ...(suggestion !== undefined && { suggestion }),
    })
  }

  #variant(node: VariantNode, value: Plain, path: Path): unknown {
    const telling = Object.keys(node.cases)
    const [key, second] = Object.keys(value).filter((k) => Object.hasOwn(node.cases, k))
    if (key === undefined) return this.#noVerb(node, value, path)
    if (second !== undefined) {
      const message = `${node.what} has one of ${telling.join(', ')}; here stand ${key} and ${second}`
      return this.#bad({ path: [...path, second], at: 'key', code: 'one-verb', message })
    }
    const cases = node.cases[key] ?? {}
    const name = value[key]
    if (typeof name !== 'string' || !Object.hasOwn(cases, name))
      return this.#unknownCase(node, key, name, path)
    const { [key]: _telling, ...others } = value
    const keys: Record<string, KeyDecl> = { ...cases[name]?.keys, ...node.common }
    const what = `${key} ${name}`
    const rest = this.#map({ what, keys, reserved: node.reserved }, others, path)
    return { key, name, rest }
  }

  #tagged({ key, keyWhat, cases }: TaggedNode, value: Plain, path: Path): unknown {
    const names = Object.keys(cases)
    const name = Object.hasOwn(value, key) ? value[key] : names[0]
    const chosen = typeof name === 'string' && Object.hasOwn(cases, name) ? cases[name] : undefined
    if (chosen === undefined) return this.#unknownName(keyWhat, name, names, [...path, key])
    return this.#map(chosen, value, path)
  }

  #noVerb(node: VariantNode, value: Plain, path: Path): typeof BAD {
    const telling = Object.keys(node.cases)
    for (const key of Object.keys(value)) {
      const message = node.reserved[key]
      if (message !== undefined && Object.hasOwn(node.reserved, key)) {
        return this.#bad({ path: [...path, key], at: 'key', code: 'reserved', message })
      }
      const suggestion = Object.hasOwn(node.common, key) ? undefined : nearest(key, telling)
      if (suggestion !== undefined) {
        const unknown = `unknown key ${showValue(key)} in ${node.what}`
        const issue = { path: [...path, key], at: 'key', code: 'unknown-key', message: unknown } as const
        return this.#bad({ ...issue, allowed: telling, suggestion })
      }
    }
    const message = `${node.what} needs a key that says what is called`
    return this.#bad({ path, at: 'value', code: 'missing-key', message, allowed: telling })
  }

  #unknownCase(node: VariantNode, key: string, name: unknown, path: Path): typeof BAD {
    const at = [...path, key]
    const elsewhere = Object.keys(node.cases).find(
      (k) => typeof name === 'string' && Object.hasOwn(node.cases[k] ?? {}, name),
    )
    if (elsewhere !== undefined) {
      const message = `${showValue(name)} is no call of ${key}: write "${elsewhere}: ${name}"`
      return this.#bad({ path: at, at: 'key', code: 'unknown-name', message })
    }
    return this.#unknownName(key, name, Object.keys(node.cases[key] ?? {}), at)
  }
}

/** A number as a message shows it; a negative one with the 64-bit word that was perhaps meant. */
function showNumber(value: bigint): string {
  if (value < 0n && value >= -(1n << 63n))
    return `${value} (as a word: 0x${BigInt.asUintN(64, value).toString(16)})`
  const isLong = value >> 128n !== 0n && value >> 128n !== -1n
  return isLong ? 'a number of more than 128 bits' : showValue(value)
}

/** Characters as JSON Schema counts them: a pair of surrogates is one. */
function charsOf(value: string): number {
  let chars = 0
  for (const _ of value) chars++
  return chars
}

const requiredKeys = (keys: Readonly<Record<string, KeyDecl>>): string[] =>
  Object.keys(keys).filter((key) => keys[key]?.optional === false)

const needs = (keys: Readonly<Record<string, KeyDecl>>): string => {
  const names = requiredKeys(keys)
  return names.length === 0 ? '' : ` with ${names.join(', ')}`
}

/** What a missing map would have to hold. */
const inside = (schema: SchemaNode): string =>
  schema.kind === 'map' && requiredKeys(schema.keys).length > 0
    ? ` (it holds ${requiredKeys(schema.keys).join(', ')})`
    : ''
