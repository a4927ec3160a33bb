import { assert } from '../../bits/errors.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { Stage } from '../../trace/stage.ts'
import type { Mm, MmuNotifier, Vma } from '../process-port.ts'
import { type Work, work } from '../steps.ts'
import type { BuddyAllocator } from './buddy-allocator.ts'
import { EMPTY_GATHER, type Gather } from './gather.ts'
import { LEVELS, type PageTables } from './page-tables.ts'
import { type Area, type Areas, areaAt, findArea, grownStack } from './vmas.ts'

const PAGE_SHIFT = 12n
const ENTRIES = 512

/** What address spaces stand on. */
export interface MmParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly pages: BuddyAllocator
  readonly tables: PageTables
  /** The kernel's own first table: its upper half is in every other one. */
  readonly kernelPgd: number
  /** Told when nobody holds the structure any more. */
  dropped(mm: string): void
}

interface Counts {
  readonly users: number
  readonly count: number
}

/** Page of a user address; what is no address of a user lies behind all of them. */
export const pageOfAddress = (address: bigint): number => Number(address >> PAGE_SHIFT)
export const addressOfPage = (page: number): bigint => BigInt(page) << PAGE_SHIFT

/** The lock of an address space, as tasks name it. */
export const mmapSem = (mm: string): string => `mmap_sem ${mm}`

const hashOfAreas = (areas: Areas): number =>
  keyOf(...areas.flatMap((a) => [a.first, a.end, a.flags, a.file ?? a.backing, a.hasAnon ? 1 : 0]))

const hashOfGathers = (gathers: ReadonlyMap<string, Gather>): number =>
  keyOf(
    ...[...gathers]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([task, g]) => [
        ...[task, g.first, g.end, ...g.pages],
        ...g.tables.map((t) => t.page),
        hashOfAreas(g.areas),
      ]),
  )

/** An address space: mm_struct, with its areas, page tables and notifiers. The steps that change it are in the files beside. */
export class MmStruct implements Mm {
  readonly name: string
  readonly pgd: number
  readonly #parts: MmParts
  readonly #counts: Held<Counts>
  readonly #areas: Held<Areas>
  readonly #notifiers: Held<readonly MmuNotifier[]>
  /** Whether its end calls the notifiers just now. */
  readonly #isReleasing: Held<boolean>
  readonly #gathers: Held<ReadonlyMap<string, Gather>>

