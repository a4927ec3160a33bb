import type { Tasks, Work } from '../steps.ts'
import { work } from '../steps.ts'
import type { BuddyAllocator } from './buddy-allocator.ts'
import { adjusted, type Gather } from './gather.ts'
import { addressOfPage, type MmStruct } from './mm-struct.ts'
import { PTE, spanOf } from './page-tables.ts'
import { notifyRange, type Processes } from './processes.ts'
import { TASK_PAGES, USER_END } from './vmas.ts'

/** Steps in which an address space ends, and those in which ranges of it go: unmap_region is the same of both. */
export function defineMmSteps(processes: Processes): void {
  const { tasks } = processes
  defineNotifierSteps(processes, tasks)
  defineUnmapSteps(processes, tasks)

  tasks.define('exit_mmap', {
    doc: 'the last user of an address space has gone: notifiers, pages, page tables, areas, in this order',
    run: (_task, [name]) => {
      const mm = processes.space(name)
      return [
        work('mmu_notifier_release', mm.name),
        work('unmap_vmas', mm.name, 0, TASK_PAGES),
        work('free_pgtables', mm.name, 0, TASK_PAGES, 0, USER_END),
        work('tlb_flush_mmu', mm.name),
        work('tlb_flush_mmu_free', mm.name),
        work('remove_all_vmas', mm.name),
        work('mmdrop', mm.name),
      ]
    },
  })
  tasks.define('mmdrop', {
    doc: 'the structure of an address space has one holder fewer',
    run: (_task, [name]) => {
      processes.space(name).drop()
      return undefined
    },
  })
}

function defineNotifierSteps(processes: Processes, tasks: Tasks): void {
  tasks.define('mmu_notifier_release', {
    doc: 'the address space ends: every notifier is called, and off the list behind it',
    run: (_task, [name]) => {
      const mm = processes.space(name)
      if (mm.notifiers.length === 0) return undefined
      mm.isReleasing = true
      const calls = mm.notifiers.map((n) => work('mmu_notifier_call_release', mm.name, n.name))
      return [...calls, work('mmu_notifier_unhash', mm.name)]
    },
  })
  tasks.define('mmu_notifier_call_release', {
    doc: 'a notifier hears of the end of the address space',
    run: (_task, [name, notifier]) => {
      const mm = processes.space(name)
      const found = mm.notifiers.find((n) => n.name === notifier)
      return found === undefined ? undefined : mm.release(found)
    },
  })
  tasks.define('mmu_notifier_unhash', {
    doc: 'no notifier is on the list any more',
    run: (_task, [name]) => {
      const mm = processes.space(name)
      mm.forgetAll()
      mm.isReleasing = false
      return undefined
    },
  })
  tasks.define('mmu_notifier_unregister', {
    doc: 'a notifier is off the list; who calls it just now has come back; the structure has one holder fewer',
    isReady: (_task, [name]) => !processes.space(name).isReleasing,
    run: (_task, [name, notifier]) => {
      const mm = processes.space(name)
      mm.forget(String(notifier))
      mm.drop()
      return undefined
    },
  })
  tasks.define('invalidate_range', {
    doc: 'entries of a range have changed: each notifier is told, one behind the other',
    run: (_task, [name, first, end]) =>
      processes
        .space(name)
        .notifiers.map((n) =>
          work('mmu_notifier_call_range', String(name), n.name, Number(first), Number(end)),
        ),
  })
  tasks.define('mmu_notifier_call_range', {
    doc: 'a notifier is told that entries of a range have changed',
    run: (_task, [name, notifier, first, end]) => {
      const mm = processes.space(name)
      const found = mm.notifiers.find((n) => n.name === notifier)
      if (found === undefined) return undefined
      return mm.invalidateRange(found, addressOfPage(Number(first)), addressOfPage(Number(end)))
    },
  })
  tasks.define('change_pte', {
    doc: 'an entry is about to lead elsewhere: each notifier is told, one behind the other',
    run: (_task, [name, page]) =>
      processes
        .space(name)
        .notifiers.map((n) => work('mmu_notifier_call_change', String(name), n.name, Number(page))),
  })
  tasks.define('mmu_notifier_call_change', {
    doc: 'a notifier is told that an entry leads elsewhere',
    run: (_task, [name, notifier, page]) => {
      const mm = processes.space(name)
      const found = mm.notifiers.find((n) => n.name === notifier)
      return found === undefined ? undefined : mm.changePte(found, addressOfPage(Number(page)))
    },
  })
}

