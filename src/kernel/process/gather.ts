import type { Areas } from './vmas.ts'

/** A page table that no entry leads to any more. */
export interface FreedTable {
  readonly page: number
  readonly level: number
}

/** What a task has taken out of page tables, and frees once nobody can use it any more: mmu_gather. */
export interface Gather {
  readonly pages: readonly number[]
  readonly tables: readonly FreedTable[]
  /** Pages of user addresses that are to be flushed: none where `first` is not below `end`. */
  readonly first: number
  readonly end: number
  /** Areas that are to be removed behind it. */
  readonly areas: Areas
}

export const EMPTY_GATHER: Gather = {
  pages: [],
  tables: [],
  first: Number.MAX_SAFE_INTEGER,
  end: 0,
  areas: [],
}

/** The range grows to hold a page: __tlb_adjust_range. */
export const adjusted = (gather: Gather, page: number): Gather => ({
  ...gather,
  first: Math.min(gather.first, page),
  end: Math.max(gather.end, page + 1),
})
