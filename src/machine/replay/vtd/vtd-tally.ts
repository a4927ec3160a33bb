import { type ReasonCount, Reasons } from '../reasons.ts'
import type { Divergence } from '../result.ts'
import { KEPT_MAX } from '../tally.ts'

/** How translations of a log were explained. */
export const EXPLAINED = {
  WALK: 'by a walk of the tables, which the IOTLB keeps',
  HIT: 'by an entry of the IOTLB',
  PASS_THROUGH: 'the device is passed through',
  OFF: 'translation is off',
} as const
export type Explained = (typeof EXPLAINED)[keyof typeof EXPLAINED]

/** What the lines of a VT-d unit gave. Plain data. */
export interface VtdResult {
  readonly translations: {
    readonly total: number
    readonly explained: number
    /** The log began before what they rest on, or lost it; the line shows it. */
    readonly learned: number
    readonly unexplained: number
    /** The log has no lines that could explain one. */
    readonly unjudged: number
  }
  /** What explains translations. */
  readonly reasons: readonly ReasonCount[]
  readonly faults: {
    readonly total: number
    /** What the log shows leads to the fault. */
    readonly explained: number
    /** Nothing in the log speaks against it, but it does not show the entry. */
    readonly inferred: number
    readonly unexplained: number
    /** Those that reached a fault recording register. */
    readonly recorded: number
  }
  /** What explains faults, and what became of them. */
  readonly faultReasons: readonly ReasonCount[]
  readonly faultEnds: readonly ReasonCount[]
  /** Invalidations, by what they name. */
  readonly flushes: readonly ReasonCount[]
  /** Lines that contradict each other otherwise. */
  readonly diverged: number
}

/** Counts what the lines of a VT-d unit say. */
export class VtdTally {
  /** Lines that change or show something: none where the log is of another machine. */
  lines = 0
  learned = 0
  unexplained = 0
  unjudged = 0
  recorded = 0
  diverged = 0
  faultsExplained = 0
  faultsInferred = 0
  faultsUnexplained = 0
  readonly faultReasons = new Reasons()
  readonly faultEnds = new Reasons()
  readonly flushes = new Reasons()
  readonly divergences: Divergence[] = []
  readonly #counts = new Map<Explained, { count: number; firstLine: number }>(
    Object.values(EXPLAINED).map((why) => [why, { count: 0, firstLine: 0 }]),
  )

  /** A translation is explained. */
  explain(why: Explained, line: number): void {
    const counted = this.#counts.get(why) as { count: number; firstLine: number }
    if (counted.count++ === 0) counted.firstLine = line
  }

  diverge(divergence: Divergence): void {
    if (divergence.what === 'translation') this.unexplained++
    else if (divergence.what === 'fault') this.faultsUnexplained++
    else this.diverged++
    if (this.divergences.length < KEPT_MAX) this.divergences.push(divergence)
  }

  result(): VtdResult {
    const reasons = [...this.#counts].flatMap(([why, counted]) =>
      counted.count === 0 ? [] : [{ why, ...counted }],
    )
    const { learned, unexplained, unjudged, recorded, diverged } = this
    const explained = reasons.reduce((n, { count }) => n + count, 0)
    const total = explained + learned + unexplained + unjudged
    const faults = {
      total: this.faultsExplained + this.faultsInferred + this.faultsUnexplained,
      explained: this.faultsExplained,
      inferred: this.faultsInferred,
      unexplained: this.faultsUnexplained,
      recorded,
    }
    return {
      translations: { total, explained, learned, unexplained, unjudged },
      reasons,
      faults,
      faultReasons: this.faultReasons.all(),
      faultEnds: this.faultEnds.all(),
      flushes: this.flushes.all(),
      diverged,
    }
  }
}
