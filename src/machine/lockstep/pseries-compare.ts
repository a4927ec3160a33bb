import { counted } from '../../check/words.ts'
import { table } from '../../report/layout.ts'
import type { Paint } from '../../report/text.ts'
import type { PseriesScriptPeer } from './pseries-peer-port.ts'
import { formatPseriesStep, type PseriesScript } from './pseries-step.ts'
import { shrink } from './shrink.ts'

/** A step to which two peers answer differently. */
export interface PseriesDifference {
  /** Its place in the script, from 0 on. */
  readonly at: number
  readonly step: string
  readonly peer: string
  readonly model: string
}

/** A difference with the smallest script that shows it. */
export interface SmallestPseriesDifference {
  readonly kind: string
  readonly difference: PseriesDifference
  readonly script: PseriesScript
  /** Nothing can be left out of the script; false where that took too many tries. */
  readonly isMinimal: boolean
  readonly tries: number
}

/** What scripts gave on a peer and on the model. Plain data. */
export interface PseriesComparison {
  readonly scripts: number
  readonly steps: number
  readonly hypercalls: number
  /** Answers that are the same. */
  readonly equal: number
  /** The first of each kind. */
  readonly differences: readonly SmallestPseriesDifference[]
  /** Kinds of differences that did not show again in the same script on its own. */
  readonly passing: readonly string[]
}

export interface PseriesCompareOptions {
  /** Different differences after which it ends. */
  readonly differencesMax: number
  /** Told after each script. */
  readonly onProgress?: (so: { readonly hypercalls: number; readonly equal: number }) => void
  /** Told what the peer answered, script by script. */
  readonly onAnswers?: (script: PseriesScript, answers: readonly (string | undefined)[]) => void
  /** Told before a script is made smaller, which takes its time. */
  readonly onDifference?: (kind: string) => void
}

/** Scripts that are run to make one smaller. */
const TRIES_MAX = 2000
const NONE = 'nothing'

/** The first step that is answered differently. */
export function firstDifference(
  { steps }: PseriesScript,
  peer: readonly (string | undefined)[],
  model: readonly (string | undefined)[],
): PseriesDifference | undefined {
  const at = steps.findIndex((_, i) => peer[i] !== model[i])
  const step = steps[at]
  if (step === undefined) return undefined
  return { at, step: formatPseriesStep(step), peer: peer[at] ?? NONE, model: model[at] ?? NONE }
}

/** What makes two differences the same one: the call, and how each side's answer begins. Values may change. */
export function pseriesDifferenceKind({ step, peer, model }: PseriesDifference): string {
  const [kind = '', call = ''] = step.split(' ')
  if (kind !== 'hcall' && kind !== 'rtas') return `${kind}: other bytes`
  const [theirs = '', ours = ''] = [peer, model].map((answer) => answer.split(' ', 1)[0])
  return `${kind} ${call}: ${theirs === ours ? 'other values' : `${theirs} against ${ours}`}`
}

/** Makes the script of a difference as small as it can be; undefined where it does not show a second time. */
export async function smallestPseries(
  peer: PseriesScriptPeer,
  model: PseriesScriptPeer,
  script: PseriesScript,
  first: PseriesDifference,
): Promise<SmallestPseriesDifference | undefined> {
  const kind = pseriesDifferenceKind(first)
  let latest: PseriesDifference | undefined
  const fails = async (steps: PseriesScript['steps']): Promise<boolean> => {
    const tried = { ...script, steps }
    const [theirs, ours] = await Promise.all([peer.run(tried), model.run(tried)])
    const found = firstDifference(tried, theirs, ours)
    if (found === undefined || pseriesDifferenceKind(found) !== kind) return false
    latest = found
    return true
  }
  const upTo = script.steps.slice(0, first.at + 1)
  if (!(await fails(upTo))) return undefined
  const { items, tries, isMinimal } = await shrink(upTo, fails, TRIES_MAX)
  return { kind, difference: latest ?? first, script: { ...script, steps: items }, isMinimal, tries }
}

/** Scripts that are on their way to the peer while one is judged. */
const AHEAD = 3

/**
 * Runs scripts on a peer and on the model and compares answer by answer. The first difference of each kind is made as
 * small as it can be.
 *
 * @param scripts taken one by one, and no further than needed
 * @throws whatever the peer does
 * @example
 * const { equal, differences } = await comparePseries(peer, new PseriesModel(), scripts, { differencesMax: 1 })
 */
