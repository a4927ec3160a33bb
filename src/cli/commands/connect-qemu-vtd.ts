import { IommulatorError } from '../../bits/errors.ts'
import { compareQ35Scenarios, type Q35Difference } from '../../machine/lockstep/scenario/q35-comparison.ts'
import { planQ35, type Q35Plan } from '../../machine/lockstep/scenario/q35-plan.ts'
import type { FiledPlan } from '../../machine/lockstep/scenario/result.ts'
import { isScriptEqual } from '../../machine/lockstep/script-comparison.ts'
import {
  compareVtd,
  vtdComparisonJson,
  vtdComparisonText,
  vtdDifferenceJson,
  vtdDifferenceLines,
} from '../../machine/lockstep/vtd-compare.ts'
import { VtdModel } from '../../machine/lockstep/vtd-model.ts'
import { randomVtdModes, randomVtdScript } from '../../machine/lockstep/vtd-random.ts'
import { randomRequestScript } from '../../machine/lockstep/vtd-random-requests.ts'
import { formatVtdRecording, readVtdScripts, type VtdScript } from '../../machine/lockstep/vtd-step.ts'
import { VTD_UNIT_MODES, type VtdUnitMode } from '../../machine/lockstep/vtd-unit-options.ts'
import type { Scenario } from '../../machine/scenario/scenario.ts'
import { findRequestFiles, findVtdFiles, type VtdFiles } from '../../peer/vtd-files.ts'
import { VtdPeer } from '../../peer/vtd-peer.ts'
import type { Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import type { OutputFile } from '../output-file.ts'
import { type ConnectRequest, filesOf, PROGRESS_MS, recordOf } from './connect-request.ts'
import { linesOf, planned, reportScenarios } from './connect-scenarios.ts'

/** What the random script with a number from 0 on is. */
type RandomScript = (number: number) => VtdScript

/** What is run beside the model: the machine's parts, and which random scripts it gets. */
interface Kind {
  readonly find: (path: string | undefined) => Promise<VtdFiles>
  readonly random: (request: ConnectRequest, call: Invocation, version: string) => RandomScript
}

const UNIT: Kind = {
  find: findVtdFiles,
  random({ seed }, call, version) {
    const modes = modesOf(call, version)
    return (number) => randomVtdScript(seed, number, modes[number % modes.length] as VtdUnitMode, version)
  },
}
const PAGE_REQUESTS: Kind = {
  find: findRequestFiles,
  random:
    ({ seed }) =>
    (number) =>
      randomRequestScript(seed, number),
}

/** The modes of random scripts: the one that is asked for, or all that the QEMU has. */
function modesOf({ options }: Invocation, version: string): readonly VtdUnitMode[] {
  const asked = options['mode'] as string | undefined
  if (asked === undefined) return randomVtdModes(version)
  const mode = VTD_UNIT_MODES.find((known) => known === asked)
  if (mode !== undefined) return [mode]
  throw new IommulatorError('ERR_NUMBER', `--mode ${asked}: one of ${VTD_UNIT_MODES.join(', ')}`)
}

/** Random scripts, until there are enough steps. */
function* randomScripts({ random }: ConnectRequest, scriptOf: RandomScript): Generator<VtdScript> {
  let steps = 0
  for (let number = 0; steps < random; number++) {
    const script = scriptOf(number)
    steps += script.steps.length
    yield script
  }
}

async function compareWith(
  peer: VtdPeer,
  model: VtdModel,
  scripts: Iterable<VtdScript>,
  { most }: ConnectRequest,
  record: OutputFile | undefined,
  io: Io,
) {
  const startedMs = io.elapsedMs()
  const rateOf = (steps: number): string =>
    (steps / Math.max(0.001, (io.elapsedMs() - startedMs) / 1000)).toFixed(0)
  let shownMs = startedMs
  const result = await compareVtd(peer, model, scripts, {
    differencesMax: most,
    onProgress({ steps, equal }) {
      if (io.elapsedMs() < shownMs) return
      shownMs = io.elapsedMs() + PROGRESS_MS
      io.progress(`${steps} steps, ${equal} equal answers, ${rateOf(steps)} steps/s`)
    },
    onDifference: (kind) => io.err(`${kind}: making its script smaller\n`),
    onAnswers: (script, answers) => record?.write(formatVtdRecording(script, answers)),
  })
  const seconds = (io.elapsedMs() - startedMs) / 1000
  io.progress('')
  io.err(`${result.steps} steps in ${seconds.toFixed(1)} s (${rateOf(result.steps)} steps/s)\n`)
  return result
}

/** Runs scenarios, each on a machine of its own. */
async function runScenarios(
  peer: VtdPeer,
  model: VtdModel,
  plans: readonly FiledPlan<Q35Plan>[],
  { most }: ConnectRequest,
  record: OutputFile | undefined,
  io: Io,
) {
  try {
    return await compareQ35Scenarios(peer, model, plans, {
      differencesMax: most,
      onScenario: (name) => io.progress(name),
      onDifference: (kind, name) => io.err(`${name} differs: ${kind}; making its script smaller\n`),
      onAnswers: (script, answers) => record?.write(formatVtdRecording(script, answers)),
    })
  } finally {
    io.progress('')
  }
}

/** `connect qemu-vtd`: QEMU's intel-iommu beside the model's VT-d unit. */
export const connectQemuVtd = (request: ConnectRequest, call: Invocation, io: Io): Promise<number> =>
  connect(UNIT, request, call, io)

/** `connect qemu-prq`: the same, with devices that ask for translations and pages. */
export const connectQemuPrq = (request: ConnectRequest, call: Invocation, io: Io): Promise<number> =>
  connect(PAGE_REQUESTS, request, call, io)

async function connect(kind: Kind, request: ConnectRequest, call: Invocation, io: Io): Promise<number> {
  const { scripts, scenarios } = await filesOf(request, io, readVtdScripts)
  const files = await kind.find(call.options['qemu'] as string | undefined)
  const scriptOf = kind.random(request, call, files.version)
  const profile = (call.options['profile'] as string | undefined) ?? `qemu-${files.version}`
  const model = new VtdModel(files.version, profile)
  const plan = (scenario: Scenario, name: string): Q35Plan => planQ35(scenario, name, files.version)
  const plans = planned(request, 'q35', scenarios, plan)
  const peer = new VtdPeer(files)
  const record = recordOf(call)
  const all = function* (): Generator<VtdScript> {
    for (const { entries, ...script } of scripts) yield { ...script, steps: entries.map(({ step }) => step) }
    yield* randomScripts(request, scriptOf)
  }
  try {
    if (plans.length > 0) {
      const lineOf = linesOf(scenarios)
      const results = await runScenarios(peer, model, plans, request, record, io)
      const placeOf = ({ file, scenarioStep }: Q35Difference) =>
        scenarioStep && { scenarioStep, line: lineOf(file, ['steps', scenarioStep - 1]) }
      const made = {
        ...{ peer: peer.title, profile, planned: plans.length, lineOf },
        differenceLines(d: Q35Difference) {
          const place = placeOf(d)
          const where = place ? [`${d.file}:${place.line}: step ${place.scenarioStep} shows it first`] : []
          return [...where, ...vtdDifferenceLines(d, io.paint)]
        },
        differenceJson: (d: Q35Difference) => ({ ...placeOf(d), ...vtdDifferenceJson(d) }),
      }
      return reportScenarios(results, made, call, io)
    }
    const result = await compareWith(peer, model, all(), request, record, io)
    const made = { peer: peer.title, ...(request.random > 0 && { seed: request.seed }) }
    io.out(
      call.options['json'] === true
        ? jsonText(vtdComparisonJson(result, made))
        : vtdComparisonText(result, made, io.paint),
    )
    return isScriptEqual(result) ? EXIT.CLEAN : EXIT.FINDINGS
  } finally {
    await peer.stop()
    record?.close()
  }
}
