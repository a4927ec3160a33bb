import {
  type Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type Scalar,
  type YAMLMap,
} from 'yaml'
import type { Path } from '../machine/schema/issue.ts'
import { type Fault, type Span, syntaxFaults, TOO_DEEP } from './yaml-faults.ts'

const FAULTS_MOST = 50
const DEPTH_MOST = 40
/** Values that aliases may stand for in all: an alias of aliases of aliases grows without end. */
const ALIASED_MOST = 100_000

/** A YAML text as a plain value, with the place of each part. Integers are bigint. */
export class YamlTree {
  readonly value: unknown
  /** What is wrong with the YAML itself, in order; the first of each line where it cannot be parsed. */
  readonly faults: Fault[] = []
  /** Whether the text could be parsed: otherwise `value` means nothing. */
  readonly isParsed: boolean
  more = false
  readonly #lines = new LineCounter()
  readonly #root: Node | null
  readonly #anchors = new Map<string, Node>()
  readonly #targets = new Map<Alias, Node>()
  #aliased = 0
  #insideAlias = 0
  #isExhausted = false

  constructor(text: string) {
    const doc = parseDocument(text, {
      version: '1.2',
      intAsBigInt: true,
      stringKeys: true,
      // Compares every two keys of a map: too slow for hostile files, so that it is done here.
      uniqueKeys: false,
      prettyErrors: false,
      merge: false,
      resolveKnownTags: false,
      lineCounter: this.#lines,
    })
    this.#root = doc.contents
    const lines = new Set<number>()
    for (const fault of syntaxFaults(doc)) {
      const { line } = this.place(fault)
      if (!lines.has(line)) this.#fault(fault, fault.message)
      lines.add(line)
    }
    if (doc.directives?.yaml.explicit === true && doc.directives.yaml.version !== '1.2') {
      this.#fault({ start: 0, end: 5 }, 'scenarios are YAML 1.2')
    }
    this.isParsed = this.faults.length === 0
    this.value = this.isParsed ? this.#plain(this.#root, 0) : null
  }

  /** Line and column, from 1 on. */
  place({ start }: Span): { readonly line: number; readonly column: number } {
    const { line, col } = this.#lines.linePos(start)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }

  /** Where the value at a path stands, or its key; of a path that leads nowhere, the last part that is there. */
  find(path: Path, at: 'key' | 'value'): Span {
    let node = this.#root
    let span = spanOf(node)
    for (const [i, step] of path.entries()) {
      const within = isAlias(node) ? this.#targets.get(node) : node
      if (isMap<Scalar, Node | null>(within)) {
        const pair = within.items.find((p) => String(p.key.value) === step)
        if (pair === undefined) break
        node = pair.value
        const isEmpty = node?.range == null || node.range[0] === node.range[1]
        span = isEmpty || (at === 'key' && i === path.length - 1) ? spanOf(pair.key) : spanOf(node)
      } else if (isSeq<Node>(within) && typeof step === 'number' && within.items[step] !== undefined) {
        node = within.items[step]
        span = spanOf(node)
      } else break
    }
    return span
  }

  #fault({ start, end }: Span, message: string): void {
    if (this.faults.some((f) => f.start === start && f.message === message)) return
    if (this.faults.length < FAULTS_MOST) this.faults.push({ start, end, message })
    else this.more = true
  }

  #plain(node: Node | null, depth: number): unknown {
    if (this.#insideAlias > 0 && ++this.#aliased > ALIASED_MOST) return null
    if (depth > DEPTH_MOST) {
      this.#fault(spanOf(node), TOO_DEEP)
      return null
    }
    if (isAlias(node)) return this.#alias(node, depth)
    if (node !== null && 'anchor' in node && node.anchor !== undefined) this.#anchors.set(node.anchor, node)
    if (isMap<Scalar, Node | null>(node)) return this.#map(node, depth)
    if (isSeq<Node>(node)) return node.items.map((item) => this.#plain(item, depth + 1))
    return isScalar(node) ? node.value : null
  }

  #map(node: YAMLMap<Scalar, Node | null>, depth: number): Record<string, unknown> {
    const entries = new Map<string, unknown>()
    for (const { key, value } of node.items) {
      const name = String(key.value)
      if (entries.has(name)) this.#fault(spanOf(key), `key "${name.slice(0, 40)}" stands twice in this map`)
      else entries.set(name, this.#plain(value, depth + 1))
    }
    return Object.fromEntries(entries)
  }

  /** The values that an alias stands for, once more. */
  #alias(node: Alias, depth: number): unknown {
    const target = this.#anchors.get(node.source)
    if (target === undefined) {
      this.#fault(spanOf(node), `no value above is marked &${node.source.slice(0, 40)}`)
      return null
    }
    this.#targets.set(node, target)
    this.#insideAlias++
    const value = this.#plain(target, depth + 1)
    this.#insideAlias--
    if (this.#insideAlias === 0 && this.#aliased > ALIASED_MOST && !this.#isExhausted) {
      this.#isExhausted = true
      this.#fault(spanOf(node), `aliases stand for more than ${ALIASED_MOST} values`)
    }
    return value
  }
}

const spanOf = (node: Node | null): Span => {
  if (node?.range == null) return { start: 0, end: 1 }
  // The mark below a map or list is its first character: it may go over many lines.
  const [start, end] = node.range
  return { start, end: isMap(node) || isSeq(node) ? start + 1 : end }
}
