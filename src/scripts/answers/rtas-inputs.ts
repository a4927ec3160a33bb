import { hex } from '../../bits/u64.ts'
import { type PseriesStep, readPseriesStep } from '../../machine/lockstep/pseries-step.ts'
import type { SeenWindow } from './answer-taker.ts'
import type { RecordedRun } from './recorded-run.ts'
import { PSERIES_STEPS } from './recordings.ts'

export type RtasStep = Extract<PseriesStep, { kind: 'rtas' }>
export type OpenWindows = ReadonlyMap<number, SeenWindow>

/** The host bridge of the machine that steps run on, its tables, and the page sizes that it has. */
export const BUID: readonly [hi: number, lo: number] = [0x0800_0000, 0x2000_0000]
export const TABLES: readonly [number, number] = [0x8000_0000, 0x8000_0001]
const PAGE_SHIFTS = [12, 16, 21, 24]
const ENTRIES_SHIFT_MAX = 31

/** Tokens of the calls for dynamic windows, and how many cells each takes and gives. */
export const DDW = {
  query: { token: 0x2026, nargs: 3, nrets: [5, 6] },
  create: { token: 0x2027, nargs: 5, nrets: [4] },
  remove: { token: 0x2028, nargs: 1, nrets: [1] },
  reset: { token: 0x2029, nargs: 3, nrets: [1] },
} as const
type DdwName = keyof typeof DDW
const NAMES = Object.keys(DDW) as DdwName[]

const shown = (open: OpenWindows): string =>
  [...open]
    .sort(([a], [b]) => a - b)
    .map(([liobn, { busOffset }]) => `${hex(liobn)}@${hex(busOffset)}`)
    .join(' ')

function createInput([, , , pageShift = 0, windowShift = 0]: readonly number[], open: OpenWindows): string {
  if (!PAGE_SHIFTS.includes(pageShift)) return 'page size'
  if (windowShift < pageShift) return 'below a page'
  if (open.size === TABLES.length) return 'exhausted'
  return windowShift - pageShift > ENTRIES_SHIFT_MAX ? 'too large' : `beside ${shown(open)}`
}

function removeInput([liobn = 0]: readonly number[], open: OpenWindows): string {
  if (!TABLES.includes(liobn)) return 'unknown'
  return open.has(liobn) ? `${hex(liobn)} of ${shown(open)}` : 'closed'
}

/**
 * What the answer to a call for dynamic windows rests on: steps with the same text are answered alike. The checks are
 * those of the calls, in their order.
 */
export function rtasInput({ token, nret, args }: RtasStep, open: OpenWindows): string {
  const name = NAMES.find((n) => DDW[n].token === token)
  if (name === undefined) return `token ${hex(token)}`
  const { nargs, nrets } = DDW[name]
  if (args.length !== nargs || !(nrets as readonly number[]).includes(nret)) return `${name}: counts`
  if (name === 'remove') return `${name}: ${removeInput(args, open)}`
  if (args[1] !== BUID[0] || args[2] !== BUID[1]) return `${name}: host bridge`
  if (name === 'create') return `${name}: ${createInput(args, open)}`
  return name === 'query' ? `${name}: ${nret} cells, ${open.size} open` : name
}

/** Recorded answers to the same input: each text with how often it came, and where first. */
export type RtasAnswers = ReadonlyMap<string, { readonly count: number; readonly place: string }>

/** Every call for dynamic windows that was recorded as a step, by its input. */
export function recordedRtas(runs: readonly RecordedRun[]): ReadonlyMap<string, RtasAnswers> {
  const found = new Map<string, Map<string, { count: number; place: string }>>()
  for (const { recording, calls } of runs) {
    if (recording.kind !== PSERIES_STEPS) continue
    const lines = recording.text.split('\n')
    for (const { call, line, open, isSame } of calls) {
      if (!call.startsWith('ibm,') || !isSame) continue
      const [todo = '', answer = ''] = (lines[line - 1] ?? '').split(' => ')
      const step = readPseriesStep(todo)
      if (typeof step === 'string' || step.kind !== 'rtas') continue
      const input = rtasInput(step, open)
      const answers = found.get(input) ?? new Map<string, { count: number; place: string }>()
      const before = answers.get(answer)
      answers.set(answer, {
        count: (before?.count ?? 0) + 1,
        place: before?.place ?? `${recording.name}:${line}`,
      })
      found.set(input, answers)
    }
  }
  return found
}
