import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CALLS } from '../src/machine/registry.ts'
import { sourcesBelow } from './floors.ts'

/** Names of the constants that declare a call, by what stands in the sources. */
const declared = (): string[] =>
  sourcesBelow('src').flatMap(({ text }) =>
    [...text.matchAll(/export const (\w+) = declareCall\(/g)].map((m) => m[1] ?? ''),
  )

/** Calls that a spec has a table for, its own or through `testRules`: one case for each rule, or it does not compile. */
const tabled = (texts: readonly string[]): Set<string> =>
  new Set(
    texts.flatMap((t) =>
      [...t.matchAll(/RuleOf<typeof (\w+)>|testRules\((\w+)/g)].map((m) => m[1] ?? m[2] ?? ''),
    ),
  )

const specs = readdirSync('test/spec', { recursive: true, encoding: 'utf8' })
  .filter((f) => f.endsWith('.test.ts'))
  .map((f) => readFileSync(`test/spec/${f}`, 'utf8'))

describe('every rule of every call is reached', () => {
  it('every declared call is in the registry', () => {
    expect(declared().length).toBe(CALLS.length)
  })

  it.each(declared())('%s has a table of cases by rule', (name) => {
    expect(tabled(specs)).toContain(name)
  })

  it('the gate sees a call without a table', () => {
    expect(tabled(['const cases: Record<RuleOf<typeof H_PUT_TCE>, X> = {}'])).not.toContain('H_GET_TCE')
  })
})
