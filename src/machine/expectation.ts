import type { Answer, Value } from '../bits/answer.ts'
import { hex, parseU64 } from '../bits/u64.ts'
import type { Expectation } from './operation.ts'

/** A value as people read it: words in hexadecimal, where that makes a difference. */
export function valueText(value: Value): string {
  if (typeof value === 'bigint') return value < 10n ? String(value) : hex(value)
  if (Array.isArray(value)) return `[${(value as readonly Value[]).map(valueText).join(', ')}]`
  if (typeof value !== 'object') return String(value)
  const entries = Object.entries(value as Readonly<Record<string, Value>>)
  return `{${entries.map(([k, v]) => `${k}: ${valueText(v)}`).join(', ')}}`
}

/** `hex:` texts without blanks and in small letters; other texts as they are. */
function bytesAsWritten(text: string): string {
  const digits = /^hex:([0-9a-f\s]*)$/i.exec(text)?.[1]
  return digits === undefined ? text : `hex:${digits.replaceAll(/\s/g, '').toLowerCase()}`
}

/** The kind of the answer decides: where it gave a number, texts that stand for numbers are compared as such. */
function isSame(got: Value, want: Value): boolean {
  if (typeof got === 'bigint' || typeof got === 'number') {
    if (typeof want === 'string') return /^[0-9]/.test(want) && parseU64(want) === BigInt(got)
    return (typeof want === 'bigint' || typeof want === 'number') && BigInt(want) === BigInt(got)
  }
  if (typeof got === 'string') return typeof want === 'string' && bytesAsWritten(got) === bytesAsWritten(want)
  if (typeof got === 'boolean') return got === want
  if (Array.isArray(got)) {
    const items: readonly Value[] = got
    return Array.isArray(want) && items.length === want.length && items.every((v, i) => isSame(v, want[i]))
  }
  if (typeof want !== 'object' || Array.isArray(want)) return false
  const [a, b] = [got as Readonly<Record<string, Value>>, want as Readonly<Record<string, Value>>]
  return Object.keys(b).every((k) => a[k] !== undefined && isSame(a[k], b[k] as Value))
}

/** What an answer has other than it should: one sentence each, none where it is as expected. */
export function unexpected(answer: Answer, expect: Expectation): string[] {
  const wrong: string[] = []
  if (expect.code !== undefined && expect.code !== answer.code)
    wrong.push(`code ${answer.code}, not ${expect.code}`)
  if (expect.rule !== undefined && expect.rule !== answer.rule)
    wrong.push(`rule ${answer.rule}, not ${expect.rule}`)
  for (const [name, want] of Object.entries(expect.outputs ?? {})) {
    const got = answer.outputs[name]
    if (got === undefined) wrong.push(`no output ${name}`)
    else if (!isSame(got, want))
      wrong.push(`${name} ${valueText(got) || 'empty'}, not ${valueText(want) || 'empty'}`)
  }
  return wrong
}
