import { type Heeded, meet, Witnesses } from '../../check/witnesses.ts'
import { SLOTS, SLOTS_USED } from '../../trace/event.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import type { Machine } from '../machine.ts'

/** How lanes go on, and back. */
export interface LaneSteps {
  isReady(lane: string): boolean
  /** Takes a step of a lane that is ready. */
  advance(lane: string): void
  /** Does something, and takes back whatever the machine did meanwhile. */
  takenBack(act: () => void): void
}

/** Two steps, one behind the other. */
interface Both {
  readonly first: Trace
  readonly second: Trace
  /** Hash of the state behind them. */
  readonly state: string
}

/** What a step of a lane left. */
interface Trace {
  /** Its records: kind, cause and slots of each. */
  readonly rows: Int32Array
  readonly heeded: Heeded
}

const LANES = SLOTS + 2
/** States and lanes that are remembered; then it begins anew. */
const KNOWN_MOST = 500_000
/** What stands for the first record of a step where it is a cause: below -1, which is none. */
const FIRST_OWN = -2

/**
 * Whether two lanes may take their next steps in either order: both can after the other, each leaves the same records, the
 * state behind both is the same, and no checker heeds a part of what it keeps in both. It is tried, not declared: both
 * orders are taken and taken back. What was found for a state holds whichever way led to it, and is kept.
 *
 * The relation holds in the state that it is asked in and says nothing of another one: conditional independence. (P.
 * Godefroid and D. Pirottin, Refining Dependencies Improves Partial-Order Verification Methods)
 */
export class Exchange {
  readonly #machine: Machine
  readonly #steps: LaneSteps
  readonly #witnesses: Witnesses
  /** Whether two lanes are free of each other, by state and lanes. */
  readonly #known = new Map<string, boolean>()

  /** @param rules that are judged */
  constructor(machine: Machine, rules: readonly string[], steps: LaneSteps) {
    this.#machine = machine
    this.#steps = steps
    this.#witnesses = new Witnesses(rules)
  }

  /** Whether it makes no difference here which of two lanes that are ready comes first. */
  isFree(a: string, b: string): boolean {
    const pair = a < b ? `${a}\n${b}` : `${b}\n${a}`
    const key = `${this.#machine.journal.hash}\n${pair}`
    let is = this.#known.get(key)
    if (is === undefined) {
      is = this.#try(a, b)
      if (this.#known.size >= KNOWN_MOST) this.#known.clear()
      this.#known.set(key, is)
    }
    return is
  }

  #try(a: string, b: string): boolean {
    const one = this.#inOrder(a, b)
    if (one === undefined || meet(one.first.heeded, one.second.heeded)) return false
    const other = this.#inOrder(b, a)
    if (other === undefined) return false
    return (
      one.state === other.state &&
      isEqual(one.first.rows, other.second.rows) &&
      isEqual(one.second.rows, other.first.rows)
    )
  }

  /** Undefined where the second cannot take its step behind the first. */
  #inOrder(a: string, b: string): Both | undefined {
    const { journal } = this.#machine
    const steps = this.#steps
    let both: Both | undefined
    steps.takenBack(() => {
      const first = this.#traceOf(a)
      if (!steps.isReady(b)) return
      both = { first, second: this.#traceOf(b), state: journal.hash }
    })
    return both
  }

  #traceOf(lane: string): Trace {
    const { log } = this.#machine
    const from = log.length
    this.#steps.advance(lane)
    return { rows: rowsOf(log, from), heeded: this.#witnesses.of(log, from, log.length) }
  }
}

/** What the records from `from` on say, wherever in the log they stand: causes among them count from the first. */
function rowsOf(log: RecordLog, from: number): Int32Array {
  const rows = new Int32Array((log.length - from) * LANES)
  for (let seq = from, at = 0; seq < log.length; seq++, at += LANES) {
    const cause = log.causeOf(seq)
    const kind = log.kindNumberOf(seq)
    const used = SLOTS_USED[kind] as number
    for (let slot = 0; slot < used; slot++) rows[at + slot] = log.slot(seq, slot)
    rows[at + SLOTS] = kind
    rows[at + SLOTS + 1] = cause < from ? cause : FIRST_OWN - (cause - from)
  }
  return rows
}

function isEqual(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
