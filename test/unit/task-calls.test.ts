import { describe, expect, it } from 'vitest'
import { declareCall } from '../../src/bits/call.ts'
import { Journal } from '../../src/bits/state.ts'
import { Life } from '../../src/hw/life.ts'
import { unknown } from '../../src/kernel/outcome.ts'
import { Tasks, work } from '../../src/kernel/steps.ts'
import { TaskCalls } from '../../src/kernel/task-calls.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'

const CALL = declareCall({
  name: 'count',
  verb: 'sys',
  family: 'errno',
  layer: 'kernel',
  args: { to: { type: 'u32', doc: 'How far.' } },
  outputs: { reached: { type: 'u32', doc: 'How far it came.' } },
  answers: [
    { rule: 'too-far', code: 'EINVAL', when: 'More than 9.' },
    { rule: 'done', code: 'OK', when: 'Always else.' },
  ],
  source: 'a test',
  doc: 'Counts.',
})

function world() {
  const journal = new Journal()
  const log = new RecordLog({ keepRecords: 64 })
  const stage = new Stage(log)
  const life = new Life(stage, journal, 'kernel')
  const tasks = new Tasks(stage, journal)
  tasks.isStopped = () => life.isDead
  let unknownThing: string | undefined
  const printed: string[] = []
  const calls = new TaskCalls({
    ...{ tasks, stage, life },
    takePrinted: () => printed.splice(0),
    takeUnknown: () => unknownThing,
  })
  tasks.define('count', {
    doc: 'counts on',
    run: (task, [at, to]) => {
      printed.push(`${at}`)
      if (at === 7) life.die('seven')
      if (at === 5 && to !== 7) unknownThing = 'what five is'
      if (at === to) task.finish('done', { reached: Number(at) })
      else return [work('count', Number(at) + 1, Number(to))]
      return undefined
    },
  })
  const handler = calls.handler(CALL, ({ to }, isLeft) => {
    if (Number(to) > 9) return 'too-far'
    if (to === 0n) return unknown('nothing')
    return {
      process: isLeft ? 'left' : '',
      works: [work('lock', 'big'), work('count', 1, Number(to)), work('unlock', 'big')],
    }
  })
  const run = (to: number) => handler.run({ to: BigInt(to) })
  const start = (to: number, name: string) => handler.start?.({ to: BigInt(to) }, name)
  return { tasks, run, start, log, stage, life }
}

describe('calls in steps', () => {
  it('run to their end, and answer with the rule that the last step names, and what was printed', () => {
    const { run, tasks, stage } = world()
    expect(run(3)).toMatchObject({ state: 'done', code: 'OK', rule: 'done', outputs: { reached: 3 } })
    expect(run(3).warnings).toEqual(['1', '2', '3'])
    expect(tasks.all()).toEqual([])
    expect(stage.cause).toBe(-1)
  })

  it('answer at once what needs no work', () => {
    expect(world().run(10)).toMatchObject({ code: 'EINVAL', rule: 'too-far' })
    expect(world().run(0)).toMatchObject({ state: 'unmodelled', rule: 'nothing' })
  })

  it('are pending where they are left to somebody, and say later how they ended', () => {
    const { start, run, tasks, log } = world()
    expect(start(2, 'a')).toBeUndefined()
    const task = tasks.find('a')
    if (task === undefined) throw new Error('no task')
    expect(task.process).toBe('left')
    expect(task.works).toHaveLength(3)
    tasks.step(task)
    expect(task.answer).toBeUndefined()
    // Another one waits for its lock, and keeps its name.
    expect(run(1)).toMatchObject({ state: 'pending', outputs: { task: 'sys:count' } })
    expect(run(1).outputs).toEqual({ task: 'sys:count-2' })
    const before = log.length
    tasks.runToEnd(task)
    expect(task.answer).toMatchObject({ rule: 'done', outputs: { reached: 2 } })
    expect(log.length).toBeGreaterThan(before)
  })

  it('answer nothing once the kernel has ended, nor what a unit does not know', () => {
    expect(world().run(6)).toMatchObject({ state: 'unmodelled', rule: 'what five is' })
    expect(world().run(7)).toMatchObject({ state: 'dead', rule: 'seven' })
    const other = world()
    other.life.die('other')
    expect(other.run(1)).toMatchObject({ state: 'dead', rule: 'other' })
  })
})
