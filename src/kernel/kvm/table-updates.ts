import { H_CODES } from '../../bits/codes.ts'
import { hiOfPage, loOfPage, POWERS_OF_TWO, pageOf } from '../../bits/u64.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import type { GuestMemory } from '../../memory/guest-memory.ts'
import type { Host } from '../../memory/host.ts'
import type { DmaDir, HwTable } from '../../table/hw-table.ts'
import type { MmIommu } from '../mm-port.ts'
import { NO_ANSWER } from '../ports.ts'
import { EntryUpdates, type TableUpdatesParts, type UpdateErrata } from './entry-updates.ts'
import { LentPages } from './lent-pages.ts'
import type { TceList } from './tce-list.ts'

const { H_SUCCESS, H_TOO_HARD } = H_CODES
const PERM = 3
const PAGE_4K_SHIFT = 12
const PAGE_4K_MASK = 2 ** PAGE_4K_SHIFT - 1

/**
 * How hypercalls change the hardware tables behind a guest's window: one guest page is one or more hardware pages.
 *
 * `entry` is the absolute number of a guest page; user addresses are in lanes. Results are H_SUCCESS, H_TOO_HARD,
 * or NO_ANSWER where the kernel stopped. Nothing here allocates JavaScript objects.
 * (Linux v6.1 arch/powerpc/kvm/book3s_64_vio.c; real mode: v5.17 book3s_64_vio_hv.c)
 *
 * @example
 * updates.mapPage(table, 24, 0x8_0000_0001, uaHi, uaLo, 3) // 256 entries of 64 KiB, and one kill
 */
export class TableUpdates {
  readonly #host: Host
  readonly #memory: MmIommu
  readonly #mm: AddressSpace
  readonly #errata: UpdateErrata
  readonly #entries: EntryUpdates
  readonly #lent: LentPages
  /** What the guest page that failed was answered, after `unmapPages` and `mapList`. */
  result: number = H_SUCCESS
  // What is going on: the table, hardware pages of a guest page, and whether they can be changed the short way.
  #table!: HwTable
  #count = 1
  #isLent = false
  /** Guest pages that caches are to be told of, and the slot of the first. */
  #killed = 0
  #killSlot = 0

  constructor(parts: TableUpdatesParts) {
    this.#host = parts.host
    this.#memory = parts.memory
    this.#mm = parts.mm
    this.#errata = parts.errata
    this.#entries = new EntryUpdates(parts)
    this.#lent = new LentPages(parts.memory, parts.mm, parts.host.stage.log)
  }

