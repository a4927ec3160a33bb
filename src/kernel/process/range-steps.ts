import type { RuleOf } from '../../bits/call.ts'
import { VM } from '../process-port.ts'
import { type Task, type Work, work } from '../steps.ts'
import { protectionOf } from './fault-steps.ts'
import { adjusted } from './gather.ts'
import { type MmStruct, mmapSem, pageOfAddress } from './mm-struct.ts'
import type { OpenFiles } from './open-files.ts'
import { needsFlush, PTE, spanOf } from './page-tables.ts'
import { notifyRange, type Processes } from './processes.ts'
import type { SYS_MMAP, SYS_MPROTECT } from './sys-calls.ts'
import {
  type Area,
  areaAt,
  chooseRoom,
  findArea,
  LOWEST_PAGE,
  MAP_COUNT_MAX,
  partsOf,
  splitsPastLimit,
  TASK_PAGES,
  USER_END,
  withArea,
  without,
} from './vmas.ts'

const PRIVATE = 0
const PAGE_BYTES = 4096n
const GIB_LEVEL = 3

/** The works of unmap_region for areas that are in the gather of the task. */
const unmapRegion = (mm: MmStruct, first: number, end: number): readonly Work[] => {
  const before = mm.areas.findLast((a) => a.end <= first)?.end ?? 0
  const behind = findArea(mm.areas, end)?.first ?? USER_END
  return [
    work('unmap_vmas', mm.name, first, end),
    work('free_pgtables', mm.name, first, end, before, behind),
    work('tlb_flush_mmu', mm.name),
    work('tlb_flush_mmu_free', mm.name),
    work('remove_vmas', mm.name),
  ]
}

/** Takes areas of [first, end) out of an address space into the gather of a task. Answers whether there were any. */
function detach(mm: MmStruct, task: Task, first: number, end: number): boolean {
  const taken = partsOf(mm.areas, first, end)
  if (taken.length === 0) return false
  // A cut in an area that stays on both sides leaves two areas that hold its file.
  mm.areas = without(mm.areas, first, end)
  const gather = mm.gathered(task.name)
  mm.gather(task.name, { ...gather, areas: [...gather.areas, ...taken] })
  for (const a of taken) mm.recordArea(a.first, a.end, a.flags, 0)
  return true
}

/** The file of an area, or of the memory that it shares; empty for none. */
const fileOf = (area: Area): string => area.file ?? area.backing

/** Every cut of an area makes one more, which holds its file as well (__split_vma). */
function holdFiles(files: OpenFiles, before: readonly Area[], after: readonly Area[]): void {
  const holders = (areas: readonly Area[]) => {
    const counts = new Map<string, number>()
    for (const a of areas) if (fileOf(a) !== '') counts.set(fileOf(a), (counts.get(fileOf(a)) ?? 0) + 1)
    return counts
  }
  const had = holders(before)
  for (const [file, count] of holders(after)) {
    for (let n = had.get(file) ?? 0; n < count; n++) files.get(file, 'split_vma')
  }
}

/** The page of a fixed address, -1 where the range passes the end of user space. */
const fixedPage = (address: bigint, pages: number): number => {
  const page = pageOfAddress(address)
  return pages > TASK_PAGES || address > BigInt(TASK_PAGES - pages) * PAGE_BYTES ? -1 : page
}

/** round_hint_to_min, and up to a page; 0 is no hint. */
const roundHint = (address: bigint): number => {
  const page = pageOfAddress(address)
  return page === 0 ? 0 : Math.max(page, LOWEST_PAGE)
}

