import type { Answer } from '../bits/answer.ts'
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

/** How a step is done. */
export interface StepDefinition {
  /** What it does, for whoever reads a run: one line. */
  readonly doc: string
  /** Does it. What it answers is done next by the task, before what the task has to do after it. */
  run(task: Task, args: readonly WorkArg[]): readonly Work[] | undefined
  /** Whether it can go on now: false while it waits (a lock, an interrupt). */
  isReady?(task: Task, args: readonly WorkArg[]): boolean
  /** What it waits for is an event of a device, which need not come: a thread between two interrupts waits for nobody. */
  readonly isIdle?: boolean
}

/** How the call ended that a task is for: a rule of its declaration, or what the model does not know. */
export interface TaskEnd {
  readonly rule: string
  readonly outputs: Readonly<Record<string, WorkArg | boolean>>
  /** Why the model does not know how it ends. */
  readonly unknown?: string
}

/** What a task is begun for. */
export interface TaskPurpose {
  /** The answer of the call that it is for, once that has ended: with its end, or with none where the kernel stopped. */
  readonly answer?: (task: Task, end: TaskEnd | undefined) => Answer
  /** What there is to take down after each of its steps, before it is asked for its end. */
  readonly settle?: (task: Task) => void
  /** Makes a call that has no steps: what the step `call` does. */
  readonly call?: () => Answer
}

interface TaskState {
  readonly works: readonly Work[]
  /** What the last step that returns something returned. */
  readonly value: WorkArg
  readonly end: TaskEnd | undefined
  readonly answer: Answer | undefined
  /** What the kernel printed. */
  readonly printed: readonly string[]
}

const NOTHING: TaskState = { works: [], value: 0, end: undefined, answer: undefined, printed: [] }

const hashOfTask = ({ works, value, end, answer, printed }: TaskState): number =>
  keyOf(
    ...works.flatMap((w) => [w.step, ...w.args.map(String)]),
    String(value),
    end?.rule ?? '',
    answer?.code ?? '',
    answer?.rule ?? '',
    ...printed,
  )

/** Somebody who does work in the kernel, step by step: a process in a system call, a kernel thread. */
export class Task {
  readonly name: string
  /** Whose address space and files it has; empty for a kernel thread. */
  readonly process: string
  readonly purpose: TaskPurpose
  /** Seq of the record that led to it, -1 for none. */
  readonly cause: number
  /** Who acts, as records name it (interned), and on which CPU. */
  readonly by: number
  readonly cpu: number
  readonly #state: Held<TaskState>