  /**
   * Writes a guest page that is one hardware page, where that takes no more than a few loads and stores: mapped with a
   * direction, taken back without. False where nothing was done. All of it is one record of each kind: no run.
   */
  writeOne(
    table: HwTable,
    guestShift: number,
    entry: number,
    uaHi: number,
    uaLo: number,
    dir: DmaDir,
  ): boolean {
    if (guestShift !== table.pageShift || this.#errata.killsGuestNumber || !this.#canLend(table)) return false
    const lent = this.#lent
    const slot = entry - table.offset
    lent.begin(table)
    if (!(dir === 0 ? lent.unmapOne(slot) : lent.mapOne(slot, uaHi, uaLo, dir))) return false
    table.kill(entry, 1, 1)
    return true
  }

  /** Maps the hardware pages of a guest page, up to the first that fails. Caches are told of all of them. */
  mapPage(
    table: HwTable,
    guestShift: number,
    entry: number,
    uaHi: number,
    uaLo: number,
    dir: DmaDir,
  ): number {
    this.#begin(table, guestShift)
    const result = this.#mapGuestPage(entry * this.#count - table.offset, uaHi, uaLo, dir)
    this.#end()
    return result
  }

  /** Takes back the hardware pages of a guest page, up to the first that fails. Caches are told of all of them. */
  unmapPage(table: HwTable, guestShift: number, entry: number): number {
    this.unmapPages(table, guestShift, entry, 1)
    return this.result
  }

  /** `unmapPage` for guest pages [entry, entry + npages), up to the first that fails: how many did not. */
  unmapPages(table: HwTable, guestShift: number, entry: number, npages: number): number {
    this.#begin(table, guestShift)
    const count = this.#count
    const first = entry * count - table.offset
    this.result = H_SUCCESS
    let done = 0
    while (done < npages) {
      const at = first + done * count
      // Guest pages that are taken back whole need no look one by one.
      const slots = this.#isLent ? this.#unmapLent(at, (npages - done) * count) : 0
      const whole = Math.floor(slots / count)
      if (whole > 0) this.#kill(at, whole)
      done += whole
      if (done === npages) break
      this.result = this.#unmapGuestPage(first + done * count)
      if (this.result !== H_SUCCESS) break
      done++
    }
    this.#end()
    return done
  }

  /**
   * Puts the first `npages` TCEs of a list from `entry` on, up to the first that fails: how many did not. One without
   * permissions takes its page back.
   */
  mapList(table: HwTable, guestShift: number, entry: number, list: TceList, npages: number): number {
    const { tces, uas } = list
    this.#begin(table, guestShift)
    const count = this.#count
    let slot = entry * count - table.offset
    this.result = H_SUCCESS
    let done = 0
    for (; done < npages; done++) {
      if (this.#isLent && count === 1) {
        const quick = this.#lent.mapList(slot, list, done, npages)
        if (quick > 0) this.#kill(slot, quick)
        done += quick
        slot += quick
        if (done === npages) break
      }
      const dir = ((tces[2 * done + 1] as number) & PERM) as DmaDir
      this.result =
        dir === 0
          ? this.#unmapGuestPage(slot)
          : this.#mapGuestPage(slot, uas[2 * done] as number, uas[2 * done + 1] as number, dir)
      if (this.result !== H_SUCCESS) break
      slot += count
    }
    this.#end()
    return done
  }

  /** A hypercall begins: what was known of regions is not known any more. */
  enter(): void {
    this.#lent.refresh()
  }

  /** `TceList.check` for a table. */
  checkList(table: HwTable, guest: GuestMemory, guestShift: number, list: TceList, npages: number): number {
    return list.check(this.#lent, guest, guestShift, table.pageShift, npages)
  }

  /** Whether memory for an IOMMU page at a user address is registered. */
  isRegistered(uaHi: number, uaLo: number, pageShift: number): boolean {
    if (this.#lent.holds(uaHi, uaLo, pageShift)) return true
    const memory = this.#memory
    const region = memory.lookup(this.#mm, uaHi, uaLo, POWERS_OF_TWO[pageShift] as number)
    return region >= 0 && memory.toHpa(region, uaHi, uaLo, pageShift) === 0
  }

  /** What a hypercall that could not map a guest page does with those of its hardware pages that it had mapped. */
  clearTce(table: HwTable, guestShift: number, entry: number): void {
    const { clearsGuestNumber, clearForgets } = this.#errata
    this.#begin(table, clearsGuestNumber ? table.pageShift : guestShift)
    const first = entry * this.#count
    for (let at = first; at < first + this.#count; at++) {
      if (clearForgets) this.#entries.swapOut(table, at)
      else this.#entries.unmap(table, at)
    }
    if (!clearForgets) this.#kill(first - table.offset, 1)
    this.#end()
  }

  /** What a hypercall tells the caches when it is through with `count` guest pages; only erratum `B2` does it here. */
  killGuestPages(table: HwTable, entry: number, count: number): void {
    if (this.#errata.killsGuestNumber) table.kill(entry, count)
  }

  #canLend(table: HwTable): boolean {
    return !this.#errata.killsEach && table.lend !== undefined && !this.#host.journal.on
  }

  /** The hardware pages of a guest page, by the slot of the first. */
  #mapGuestPage(slot: number, uaHi: number, uaLo: number, dir: DmaDir): number {
    const count = this.#count
    let result: number = H_SUCCESS
    let done = this.#isLent ? this.#lent.map(slot, count, uaHi, uaLo, dir) : 0
    while (done < count) {
      const more = this.#isLent && done > 0 ? this.#mapMore(slot, done, uaHi, uaLo, dir) : 0
      done += more
      if (more > 0) continue
      result = this.#isLent && this.#lent.isRefused ? H_TOO_HARD : this.#mapNext(slot, done, uaHi, uaLo, dir)
      if (result !== H_SUCCESS) break
      done++
    }
    if (result !== NO_ANSWER) this.#kill(slot, 1)
    return result
  }

  /** One hardware page of a guest page, entry by entry. */
  #mapNext(slot: number, done: number, uaHi: number, uaLo: number, dir: DmaDir): number {
    const table = this.#table
    const page = this.#uaPageOf(done, uaHi, uaLo)
    const lo = loOfPage(page, PAGE_4K_SHIFT) | (uaLo & PAGE_4K_MASK)
    const hi = hiOfPage(page, PAGE_4K_SHIFT)
    const result = this.#entries.map(table, table.offset + slot + done, hi, lo, dir)
    this.#lent.refresh()
    return result
  }

  /** Those behind it, as far as the short way goes. */
  #mapMore(slot: number, done: number, uaHi: number, uaLo: number, dir: DmaDir): number {
    const page = this.#uaPageOf(done, uaHi, uaLo)
    const lo = loOfPage(page, PAGE_4K_SHIFT) | (uaLo & PAGE_4K_MASK)
    return this.#lent.map(slot + done, this.#count - done, hiOfPage(page, PAGE_4K_SHIFT), lo, dir)
  }

  /** 4 KiB page of the user address behind a hardware page. */
  #uaPageOf(done: number, uaHi: number, uaLo: number): number {
    const step = POWERS_OF_TWO[this.#table.pageShift - PAGE_4K_SHIFT] as number
    return pageOf(uaHi, uaLo, PAGE_4K_SHIFT) + done * step
  }

  /** Slots [slot, slot + count) are taken back as far as the short way goes: how many. */
  #unmapLent(slot: number, count: number): number {
    let done = 0
    while (done < count) {
      const more = this.#lent.unmap(slot + done, count - done)
      if (more === 0) break
      done += more
    }
    return done
  }

