import { swap32 } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { DmaDir, HwTable, LentEntries } from '../../table/hw-table.ts'
import type { RecordLog } from '../../trace/record-log.ts'
import { DIRTY, frameOfCell, type MmIommu, type RegionLoan } from '../mm-port.ts'
import type { TceList } from './tce-list.ts'

const READS = 1
const WRITES = 2
const PERM = READS | WRITES
const PAGE_4K_SHIFT = 12
const PAGE_4K_MASK = 2 ** PAGE_4K_SHIFT - 1
/** 4 KiB pages in 2^32 bytes. */
const PAGES_OF_4_GIB = 2 ** 20
/** Permission bits in the lower lane of a big-endian word. */
const PERM_SHIFT = 24
/** Bound of the upper lanes of addresses in a region, from its first on. */
const INTO_MAX = 2 ** 11
const NONE = new Int32Array(0)

/**
 * The short way to change hardware entries one after the other: the words of a table and the region behind them are
 * lent, so that an entry is a few loads and stores. It does exactly what `TableUpdates` does entry by entry, where
 * nothing can fail; the first entry that needs more (a level that is missing, an entry that is overwritten, an address
 * of another region or of none) is left to the caller.
 *
 * @example
 * lent.begin(table)
 * const done = lent.map(slot, 256, uaHi, uaLo, 3) // entries that are mapped; the next one is the caller's
 */