  /** @param pgd a page of zeros, its own from now on */
  constructor(name: string, pgd: number, parts: MmParts) {
    const { journal } = parts
    this.name = name
    this.pgd = pgd
    this.#parts = parts
    this.#counts = new Held<Counts>(journal, `mm ${name}`, { users: 0, count: 0 }, (c) =>
      keyOf(c.users, c.count),
    )
    this.#areas = new Held<Areas>(journal, `areas of ${name}`, [], hashOfAreas)
    this.#notifiers = new Held<readonly MmuNotifier[]>(journal, `notifiers of ${name}`, [], (all) =>
      keyOf(...all.map((n) => n.name)),
    )
    this.#isReleasing = new Held<boolean>(journal, `releasing ${name}`, false, (is) => (is ? 1 : 0))
    this.#gathers = new Held<ReadonlyMap<string, Gather>>(
      journal,
      `gathers of ${name}`,
      new Map(),
      hashOfGathers,
    )
  }

  /** mm_init: one user, who is the one of the count; the upper half of its table is the kernel's. */
  begin(): void {
    const { tables, kernelPgd } = this.#parts
    this.recordTable(this.pgd, LEVELS, 1)
    for (let index = ENTRIES / 2; index < ENTRIES; index++) {
      tables.loadAt(kernelPgd, index)
      if (tables.isPresent) tables.storeAt(this.pgd, index, tables.hi, tables.lo)
    }
    this.#become({ users: 1, count: 1 }, 'mm_init')
  }

  get users(): number {
    return this.#counts.value.users
  }

  get count(): number {
    return this.#counts.value.count
  }

  get areas(): Areas {
    return this.#areas.value
  }

  set areas(areas: Areas) {
    this.#areas.set(areas)
  }

  /** In the order in which they are called: the newest first. */
  get notifiers(): readonly MmuNotifier[] {
    return this.#notifiers.value
  }

  get isReleasing(): boolean {
    return this.#isReleasing.value
  }

  set isReleasing(is: boolean) {
    this.#isReleasing.set(is)
  }

  /** All notifiers are off the list. */
  forgetAll(): void {
    if (this.notifiers.length > 0) this.#notifiers.set([])
  }

  /** Whose page tables records call them. */
  get tableOwner(): string {
    return `page table of ${this.name}`
  }

  get(): boolean {
    if (this.users === 0) return false
    this.#become({ users: this.users + 1, count: this.count }, 'mmget_not_zero')
    return true
  }

  /** @param why what the record says: `exit` where its process gives it up */
  put(why = 'mmput'): readonly Work[] {
    assert(this.users > 0, `${this.name} has users`)
    this.#become({ users: this.users - 1, count: this.count }, why)
    return this.users === 0 ? [work('exit_mmap', this.name)] : []
  }

  grab(): void {
    this.#become({ users: this.users, count: this.count + 1 }, 'mmgrab')
  }

  drop(): void {
    assert(this.count > 0, `somebody has ${this.name}`)
    this.#become({ users: this.users, count: this.count - 1 }, 'mmdrop')
    if (this.count > 0) return
    this.#parts.dropped(this.name)
    this.recordTable(this.pgd, LEVELS, 0)
    this.#parts.pages.free(this.pgd, 0)
  }

  register(notifier: MmuNotifier): number {
    assert(this.users > 0, `${this.name} has users`)
    this.grab()
    this.#notifiers.set([notifier, ...this.notifiers])
    this.#notified(notifier.name, 'register')
    return 0
  }

  /** The notifier is called before it is off the list, as Linux does: who ends the address space meanwhile may call it as well. */
  unregister(notifier: MmuNotifier): readonly Work[] {
    this.#notified(notifier.name, 'unregister')
    const rest = [work('mmu_notifier_unregister', this.name, notifier.name)]
    return this.notifiers.includes(notifier) ? [...this.release(notifier), ...rest] : rest
  }

  /** It is off the list. */
  forget(notifier: string): void {
    const left = this.notifiers.filter((n) => n.name !== notifier)
    if (left.length < this.notifiers.length) this.#notifiers.set(left)
  }

  /** Calls a notifier: the address space ends, or it leaves. */
  release(notifier: MmuNotifier): readonly Work[] {
    this.#notified(notifier.name, 'release')
    return notifier.release()
  }

  invalidateRange(notifier: MmuNotifier, start: bigint, end: bigint): readonly Work[] {
    this.#notified(notifier.name, 'invalidate_range', start, end)
    return notifier.invalidateRange(start, end)
  }

  changePte(notifier: MmuNotifier, address: bigint): readonly Work[] {
    this.#notified(notifier.name, 'change_pte', address, address + (1n << PAGE_SHIFT))
    return notifier.changePte(address)
  }

  findVma(address: bigint, canGrow: boolean): Vma | undefined {
    const page = pageOfAddress(address)
    const area = areaAt(this.areas, page)
    if (area !== undefined || !canGrow) return area
    const grown = grownStack(this.areas, page)
    const before = findArea(this.areas, page)
    if (grown === undefined || before === undefined) return undefined
    this.areas = this.areas.map((a) => (a === before ? grown : a))
    this.recordArea(grown.first, before.first, grown.flags, 1)
    return grown
  }

  handleFault(address: bigint, isWrite: boolean): readonly Work[] {
    return [work('handle_mm_fault', this.name, pageOfAddress(address), isWrite ? 1 : 0)]
  }

  /** What a task has gathered here. */
  gathered(task: string): Gather {
    return this.#gathers.value.get(task) ?? EMPTY_GATHER
  }

  /** @param gather undefined: nothing is left of it */
  gather(task: string, gather: Gather | undefined): void {
    const gathers = new Map(this.#gathers.value)
    if (gather === undefined) gathers.delete(task)
    else gathers.set(task, gather)
    this.#gathers.set(gathers)
  }

  /** It has an area more. */
  addArea(areas: Areas, { first, end, flags }: Area): void {
    this.areas = areas
    this.recordArea(first, end, flags, 1)
  }

  recordArea(first: number, end: number, flags: number, present: number): void {
    const { log, cause } = this.#parts.stage
    log.emit('mm.vma', cause, { mm: this.name, first, count: end - first, flags, present })
  }

  recordTable(page: number, level: number, state: number): void {
    const { log, cause } = this.#parts.stage
    log.emit('mm.table', cause, { mm: this.name, page, level, state })
  }

  recordFault(page: number, write: number, result: string): void {
    const { log, cause } = this.#parts.stage
    log.emit('mm.fault', cause, { mm: this.name, address: addressOfPage(page), write, result })
  }

  #notified(notifier: string, call: string, start = 0n, end = 0n): void {
    const { log, cause } = this.#parts.stage
    log.emit('mm.notify', cause, { mm: this.name, notifier, call, start, end })
  }

  #become(counts: Counts, why: string): void {
    this.#counts.set(counts)
    const { log, cause } = this.#parts.stage
    log.emit('mm.users', cause, { mm: this.name, ...counts, why })
  }
}
