import { readdirSync, readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { ScenarioError } from '../../src/cli/scenario-error.ts'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { scenarioJsonSchema } from '../../src/machine/scenario/scenario-schema.ts'
import { SAMPLE } from './sample-catalogue.ts'

const FOLDER = 'test/cli/broken-scenarios'
const files = readdirSync(FOLDER).filter((f) => f.endsWith('.yaml'))

function errorOf(text: string, file: string): ScenarioError {
  try {
    parseScenario(text, file, SAMPLE)
  } catch (error) {
    if (error instanceof ScenarioError) return error
    throw error
  }
  throw new Error(`${file} was accepted`)
}

describe('a broken scenario file is refused with all its errors', () => {
  it('there is a file of each kind', () => {
    expect(files.length).toBeGreaterThanOrEqual(20)
  })

  it.each(files)('%s', async (file) => {
    const error = errorOf(readFileSync(`${FOLDER}/${file}`, 'utf8'), file)
    await expect(`${error.message}\n`).toMatchFileSnapshot(
      `broken-scenarios/${file.replace('.yaml', '.txt')}`,
    )
    expect(error.code).toBe('ERR_SCENARIO')
    expect(error.where).toMatchObject({
      file,
      line: error.problems[0]?.line,
      column: error.problems[0]?.column,
    })
  })
})

describe('the JSON Schema refuses what is wrong in shape', () => {
  const validate = new Ajv2020({ strict: true, strictRequired: false }).compile(scenarioJsonSchema(SAMPLE))
  const parsed = files.filter((file) => {
    const error = errorOf(readFileSync(`${FOLDER}/${file}`, 'utf8'), file)
    return error.problems.every((p) => p.path !== '' || /^the scenario must be a map/.test(p.message))
  })

  it('most files can be parsed', () => {
    expect(parsed.length).toBeGreaterThanOrEqual(14)
  })

  it.each(parsed)('%s', (file) => {
    const value: unknown = parse(readFileSync(`${FOLDER}/${file}`, 'utf8'))
    // Contradictions between parts of a right shape are beyond a JSON Schema.
    expect(validate(value)).toBe(file === 'contradictions.yaml' || file === 'lanes.yaml')
  })
})
