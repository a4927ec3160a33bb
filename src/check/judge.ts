import { EVENT_KINDS, type EventKind, KIND } from '../trace/event.ts'
import type { RecordLog, RecordSink } from '../trace/record-log.ts'
import { type Coverage, SeenKinds } from './coverage.ts'
import { checkersFor, RULE_IDS, ruleIds } from './index.ts'
import { type Checker, type Finding, needsOf, type Verdict } from './rule.ts'
import { RULES, type RuleId } from './rules.ts'
import { Uses } from './uses.ts'
import { WindowShadows } from './window-shadow.ts'

export interface JudgeOptions {
  /** Rules to judge; all where it is left out. */
  readonly rules?: readonly string[]
  /** Findings that one checker keeps with their evidence; more are only counted. */
  readonly maxFindings?: number
}

/**
 * All checkers of a run behind one sink, in the order that they need: checkers before the shadow, so that they
 * meet the state before each record. What counts the state after it (the ledger) is subscribed after `attach`.
 * Translations, which are most records of a run, go past it straight to `uses`.
 *
 * @example
 * const judge = new Judge()
 * judge.attach(log)
 * // ... records come ...
 * judge.finish()
 * judge.findings // broken promises, in the order in which they showed
 * judge.verdicts(QEMU_TRACE) // one a rule
 */
export class Judge implements RecordSink {
  /** The shadow that the checkers share; a ledger may read it too. */
  readonly windows = new WindowShadows()
  /** All translations, counted. */
  readonly uses = new Uses(this.windows)
  readonly checkers: readonly Checker[]
  readonly kinds: readonly EventKind[]
  /** Who sees each kind, by its number. */
  readonly #sinks: readonly (readonly RecordSink[])[]
  readonly #rules: readonly RuleId[]
  readonly #seen = new SeenKinds(RARE_NEEDS)
  #isFinished = false

  /** @throws IommulatorError ERR_RULE */
  constructor(options: JudgeOptions = {}) {
    this.#rules = ruleIds(options.rules ?? RULE_IDS)
    const { windows, uses } = this
    const { maxFindings = 1000 } = options
    this.checkers = checkersFor({ windows, uses, maxFindings }, this.#rules)
    const sinks: readonly RecordSink[] = [...this.checkers, uses, windows, this.#seen]
    // Sink by sink: a judge is made for each order of an exploration.
    const byKind: RecordSink[][] = EVENT_KINDS.map(() => [])
    const own = new Set<EventKind>()
    for (const sink of sinks) {
      for (const kind of sink.kinds) {
        byKind[KIND[kind]]?.push(sink)
        if (sink !== uses) own.add(kind)
      }
    }
    this.#sinks = byKind
    this.kinds = [...own]
  }

  /** Subscribes to a log that has no records yet. */
  attach(log: RecordLog): void {
    log.subscribe(this)
    log.subscribe(this.uses)
  }

  see(log: RecordLog, seq: number): void {
    const sinks = this.#sinks[log.kindNumberOf(seq)] as readonly RecordSink[]
    for (let i = 0; i < sinks.length; i++) (sinks[i] as RecordSink).see(log, seq)
  }

  /** Judges the records that a log holds already, and its end. */
  judge(log: RecordLog): void {
    for (let seq = log.firstKept; seq < log.length; seq++) this.see(log, seq)
    this.finish()
  }

  /** Nothing more comes: checkers add what only the end shows. */
  finish(): void {
    if (this.#isFinished) return
    this.#isFinished = true
    for (const checker of this.checkers) checker.finish()
  }

  /** Findings of the chosen rules, in the order in which they showed. */
  get findings(): readonly Finding[] {
    const shownAt = (f: Finding): number => f.because.at(-1)?.seq ?? 0
    const order = (f: Finding): number => RULES.findIndex(({ id }) => id === f.rule)
    return this.checkers
      .flatMap((checker) => checker.findings)
      .filter((f) => this.#rules.some((id) => id === f.rule))
      .sort((a, b) => shownAt(a) - shownAt(b) || order(a) - order(b))
  }

  /** Findings that were not kept because there are too many. */
  get dropped(): number {
    return this.checkers.reduce((n, checker) => n + checker.dropped, 0)
  }

  /**
   * What can be said of each rule. A rule whose kinds of records a run cannot produce is not judged; without a
   * coverage the kinds that have come stand for it.
   */
  verdicts(coverage: Coverage = this.#shown()): readonly Verdict[] {
    const { findings } = this
    return RULES.filter(({ id }) => this.#rules.includes(id)).map((rule) => {
      const { id } = rule
      const checker = this.checkers.find((c) => c.rules.includes(id))
      const unmet = needsOf(rule).filter((kinds) => !kinds.some((kind) => coverage.has(kind)))
      const missing = [...unmet.map(([kind]) => kind), ...(checker?.missing ?? [])]
      const skipped = checker?.skipped ?? 0
      if (findings.some((f) => f.rule === id)) return { rule: id, state: 'broken', missing: [], skipped }
      return { rule: id, state: missing.length > 0 ? 'cannot judge' : 'kept', missing, skipped }
    })
  }

  /** The kinds that have come, of those that rules need. */
  #shown(): Coverage {
    const shown = new Set(this.#seen.coverage())
    if (this.windows.updates > 0) shown.add('tce.set')
    if (this.uses.count > 0) shown.add('dma.translate')
    return shown
  }
}

/** The kinds that rules need, without those that come with every DMA and table update: the shadow counts these. */
const RARE_NEEDS: readonly EventKind[] = RULES.flatMap((rule) => needsOf(rule).flat()).filter(
  (kind, i, all) => kind !== 'tce.set' && kind !== 'dma.translate' && all.indexOf(kind) === i,
)

/** The rules of which something can be said where only some kinds of records can come. */
export const judgeable = (coverage: Coverage): readonly RuleId[] =>
  RULES.filter((rule) => needsOf(rule).every((kinds) => kinds.some((kind) => coverage.has(kind)))).map(
    ({ id }) => id,
  )
