import { Bitmap } from '../../bits/bitmap.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOfNumber } from '../../bits/u64.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'

/** No memory: what `alloc` answers where no block is large enough. */
export const NO_PAGES = -1

/** How a `free` went. */
export const FREED = { DONE: 0, NOT_ALLOCATED: 1, TOO_LARGE: 2 } as const

/** Pages that one machine may span: 1 TiB of 4 KiB pages, 16 TiB of 64 KiB pages, in 64 MiB of bitmaps. */
const PAGES_MAX = 2 ** 28
/** log2 of the largest block in bytes: 16 MiB on kernels of either page size. */
const BLOCK_SHIFT_MAX = 24
const CHUNK_SHIFT = 12
/** Cells of a page: life, order of the allocated block that begins there + 1, owner of that block. */
const GENERATION = 0
const ORDER = 1
const OWNER = 2
const STRIDE = 3

export interface PageAllocatorParts {
  readonly stage: Stage
  readonly journal: Journal
  /** PAGE_SHIFT of the kernel. */
  readonly pageShift: number
  /** First address that can never be memory. */
  readonly spanBytes: number
}

/**
 * The guest kernel's own page allocator: blocks of 2^order pages, naturally aligned, split and merged as buddies.
 *
 * The lowest free block that fits is taken, so that the same calls give the same addresses. Pages have owners
 * (a word: a driver, the kernel) and lives: a page that was freed and is allocated again is another page.
 * Addresses are page numbers here. (After Linux v6.1 mm/page_alloc.c, without its zones and lists)
 *
 * @example
 * const first = pages.alloc(1, names.intern('nic')) // two pages in a row
 * pages.free(first, 1) // FREED.DONE
 */
export class PageAllocator {
  readonly pageShift: number
  readonly maxOrder: number
  readonly #stage: Stage
  readonly #journal: Journal
  readonly #space: number
  readonly #nobody: number
  readonly #free: Bitmap[] = []
  /** Lowest block of each order that may be free. */
  readonly #hints: Cells
  readonly #chunks: (Cells | undefined)[]

  /** @throws IommulatorError ERR_MEMORY_LIMIT for a span of more than 2^28 pages */
  constructor({ stage, journal, pageShift, spanBytes }: PageAllocatorParts) {
    const span = Math.ceil(spanBytes / 2 ** pageShift)
    if (span > PAGES_MAX) {
      throw new IommulatorError(
        'ERR_MEMORY_LIMIT',
        `${span} pages of guest memory are too many to allocate from`,
      )
    }
    this.pageShift = pageShift
    this.maxOrder = BLOCK_SHIFT_MAX - pageShift
    this.#stage = stage
    this.#journal = journal
    this.#space = stage.log.names.intern('gpa')
    this.#nobody = stage.log.names.intern('guest')
    for (let order = 0; order <= this.maxOrder; order++) {
      const cells = new Cells(journal, keyOf('free_area', order))
      this.#free.push(new Bitmap(cells, Math.ceil(span / 2 ** order)))
    }
    this.#hints = new Cells(journal, keyOf('free_hint'), this.maxOrder + 1)
    this.#chunks = new Array(Math.ceil(span / (1 << CHUNK_SHIFT))).fill(undefined)
  }

  /** Pages [first, end) become free memory of the guest. */
  addRange(first: number, end: number): void {
    if (first >= end) return
    this.#insert(first, end)
    this.#record(first, end - first, this.#nobody)
  }

  /** Pages [first, end), which the allocator does not have, belong to an owner (an interned word). */
  hold(first: number, end: number, owner: number): void {
    if (first < end) this.#record(first, end - first, owner)
  }

  /** Whether pages [first, end) are all free. */
  isFree(first: number, end: number): boolean {
    for (let page = first; page < end; ) {
      const order = this.#freeOrder(page)
      if (order === -1) return false
      page = ((page >>> order) + 1) << order
    }
    return true
  }

  /** Free pages [first, end) leave the allocator. False, and nothing happens, where one of them is in use. */
  removeRange(first: number, end: number): boolean {
    if (!this.isFree(first, end)) return false
    for (let page = first; page < end; ) {
      const order = this.#freeOrder(page)
      const index = page >>> order
      const from = index << order
      const behind = (index + 1) << order
      this.#setFree(order, index, false)
      this.#insert(from, Math.max(from, first))
      this.#insert(end, behind)
      page = behind
    }
    return true
  }

