import {
  type Answer,
  answerOf,
  type CallHandler,
  dead,
  pending,
  unmodelled,
  type Value,
} from '../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../bits/call.ts'
import { hiOf, loOf } from '../bits/u64.ts'
import type { Life } from '../hw/life.ts'
import type { CallTags, Stage } from '../trace/stage.ts'
import { isStop, type Outcome } from './outcome.ts'
import type { Task, TaskEnd, Tasks, Work } from './steps.ts'

type Args = Readonly<Record<string, Value>>

/** What a call is for its kernel: whose it is, and the work that it begins with. */
export interface Begun {
  /** Whose address space and files it has; empty for a kernel thread. */
  readonly process: string
  readonly works: readonly Work[]
}

/** How a call begins: with work, or it is over at once. */
export type Beginning<R extends string> = Begun | Outcome<R>

export interface TaskCallParts {
  readonly tasks: Tasks
  readonly stage: Stage
  /** The kernel's: once it has ended nothing is answered. */
  readonly life: Life
  /** What the kernel printed since it was last asked: it belongs to the task that has just done a step. */
  readonly takePrinted?: () => readonly string[]
  /** What was asked of a unit since it was last asked, and the unit does not know. */
  readonly takeUnknown?: () => string | undefined
  /**
   * What the kernel does while a call waits that nobody takes step by step: each does a piece of work, and says false
   * where it has none. Who makes the calls may add some.
   */
  readonly helpers?: (() => boolean)[]
  /** What the kernel does behind a call that ran at once: work that nobody waits for. */
  readonly afterwards?: () => void
}

const LANES_SHOWN = 4

const isBegun = (beginning: Beginning<string>): beginning is Begun =>
  typeof beginning !== 'string' && 'works' in beginning

/**
 * Calls of a kernel that are work in steps. The last step ends the call with a rule of its declaration
 * (`Task.finish`). A call runs to its end at once, unless somebody wants to take it step by step (`start` of its
 * handler) or it has to wait for another task: then it is answered `pending`, and its task has the answer later
 * (`Task.answer`).
 *
 * What begins a call is no step: it looks at nothing but the arguments, who acts, and what never changes.
 *
 * @example
 * calls.handler(SVM_BIND, ({ device }) => ({ process: 'P', works: [work('lock', 'pasid_mutex'), work('bind', device)] }))
 */
export class TaskCalls {
  readonly #parts: TaskCallParts

  constructor(parts: TaskCallParts) {
    this.#parts = parts
  }

  /** @param begin `isLeft` where the task is left to somebody who takes it step by step: it may wait */
  handler<D extends CallDecl>(
    decl: D,
    begin: (args: Args, isLeft: boolean) => Beginning<RuleOf<D>>,
  ): CallHandler {
    const { stage, tasks, life } = this.#parts
    const tags = stage.tag(decl)
    const shown = Object.keys(decl.args).filter((name) => /^u/.test(decl.args[name]?.type ?? ''))
    const beginAs = (args: Args, name: string, isLeft: boolean): Answer | undefined => {
      if (life.isDead) return dead(life.why)
      const lanes = shown.slice(0, LANES_SHOWN).flatMap((arg) => {
        const word = BigInt((args[arg] ?? 0) as bigint | number)
        return [loOf(word), hiOf(word)]
      })
      const before = stage.enter(tags, ...lanes)
      const beginning = begin(args, isLeft)
      const answer = isBegun(beginning) ? this.#begin(tags, name, beginning) : this.#over(tags, beginning)
      stage.cause = before
      return answer
    }
    return {
      decl,
      start: (args, name) => beginAs(args, name, true),
      run: (args): Answer => {
        const name = tasks.freeName(`${decl.verb}:${decl.name}`)
        return beginAs(args, name, false) ?? this.#run(name)
      },
    }
  }

  #begin(tags: CallTags, name: string, { process, works }: Begun): undefined {
    const { tasks, takePrinted, takeUnknown } = this.#parts
    const answer = (task: Task, end: TaskEnd | undefined): Answer => this.#answer(tags, task, end)
    const settle = (task: Task): void => {
      for (const line of takePrinted?.() ?? []) task.print(line)
      const why = takeUnknown?.()
      if (why !== undefined) task.finishUnknown(why)
    }
    tasks.begin(name, process, works, { answer, settle })
  }

  /** All steps at once, as far as they can be done. */
  #run(name: string): Answer {
    const { tasks, helpers = [], afterwards } = this.#parts
    const task = tasks.find(name)
    if (task === undefined) throw new Error(`model bug: the task ${name} was not begun`)
    let isDone = tasks.runToEnd(task)
    while (!isDone && helpers.some((help) => help())) isDone = tasks.runToEnd(task)
    const answer = task.answer ?? pending(`waits for ${tasks.waitsFor(task)}`, { task: name })
    if (isDone) tasks.drop(task)
    afterwards?.()
    return answer
  }

  /** What the caller is told when the task has ended the call, or the kernel has stopped. */
  #answer(tags: CallTags, task: Task, end: TaskEnd | undefined): Answer {
    const { life, stage } = this.#parts
    if (end === undefined || life.isDead) return dead(life.why)
    const { rule, outputs, unknown } = end
    if (unknown !== undefined) return this.#unknown(unknown)
    const before = stage.cause
    stage.cause = task.cause
    const place = stage.leave(tags, before, placeOf(tags, rule))
    return answerOf(tags.decl, place, { outputs: { ...outputs }, warnings: task.printed })
  }

  /** No work was begun: the rule was known at once. */
  #over(tags: CallTags, outcome: Outcome<string>): Answer {
    const { life, stage, takePrinted } = this.#parts
    const warnings = takePrinted?.() ?? []
    if (life.isDead) return dead(life.why)
    if (isStop(outcome)) return outcome.stop === 'dead' ? dead(outcome.why) : this.#unknown(outcome.why)
    const place = stage.leave(tags, stage.cause, placeOf(tags, outcome))
    return answerOf(tags.decl, place, { warnings })
  }

  #unknown(why: string): Answer {
    const { log, cause, line } = this.#parts.stage
    log.emit('unmodelled', cause < 0 ? null : cause, { what: why, line })
    return unmodelled(why)
  }
}

function placeOf({ decl }: CallTags, rule: string): number {
  const place = (rulesOf(decl) as Readonly<Record<string, number>>)[rule]
  if (place === undefined) throw new Error(`model bug: ${decl.name} has no rule ${rule}`)
  return place
}
