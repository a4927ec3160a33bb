import { LINE_FAMILIES } from '../../src/reader/kernel-log/families.ts'
import { LogExplainer } from '../../src/report/explain/explainer.ts'
import type { FamilyExplainer, FaultGroup, FaultLog } from '../../src/report/explain/fault-log.ts'
import { bytesOf } from '../log-rows.ts'

/** What explainers make of a log. */
export function explained(lines: readonly string[], ...explainers: FamilyExplainer[]): FaultLog {
  const explainer = new LogExplainer(LINE_FAMILIES, explainers)
  explainer.push(bytesOf(`${lines.join('\n')}\n`))
  return explainer.end().faults
}

/** The text of a row of a fault; nothing where it has none. */
export const rowOf = ({ words }: FaultGroup, label: string): string | undefined =>
  words.rows.find(([name]) => name === label)?.[1]

/** Lines that a fault names as its causes, with the start of what they say. */
export const causesOf = ({ because }: FaultGroup): readonly (readonly [line: number, text: string])[] =>
  because.map(({ line, text }) => [line, text])