  #unmapGuestPage(slot: number): number {
    const count = this.#count
    const table = this.#table
    const lent = this.#lent
    let result: number = H_SUCCESS
    for (let done = 0; done < count; done++) {
      if (this.#isLent) done += this.#unmapLent(slot + done, count - done)
      if (done >= count) break
      result = this.#entries.unmap(table, table.offset + slot + done)
      lent.refresh()
      if (result !== H_SUCCESS) break
    }
    this.#kill(slot, 1)
    return result
  }

  /** Caches are told of so many guest pages, each for itself: when what is going on is through. */
  #kill(slot: number, pages: number): void {
    const { killsGuestNumber, killsEach } = this.#errata
    if (killsGuestNumber || killsEach) return
    if (this.#killed === 0) this.#killSlot = slot
    this.#killed += pages
  }

  /** Guest pages of a table are changed from here on. Each kill must find its entry recorded, so `#end` comes first. */
  #begin(table: HwTable, guestShift: number): void {
    this.#table = table
    this.#count = POWERS_OF_TWO[guestShift - table.pageShift] as number
    this.#isLent = this.#canLend(table)
    this.#lent.begin(table)
    this.#beginRun()
  }

  #end(): void {
    this.#endRun()
    if (this.#killed > 0) {
      const table = this.#table
      table.kill(table.offset + this.#killSlot, this.#count, this.#killed)
      this.#killed = 0
    }
  }

  /** With a kill for each entry there are no runs of entries. */
  #beginRun(): void {
    this.#memory.beginRun()
    if (!this.#errata.killsEach) this.#table.beginRun()
  }

  #endRun(): void {
    if (!this.#errata.killsEach) this.#table.endRun()
    this.#memory.endRun()
  }
}
