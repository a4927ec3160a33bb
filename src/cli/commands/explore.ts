import { IommulatorError } from '../../bits/errors.ts'
import { parseU64 } from '../../bits/u64.ts'
import {
  type Exploration,
  type ExploreOptions,
  explore,
  isSound,
  ORDERS_MOST,
} from '../../machine/explore/explore.ts'
import { exploreJson, exploreText } from '../../machine/explore/explore-report.ts'
import { type ShortestOrder, scenarioOfOrder, shortestOrder } from '../../machine/explore/shortest.ts'
import { formatScenario } from '../../machine/scenario/format-scenario.ts'
import type { Scenario } from '../../machine/scenario/scenario.ts'
import type { Command, Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import { loadScenario } from '../load-scenario.ts'
import { OutputFile } from '../output-file.ts'
import { withPlace } from '../placed-error.ts'
import { PROFILE_NAMES } from '../profiles.ts'

const PROGRESS_MS = 200
const SILENT_MS = 1000
const COUNT_BITS = 32

function countOf(options: Invocation['options'], option: string): number | undefined {
  const text = options[option]
  if (typeof text !== 'string') return undefined
  let number: bigint
  try {
    number = parseU64(text, COUNT_BITS)
  } catch (error) {
    throw new IommulatorError('ERR_NUMBER', `--${option} ${text}: ${(error as Error).message}`)
  }
  if (number > 0n || option === 'seed') return Number(number)
  throw new IommulatorError('ERR_NUMBER', `--${option} ${text}: at least 1`)
}

/** Which orders the options ask for. */
function optionsOf(options: Invocation['options']): ExploreOptions {
  const [bound, random, seed] = ['bound', 'random', 'seed'].map((name) => countOf(options, name))
  const isAll = options['all'] === true
  const wrong =
    random !== undefined && (isAll || bound !== undefined)
      ? `--random says how many orders: it does not go with ${isAll ? '--all' : '--bound'}`
      : random === undefined && seed !== undefined
        ? '--seed is for --random'
        : undefined
  if (wrong !== undefined) throw new IommulatorError('ERR_NUMBER', wrong)
  if (random !== undefined) return { mode: 'random', bound: random, ...(seed !== undefined && { seed }) }
  return { mode: isAll ? 'all' : 'reduced', ...(bound !== undefined && { bound }) }
}

/** Runs the orders, with their number on stderr while it lasts. */
function exploreLive(scenario: Scenario, options: ExploreOptions, io: Io): Exploration {
  let shown = SILENT_MS
  const done = explore(scenario, {
    ...options,
    onOrder: (orders, steps) => {
      if (io.elapsedMs() <= shown) return
      shown = io.elapsedMs() + PROGRESS_MS
      io.progress(`${orders} orders, ${steps} steps`)
    },
  })
  io.progress('')
  return done
}

function write(path: string, scenario: Scenario, { end }: ShortestOrder, io: Io): void {
  const file = OutputFile.open(path)
  file.write(formatScenario(scenarioOfOrder(scenario, end)))
  file.close()
  io.err(`the shortest order is in ${path}: iommulator run ${path}\n`)
}

export const exploreCommand: Command = {
  name: 'explore',
  summary: 'run every order of the concurrent steps of a scenario',
  positionals: [
    { name: '<file>', doc: 'a scenario with `concurrent`, or - for standard input', complete: 'file' },
  ],
  options: [
    { flags: '--bound <orders>', doc: `orders to run at most (${ORDERS_MOST})` },
    { flags: '--all', doc: 'also orders that differ only in steps that may be exchanged' },
    { flags: '--random <orders>', doc: 'so many orders at random, instead of every one' },
    { flags: '--seed <seed>', doc: 'of --random (1)' },
    { flags: '--out <file>', doc: 'write the shortest order that goes wrong as a scenario' },
    {
      flags: '--profile <profile>',
      doc: "errata of the machine, instead of the scenario's",
      offer: () => PROFILE_NAMES,
    },
    { flags: '--json', doc: 'print one JSON object' },
  ],
  examples: [
    ['iommulator explore exit.yaml', 'every order, the shortest that is wrong'],
    ['iommulator explore exit.yaml --out wrong.yaml', 'the same, as a scenario to run'],
    ['iommulator explore exit.yaml --profile linux-4.9', 'with the errata of a kernel'],
    ['iommulator explore large.yaml --random 10000 --seed 7', 'where there are too many orders'],
  ],
  async run({ positionals: [path = '-'], options }, io) {
    const explored = optionsOf(options)
    const read = await loadScenario(path, io.stdin)
    if (read.concurrent === undefined) {
      const why = `${path}: it has no \`concurrent\`: there is but one order`
      throw new IommulatorError('ERR_SCENARIO', why, { file: path })
    }
    const profile = options['profile']
    const machine = typeof profile === 'string' ? { ...read.machine, profile } : read.machine
    // The order of a file is one of those that are run.
    const { order: _order, ...rest } = read
    const scenario: Scenario = { ...rest, machine }
    const result = withPlace(path, () => exploreLive(scenario, explored, io))
    const shortest = shortestOrder(result)
    io.out(
      options['json'] === true
        ? jsonText(exploreJson(result, shortest))
        : exploreText(result, shortest, io.paint),
    )
    const out = options['out']
    if (typeof out === 'string' && shortest !== undefined) write(out, scenario, shortest, io)
    return isSound(result) ? EXIT.CLEAN : EXIT.FINDINGS
  },
}