function defineUnmapSteps(processes: Processes, tasks: Tasks): void {
  const { pages } = processes
  tasks.define('unmap_vmas', {
    doc: 'entries of a range are cleared; notifiers are told; the pages wait in the gather',
    run: (task, [name, first, end]) => {
      const mm = processes.space(name)
      mm.gather(task.name, zap(processes, mm, mm.gathered(task.name), Number(first), Number(end)))
      return notifyRange(mm, Number(first), Number(end))
    },
  })
  tasks.define('free_pgtables', {
    doc: 'page tables that no area needs any more come out of the tables above; they wait in the gather',
    run: (task, [name, first, end, floor, ceiling]) => {
      const mm = processes.space(name)
      const gather = dropTables(processes, mm, mm.gathered(task.name), {
        first: Number(first),
        end: Number(end),
        floor: Number(floor),
        ceiling: Number(ceiling),
      })
      mm.gather(task.name, gather)
      return undefined
    },
  })
  tasks.define('tlb_flush_mmu', {
    doc: 'notifiers are told of everything that was taken out: caches of tables may lead to freed ones',
    run: (task, [name]) => {
      const mm = processes.space(name)
      const { first, end } = mm.gathered(task.name)
      return first < end ? notifyRange(mm, first, end) : undefined
    },
  })
  tasks.define('tlb_flush_mmu_free', {
    doc: 'pages and page tables of the gather are freed',
    run: (task, [name]) => {
      const mm = processes.space(name)
      const gather = mm.gathered(task.name)
      for (const page of gather.pages) pages.put(page)
      for (const { page, level } of gather.tables) freeTable(mm, pages, page, level)
      mm.gather(task.name, gather.areas.length === 0 ? undefined : { ...gather, pages: [], tables: [] })
      return undefined
    },
  })
  tasks.define('remove_vmas', {
    doc: 'areas that were taken out are removed, and let go of their files',
    run: (task, [name]) => {
      const mm = processes.space(name)
      const { areas } = mm.gathered(task.name)
      mm.gather(task.name, undefined)
      return areas.flatMap((a) => fputOf(a.file ?? a.backing, 'munmap'))
    },
  })
  tasks.define('remove_all_vmas', {
    doc: 'all areas of an address space that ends are removed, and let go of their files',
    run: (task, [name]) => {
      const mm = processes.space(name)
      const { areas } = mm
      mm.areas = []
      mm.gather(task.name, undefined)
      for (const a of areas) mm.recordArea(a.first, a.end, a.flags, 0)
      return areas.flatMap((a) => fputOf(a.file ?? a.backing, 'exit_mmap'))
    },
  })
}

const fputOf = (file: string, why: string): readonly Work[] => (file === '' ? [] : [work('fput', file, why)])

function freeTable(mm: MmStruct, pages: BuddyAllocator, page: number, level: number): void {
  mm.recordTable(page, level, 0)
  pages.free(page, 0)
}

/** Clears what is mapped in a range. The zero page is nobody`s to free. */
function zap({ tables }: Processes, mm: MmStruct, before: Gather, first: number, end: number): Gather {
  const freed: number[] = []
  let gather = before
  tables.eachMapped(mm.pgd, first, end, (table, page) => {
    if ((tables.lo & PTE.SPECIAL) === 0) freed.push(tables.target)
    tables.clear(table, page, 1)
    gather = adjusted(gather, page)
  })
  return freed.length === 0 ? gather : { ...gather, pages: [...gather.pages, ...freed] }
}

interface TableRange {
  readonly first: number
  readonly end: number
  /** Where the area before it ends, and the one behind it begins: tables that these need stay. */
  readonly floor: number
  readonly ceiling: number
}

/** free_pgd_range: tables of which no part lies outside floor and ceiling, from the lowest level up. */
function dropTables({ tables }: Processes, mm: MmStruct, before: Gather, range: TableRange): Gather {
  let gather = before
  const drop = (table: number, level: number, page: number): void => {
    tables.load(table, page, level)
    if (!tables.isPresent) return
    const lower = tables.target
    const span = spanOf(level)
    const from = Math.floor(page / span) * span
    if (level > 2) {
      const step = spanOf(level - 1)
      const start = Math.max(from, Math.floor(range.first / step) * step)
      for (let at = start; at < Math.min(from + span, range.end); at += step) drop(lower, level - 1, at)
    }
    if (from < range.floor || from + span > range.ceiling) return
    tables.clear(table, page, level)
    const freed = { page: lower, level: level - 1 }
    gather = adjusted({ ...gather, tables: [...gather.tables, freed] }, from)
  }
  const span = spanOf(4)
  for (let at = Math.floor(range.first / span) * span; at < range.end; at += span) drop(mm.pgd, 4, at)
  return gather
}
