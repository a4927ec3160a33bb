import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { hiOf, hiOfNumber, loOf, loOfNumber } from '../bits/u64.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'
import type { DmaDir, HwTable, LentEntries } from './hw-table.ts'
import type { TableGeometry } from './ioda-geometry.ts'
import { type LevelParts, LevelTree, NO_PAGE } from './level-tree.ts'
import { SwapRun } from './swap-run.ts'
import { TCE_BYTES, TCE_PERM, TCE_READ, TCE_WRITE } from './tce-entry.ts'

const SET = KIND['hw.set']
const TABLE = KIND['hw.table']
const REF = KIND['hw.ref']
const CORRUPT = KIND['memory.corrupt']
/** Pages of 4 KiB in 2^32 bytes. */
const PAGES_OF_4_GIB = 2 ** 20
/** Whoever caches entries of a table: the PEs that it is programmed into. */
export interface TableUser {
  /** Forgets absolute entries [entry, entry + count), and `calls - 1` times as many behind them. */
  forget(table: MultiLevelTable, entry: number, count: number, calls: number): void
}

/** What the hardware tables of a host share. */
export interface HwTableParts extends LevelParts {
  /** The number of the next table, or of the next life of a window: one counter for the machine, guests included. */
  readonly nextTable: () => number
  /** The kernel stops at an assertion of its own; nothing is done then. */
  readonly onBug?: (why: string) => void
}

export interface HwTableShape {
  readonly geometry: TableGeometry
  readonly pageShift: number
  /** Bus address of the first entry. */
  readonly busOffset: bigint
  /** What its owner was charged; 0 for a table of the kernel's own. */
  readonly allocatedBytes: number
  readonly hasUserView: boolean
  /** Only the user that was linked last hears of `kill` (P7IOC). */
  readonly tellsFirstOnly?: boolean
}

/**
 * A TCE table of one to five levels in the memory of the host, and its mirror with user addresses.
 *
 * Nothing checks an entry against the table: what lies outside is walked as the kernel walks it, and where a leaf is
 * reached a write there becomes a `memory.corrupt` record at the computed address and is not done.
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda-tce.c)
 *
 * @example
 * const table = MultiLevelTable.create(parts, { geometry, pageShift: 16, busOffset: 0n, ... })
 * table.xchg(5, 0x100000, 3) // 0
 * table.kill(5, 1)
 */
export class MultiLevelTable implements HwTable {
  readonly number: number
  readonly pageShift: number
  readonly offset: number
  readonly entries: number
  readonly levels: number
  readonly allocatedBytes: number
  readonly hasUserView: boolean
  /** log2 of the entries in one level. */
  readonly levelShift: number
  /** 4 KiB host page of the first level. */
  readonly rootPage: number
  oldHpaPage = 0
  oldDir: DmaDir = 0
  userHi = 0
  userLo = 0
  /** The entry that `load` found. */
  tceHi = 0
  tceLo = 0
  readonly #parts: HwTableParts
  readonly #stage: Stage
  readonly #tces: LevelTree
  readonly #view: LevelTree | undefined
  readonly #run: SwapRun
  #isRunning = false
  readonly #tellsFirstOnly: boolean
  /** Who was lent words last: the levels remember the way to those only. */
  #lentTo: LentEntries | undefined
  readonly #alignMask: number
  readonly #references: Cells
  /** The one linked last comes first. */
  #users: readonly TableUser[] = []

  private constructor(
    parts: HwTableParts,
    shape: HwTableShape,
    tces: LevelTree,
    view: LevelTree | undefined,
  ) {
    const { geometry, pageShift } = shape
    this.number = parts.nextTable()
    this.pageShift = pageShift
    this.offset = Number(shape.busOffset >> BigInt(pageShift))
    this.entries = geometry.entries
    this.levels = geometry.levels
    this.levelShift = geometry.levelShift
    this.allocatedBytes = shape.allocatedBytes
    this.hasUserView = shape.hasUserView
    this.rootPage = tces.rootPage
    this.#parts = parts
    this.#stage = parts.host.stage
    this.#tces = tces
    this.#view = view
    this.#run = new SwapRun(pageShift)
    this.#tellsFirstOnly = shape.tellsFirstOnly ?? false
    this.#alignMask = pageShift > 43 ? -1 : 2 ** (pageShift - 12) - 1
    this.#references = new Cells(parts.host.journal, keyOf('hw-table', this.number), 1)
    this.#references.set(0, 1)
  }

  /** A table with one reference and its first level (and that of the mirror), or -ENOMEM. */
  static create(parts: HwTableParts, shape: HwTableShape): MultiLevelTable | number {
    const tces = LevelTree.create(parts, shape.geometry)
    if (tces === undefined) return ERRNO_CODES.ENOMEM
    const view = shape.hasUserView ? LevelTree.create(parts, shape.geometry) : undefined
    if (shape.hasUserView && view === undefined) {
      tces.free()
      return ERRNO_CODES.ENOMEM
    }
    const table = new MultiLevelTable(parts, shape, tces, view)
    table.#recordNew(shape.busOffset)
    return table
  }

