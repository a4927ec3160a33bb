import { POWERS_OF_TWO, swap32 } from '../bits/u64.ts'
import { NO_FRAME } from '../memory/frame-table.ts'
import type { Host } from '../memory/host.ts'
import { CELLS_PAGES, cellOf, type HostMemory } from '../memory/host-memory.ts'
import { TCE_BYTES, TCE_BYTES_SHIFT, TCE_PERM } from './tce-entry.ts'

/** A level in pages of 4 KiB: entries in each, and the shift and mask that find one. */
const PAGE_ENTRIES_SHIFT = 9
const PAGE_ENTRIES_MASK = (1 << PAGE_ENTRIES_SHIFT) - 1
/** log2 of the most bytes that the host hands out in one piece, for host pages of 4 KiB and of 64 KiB. */
export const BLOCK_BYTES_SHIFT_MAX = 24
export const NO_PAGE = -1
/** A level of no more entries lies in one stretch of words, because levels begin at multiples of their size. */
const CELLS_ENTRIES = CELLS_PAGES << PAGE_ENTRIES_SHIFT
const NO_WORDS = new Int32Array(0)
const NO_LEVEL = new Int32Array(2)

/** Where levels come from. */
export interface LevelParts {
  readonly host: Host
  /** Asked before each level is allocated: false makes that allocation fail. */
  readonly onAllocate?: () => boolean
}

export interface LevelShape {
  readonly levels: number
  /** log2 of the entries in one level. */
  readonly levelShift: number
}

/**
 * Levels of big-endian words in the memory of the host: frames that the kernel owns, the first level there from the
 * start, the others with the slots that need them. An upper word is the address of the next level with both
 * permission bits. Nothing checks an index: one outside is walked as the kernel walks it.
 */
export class LevelTree {
  /** 4 KiB host page of the first level. */
  readonly rootPage: number
  /** Where `find` ended: page and offset of the slot. NO_PAGE: the index lies outside, its address is `strayAddress`. */
  slotPage = NO_PAGE
  slotOffset = 0
  strayAddress = 0n
  /** The index that was to be found there. */
  strayIndex = 0
  /** Where `find` ended at a missing level: slots of all leaves that are missing with it. */
  missingSlots = 0
  /** The word that `load` or `swap` found. */
  hi = 0
  lo = 0
  readonly #parts: LevelParts
  readonly #host: Host
  readonly #memory: HostMemory
  readonly #levels: number
  readonly #levelShift: number
  readonly #levelEntries: number
  /** Slots that the levels can tell apart. */
  readonly #capacity: number
  /** What `lend` lent: words of memory, two lanes each (big-endian, high first), and where the first one stands. */
  words: Int32Array = NO_WORDS
  cell = 0
  /** The leaf of which words were lent. */
  #lentPage = NO_PAGE
  #keepsLeaf = false
  /** Whether the leaf that was found last is the right one without a look at the levels above it. */
  #isTrusted = false
  // The words that led to it, where they could be had: where they lie, and what they held.
  #isPathKnown = false
  // That of the level above the leaves stands for itself; a table of one level has two cells that stay.
  #lastWords: Int32Array = NO_LEVEL
  #lastCell = 0
  #lastHi = 0
  #lastLo = 0
  readonly #pathWords: Int32Array[] = []
  readonly #pathCells: number[] = []
  readonly #pathHis: number[] = []
  readonly #pathLos: number[] = []
  // The leaf that was found last, the slot of its first entry, and its words where they can be had.
  #leafPage = NO_PAGE
  #leafStart = 0
  #cells: Int32Array | undefined
  #leafCell = 0
  /** Where the slot found last lies in them, and in its leaf. */
  #cell = 0
  #into = 0

  private constructor(parts: LevelParts, { levels, levelShift }: LevelShape, rootPage: number) {
    this.#parts = parts
    this.#host = parts.host
    this.#memory = parts.host.memory
    this.#levels = levels
    this.#levelShift = levelShift
    this.#levelEntries = 2 ** levelShift
    this.#capacity = 2 ** (levels * levelShift)
    this.rootPage = rootPage
  }

  /** With its first level; undefined where there is no memory for it. */
  static create(parts: LevelParts, shape: LevelShape): LevelTree | undefined {
    const rootPage = allocateLevel(parts, shape.levelShift)
    return rootPage === NO_PAGE ? undefined : new LevelTree(parts, shape, rootPage)
  }

