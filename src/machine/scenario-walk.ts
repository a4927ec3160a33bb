import { IommulatorError } from '../bits/errors.ts'
import { Lanes, type Perform } from './lanes.ts'
import type { Machine } from './machine.ts'
import type { Scenario, Step } from './scenario/scenario.ts'

/** Steps that lanes may take: more is a bug of the model. */
const STEPS_MOST = 1_000_000

/** Goes through a scenario on a machine: its steps, its lanes, and what comes after them. */
export class ScenarioWalk {
  readonly #scenario: Scenario
  readonly lanes: Lanes

  constructor(scenario: Scenario, machine: Machine) {
    this.#scenario = scenario
    this.lanes = new Lanes(machine, scenario.concurrent ?? [])
  }

  /** All of it, lanes in the order that the scenario says. @throws IommulatorError ERR_OPERATION where that cannot be */
  run(perform: Perform): void {
    this.before(perform)
    const names = this.#scenario.concurrent?.map((lane) => lane.name) ?? []
    this.#scenario.order?.forEach((name, i) => {
      const lane = names.indexOf(name)
      const wrong = this.lanes.isOver(lane)
        ? 'is over'
        : this.lanes.isReady(lane)
          ? undefined
          : `waits for ${this.lanes.waitsFor(lane)}`
      if (wrong !== undefined) {
        throw new IommulatorError('ERR_OPERATION', `entry ${i + 1} of order: the lane ${name} ${wrong}`)
      }
      this.lanes.advance(lane, perform)
    })
    this.rest(perform)
    this.after(perform)
  }

  /** What comes before the lanes. */
  before(perform: Perform): void {
    each(this.#scenario.steps, 'steps', perform)
  }

  /** The first lane that can go on does, until none can. */
  rest(perform: Perform): void {
    const { lanes } = this
    for (let n = 0; ; n++) {
      let lane = 0
      while (lane < lanes.count && !lanes.isReady(lane)) lane++
      if (lane === lanes.count) return
      if (n === STEPS_MOST) throw new Error(`model bug: the lane ${lanes.nameOf(lane)} does not end`)
      lanes.advance(lane, perform)
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
