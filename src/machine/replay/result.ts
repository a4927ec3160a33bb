import type { Finding, Verdict } from '../../check/rule.ts'
import type { TranscriptSummary } from '../../reader/kernel-answers-reader.ts'
import type { LogSummary } from '../../reader/log-summary.ts'
import type { Ledger } from '../../report/ledger.ts'
import type { KnowledgeCounts } from './knowledge.ts'
import type { LogSource } from './log-source.ts'
import type { VhostResult } from './vhost/message-tally.ts'
import type { FtraceResult } from './vtd/ftrace-tally.ts'
import type { TablesResult } from './vtd/tables-check.ts'
import type { VtdResult } from './vtd/vtd-tally.ts'

/** A line whose answer or translation the model does not give. */
export interface Divergence {
  readonly line: number
  /** `answer`, `translation`, `fault` or `record` of a VT-d unit, or `message` of a vhost device. */
  readonly what: 'answer' | 'translation' | 'fault' | 'record' | 'message'
  /** The call or event, with its arguments, as the log has it. */
  readonly call: string
  readonly log: string
  readonly model: string
  /** The rule of the model's answer, or why the translation is not explained. */
  readonly rule: string
}

/** Something that the log leaves open and that the replay took to be so. */
export interface Assumption {
  readonly line: number
  readonly text: string
  /** How it stands at the end. */
  readonly state: 'open' | 'confirmed' | 'contradicted'
}

/** Why some answers could not be judged, and where the first of them is. */
export interface Unjudged {
  readonly why: string
  readonly count: number
  readonly firstLine: number
}

/** Everything that the replay of a log found out. Plain data. */
export interface ReplayResult {
  readonly source: string
  /** The format of the log. */
  readonly from: LogSource
  readonly profile: string
  readonly log: LogSummary & Partial<TranscriptSummary>
  readonly answers: {
    readonly total: number
    readonly matched: number
    readonly diverged: number
    /** Lines that rest on something that the log does not show, or that the model does not have. */
    readonly unjudged: number
  }
  /** Reasons of `answers.unjudged`; none for a trace of QEMU, which has one only: windows whose shape it does not show. */
  readonly unjudged: readonly Unjudged[]
  readonly translations: {
    readonly total: number
    /** The entry was seen in the log and holds what was used. */
    readonly explained: number
    /** The entry was inferred, and the inference fits. */
    readonly inferred: number
    /** The entry's value was not known before; the line shows it. */
    readonly learned: number
    /** The entry is known and holds something else. */
    readonly unexplained: number
    /** Translations through a window whose shape the log does not show. */
    readonly unjudged: number
  }
  readonly entries: KnowledgeCounts
  readonly assumptions: readonly Assumption[]
  /** The first ones; `answers.diverged` and `translations.unexplained` count all. */
  readonly divergences: readonly Divergence[]
  readonly findings: readonly Finding[]
  /** Findings that were only counted, because too many were kept already. */
  readonly findingsDropped: number
  readonly verdicts: readonly Verdict[]
  readonly ledger: Ledger
  /** What the lines of a VT-d unit gave, where the log has such. */
  readonly vtd?: VtdResult
  /** Where there is a dump of the guest's tables: how the trace stands to it. */
  readonly tables?: TablesResult
  /** Where there is a trace of the guest's kernel: what came of it, and what that log held. */
  readonly ftrace?: FtraceResult & { readonly log: LogSummary }
  /** Where the message log of a back end was joined with the trace: what came of it, and what that log held. */
  readonly vhost?: VhostResult & { readonly log: LogSummary }
}

/** Lines of a VT-d unit that nothing explains. */
export const wrongOfVtd = ({ translations, faults, diverged }: VtdResult): number =>
  translations.unexplained + faults.unexplained + diverged

/** Whether something is wrong: what the exit code 1 stands for. */
export const isClean = (r: ReplayResult): boolean =>
  r.answers.diverged === 0 &&
  r.translations.unexplained === 0 &&
  (r.vtd === undefined || wrongOfVtd(r.vtd) === 0) &&
  (r.ftrace === undefined || (r.ftrace.diverged === 0 && r.ftrace.flushes.unmatched === 0)) &&
  (r.vhost === undefined || (r.vhost.diverged === 0 && r.vhost.messages.unmatched === 0)) &&
  r.findings.length === 0
