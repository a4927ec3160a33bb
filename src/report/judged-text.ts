import type { Finding, Verdict } from '../check/rule.ts'
import type { Ledger } from './ledger.ts'
import { ledgerText } from './ledger-text.ts'
import { findingsText, type Paint, type TextOptions, verdictsText } from './text.ts'

/** How every report of a run ends: the ledger, the promises, the findings, each behind an empty line. */
export function judgedLines(
  r: {
    readonly ledger: Ledger
    readonly verdicts: readonly Verdict[]
    readonly findings: readonly Finding[]
  },
  options: TextOptions & { readonly paint: Paint },
): string[] {
  return [
    '',
    ...ledgerText(r.ledger, options),
    '',
    options.paint.bold('promises'),
    ...verdictsText(r.verdicts, options).map((l) => `  ${l}`),
    '',
    ...findingsText(r.findings, options),
  ]
}
