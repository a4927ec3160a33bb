import { wordOf } from '../../bits/u64.ts'
import { work } from '../steps.ts'
import { pageOfAddress } from './mm-struct.ts'
import type { OpenFiles } from './open-files.ts'
import type { Processes } from './processes.ts'
import { TASK_PAGES, USER_END } from './vmas.ts'

const OFFSETS = 0xfffn

/** Steps that look at what the kernel holds, and change nothing. */
export function defineInspectSteps(processes: Processes, files: OpenFiles): void {
  const { tasks, tables, pages } = processes

  tasks.define('sys_state', {
    doc: 'what the kernel holds of an address space',
    run: (_task, [name]) => {
      const mm = processes.mm(String(name))
      if (mm === undefined) return [work('return', 'no-such-process')]
      let present = 0
      tables.eachMapped(mm.pgd, 0, TASK_PAGES, () => {
        present++
      })
      const { users, count, areas, notifiers } = mm
      const counts = ['users', users, 'count', count, 'areas', areas.length, 'pages', present] as const
      const rest = ['notifiers', notifiers.length, 'free', pages.freePages] as const
      return [work('return', 'done', 'mm', mm.name, ...counts, ...rest)]
    },
  })
  tasks.define('sys_file', {
    doc: 'what the kernel holds of an open file',
    run: (_task, [name]) => {
      const file = String(name)
      if (!files.has(file)) return [work('return', 'no-such-file')]
      const { refs, binds } = files.stateOf(file)
      return [work('return', 'done', 'refs', refs, 'binds', binds.length)]
    },
  })
  tasks.define('sys_pagemap', {
    doc: 'which page a user address leads to',
    run: (_task, [name, from]) => {
      const address = BigInt(from as bigint)
      const page = pageOfAddress(address)
      const table = page < USER_END ? tables.find(processes.space(name).pgd, page, 1) : -1
      if (table < 0) return [work('return', 'not-present')]
      tables.load(table, page, 1)
      if (!tables.isPresent) return [work('return', 'not-present')]
      const target = (BigInt(tables.target) << 12n) + (address & OFFSETS)
      return [work('return', 'done', 'target', target, 'entry', wordOf(tables.hi, tables.lo))]
    },
  })
}
