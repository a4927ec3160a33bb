import type { DocumentValue } from './document-value.ts'
import type { Scenario } from './scenario.ts'
import { scenarioDocument } from './scenario-document.ts'

/** Maps and lists at this depth or above stand one entry a line, so that a scenario reads as a list of steps. */
const BLOCK_DEPTH = 2
/** Longest line that holds a whole map or list. */
const LINE_CHARS = 100
/** Numbers below are written in decimal: counts, shifts, slots. Addresses are above. */
const DECIMAL_BELOW = 1024n

/** Words that YAML takes as a text without quotes, wherever they stand; and where no brackets are around them. */
const PLAIN = /^[A-Za-z_][A-Za-z0-9_.+/=@-]*$|^[0-9]+ [KMGTPE]iB$/
const PLAIN_OUTSIDE = /^[A-Za-z_](?:[^:#\P{ASCII}\p{Cc}]*[^:#\s\P{ASCII}\p{Cc}])?$/u
const NOT_TEXT = /^(?:null|true|false)$/i
/** Characters that JSON leaves as they are and YAML may not. */
const ESCAPED = /[\u007f-\u009f\u2028\u2029\ufeff]/g

function textOf(value: string, plain = PLAIN): string {
  if ((PLAIN.test(value) || plain.test(value)) && !NOT_TEXT.test(value)) return value
  return JSON.stringify(value).replaceAll(
    ESCAPED,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

type Container = readonly DocumentValue[] | { readonly [key: string]: DocumentValue }
const isContainer = (value: DocumentValue): value is Container => typeof value === 'object'

function scalarOf(value: string | number | bigint | boolean): string {
  if (typeof value === 'string') return textOf(value)
  if (typeof value === 'bigint' && value >= DECIMAL_BELOW) return `0x${value.toString(16)}`
  return String(value)
}

/** On one line. */
function flow(value: DocumentValue): string {
  if (!isContainer(value)) return scalarOf(value)
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`
  const entries = Object.entries(value)
  return entries.length === 0 ? '{}' : `{ ${entries.map(([k, v]) => `${textOf(k)}: ${flow(v)}`).join(', ')} }`
}

function fitsLine(value: Container, depth: number, room: number): boolean {
  const items = Object.values(value)
  if (items.length === 0) return true
  const isPlainList = Array.isArray(value) && !items.some(isContainer)
  return (depth > BLOCK_DEPTH || isPlainList) && flow(value).length <= room
}

/** Prose as it was typed, where YAML can hold it so. */
function prose(value: string, indent: string): string | undefined {
  const isPlain = /^[^\s\p{Cc}][^\p{Cc}]*(?:\n+[^\s\p{Cc}][^\p{Cc}]*)+\n?$/u.test(value)
  if (!isPlain || value.search(ESCAPED) !== -1) return undefined
  const lines = value.replace(/\n$/, '').split('\n')
  const head = value.endsWith('\n') ? '|' : '|-'
  return [head, ...lines.map((line) => (line === '' ? '' : `${indent}${line}`))].join('\n')
}

/** One entry a line; `indent` is that of the container. */
function block(value: Container, depth: number, indent: string): string[] {
  const isList = Array.isArray(value)
  return Object.entries(value).flatMap(([key, item]: [string, DocumentValue]) => {
    const head = isList ? '-' : `${textOf(key)}:`
    const room = LINE_CHARS - indent.length - head.length
    if (typeof item === 'string' && item.includes('\n')) {
      return `${indent}${head} ${prose(item, `${indent}  `) ?? textOf(item)}`
    }
    if (typeof item === 'string') return `${indent}${head} ${textOf(item, PLAIN_OUTSIDE)}`
    if (!isContainer(item) || fitsLine(item, depth + 1, room)) return `${indent}${head} ${flow(item)}`
    const inner = block(item, depth + 1, `${indent}  `)
    if (!isList || Array.isArray(item)) return [`${indent}${head}`, ...inner]
    // A map in a list begins on the line of its dash.
    return [`${indent}- ${inner[0]?.trimStart() ?? ''}`, ...inner.slice(1)]
  })
}

/** Where the JSON Schema lies, for editors: written as the first line. */
interface FormatOptions {
  readonly schema?: string
}

/**
 * A scenario as a file: canonical, so that equal scenarios give equal bytes. Reading it gives the scenario again, save
 * for the lines of its operations.
 */
export function formatScenario(scenario: Scenario, { schema }: FormatOptions = {}): string {
  const head = schema === undefined ? [] : [`# yaml-language-server: $schema=${schema}`]
  return `${[...head, ...block(scenarioDocument(scenario), 0, '')].join('\n')}\n`
}

/** A scenario as plain JSON data: numbers above the exact range of JSON, and all words, as `0x` texts. */
export const scenarioJson = (scenario: Scenario): string =>
  JSON.stringify(scenarioDocument(scenario), (_key, v: unknown) =>
    typeof v === 'bigint' ? `0x${v.toString(16)}` : v,
  )
