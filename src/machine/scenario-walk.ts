import { IommulatorError } from '../bits/errors.ts'
import { Lanes, type Perform } from './lanes.ts'
import type { Machine } from './machine.ts'
import type { Scenario, Step } from './scenario/scenario.ts'

/** Steps that lanes may take: more is a bug of the model. */
const STEPS_MOST = 1_000_000

/** Goes through a scenario on a machine: its steps, its lanes, and what comes after them. */
export class ScenarioWalk {
  readonly lanes: Lanes
  readonly #scenario: Scenario

  constructor(scenario: Scenario, machine: Machine) {
    this.#scenario = scenario
    this.lanes = new Lanes(machine, scenario.concurrent ?? [])
  }

  /** All of it, lanes in the order that the scenario says. @throws IommulatorError ERR_OPERATION where that cannot be */
  run(perform: Perform): void {
    this.before(perform)
    this.inOrder(this.#scenario.order ?? [], perform)
    this.after(perform)
  }

  /** What comes before the lanes. */
  before(perform: Perform): void {
    each(this.#scenario.steps, 'steps', perform)
  }

  /**
   * Lanes take steps in an order, one an entry; then the first lane that can go on does, until none can. A scenario
   * without lanes has none of the kernel's either.
   *
   * @throws IommulatorError ERR_OPERATION where a lane cannot go on when its turn is
   */
  inOrder(order: readonly string[], perform: Perform): void {
    if (this.#scenario.concurrent === undefined) return
    const { lanes } = this
    order.forEach((name, i) => {
      const wrong = !lanes.open().includes(name)
        ? 'is over'
        : lanes.isReady(name)
          ? undefined
          : `waits for ${lanes.waitsFor(name)}`
      if (wrong === undefined) lanes.advance(name, perform)
      else throw new IommulatorError('ERR_OPERATION', `entry ${i + 1} of order: the lane ${name} ${wrong}`)
    })
    for (let n = 0; ; n++) {
      const [name] = lanes.ready()
      if (name === undefined) return
      if (n === STEPS_MOST) throw new Error(`model bug: the lane ${name} does not end`)
      lanes.advance(name, perform)
    }
  }

  /** What comes after the lanes. */
  after(perform: Perform): void {
    each(this.#scenario.after ?? [], 'after', perform)
  }
}

const each = (steps: readonly Step[], place: string, perform: Perform): void => {
  steps.forEach((step, i) => {
    perform(step.operation, step, `${place}.${i}`)
  })
}