  /** With `true`, the leaf that was found last is found again without a walk: nobody may change levels until `false`. */
  keepLeaf(on: boolean): void {
    this.#keepsLeaf = on
    this.#isTrusted = false
    this.#cells = undefined
  }

  /** Finds the slot of an index. False where a level is missing (and not `alloc`, or no memory for it). */
  find(index: number, alloc: boolean): boolean {
    const into = index - this.#leafStart
    if (this.#leafPage === NO_PAGE || into < 0 || into >= this.#levelEntries) return this.#walk(index, alloc)
    if (!this.#isTrusted && !this.#leadsToLeaf()) return this.#walk(index, alloc)
    this.#setSlot(this.#leafPage, into)
    this.#cell = this.#leafCell + 2 * into
    return true
  }

  /** Reads the slot that was found last. */
  load(): void {
    const cells = this.#cells
    if (cells === undefined) {
      const memory = this.#memory
      memory.loadU64be(this.slotPage, this.slotOffset)
      this.hi = memory.wordHi
      this.lo = memory.wordLo
      return
    }
    this.hi = swap32(cells[this.#cell] as number)
    this.lo = swap32(cells[this.#cell + 1] as number)
  }

  /**
   * Lends the words of an index and of those behind it for changes in place, in `words` from `cell` on: answers how
   * many. 0 where a level is missing, nothing was ever written near, or an undo log must see each change.
   */
  lend(index: number): number {
    if (!this.find(index, false) || this.slotPage === NO_PAGE) return 0
    const words = this.#memory.cellsOf(this.slotPage)
    if (words === undefined) return 0
    this.words = words
    this.#lentPage = this.#leafPage
    this.cell = cellOf(this.slotPage) + (this.slotOffset >>> 2)
    return Math.min(this.#levelEntries - this.#into, (words.length - this.cell) >>> 1)
  }

  /** Whether words that `lend` lent last are still those of their slots: the levels above have not changed. */
  get isLent(): boolean {
    if (this.#leafPage !== this.#lentPage || this.#leafPage === NO_PAGE) return false
    return this.#isTrusted || this.#leadsToLeaf()
  }

  /** How many slots from the one that was found last on are 0: those of its leaf, and no more than `most`. */
  zeros(most: number): number {
    const count = Math.min(most, this.#levelEntries - this.#into)
    return this.#memory.zeroWords(this.slotPage, this.slotOffset, count)
  }

  /** Writes the slot that was found last. */
  store(hi: number, lo: number): void {
    const cells = this.#cells
    if (cells === undefined) {
      this.#memory.storeU64be(this.slotPage, this.slotOffset, hi, lo)
      return
    }
    cells[this.#cell] = swap32(hi)
    cells[this.#cell + 1] = swap32(lo)
  }

  /** Reads it and writes it. */
  swap(hi: number, lo: number): void {
    this.load()
    this.store(hi, lo)
  }

  /** All levels are free. */
  free(): void {
    this.#freeLevel(this.rootPage, this.#levels - 1)
  }

  /**
   * From the first level to the leaf. An index that no level can tell apart keeps its upper bits down to the leaf:
   * it ends in `strayAddress`.
   */
  #walk(index: number, alloc: boolean): boolean {
    const levelShift = this.#levelShift
    const memory = this.#memory
    let page = this.rootPage
    let rest = index
    this.#leafPage = NO_PAGE
    this.#isTrusted = false
    let isKnown = !this.#host.journal.on
    for (let level = this.#levels - 1; level > 0; level--) {
      const n = digitOf(index, level * levelShift, levelShift)
      rest -= n * (POWERS_OF_TWO[level * levelShift] as number)
      const at = page + (n >>> PAGE_ENTRIES_SHIFT)
      const offset = (n & PAGE_ENTRIES_MASK) << TCE_BYTES_SHIFT
      memory.loadU64be(at, offset)
      if ((memory.wordHi | memory.wordLo) !== 0) {
        isKnown &&= this.#rememberPath(level - 1, at, offset)
        page = (memory.wordHi << 20) | (memory.wordLo >>> 12)
        continue
      }
      isKnown = false
      this.missingSlots = POWERS_OF_TWO[level * levelShift] as number
      if (!alloc) return false
      page = allocateLevel(this.#parts, levelShift)
      if (page === NO_PAGE) return false
      memory.storeU64be(at, offset, page >>> 20, (page << 12) | TCE_PERM)
    }
    this.#cells = undefined
    if (index < 0 || index >= this.#capacity) {
      this.slotPage = NO_PAGE
      this.strayIndex = index
      this.strayAddress = BigInt.asUintN(64, BigInt(page) * 4096n + BigInt(rest) * BigInt(TCE_BYTES))
      return true
    }
    this.#leafPage = page
    this.#leafStart = index - rest
    this.#isPathKnown = isKnown
    if (this.#keepsLeaf) {
      this.#trust()
      this.#cell = this.#leafCell + 2 * rest
    }
    this.#setSlot(page, rest)
    return true
  }

  /** Remembers the word of a level that leads to the next one; false where its words cannot be had. */
  #rememberPath(level: number, page: number, offset: number): boolean {
    const words = this.#memory.cellsOf(page)
    if (words === undefined) return false
    const cell = cellOf(page) + (offset >>> 2)
    if (level === 0) {
      this.#lastWords = words
      this.#lastCell = cell
      this.#lastHi = words[cell] as number
      this.#lastLo = words[cell + 1] as number
      return true
    }
    this.#pathWords[level] = words
    this.#pathCells[level] = cell
    this.#pathHis[level] = words[cell] as number
    this.#pathLos[level] = words[cell + 1] as number
    return true
  }

  /** Whether the levels lead to the leaf that was found last as they did then. */
  #leadsToLeaf(): boolean {
    if (!this.#isPathKnown || this.#host.journal.on) return false
    // The level above the leaves is the only one of most tables.
    if (
      this.#lastWords[this.#lastCell] !== this.#lastHi ||
      this.#lastWords[this.#lastCell + 1] !== this.#lastLo
    )
      return false
    for (let level = this.#levels - 2; level > 0; level--) {
      const words = this.#pathWords[level] as Int32Array
      const cell = this.#pathCells[level] as number
      if (words[cell] !== this.#pathHis[level] || words[cell + 1] !== this.#pathLos[level]) return false
    }
    if (this.#keepsLeaf) this.#trust()
    return true
  }

  /** For as long as leaves are kept, there is no other look. */
  #trust(): void {
    this.#isTrusted = true
    if (this.#levelEntries <= CELLS_ENTRIES) this.#cells = this.#memory.cellsOf(this.#leafPage)
    this.#leafCell = cellOf(this.#leafPage)
  }

  #setSlot(leafPage: number, into: number): void {
    this.#into = into
    this.slotPage = leafPage + (into >>> PAGE_ENTRIES_SHIFT)
    this.slotOffset = (into & PAGE_ENTRIES_MASK) << TCE_BYTES_SHIFT
  }

  #freeLevel(page: number, level: number): void {
    const { host } = this.#parts
    if (level > 0) {
      for (let n = 0; n < this.#levelEntries; n++) {
        host.memory.loadU64be(page + (n >>> PAGE_ENTRIES_SHIFT), (n & PAGE_ENTRIES_MASK) << TCE_BYTES_SHIFT)
        const { wordHi, wordLo } = host.memory
        if ((wordLo & TCE_PERM) !== 0) this.#freeLevel((wordHi << 20) | (wordLo >>> 12), level - 1)
      }
    }
    const { frames, pageShift } = host
    frames.put(page >>> frames.subShift, 2 ** (this.#levelShift + TCE_BYTES_SHIFT - pageShift))
  }
}

/** Bits [shift, shift + width) of an index, which is a signed 64-bit word. */
export function digitOf(index: number, shift: number, width: number): number {
  if (index >= 0 && index <= 0x7fff_ffff && shift < 31)
    return width < 31 ? (index >>> shift) & ((1 << width) - 1) : index >>> shift
  const radix = POWERS_OF_TWO[width] as number
  const digit = Math.floor(index / (POWERS_OF_TWO[shift] as number)) % radix
  return digit < 0 ? digit + radix : digit
}

/** The first 4 KiB page of a zeroed level, or NO_PAGE. */
function allocateLevel({ host, onAllocate }: LevelParts, levelShift: number): number {
  const bytesShift = levelShift + TCE_BYTES_SHIFT
  if (onAllocate?.() === false || bytesShift > BLOCK_BYTES_SHIFT_MAX) return NO_PAGE
  const { frames } = host
  const frame = frames.allocate(frames.owner('kernel'), bytesShift - host.pageShift)
  return frame === NO_FRAME ? NO_PAGE : frames.hostPage(frame)
}
