import { counted } from '../../check/words.ts'
import { table } from '../../report/layout.ts'
import type { Paint } from '../../report/text.ts'
import { shrink } from './shrink.ts'

/** Steps for a machine that has just been started. */
export interface Script<Step> {
  /** A word without blanks. */
  readonly name: string
  readonly steps: readonly Step[]
}

/** One answer a step: undefined where the step has none. */
export type Answers = readonly (string | undefined)[]

/** Something that runs scripts: a machine, or the model of it. */
export interface ScriptPeer<S> {
  /** What it is, in one line. */
  readonly title: string
  /** Runs a script on a machine that is as after its start. Those that are handed in together run one after the other. */
  run(script: S): Promise<Answers>
}

/** A step to which two peers answer differently. */
export interface ScriptDifference {
  /** Its place in the script, from 0 on. */
  readonly at: number
  readonly step: string
  readonly peer: string
  readonly model: string
}

/** What a comparison has to know of the steps of a script. */
export interface ScriptKind<Step> {
  readonly format: (step: Step) => string
  /** What makes two differences the same one. */
  readonly kindOf: (difference: ScriptDifference) => string
  /** Steps that are counted on their own. */
  readonly isCounted: (step: Step) => boolean
}

/** A difference with the smallest script that shows it. */
export interface SmallestDifference<S> {
  readonly kind: string
  readonly difference: ScriptDifference
  readonly script: S
  /** Nothing can be left out of the script; false where that took too many tries. */
  readonly isMinimal: boolean
  readonly tries: number
}

/** What scripts gave on a peer and on the model. Plain data. */
export interface ScriptComparison<S> {
  readonly scripts: number
  readonly steps: number
  readonly counted: number
  /** Answers that are the same. */
  readonly equal: number
  /** The first of each kind. */
  readonly differences: readonly SmallestDifference<S>[]
  /** Kinds of differences that did not show again in the same script on its own. */
  readonly passing: readonly string[]
}

/** How far a comparison has come. */
export interface ScriptProgress {
  readonly steps: number
  readonly counted: number
  readonly equal: number
}

export interface ScriptCompareOptions<S> {
  /** Different differences after which it ends. */
  readonly differencesMax: number
  /** Told after each script. */
  readonly onProgress?: (so: ScriptProgress) => void
  /** Told what the peer answered, script by script. */
  readonly onAnswers?: (script: S, answers: Answers) => void
  /** Told before a script is made smaller, which takes its time. */
  readonly onDifference?: (kind: string) => void
}

/** Scripts that are run to make one smaller. */
const TRIES_MAX = 2000
const NONE = 'nothing'
/** Scripts that are on their way to the peer while one is judged. */
const AHEAD = 3

/** The first step that is answered differently. */
export function firstScriptDifference<Step>(
  { format }: ScriptKind<Step>,
  { steps }: Script<Step>,
  peer: Answers,
  model: Answers,
): ScriptDifference | undefined {
  const at = steps.findIndex((_, i) => peer[i] !== model[i])
  const step = steps[at]
  if (step === undefined) return undefined
  return { at, step: format(step), peer: peer[at] ?? NONE, model: model[at] ?? NONE }
}

/** Makes the script of a difference as small as it can be; undefined where it does not show a second time. */
export async function smallestScript<Step, S extends Script<Step>>(
  of: ScriptKind<Step>,
  peer: ScriptPeer<S>,
  model: ScriptPeer<S>,
  script: S,
  first: ScriptDifference,
): Promise<SmallestDifference<S> | undefined> {
  const kind = of.kindOf(first)
  let latest: ScriptDifference | undefined
  const fails = async (steps: readonly Step[]): Promise<boolean> => {
    const tried = { ...script, steps }
    const [theirs, ours] = await Promise.all([peer.run(tried), model.run(tried)])
    const found = firstScriptDifference(of, tried, theirs, ours)
    if (found === undefined || of.kindOf(found) !== kind) return false
    latest = found
    return true
  }
  const upTo = script.steps.slice(0, first.at + 1)
  if (!(await fails(upTo))) return undefined
  const { items, tries, isMinimal } = await shrink(upTo, fails, TRIES_MAX)
  return { kind, difference: latest ?? first, script: { ...script, steps: items }, isMinimal, tries }
}

