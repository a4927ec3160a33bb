import { describe, expect, it } from 'vitest'
import type { Answer, Value } from '../../src/bits/answer.ts'
import { TASK_FINISH, TASK_RUN, TASK_STEP } from '../../src/kernel/step-calls.ts'
import { eventsOfLog } from '../support/events.ts'
import { testRules } from '../support/rule-table.ts'
import { bump, peek, toyMachine } from '../support/toy-steps.ts'

function begun() {
  const { machine, cells } = toyMachine()
  const task = (call: string, name: string, more: Record<string, Value> = {}): Answer =>
    machine.perform({ verb: 'task', call, args: { task: name, ...more } })
  const start = (name: string, more: Record<string, Value> = {}) =>
    machine.perform({ ...bump(0, more), start: name })
  return { machine, cells, task, start }
}

/** A task that is over, and one that waits for a third one's lock. */
function several() {
  const made = begun()
  const { start, task } = made
  start('over')
  task('finish', 'over')
  start('holder', { lock: true })
  task('step', 'holder')
  start('waiter', { lock: true })
  start('fresh')
  return made
}

describe('task step', () => {
  testRules(TASK_STEP, {
    'no-such-task': () => [several().task('step', 'nobody')],
    'is-over': () => [several().task('step', 'over')],
    waits: () => [several().task('step', 'waiter')],
    done: () => [several().task('step', 'fresh')],
  })
})

describe('task run', () => {
  const run = (name: string, until: string) => several().task('run', name, { until })
  testRules(TASK_RUN, {
    'no-such-task': () => [run('nobody', 'unlock')],
    'is-over': () => [run('over', 'unlock')],
    waits: () => [run('waiter', 'unlock')],
    'not-met': () => [run('fresh', 'unlock')],
    done: () => [run('fresh', 'toy-write'), run('holder', 'unlock')],
  })

  it('stops before the step, and does it when it is the next one already', () => {
    const { task, start, cells } = begun()
    start('T')
    expect(task('run', 'T', { until: 'toy-write' }).outputs).toMatchObject({
      steps: 1,
      step: 'toy-read',
      next: 'toy-write',
      over: false,
    })
    expect(cells.get(0)).toBe(0)
    expect(task('run', 'T', { until: 'toy-write' })).toMatchObject({ rule: 'not-met', outputs: { steps: 1 } })
    expect(cells.get(0)).toBe(1)
  })
})

describe('task finish', () => {
  testRules(TASK_FINISH, {
    'no-such-task': () => [several().task('finish', 'nobody')],
    'is-over': () => [several().task('finish', 'over')],
    waits: () => [several().task('finish', 'waiter')],
    done: () => [several().task('finish', 'fresh'), several().task('finish', 'holder')],
  })

  it('a task that waits goes on when the lock is given back', () => {
    const { task } = several()
    expect(task('finish', 'waiter').rule).toBe('waits')
    expect(task('finish', 'holder').rule).toBe('done')
    expect(task('finish', 'waiter')).toMatchObject({ rule: 'done', outputs: { steps: 4, answer: 'OK' } })
  })
})

