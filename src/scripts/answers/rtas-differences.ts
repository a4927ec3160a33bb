import { resolveProfile } from '../../bits/errata.ts'
import { QEMU_ERRATA } from '../../kernel/qemu/errata.ts'
import { PSERIES_PROFILE, PseriesModel } from '../../machine/lockstep/pseries-model.ts'
import { alignedGrid } from '../markdown.ts'
import { AnswerTaker } from './answer-taker.ts'
import type { RecordedRun } from './recorded-run.ts'
import { BUID, DDW, type RtasAnswers, type RtasStep, recordedRtas, rtasInput, TABLES } from './rtas-inputs.ts'
import { NOT_RUN } from './rule-pages.ts'

/** A call for dynamic windows on a new machine, with those that are made before it. */
export interface RtasExample {
  readonly call: string
  readonly title: string
  readonly steps: readonly RtasStep[]
}

const CFG = 0
const NOBODY = [0x0800_0000, 0x7777_0000] as const
const [DEFAULT, OTHER] = TABLES
const rtas = (token: number, nret: number, ...args: number[]): RtasStep => ({
  kind: 'rtas',
  token,
  nret,
  args,
})
const query = (nret = 6, buid: readonly number[] = BUID): RtasStep =>
  rtas(DDW.query.token, nret, CFG, ...buid)
const create = (pageShift = 16, windowShift = 30, buid: readonly number[] = BUID): RtasStep =>
  rtas(DDW.create.token, 4, CFG, ...buid, pageShift, windowShift)
const remove = (liobn: number, nret = 1): RtasStep => rtas(DDW.remove.token, nret, liobn)
const reset = (buid: readonly number[] = BUID): RtasStep => rtas(DDW.reset.token, 1, CFG, ...buid)

const QUERY = 'ibm,query-pe-dma-window'
const CREATE = 'ibm,create-pe-dma-window'
const REMOVE = 'ibm,remove-pe-dma-window'
const RESET = 'ibm,reset-pe-dma-window'
const example = (call: string, title: string, ...steps: RtasStep[]): RtasExample => ({ call, title, steps })

export const RTAS_EXAMPLES: readonly RtasExample[] = [
  example(QUERY, '6 cells of results', query()),
  example(QUERY, '5 cells of results', query(5)),
  example(QUERY, '4 cells of results', query(4)),
  example(QUERY, 'no such host bridge', query(6, NOBODY)),
  example(QUERY, 'both windows are open, 6 cells', create(), query()),
  example(QUERY, 'both windows are open, 5 cells', create(), query(5)),
  example(
    QUERY,
    'the last window, made in the first table, is gone',
    ...[remove(DEFAULT), create(), remove(DEFAULT), query()],
  ),
  example(CREATE, 'beside the default window', create()),
  example(CREATE, '4 cells of arguments', rtas(DDW.create.token, 4, CFG, ...BUID, 16)),
  example(CREATE, 'no such host bridge', create(16, 30, NOBODY)),
  example(CREATE, 'pages that it does not have', create(25)),
  example(CREATE, 'a window below a page', create(24, 23)),
  example(CREATE, 'a third window', create(), create()),
  example(CREATE, 'a window of 2^32 pages', create(12, 44)),
  example(CREATE, 'no window is open', remove(DEFAULT), create()),
  example(CREATE, 'beside a window at 1 << 59', create(), remove(DEFAULT), create()),
  example(REMOVE, 'the other of two windows', create(), remove(OTHER)),
  example(REMOVE, 'the default one of two', create(), remove(DEFAULT)),
  example(REMOVE, 'the default window alone', remove(DEFAULT)),
  example(REMOVE, 'no such LIOBN', remove(0x8000_7777)),
  example(REMOVE, 'a LIOBN without a window', remove(OTHER)),
  example(REMOVE, '2 cells of results', remove(DEFAULT, 2)),
  example(REMOVE, 'the last window', create(), remove(DEFAULT), remove(OTHER)),
  example(RESET, 'two windows', create(), reset()),
  example(RESET, 'no such host bridge', reset(NOBODY)),
]

/** The answer to the last step of an example, as recordings have it. */
const answerTo = (model: PseriesModel, { title, steps }: RtasExample): string =>
  model.answers({ name: title, steps }).at(-1) ?? ''

/** The input of the last step of an example, and the rule that answers it. */
export function exampleInput({ title, steps }: RtasExample): {
  readonly input: string
  readonly rule: string
} {
  const taker = new AnswerTaker()
  new PseriesModel(PSERIES_PROFILE, (log) => log.subscribe(taker)).answers({ name: title, steps })
  const [seen, step] = [taker.calls.at(-1), steps.at(-1)]
  if (seen === undefined || step === undefined) throw new Error(`${title}: no call`)
  return { input: rtasInput(step, seen.open), rule: seen.rule }
}

interface Compared extends RtasExample {
  readonly input: string
  readonly rule: string
  readonly qemu: string
  readonly meant: string
  readonly because: readonly string[]
}

function comparedExamples(): Compared[] {
  const { ids } = resolveProfile(QEMU_ERRATA, PSERIES_PROFILE)
  const [qemu, meant] = [new PseriesModel(PSERIES_PROFILE), new PseriesModel('intended')]
  const without = ids.map((id) => ({ id, model: new PseriesModel(`${PSERIES_PROFILE},-${id}`) }))
  return RTAS_EXAMPLES.map((e) => {
    const answer = answerTo(qemu, e)
    const because = without.filter(({ model }) => answerTo(model, e) !== answer).map(({ id }) => id)
    return { ...e, ...exampleInput(e), qemu: answer, meant: answerTo(meant, e), because }
  })
}

/** What the model answers does not depend on recordings: done once. */
let comparisons: readonly Compared[] | undefined

const recordedText = (answers: RtasAnswers | undefined, qemu: string): string =>
  answers === undefined
    ? NOT_RUN
    : [...answers]
        .map(([answer, { count, place }]) => `${answer === qemu ? '' : `\`${answer}\` `}${count} (${place})`)
        .join(', ')

/** What QEMU and the interface answer to calls for dynamic windows, call by call. */
export function rtasTables(runs: readonly RecordedRun[]): string {
  comparisons ??= comparedExamples()
  const recorded = recordedRtas(runs)
  const rows = comparisons.map(({ call, title, input, rule, qemu, meant, because }) => ({
    call,
    cells: [
      title,
      `\`${qemu}\``,
      `\`${rule}\``,
      recordedText(recorded.get(input), qemu),
      `\`${meant}\``,
      because.join(' '),
    ],
  }))
  const head = ['input', 'QEMU 7.2', 'rule', 'recorded', 'interface', 'errata']
  return [...new Set(rows.map(({ call }) => call))]
    .map((name) => {
      const ofCall = rows.filter(({ call }) => call === name).map(({ cells }) => cells)
      return `### ${name}\n\n${alignedGrid(head, ofCall)}\n`
    })
    .join('\n')
}