export class LentPages {
  /** After `map` answered 0: another CPU gives the region back, so that it cannot get its first mapping. */
  isRefused = false
  /** 4 KiB page in its region that `holds` found. */
  page = 0
  readonly #memory: MmIommu
  readonly #mm: AddressSpace
  readonly #log: RecordLog
  #table: HwTable | undefined
  readonly #row: LentEntries = { start: 0, end: 0, tces: NONE, tceCell: 0, users: NONE, userCell: 0 }
  readonly #loan: RegionLoan = {
    region: -1,
    first: 0,
    pages: 0,
    pageShift: 0,
    subShift: 0,
    frames: NONE,
    counts: NONE,
    count: 0,
    version: 0,
  }

  constructor(memory: MmIommu, mm: AddressSpace, log: RecordLog) {
    this.#memory = memory
    this.#mm = mm
    this.#log = log
  }

  /** A table is changed from here on. */
  begin(table: HwTable): void {
    if (table !== this.#table || table.isLent?.(this.#row) !== true) this.#row.end = 0
    this.#table = table
    this.refresh()
  }

  /** Somebody else may have changed regions. */
  refresh(): void {
    const loan = this.#loan
    if (loan.version !== this.#memory.version) loan.region = -1
  }

  /** Whether memory for an IOMMU page of 2^pageShift bytes at a user address is registered. False: it may still be. */
  holds(uaHi: number, uaLo: number, pageShift: number): boolean {
    if (pageShift > 31 || (uaLo & PAGE_4K_MASK) !== 0) return false
    const page = this.#pageOf(uaHi, uaLo)
    this.page = page
    const loan = this.#loan
    return page >= 0 && pageShift <= loan.pageShift && page + (1 << (pageShift - PAGE_4K_SHIFT)) <= loan.pages
  }

  /** 4 KiB pages of the region that is lent. */
  get regionPages(): number {
    return this.#loan.pages
  }

  /** Maps slots [slot, slot + count) as far as they are empty and all is lent: how many. Poison (X2) is the caller's. */
  map(slot: number, count: number, uaHi: number, uaLo: number, dir: DmaDir): number {
    const table = this.#table as HwTable
    const { pageShift } = table
    this.isRefused = false
    // An entry without permissions that leads to page 0 of the host stays empty.
    if (dir === 0) return 0
    if (pageShift > 31 || (uaLo & PAGE_4K_MASK) !== 0 || !this.#reaches(slot)) return 0
    let page = this.#pageOf(uaHi, uaLo)
    const loan = this.#loan
    if (page < 0 || pageShift > loan.pageShift) return 0
    const row = this.#row
    const { tces, users } = row
    const { frames, subShift, counts, count: counter } = loan
    const step = 1 << (pageShift - PAGE_4K_SHIFT)
    const most = Math.min(count, row.end - slot, ((loan.pages - page) / step) | 0)
    const perm = (dir & WRITES) !== 0 ? dir | READS : dir
    const subMask = (1 << subShift) - 1
    const from = row.tceCell + 2 * (slot - row.start)
    let cell = from
    let user = row.userCell + 2 * (slot - row.start)
    if (counts[counter] === 1 && most > 0) {
      const hpaPage = (frameOfCell(frames[page >>> subShift] as number) << subShift) | (page & subMask)
      const isPlain = ((tces[cell] as number) | (tces[cell + 1] as number) | (hpaPage & (step - 1))) === 0
      this.isRefused = isPlain && !this.#memory.takesFirst()
      if (!isPlain || this.isRefused) return 0
    }
    let hi = uaHi
    let lo = uaLo
    // Upper lanes hardly ever change: they are turned round once.
    let userHiWord = swap32(hi)
    let tceHi = -1
    let tceHiWord = -1
    let done = 0
    // No call in here: what was read before the loop need not be read again.
    for (; done < most; done++) {
      if (((tces[cell] as number) | (tces[cell + 1] as number)) !== 0) break
      const frame = frameOfCell(frames[page >>> subShift] as number)
      const hpaPageLo = (frame << subShift) | (page & subMask)
      if ((hpaPageLo & (step - 1)) !== 0) break
      const high = frame >>> (20 - subShift)
      if (high !== tceHi) {
        tceHi = high
        tceHiWord = swap32(high)
      }
      tces[cell] = tceHiWord
      tces[cell + 1] = swap32((hpaPageLo << PAGE_4K_SHIFT) | perm)
      users[user] = userHiWord
      users[user + 1] = swap32(lo)
      cell += 2
      user += 2
      page += step
      lo = (lo + (step << PAGE_4K_SHIFT)) | 0
      if (lo >>> PAGE_4K_SHIFT < step) {
        // The addition went over the end of the lane.
        hi = (hi + 1) | 0
        userHiWord = swap32(hi)
      }
    }
    this.#countMapped(slot, from, done)
    return done
  }

  /** `map` for one slot, whose region has mappings: false where it is the caller's. */
  mapOne(slot: number, uaHi: number, uaLo: number, dir: DmaDir): boolean {
    const row = this.#row
    const table = this.#table as HwTable
    if ((slot < row.start || slot >= row.end) && !this.#reaches(slot)) return false
    const { pageShift } = table
    if (!this.holds(uaHi, uaLo, pageShift)) return false
    const { frames, subShift, counts, count, region } = this.#loan
    const page = this.page
    const { tces, users } = row
    const cell = row.tceCell + 2 * (slot - row.start)
    const frame = frameOfCell(frames[page >>> subShift] as number)
    const hpaPageLo = (frame << subShift) | (page & ((1 << subShift) - 1))
    const unaligned = hpaPageLo & ((1 << (pageShift - PAGE_4K_SHIFT)) - 1)
    const live = counts[count] as number
    if (((tces[cell] as number) | (tces[cell + 1] as number) | unaligned) !== 0 || live === 1) return false
    const perm = (dir & WRITES) !== 0 ? dir | READS : dir
    const hi = frame >>> (20 - subShift)
    const lo = (hpaPageLo << PAGE_4K_SHIFT) | perm
    const user = row.userCell + 2 * (slot - row.start)
    const isOn = this.#log.on
    if (isOn) this.#memory.beforeMapped(region, 1)
    tces[cell] = swap32(hi)
    tces[cell + 1] = swap32(lo)
    users[user] = swap32(uaHi)
    users[user + 1] = swap32(uaLo)
    counts[count] = live + 1
    if (isOn) {
      table.note?.(slot, 0, 0, hi, lo)
      this.#memory.noteMapped(region, 1)
    }
    return true
  }

  /** `unmap` for one slot: false where it is the caller's. */
  unmapOne(slot: number): boolean {
    const row = this.#row
    const table = this.#table as HwTable
    if ((slot < row.start || slot >= row.end) && !this.#reaches(slot)) return false
    const { tces, users } = row
    const cell = row.tceCell + 2 * (slot - row.start)
    const tceHi = tces[cell] as number
    const tceLo = tces[cell + 1] as number
    if ((tceHi | tceLo) === 0) return true
    const perm = (tceLo >>> PERM_SHIFT) & PERM
    const user = row.userCell + 2 * (slot - row.start)
    const uaHi = swap32(users[user] as number)
    const uaLo = swap32(users[user + 1] as number)
    if (perm === 0 || !this.holds(uaHi, uaLo, table.pageShift)) return false
    const { frames, subShift, counts, count, region } = this.#loan
    const live = counts[count] as number
    if (live < 2) return false
    if ((perm & WRITES) !== 0) {
      const index = this.page >>> subShift
      frames[index] = (frames[index] as number) | DIRTY
    }
    tces[cell] = 0
    tces[cell + 1] = 0
    users[user] = 0
    users[user + 1] = 0
    const isOn = this.#log.on
    if (isOn) {
      table.note?.(slot, swap32(tceHi), swap32(tceLo), 0, 0)
      this.#memory.beforeMapped(region, -1)
    }
    counts[count] = live - 1
    if (isOn) this.#memory.noteMapped(region, -1)
    return true
  }

  /**
   * `map` for slots in a row, each with an address of its own: those of a list from `from` on, as long as they are
   * mapped, empty, and all of one region. How many.
   */
  mapList(slot: number, { tces: list, uas }: TceList, from: number, npages: number): number {
    const { pageShift } = this.#table as HwTable
    if (from >= npages || !this.#reaches(slot)) return 0
    if (!this.holds(uas[2 * from] as number, uas[2 * from + 1] as number, pageShift)) return 0
    const { frames, subShift, counts, count, pages, first } = this.#loan
    if (counts[count] === 1) return 0
    const firstHi = Math.floor(first / PAGES_OF_4_GIB) | 0
    const firstLo = (first % PAGES_OF_4_GIB) | 0
    const row = this.#row
    const { tces, users } = row
    const step = 1 << (pageShift - PAGE_4K_SHIFT)
    const subMask = (1 << subShift) - 1
    const most = Math.min(npages - from, row.end - slot)
    const start = row.tceCell + 2 * (slot - row.start)
    let cell = start
    let user = row.userCell + 2 * (slot - row.start)
    let lane = 2 * from
    let done = 0
    for (; done < most; done++, cell += 2, user += 2, lane += 2) {
      const hi = uas[lane] as number
      const lo = uas[lane + 1] as number
      const dir = (list[lane + 1] as number) & PERM
      const into = (hi - firstHi) | 0
      if (dir === 0 || into < 0 || into >= INTO_MAX || (lo & PAGE_4K_MASK) !== 0) break
      const page = (into << 20) + (lo >>> PAGE_4K_SHIFT) - firstLo
      if (page < 0 || page + step > pages) break
      const frame = frameOfCell(frames[page >>> subShift] as number)
      const hpaPageLo = (frame << subShift) | (page & subMask)
      if (((tces[cell] as number) | (tces[cell + 1] as number) | (hpaPageLo & (step - 1))) !== 0) break
      tces[cell] = swap32(frame >>> (20 - subShift))
      tces[cell + 1] = swap32((hpaPageLo << PAGE_4K_SHIFT) | (dir === WRITES ? PERM : dir))
      users[user] = swap32(hi)
      users[user + 1] = swap32(lo)
    }
    this.#countMapped(slot, start, done)
    return done
  }

  /** Slots were mapped, if any: their words stand from `cell` on. What came before them is recorded first. */
  #countMapped(slot: number, cell: number, done: number): void {
    if (done === 0) return
    const { counts, count, region } = this.#loan
    const isOn = this.#log.on
    if (isOn) this.#memory.beforeMapped(region, 1)
    counts[count] = (counts[count] as number) + done
    if (!isOn) return
    const table = this.#table as HwTable
    const { tces } = this.#row
    for (let i = 0, at = cell; i < done; i++, at += 2)
      table.note?.(slot + i, 0, 0, swap32(tces[at] as number), swap32(tces[at + 1] as number))
    this.#memory.noteMapped(region, done)
  }

  /** Takes back slots [slot, slot + count), live or empty, as far as all is lent: how many. */
  unmap(slot: number, count: number): number {
    const table = this.#table as HwTable
    if (table.pageShift > 31 || !this.#reaches(slot)) return 0
    const row = this.#row
    const { tces, users } = row
    const most = Math.min(count, row.end - slot)
    const from = row.tceCell + 2 * (slot - row.start)
    const userFrom = row.userCell + 2 * (slot - row.start)
    for (let done = 0; done < most; ) {
      if (((tces[from + 2 * done] as number) | (tces[from + 2 * done + 1] as number)) === 0) {
        done++
        continue
      }
      const uaHi = swap32(users[userFrom + 2 * done] as number)
      const uaLo = swap32(users[userFrom + 2 * done + 1] as number)
      const page = (uaLo & PAGE_4K_MASK) === 0 ? this.#pageOf(uaHi, uaLo) : -1
      const next = page < 0 ? done : this.#take(page, slot, done, most)
      if (next === done) return done
      done = next
    }
    return most
  }

  /**
   * Takes back slots from `done` on up to `most` (from `slot` on), the first behind `page` of the region and each next
   * one behind the page after it, as far as they go on like that: where they end.
   */
  #take(page: number, slot: number, done: number, most: number): number {
    const table = this.#table as HwTable
    const { tces, tceCell, users, userCell, start } = this.#row
    const { frames, subShift, pages, counts, count: counter, region } = this.#loan
    const step = 1 << (table.pageShift - PAGE_4K_SHIFT)
    const from = tceCell + 2 * (slot + done - start)
    const userFrom = userCell + 2 * (slot + done - start)
    // One mapping always stays, and pages are whole.
    const count = Math.min(most - done, (counts[counter] as number) - 1, ((pages - page) / step) | 0)
    const userHi = users[userFrom] as number
    let ua = swap32(users[userFrom + 1] as number)
    let cell = from
    let user = userFrom
    let at = page
    let taken = 0
    for (; taken < count; taken++, cell += 2, user += 2, at += step) {
      const perm = ((tces[cell + 1] as number) >>> PERM_SHIFT) & PERM
      if (perm === 0 || users[user + 1] !== swap32(ua) || users[user] !== userHi) break
      if ((perm & WRITES) !== 0) {
        const index = at >>> subShift
        frames[index] = (frames[index] as number) | DIRTY
      }
      users[user] = 0
      users[user + 1] = 0
      ua = (ua + (step << PAGE_4K_SHIFT)) | 0
      if (ua >>> PAGE_4K_SHIFT < step) {
        // The addition went over the end of the lane: the next address is looked up.
        taken++
        break
      }
    }
    const isOn = this.#log.on && taken > 0
    for (let i = 0, word = from; isOn && i < taken; i++, word += 2) {
      table.note?.(slot + done + i, swap32(tces[word] as number), swap32(tces[word + 1] as number), 0, 0)
      // As entry by entry: the first one is recorded before counts are.
      if (i === 0) this.#memory.beforeMapped(region, -1)
    }
    counts[counter] = (counts[counter] as number) - taken
    if (isOn) this.#memory.noteMapped(region, -taken)
    for (let word = from; word < from + 2 * taken; word++) tces[word] = 0
    return done + taken
  }

  /** 4 KiB page of a user address in the region that is lent, which it may have to be first; below 0 where none is. */
  #pageOf(uaHi: number, uaLo: number): number {
    const loan = this.#loan
    const number = (uaHi >>> 0) * PAGES_OF_4_GIB + (uaLo >>> PAGE_4K_SHIFT)
    const page = number - loan.first
    if (loan.region >= 0 && page >= 0 && page < loan.pages) return page | 0
    return this.#memory.lend(this.#mm, uaHi, uaLo, loan) ? (number - loan.first) | 0 : -1
  }

  /** Whether the words of a slot are lent, which they may have to be first. */
  #reaches(slot: number): boolean {
    const row = this.#row
    if (slot >= row.start && slot < row.end) return true
    return this.#table?.lend?.(slot, row) ?? false
  }
}
