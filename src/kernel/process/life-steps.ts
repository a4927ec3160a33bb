import { type Task, type Work, work } from '../steps.ts'
import { type MmStruct, mmapSem } from './mm-struct.ts'
import type { OpenFiles } from './open-files.ts'
import { PTE } from './page-tables.ts'
import { notifyRange, type Process, type Processes } from './processes.ts'
import { type Area, findArea } from './vmas.ts'

/** Pairs of names and values become the outputs of a call. */
const outputsOf = (pairs: readonly (string | number | bigint)[]): Record<string, string | bigint> => {
  const outputs: Record<string, string | bigint> = {}
  for (let i = 0; i + 1 < pairs.length; i += 2) {
    const value = pairs[i + 1] as string | number | bigint
    outputs[String(pairs[i])] = typeof value === 'number' ? BigInt(value) : value
  }
  return outputs
}

/** fork, execve and exit_group, and how a call comes back to its process. */
export function defineLifeSteps(processes: Processes, files: OpenFiles): void {
  const { tasks } = processes
  const processOf = (name: unknown): Process => {
    const process = processes.get(String(name))
    if (process === undefined) throw new Error(`model bug: no process is called ${name}`)
    return process
  }

  tasks.define('return', {
    doc: 'the call is over, but for what is done before the process goes on',
    run: (task, [rule, ...pairs]) => {
      task.finish(String(rule), outputsOf(pairs))
      return undefined
    },
  })

  /** Threads of a process that ends, or runs another program, end first: whatever calls they are in. */
  const isAlone = (task: Task): boolean =>
    tasks.all().every((other) => other === task || other.process !== task.process || other.isOver)

  defineForkSteps(processes, files, processOf)

  tasks.define('execve', {
    doc: 'execve: a new address space is made',
    run: (task) => {
      const mm = processes.makeMm(task.process)
      if (mm === undefined) return [work('return', 'no-memory')]
      return [work('exec_mmap', mm.name), work('do_close_on_exec'), work('return', 'done')]
    },
  })
  tasks.define('exec_mmap', {
    doc: 'execve: the process has its new address space, and has given back the old one',
    isReady: isAlone,
    run: (task, [name]) => {
      const process = processOf(task.process)
      const old = processes.mmOf(process.name)
      process.mm = String(name)
      return old?.put('exit')
    },
  })

  tasks.define('exit_mm', {
    doc: 'exit_group: the process gives its address space back; the structure stays until it has ended',
    isReady: isAlone,
    run: (task) => {
      const process = processOf(task.process)
      const mm = processes.mmOf(process.name)
      if (mm === undefined) return undefined
      mm.grab()
      process.mm = ''
      // The last one to let go does it behind files and task work: the scheduler, once another task runs.
      task.works = [...task.works, work('mmdrop', mm.name)]
      return mm.put('exit')
    },
  })
  tasks.define('exit_notify', {
    doc: 'exit_group: the process has ended',
    run: (task) => {
      processOf(task.process).isOver = true
      task.finish('done')
      return undefined
    },
  })
}

/** exit_group, in the order of do_exit. */
export const exitWorks = (process: string): readonly Work[] => [
  work('exit_mm'),
  work('exit_files', process),
  work('task_work_run'),
  work('exit_notify'),
]

function defineForkSteps(
  processes: Processes,
  files: OpenFiles,
  processOf: (name: unknown) => Process,
): void {
  const { tasks, tables, pages } = processes

  tasks.define('copy_files', {
    doc: 'fork: the child has the same files',
    run: (task, [child]) => {
      if (processes.get(String(child)) !== undefined) return [work('return', 'name-taken')]
      processes.add(String(child))
      files.inherit(task.process, String(child))
      return [work('copy_mm', String(child))]
    },
  })
  tasks.define('copy_mm', {
    doc: 'fork: the child gets an address space',
    run: (task, [child]) => {
      const parent = processes.mmOf(task.process)
      const process = processOf(child)
      const mm = processes.makeMm(process.name)
      if (mm === undefined || parent === undefined) return failed(process, undefined)
      return [work('lock', mmapSem(parent.name)), work('dup_mmap', parent.name, mm.name, 0, process.name)]
    },
  })
  tasks.define('dup_mmap', {
    doc: 'fork: one area is copied; its pages are for both to read from now on, the child has not accessed them, and notifiers of the parent are told',
    run: (_task, [parentName, childName, from, child]) => {
      const [parent, mm] = [processes.space(parentName), processes.space(childName)]
      const area = findArea(parent.areas, Number(from))
      if (area === undefined) {
        return [
          work('unlock', mmapSem(parent.name)),
          work('wake_up_new_task', String(child), mm.name),
          work('return', 'done'),
        ]
      }
      mm.addArea([...mm.areas, area], area)
      const file = area.file ?? area.backing
      if (file !== '') files.get(file, 'fork')
      if (!area.hasAnon) return [work('dup_mmap', parent.name, mm.name, area.end, String(child))]
      if (!copyRange(parent, mm, area)) {
        return [
          ...notifyRange(parent, area.first, area.end),
          work('unlock', mmapSem(parent.name)),
          ...failed(processOf(child), mm),
        ]
      }
      return [
        ...notifyRange(parent, area.first, area.end),
        work('dup_mmap', parent.name, mm.name, area.end, String(child)),
      ]
    },
  })
  tasks.define('wake_up_new_task', {
    doc: 'fork: the child can act',
    run: (_task, [child, mm]) => {
      processOf(child).mm = String(mm)
      return undefined
    },
  })
  tasks.define('release_task', {
    doc: 'fork: nothing comes of the child',
    run: (_task, [child]) => {
      processOf(child).isOver = true
      return undefined
    },
  })

  /** bad_fork_cleanup: what the child has goes again. */
  const failed = (child: Process, mm: MmStruct | undefined): readonly Work[] => [
    ...(mm?.put() ?? []),
    work('exit_files', child.name),
    work('release_task', child.name),
    work('return', 'no-memory'),
  ]

  /**
   * copy_page_range of private memory: both may only read, and the child's entries are young no more. False where no
   * page was left for a table. (Linux v4.9 mm/memory.c copy_one_pte, v6.1 copy_present_pte)
   */
  const copyRange = (parent: MmStruct, child: MmStruct, area: Area): boolean => {
    let hasRoom = true
    const make = (level: number) => {
      const page = pages.allocate(0, child.tableOwner)
      if (page >= 0) child.recordTable(page, level, 1)
      return page
    }
    tables.eachMapped(parent.pgd, area.first, area.end, (table, page) => {
      if (!hasRoom) return
      const { hi, lo, target } = tables
      const into = tables.ensure(child.pgd, page, make)
      if (into < 0) {
        hasRoom = false
        return
      }
      const shared = lo & ~PTE.RW
      if ((lo & PTE.RW) !== 0) tables.store(table, page, 1, hi, shared)
      tables.store(into, page, 1, hi, shared & ~PTE.ACCESSED)
      if ((lo & PTE.SPECIAL) === 0) pages.get(target)
    })
    return hasRoom
  }
}
