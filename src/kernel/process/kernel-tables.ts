import type { BuddyAllocator } from './buddy-allocator.ts'
import { KERNEL_TABLE, type PageTables, PTE, PTE_NX_HI, spanOf } from './page-tables.ts'

/** PAGE_OFFSET without KASLR: where all memory is mapped one to one. (Linux arch/x86/include/asm/page_64_types.h, until 4.19 and from 4.20) */
const LINEAR_OLD = 0xffff_8800_0000_0000n
const LINEAR_NEW = 0xffff_8880_0000_0000n
/** Entries of the kernel are never the user`s; accessed and dirty from the start. */
const PAGE_KERNEL = PTE.PRESENT | PTE.RW | PTE.ACCESSED | PTE.DIRTY | PTE.GLOBAL
const ADDRESS_BITS = 48n

export interface KernelTablesParts {
  readonly pages: BuddyAllocator
  readonly tables: PageTables
  /** Pages of memory. */
  readonly ramPages: number
  /** Linux 4.20 or later. */
  readonly isNew: boolean
  readonly hasNx: boolean
}

/**
 * init_mm: the kernel's page tables with its one to one map of memory, in the largest pages that fit
 * (init_memory_mapping, on a processor with pages of 1 GiB). What else a kernel maps (vmalloc, modules, its text) is not there.
 *
 * @returns the page of its first table
 */
export function makeKernelTables({ pages, tables, ramPages, isNew, hasNx }: KernelTablesParts): number {
  const make = () => pages.allocate(0, 'kernel')
  const base = Number(BigInt.asUintN(Number(ADDRESS_BITS), isNew ? LINEAR_NEW : LINEAR_OLD) >> 12n)
  const pgd = make()
  const hi = hasNx ? PTE_NX_HI : 0
  const tableAt = (page: number, level: number): number => {
    let table = pgd
    for (let at = 4; at > level; at--) {
      tables.load(table, page, at)
      if (tables.isPresent) table = tables.target
      else {
        const made = make()
        tables.point(table, page, at, { target: made, hi: 0, lo: KERNEL_TABLE })
        table = made
      }
    }
    return table
  }
  for (let target = 0; target < ramPages; ) {
    const fits = (level: number) => target % spanOf(level) === 0 && target + spanOf(level) <= ramPages
    const level = fits(3) ? 3 : fits(2) ? 2 : 1
    const lo = level === 1 ? PAGE_KERNEL : PAGE_KERNEL | PTE.LARGE
    tables.point(tableAt(base + target, level), base + target, level, { target, hi, lo })
    target += spanOf(level)
  }
  return pgd
}
