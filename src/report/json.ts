import type { Finding, Verdict } from '../check/rule.ts'
import type { Ledger } from './ledger.ts'

/** What of a run is judged, as one stable object: fields are added, never renamed, without a new number. */
export interface FindingsJson {
  readonly schema: 'iommulator/findings/1'
  readonly findings: readonly Finding[]
  /** Findings that were only counted. */
  readonly dropped: number
}

export interface VerdictsJson {
  readonly schema: 'iommulator/verdicts/1'
  readonly verdicts: readonly Verdict[]
}

export interface LedgerJson extends Ledger {
  readonly schema: 'iommulator/ledger/1'
}

export const findingsJson = (findings: readonly Finding[], dropped = 0): FindingsJson => ({
  schema: 'iommulator/findings/1',
  findings: findings.map(({ rule, message, because, times, inferred }) => ({
    rule,
    message,
    because: because.map(({ seq, line, text }) => ({ seq, line, text })),
    times,
    inferred,
  })),
  dropped,
})

export const verdictsJson = (verdicts: readonly Verdict[]): VerdictsJson => ({
  schema: 'iommulator/verdicts/1',
  verdicts: verdicts.map(({ rule, state, missing, skipped }) => ({ rule, state, missing, skipped })),
})

export const ledgerJson = (ledger: Ledger): LedgerJson => ({ schema: 'iommulator/ledger/1', ...ledger })
