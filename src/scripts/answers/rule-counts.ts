import type { CallDecl } from '../../bits/call.ts'
import { callName } from '../../trace/stage.ts'
import type { RecordedRun } from './recorded-run.ts'

/** How often something was answered, and the line where it was first. */
export interface Count {
  readonly count: number
  readonly first: number
}

/** What one recording says of one rule: answers that are the model's, and others. */
export interface RuleCount {
  readonly same: Count
  readonly different: Count
}

const NONE: Count = { count: 0, first: 0 }
const more = ({ count, first }: Count, line: number): Count => ({
  count: count + 1,
  first: count === 0 ? line : Math.min(first, line),
})

const keyOf = (layer: string, call: string, rule: string): string => `${layer} ${call} ${rule}`

/** The answers of a run, rule by rule. */
export class RuleCounts {
  readonly run: RecordedRun
  readonly #counts = new Map<string, RuleCount>()

  constructor(run: RecordedRun) {
    this.run = run
    for (const { layer, call, rule, line, isSame } of run.calls) {
      const key = keyOf(layer, call, rule)
      const { same, different } = this.#counts.get(key) ?? { same: NONE, different: NONE }
      this.#counts.set(key, {
        same: isSame ? more(same, line) : same,
        different: isSame ? different : more(different, line),
      })
    }
  }

  get name(): string {
    return this.run.recording.name
  }

  of(decl: CallDecl, rule: string): RuleCount {
    return this.#counts.get(keyOf(decl.layer, callName(decl), rule)) ?? { same: NONE, different: NONE }
  }
}

/** Adds counts up; the first line is that of the first that has one. */
export function summed(counts: readonly { readonly name: string; readonly count: Count }[]) {
  const found = counts.filter(({ count }) => count.count > 0)
  const total = found.reduce((sum, { count }) => sum + count.count, 0)
  const [first] = found
  return { total, logs: found.length, place: first === undefined ? '' : `${first.name}:${first.count.first}` }
}
