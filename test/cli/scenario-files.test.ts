import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { formatScenario } from '../../src/machine/scenario/format-scenario.ts'
import { toOperations } from '../../src/machine/scenario/scenario.ts'
import { scenarioJsonSchema } from '../../src/machine/scenario/scenario-schema.ts'

const files = readdirSync('scenarios', { recursive: true, encoding: 'utf8' })
  .filter((f) => /\.(ya?ml|json)$/.test(f))
  .sort()
  .map((f) => join('scenarios', f))

describe('every scenario of the project', () => {
  const validate = new Ajv2020({ strict: true, strictRequired: false }).compile(scenarioJsonSchema(CATALOGUE))

  it('is found', () => {
    expect(files).toContain('scenarios/tour/one-dma.yaml')
  })

  it.each(files)('%s', (file) => {
    const text = readFileSync(file, 'utf8')
    const scenario = parseScenario(text, file, CATALOGUE)
    expect(toOperations(scenario, CATALOGUE.calls)).toBe(scenario.steps)
    expect([validate(parse(text)), validate.errors]).toEqual([true, null])

    // What is written of it says the same.
    const written = formatScenario(scenario)
    expect(formatScenario(parseScenario(written, file, CATALOGUE))).toBe(written)

    // The line that gives editors the schema leads to it.
    const schema = /^# yaml-language-server: \$schema=(\S+)/.exec(text)?.[1]
    expect(schema === undefined ? 'no schema line' : existsSync(join(dirname(file), schema))).toBe(true)
  })
})
