import { readFileSync } from 'node:fs'
import { parseScenario } from '../../src/cli/yaml-scenario.ts'
import { type ExploreMode, type ExploreOptions, explore } from '../../src/machine/explore/explore.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import type { Scenario } from '../../src/machine/scenario/scenario.ts'
import { type CaseGroup, check, type SetUp } from '../case.ts'

/** Orders of a pass at random. */
const ORDERS = 1 << 5

function scenarioOf(name: string): Scenario {
  const file = `scenarios/svm/${name}.yaml`
  return parseScenario(readFileSync(file, 'utf8'), file, CATALOGUE)
}

/** So many orders of an exit, a page request and its thread, by chance: each from its beginning to its end. */
const atRandom =
  (options: Pick<ExploreOptions, 'rules'>): SetUp =>
  (operations) => {
    const scenario = scenarioOf('exit-beside-request')
    return {
      operations,
      pass(): number {
        const found = explore(scenario, { mode: 'random', bound: operations, seed: 7, ...options })
        check(found.orders === operations && found.broken.size === 0, 'no order breaks a rule')
        return found.steps
      },
    }
  }

/** The orders of an exit and two accesses, to the last. */
const family =
  (mode: ExploreMode): SetUp =>
  () => {
    const scenario = scenarioOf('exit-beside-dma')
    return {
      operations: 1,
      pass(): number {
        const found = explore(scenario, { mode })
        check(found.isComplete && found.broken.size === 0, 'no order breaks a rule')
        return found.states
      },
    }
  }

export const EXPLORE: CaseGroup = {
  title: 'Interleavings',
  note:
    'random: orders of a process that exits, its device that asks for a page, and the thread that answers (scenarios/svm/' +
    'exit-beside-request.yaml), 28 to 34 steps each, taken, judged by all rules and taken back; unjudged: by one rule, which looks at nothing. ' +
    'family: the orders of an exit and two accesses (scenarios/svm/exit-beside-dma.yaml) to the last; all: none left out.',
  cases: [
    {
      id: 'explore/random',
      operation: 'order',
      operations: ORDERS,
      setUp: atRandom({}),
      peer: { label: 'unjudged', setUp: atRandom({ rules: ['stopped'] }) },
    },
    {
      id: 'explore/family',
      operation: 'family',
      operations: 1,
      setUp: family('reduced'),
      peer: { label: 'all', setUp: family('all') },
    },
  ],
}
