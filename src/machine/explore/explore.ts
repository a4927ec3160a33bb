import { Prng } from '../../bits/prng.ts'
import { createMachine } from '../create-machine.ts'
import type { Machine } from '../machine.ts'
import type { Scenario } from '../scenario/scenario.ts'
import { countOrders } from './count-orders.ts'
import { type OrderEnd, OrderRuns } from './order-runs.ts'
import { drained, type Slices } from './slices.ts'

/**
 * Which orders: `reduced` has every one but for steps that may be exchanged, which then stand in one of their orders;
 * `all` has those too; `random` has some, by chance.
 */
export type ExploreMode = 'reduced' | 'all' | 'random'

export interface ExploreOptions {
  readonly mode?: ExploreMode
  /** Orders, at most; `random` does so many. */
  readonly bound?: number
  /** Of `random`: the same seed gives the same orders. */
  readonly seed?: number
  /** Rules to judge; all where it is left out. */
  readonly rules?: readonly string[]
  /** The machine of a scenario, with its journal on: that of its description where it is left out. */
  readonly make?: () => Machine
  /** Asked before each step: whether it is enough. */
  readonly isCut?: () => boolean
  /** Told after each order. */
  readonly onOrder?: (orders: number, steps: number) => void
}

/** What orders have in common, and the one of them that is said in the fewest entries. */
export interface OrderCount {
  readonly orders: number
  readonly first: OrderEnd
}

/** What came of an exploration. */
export interface Exploration {
  readonly scenario: Scenario
  readonly profile: string
  readonly mode: ExploreMode
  readonly seed: number
  /** Orders that were run to their end and judged. */
  readonly orders: number
  /** Steps that lanes took; those that orders have in common at their beginning are taken once. */
  readonly steps: number
  /** Steps of the longest order. */
  readonly longest: number
  /** Of a reduced search that is complete: how many orders those that were run stand for; undefined where nobody knows. */
  readonly standFor: bigint | undefined
  /** False where there are more orders than were run. */
  readonly isComplete: boolean
  /** States that differ when no lane can go on. */
  readonly states: number
  /** For each rule that an order breaks: how many do. Those that most break come first. */
  readonly broken: ReadonlyMap<string, OrderCount>
  /** Orders in which lanes wait for each other for ever. */
  readonly stuck: OrderCount | undefined
  /** Orders of which the model does not know all answers. */
  readonly unmodelled: number
}

export const ORDERS_MOST = 1_000_000

/** Whether no order breaks a rule, or ends with lanes that wait. */
export const isSound = ({ broken, stuck }: Exploration): boolean => broken.size === 0 && stuck === undefined

/** Counts orders as they end. */
class OrderCounter {
  orders = 0
  longest = 0
  unmodelled = 0
  stuck: OrderCount | undefined
  readonly states = new Set<string>()
  readonly #broken = new Map<string, OrderCount>()

  add(end: OrderEnd): void {
    this.orders++
    this.longest = Math.max(this.longest, end.order.length)
    this.states.add(end.state)
    if (end.isUnmodelled) this.unmodelled++
    if (end.stuck.length > 0) this.stuck = counted(this.stuck, end)
    for (const rule of end.broken) this.#broken.set(rule, counted(this.#broken.get(rule), end))
  }

  get broken(): ReadonlyMap<string, OrderCount> {
    return new Map([...this.#broken].sort(([a, x], [b, y]) => y.orders - x.orders || (a < b ? -1 : 1)))
  }
}

const counted = (so: OrderCount | undefined, end: OrderEnd): OrderCount => ({
  orders: (so?.orders ?? 0) + 1,
  first: so === undefined || end.said < so.first.said ? end : so.first,
})

/**
 * Runs the orders in which the concurrent steps of a scenario can come, and judges each.
 *
 * The reduced search leaves out orders that differ only in steps between which the order makes no difference (sleep sets:
 * P. Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, section 5). Which these are nobody
 * declares: `Exchange` tries it, in the state in which it matters.
 *
 * @throws IommulatorError where the machine cannot be wired, a step cannot be done, or what comes before the lanes is
 * not answered as the scenario expects
 */
export const explore = (scenario: Scenario, options: ExploreOptions = {}): Exploration =>
  drained(exploring(scenario, options))

/** The same, one order after the other: `isCut` of the options may end it between two of them. */
export function* exploring(scenario: Scenario, options: ExploreOptions = {}): Slices<Exploration> {
  const { mode = 'reduced', bound = ORDERS_MOST, seed = 1, make, onOrder, isCut } = options
  const machine = make?.() ?? createMachine(scenario.machine, { journal: true, source: scenario.title })
  const runs = new OrderRuns(scenario, machine, options.rules)
  const counter = new OrderCounter()
  const end = () => {
    counter.add(runs.end())
    onOrder?.(counter.orders, runs.steps)
  }
  const isFull = () => counter.orders >= bound || isCut?.() === true
  let isComplete = false
  if (mode === 'random') {
    const chance = new Prng(seed)
    while (!isFull()) {
      atRandom(runs, chance, end)
      yield
    }
  } else isComplete = yield* new Search(runs, mode === 'reduced', end, isFull).run()
  const { orders, longest, unmodelled, stuck, broken, states } = counter
  return {
    scenario,
    profile: machine.profile.name,
    ...{ mode, seed, orders, longest, unmodelled, stuck, broken, isComplete },
    steps: runs.steps,
    standFor: mode === 'reduced' && isComplete ? countOrders(runs) : undefined,
    states: states.size,
  }
}

/** One order: at each place any lane that can go on. */
function atRandom(runs: OrderRuns, chance: Prng, end: () => void): void {
  let steps = 0
  for (let ready = runs.ready(); ready.length > 0; ready = runs.ready()) {
    runs.take(chance.pick(ready), ready[0] as string)
    steps++
  }
  end()
  for (; steps > 0; steps--) runs.takeBack()
}

const AWAKE: readonly string[] = []

/** Every order, depth first. */
class Search {
  readonly #runs: OrderRuns
  readonly #isReduced: boolean
  readonly #end: () => void
  readonly #isFull: () => boolean
  #isCut = false

  constructor(runs: OrderRuns, isReduced: boolean, end: () => void, isFull: () => boolean) {
    this.#runs = runs
    this.#isReduced = isReduced
    this.#end = end
    this.#isFull = isFull
  }

  /** Answers whether it came to its end. */
  *run(): Slices<boolean> {
    yield* this.#from(AWAKE)
    return !this.#isCut
  }

  /** @param sleep lanes whose next step comes first in an order that was searched, and may as well have */
  *#from(sleep: readonly string[]): Slices<void> {
    yield
    const runs = this.#runs
    const ready = runs.ready()
    const [usual] = ready
    if (usual === undefined) {
      this.#end()
      return
    }
    const done = [...sleep]
    for (const lane of ready) {
      if (done.includes(lane)) continue
      if (this.#isFull()) {
        this.#isCut = true
        return
      }
      const asleep = this.#isReduced ? done.filter((other) => runs.mayExchange(other, lane)) : AWAKE
      runs.take(lane, usual)
      yield* this.#from(asleep)
      runs.takeBack()
      if (this.#isReduced) done.push(lane)
    }
  }
}
