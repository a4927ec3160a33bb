import { Held } from '../../bits/held.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, POWERS_OF_TWO } from '../../bits/u64.ts'
import { NO_FRAME } from '../../memory/frame-table.ts'
import type { Host } from '../../memory/host.ts'
import { cellOf } from '../../memory/host-memory.ts'
import type { HwTable } from '../../table/hw-table.ts'
import { KIND } from '../../trace/event.ts'
import type { FileTarget, IoctlRefusal } from '../files.ts'
import type { GuestWindow } from './guest-window.ts'

const ENTRY_BYTES_SHIFT = 3
const INT32_MAX = 2 ** 31 - 1
const NO_WORDS = new Int32Array(0)
/** struct kvmppc_spapr_tce_table, before the addresses of its pages. Some configurations have a few bytes more. */
const RECORD_BYTES = 120
/** The largest piece of memory that the kernel gives out at once, with system pages of 4 KiB and of 64 KiB. */
const RECORD_BYTES_MAX = 2 ** 24

/** A hardware table behind a table of a guest: how often it was attached. */
export interface Attachment {
  readonly table: HwTable
  readonly count: number
}

/**
 * System pages that a table has for its entries. The kernel's arithmetic is of 64 bits: a window whose end wraps passes the
 * checks, and its table may have no page at all. (Linux v6.1 kvmppc_tce_pages; 6.12.95 makes such a table)
 */
export function tablePages(entries: bigint, pageShift: number): number {
  const mask = (1n << BigInt(pageShift)) - 1n
  const bytes = BigInt.asUintN(64, (entries << BigInt(ENTRY_BYTES_SHIFT)) + mask)
  return Number(bytes >> BigInt(pageShift))
}

const recordBytes = (pages: number): number => RECORD_BYTES + 8 * pages

/** System pages that a table is charged: those of its entries, and those of its record. */
export const chargedPages = (pages: number, pageShift: number): number =>
  pages + Math.ceil(recordBytes(pages) / 2 ** pageShift)

/** Whether the kernel has so large a piece of memory for the record. */
export const hasRoomForRecord = (pages: number): boolean => recordBytes(pages) <= RECORD_BYTES_MAX

export interface GuestTceTableParts {
  readonly host: Host
  /** Stands for the table in the hash. */
  readonly number: number
  readonly liobn: bigint
  readonly window: GuestWindow
  /** Asked before each page is allocated: false makes that allocation fail. */
  readonly onAllocate: () => boolean
  /** The last holder of its file is gone. */
  readonly onRelease: (table: GuestTceTable) => void
}

/**
 * A TCE table of a guest in the kernel (struct kvmppc_spapr_tce_table): what H_GET_TCE reads and user space maps.
 * Pages of entries come with the first value that is not 0, or the first access through a mapping. Hardware tables
 * behind it are those that were attached, the newest first.
 * (Linux v6.1 arch/powerpc/kvm/book3s_64_vio.c)
 */
export class GuestTceTable implements FileTarget {
  readonly kind = 'tce-table'
  readonly liobn: bigint
  readonly liobnHi: number
  readonly liobnLo: number
  readonly window: GuestWindow
  /** Of the window, as exact numbers. */
  readonly pageShift: number
  readonly offset: number
  readonly entries: number
  readonly pages: number
  readonly charged: number
  /** The entry that `load` found. */
  hi = 0
  lo = 0
  readonly #host: Host
  readonly #onAllocate: () => boolean
  readonly #onRelease: (table: GuestTceTable) => void
  /** log2 of the entries in a system page. */
  readonly #pageEntriesShift: number
  // What `#lend` lent: little-endian words, low lane first.
  #words: Int32Array = NO_WORDS
  #cell = 0
  /** Frame of each page, and 1; 0 for none. */
  readonly #frames: Cells
  readonly #attachments: Held<readonly Attachment[]>

