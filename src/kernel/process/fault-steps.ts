import { PAGE_4K_BYTES } from '../../memory/host-memory.ts'
import { VM } from '../process-port.ts'
import { type Task, type Work, work } from '../steps.ts'
import type { MmStruct } from './mm-struct.ts'
import { PTE, PTE_NX_HI } from './page-tables.ts'
import { notifyRange, type Processes } from './processes.ts'
import type { SharedPages } from './shared-pages.ts'
import { type Area, areaAt } from './vmas.ts'

/** vm_page_prot: the bits of an entry that the rights of an area give; private memory is never writable by them alone. */
export function protectionOf({ flags, isShared }: Area, hasNx: boolean): { hi: number; lo: number } {
  if (flags === 0) return { hi: 0, lo: PTE.PROTNONE | PTE.ACCESSED }
  const write = isShared && (flags & VM.WRITE) !== 0 ? PTE.RW : 0
  const hi = hasNx && (flags & VM.EXEC) === 0 ? PTE_NX_HI : 0
  return { hi, lo: PTE.PRESENT | PTE.USER | PTE.ACCESSED | write }
}

/** The steps of handle_mm_fault. `task.value` is `done` or `error` behind them. */
export function defineFaultSteps(processes: Processes, shared: SharedPages): void {
  const { tasks, pages, tables, era } = processes

  const fail = (task: Task, mm: MmStruct, at: { page: number; write: number }, why: string): undefined => {
    mm.recordFault(at.page, at.write, why)
    task.value = 'error'
    return undefined
  }
  const succeed = (task: Task, mm: MmStruct, at: { page: number; write: number }, how: string): undefined => {
    mm.recordFault(at.page, at.write, how)
    task.value = 'done'
    return undefined
  }
  const makeTable = (mm: MmStruct) => (level: number) => {
    const page = pages.allocate(0, mm.tableOwner)
    if (page >= 0) mm.recordTable(page, level, 1)
    return page
  }
  /** anon_vma_prepare: private pages are in it from now on. */
  const prepareAnon = (mm: MmStruct, area: Area): void => {
    if (!area.hasAnon) mm.areas = mm.areas.map((a) => (a === area ? { ...a, hasAnon: true } : a))
  }

  tasks.define('handle_mm_fault', {
    doc: 'a page is made to be there, and to be writable where it is to be written',
    run: (task, [name, number, isWrite]) => {
      const mm = processes.space(name)
      const at = { page: Number(number), write: Number(isWrite) }
      const area = areaAt(mm.areas, at.page)
      if (area === undefined || area.file !== undefined) return fail(task, mm, at, 'bus-error')
      const table = tables.ensure(mm.pgd, at.page, makeTable(mm))
      if (table < 0) return fail(task, mm, at, 'no-memory')
      tables.load(table, at.page, 1)
      if (tables.isMapped) return present(task, mm, area, { ...at, table })
      const { hi, lo } = protectionOf(area, era.hasNx)
      if (area.backing !== '') {
        const target = shared.pageOf(area.backing, area.offset + at.page - area.first)
        if (target < 0) return fail(task, mm, at, 'no-memory')
        pages.get(target)
        const dirty = at.write === 1 ? PTE.DIRTY : 0
        tables.point(table, at.page, 1, { target, hi, lo: lo | dirty })
        return succeed(task, mm, at, 'shared-page')
      }
      if (at.write === 0) {
        tables.point(table, at.page, 1, { target: processes.zeroPage, hi, lo: lo | PTE.SPECIAL })
        return succeed(task, mm, at, 'zero-page')
      }
      prepareAnon(mm, area)
      const target = pages.allocate(0, mm.name)
      if (target < 0) return fail(task, mm, at, 'no-memory')
      tables.point(table, at.page, 1, { target, hi, lo: lo | PTE.RW | PTE.DIRTY })
      return succeed(task, mm, at, 'new-page')
    },
  })

  /** The entry is there: handle_pte_fault with a page, and do_wp_page. */
  const present = (
    task: Task,
    mm: MmStruct,
    area: Area,
    at: { page: number; write: number; table: number },
  ): readonly Work[] | undefined => {
    const { hi, lo, target } = tables
    if (at.write === 0 || (lo & PTE.RW) !== 0) {
      const dirty = at.write === 1 ? PTE.DIRTY : 0
      tables.store(at.table, at.page, 1, hi, lo | PTE.ACCESSED | dirty)
      return succeed(task, mm, at, 'present')
    }
    const isZero = (lo & PTE.SPECIAL) !== 0
    if (area.isShared || (!isZero && pages.usersOf(target) === 1)) {
      tables.store(at.table, at.page, 1, hi, lo | PTE.RW | PTE.ACCESSED | PTE.DIRTY)
      if (!area.isShared) pages.give(target, mm.name)
      return succeed(task, mm, at, 'reuse')
    }
    prepareAnon(mm, area)
    const made = pages.allocate(0, mm.name)
    if (made < 0) return fail(task, mm, at, 'no-memory')
    copyPage(processes, target, made)
    const old = isZero ? -1 : target
    mm.recordFault(at.page, at.write, 'copy')
    return [
      work('wp_clear', mm.name, at.page),
      work('wp_set', mm.name, at.page, made),
      work('wp_done', mm.name, at.page, old),
    ]
  }

  tasks.define('wp_clear', {
    doc: 'copy on write: the entry of the old page is cleared, and notifiers are told',
    run: (_task, [name, number]) => {
      const mm = processes.space(name)
      const page = Number(number)
      const table = tables.find(mm.pgd, page, 1)
      tables.clear(table, page, 1)
      return notifyRange(mm, page, page + 1)
    },
  })
  tasks.define('wp_set', {
    doc: 'copy on write: notifiers hear of the new page, then the entry leads to it',
    run: (_task, [name, number, made]) => {
      const mm = processes.space(name)
      const tell = mm.notifiers.length === 0 ? [] : [work('change_pte', mm.name, Number(number))]
      return [...tell, work('wp_point', mm.name, Number(number), Number(made))]
    },
  })
  tasks.define('wp_point', {
    doc: 'copy on write: the entry leads to the new page',
    run: (_task, [name, number, made]) => {
      const mm = processes.space(name)
      const page = Number(number)
      const area = areaAt(mm.areas, page)
      if (area === undefined) throw new Error('model bug: an area goes while its lock is held')
      const { hi, lo } = protectionOf(area, era.hasNx)
      const table = tables.find(mm.pgd, page, 1)
      tables.point(table, page, 1, { target: Number(made), hi, lo: lo | PTE.RW | PTE.DIRTY })
      // Until 4.14 the end of the range was told as well (mmu_notifier_invalidate_range_end).
      return era.isNew ? undefined : notifyRange(mm, page, page + 1)
    },
  })
  tasks.define('wp_done', {
    doc: 'copy on write: the old page has one user fewer',
    run: (task, [, , old]) => {
      if (Number(old) >= 0) pages.put(Number(old))
      task.value = 'done'
      return undefined
    },
  })
}

function copyPage({ memory }: Processes, from: number, to: number): void {
  const bytes = new Uint8Array(PAGE_4K_BYTES)
  memory.readPage(from, 0, bytes, 0, PAGE_4K_BYTES)
  memory.writePage(to, 0, bytes, 0, PAGE_4K_BYTES)
}
