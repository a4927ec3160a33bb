import { type Answer, answerOf, type CallHandler, dead, unmodelled, type Value } from '../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../bits/call.ts'
import { hiOf, loOf } from '../bits/u64.ts'
import type { Life } from '../hw/life.ts'
import { type CallTags, callName, type Stage } from '../trace/stage.ts'
import { isStop, type Outcome } from './outcome.ts'
import type { Task, Tasks, Work } from './steps.ts'

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
  /** What the kernel printed since it was last asked. */
  readonly takePrinted?: () => readonly string[]
  /** What was asked of a unit since it was last asked, and the unit does not know. */
  readonly takeUnknown?: () => string | undefined
}

const isBegun = (beginning: Beginning<string>): beginning is Begun =>
  typeof beginning !== 'string' && 'works' in beginning

/**
 * Calls of a kernel that are work in steps. The last step ends the call with a rule of its declaration
 * (`Task.finish`). A call runs to its end at once, unless somebody wants to take it step by step (`startAs`) or it has to
 * wait for another task: then it is answered `pending`, and its task says later how it ended (`answerOf`).
 */
export class TaskCalls {
  /** The next call's task has this name, and does nothing before somebody takes it on. */
  startAs: string | undefined
  readonly #parts: TaskCallParts
  readonly #calls = new Map<string, CallTags>()

  constructor(parts: TaskCallParts) {
    this.#parts = parts
  }

  /** @param begin `isLeft` where the task is left to somebody who takes it step by step: it may wait */
  handler<D extends CallDecl>(
    decl: D,
    begin: (args: Args, isLeft: boolean) => Beginning<RuleOf<D>>,
  ): CallHandler {
    const { stage, life } = this.#parts
    const tags = stage.tag(decl)
    const rules = rulesOf(decl) as Readonly<Record<string, number>>
    const shown = Object.keys(decl.args).filter((name) => /^u/.test(decl.args[name]?.type ?? ''))
    return {
      decl,
      run: (args): Answer => {
        const startAs = this.startAs
        this.startAs = undefined
        if (life.isDead) return dead(life.why)
        const lanes = shown.slice(0, 4).flatMap((name) => {
          const word = BigInt((args[name] ?? 0) as bigint | number)
          return [loOf(word), hiOf(word)]
        })
        const before = stage.enter(tags, ...lanes)
        const beginning = begin(args, startAs !== undefined)
        const answer = isBegun(beginning)
          ? this.#run(tags, beginning, startAs)
          : this.#over(tags, beginning, rules)
        stage.cause = before
        return answer
      },
    }
  }

  /** The answer of a call by its task: `pending` while it has not ended. */
  answerOf(task: Task): Answer {
    const tags = this.#calls.get(task.name)
    if (tags === undefined) throw new Error(`model bug: the task ${task.name} is of no call`)
    const { life, takePrinted, takeUnknown, stage } = this.#parts
    const warnings = takePrinted?.() ?? []
    if (life.isDead) return dead(life.why)
    const why = takeUnknown?.()
    if (why !== undefined) return unmodelled(why)
    const { decl } = tags
    if (task.end === undefined) return pendingAnswer(decl, task)
    const { rule, outputs } = task.end
    const place = rulesOf(decl)[rule]
    if (place === undefined) throw new Error(`model bug: ${callName(decl)} has no rule ${rule}`)
    stage.leave(tags, stage.cause, place)
    return answerOf(decl, place, { outputs: { ...outputs }, warnings })
  }

  #run(tags: CallTags, { process, works }: Begun, startAs: string | undefined): Answer {
    const { tasks } = this.#parts
    const task = tasks.begin(startAs ?? this.#freeName(callName(tags.decl)), process, works)
    this.#calls.set(task.name, tags)
    if (startAs !== undefined) return pendingAnswer(tags.decl, task)
    tasks.runToEnd(task)
    return this.answerOf(task)
  }

  /** No work was begun: the rule was known at once. */
  #over(tags: CallTags, outcome: Outcome<string>, rules: Readonly<Record<string, number>>): Answer {
    const { life, stage, takePrinted } = this.#parts
    const warnings = takePrinted?.() ?? []
    if (life.isDead) return dead(life.why)
    if (isStop(outcome)) return outcome.stop === 'dead' ? dead(outcome.why) : unmodelled(outcome.why)
    const place = stage.leave(tags, stage.cause, rules[outcome] as number)
    return answerOf(tags.decl, place, { warnings })
  }

  /** A call that waits keeps its name. */
  #freeName(name: string): string {
    const { tasks } = this.#parts
    const isTaken = (tried: string) => tasks.find(tried)?.isOver === false
    let tried = name
    for (let n = 2; isTaken(tried); n++) tried = `${name} ${n}`
    return tried
  }
}

/** The call goes on, or waits. */
function pendingAnswer({ layer, family }: CallDecl, { name }: Task): Answer {
  const own = { layer, family, code: 'PENDING', rule: 'pending' }
  return { ...own, state: 'pending', outputs: { task: name }, free: [], warnings: [], layers: [own] }
}
