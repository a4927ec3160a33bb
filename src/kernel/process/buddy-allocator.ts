import { assert } from '../../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { PAGE_4K_BYTES } from '../../memory/host-memory.ts'
import type { BusMemory } from '../../memory/ports.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import type { PagePort } from '../process-port.ts'

/** MAX_ORDER - 1. (Linux v4.9 and v6.1 include/linux/mmzone.h) */
const ORDER_MOST = 10
const ORDERS = ORDER_MOST + 1
/** The list of single pages of the processor, behind those of the orders. */
const PER_CPU = ORDERS
/** Pages that go between the list of the processor and the others at once, and from how many on. (Linux v4.9 and v6.1 mm/page_alloc.c, zone_batchsize, pageset_set_high) */
const BATCH = 31
const HIGH = 6 * BATCH
/** What `#states` says of the first page of a free block: 1 more than its list. Of one that is taken: its order, below 0. */
const takenState = (order: number): number => -1 - order
const ZEROS = new Uint8Array(PAGE_4K_BYTES)
const NONE = 0

export interface BuddyParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly memory: BusMemory
  /** First page that it has, and how many. */
  readonly first: number
  readonly pages: number
}

/**
 * The buddy allocator: free blocks of 2^order pages, each on the list of its order; what is freed becomes one with its
 * buddy, and what is larger than asked for is cut, the lower half first. Single pages come from a list of the processor
 * in between, so that the page that was freed last is the next to be had. Untouched memory counts as free blocks of the
 * largest order, in order of their addresses. (Linux v4.9 and v6.1 mm/page_alloc.c, __rmqueue_smallest, expand,
 * __free_one_page, rmqueue_pcplist)
 *
 * Memory is zeroed when it is handed out, and keeps its bytes when it is freed. Each change of owner is a `page.own` record.
 *
 * @example
 * const table = pages.allocate(8, 'kernel') // 1 MiB, aligned to as much; -1 where none is left
 * pages.free(table, 8)
 */
export class BuddyAllocator implements PagePort {
  readonly maxOrder = ORDER_MOST
  readonly #parts: BuddyParts
  readonly #end: number
  readonly #space: number
  // A page of a list is kept as 1 more, so that 0 is none.
  readonly #heads: Cells
  readonly #tails: Cells
  readonly #nexts: Cells
  readonly #befores: Cells
  readonly #states: Cells
  readonly #generations: Cells
  readonly #users: Cells
  readonly #owners: Cells
  /** Pages that are free; pages of the processor`s list; the first page of untouched memory. */
  readonly #counts: Cells

  constructor(parts: BuddyParts) {
    const { journal, stage } = parts
    const column = (name: string, cells = 0) => new Cells(journal, keyOf('buddy', name), cells)
    this.#parts = parts
    this.#end = parts.first + parts.pages
    this.#space = stage.log.names.intern('hpa')
    this.#heads = column('heads', PER_CPU + 1)
    this.#tails = column('tails', PER_CPU + 1)
    this.#nexts = column('nexts')
    this.#befores = column('befores')
    this.#states = column('states')
    this.#generations = column('generations')
    this.#users = column('users')
    this.#owners = column('owners')
    this.#counts = column('counts', 3)
    this.#begin()
  }

  /** Pages that nobody has. */
  get freePages(): number {
    return this.#counts.get(0)
  }

  generationOf(page: number): number {
    return page < this.#generations.length ? this.#generations.get(page) >>> 0 : 0
  }

  allocate(order: number, owner: string): number {
    const page = this.#take(order)
    if (page < 0) return -1
    this.#states.set(page, takenState(order))
    const count = 2 ** order
    const key = keyOf('owner', owner)
    for (let at = page; at < page + count; at++) {
      this.#generations.set(at, this.#generations.get(at) + 1)
      this.#users.set(at, 1)
      this.#owners.set(at, key)
      this.#parts.memory.writePage(at, 0, ZEROS, 0, PAGE_4K_BYTES)
    }
    this.#counts.set(0, this.freePages - count)
    this.#record(page, count, owner)
    return page
  }

