import { noCounts } from './knowledge.ts'
import type { Assumption, Divergence, Unjudged } from './result.ts'

/** Divergences and assumptions that are kept with their text; more are only counted. */
export const KEPT_MAX = 200

/** An assumption while the replay runs: its state may still change. */
export type OpenAssumption = { -readonly [K in keyof Assumption]: Assumption[K] }

/** Told of each answer of a log that was judged: its line, and whether the model gives the same. */
export type OnAnswer = (line: number, isSame: boolean) => void

/** What a replay counts as it goes. */
export class Tally {
  matched = 0
  diverged = 0
  unjudgedAnswers = 0
  explained = 0
  inferred = 0
  learned = 0
  unexplained = 0
  unjudgedTranslations = 0
  readonly entries = noCounts()
  readonly divergences: Divergence[] = []
  readonly assumptions: OpenAssumption[] = []
  readonly #unjudged = new Map<string, { count: number; firstLine: number }>()
  readonly #onAnswer: OnAnswer | undefined

  constructor(onAnswer?: OnAnswer) {
    this.#onAnswer = onAnswer
  }

  /** The model answers as the line does. */
  match(line: number): void {
    this.matched++
    this.#onAnswer?.(line, true)
  }

  diverge(divergence: Divergence): void {
    if (divergence.what === 'answer') {
      this.diverged++
      this.#onAnswer?.(divergence.line, false)
    } else this.unexplained++
    if (this.divergences.length < KEPT_MAX) this.divergences.push(divergence)
  }

  assume(line: number, text: string): OpenAssumption {
    const assumption: OpenAssumption = { line, text, state: 'open' }
    if (this.assumptions.length < KEPT_MAX) this.assumptions.push(assumption)
    return assumption
  }

  /** An answer is not judged. */
  leave(why: string, line: number): void {
    this.unjudgedAnswers++
    const isNew = !this.#unjudged.has(why)
    const key = isNew && this.#unjudged.size >= KEPT_MAX ? 'other reasons' : why
    const counted = this.#unjudged.get(key)
    if (counted === undefined) this.#unjudged.set(key, { count: 1, firstLine: line })
    else counted.count++
  }

  /** Why answers were not judged, in the order in which the reasons came up. */
  get unjudged(): Unjudged[] {
    return [...this.#unjudged].map(([why, counted]) => ({ why, ...counted }))
  }

  get answers(): { total: number; matched: number; diverged: number; unjudged: number } {
    const { matched, diverged, unjudgedAnswers: unjudged } = this
    return { total: matched + diverged + unjudged, matched, diverged, unjudged }
  }

  get translations(): {
    total: number
    explained: number
    inferred: number
    learned: number
    unexplained: number
    unjudged: number
  } {
    const { explained, inferred, learned, unexplained, unjudgedTranslations: unjudged } = this
    const total = explained + inferred + learned + unexplained + unjudged
    return { total, explained, inferred, learned, unexplained, unjudged }
  }
}