export async function comparePseries(
  peer: PseriesScriptPeer,
  model: PseriesScriptPeer,
  scripts: Iterable<PseriesScript>,
  options: PseriesCompareOptions,
): Promise<PseriesComparison> {
  const counts = { scripts: 0, steps: 0, hypercalls: 0, equal: 0 }
  const differences: SmallestPseriesDifference[] = []
  const passing: string[] = []
  const kinds = new Set<string>()
  const source = scripts[Symbol.iterator]()
  const running: { readonly script: PseriesScript; readonly answered: ReturnType<typeof peer.run> }[] = []
  const fill = (): void => {
    while (running.length < AHEAD) {
      const { done, value: script } = source.next()
      if (done === true) return
      const answered = peer.run(script)
      // Whoever waits for it sees the error; nobody may.
      answered.catch(() => undefined)
      running.push({ script, answered })
    }
  }
  for (fill(); running.length > 0; fill()) {
    const { script, answered } = running.shift() as (typeof running)[number]
    const ours = await model.run(script)
    const theirs = await answered
    options.onAnswers?.(script, theirs)
    counts.scripts++
    counts.steps += script.steps.length
    for (const [i, step] of script.steps.entries()) {
      if (step.kind === 'hcall' || step.kind === 'rtas') counts.hypercalls++
      if (ours[i] !== undefined && ours[i] === theirs[i]) counts.equal++
    }
    options.onProgress?.(counts)
    const first = firstDifference(script, theirs, ours)
    if (first === undefined || kinds.has(pseriesDifferenceKind(first))) continue
    const kind = pseriesDifferenceKind(first)
    kinds.add(kind)
    options.onDifference?.(kind)
    const small = await smallestPseries(peer, model, script, first)
    if (small === undefined) passing.push(kind)
    else differences.push(small)
    if (kinds.size >= options.differencesMax) break
  }
  await Promise.allSettled(running.map(({ answered }) => answered))
  return { ...counts, differences, passing }
}

/** Whether nothing differed. */
export const isPseriesEqual = ({ differences, passing }: PseriesComparison): boolean =>
  differences.length === 0 && passing.length === 0

/** What a comparison was made with. */
export interface PseriesComparedWith {
  readonly peer: string
  readonly seed?: number
}

/** A difference for people. */
export function pseriesDifferenceLines(
  { kind, difference: d, script, isMinimal, tries }: SmallestPseriesDifference,
  paint: Paint,
): string[] {
  const how = isMinimal ? 'nothing can be left out' : `not the smallest: ended after ${tries} tries`
  return [
    '',
    paint.red(`difference: ${kind}`),
    ...table([
      ['  step', d.step],
      ['  peer', d.peer],
      ['  model', d.model],
    ]),
    `  script with ${counted(script.steps.length, 'step')} (${how}):`,
    ...script.steps.map((step) => `    ${formatPseriesStep(step)}`),
  ]
}

/** A difference as plain data. */
export const pseriesDifferenceJson = ({
  difference,
  script,
  ...rest
}: SmallestPseriesDifference): object => ({
  ...rest,
  ...difference,
  script: script.steps.map(formatPseriesStep),
})

/** A comparison for people. */
export function pseriesComparisonText(
  result: PseriesComparison,
  made: PseriesComparedWith,
  paint: Paint,
): string {
  const { scripts, steps, hypercalls, equal, differences, passing } = result
  const head = table([
    ['peer', made.peer],
    ...(made.seed === undefined ? [] : [['seed', String(made.seed)]]),
    ['steps', `${steps} in ${counted(scripts, 'script')}: ${counted(hypercalls, 'hypercall')}`],
    ['answers', `${equal} equal`],
    ['differences', String(differences.length + passing.length)],
  ])
  const shown = differences.flatMap((d) => pseriesDifferenceLines(d, paint))
  return `${[
    ...head,
    ...shown,
    ...passing.flatMap((kind) => ['', paint.yellow(`seen once, and not again in the same script: ${kind}`)]),
    '',
    isPseriesEqual(result) ? paint.green('no answer differs') : paint.red('answers differ'),
  ].join('\n')}\n`
}

/** A comparison as plain data: `schema` names its form. */
export function pseriesComparisonJson(result: PseriesComparison, made: PseriesComparedWith): object {
  const { differences, ...counts } = result
  return {
    schema: 'iommulator/connect-pseries/1',
    ...made,
    ...counts,
    differences: differences.map(pseriesDifferenceJson),
  }
}