describe('start: a call that is only begun', () => {
  it('is pending, and answered when its task has done the last step', () => {
    const { machine, task, start, cells } = begun()
    expect(start('T')).toMatchObject({ state: 'pending', code: 'PENDING', rule: 'started as T' })
    expect(task('step', 'T').outputs).toEqual({ steps: 1, step: 'toy-read', over: false, next: 'toy-write' })
    expect(machine.tasks.find('T')?.answer).toBeUndefined()
    expect(task('step', 'T').outputs).toEqual({ steps: 1, step: 'toy-write', over: true, answer: 'OK' })
    expect(machine.tasks.find('T')?.answer).toMatchObject({
      code: 'OK',
      rule: 'done',
      outputs: { was: 0n },
      warnings: ['counter 0 was 0'],
    })
    expect(cells.get(0)).toBe(1)
  })

  it('a refusal that needs no step is answered at once', () => {
    const { machine } = toyMachine()
    expect(machine.perform({ ...bump(99), start: 'T' })).toMatchObject({ state: 'done', rule: 'no-cell' })
    expect(machine.tasks.find('T')).toBeUndefined()
  })

  it('a call without steps is one step', () => {
    const { machine, task } = begun()
    expect(machine.perform({ ...peek(3), start: 'P' }).state).toBe('pending')
    expect(task('finish', 'P').outputs).toMatchObject({ steps: 1, step: 'call', answer: 'OK' })
    expect(machine.tasks.find('P')?.answer?.outputs).toEqual({ value: 0n })
  })

  it('two updates without a lock lose one of them, and with it none', () => {
    for (const [lock, end] of [
      [false, 1],
      [true, 2],
    ] as const) {
      const { task, start, cells } = begun()
      start('A', { lock })
      start('B', { lock })
      task('run', 'A', { until: 'toy-write' })
      task('finish', 'B')
      task('finish', 'A')
      task('finish', 'B')
      expect(cells.get(0)).toBe(end)
    }
  })

  it('the name of a task that is not over is taken; after it, it is free', () => {
    const { task, start } = begun()
    start('T')
    expect(() => start('T')).toThrow('a task is called T, and is not over')
    task('finish', 'T')
    expect(start('T').state).toBe('pending')
  })

  it('a call that is done at once and has to wait is pending, as a task of its own', () => {
    const { machine, task, start } = begun()
    start('A', { lock: true })
    task('step', 'A')
    const answer = machine.perform(bump(0, { lock: true }))
    expect(answer).toMatchObject({
      state: 'pending',
      rule: 'waits for cell0, which A has',
      outputs: { task: 'sys:bump' },
    })
    expect(machine.perform(bump(0, { lock: true })).outputs).toEqual({ task: 'sys:bump-2' })
    task('finish', 'A')
    expect(task('finish', 'sys:bump').outputs).toMatchObject({ answer: 'OK' })
  })

  it('a kernel that stops on the way answers nobody', () => {
    const { machine, task, start } = begun()
    start('other')
    start('T', { die: true })
    task('finish', 'T')
    expect(machine.tasks.find('T')?.answer).toMatchObject({ state: 'dead', rule: 'a toy that broke' })
    expect(task('finish', 'other').rule).toBe('waits')
    expect(machine.perform(bump(0))).toMatchObject({ state: 'dead' })
  })

  it('what the model does not know is said, and recorded once', () => {
    const { machine, task, start } = begun()
    start('T', { unknown: true })
    task('finish', 'T')
    expect(machine.tasks.find('T')?.answer).toMatchObject({
      state: 'unmodelled',
      rule: 'a toy of an unknown kind',
    })
    expect(machine.perform(bump(0, { unknown: true })).state).toBe('unmodelled')
    expect(eventsOfLog(machine.log, 'unmodelled')).toHaveLength(2)
  })

  it('its records come from the call that began it, whoever takes it on', () => {
    const { machine } = toyMachine()
    machine.perform({ ...bump(0), start: 'T', by: { process: 'P', cpu: 2 }, line: 7 })
    machine.perform({ verb: 'task', call: 'finish', args: { task: 'T' }, by: { process: 'Q' }, line: 9 })
    const records = [...machine.log.records()]
    const enter = records.find((r) => r.event.kind === 'call.enter' && r.event.by === 'P:2')
    const steps = records.filter((r) => r.event.kind === 'task.step')
    const left = records.find((r) => r.event.kind === 'call.return' && r.event.call === 'sys bump')
    expect(enter).toBeDefined()
    expect(steps.map((r) => r.cause)).toEqual([enter?.seq, enter?.seq])
    expect(steps.map((r) => (r.event.kind === 'task.step' ? r.event.line : 0))).toEqual([9, 9])
    expect(left?.cause).toBe(enter?.seq)
  })

  it('an undo log takes back every step, and the names of tasks', () => {
    const { machine, cells } = toyMachine()
    const marks: [number, number, string][] = []
    const take = (operation: Parameters<typeof machine.perform>[0]) => {
      marks.push([machine.journal.mark(), machine.log.length, machine.journal.hash])
      machine.perform(operation)
    }
    const script = () => {
      take({ ...bump(0, { lock: true }), start: 'T' })
      for (let i = 0; i < 4; i++) take({ verb: 'task', call: 'step', args: { task: 'T' } })
      take({ ...bump(1), start: 'T' })
      take({ verb: 'task', call: 'finish', args: { task: 'T' } })
      take(bump(0))
    }
    script()
    const end = [machine.journal.hash, cells.get(0), cells.get(1)]
    for (const [mark, length, hash] of marks.splice(0).reverse()) {
      machine.journal.rollback(mark)
      machine.log.truncate(length)
      expect(machine.journal.hash).toBe(hash)
    }
    expect(machine.tasks.find('T')).toBeUndefined()
    script()
    expect([machine.journal.hash, cells.get(0), cells.get(1)]).toEqual(end)
  })
})
