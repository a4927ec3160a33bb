import type { Paint } from '../../report/text.ts'
import type { PseriesScriptPeer } from './pseries-peer-port.ts'
import { formatPseriesStep, type PseriesScript, type PseriesStep } from './pseries-step.ts'
import {
  type ComparedWith,
  compareScripts,
  firstScriptDifference,
  isScriptEqual,
  type ScriptCompareOptions,
  type ScriptComparison,
  type ScriptDifference,
  type ScriptKind,
  type SmallestDifference,
  scriptComparisonText,
  scriptDifferenceJson,
  scriptDifferenceLines,
} from './script-comparison.ts'

export type PseriesDifference = ScriptDifference
export type SmallestPseriesDifference = SmallestDifference<PseriesScript>

/** What scripts gave on a peer and on the model. Plain data. */
export interface PseriesComparison extends Omit<ScriptComparison<PseriesScript>, 'counted'> {
  readonly hypercalls: number
}

export interface PseriesCompareOptions extends Omit<ScriptCompareOptions<PseriesScript>, 'onProgress'> {
  /** Told after each script. */
  readonly onProgress?: (so: { readonly hypercalls: number; readonly equal: number }) => void
}

/** What makes two differences the same one: the call, and how each side's answer begins. Values may change. */
function pseriesDifferenceKind({ step, peer, model }: PseriesDifference): string {
  const [kind = '', call = ''] = step.split(' ')
  if (kind !== 'hcall' && kind !== 'rtas') return `${kind}: other bytes`
  const [theirs = '', ours = ''] = [peer, model].map((answer) => answer.split(' ', 1)[0])
  return `${kind} ${call}: ${theirs === ours ? 'other values' : `${theirs} against ${ours}`}`
}

/** What there is to know of steps. */
export const PSERIES: ScriptKind<PseriesStep> = {
  format: formatPseriesStep,
  kindOf: pseriesDifferenceKind,
  isCounted: ({ kind }) => kind === 'hcall' || kind === 'rtas',
}

/** The first step that is answered differently. */
export const firstDifference = (
  script: PseriesScript,
  peer: readonly (string | undefined)[],
  model: readonly (string | undefined)[],
): PseriesDifference | undefined => firstScriptDifference(PSERIES, script, peer, model)

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
  { onProgress, ...options }: PseriesCompareOptions,
): Promise<PseriesComparison> {
  const { counted: hypercalls, ...rest } = await compareScripts(PSERIES, peer, model, scripts, {
    ...options,
    ...(onProgress && { onProgress: ({ counted, equal }) => onProgress({ hypercalls: counted, equal }) }),
  })
  return { ...rest, hypercalls }
}

/** Whether nothing differed. */
export const isPseriesEqual = (result: PseriesComparison): boolean => isScriptEqual(result)

/** A difference for people. */
export const pseriesDifferenceLines = (difference: SmallestPseriesDifference, paint: Paint): string[] =>
  scriptDifferenceLines(PSERIES, difference, paint)

/** A difference as plain data. */
export const pseriesDifferenceJson = (difference: SmallestPseriesDifference): object =>
  scriptDifferenceJson(PSERIES, difference)

/** A comparison for people. */
export const pseriesComparisonText = (
  { hypercalls, ...rest }: PseriesComparison,
  made: ComparedWith,
  paint: Paint,
): string =>
  scriptComparisonText(pseriesDifferenceLines, { ...rest, counted: hypercalls }, made, 'hypercall', paint)

/** A comparison as plain data: `schema` names its form. */
export function pseriesComparisonJson(result: PseriesComparison, made: ComparedWith): object {
  const { differences, scripts, steps, hypercalls, equal, passing } = result
  return {
    schema: 'iommulator/connect-pseries/1',
    ...made,
    ...{ scripts, steps, hypercalls, equal, passing },
    differences: differences.map(pseriesDifferenceJson),
  }
}
