import { basename } from 'node:path'
import { IommulatorError } from '../../bits/errors.ts'
import type { MachineDescription } from '../../machine/description.ts'
import { type LeftOut, lanesLeftOut } from '../../machine/lockstep/scenario/plan.ts'
import {
  leftOutLine,
  type ReportedWith,
  scenariosJson,
  scenariosText,
} from '../../machine/lockstep/scenario/report.ts'
import { type FiledPlan, isAsModelled, type ScenarioResult } from '../../machine/lockstep/scenario/result.ts'
import type { Scenario } from '../../machine/scenario/scenario.ts'
import type { Path } from '../../machine/schema/issue.ts'
import type { Invocation } from '../command.ts'
import { EXIT } from '../exit.ts'
import type { Io } from '../io.ts'
import { jsonText } from '../json-text.ts'
import type { ConnectRequest, FiledScenario } from './connect-request.ts'

/** Lines that say what a peer cannot do; more are only counted. */
const LINES_MAX = 40

/** What is needed of a plan here. */
interface Planned {
  readonly scenario: Scenario
  readonly leftOut: readonly LeftOut[]
}

const PEER_OF = {
  powernv: 'iommulator connect kernel',
  pseries: 'iommulator connect qemu-pseries',
  q35: 'iommulator connect qemu-vtd',
  x86: 'no peer runs its kernel',
} as const

/** Line of a part of one of some scenarios. */
export const linesOf =
  (scenarios: readonly FiledScenario[]) =>
  (file: string, path: Path): number =>
    scenarios.find((s) => s.file === file)?.lineOf(path) ?? 1

/**
 * Plans scenarios for a peer, before it is started.
 *
 * @throws IommulatorError ERR_SCENARIO where the peer cannot do all of them, naming each part with its place; parts of
 * scenarios of its kind are no error where the request allows for them
 */
export function planned<P extends Planned>(
  { peer, isPartial }: Pick<ConnectRequest, 'peer' | 'isPartial'>,
  kind: MachineDescription['kind'],
  scenarios: readonly FiledScenario[],
  plan: (scenario: Scenario, name: string) => P,
): FiledPlan<P>[] {
  const lineOf = linesOf(scenarios)
  const others = scenarios
    .filter(({ scenario }) => scenario.machine.kind !== kind)
    .map(({ file, scenario: { machine } }) => {
      const line = lineOf(file, ['machine', 'kind'])
      return `${file}:${line}: a machine of kind ${machine.kind}: ${PEER_OF[machine.kind]}`
    })
  if (others.length > 0) throw cannot(peer, others, false)
  const plans = scenarios.map(({ file, scenario }) => {
    const made = plan(scenario, basename(file).replace(/\.\w+$/, ''))
    return { file, plan: { ...made, leftOut: [...made.leftOut, ...lanesLeftOut(scenario)] } }
  })
  const left = plans.flatMap(({ file, plan: { leftOut } }) =>
    leftOut.map((l) => leftOutLine(file, lineOf(file, l.path), l)),
  )
  if (left.length > 0 && !isPartial) throw cannot(peer, left, true)
  return plans
}

function cannot(peer: string, lines: readonly string[], isPart: boolean): IommulatorError {
  const more = lines.length > LINES_MAX ? [`and ${lines.length - LINES_MAX} more`] : []
  const how = isPart ? ['--partial does the others, and counts these'] : []
  const text = [`the ${peer} peer cannot do this:`, ...lines.slice(0, LINES_MAX), ...more, ...how]
  return new IommulatorError('ERR_SCENARIO', text.join('\n'))
}

/** Prints what scenarios gave, and answers the exit code. */
export function reportScenarios<D>(
  results: readonly ScenarioResult<D>[],
  made: ReportedWith<D>,
  { options }: Invocation,
  io: Io,
): number {
  io.out(
    options['json'] === true
      ? jsonText(scenariosJson(results, made))
      : scenariosText(results, made, io.paint),
  )
  return isAsModelled(results) ? EXIT.CLEAN : EXIT.FINDINGS
}
