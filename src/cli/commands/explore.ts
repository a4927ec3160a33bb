import { existsSync, realpathSync, rmSync } from 'node:fs'
import { IommulatorError } from '../../bits/errors.ts'
import { parseU64 } from '../../bits/u64.ts'
import {
  type Exploration,
  type ExploreOptions,
  exploring,
  isSound,
  ORDERS_MOST,
} from '../../machine/explore/explore.ts'
import { exploreJson, exploreText } from '../../machine/explore/explore-report.ts'
import { type ShortestOrder, scenarioOfOrder, seekingShortest } from '../../machine/explore/shortest.ts'
import type { Slices } from '../../machine/explore/slices.ts'
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
/** Where nobody sees a line that is drawn again. */
const LINE_MS = 20_000
/** Steps between two looks for a signal: some ten milliseconds. */
const SLICE_PARTS = 128
const COUNT_BITS = 32

function countOf(options: Invocation['options'], option: string): number | undefined {
  const text = options[option]
  if (typeof text !== 'string') return undefined
  let number: bigint
  try {
    number = parseU64(text, COUNT_BITS)
  } catch (error) {
    const most = option === 'seed' ? 0 : 1
    const why = `--${option} ${text}: a whole number of at least ${most}, and below 2^${COUNT_BITS}`
    throw new IommulatorError('ERR_NUMBER', why, {}, error)
  }
  if (number > 0n || option === 'seed') return Number(number)
  throw new IommulatorError('ERR_NUMBER', `--${option} ${text}: a whole number of at least 1`)
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

/** What came of it, and whether somebody ended it before it was over. */
interface Explored {
  readonly exploration: Exploration
  readonly shortest: ShortestOrder | undefined
  readonly isInterrupted: boolean
}

/** Runs the orders, with their number on stderr while it lasts. An interruption ends it with what was found so far. */
async function exploreLive(
  path: string,
  scenario: Scenario,
  options: ExploreOptions,
  io: Io,
): Promise<Explored> {
  let isInterrupted = false
  const restore = io.onInterrupt(() => {
    isInterrupted = true
  })
  const isCut = () => isInterrupted
  let shown = io.isLive ? SILENT_MS : LINE_MS
  const onOrder = (orders: number, steps: number): void => {
    if (io.elapsedMs() <= shown) return
    shown = io.elapsedMs() + (io.isLive ? PROGRESS_MS : LINE_MS)
    const so = `${orders} orders, ${steps} steps`
    if (io.isLive) io.progress(so)
    else if (!io.isQuiet) io.err(`${so} so far\n`)
  }
  try {
    const exploration = await inSlices(path, exploring(scenario, { ...options, isCut, onOrder }))
    const shortest = await inSlices(path, seekingShortest(exploration, { isCut }))
    io.progress('')
    return { exploration, shortest, isInterrupted }
  } finally {
    restore()
  }
}

/** Does work part by part, and lets signals in now and then. */
async function inSlices<T>(path: string, work: Slices<T>): Promise<T> {
  for (let parts = 1; ; parts++) {
    const { done, value } = withPlace(path, () => work.next())
    if (done === true) return value
    if (parts % SLICE_PARTS === 0) await new Promise((resolve) => setImmediate(resolve))
  }
}

/**
 * Opens the file before the orders are run, and writes it when there is something to write; what it held stays until
 * then, and where it was not there it is gone again.
 */
class Outcome {
  readonly #path: string
  readonly #isNew: boolean
  readonly #file: OutputFile

  /** @throws IommulatorError ERR_OUTPUT where it cannot be written, or is the scenario itself */
  constructor(path: string, input: string) {
    this.#path = path
    this.#isNew = !existsSync(path)
    if (input !== '-' && !this.#isNew && realpathSync(path) === realpathSync(input)) {
      throw new IommulatorError('ERR_OUTPUT', `--out ${path}: that is the scenario itself`, { file: path })
    }
    this.#file = OutputFile.open(path)
  }

  end(scenario: Scenario, shortest: ShortestOrder | undefined, io: Io): void {
    const path = this.#path
    if (shortest !== undefined) {
      this.#file.write(formatScenario(scenarioOfOrder(scenario, shortest.end)))
      io.err(`the shortest order is in ${path}: iommulator run ${path}\n`)
    }
    this.#file.close()
    if (shortest === undefined && this.#isNew) rmSync(path)
  }
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
    const name = options['out']
    const out = typeof name === 'string' ? new Outcome(name, path) : undefined
    const { exploration, shortest, isInterrupted } = await exploreLive(path, scenario, explored, io).catch(
      (error: unknown) => {
        out?.end(scenario, undefined, io)
        throw error
      },
    )
    io.out(
      options['json'] === true
        ? jsonText(exploreJson(exploration, shortest))
        : exploreText(exploration, shortest, io.paint),
    )
    out?.end(scenario, shortest, io)
    if (isInterrupted) return EXIT.INTERRUPTED
    return isSound(exploration) ? EXIT.CLEAN : EXIT.FINDINGS
  },
}