/** mmap, munmap and mprotect: the steps behind the checks of their arguments. */
export function defineRangeSteps(processes: Processes, files: OpenFiles): void {
  const { tasks, tables, era, pages } = processes

  tasks.define('do_munmap', {
    doc: 'munmap: the areas of a range are taken out, then what they map',
    run: (task, [name, from, to]) => {
      const mm = processes.space(name)
      const [first, end] = [Number(from), Number(to)]
      if (splitsPastLimit(mm.areas, first, end, MAP_COUNT_MAX)) {
        return processes.unlockAndReturn(mm.name, 'split-past-limit')
      }
      const { areas } = mm
      if (!detach(mm, task, first, end)) return processes.unlockAndReturn(mm.name, 'done')
      holdFiles(files, areas, [...mm.areas, ...mm.gathered(task.name).areas])
      return [...unmapRegion(mm, first, end), ...processes.unlockAndReturn(mm.name, 'done')]
    },
  })

  tasks.define('do_mmap', {
    doc: 'mmap: where it goes, and whether it may',
    run: (_task, [name, hint, count, isFixed, ...rest]) => {
      const mm = processes.space(name)
      const [address, pages] = [BigInt(hint as bigint), Number(count)]
      const end = (rule: RuleOf<typeof SYS_MMAP>) => processes.unlockAndReturn(mm.name, rule)
      if (mm.areas.length > MAP_COUNT_MAX) return end('too-many-areas')
      const wanted = Number(isFixed) === 1 ? fixedPage(address, pages) : roundHint(address)
      const first = Number(isFixed) === 1 ? wanted : chooseRoom(mm.areas, pages, wanted)
      if (first < 0) return end('no-room')
      if (Number(isFixed) === 1 && address % PAGE_BYTES !== 0n) return end('unaligned')
      const [, isShared, growsDown, file] = rest
      if (growsDown === 1 && (isShared === 1 || file !== '')) return end('shared-stack')
      return [work('mmap_region', mm.name, first, first + pages, ...rest)]
    },
  })
  tasks.define('mmap_region', {
    doc: 'mmap: what was in the range is unmapped first',
    run: (task, [name, from, to, ...rest]) => {
      const mm = processes.space(name)
      const [first, end] = [Number(from), Number(to)]
      if (splitsPastLimit(mm.areas, first, end, MAP_COUNT_MAX)) {
        return processes.unlockAndReturn(mm.name, 'split-past-limit')
      }
      const { areas } = mm
      const link = work('vma_link', mm.name, first, end, ...rest)
      if (!detach(mm, task, first, end)) return [link]
      holdFiles(files, areas, [...mm.areas, ...mm.gathered(task.name).areas])
      return [...unmapRegion(mm, first, end), link]
    },
  })
  tasks.define('vma_link', {
    doc: 'mmap: the new area is there; it holds its file',
    run: (_task, [name, from, to, bits, isShared, growsDown, file]) => {
      const mm = processes.space(name)
      const first = Number(from)
      const path = String(file)
      if (path !== '') files.get(path, 'mmap')
      const isMemory = path === '' && Number(isShared) !== PRIVATE
      const area: Area = {
        first,
        end: Number(to),
        flags: Number(bits),
        isShared: Number(isShared) !== PRIVATE,
        growsDown: Number(growsDown) !== 0,
        file: path === '' ? undefined : path,
        backing: isMemory ? files.make('') : '',
        offset: 0,
        hasAnon: false,
      }
      mm.addArea(withArea(mm.areas, area), area)
      return [work('unlock', mmapSem(mm.name)), work('return', 'done', 'address', BigInt(first) << 12n)]
    },
  })

  tasks.define('do_mprotect', {
    doc: 'mprotect: whether anything is mapped where the range begins',
    run: (_task, [name, from, to, bits]) => {
      const mm = processes.space(name)
      if (areaAt(mm.areas, Number(from)) === undefined) {
        return processes.unlockAndReturn(mm.name, 'start-not-mapped')
      }
      return [work('mprotect_fixup', mm.name, Number(from), Number(to), Number(bits))]
    },
  })
  tasks.define('mprotect_fixup', {
    doc: 'mprotect: one area, or the part of it that is meant, gets its new rights; its entries follow, and notifiers are told',
    run: (task, [name, from, to, bits]) => {
      const mm = processes.space(name)
      const [first, end, flags] = [Number(from), Number(to), Number(bits)]
      const area = areaAt(mm.areas, first)
      if (area === undefined) return finish(mm, task, 'hole')
      const last = Math.min(end, area.end)
      const next = () =>
        last < end ? [work('mprotect_fixup', mm.name, last, end, flags)] : finish(mm, task, 'done')
      if (area.flags === flags) return next()
      const splits = (area.first < first ? 1 : 0) + (area.end > last ? 1 : 0)
      if (mm.areas.length + splits > MAP_COUNT_MAX) return finish(mm, task, 'split-past-limit')
      const [part] = partsOf([area], first, last)
      const changed: Area = { ...(part as Area), flags }
      const before = mm.areas
      mm.areas = withArea(without(mm.areas, first, last), changed)
      holdFiles(files, before, mm.areas)
      mm.recordArea(first, last, flags, 1)
      return [...protect(mm, task, changed), ...next()]
    },
  })

  /**
   * The call is over, for better or worse. Since 5.19 it gathers the entries that have to be flushed, and notifiers are
   * told of all of them once more. (Linux v6.1 mm/mprotect.c do_mprotect_pkey: tlb_finish_mmu behind the last area;
   * include/asm-generic/tlb.h tlb_flush_mmu_tlbonly; x86 merges the ranges of areas, CONFIG_MMU_GATHER_MERGE_VMAS)
   */
  const finish = (mm: MmStruct, task: Task, rule: RuleOf<typeof SYS_MPROTECT>): readonly Work[] => {
    const { first, end } = mm.gathered(task.name)
    if (first >= end) return processes.unlockAndReturn(mm.name, rule)
    mm.gather(task.name, undefined)
    return [...notifyRange(mm, first, end), ...processes.unlockAndReturn(mm.name, rule)]
  }

  /** change_protection: the entries of an area; notifiers are told of each GiB that has a table. */
  const protect = (mm: MmStruct, task: Task, area: Area): readonly Work[] => {
    const works: Work[] = []
    const span = spanOf(GIB_LEVEL)
    let gather = mm.gathered(task.name)
    for (let from = area.first; from < area.end; ) {
      const end = Math.min(area.end, (Math.floor(from / span) + 1) * span)
      const begin = firstTable(mm, from, end)
      if (begin >= 0) {
        tables.eachMapped(mm.pgd, begin, end, (table, page) => {
          if (protectEntry(area, table, page) && era.isNew) gather = adjusted(gather, page)
        })
        works.push(...notifyRange(mm, begin, end))
      }
      from = end
    }
    if (gather.first < gather.end) mm.gather(task.name, gather)
    return works
  }

  /** The first page of [first, end) that a table of level 1 is there for, -1 for none. */
  const firstTable = (mm: MmStruct, first: number, end: number): number => {
    const span = spanOf(2)
    for (let at = first; at < end; at = (Math.floor(at / span) + 1) * span) {
      if (tables.find(mm.pgd, at, 1) >= 0) return at
    }
    return -1
  }

  /**
   * pte_modify: what the rights give is replaced; page, accessed and dirty stay. Private memory becomes writable with its
   * next fault. Answers whether the old entry has to be flushed.
   */
  const protectEntry = (area: Area, table: number, page: number): boolean => {
    const { hi, lo, target } = tables
    const kept = lo & (PTE.ACCESSED | PTE.DIRTY | PTE.SPECIAL)
    const bits = protectionOf(area, era.hasNx)
    const isOwn = (lo & PTE.SPECIAL) === 0 && (lo & PTE.DIRTY) !== 0 && pages.usersOf(target) === 1
    // Since 6.1 a page that is its own and dirty needs no fault more (can_change_pte_writable).
    const write = era.isNew && isOwn && (area.flags & VM.WRITE) !== 0 ? PTE.RW : 0
    const next = bits.lo | kept | write
    tables.point(table, page, 1, { target, hi: bits.hi, lo: next })
    return needsFlush({ hi, lo }, bits.hi, next)
  }
}
