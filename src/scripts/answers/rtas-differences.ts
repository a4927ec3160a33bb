import type { Value } from '../../bits/answer.ts'
import type { CallDecl } from '../../bits/call.ts'
import { resolveProfile } from '../../bits/errata.ts'
import { hex } from '../../bits/u64.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
} from '../../kernel/qemu/calls.ts'
import { QEMU_ERRATA } from '../../kernel/qemu/errata.ts'
import { createMachine } from '../../machine/create-machine.ts'
import { describeMachine } from '../../machine/description.ts'
import { alignedGrid } from '../markdown.ts'
import { type RuleCounts, summed } from './rule-counts.ts'
import { NOT_RUN } from './rule-pages.ts'

type Args = Readonly<Record<string, Value>>
type Step = readonly [decl: CallDecl, args: Args]
interface RtasExample {
  readonly title: string
  /** Calls that are made before, on a new machine. */
  readonly before?: readonly Step[]
  readonly step: Step
}

const BUID = 0x0800_0000_2000_0000n
const NOBODY = 0x0800_0000_7777_0000n
const DEFAULT = 0x8000_0000n
const OTHER = 0x8000_0001n
const buid = BUID
const query = (args: Args = {}): Step => [QUERY_PE_DMA_WINDOW, { buid, ...args }]
const create = (args: Args = {}): Step => [
  CREATE_PE_DMA_WINDOW,
  { buid, page_shift: 16n, window_shift: 30n, ...args },
]
const remove = (args: Args = {}): Step => [REMOVE_PE_DMA_WINDOW, { liobn: OTHER, ...args }]
const reset = (args: Args = {}): Step => [RESET_PE_DMA_WINDOW, { buid, ...args }]

const EXAMPLES: readonly RtasExample[] = [
  { title: '6 cells of results', step: query() },
  { title: '5 cells of results', step: query({ nret: 5n }) },
  { title: '4 cells of results', step: query({ nret: 4n }) },
  { title: 'no such host bridge', step: query({ buid: NOBODY }) },
  { title: 'both windows are open', before: [create()], step: query() },
  { title: 'a second window of 1 GiB', step: create() },
  { title: '4 cells of arguments', step: create({ nargs: 4n }) },
  { title: 'no such host bridge', step: create({ buid: NOBODY }) },
  { title: 'pages that it does not have', step: create({ page_shift: 25n }) },
  { title: 'a window below a page', step: create({ page_shift: 24n, window_shift: 23n }) },
  { title: 'a third window', before: [create()], step: create() },
  { title: 'a window of 2^32 pages', step: create({ page_shift: 12n, window_shift: 44n }) },
  {
    title: 'beside a window at 1 << 59',
    before: [create(), remove({ liobn: DEFAULT })],
    step: create(),
  },
  { title: 'one of two windows', before: [create()], step: remove() },
  { title: 'the default window', step: remove({ liobn: DEFAULT }) },
  { title: 'no such LIOBN', step: remove({ liobn: 0x8000_7777n }) },
  { title: 'a LIOBN without a window', step: remove() },
  { title: '2 cells of results', step: remove({ nret: 2n }) },
  {
    title: 'the last window, not the default one',
    before: [create(), remove({ liobn: DEFAULT })],
    step: remove(),
  },
  {
    title: 'the last window, in the first table',
    before: [remove({ liobn: DEFAULT }), create()],
    step: remove({ liobn: DEFAULT }),
  },
  { title: 'windows as after the start', before: [create()], step: reset() },
  { title: 'no such host bridge', step: reset({ buid: NOBODY }) },
]

interface Outcome {
  readonly rule: string
  readonly text: string
}

function outcomeOf(profile: string, { before = [], step }: RtasExample): Outcome {
  const machine = createMachine(describeMachine({ profile, phbs: [{}] }))
  const perform = ([{ verb, name }, args]: Step) => machine.perform({ verb, call: name, args })
  for (const made of before) {
    const { code, rule } = perform(made)
    if (code !== 'RTAS_OUT_SUCCESS') throw new Error(`set up: ${rule}`)
  }
  const { code, rule, outputs } = perform(step)
  const word = (name: string): bigint => BigInt(outputs[name] as bigint)
  const isDone = code === 'RTAS_OUT_SUCCESS'
  const [decl] = step
  if (isDone && decl === QUERY_PE_DMA_WINDOW)
    return { rule, text: `0: ${word('windows')} of ${hex(word('largest'))} pages` }
  if (isDone && decl === CREATE_PE_DMA_WINDOW) {
    return { rule, text: `0: ${hex(word('liobn'))} at ${hex((word('addr_hi') << 32n) | word('addr_lo'))}` }
  }
  const windows = (perform(query()).outputs['windows'] ?? 0n) as bigint
  return { rule, text: isDone ? `0: ${2n - BigInt(windows)} open` : code.replace(/^RTAS_OUT_/, '') }
}

const PROFILE = 'qemu-7.2'

interface Compared extends Outcome {
  readonly decl: CallDecl
  readonly title: string
  readonly meant: string
  readonly because: readonly string[]
}

function compared(example: RtasExample): Compared {
  const { title, step } = example
  const { rule, text } = outcomeOf(PROFILE, example)
  const { ids } = resolveProfile(QEMU_ERRATA, PROFILE)
  const because = ids.filter((id) => outcomeOf(`${PROFILE},-${id}`, example).text !== text)
  return { decl: step[0], title, rule, text, meant: outcomeOf('intended', example).text, because }
}

/** What the model answers does not depend on recordings: done once. */
let comparisons: readonly Compared[] | undefined

/** What QEMU and the interface answer to calls for dynamic windows, call by call. */
export function rtasTables(counts: readonly RuleCounts[]): string {
  comparisons ??= EXAMPLES.map(compared)
  const rows = comparisons.map(({ decl, title, rule, text, meant, because }) => {
    const recorded = summed(counts.map((c) => ({ name: c.name, count: c.of(decl, rule).same })))
    const place = recorded.total === 0 ? NOT_RUN : `${recorded.total} (${recorded.place})`
    return { decl, cells: [title, text, `\`${rule}\``, place, meant, because.join(' ')] }
  })
  const head = ['input', 'QEMU 7.2', 'rule', 'rule recorded', 'interface', 'errata']
  return [...new Set(rows.map(({ decl }) => decl))]
    .map((decl) => {
      const ofCall = rows.filter((r) => r.decl === decl).map(({ cells }) => cells)
      return `### ${decl.name}\n\n${alignedGrid(head, ofCall)}\n`
    })
    .join('\n')
}
