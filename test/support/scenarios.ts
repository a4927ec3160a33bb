import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type PlacedScenario, parsePlacedScenario } from '../../src/cli/yaml-scenario.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'

const FOLDERS = ['scenarios/errata', 'scenarios/rules', 'scenarios/tour']

export interface FiledScenario extends PlacedScenario {
  readonly file: string
  readonly name: string
}

/** All scenarios of the project that are of one kind of machine. */
export const scenariosOf = (kind: 'powernv' | 'pseries' | 'q35'): FiledScenario[] =>
  FOLDERS.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .sort()
    .map((file) => ({
      file,
      name: file.replace(/^.*\/|\.yaml$/g, ''),
      ...parsePlacedScenario(readFileSync(file, 'utf8'), file, CATALOGUE),
    }))
    .filter(({ scenario }) => scenario.machine.kind === kind)

/** A scenario of YAML: its machine, and a step a line. */
export const scenarioOf = (machine: string, ...steps: readonly string[]) =>
  parsePlacedScenario(
    ['version: 1', 'title: test', 'machine:', machine, 'steps:', ...steps.map((s) => `  - ${s}`)].join('\n'),
    'test.yaml',
    CATALOGUE,
  ).scenario