  /** A block of 2^order pages for an owner (an interned word): its first page, or NO_PAGES. */
  alloc(order: number, owner: number): number {
    for (let from = order; from <= this.maxOrder; from++) {
      const area = this.#free[from] as Bitmap
      let index = area.nextSet(this.#hints.get(from), area.bits)
      this.#hints.set(from, index)
      if (index === area.bits) continue
      this.#setFree(from, index, false)
      for (let at = from - 1; at >= order; at--) {
        index *= 2
        this.#setFree(at, index + 1, true)
      }
      const page = index << order
      this.#own(page, order, owner)
      return page
    }
    return NO_PAGES
  }

  /**
   * Gives 2^order pages back. The first pages of a larger block may be given back alone; more than the block,
   * or pages that no block begins at, are refused.
   */
  free(page: number, order: number): number {
    const held = this.orderOf(page)
    if (held === -1) return FREED.NOT_ALLOCATED
    if (order > held) return FREED.TOO_LARGE
    const owner = this.ownerOf(page)
    for (let at = held - 1; at >= order; at--) {
      const rest = page + (1 << at)
      this.#cellsOf(rest).set(cellOf(rest) + ORDER, at + 1)
      this.#cellsOf(rest).set(cellOf(rest) + OWNER, owner)
    }
    this.#cellsOf(page).set(cellOf(page) + ORDER, 0)
    this.#merge(order, page >>> order)
    this.#record(page, 1 << order, this.#nobody)
    return FREED.DONE
  }

  /** Order of the allocated block that begins at a page, or -1. */
  orderOf(page: number): number {
    const chunk = this.#chunks[page >>> CHUNK_SHIFT]
    return chunk === undefined ? -1 : chunk.get(cellOf(page) + ORDER) - 1
  }

  /** Interned owner of the allocated block that begins at a page. */
  ownerOf(page: number): number {
    return this.#chunks[page >>> CHUNK_SHIFT]?.get(cellOf(page) + OWNER) ?? 0
  }

  /** How often a page was allocated. */
  generationOf(page: number): number {
    return this.#chunks[page >>> CHUNK_SHIFT]?.get(cellOf(page) + GENERATION) ?? 0
  }

  /** Free pages: for tests and dumps. */
  get freeCount(): number {
    return this.#free.reduce((n, area, order) => n + (area.count() << order), 0)
  }

  #own(page: number, order: number, owner: number): void {
    for (let i = page; i < page + (1 << order); i++) {
      const cells = this.#cellsOf(i)
      cells.set(cellOf(i) + GENERATION, cells.get(cellOf(i) + GENERATION) + 1)
    }
    const cells = this.#cellsOf(page)
    cells.set(cellOf(page) + ORDER, order + 1)
    cells.set(cellOf(page) + OWNER, owner)
    this.#record(page, 1 << order, owner)
  }

  #merge(order: number, block: number): void {
    let index = block
    let at = order
    while (at < this.maxOrder) {
      const area = this.#free[at] as Bitmap
      const buddy = index ^ 1
      if (buddy >= area.bits || !area.has(buddy)) break
      this.#setFree(at, buddy, false)
      index >>>= 1
      at++
    }
    this.#setFree(at, index, true)
  }

  /** Pages [first, end) as the largest aligned blocks. */
  #insert(first: number, end: number): void {
    for (let page = first; page < end; ) {
      let order = 0
      while (order < this.maxOrder && page % (2 << order) === 0 && page + (2 << order) <= end) order++
      this.#setFree(order, page >>> order, true)
      page += 1 << order
    }
  }

  /** Order of the free block that a page lies in, or -1. */
  #freeOrder(page: number): number {
    return this.#free.findIndex((area, order) => page >>> order < area.bits && area.has(page >>> order))
  }

  #setFree(order: number, index: number, isFree: boolean): void {
    const area = this.#free[order] as Bitmap
    if (!isFree) {
      area.clearRange(index, index + 1)
      return
    }
    area.setRange(index, index + 1)
    if (index < this.#hints.get(order)) this.#hints.set(order, index)
  }

  #cellsOf(page: number): Cells {
    const number = page >>> CHUNK_SHIFT
    let chunk = this.#chunks[number]
    if (chunk === undefined) {
      chunk = new Cells(this.#journal, keyOf('pages', number), STRIDE << CHUNK_SHIFT)
      this.#chunks[number] = chunk
    }
    return chunk
  }

  #record(page: number, count: number, owner: number): void {
    const { log, cause } = this.#stage
    const generation = this.generationOf(page)
    log.append(
      KIND['page.own'],
      cause,
      this.#space,
      this.pageShift,
      page | 0,
      hiOfNumber(page),
      count,
      0,
      owner,
      generation,
    )
  }
}

const cellOf = (page: number): number => (page & ((1 << CHUNK_SHIFT) - 1)) * STRIDE
