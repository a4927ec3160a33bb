import { IommulatorError } from '../bits/errors.ts'
import type { EventKind } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'

/**
 * A promise that a machine should keep, and that records can show broken.
 * Ids are stable words; scripts and reports may rely on them.
 */
export interface Rule<Id extends string = string> {
  readonly id: Id
  readonly title: string
  /** One sentence: what holds while the rule is kept. */
  readonly promise: string
  /** What a reader should do about a finding. */
  readonly advice: string
  /** Kinds of records without which nothing can be said: the rule then answers `cannot judge`. Of a list one will do. */
  readonly needs: readonly (EventKind | readonly [EventKind, ...EventKind[]])[]
  /** Scenario that breaks it, and one that comes near and keeps it. */
  readonly broken: string
  readonly kept: string
}

export const declareRules = <const R extends readonly Rule[]>(rules: R): R => {
  const ids = new Set<string>()
  for (const { id } of rules) {
    if (ids.has(id)) throw new IommulatorError('ERR_DECLARATION', `rule ${id} stands twice`)
    ids.add(id)
  }
  return Object.freeze(rules)
}

/** What a rule needs, each need with all kinds that meet it. */
export const needsOf = ({ needs }: Pick<Rule, 'needs'>): readonly (readonly [EventKind, ...EventKind[]])[] =>
  needs.map((need) => (typeof need === 'string' ? [need] : need))

/** A record that proves a finding: what it shows, in words, and where it came from in the input. */
export interface Evidence {
  readonly seq: number
  /** Line of the scenario or log, 0 where there is none. */
  readonly line: number
  readonly text: string
}

/** A rule broken, with the records that prove it: earliest first, the last one is where it shows. */
export interface Finding {
  readonly rule: string
  readonly message: string
  readonly because: readonly Evidence[]
  /** How often the same finding came again; the evidence is of the first time. */
  readonly times: number
  /** True where the finding rests on a value that a log does not show. */
  readonly inferred: boolean
  /** The part of the machine at fault, as records name layers; left out where the records do not tell. */
  readonly layer?: string
}

/** What a checker says at the end of a run. */
export interface Verdict {
  readonly rule: string
  readonly state: 'kept' | 'broken' | 'cannot judge'
  /** Which kinds of records were missing; of those of which one would do, the first. */
  readonly missing: readonly EventKind[]
  /** Uses and changes that could not be judged, because a log does not show the value. */
  readonly skipped: number
}

/** Judges one or more rules by records alone. Findings grow while it sees records; `finish` adds those of the end. */
export interface Checker extends RecordSink {
  readonly rules: readonly string[]
  readonly findings: readonly Finding[]
  /** Findings that were not kept because there are too many. */
  readonly dropped: number
  /** Uses and changes that could not be judged, because a log does not show the value. */
  readonly skipped: number
  /** Kinds of records that would have had to come, beyond what the rule needs at all, so that it can judge. */
  readonly missing?: readonly EventKind[]
  /** Kinds of records that it does not see, and looks up in the log. */
  readonly looksUp?: readonly EventKind[]
  /**
   * Which parts of what it keeps a record matters to, as bits: 0 for none. Of two records that have no part in common it
   * does not tell which came first. Asked for records of its kinds and of those it looks up; where it is left out, each
   * matters to all.
   */
  heeds?(log: RecordLog, seq: number): number
  finish(): void
}
