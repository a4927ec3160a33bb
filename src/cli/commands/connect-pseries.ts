import {
  comparePseries,
  isPseriesEqual,
  pseriesComparisonJson,
  pseriesComparisonText,
  pseriesDifferenceJson,
  pseriesDifferenceLines,
  type SmallestPseriesDifference,
} from '../../machine/lockstep/pseries-compare.ts'
import { PSERIES_PROFILE, PseriesModel } from '../../machine/lockstep/pseries-model.ts'
import { randomPseriesScript } from '../../machine/lockstep/pseries-random.ts'
import {
  formatPseriesRecording,
  type PseriesScript,
  readPseriesScripts,
} from '../../machine/lockstep/pseries-step.ts'
import { comparePseriesScenarios } from '../../machine/lockstep/scenario/pseries-comparison.ts'
import { type PseriesPlan, planPseries } from '../../machine/lockstep/scenario/pseries-plan.ts'
import type { FiledPlan } from '../../machine/lockstep/scenario/result.ts'
import { FreshPseriesPeer, PseriesPeer } from '../../peer/pseries-peer.ts'
import type { Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import type { OutputFile } from '../output-file.ts'
import { type ConnectRequest, filesOf, PROGRESS_MS, recordOf } from './connect-request.ts'
import { linesOf, planned, reportScenarios } from './connect-scenarios.ts'

/** Random scripts until there are enough hypercalls. */
function* randomScripts({ random, seed }: ConnectRequest): Generator<PseriesScript> {
  let hypercalls = 0
  for (let number = 0; hypercalls < random; number++) {
    const script = randomPseriesScript(seed, number)
    for (const { kind } of script.steps) if (kind === 'hcall' || kind === 'rtas') hypercalls++
    yield script
  }
}

async function compareWith(
  peer: PseriesPeer,
  model: PseriesModel,
  request: ConnectRequest,
  given: readonly PseriesScript[],
  record: OutputFile | undefined,
  io: Io,
) {
  const startedMs = io.elapsedMs()
  const rateOf = (hypercalls: number): string =>
    (hypercalls / Math.max(0.001, (io.elapsedMs() - startedMs) / 1000)).toFixed(0)
  let shownMs = startedMs
  const all = function* (): Generator<PseriesScript> {
    yield* given
    yield* randomScripts(request)
  }
  const result = await comparePseries(peer, model, all(), {
    differencesMax: request.most,
    onProgress({ hypercalls, equal }) {
      if (io.elapsedMs() < shownMs) return
      shownMs = io.elapsedMs() + PROGRESS_MS
      io.progress(`${hypercalls} hypercalls, ${equal} equal answers, ${rateOf(hypercalls)} hypercalls/s`)
    },
    onDifference: (kind) => io.err(`${kind}: making its script smaller\n`),
    onAnswers: (script, answers) => record?.write(formatPseriesRecording(script, answers)),
  })
  const seconds = (io.elapsedMs() - startedMs) / 1000
  io.progress('')
  io.err(
    `${result.hypercalls} hypercalls in ${seconds.toFixed(1)} s (${rateOf(result.hypercalls)} hypercalls/s)\n`,
  )
  return result
}

/** Runs scenarios, each on a machine of its own. */
async function runScenarios(
  model: PseriesModel,
  plans: readonly FiledPlan<PseriesPlan>[],
  { most }: ConnectRequest,
  record: OutputFile | undefined,
  io: Io,
) {
  const peer = new FreshPseriesPeer()
  try {
    const results = await comparePseriesScenarios(peer, model, plans, {
      differencesMax: most,
      onScenario: (name) => io.progress(name),
      onDifference: (kind, name) => io.err(`${name} differs: ${kind}; making its script smaller\n`),
      onAnswers: (script, answers) => record?.write(formatPseriesRecording(script, answers)),
    })
    return { results, peer: peer.title }
  } finally {
    io.progress('')
  }
}

/** `connect qemu-pseries`: QEMU's hypercalls beside the model's. */
export async function connectPseries(request: ConnectRequest, call: Invocation, io: Io): Promise<number> {
  const { scripts, scenarios } = await filesOf(request, io, readPseriesScripts)
  const profile = (call.options['profile'] as string | undefined) ?? PSERIES_PROFILE
  const model = new PseriesModel(profile)
  const plans = planned(request, 'pseries', scenarios, planPseries)
  const record = recordOf(call)
  let running: PseriesPeer | undefined
  try {
    if (plans.length > 0) {
      const { results, peer } = await runScenarios(model, plans, request, record, io)
      const made = {
        peer,
        profile,
        planned: plans.length,
        lineOf: linesOf(scenarios),
        differenceLines: (d: SmallestPseriesDifference) => pseriesDifferenceLines(d, io.paint),
        differenceJson: pseriesDifferenceJson,
      }
      return reportScenarios(results, made, call, io)
    }
    const given = scripts.map(({ name, entries }) => ({ name, steps: entries.map(({ step }) => step) }))
    running = await PseriesPeer.start()
    const result = await compareWith(running, model, request, given, record, io)
    const made = { peer: running.title, ...(request.random > 0 && { seed: request.seed }) }
    io.out(
      call.options['json'] === true
        ? jsonText(pseriesComparisonJson(result, made))
        : pseriesComparisonText(result, made, io.paint),
    )
    return isPseriesEqual(result) ? EXIT.CLEAN : EXIT.FINDINGS
  } finally {
    await running?.stop()
    record?.close()
  }
}
