import { IommulatorError } from '../bits/errors.ts'
import { Held } from '../bits/held.ts'
import { type Journal, keyOf } from '../bits/state.ts'
import type { Stage } from '../trace/stage.ts'

/** What a piece of work is about: plain values, so that an undo log and a state hash see all of it. */
export type WorkArg = number | bigint | string

/**
 * A piece of kernel work that is done as a whole. Between two of them whatever else runs on the machine may come: other
 * tasks, devices, interrupts.
 */
export interface Work {
  /** A step that is defined: see `Tasks.define`. */
  readonly step: string
  readonly args: readonly WorkArg[]
}

/** @example work('mmput', 'P') */
export const work = (step: string, ...args: readonly WorkArg[]): Work => ({ step, args })

/**
 * What a step reads and writes, by the names of the objects (`mm P`, `unit vtd0`, `pages`). Two steps that have no object
 * in common, or read it both, may be exchanged without any difference.
 */
export interface Footprint {
  readonly reads: readonly string[]
  readonly writes: readonly string[]
}

/** Whether the order of two steps can matter. Of a step that does not say what it touches it always can. */
export function conflict(a: Footprint | undefined, b: Footprint | undefined): boolean {
  if (a === undefined || b === undefined) return true
  const meets = (writes: readonly string[], other: Footprint) =>
    writes.some((name) => other.writes.includes(name) || other.reads.includes(name))
  return meets(a.writes, b) || meets(b.writes, a)
}

/** How a step is done. */
export interface StepDefinition {
  /** What it does, for whoever reads a run: one line. */
  readonly doc: string
  /** Does it. What it answers is done next by the task, before what the task has to do after it. */
  run(task: Task, args: readonly WorkArg[]): readonly Work[] | undefined
  /** Whether it can go on now: false while it waits (a lock, an interrupt). */
  isReady?(task: Task, args: readonly WorkArg[]): boolean
  /** What it touches; everything where it does not say. */
  touches?(task: Task, args: readonly WorkArg[]): Footprint
}

/** How the call ended that a task is for: a rule of its declaration. */
export interface TaskEnd {
  readonly rule: string
  readonly outputs: Readonly<Record<string, WorkArg | boolean>>
}

interface TaskState {
  readonly works: readonly Work[]
  /** What the last step that returns something returned. */
  readonly value: WorkArg
  readonly end: TaskEnd | undefined
}

const hashOfTask = ({ works, value, end }: TaskState): number =>
  keyOf(...works.flatMap((w) => [w.step, ...w.args.map(String)]), String(value), end?.rule ?? '')

/** Somebody who does work in the kernel, step by step: a process in a system call, a kernel thread. */
export class Task {
  readonly name: string
  /** Whose address space and files it has; empty for a kernel thread. */
  readonly process: string
  readonly #state: Held<TaskState>

  /** @param name no two tasks that are not over share one */
  constructor(name: string, process: string, works: readonly Work[], journal: Journal) {
    this.name = name
    this.process = process
    this.#state = new Held<TaskState>(
      journal,
      `task ${name}`,
      { works: [], value: 0, end: undefined },
      hashOfTask,
    )
    this.works = works
  }

  /** What is still to be done, in order. */
  get works(): readonly Work[] {
    return this.#state.value.works
  }

  set works(works: readonly Work[]) {
    this.#state.set({ ...this.#state.value, works })
  }

  /** What the last step that returns something returned: an errno, a PASID. */
  get value(): WorkArg {
    return this.#state.value.value
  }

  set value(value: WorkArg) {
    this.#state.set({ ...this.#state.value, value })
  }

  /** Undefined while the call has not ended. The task may still have work to do, which is not its caller's. */
  get end(): TaskEnd | undefined {
    return this.#state.value.end
  }

  finish(rule: string, outputs: TaskEnd['outputs'] = {}): void {
    this.#state.set({ ...this.#state.value, end: { rule, outputs } })
  }

  get isOver(): boolean {
    return this.works.length === 0
  }
}

/** Steps that one task may do while nothing comes between. More is a bug of the model. */
const STEPS_MOST = 1_000_000

/**
 * All tasks of a kernel, and the steps that they are made of. Nobody here decides who is next: a call runs its task to
 * the end, and a scheduler may take any task that is ready one step on.
 *
 * @example
 * tasks.define('mmput', { doc: 'a user of the address space goes', run: (task, [mm]) => [...] })
 * const task = tasks.begin('exit', 'P', [work('mmput', 'P')])
 * while (!task.isOver && tasks.isReady(task)) tasks.step(task)
 */
