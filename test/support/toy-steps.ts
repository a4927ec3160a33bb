import { answerOf } from '../../src/bits/answer.ts'
import { declareCall } from '../../src/bits/call.ts'
import { Cells, keyOf } from '../../src/bits/state.ts'
import { Life } from '../../src/hw/life.ts'
import { work } from '../../src/kernel/steps.ts'
import { TaskCalls } from '../../src/kernel/task-calls.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine, MachineOptions } from '../../src/machine/machine.ts'
import type { Operation } from '../../src/machine/operation.ts'

/** A call of four steps at most: a counter is read, and written one larger. Without its lock, updates are lost. */
export const BUMP = declareCall({
  name: 'bump',
  verb: 'sys',
  family: 'errno',
  layer: 'kernel',
  doc: 'A counter becomes one larger.',
  source: 'a test',
  args: {
    cell: { type: 'u8', doc: 'Which one.' },
    lock: { type: 'flag', doc: 'Under its lock.', initial: false },
    die: { type: 'flag', doc: 'The kernel stops on the way.', initial: false },
    unknown: { type: 'flag', doc: 'The model does not know how it ends.', initial: false },
  },
  outputs: { was: { type: 'u8', doc: 'What it was before.' } },
  answers: [
    { rule: 'no-cell', code: 'EINVAL', when: 'There is no such counter.' },
    { rule: 'done', code: 'OK', when: 'It is larger.' },
  ],
})

/** A call without steps: all counters are looked at, or one is set. */
export const PEEK = declareCall({
  name: 'peek',
  verb: 'sys',
  family: 'errno',
  layer: 'kernel',
  doc: 'Counters are read.',
  source: 'a test',
  args: { cell: { type: 'u8', doc: 'Which one.' } },
  outputs: { value: { type: 'u8', doc: 'What it is.' } },
  answers: [{ rule: 'done', code: 'OK', when: 'Always.' }],
})

const CELLS = 8

/** A machine with the two calls, and nothing else to do. Answers its counters too. */
export function toyMachine(options: MachineOptions = {}): { machine: Machine; cells: Cells } {
  const description = describeMachine({ kind: 'x86', ramBytes: 16n << 20n, iommu: { driver: 'none' } })
  const machine = createMachine(description, { journal: true, ...options })
  const { stage, journal, tasks } = machine
  const cells = new Cells(journal, keyOf('toy'), CELLS)
  const life = new Life(stage, journal, 'toy')
  tasks.isStopped = () => life.isDead
  tasks.define('toy-read', {
    doc: 'a counter is read',
    run: (task, [cell]) => {
      task.value = cells.get(Number(cell))
      return undefined
    },
  })
  tasks.define('toy-write', {
    doc: 'a counter is written',
    run: (task, [cell]) => {
      const was = Number(task.value)
      cells.set(Number(cell), was + 1)
      task.print(`counter ${cell} was ${was}`)
      task.finish('done', { was: BigInt(was) })
      return undefined
    },
  })
  tasks.define('toy-end', {
    doc: 'the call ends otherwise',
    run: (task, [how]) => {
      if (how === 'die') life.die('a toy that broke')
      else task.finishUnknown('a toy of an unknown kind')
      return undefined
    },
  })
  const calls = new TaskCalls({ stage, tasks, life })
  machine.register([
    calls.handler(BUMP, ({ cell, lock, die, unknown }) => {
      const n = Number(cell)
      if (n >= CELLS) return 'no-cell'
      if (die === true || unknown === true) {
        return {
          process: '',
          works: [work('toy-read', n), work('toy-end', die === true ? 'die' : 'unknown')],
        }
      }
      const bump = [work('toy-read', n), work('toy-write', n)]
      const held = [work('lock', `cell${n}`), ...bump, work('unlock', `cell${n}`)]
      return { process: '', works: lock === true ? held : bump }
    }),
    {
      decl: PEEK,
      run: ({ cell }) => answerOf(PEEK, 0, { outputs: { value: BigInt(cells.get(Number(cell))) } }),
    },
  ])
  return { machine, cells }
}

export const bump = (cell: number, more: Operation['args'] = {}): Operation => ({
  verb: 'sys',
  call: 'bump',
  args: { cell: BigInt(cell), ...more },
})
export const peek = (cell: number): Operation => ({ verb: 'sys', call: 'peek', args: { cell: BigInt(cell) } })
