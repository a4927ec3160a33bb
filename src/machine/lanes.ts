import { assert } from '../bits/errors.ts'
import { Held } from '../bits/held.ts'
import { keyOf } from '../bits/state.ts'
import type { Task } from '../kernel/steps.ts'
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
 * is made of steps is a task of the lane's name, of which each `advance` does one step. Tasks that the kernel has begun
 * of itself are lanes too, behind the others. Where a lane is, the journal of the machine can take back.
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

  /** Lanes that are not over, in their order. */
  open(): string[] {
    const { tasks } = this.#machine
    const open: string[] = []
    for (let i = 0; i < this.#lanes.length; i++) {
      if (!this.#isOver(i)) open.push(this.#lane(i).name)
    }
    const own = tasks.all().filter((task) => !task.isOver && this.#isOfKernel(task))
    return [...open, ...own.map((task) => task.name).sort()]
  }

  /** Lanes that can take a step now, in their order. */
  ready(): string[] {
    return this.open().filter((name) => this.isReady(name))
  }

  /** Whether a lane that is not over can take a step now. */
  isReady(name: string): boolean {
    const task = this.#taskOf(name)
    // What has not begun can begin.
    return task === undefined || this.#machine.tasks.isReady(task)
  }

  /** Whether a lane is a thread that has nothing to do until a device has. */
  isIdle(name: string): boolean {
    const task = this.#taskOf(name)
    return task !== undefined && this.#machine.tasks.isIdle(task)
  }

  /** What a lane waits for, in words. */
  waitsFor(name: string): string | undefined {
    const task = this.#taskOf(name)
    return task === undefined ? undefined : this.#machine.tasks.waitsFor(task)
  }

  /** Takes one step of a lane that is ready. */
  advance(name: string, perform: Perform): void {
    const lane = this.#indexOf(name)
    if (this.#taskOf(name) !== undefined) {
      const number = lane === -1 ? 0 : (this.#begun.value[lane] as number) - 1
      const line = lane === -1 ? undefined : this.#lane(lane).steps[number]?.operation.line
      perform(stepOf(name, line), undefined, '')
      return
    }
    const step = this.#nextOf(name)
    assert(step !== undefined, 'a lane that takes a step is not over')
    const number = this.#begun.value[lane] as number
    this.#begun.set(this.#begun.value.map((n, i) => (i === lane ? n + 1 : n)))
    const { operation } = step
    const place = `concurrent.${name}.${number}`
    if (!this.#machine.hasSteps(operation)) {
      perform(operation, step, place)
      return
    }
    perform({ ...operation, start: name }, step, place)
    // A call that has begun has done nothing yet: its first step belongs to it.
    if (this.#taskOf(name) !== undefined && this.isReady(name)) {
      perform(stepOf(name, operation.line), undefined, '')
    }
  }

  #lane(lane: number): Lane {
    return this.#lanes[lane] as Lane
  }

  #indexOf(name: string): number {
    return this.#lanes.findIndex((lane) => lane.name === name)
  }

  #isOver(lane: number): boolean {
    const { name, steps } = this.#lane(lane)
    return this.#begun.value[lane] === steps.length && this.#taskOf(name) === undefined
  }

  /** The step that a lane begins next. */
  #nextOf(name: string): Step | undefined {
    const lane = this.#indexOf(name)
    return lane === -1 ? undefined : this.#lane(lane).steps[this.#begun.value[lane] as number]
  }

  /** The task of a lane that is inside a call. */
  #taskOf(name: string): Task | undefined {
    const task = this.#machine.tasks.find(name)
    return task === undefined || task.isOver ? undefined : task
  }

  /** Whether a task is for no call: the kernel has begun it of itself. */
  #isOfKernel({ purpose, name }: Task): boolean {
    return purpose.answer === undefined && purpose.call === undefined && this.#indexOf(name) === -1
  }
}

const stepOf = (task: string, line: number | undefined): Operation => ({
  verb: 'task',
  call: 'step',
  args: { task },
  ...(line !== undefined && { line }),
})