  free(page: number, order: number): void {
    assert(this.#states.get(page) === takenState(order), `the block of order ${order} at ${page} is taken`)
    const count = 2 ** order
    this.#users.fill(0, page, page + count)
    this.#owners.fill(0, page, page + count)
    this.#counts.set(0, this.freePages + count)
    this.#record(page, count, 'free')
    if (order > 0) this.#giveBack(page, order)
    else {
      this.#push(PER_CPU, page)
      this.#counts.set(1, this.#counts.get(1) + 1)
      if (this.#counts.get(1) >= HIGH) this.#drain(BATCH)
    }
  }

  /** Who uses a single page: page_count. */
  usersOf(page: number): number {
    return this.#users.get(page)
  }

  /** get_page: one user more of a page that is taken. */
  get(page: number): void {
    assert(this.usersOf(page) > 0, `page ${page} is taken`)
    this.#users.set(page, this.usersOf(page) + 1)
  }

  /** put_page: one user fewer of a single page; with the last one it is free. */
  put(page: number): void {
    const users = this.usersOf(page)
    assert(users > 0, `page ${page} is taken`)
    if (users === 1) this.free(page, 0)
    else this.#users.set(page, users - 1)
  }

  /** A page that is taken belongs to somebody else from now on. */
  give(page: number, owner: string): void {
    assert(this.usersOf(page) > 0, `page ${page} is taken`)
    const key = keyOf('owner', owner)
    if (this.#owners.get(page) === key) return
    this.#owners.set(page, key)
    this.#record(page, 1, owner)
  }

  /** What lies before the first aligned block of the largest order is on lists; the rest is untouched. */
  #begin(): void {
    const { first } = this.#parts
    const block = 2 ** ORDER_MOST
    const from = Math.min(this.#end, Math.ceil(first / block) * block)
    this.#ensure(from)
    this.#counts.set(0, this.#end - first)
    this.#counts.set(2, from)
    // Pushed in front: the lowest comes last.
    for (const [page, order] of this.#cut(first, from).reverse()) this.#push(order, page)
  }

  /** Aligned blocks that make up [from, to), which is shorter than two of the largest. */
  #cut(from: number, to: number): [page: number, order: number][] {
    const blocks: [number, number][] = []
    for (let at = from; at < to; ) {
      let order = 0
      while (order < ORDER_MOST && at % 2 ** (order + 1) === 0 && at + 2 ** (order + 1) <= to) order++
      blocks.push([at, order])
      at += 2 ** order
    }
    return blocks
  }

  #take(order: number): number {
    if (order > ORDER_MOST) return -1
    if (order === 0) return this.#takeSingle()
    const page = this.#remove(order)
    if (page >= 0) return page
    // Direct reclaim: pages of the processor`s list may make up a block.
    this.#drain(this.#counts.get(1))
    return this.#remove(order)
  }

  #takeSingle(): number {
    if (this.#heads.get(PER_CPU) === NONE) {
      for (let n = 0; n < BATCH; n++) {
        const page = this.#remove(0)
        if (page < 0) break
        this.#pushBack(PER_CPU, page)
        this.#counts.set(1, this.#counts.get(1) + 1)
      }
    }
    const page = this.#heads.get(PER_CPU) - 1
    if (page < 0) return -1
    this.#unlink(PER_CPU, page)
    this.#counts.set(1, this.#counts.get(1) - 1)
    return page
  }

  /** Pages of the processor`s list that were not used for longest go back. */
  #drain(count: number): void {
    for (let n = 0; n < count; n++) {
      const page = this.#tails.get(PER_CPU) - 1
      if (page < 0) break
      this.#unlink(PER_CPU, page)
      this.#counts.set(1, this.#counts.get(1) - 1)
      this.#giveBack(page, 0)
    }
  }

  /** A block from the list of its order, or the lower end of a larger one. */
  #remove(order: number): number {
    const page = this.#removeListed(order)
    if (page >= 0 || this.#counts.get(2) === this.#end) return page
    this.#openUntouched()
    return this.#removeListed(order)
  }

  #removeListed(order: number): number {
    for (let found = order; found <= ORDER_MOST; found++) {
      const page = this.#heads.get(found) - 1
      if (page < 0) continue
      this.#unlink(found, page)
      for (let half = found - 1; half >= order; half--) this.#push(half, page + 2 ** half)
      return page
    }
    return -1
  }

  /** Another block of untouched memory comes on the list; what is left at the end is smaller. */
  #openUntouched(): void {
    const page = this.#counts.get(2)
    const end = Math.min(this.#end, page + 2 ** ORDER_MOST)
    if (end <= page) return
    this.#ensure(end)
    this.#counts.set(2, end)
    for (const [at, order] of this.#cut(page, end).reverse()) this.#push(order, at)
  }

  #giveBack(page: number, order: number): void {
    let [at, grown] = [page, order]
    for (; grown < ORDER_MOST; grown++) {
      const half = 2 ** grown
      const buddy = at % (2 * half) === 0 ? at + half : at - half
      if (buddy >= this.#states.length || this.#states.get(buddy) !== grown + 1) break
      this.#unlink(grown, buddy)
      at = Math.min(at, buddy)
    }
    this.#push(grown, at)
  }

  #ensure(pages: number): void {
    const columns = [this.#nexts, this.#befores, this.#states, this.#generations, this.#users, this.#owners]
    for (const column of columns) column.ensure(pages)
  }

  #push(list: number, page: number): void {
    const head = this.#heads.get(list)
    this.#states.set(page, list + 1)
    this.#nexts.set(page, head)
    this.#befores.set(page, NONE)
    if (head === NONE) this.#tails.set(list, page + 1)
    else this.#befores.set(head - 1, page + 1)
    this.#heads.set(list, page + 1)
  }

  #pushBack(list: number, page: number): void {
    const tail = this.#tails.get(list)
    this.#states.set(page, list + 1)
    this.#befores.set(page, tail)
    this.#nexts.set(page, NONE)
    if (tail === NONE) this.#heads.set(list, page + 1)
    else this.#nexts.set(tail - 1, page + 1)
    this.#tails.set(list, page + 1)
  }

  #unlink(list: number, page: number): void {
    const [before, next] = [this.#befores.get(page), this.#nexts.get(page)]
    if (before === NONE) this.#heads.set(list, next)
    else this.#nexts.set(before - 1, next)
    if (next === NONE) this.#tails.set(list, before)
    else this.#befores.set(next - 1, before)
    this.#states.set(page, 0)
    this.#nexts.set(page, NONE)
    this.#befores.set(page, NONE)
  }

  #record(page: number, count: number, owner: string): void {
    const { log, cause } = this.#parts.stage
    const name = log.names.intern(owner)
    const generation = this.#generations.get(page)
    log.append(KIND['page.own'], cause, this.#space, 12, page, 0, count, 0, name, generation)
  }
}