  /** @param name no two tasks that are not over share one */
  constructor(
    name: string,
    process: string,
    works: readonly Work[],
    {
      journal,
      stage,
      purpose,
    }: { readonly journal: Journal; readonly stage: Stage; readonly purpose: TaskPurpose },
  ) {
    this.name = name
    this.process = process
    this.purpose = purpose
    this.cause = stage.cause
    this.by = stage.by
    this.cpu = stage.cpu
    this.#state = new Held<TaskState>(journal, `task ${name}`, NOTHING, hashOfTask)
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

  /** The call ends in a way that the model does not know. */
  finishUnknown(why: string): void {
    this.#state.set({ ...this.#state.value, end: { rule: '', outputs: {}, unknown: why } })
  }

  /** What the caller was told; undefined while the call has not ended. */
  get answer(): Answer | undefined {
    return this.#state.value.answer
  }

  set answer(answer: Answer | undefined) {
    this.#state.set({ ...this.#state.value, answer })
  }

  /** The kernel prints a line: a warning of the answer. */
  print(line: string): void {
    this.#state.set({ ...this.#state.value, printed: [...this.printed, line] })
  }

  get printed(): readonly string[] {
    return this.#state.value.printed
  }

  get isOver(): boolean {
    return this.works.length === 0
  }

  /** Nothing is left of it. */
  clear(): void {
    this.#state.set(NOTHING)
  }
}

const STEP_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.: -]*$/
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
    })
    this.define('unlock', {
      doc: 'gives a lock back',
      run: (_task, [lock]) => this.#setLock(String(lock), undefined),
    })
    this.define('call', {
      doc: 'makes a call that nobody comes between',
      run: (task) => {
        task.answer = task.purpose.call?.()
        return undefined
      },
    })
  }

  /** Says how a step is done. Each has one definition; its name is what scenarios can say. */
  define(name: string, definition: StepDefinition): void {
    if (!STEP_NAME.test(name)) throw new Error(`model bug: a step is called "${name}"`)
    if (this.#steps.has(name)) throw new Error(`model bug: the step ${name} is defined twice`)
    this.#steps.set(name, definition)
  }

  /** What a step does, by its name, or by that as one word (blanks as `_`). */
  docOf(name: string): string {
    for (const [known, { doc }] of this.#steps) {
      if (known === name || known.replaceAll(' ', '_') === name) return doc
    }
    throw new Error(`model bug: no step is called ${name}`)
  }

  /** A task with work to do. @throws IommulatorError ERR_OPERATION where one of that name is not over */
  begin(name: string, process: string, works: readonly Work[], purpose: TaskPurpose = {}): Task {
    const known = this.#tasks.get(name)
    if (known !== undefined && !known.isOver) {
      throw new IommulatorError('ERR_OPERATION', `a task is called ${name}, and is not over`)
    }
    known?.clear()
    const task = new Task(name, process, works, { journal: this.#journal, stage: this.#stage, purpose })
    this.#put(name, task)
    return task
  }

  /** Forgets a task that is over: nobody asks for it by its name. */
  drop(task: Task): void {
    task.clear()
    this.#put(task.name, undefined)
  }

  /** A name for a task that nobody has named. */
  freeName(call: string): string {
    let name = call
    for (let n = 2; this.#tasks.has(name); n++) name = `${call}-${n}`
    return name
  }

  #put(name: string, task: Task | undefined): void {
    const known = this.#tasks.get(name)
    const set = (now: Task | undefined) => {
      if (now === undefined) this.#tasks.delete(name)
      else this.#tasks.set(name, now)
    }
    set(task)
    this.#journal.change(keyOf('tasks', name), 0, 0, () => set(known))
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

  /** Does the next step of a task that is ready. */
  step(task: Task): void {
    const [next, ...rest] = task.works
    if (next === undefined) throw new Error(`model bug: the task ${task.name} is over`)
    const stage = this.#stage
    const { log, cause, by, cpu, line } = stage
    const from = task.cause < 0 ? null : task.cause
    stage.cause = log.emit('task.step', from, { task: task.name, step: next.step, line })
    stage.by = task.by
    stage.cpu = task.cpu
    task.works = rest
    const more = this.#definition(next.step).run(task, next.args) ?? []
    if (more.length > 0) task.works = [...more, ...task.works]
    this.#settle(task)
    stage.cause = cause
    stage.by = by
    stage.cpu = cpu
  }

  /** Answers the call that a task is for, when it has ended. */
  #settle(task: Task): void {
    const { purpose } = task
    purpose.settle?.(task)
    const { end, answer } = task
    if (answer !== undefined || purpose.answer === undefined) return
    if (end !== undefined || this.isStopped()) task.answer = purpose.answer(task, end)
    else if (task.isOver) throw new Error(`model bug: the task ${task.name} is over without an end`)
  }

  /** Whether a task has nothing to do until a device has: see `StepDefinition.isIdle`. */
  isIdle(task: Task): boolean {
    const [next] = task.works
    return next !== undefined && !this.isReady(task) && this.#definition(next.step).isIdle === true
  }

  /** What a task waits for, in words; undefined where it can go on, or is over. */
  waitsFor(task: Task): string | undefined {
    const [next] = task.works
    if (next === undefined || this.isReady(task)) return undefined
    if (this.isStopped()) return 'the kernel has stopped'
    const holder = next.step === 'lock' ? this.holderOf(String(next.args[0])) : undefined
    return holder === undefined ? next.step : `${next.args[0]}, which ${holder} has`
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