/**
 * Runs scripts on a peer and on the model and compares answer by answer. The first difference of each kind is made as
 * small as it can be.
 *
 * @param scripts taken one by one, and no further than needed
 * @throws whatever the peer does
 */
export async function compareScripts<Step, S extends Script<Step>>(
  of: ScriptKind<Step>,
  peer: ScriptPeer<S>,
  model: ScriptPeer<S>,
  scripts: Iterable<S>,
  options: ScriptCompareOptions<S>,
): Promise<ScriptComparison<S>> {
  const counts = { scripts: 0, steps: 0, counted: 0, equal: 0 }
  const differences: SmallestDifference<S>[] = []
  const passing: string[] = []
  const kinds = new Set<string>()
  const source = scripts[Symbol.iterator]()
  const running: { readonly script: S; readonly answered: Promise<Answers> }[] = []
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
      if (of.isCounted(step)) counts.counted++
      if (ours[i] !== undefined && ours[i] === theirs[i]) counts.equal++
    }
    options.onProgress?.(counts)
    const first = firstScriptDifference(of, script, theirs, ours)
    if (first === undefined || kinds.has(of.kindOf(first))) continue
    const kind = of.kindOf(first)
    kinds.add(kind)
    options.onDifference?.(kind)
    const small = await smallestScript(of, peer, model, script, first)
    if (small === undefined) passing.push(kind)
    else differences.push(small)
    if (kinds.size >= options.differencesMax) break
  }
  await Promise.allSettled(running.map(({ answered }) => answered))
  return { ...counts, differences, passing }
}

/** Whether nothing differed. */
export const isScriptEqual = ({
  differences,
  passing,
}: Pick<ScriptComparison<unknown>, 'differences' | 'passing'>): boolean =>
  differences.length === 0 && passing.length === 0

/** What a comparison was made with. */
export interface ComparedWith {
  readonly peer: string
  readonly seed?: number
}

/** A difference for people. */
export function scriptDifferenceLines<Step>(
  { format }: ScriptKind<Step>,
  { kind, difference: d, script, isMinimal, tries }: SmallestDifference<Script<Step>>,
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
    ...script.steps.map((step) => `    ${format(step)}`),
  ]
}

/** A difference as plain data. */
export const scriptDifferenceJson = <Step>(
  { format }: ScriptKind<Step>,
  { difference, script, ...rest }: SmallestDifference<Script<Step>>,
): object => ({ ...rest, ...difference, script: script.steps.map(format) })

/**
 * A comparison for people.
 *
 * @param linesOf a difference for people
 * @param what what the counted steps are called
 */
export function scriptComparisonText<S>(
  linesOf: (difference: SmallestDifference<S>, paint: Paint) => readonly string[],
  result: ScriptComparison<S>,
  made: ComparedWith,
  what: string,
  paint: Paint,
): string {
  const { scripts, steps, equal, differences, passing } = result
  const head = table([
    ['peer', made.peer],
    ...(made.seed === undefined ? [] : [['seed', String(made.seed)]]),
    ['steps', `${steps} in ${counted(scripts, 'script')}: ${counted(result.counted, what)}`],
    ['answers', `${equal} equal`],
    ['differences', String(differences.length + passing.length)],
  ])
  const shown = differences.flatMap((d) => linesOf(d, paint))
  return `${[
    ...head,
    ...shown,
    ...passing.flatMap((kind) => ['', paint.yellow(`seen once, and not again in the same script: ${kind}`)]),
    '',
    isScriptEqual(result) ? paint.green('no answer differs') : paint.red('answers differ'),
  ].join('\n')}\n`
}