  xchg(entry: number, hpaPage: number, dir: DmaDir): number {
    if ((hpaPage & this.#alignMask) !== 0) {
      this.#parts.onBug?.('pnv_tce_xchg: the address is no multiple of the IOMMU page')
      return ERRNO_CODES.OK
    }
    const slot = entry - this.offset
    this.oldHpaPage = 0
    this.oldDir = 0
    if (!this.#tces.find(slot, dir !== 0)) return dir === 0 ? ERRNO_CODES.OK : ERRNO_CODES.ENOMEM
    if (this.#tces.slotPage === NO_PAGE) {
      this.#corrupt(this.#tces, 'tce')
      return ERRNO_CODES.OK
    }
    const perm = (dir & TCE_WRITE) !== 0 ? dir | TCE_READ : dir
    this.#replace(slot, (hpaPage / PAGES_OF_4_GIB) | 0, (hpaPage << 12) | perm)
    this.oldHpaPage = (this.tceHi >>> 0) * PAGES_OF_4_GIB + (this.tceLo >>> 12)
    this.oldDir = (this.tceLo & TCE_PERM) as DmaDir
    return ERRNO_CODES.OK
  }

  reaches(entry: number): boolean {
    return this.#tces.find(entry - this.offset, false)
  }

  kill(entry: number, count: number, calls = 1): void {
    const users = this.#users
    const told = this.#tellsFirstOnly ? Math.min(1, users.length) : users.length
    for (let i = 0; i < told; i++) (users[i] as TableUser).forget(this, entry, count, calls)
  }

  lend(slot: number, into: LentEntries): boolean {
    const tces = this.#tces
    const view = this.#view
    if (view === undefined || slot < 0 || slot >= this.entries) return false
    const count = Math.min(tces.lend(slot), this.entries - slot)
    const users = count === 0 ? 0 : view.lend(slot)
    if (users === 0) return false
    this.#lentTo = into
    into.start = slot
    into.end = slot + Math.min(count, users)
    into.tces = tces.words
    into.tceCell = tces.cell
    into.users = view.words
    into.userCell = view.cell
    return true
  }

  isLent(entries: LentEntries): boolean {
    return this.#lentTo === entries && this.#tces.isLent && this.#view?.isLent === true
  }

  note(slot: number, beforeHi: number, beforeLo: number, hi: number, lo: number): void {
    if (!this.#run.takes(slot, beforeHi, beforeLo, hi, lo)) this.#startRun(slot, beforeHi, beforeLo, hi, lo)
  }

  /** Reads an entry into `tceHi` and `tceLo`: 0 where its level is missing or it lies outside the table. */
  load(entry: number): void {
    this.tceHi = 0
    this.tceLo = 0
    if (!this.#tces.find(entry - this.offset, false) || this.#tces.slotPage === NO_PAGE) return
    const tces = this.#tces
    tces.load()
    this.tceHi = tces.hi
    this.tceLo = tces.lo
  }

  beginRun(): void {
    this.#isRunning = true
    this.#keepLeaves(true)
  }

  endRun(): void {
    this.#isRunning = false
    this.#keepLeaves(false)
    this.#record()
  }

  /** Entries [entry, entry + count) become 0; those of missing levels are passed over. No cache hears of it. */
  clear(entry: number, count: number): void {
    const tces = this.#tces
    const end = entry - this.offset + count
    this.beginRun()
    for (let slot = entry - this.offset; slot < end; ) {
      if (!tces.find(slot, false)) {
        slot = (Math.floor(slot / tces.missingSlots) + 1) * tces.missingSlots
        continue
      }
      if (tces.slotPage === NO_PAGE) this.#corrupt(tces, 'tce')
      else this.#replace(slot, 0, 0)
      slot++
    }
    this.endRun()
  }

  userSlot(entry: number, alloc: boolean): boolean {
    const view = this.#view
    this.userHi = 0
    this.userLo = 0
    if (view === undefined || !view.find(entry - this.offset, alloc)) return false
    if (view.slotPage === NO_PAGE) return true
    view.load()
    this.userHi = view.hi
    this.userLo = view.lo
    return true
  }

  setUser(hi: number, lo: number): void {
    const view = this.#view
    assert(view !== undefined, 'a slot was found')
    if (view.slotPage === NO_PAGE) this.#corrupt(view, 'userspace address')
    else view.store(hi, lo)
  }

  /** Where a level above the leaves is missing, so are all of its leaves: the kernel passes over one after the other. */
  userGap(entry: number): number {
    const view = this.#view
    if (this.levels === 1 || view === undefined || view.find(entry - this.offset, false)) return 0
    const { missingSlots } = view
    const gap = this.offset % missingSlots === 0 ? missingSlots : 2 ** this.levelShift
    return gap - (entry % gap)
  }

  emptyRun(entry: number, most: number): number {
    const tces = this.#tces
    if (most <= 0 || !tces.find(entry - this.offset, false) || tces.slotPage === NO_PAGE) return 0
    return tces.zeros(most)
  }

  get references(): number {
    return this.#references.get(0)
  }

  get(holder: string): void {
    this.#refer(holder, 1)
  }

  put(holder: string): void {
    this.#refer(holder, -1)
    if (this.references > 0) return
    this.#tces.free()
    this.#view?.free()
  }

  #refer(holder: string, delta: 1 | -1): void {
    assert(this.references > 0, `table ${this.number} lives`)
    this.#references.set(0, this.references + delta)
    const { log, cause } = this.#stage
    log.append(REF, cause, this.number, delta, this.references, log.names.intern(holder))
  }

  #recordNew(busOffset: bigint): void {
    const { log, cause } = this.#stage
    const { number, pageShift, levels, entries, allocatedBytes: bytes } = this
    const [lo, hi] = [loOf(busOffset), hiOf(busOffset)]
    const [entriesLo, entriesHi] = [loOfNumber(entries), hiOfNumber(entries)]
    const [bytesLo, bytesHi] = [loOfNumber(bytes), hiOfNumber(bytes)]
    log.append(TABLE, cause, number, pageShift, levels, lo, hi, entriesLo, entriesHi, bytesLo, bytesHi)
  }

  /** A PE uses the table from now on; it hears of `kill` before those that were there. */
  link(user: TableUser): void {
    this.#setUsers([user, ...this.#users])
  }

  /** False where it did not use it. */
  unlink(user: TableUser): boolean {
    const at = this.#users.indexOf(user)
    if (at < 0) return false
    this.#setUsers(this.#users.filter((_, i) => i !== at))
    return true
  }

  #setUsers(users: readonly TableUser[]): void {
    const before = this.#users
    this.#users = users
    this.#parts.host.journal.change(keyOf('hw-table-users', this.number), before.length, users.length, () => {
      this.#users = before
    })
  }

  #keepLeaves(on: boolean): void {
    this.#tces.keepLeaf(on)
    this.#view?.keepLeaf(on)
  }

  /**
   * Writes the slot that was found last, with its record; what was there is in `tceHi` and `tceLo`. An empty entry
   * that stays so is no news.
   */
  #replace(slot: number, hi: number, lo: number): void {
    const tces = this.#tces
    tces.swap(hi, lo)
    const { hi: wordHi, lo: wordLo } = tces
    this.tceHi = wordHi
    this.tceLo = wordLo
    if ((wordHi | wordLo | hi | lo) === 0) return
    if (this.#stage.log.on && !this.#run.takes(slot, wordHi, wordLo, hi, lo))
      this.#startRun(slot, wordHi, wordLo, hi, lo)
  }

  /** A swap that does not go on with the run. */
  #startRun(slot: number, beforeHi: number, beforeLo: number, hi: number, lo: number): void {
    this.#record()
    this.#run.start(slot, beforeHi, beforeLo, hi, lo)
    if (!this.#isRunning) this.#record()
  }

  /** The record of the run; nothing is in it afterwards. */
  #record(): void {
    const { log, cause } = this.#stage
    const { first, count, before, after } = this.#run
    if (count === 0) return
    this.#run.count = 0
    const at = log.begin(SET, cause)
    const { lanes } = log
    lanes[at] = this.number
    lanes[at + 1] = loOfNumber(first)
    lanes[at + 2] = hiOfNumber(first)
    lanes[at + 3] = loOfNumber(count)
    lanes[at + 4] = hiOfNumber(count)
    lanes[at + 5] = before.lo
    lanes[at + 6] = before.hi
    lanes[at + 7] = before.step
    lanes[at + 8] = after.lo
    lanes[at + 9] = after.hi
    lanes[at + 10] = after.step
    log.commit(SET)
  }

  #corrupt(tree: LevelTree, what: string): void {
    this.#record()
    const { log, cause } = this.#stage
    const { strayAddress: address, strayIndex } = tree
    const { names } = log
    const [lo, hi] = [loOf(address), hiOf(address)]
    const index = BigInt.asUintN(64, BigInt(strayIndex))
    const [indexLo, indexHi] = [loOf(index), hiOf(index)]
    const [space, meant] = [names.intern('hpa'), names.intern(what)]
    log.append(CORRUPT, cause, space, lo, hi, TCE_BYTES, meant, this.number, indexLo, indexHi)
  }
}
