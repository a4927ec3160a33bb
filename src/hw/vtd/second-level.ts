import { swap32 } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'
import { VTD_FAULT } from './faults.ts'

/** Entries of a table, as their log2: each level takes so many bits of an address. */
const LEVEL_BITS = 9
const ENTRIES = 1 << LEVEL_BITS
const ENTRY_BYTES = 8
/** Levels whose entries may map a page of their own: 2 MiB and 1 GiB. */
const LARGE_LEVELS: readonly number[] = [2, 3]

export const SL_READ = 1
export const SL_WRITE = 2
const PERM = SL_READ | SL_WRITE
const PS = 1 << 7
const SNP = 1 << 11
/** In the upper lane. */
const TM = 1 << 30
const ADDRESS_HI = 0xf_ffff
const PAGES_HI = 2 ** 20

/** 4 KiB pages that an entry of a level maps or leads to. */
export const pagesOfLevel = (level: number): number => ENTRIES ** (level - 1)

/** What a unit takes for reserved in its second-level entries. */
export interface SecondLevelOptions {
  readonly memory: BusMemory
  /** Width of host addresses: bits from here to 51 of an address are reserved. */
  readonly hostAddressBits: number
  /** ECAP.SC: entries may say SNP. */
  readonly hasSnoopControl: boolean
  /** ECAP.DT: entries may say TM. */
  readonly hasDeviceTlb: boolean
}

/** An entry that maps pages, or nothing: `perm` 0. Page numbers count 4 KiB. */
export type LeafVisitor = (page: number, pages: number, target: number, perm: number) => void

/**
 * Second-level tables in memory: three or four levels of 512 entries, pages of 4 KiB, 2 MiB and 1 GiB. Nothing is
 * cached. `translate` leaves what it found in `target`, `perm` and `pages`.
 */
export class SecondLevelTables {
  /** 4 KiB page that the address is on. */
  target = 0
  /** What all levels together allow. */
  perm = 0
  /** Pages of the entry that maps it. */
  pages = 0
  readonly #memory: BusMemory
  readonly #rsvdHi: number
  readonly #rsvdLeafHi: number
  readonly #rsvdLeafLo: number
  #hi = 0
  #lo = 0

  constructor({ memory, hostAddressBits, hasSnoopControl, hasDeviceTlb }: SecondLevelOptions) {
    this.#memory = memory
    this.#rsvdHi = ADDRESS_HI & ~((1 << (hostAddressBits - 32)) - 1)
    this.#rsvdLeafHi = this.#rsvdHi | (hasDeviceTlb ? 0 : TM)
    this.#rsvdLeafLo = hasSnoopControl ? 0 : SNP
  }

  /**
   * Walks for the 4 KiB page `page` of the input, which is within the width of the tables. At each level: the entry is
   * read, then the permission, then the reserved bits. Answers 0, or the fault.
   */
  translate(root: number, levels: number, page: number, need: number): number {
    this.perm = PERM
    let table = root
    for (let level = levels; ; level--) {
      const pages = pagesOfLevel(level)
      if (!this.#load(table, Math.floor(page / pages) % ENTRIES)) {
        return level === levels ? VTD_FAULT.CONTEXT_ENTRY_INVALID : VTD_FAULT.NEXT_TABLE_ACCESS
      }
      this.perm &= this.#lo
      if ((this.#lo & need) === 0) return need === SL_WRITE ? VTD_FAULT.WRITE : VTD_FAULT.READ
      const isLeaf = this.#isLeaf(level)
      if (this.#hasReserved(level, isLeaf)) return VTD_FAULT.PAGING_ENTRY_RSVD
      table = this.#address()
      if (!isLeaf) continue
      this.target = table + (page % pages)
      this.pages = pages
      return 0
    }
  }

  /**
   * Shows every entry that maps pages, and every one that leads nowhere, for input pages [first, end), in order. Entries
   * that cannot be read, and those with a reserved bit set, are passed over, with all below them.
   */
  visit(root: number, levels: number, first: number, end: number, show: LeafVisitor): void {
    this.#visit(root, levels, first, end, PERM, show)
  }

  #visit(table: number, level: number, first: number, end: number, above: number, show: LeafVisitor): void {
    const pages = pagesOfLevel(level)
    for (let page = first; page < end; ) {
      const start = page - (page % pages)
      const next = start + pages
      if (this.#load(table, Math.floor(page / pages) % ENTRIES)) {
        const isLeaf = this.#isLeaf(level)
        const perm = this.#lo & above & PERM
        if (!this.#hasReserved(level, isLeaf)) {
          const target = this.#address()
          if (isLeaf || perm === 0) show(start, pages, target, perm)
          else this.#visit(target, level - 1, page, Math.min(next, end), perm, show)
        }
      }
      page = next
    }
  }

  /** Entries lie in memory least significant byte first. */
  #load(table: number, index: number): boolean {
    const memory = this.#memory
    const isThere = memory.isRam(table) && memory.loadU64be(table, index * ENTRY_BYTES)
    this.#hi = swap32(memory.wordLo)
    this.#lo = swap32(memory.wordHi)
    return isThere
  }

  #isLeaf(level: number): boolean {
    return level === 1 || ((this.#lo & PS) !== 0 && LARGE_LEVELS.includes(level))
  }

  #hasReserved(level: number, isLeaf: boolean): boolean {
    if (!isLeaf) {
      const lo = SNP | (LARGE_LEVELS.includes(level) ? 0 : PS)
      return (this.#hi & (this.#rsvdHi | TM)) !== 0 || (this.#lo & lo) !== 0
    }
    // Bits of the address that are below a large page.
    const below = (pagesOfLevel(level) - 1) << 12
    return (this.#hi & this.#rsvdLeafHi) !== 0 || (this.#lo & (this.#rsvdLeafLo | below)) !== 0
  }

  #address(): number {
    return (this.#hi & ADDRESS_HI) * PAGES_HI + (this.#lo >>> 12)
  }
}
