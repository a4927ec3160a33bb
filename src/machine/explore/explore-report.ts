import { counted } from '../../check/words.ts'
import { findingsJson } from '../../report/json.ts'
import { table, wrapped } from '../../report/layout.ts'
import { findingsText, type Paint } from '../../report/text.ts'
import { callText } from '../run-report.ts'
import { type RunResult, runScenario } from '../run-scenario.ts'
import { scenarioDocument } from '../scenario/scenario-document.ts'
import { type Exploration, type ExploreMode, isSound } from './explore.ts'
import { type ShortestOrder, scenarioOfOrder } from './shortest.ts'

const MODES: Readonly<Record<ExploreMode, string>> = {
  reduced: 'every one',
  all: 'every one',
  random: 'at random',
}

const part = (orders: number, exploration: Exploration): string =>
  `in ${orders} of ${counted(exploration.orders, 'order')}`

function ordersText({ orders, standFor, mode, seed, isComplete }: Exploration): string {
  if (standFor !== undefined && standFor > orders) {
    return `${orders}, which stand for all ${standFor}: the others differ only in steps that may be exchanged`
  }
  if (mode === 'random') return `${orders}, ${MODES.random} (seed ${seed})`
  return isComplete ? `${orders}: ${MODES[mode]}` : `${orders}, and there are more: not every order was run`
}

/** What lanes do in a run, a line each step: who, which call, and which step of it. */
function stepsText({ steps, machine }: RunResult): string[] {
  const rows: [string, string, string][] = []
  for (const { step, place, operation, answer } of steps) {
    const [, lane] = /^concurrent\.(.*)\.\d+$/.exec(place) ?? []
    if (lane !== undefined) {
      const { start, ...plain } = operation
      const end = start === undefined ? ` -> ${answer.code} (${answer.rule})` : ''
      rows.push([`#${step}`, lane, callText(plain) + end])
    } else if (place === '') {
      const { task } = operation.args
      const done = String(answer.outputs['step'] ?? '')
      const ended = answer.outputs['answer']
      const end = answer.outputs['over'] === true && ended !== undefined ? ` -> ${String(ended)}` : ''
      rows.push([`#${step}`, String(task), `  ${done}: ${machine.tasks.docOf(done)}${end}`])
    }
  }
  return table(rows, { indent: 2 })
}

/** The report of an exploration as text of at most 100 columns. */
export function exploreText(e: Exploration, shortest: ShortestOrder | undefined, paint: Paint): string {
  const lanes = (e.scenario.concurrent ?? []).map(
    ({ name, steps }) => `${name} (${counted(steps.length, 'call')})`,
  )
  const facts = [
    ['lanes', lanes.join(', ')],
    ['orders', ordersText(e)],
    ['steps', `${e.longest} in the longest order; ${e.steps} taken in all`],
    ['ends', counted(e.states, 'state')],
    ...(e.unmodelled > 0 ? [['unmodelled', part(e.unmodelled, e)]] : []),
  ]
  const broken = [...e.broken].map(([rule, { orders }]) => [rule, part(orders, e)])
  const stuck = e.stuck === undefined ? [] : [['lanes that wait for ever', part(e.stuck.orders, e)]]
  return [
    ...wrapped('', `${e.scenario.title}  (${e.profile})`).map((line) => paint.bold(line)),
    '',
    ...table(facts, { indent: 2 }),
    '',
    ...(isSound(e)
      ? [paint.green(e.isComplete ? 'no order breaks a rule' : 'no order that was run breaks a rule')]
      : [paint.red('broken'), ...table([...broken, ...stuck], { indent: 2 })]),
    ...(shortest === undefined ? [] : shortestText(e, shortest, paint)),
    '',
  ].join('\n')
}

function shortestText({ scenario }: Exploration, { end, isProven }: ShortestOrder, paint: Paint): string[] {
  const { order, said, stuck } = end
  const result = runScenario(scenarioOfOrder(scenario, end))
  const entries = order.slice(0, said)
  const isShort = isProven ? 'the shortest order that goes wrong' : 'a short order that goes wrong'
  return [
    '',
    paint.bold(isShort),
    ...wrapped(
      '  order: ',
      entries.length === 0
        ? 'none is needed: the first lane that can go on does'
        : `[${entries.join(', ')}], then the first lane that can go on`,
    ),
    ...stuck.map((text) => paint.red(`  ${text}, for ever`)),
    '',
    ...stepsText(result),
    '',
    ...findingsText(result.findings, { paint, dropped: result.findingsDropped }),
  ]
}

/** The report as one object: fields are added, never renamed, without a new schema number. */
export function exploreJson(e: Exploration, shortest: ShortestOrder | undefined): object {
  const orderJson = (end: { readonly order: readonly string[]; readonly said: number }) =>
    end.order.slice(0, end.said)
  return {
    schema: 'iommulator/explore/1',
    title: e.scenario.title,
    profile: e.profile,
    mode: e.mode,
    ...(e.mode === 'random' && { seed: e.seed }),
    complete: e.isComplete,
    orders: e.orders,
    ...(e.standFor !== undefined && { standFor: String(e.standFor) }),
    steps: e.steps,
    longest: e.longest,
    states: e.states,
    unmodelled: e.unmodelled,
    broken: [...e.broken].map(([rule, { orders, first }]) => ({ rule, orders, order: orderJson(first) })),
    ...(e.stuck !== undefined && {
      stuck: { orders: e.stuck.orders, order: orderJson(e.stuck.first), waits: e.stuck.first.stuck },
    }),
    ...(shortest !== undefined && { shortest: shortestJson(e, shortest) }),
  }
}

function shortestJson({ scenario }: Exploration, { end, isProven }: ShortestOrder): object {
  const ordered = scenarioOfOrder(scenario, end)
  const { findings, findingsDropped } = runScenario(ordered)
  return {
    proven: isProven,
    order: end.order.slice(0, end.said),
    findings: findingsJson(findings, findingsDropped).findings,
    scenario: scenarioDocument(ordered),
  }
}
