import { hex } from '../../bits/u64.ts'
import type { Paint } from '../../report/text.ts'
import {
  type Answers,
  type ComparedWith,
  compareScripts,
  firstScriptDifference,
  type ScriptCompareOptions,
  type ScriptComparison,
  type ScriptDifference,
  type ScriptKind,
  type ScriptPeer,
  type SmallestDifference,
  scriptComparisonText,
  scriptDifferenceJson,
  scriptDifferenceLines,
} from './script-comparison.ts'
import { vtdRegisterName } from './vtd-state.ts'
import { formatVtdScriptHead, formatVtdStep, type VtdScript, type VtdStep } from './vtd-step.ts'

export type VtdComparison = ScriptComparison<VtdScript>

const NOTHING = '-'

/** An answer by what it says of what: of each register, and of memory as a whole. */
function partsOf(answer: string): ReadonlyMap<string, string> {
  const parts = new Map<string, string>()
  for (const item of answer.split(' ')) {
    if (item === NOTHING || item === '') continue
    const [name = '', value] = item.split('=')
    if (value === undefined) parts.set('memory', `${parts.get('memory') ?? ''} ${item}`)
    else parts.set(name, value)
  }
  return parts
}

const REASON_AT = 32n
const FAULT = 1n << 63n

/** The fault reason of an answer, if it has recorded one. */
function reasonOf(parts: ReadonlyMap<string, string>): string {
  const high = BigInt(parts.get('FRCD1') ?? 0)
  return (high & FAULT) === 0n ? 'none' : hex((high >> REASON_AT) & 0xffn)
}

/** What makes two differences the same one: the step, and what it changed differently. Values may be others. */
function vtdDifferenceKind({ step, peer, model }: ScriptDifference): string {
  const [kind = '', what = ''] = step.split(' ')
  const isRegister = kind === 'reg' || kind === 'look'
  const head = isRegister ? `${kind} ${vtdRegisterName(Number(what))}` : kind
  if (kind === 'peek' || kind === 'look') return `${head}: other values`
  const [theirs, ours] = [peer, model].map(partsOf) as [
    ReadonlyMap<string, string>,
    ReadonlyMap<string, string>,
  ]
  const names = [...new Set([...theirs.keys(), ...ours.keys()])]
    .filter((name) => theirs.get(name) !== ours.get(name))
    .sort()
  const reasons = [reasonOf(theirs), reasonOf(ours)]
  const reason = reasons[0] === reasons[1] ? '' : `, fault ${reasons[0]} against ${reasons[1]}`
  return `${head}: ${names.join(', ')}${reason}`
}

/** What there is to know of steps. */
export const VTD: ScriptKind<VtdStep> = {
  format: formatVtdStep,
  kindOf: vtdDifferenceKind,
  isCounted: ({ kind }) => kind === 'dma' || kind === 'pri' || kind === 'ats',
}

/** The first step that is answered differently. */
export const firstVtdDifference = (
  script: VtdScript,
  peer: Answers,
  model: Answers,
): ScriptDifference | undefined => firstScriptDifference(VTD, script, peer, model)

/** A difference for people, with the line that its script begins with. */
export const vtdDifferenceLines = (d: SmallestDifference<VtdScript>, paint: Paint): string[] => [
  ...scriptDifferenceLines(VTD, d, paint),
  `  on the machine of: ${formatVtdScriptHead(d.script)}`,
]

/** A difference as plain data. */
export const vtdDifferenceJson = (d: SmallestDifference<VtdScript>): object => ({
  ...scriptDifferenceJson(VTD, d),
  unit: d.script.unit,
  ...(d.script.devices && { devices: d.script.devices }),
})

/**
 * Runs scripts on a machine with a VT-d unit and on the model and compares answer by answer. The first difference of
 * each kind is made as small as it can be.
 *
 * @throws whatever the peer does
 * @example
 * const { equal, differences } = await compareVtd(peer, new VtdModel('7.2.22'), scripts, { differencesMax: 1 })
 */
export const compareVtd = (
  peer: ScriptPeer<VtdScript>,
  model: ScriptPeer<VtdScript>,
  scripts: Iterable<VtdScript>,
  options: ScriptCompareOptions<VtdScript>,
): Promise<VtdComparison> => compareScripts(VTD, peer, model, scripts, options)

/** A comparison for people. */
export const vtdComparisonText = (result: VtdComparison, made: ComparedWith, paint: Paint): string =>
  scriptComparisonText(vtdDifferenceLines, result, made, 'device request', paint)

/** A comparison as plain data: `schema` names its form. */
export function vtdComparisonJson(result: VtdComparison, made: ComparedWith): object {
  const { scripts, steps, counted: requests, equal, passing } = result
  return {
    schema: 'iommulator/connect-vtd/1',
    ...made,
    ...{ scripts, steps, requests, equal, passing },
    differences: result.differences.map(vtdDifferenceJson),
  }
}
