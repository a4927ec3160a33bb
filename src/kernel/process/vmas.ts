import type { Vma } from '../process-port.ts'

/** A VMA with what only its own kernel needs to know. */
export interface Area extends Vma {
  /** What its pages come from: an object that they are shared through, or empty for private memory. */
  readonly backing: string
  /** The page of the object that its first page shows. */
  readonly offset: number
  /** Whether it has an anon_vma: private pages were made in it, or may come from a parent. */
  readonly hasAnon: boolean
}

/** Areas in order of their addresses, none of which overlap. */
export type Areas = readonly Area[]

/** TASK_SIZE without LA57: user space ends one page before the middle. (Linux arch/x86/include/asm/processor.h) */
export const TASK_PAGES = 2 ** 35 - 1
/** Where the user's half of all addresses ends: no table of a user goes beyond it. */
export const USER_END = 2 ** 35
/** mmap_base without address randomisation, with the soft limit of 8 MiB for the stack: the gap is 128 MiB. (Linux arch/x86/mm/mmap.c) */
const MMAP_BASE = TASK_PAGES - 2 ** 15
/** vm.mmap_min_addr, as distributions set it: 64 KiB. */
export const LOWEST_PAGE = 16
/** stack_guard_gap: pages below a stack that mmap leaves free. (Linux v4.12 mm/mmap.c; v4.9.34 too) */
const GUARD_PAGES = 256
/** RLIMIT_STACK: 8 MiB. */
const STACK_PAGES = 2048
/** sysctl vm.max_map_count. */
export const MAP_COUNT_MAX = 65_530
const NO_ROOM = -1

/** find_vma: the first area that ends behind a page, be the page in it or below. */
export const findArea = (areas: Areas, page: number): Area | undefined => areas.find(({ end }) => end > page)

/** The area that holds a page. */
export function areaAt(areas: Areas, page: number): Area | undefined {
  const area = findArea(areas, page)
  return area !== undefined && area.first <= page ? area : undefined
}

/** Parts of areas that lie in [first, end). */
export function partsOf(areas: Areas, first: number, end: number): Areas {
  return areas.filter((a) => a.first < end && a.end > first).map((a) => cut(a, first, end))
}

function cut(area: Area, first: number, end: number): Area {
  const from = Math.max(area.first, first)
  return {
    ...area,
    first: from,
    end: Math.min(area.end, end),
    offset: area.offset + (from - area.first),
  }
}

/** The areas without [first, end): those that reach beyond it stay with what lies outside. */
export function without(areas: Areas, first: number, end: number): Areas {
  return areas.flatMap((a) => {
    if (a.first >= end || a.end <= first) return [a]
    const before = a.first < first ? [cut(a, a.first, first)] : []
    const behind = a.end > end ? [cut(a, end, a.end)] : []
    return [...before, ...behind]
  })
}

/** The areas with one more, which overlaps none. Neighbours of private memory that differ in nothing become one (vma_merge). */
export function withArea(areas: Areas, area: Area): Areas {
  const all = [...areas, area].sort((a, b) => a.first - b.first)
  const merged: Area[] = []
  for (const next of all) {
    const last = merged.at(-1)
    if (last !== undefined && canMerge(last, next)) {
      merged[merged.length - 1] = { ...last, end: next.end, hasAnon: last.hasAnon || next.hasAnon }
    } else merged.push(next)
  }
  return merged
}

const canMerge = (a: Area, b: Area): boolean =>
  a.end === b.first &&
  a.flags === b.flags &&
  isPlain(a) &&
  isPlain(b) &&
  a.growsDown === false &&
  b.growsDown === false

const isPlain = ({ backing, isShared, file }: Area): boolean =>
  backing === '' && !isShared && file === undefined

/** Whether taking [first, end) away would leave one area more than there may be. */
export function splitsPastLimit(areas: Areas, first: number, end: number, countMost: number): boolean {
  const area = findArea(areas, first)
  return area !== undefined && area.first < first && area.end > end && areas.length >= countMost
}

/** Where an area begins for whoever looks for room: a stack has a gap below it (vm_start_gap). */
const gapStart = ({ first, growsDown }: Area): number =>
  growsDown ? Math.max(0, first - GUARD_PAGES) : first

/**
 * get_unmapped_area from the top down: the hint where it is free, else the highest gap below the base, else the lowest
 * one above it. (Linux arch/x86/kernel/sys_x86_64.c, arch_get_unmapped_area_topdown)
 *
 * @returns a page, or -1 where no gap is large enough
 */
export function chooseRoom(areas: Areas, pages: number, hint: number): number {
  if (pages > TASK_PAGES) return NO_ROOM
  if (hint !== 0 && hint + pages <= TASK_PAGES) {
    const next = findArea(areas, hint)
    if (next === undefined || hint + pages <= gapStart(next)) return hint
  }
  let end = MMAP_BASE
  for (let i = areas.length - 1; i >= -1; i--) {
    const area = areas[i]
    const floor = area?.end ?? 1
    if (end - pages >= floor) return end - pages
    if (area !== undefined) end = Math.min(end, gapStart(area))
  }
  return chooseAbove(areas, pages)
}

function chooseAbove(areas: Areas, pages: number): number {
  let from = MMAP_BASE
  for (const area of areas) {
    if (area.end <= from) continue
    if (from + pages <= gapStart(area)) return from
    from = area.end
  }
  return from + pages <= TASK_PAGES ? from : NO_ROOM
}

/**
 * expand_stack: a stack grows down to a page.
 *
 * @returns its area then, or undefined where it must not
 */
export function grownStack(areas: Areas, page: number): Area | undefined {
  const area = findArea(areas, page)
  if (area === undefined || !area.growsDown || page < LOWEST_PAGE) return undefined
  const before = areas[areas.indexOf(area) - 1]
  if (before !== undefined && !before.growsDown && before.flags !== 0 && page - before.end < GUARD_PAGES)
    return undefined
  return area.end - page > STACK_PAGES ? undefined : { ...area, first: page }
}