export class Tasks {
  readonly #stage: Stage
  readonly #journal: Journal
  readonly #steps = new Map<string, StepDefinition>()
  readonly #tasks = new Map<string, Task>()
  readonly #locks: Held<ReadonlyMap<string, string>>
  /** Whether somebody can come between steps: a kernel that has ended has no tasks that are ready. */
  isStopped: () => boolean = () => false

  constructor(stage: Stage, journal: Journal) {
    this.#stage = stage
    this.#journal = journal
    this.#locks = new Held<ReadonlyMap<string, string>>(journal, 'locks', new Map(), (locks) =>
      keyOf(...[...locks].sort(([a], [b]) => (a < b ? -1 : 1)).flat()),
    )
    this.define('lock', {
      doc: 'takes a lock, as soon as nobody else has it',
      isReady: (_task, [lock]) => !this.#locks.value.has(String(lock)),
      run: (task, [lock]) => this.#setLock(String(lock), task.name),
      touches: (_task, [lock]) => ({ reads: [], writes: [`lock ${lock}`] }),
    })
    this.define('unlock', {
      doc: 'gives a lock back',
      run: (_task, [lock]) => this.#setLock(String(lock), undefined),
      touches: (_task, [lock]) => ({ reads: [], writes: [`lock ${lock}`] }),
    })
  }

  /** Says how a step is done. Each has one definition. */
  define(name: string, definition: StepDefinition): void {
    if (this.#steps.has(name)) throw new Error(`model bug: the step ${name} is defined twice`)
    this.#steps.set(name, definition)
  }

  docOf(name: string): string {
    return this.#definition(name).doc
  }

  /** A task with work to do. @throws IommulatorError ERR_OPERATION where one of that name is not over */
  begin(name: string, process: string, works: readonly Work[]): Task {
    const known = this.#tasks.get(name)
    if (known !== undefined && !known.isOver) {
      throw new IommulatorError('ERR_OPERATION', `a task is called ${name}, and is not over`)
    }
    const task = new Task(name, process, works, this.#journal)
    this.#tasks.set(name, task)
    this.#journal.change(keyOf('tasks', name), 0, 0, () => {
      if (known === undefined) this.#tasks.delete(name)
      else this.#tasks.set(name, known)
    })
    return task
  }

  find(name: string): Task | undefined {
    return this.#tasks.get(name)
  }

  /** All that were begun, in that order. */
  all(): readonly Task[] {
    return [...this.#tasks.values()]
  }

  /** Whether its next step can be done now. */
  isReady(task: Task): boolean {
    const [next] = task.works
    if (next === undefined || this.isStopped()) return false
    return this.#definition(next.step).isReady?.(task, next.args) ?? true
  }

  /** What its next step touches; undefined where it does not say, or has none. */
  touches(task: Task): Footprint | undefined {
    const [next] = task.works
    return next === undefined ? undefined : this.#definition(next.step).touches?.(task, next.args)
  }

  /** Does the next step of a task that is ready. */
  step(task: Task): void {
    const [next, ...rest] = task.works
    if (next === undefined) throw new Error(`model bug: the task ${task.name} is over`)
    const { log, cause, line } = this.#stage
    this.#stage.cause = log.emit('task.step', cause, { task: task.name, step: next.step, line })
    task.works = rest
    const more = this.#definition(next.step).run(task, next.args) ?? []
    if (more.length > 0) task.works = [...more, ...task.works]
    this.#stage.cause = cause
  }

  /** Does all steps of a task; false where it has to wait for another one. */
  runToEnd(task: Task): boolean {
    for (let n = 0; !task.isOver; n++) {
      if (!this.isReady(task)) return false
      if (n === STEPS_MOST) throw new Error(`model bug: the task ${task.name} does not end`)
      this.step(task)
    }
    return true
  }

  /** Who has a lock. */
  holderOf(lock: string): string | undefined {
    return this.#locks.value.get(lock)
  }

  #setLock(lock: string, holder: string | undefined): undefined {
    const locks = new Map(this.#locks.value)
    if (holder === undefined) locks.delete(lock)
    else locks.set(lock, holder)
    this.#locks.set(locks)
  }

  #definition(name: string): StepDefinition {
    const found = this.#steps.get(name)
    if (found === undefined) throw new Error(`model bug: no step is called ${name}`)
    return found
  }
}
