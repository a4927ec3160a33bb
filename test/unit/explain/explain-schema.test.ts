import { readdirSync, readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { createLogExplainer } from '../../../src/machine/explain.ts'
import { LINE_FAMILIES } from '../../../src/reader/kernel-log/families.ts'
import { explainJson } from '../../../src/report/explain/explain-json.ts'
import { explainJsonSchema } from '../../../src/report/explain/explain-schema.ts'
import { Redactor } from '../../../src/report/explain/redactor.ts'

const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(explainJsonSchema())

const jsonOf = (log: string): unknown => {
  const explainer = createLogExplainer()
  explainer.push(new TextEncoder().encode(log))
  return explainJson(explainer.end())
}
const wrongIn = (value: unknown) => {
  validate(JSON.parse(JSON.stringify(value)))
  return validate.errors ?? []
}

const DMESG = readdirSync('docs/guide')
  .filter((name) => name.endsWith('.dmesg'))
  .map((name) => readFileSync(`docs/guide/${name}`, 'utf8'))
const EXAMPLES = LINE_FAMILIES.flatMap(({ templates }) => templates.map(({ example }) => example))

describe('the JSON of an explained log', () => {
  it('follows its schema, whatever the log holds', () => {
    for (const log of ['', ...DMESG, ...EXAMPLES, EXAMPLES.join('\n'), 'DMAR: what is this']) {
      expect([log, wrongIn(jsonOf(log))]).toEqual([log, []])
      expect([log, wrongIn(new Redactor().json(jsonOf(log)))]).toEqual([log, []])
    }
  })

  it('no family takes a name that all have', () => {
    const explainer = createLogExplainer()
    explainer.push(new TextEncoder().encode(EXAMPLES.join('\n')))
    const { groups } = explainer.end().faults
    expect(groups.length).toBeGreaterThan(20)
    const { properties } = (
      explainJsonSchema() as { properties: { faults: { items: { properties: object } } } }
    ).properties.faults.items
    for (const { words } of groups) {
      const taken = Object.keys(words.fields).filter((name) => Object.hasOwn(properties, name))
      expect([words.title, taken]).toEqual([words.title, []])
    }
  })

  it.each([
    ['another schema', { schema: 'iommulator-explain-2' }],
    ['a count below 0', { moreFaults: -1 }],
    ['something else', { more: 1 }],
    ['a fault without words', { faults: [{}] }],
  ])('the schema refuses %s', (_what, change) => {
    expect(wrongIn({ ...(jsonOf('') as object), ...change })).not.toEqual([])
  })
})
