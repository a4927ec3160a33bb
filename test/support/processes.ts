import type { Answer, CallHandler, Value } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { Journal } from '../../src/bits/state.ts'
import { Life } from '../../src/hw/life.ts'
import { cpuHandlers } from '../../src/kernel/process/cpu-handlers.ts'
import { makeProcesses } from '../../src/kernel/process/process-system.ts'
import { sysHandlers } from '../../src/kernel/process/sys-handlers.ts'
import type { BindPort, MmuNotifier } from '../../src/kernel/process-port.ts'
import { type Task, Tasks, type Work, work } from '../../src/kernel/steps.ts'
import { TaskCalls } from '../../src/kernel/task-calls.ts'
import { completeArguments } from '../../src/machine/arguments.ts'
import { Host } from '../../src/memory/host.ts'
import { PhysicalMemory } from '../../src/memory/physical-memory.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { eventsOfLog } from './events.ts'

const FIRST = 256

/** A kernel with the process P, and its calls as a machine makes them. */
export function makeProcessCalls({ pages = 4096, isNew = false, journal = false } = {}) {
  const log = new RecordLog({})
  const stage = new Stage(log)
  const undo = new Journal()
  undo.on = journal
  const ramPages = FIRST + pages
  const host = new Host({
    stage,
    journal: undo,
    pageShift: 12,
    ramBytes: ramPages * 4096,
    maxBytes: 2 ** 30,
  })
  const memory = new PhysicalMemory(host.memory)
  const tasks = new Tasks(stage, undo)
  const life = new Life(stage, undo, 'kernel')
  const parts = {
    stage,
    journal: undo,
    tasks,
    memory,
    first: FIRST,
    pages,
    ramPages,
    devices: ['ep0', 'ep1'],
  }
  const system = makeProcesses({ ...parts, isNew, hasNx: isNew })
  const { processes } = system
  const calls = new TaskCalls({ tasks, stage, life })
  processes.spawn('P')
  processes.actor = 'P'
  const handlers = new Map<CallDecl, CallHandler>(
    [...sysHandlers({ ...system, calls }), ...cpuHandlers(processes, calls)].map((h) => [h.decl, h]),
  )
  const call = (decl: CallDecl, args: Record<string, Value> = {}): Answer =>
    (handlers.get(decl) as CallHandler).run(completeArguments(decl, args))
  /** Runs work for a process to its end; what it returned. */
  const run = (works: readonly Work[], process = 'P') => {
    const task = tasks.begin('test', process, works)
    if (!tasks.runToEnd(task)) throw new Error('the task waits')
    return task.value
  }
  /** The processor accesses a user address, and the kernel lets it. */
  const touch = (address: bigint, isWrite: boolean, process = 'P') =>
    run(processes.mmOf(process)?.handleFault(address, isWrite) ?? [], process)
  /** Takes pages away until so many are free. */
  const leave = (free: number) => {
    while (processes.pages.freePages > free) processes.pages.allocate(0, 'somebody')
  }
  const events = (...kinds: readonly string[]) =>
    kinds.flatMap((kind) => eventsOfLog(log, kind).filter((e) => e.kind === kind))
  return { ...system, tasks, log, undo, memory, calls, call, run, touch, leave, events }
}

/** A notifier that notes what it is told, each call with one step of its own. */
export function noteNotifier(name: string, tasks: Tasks, told: string[]): MmuNotifier {
  tasks.define(`note of ${name}`, {
    doc: 'notes',
    run: (_task, [what]) => {
      told.push(`${name} ${what}`)
      return undefined
    },
  })
  const note = (what: string): readonly Work[] => [work(`note of ${name}`, what)]
  const hex = (n: bigint) => n.toString(16)
  return {
    name,
    changePte: (address) => note(`change_pte ${hex(address)}`),
    invalidateRange: (start, end) => note(`invalidate_range ${hex(start)} ${hex(end)}`),
    release: () => note('release'),
  }
}

/** Who binds: it notes what it is asked, and answers as told, else PASIDs from 1 on. */
export function noteBinder(tasks: Tasks, told: string[]): BindPort & { answer: number | undefined } {
  let next = 1
  const binder = {
    answer: undefined as number | undefined,
    bind: (task: Task, device: string, flags: number) => [work('note bind', task.process, device, flags)],
    unbind: (task: Task, device: string, pasid: number) => [work('note unbind', task.process, device, pasid)],
  }
  tasks.define('note bind', {
    doc: 'notes',
    run: (task, args) => {
      task.value = binder.answer ?? next++
      told.push(`bind ${args.join(' ')}: ${task.value}`)
      return undefined
    },
  })
  tasks.define('note unbind', {
    doc: 'notes',
    run: (task, args) => {
      task.value = binder.answer ?? 0
      told.push(`unbind ${args.join(' ')}: ${task.value}`)
      return undefined
    },
  })
  return binder
}
