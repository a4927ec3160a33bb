import { EVENT_KINDS, KIND } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { checkersFor } from './index.ts'
import type { Checker } from './rule.ts'
import { Uses } from './uses.ts'
import { WindowShadows } from './window-shadow.ts'

const ALL_PARTS = -1

/** What records matter to: of each checker the parts, as bits. */
export type Heeded = Int32Array

/**
 * Who of the checkers of some rules can tell in which order records came: two stretches of a run that no part of a checker
 * heeds both of are judged alike in either order.
 *
 * @example
 * const a = witnesses.of(log, 4, 8)
 * const b = witnesses.of(log, 8, 11)
 * if (!meet(a, b)) // whoever judges records 8 to 10 before 4 to 7 finds the same
 */
export class Witnesses {
  readonly #checkers: readonly Checker[]
  /** Checkers that are to be asked about each kind. */
  readonly #asked: readonly (readonly number[])[]
  /** Kinds that the shadow takes, which every checker may read. */
  readonly #isShared: readonly boolean[]

  /** @throws IommulatorError ERR_RULE */
  constructor(rules: readonly string[]) {
    const windows = new WindowShadows()
    const uses = new Uses(windows)
    this.#checkers = checkersFor({ windows, uses }, rules)
    const asked: number[][] = EVENT_KINDS.map(() => [])
    this.#checkers.forEach((checker, i) => {
      for (const kind of [...checker.kinds, ...(checker.looksUp ?? [])]) asked[KIND[kind]]?.push(i)
    })
    this.#asked = asked
    const shared = new Set([...windows.kinds, ...uses.kinds])
    this.#isShared = EVENT_KINDS.map((kind) => shared.has(kind))
  }

  /** What the records from `from` up to `end` matter to. */
  of(log: RecordLog, from: number, end: number): Heeded {
    const heeded = new Int32Array(this.#checkers.length)
    for (let seq = from; seq < end; seq++) {
      const kind = log.kindNumberOf(seq)
      if (this.#isShared[kind] === true) return heeded.fill(ALL_PARTS)
      for (const i of this.#asked[kind] ?? []) {
        const parts = this.#checkers[i]?.heeds?.(log, seq) ?? ALL_PARTS
        heeded[i] = (heeded[i] as number) | parts
      }
    }
    return heeded
  }
}

/** Whether a part of a checker heeds both. */
export function meet(a: Heeded, b: Heeded): boolean {
  for (let i = 0; i < a.length; i++) if (((a[i] as number) & (b[i] as number)) !== 0) return true
  return false
}
