import { counted } from '../../check/words.ts'
import { table } from '../../report/layout.ts'
import type { Paint } from '../../report/text.ts'
import { formatAgentScript } from './agent-script.ts'
import type { SmallestDifference } from './compare.ts'
import { type Comparison, isEqual } from './comparison.ts'

/** What a comparison was made with. */
export interface ComparedWith {
  /** The peer in one line. */
  readonly peer: string
  readonly seed?: number
}

const indented = (text: string, by: string): string[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => by + line)

/** A difference for people. */
export function differenceLines(
  { kind, difference: d, script, isMinimal, tries, state }: SmallestDifference,
  paint: Paint,
): string[] {
  const how = isMinimal ? 'nothing can be left out' : `not the smallest: ended after ${tries} tries`
  return [
    '',
    paint.red(`difference: ${kind}`),
    ...table([
      ['  command', d.call],
      ['  peer', d.log],
      ['  model', `${d.model} (rule ${d.rule})`],
    ]),
    `  script with ${counted(script.commands.length, 'command')} (${how}):`,
    ...indented(formatAgentScript(script), '    '),
    '  state behind it:',
    ...table([
      ['    ', 'peer', 'model'],
      ...state.map(({ command, peer, model }) => [
        `    ${command}`,
        peer,
        model === peer ? 'the same' : model,
      ]),
    ]),
  ]
}

/** A comparison for people. */
export function comparisonText(result: Comparison, made: ComparedWith, paint: Paint): string {
  const { scripts, commands, equal, unjudged, notRun, reasons, differences, passing } = result
  const left = [
    `${counted(equal, 'equal answer')}`,
    ...(unjudged > 0 ? [`${unjudged} not judged`] : []),
    ...(notRun > 0 ? [`${notRun} behind the end of a process`] : []),
  ].join(', ')
  const head = table([
    ['peer', made.peer],
    ...(made.seed === undefined ? [] : [['seed', String(made.seed)]]),
    ['commands', `${commands} in ${counted(scripts, 'script')}: ${left}`],
    ['differences', String(differences.length + passing.length)],
  ])
  const why = reasons.length === 0 ? [] : ['', 'answers that are not judged']
  return `${[
    ...head,
    ...why,
    ...table(
      reasons.map(({ why: reason, count }) => [`  ${reason}`, String(count)]),
      { right: [1] },
    ),
    ...differences.flatMap((d) => differenceLines(d, paint)),
    ...passing.flatMap((kind) => ['', paint.yellow(`seen once, and not again in the same script: ${kind}`)]),
    '',
    isEqual(result) ? paint.green('no answer differs') : paint.red('answers differ'),
  ].join('\n')}\n`
}

/** A comparison as plain data: `schema` names its form. */
export function comparisonJson(result: Comparison, made: ComparedWith): object {
  const { differences, ...counts } = result
  return {
    schema: 'iommulator/connect/1',
    ...made,
    ...counts,
    differences: differences.map(differenceJson),
  }
}

/** A difference as plain data. */
export const differenceJson = ({ difference, script, ...rest }: SmallestDifference): object => ({
  ...rest,
  command: difference.call,
  peer: difference.log,
  model: difference.model,
  rule: difference.rule,
  script: formatAgentScript(script).trimEnd().split('\n'),
})
