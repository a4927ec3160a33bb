/** A way to a value: keys of maps, places in lists. */
export type Path = readonly (string | number)[]

type IssueCode =
  | 'unknown-key'
  | 'missing-key'
  | 'wrong-type'
  | 'unknown-name'
  | 'not-a-number'
  | 'out-of-range'
  | 'bad-text'
  | 'too-many'
  | 'too-few'
  | 'one-verb'
  | 'reserved'
  | 'conflict'

/** Something wrong with a document: where, what, and what would be right. */
export interface Issue {
  readonly path: Path
  /** Whether the key or the value at the path is at fault: where a reader should look. */
  readonly at: 'key' | 'value'
  readonly code: IssueCode
  readonly message: string
  /** What could stand there. */
  readonly allowed?: readonly string[]
  /** What was most likely meant. */
  readonly suggestion?: string
}

const ALLOWED_SHOWN = 12

/** An issue as one sentence: the message, then what was probably meant and what is allowed. */
export function issueSentence({ message, suggestion, allowed }: Issue): string {
  const tail: string[] = []
  if (suggestion !== undefined) tail.push(`did you mean "${suggestion}"?`)
  if (allowed !== undefined && allowed.length > 0) {
    const more = allowed.length - ALLOWED_SHOWN
    const shown = allowed.slice(0, more === 1 ? undefined : ALLOWED_SHOWN).join(', ')
    tail.push(`allowed: ${shown}${more > 1 ? ` and ${more} more` : ''}`)
  }
  return tail.length === 0 ? message : `${message} (${tail.join('; ')})`
}

/** A value as a message shows it: short, on one line. */
export function showValue(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)
  if (typeof value === 'bigint') return value > 0xffffn ? `0x${value.toString(16)}` : value.toString()
  if (value === null || value === undefined) return 'an empty value'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'a map' : String(value)
}
