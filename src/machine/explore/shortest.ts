import { createMachine } from '../create-machine.ts'
import type { Machine } from '../machine.ts'
import { runScenario } from '../run-scenario.ts'
import type { Scenario, Step } from '../scenario/scenario.ts'
import type { Exploration } from './explore.ts'
import { type OrderEnd, OrderRuns } from './order-runs.ts'
import { drained, type Slices } from './slices.ts'

/** Orders that are run to find a shorter one. */
const TRIES_MOST = 5_000

/** How a shorter order is looked for. */
export interface ShortestOptions {
  readonly make?: () => Machine
  /** Orders that are run at most. */
  readonly tries?: number
  /** Asked before each step: whether it is enough. */
  readonly isCut?: () => boolean
}

/** An order that goes wrong, in as few entries as possible. */
export interface ShortestOrder {
  readonly end: OrderEnd
  /** False where there were too many shorter ones to try them all. */
  readonly isProven: boolean
}

const isWrong = ({ broken, stuck }: OrderEnd): boolean => broken.length > 0 || stuck.length > 0

/**
 * Of the orders that break a rule, or in which lanes wait for ever, one that is said in the fewest entries: after them
 * the first lane that can go on does. Undefined where the exploration has found none.
 */
export const shortestOrder = (
  exploration: Exploration,
  options: ShortestOptions = {},
): ShortestOrder | undefined => drained(seekingShortest(exploration, options))

/** The same, one order after the other. */
export function* seekingShortest(
  { scenario, broken, stuck }: Exploration,
  { make, tries = TRIES_MOST, isCut }: ShortestOptions = {},
): Slices<ShortestOrder | undefined> {
  const found = [...broken.values(), ...(stuck === undefined ? [] : [stuck])]
  const [first, ...others] = found.map((count) => count.first)
  if (first === undefined) return undefined
  const best = others.reduce((a, b) => (b.said < a.said ? b : a), first)
  const machine = make?.() ?? createMachine(scenario.machine, { journal: true, source: scenario.title })
  const search = new ShortSearch(new OrderRuns(scenario, machine), tries, isCut)
  for (let entries = 0; entries < best.said; entries++) {
    const end = yield* search.withEntries(entries)
    if (end !== undefined) return { end, isProven: true }
    if (search.isSpent) return { end: best, isProven: false }
  }
  return { end: best, isProven: true }
}

/** Tries all orders that are said in so many entries. */
class ShortSearch {
  readonly #runs: OrderRuns
  #left: number
  #found: OrderEnd | undefined
  readonly #isCut: () => boolean

  constructor(runs: OrderRuns, tries: number, isCut: () => boolean = () => false) {
    this.#runs = runs
    this.#left = tries
    this.#isCut = isCut
  }

  get isSpent(): boolean {
    return this.#left <= 0 || this.#isCut()
  }

  *withEntries(entries: number): Slices<OrderEnd | undefined> {
    yield* this.#from(entries)
    return this.#found
  }

  /** @param entries that are still to be said, of which the last one is not what would come unsaid */
  *#from(entries: number): Slices<void> {
    yield
    const ready = this.#runs.ready()
    const [usual] = ready
    if (usual === undefined) {
      if (entries > 0 || this.isSpent) return
      this.#left--
      const end = this.#runs.end()
      if (isWrong(end)) this.#found = end
      return
    }
    if (entries <= 0) {
      this.#runs.take(usual, usual)
      yield* this.#from(0)
      this.#runs.takeBack()
      return
    }
    for (const lane of ready) {
      if (this.#found !== undefined || this.isSpent) return
      if (entries === 1 && lane === usual) continue
      this.#runs.take(lane, usual)
      yield* this.#from(entries - 1)
      this.#runs.takeBack()
    }
  }
}

/** What an order answered is what a step expects from now on; a step that expects nothing stays so. */
const expecting = (
  step: Step,
  said: { readonly code: string; readonly rule: string; readonly state: string },
): Step =>
  step.expect === undefined
    ? step
    : { ...step, expect: said.state === 'done' ? { code: said.code, rule: said.rule } : { code: said.code } }

/**
 * A scenario in one of its orders, which expects what comes of that: run as a file of its own it is as expected. Its
 * title says which rules break.
 */
export function scenarioOfOrder(scenario: Scenario, { order, said, broken, stuck }: OrderEnd): Scenario {
  const what = broken.length > 0 ? `breaks ${broken.join(', ')}` : `ends with ${stuck.join('; ')}`
  const { order: _order, ...rest } = scenario
  const ordered: Scenario = {
    ...rest,
    title: `${scenario.title}: an order that ${what}`,
    ...(said > 0 && { order: order.slice(0, said) }),
    findings: broken.map((rule) => ({ rule })),
  }
  const { steps } = runScenario(ordered)
  const answers = new Map(steps.filter((s) => s.wrong.length > 0).map((s) => [s.place, s.answer]))
  const adapted = (list: readonly Step[], place: string): Step[] =>
    list.map((step, i) => {
      const answer = answers.get(`${place}.${i}`)
      return answer === undefined ? step : expecting(step, answer)
    })
  return {
    ...ordered,
    concurrent: (ordered.concurrent ?? []).map(({ name, steps: own }) => ({
      name,
      steps: adapted(own, `concurrent.${name}`),
    })),
    ...(ordered.after !== undefined && { after: adapted(ordered.after, 'after') }),
  }
}
