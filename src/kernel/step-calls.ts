import { declareCall } from '../bits/call.ts'

const SOURCE = 'the model itself'
const NAME = { type: 'name', doc: 'The task: what `start` of a step has called it, or the lane.' } as const
const OUTPUTS = {
  steps: { type: 'count', doc: 'Steps that it did.' },
  step: { type: 'name', doc: 'The one that it did last; none where it did none.' },
  over: { type: 'flag', doc: 'It has nothing to do any more.' },
  next: { type: 'name', doc: 'The step that is next, blanks as `_`; none where it is over.' },
  answer: { type: 'name', doc: 'How its call has ended; none where it has not.' },
} as const

const UNKNOWN = { rule: 'no-such-task', code: 'ESRCH', when: 'No task has this name.' } as const
const OVER = { rule: 'is-over', code: 'EINVAL', when: 'It has nothing to do any more.' } as const
const WAITS = {
  rule: 'waits',
  code: 'EAGAIN',
  when: 'Its next step cannot be done: it waits for a lock, or an event. What it did before that is done.',
} as const

/** One step of a task that was started. */
export const TASK_STEP = declareCall({
  name: 'step',
  verb: 'task',
  family: 'errno',
  layer: 'model',
  doc: 'A task does the next step of its work.',
  source: SOURCE,
  args: { task: NAME },
  outputs: OUTPUTS,
  answers: [UNKNOWN, OVER, WAITS, { rule: 'done', code: 'OK', when: 'It has done one step.' }],
})

/** Steps of a task up to one. */
export const TASK_RUN = declareCall({
  name: 'run',
  verb: 'task',
  family: 'errno',
  layer: 'model',
  doc: 'A task does its work up to a step, which is then the next one.',
  source: SOURCE,
  args: {
    task: NAME,
    until: {
      type: 'name',
      doc: 'The step that it stops before, blanks as `_`; it does not count where it is the next one already.',
    },
  },
  outputs: OUTPUTS,
  answers: [
    UNKNOWN,
    OVER,
    WAITS,
    { rule: 'not-met', code: 'ENOENT', when: 'It is over, and the step did not come.' },
    { rule: 'done', code: 'OK', when: 'The step is the next one.' },
  ],
})

/** All the rest of a task. */
export const TASK_FINISH = declareCall({
  name: 'finish',
  verb: 'task',
  family: 'errno',
  layer: 'model',
  doc: 'A task does all the work that it has.',
  source: SOURCE,
  args: { task: NAME },
  outputs: OUTPUTS,
  answers: [UNKNOWN, OVER, WAITS, { rule: 'done', code: 'OK', when: 'It is over.' }],
})

export const TASK_CALLS = [TASK_STEP, TASK_RUN, TASK_FINISH] as const