  constructor({ host, number, liobn, window, onAllocate, onRelease }: GuestTceTableParts) {
    this.liobn = liobn
    this.liobnHi = hiOf(liobn)
    this.liobnLo = loOf(liobn)
    this.window = window
    this.pageShift = window.pageShift
    this.offset = Number(window.offset)
    this.entries = Number(window.entries)
    this.pages = tablePages(window.entries, host.pageShift)
    this.charged = chargedPages(this.pages, host.pageShift)
    this.#host = host
    this.#onAllocate = onAllocate
    this.#onRelease = onRelease
    this.#pageEntriesShift = host.pageShift - ENTRY_BYTES_SHIFT
    this.#frames = new Cells(host.journal, keyOf('guest table', number))
    this.#attachments = new Held<readonly Attachment[]>(host.journal, `guest table ${number}`, [], (list) =>
      list.length === 0 ? 0 : keyOf(...list.flatMap(({ table, count }) => [table.number, count])),
    )
  }

  get attachments(): readonly Attachment[] {
    return this.#attachments.value
  }

  /** The hardware table behind it, where there is one and no other. */
  get only(): HwTable | undefined {
    const list = this.#attachments.value
    return list.length === 1 ? list[0]?.table : undefined
  }

  setAttachments(list: readonly Attachment[]): void {
    this.#attachments.set(list)
  }

  /** Reads the entry at an index below `entries` into `hi` and `lo`. */
  load(index: number): void {
    const frame = this.#frameAt(this.#pageOf(index))
    this.hi = 0
    this.lo = 0
    if (frame === NO_FRAME) return
    const { memory } = this.#host
    const at = this.#offsetOf(index)
    memory.loadU64le(this.#host.frames.hostPage(frame) + (at >>> 12), at & 0xfff)
    this.hi = memory.wordHi
    this.lo = memory.wordLo
  }

  /**
   * Writes the entry at an index. Where there is no memory for its page the value is lost. An index behind the last
   * page is looked up behind the kernel's list of pages: a `memory.corrupt` record, and nothing is written.
   */
  store(index: number, hi: number, lo: number): void {
    const page = this.#pageOf(index)
    if (page >= this.pages) {
      this.#corrupt(page)
      return
    }
    let frame = this.#frameAt(page)
    if (frame === NO_FRAME) {
      if ((hi | lo) === 0) return
      frame = this.#allocate(page)
      if (frame === NO_FRAME) return
    }
    const at = this.#offsetOf(index)
    this.#host.memory.storeU64le(this.#host.frames.hostPage(frame) + (at >>> 12), at & 0xfff, hi, lo)
  }

  /** Entries from an index on become the first `count` of a list, two lanes each, high first. */
  storeList(index: number, count: number, list: Int32Array): void {
    for (let done = 0; done < count; ) {
      const lent = this.#lend(index + done, count - done)
      if (lent === 0) {
        this.store(index + done, list[2 * done] as number, list[2 * done + 1] as number)
        done++
        continue
      }
      const words = this.#words
      for (let cell = this.#cell, i = 0; i < lent; i++, done++, cell += 2) {
        words[cell] = list[2 * done + 1] as number
        words[cell + 1] = list[2 * done] as number
      }
    }
  }

  /** Entries [index, index + count) become one value. */
  fill(index: number, count: number, hi: number, lo: number): void {
    const pageEntries = 2 ** this.#pageEntriesShift
    for (let at = index; at < index + count; ) {
      const lent = this.#lend(at, index + count - at)
      if (lent > 0) {
        this.#fillLent(lent, hi, lo)
        at += lent
        continue
      }
      const page = this.#pageOf(at)
      const isSkipped = (hi | lo) === 0 && page < this.pages && this.#frameAt(page) === NO_FRAME
      if (isSkipped) at = (page + 1) * pageEntries
      else this.store(at++, hi, lo)
    }
  }

  #fillLent(count: number, hi: number, lo: number): void {
    const words = this.#words
    const end = this.#cell + 2 * count
    if (hi === lo) {
      words.fill(lo, this.#cell, end)
      return
    }
    for (let cell = this.#cell; cell < end; cell += 2) {
      words[cell] = lo
      words[cell + 1] = hi
    }
  }

  /** Whether entries [entry, entry + count), absolute numbers, are in the window. */
  holds(entry: number, count: number): boolean {
    const first = entry - this.offset
    return first >= 0 && first + count <= this.entries
  }

  /** Whether an index is one of the table's pages; those of the last one may lie behind the window. */
  hasPage(index: number): boolean {
    return this.#pageOf(index) < this.pages
  }

  /** Whether all pages of some entries are there: real mode cannot allocate one. */
  hasPages(index: number, count: number): boolean {
    for (let page = this.#pageOf(index); page <= this.#pageOf(index + Math.max(count, 1) - 1); page++) {
      if (this.#frameAt(page) === NO_FRAME) return false
    }
    return true
  }

  /** An access through a mapping brings the page of an entry, which the table has: false where there is no memory. */
  touch(index: number): boolean {
    const page = this.#pageOf(index)
    return this.#frameAt(page) !== NO_FRAME || this.#allocate(page) !== NO_FRAME
  }

  released(): void {
    this.#onRelease(this)
    const { frames } = this.#host
    for (let page = 0; page < this.#frames.length; page++) {
      const frame = this.#frameAt(page)
      if (frame === NO_FRAME) continue
      this.#frames.set(page, 0)
      frames.put(frame, 1)
    }
  }

  refusal(): IoctlRefusal {
    return 'unknown'
  }

  /** Entries that [index, index + count) has behind the last one, in this table or in a hardware table of smaller pages. */
  entriesBehind(index: number, count: number): number {
    const behind = Math.max(0, index + count - this.entries)
    let most = behind
    const { attachments, pageShift } = this
    for (let t = 0; t < attachments.length; t++) {
      const hwShift = (attachments[t] as Attachment).table.pageShift
      most = Math.max(most, behind * (POWERS_OF_TWO[pageShift - hwShift] as number))
    }
    return most
  }

  #pageOf(index: number): number {
    return index <= INT32_MAX
      ? index >>> this.#pageEntriesShift
      : Math.floor(index / (POWERS_OF_TWO[this.#pageEntriesShift] as number))
  }

  /** Byte of an entry in its page. */
  #offsetOf(index: number): number {
    // Bits of an index beyond 32 do not matter here.
    return (index & ((1 << this.#pageEntriesShift) - 1)) << ENTRY_BYTES_SHIFT
  }

  /** Entries from an index on that lie in one stretch of words in place, of at most `count`; 0 where there is none. */
  #lend(index: number, count: number): number {
    const page = this.#pageOf(index)
    const frame = page < this.pages ? this.#frameAt(page) : NO_FRAME
    if (frame === NO_FRAME) return 0
    const at = this.#offsetOf(index)
    const hostPage = this.#host.frames.hostPage(frame) + (at >>> 12)
    const words = this.#host.memory.cellsOf(hostPage)
    if (words === undefined) return 0
    this.#words = words
    this.#cell = cellOf(hostPage) + ((at & 0xfff) >>> 2)
    return Math.min(
      count,
      (1 << this.#pageEntriesShift) - (at >>> ENTRY_BYTES_SHIFT),
      (words.length - this.#cell) >>> 1,
    )
  }

  #frameAt(page: number): number {
    return page < this.#frames.length ? this.#frames.get(page) - 1 : NO_FRAME
  }

  #allocate(page: number): number {
    if (!this.#onAllocate()) return NO_FRAME
    const { frames } = this.#host
    const frame = frames.allocate(frames.owner('kernel'))
    if (frame === NO_FRAME) return NO_FRAME
    this.#frames.ensure(page + 1)
    this.#frames.set(page, frame + 1)
    return frame
  }

  #corrupt(page: number): void {
    const { log, cause } = this.#host.stage
    if (!log.on) return
    const what = log.names.intern('list of pages of a TCE table')
    const space = log.names.intern('kernel')
    const bytes = page * 8
    log.append(KIND['memory.corrupt'], cause, space, loOf(BigInt(bytes)), hiOf(BigInt(bytes)), 8, what)
  }
}
