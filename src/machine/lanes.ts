import { assert } from '../bits/errors.ts'
import { Held } from '../bits/held.ts'
import { keyOf } from '../bits/state.ts'
import type { Machine } from './machine.ts'
import type { Operation } from './operation.ts'
import type { Lane, Step } from './scenario/scenario.ts'

/**
 * Does an operation. `step` is the one of the scenario that it begins, and `place` says where that stands; undefined and
 * empty where a call only goes on.
 */
export type Perform = (operation: Operation, step: Step | undefined, place: string) => void

/**
 * What stands side by side in a scenario, on a machine: each lane makes its calls one after the other, and a call that
 * is made of steps is a task of the lane's name, of which each `advance` does one step. Where a lane is, the journal of
 * the machine can take back.
 */
export class Lanes {
  readonly #machine: Machine
  readonly #lanes: readonly Lane[]
  /** Steps that each lane has begun. */
  readonly #begun: Held<readonly number[]>

  constructor(machine: Machine, lanes: readonly Lane[]) {
    this.#machine = machine
    this.#lanes = lanes
    const none = lanes.map(() => 0)
    this.#begun = new Held<readonly number[]>(machine.journal, 'lanes', none, (begun) => keyOf(...begun))
  }

  get count(): number {
    return this.#lanes.length
  }

  nameOf(lane: number): string {
    return this.#lane(lane).name
  }

  /** Whether all its calls have ended, and nothing is left of them to do. */
  isOver(lane: number): boolean {
    return !this.#isInside(lane) && this.#begun.value[lane] === this.#lane(lane).steps.length
  }

  /** Whether it can take a step now. */
  isReady(lane: number): boolean {
    const task = this.#machine.tasks.find(this.nameOf(lane))
    return task !== undefined && !task.isOver ? this.#machine.tasks.isReady(task) : !this.isOver(lane)
  }

  /** What it waits for, in words, where it is neither ready nor over. */
  waitsFor(lane: number): string | undefined {
    const task = this.#machine.tasks.find(this.nameOf(lane))
    return task === undefined ? undefined : this.#machine.tasks.waitsFor(task)
  }

  /** Takes one step of a lane that is ready. */
  advance(lane: number, perform: Perform): void {
    const { name, steps } = this.#lane(lane)
    const number = this.#begun.value[lane] as number
    if (this.#isInside(lane)) {
      perform(stepOf(name, (steps[number - 1] as Step).operation), undefined, '')
      return
    }
    const step = steps[number]
    assert(step !== undefined, 'a lane that takes a step is not over')
    this.#begun.set(this.#begun.value.map((n, i) => (i === lane ? n + 1 : n)))
    const { operation } = step
    const place = `concurrent.${name}.${number}`
    if (!this.#machine.hasSteps(operation)) {
      perform(operation, step, place)
      return
    }
    perform({ ...operation, start: name }, step, place)
    // A call that has begun has done nothing yet: its first step belongs to it.
    if (this.#isInside(lane) && this.isReady(lane)) perform(stepOf(name, operation), undefined, '')
  }

  #lane(lane: number): Lane {
    const found = this.#lanes[lane]
    assert(found !== undefined, 'the lane exists')
    return found
  }

  /** Whether a call of it has begun and is not over. */
  #isInside(lane: number): boolean {
    const task = this.#machine.tasks.find(this.nameOf(lane))
    return task !== undefined && !task.isOver
  }
}

const stepOf = (task: string, { line }: Operation): Operation => ({
  verb: 'task',
  call: 'step',
  args: { task },
  ...(line !== undefined && { line }),
})
