import type { Answer, Value } from '../bits/answer.ts'
import { hex } from '../bits/u64.ts'
import type { Expectation } from './operation.ts'

/** A value as one canonical text, so that 4096, 4096n and '0x1000' are the same. */
function canonical(value: Value): string {
  if (typeof value === 'bigint') return hex(value)
  if (typeof value === 'number') return Number.isInteger(value) && value >= 0 ? hex(value) : String(value)
  if (typeof value === 'string') {
    if (/^(0x[0-9a-f_]+|\d[\d_]*)$/i.test(value)) return hex(BigInt(value.replaceAll('_', '')))
    const bytes = /^hex:([0-9a-f\s]*)$/i.exec(value)
    return bytes === null ? value : `hex:${(bytes[1] ?? '').replaceAll(/\s/g, '').toLowerCase()}`
  }
  if (typeof value === 'boolean') return String(value)
  if (Array.isArray(value)) return `[${(value as readonly Value[]).map(canonical).join(', ')}]`
  const entries = Object.entries(value as Readonly<Record<string, Value>>)
  return `{${entries.map(([k, v]) => `${k}: ${canonical(v)}`).join(', ')}}`
}

/** A value as people read it. */
export const valueText = (value: Value): string => canonical(value)

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
    else if (canonical(got) !== canonical(want)) {
      wrong.push(`${name} ${canonical(got)}, not ${canonical(want)}`)
    }
  }
  return wrong
}
