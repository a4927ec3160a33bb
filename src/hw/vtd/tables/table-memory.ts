import { swap32 } from '../../../bits/u64.ts'
import type { BusMemory } from '../../../memory/ports.ts'

/** What a word that is read belongs to. Of paging entries the level is added. */
export const TABLE_WORD = {
  ROOT: 1,
  CONTEXT: 2,
  PASID_DIR: 3,
  PASID: 4,
  SECOND_LEVEL: 0x10,
  FIRST_LEVEL: 0x20,
} as const

/** Who is told of every word that a unit reads as a part of an entry. */
export interface TableWatcher {
  /** `what`: of `TABLE_WORD`. `page` and `offset` say where the word is, `hi` and `lo` what it is. */
  read(what: number, page: number, offset: number, hi: number, lo: number): void
}

/** No memory lies at such a page or above. */
const PAGES_END = 2 ** 40
const PAGE_BYTES = 4096

/** The address of a word. Of pages that no memory has, which a pointer may name all the same, that of the page. */
export const placeOf = (page: number, offset: number): number =>
  page < PAGES_END ? page * PAGE_BYTES + offset : page * PAGE_BYTES

/** Tables in memory as a unit reads them: words of 64 bits, least significant byte first. */
export class TableMemory {
  /** What `load` found, in lanes. */
  hi = 0
  lo = 0
  watcher: TableWatcher | undefined
  readonly #memory: BusMemory
  readonly #onesAreNothing: boolean

  /** @param onesAreNothing a paging entry of all ones counts as one that cannot be read */
  constructor(memory: BusMemory, onesAreNothing = false) {
    this.#memory = memory
    this.#onesAreNothing = onesAreNothing
  }

  /** Reads a word into the lanes; false where there is no memory. */
  load(what: number, page: number, offset: number): boolean {
    const memory = this.#memory
    if (page >= PAGES_END || !memory.loadU64le(page, offset)) return false
    const { wordHi: hi, wordLo: lo } = memory
    this.hi = hi
    this.lo = lo
    this.watcher?.read(what, page, offset, hi, lo)
    return !this.#onesAreNothing || what < TABLE_WORD.SECOND_LEVEL || (hi & lo) !== -1
  }

  /** Writes a word; false where there is no memory. */
  store(page: number, offset: number, hi: number, lo: number): boolean {
    return this.#memory.storeU64be(page, offset, swap32(lo), swap32(hi))
  }
}
