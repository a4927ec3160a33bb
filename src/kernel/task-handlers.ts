import { type Answer, answerOf, type CallHandler, type Value } from '../bits/answer.ts'
import { type CallDecl, type RuleOf, rulesOf } from '../bits/call.ts'
import type { Stage } from '../trace/stage.ts'
import { TASK_FINISH, TASK_RUN, TASK_STEP } from './step-calls.ts'
import type { Task, Tasks } from './steps.ts'

/** Steps that one operation may do: more is a bug of the model. */
const STEPS_MOST = 1_000_000

/** How far a task is taken: what ends it, after how many steps, and which was the last one. */
type Progress<R extends string> = readonly [rule: R, steps: number, last?: string | undefined]

/** The tasks that steps have started, taken on by operations. */
export function taskHandlers(tasks: Tasks, stage: Stage): CallHandler[] {
  const handler = <D extends CallDecl>(
    decl: D,
    take: (task: Task, args: Readonly<Record<string, Value>>) => Progress<RuleOf<D>>,
  ): CallHandler => {
    const tags = stage.tag(decl)
    const rules = rulesOf(decl) as Readonly<Record<string, number>>
    return {
      decl,
      run(args): Answer {
        const before = stage.enter(tags)
        const task = tasks.find(args['task'] as string)
        const isKnown = task !== undefined && !task.isOver
        const [rule, steps, last] = isKnown
          ? take(task, args)
          : [task === undefined ? 'no-such-task' : 'is-over', 0]
        const place = stage.leave(tags, before, rules[rule] as number, steps)
        return answerOf(decl, place, { outputs: outputsOf(task, steps, last) })
      },
    }
  }
  const advance = (task: Task, isEnough: (steps: number) => boolean): Progress<'waits' | 'done'> => {
    let steps = 0
    let last: string | undefined
    for (; !task.isOver && !isEnough(steps); steps++) {
      if (!tasks.isReady(task)) return ['waits', steps, last]
      if (steps === STEPS_MOST) throw new Error(`model bug: the task ${task.name} does not end`)
      last = nextOf(task)
      tasks.step(task)
    }
    return ['done', steps, last]
  }
  return [
    handler(TASK_STEP, (task) => advance(task, (steps) => steps === 1)),
    handler(TASK_RUN, (task, { until }) => {
      const [rule, ...rest] = advance(task, (n) => n > 0 && nextOf(task) === until)
      return [rule === 'done' && task.isOver ? 'not-met' : rule, ...rest]
    }),
    handler(TASK_FINISH, (task) => advance(task, () => false)),
  ]
}

/** A step as one word. */
const nextOf = (task: Task): string | undefined => task.works[0]?.step.replaceAll(' ', '_')

function outputsOf(task: Task | undefined, steps: number, last?: string): Record<string, Value> {
  if (task === undefined) return {}
  const next = nextOf(task)
  return {
    steps,
    ...(last !== undefined && { step: last }),
    over: task.isOver,
    ...(next !== undefined && { next }),
    ...(task.answer !== undefined && { answer: task.answer.code }),
  }
}
