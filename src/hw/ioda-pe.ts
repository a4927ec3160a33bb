import { DMA_CODES } from '../bits/codes.ts'
import { Cells, keyOf } from '../bits/state.ts'
import { hiOf, hiOfNumber, loOf, loOfNumber, POWERS_OF_TWO, pageOf } from '../bits/u64.ts'
import type { HwTable, TableGroup, TableGroupOps } from '../table/hw-table.ts'
import { digitOf } from '../table/level-tree.ts'
import type { MultiLevelTable, TableUser } from '../table/multi-level-table.ts'
import { TCE_PERM, TCE_READ, TCE_WRITE } from '../table/tce-entry.ts'
import { KIND } from '../trace/event.ts'
import type { DmaPort } from './dma-port.ts'
import { type DmaRequest, recordDone, recordRequest } from './dma-request.ts'
import { DMA_FAULT } from './dma-space.ts'
import type { IodaPhb } from './ioda-phb.ts'
import { BYPASS_UNIT_SHIFT, TveFields } from './ioda-tve.ts'
import { IodaGroupOps } from './ioda-windows.ts'
import { PeStops } from './pe-stops.ts'

const TRANSLATE = KIND['dma.translate']
const { MEMTX_OK, MEMTX_DECODE_ERROR } = DMA_CODES

const PAGE_BYTES = 4096
const PAGE_ENTRIES_SHIFT = 9
const PAGE_ENTRIES_MASK = (1 << PAGE_ENTRIES_SHIFT) - 1
/** Bits of the upper lane below the one that selects the window. */
const IN_WINDOW_HI = 0x07ff_ffff
/** Bits of the upper lane among the 50 of an address without a table. */
const IN_BYPASS_HI = 0x3_ffff
/** The last 64 KiB below 4 GiB are for message signalled interrupts. */
const MSI_32_HIGH_HALF = 0xffff
/** log2 of the bytes of a segment of P7IOC. */
export const SEGMENT_SHIFT = 28
const IN_SEGMENT = 2 ** SEGMENT_SHIFT - 1
const NO_WINDOW = -1

/** Why a PHB does not carry out a DMA, as records say it. */
const WHY = {
  ABOVE: 'bus address bits 60 to 63',
  MSI: 'address of message signalled interrupts',
  NO_SEGMENT: 'segment of another PE',
  NO_TVE: 'no valid TVE',
  BEYOND: 'outside the window',
  LEVEL: 'a level of the table is missing',
  NO_TABLE: 'the table leads to no memory',
  PERMISSION: 'no permission',
  NO_MEMORY: 'no memory there',
} as const

const ENDLESS_KILL = 'pnv_pci_phb3_tce_invalidate: the stores to the kill register never end'

/** Pages of all leaves of a table: what its levels can tell apart. */
const leavesOf = ({ levels, levelShift }: TveFields): number =>
  POWERS_OF_TWO[Math.min(63, levels * levelShift)] as number

export interface IodaPeOptions {
  readonly phb: IodaPhb
  /** PE number. */
  readonly pe: number
  /** The IOMMU group's number. */
  readonly group: number
  /** P7IOC: the segments of 256 MiB that it owns. */
  readonly firstSegment: number
  readonly segments: number
}

/**
 * A partitionable endpoint: devices that share their windows and their fate. It is the bus that they see, the IOMMU
 * group that the kernel hands out, and a user of the tables behind its windows.
 *
 * A DMA goes through the TVE that bit 59 of its address selects (on P7IOC its segment), the TCE cache, and the
 * levels of the table as they are in memory. One that cannot be carried out freezes the PE where the PHB does so;
 * where it does not, reads deliver zeros and writes vanish, page by page.
 * (QEMU 7.2 hw/pci-host/pnv_phb4.c; skiboot hw/phb4.c)
 */
export class IodaPe implements DmaPort, TableGroup, TableUser {
  readonly name: string
  readonly pe: number
  readonly group: number
  readonly tce32Start: number
  readonly tce32Bytes: number
  readonly pageSizes: bigint
  readonly maxWindows: number
  readonly maxLevels: number
  readonly tables: (HwTable | null)[]
  readonly ops: TableGroupOps | null
  /** What keeps it from its bus: cleared and asked through firmware. */
  readonly stops: PeStops
  readonly firstSegment: number
  readonly segments: number
  /** Results of `request`. */
  moved = 0
  fault: number = DMA_FAULT.NONE
  /** Results of `translate`: window, entry from its start, permissions, address in memory; why it failed. */
  window = NO_WINDOW
  entry = 0
  perm = 0
  hpaHi = 0
  hpaLo = 0
  why = ''
  /** log2 of the bytes that the last translation holds for. */
  #reachShift = 0
  /** Entry from the start of what one TVE covers. */
  #leaf = 0
  #tceHi = 0
  #tceLo = 0
  #faultOfLoad: number = DMA_FAULT.NONE
  readonly #phb: IodaPhb
  /** TVEs, two cells (low, high) each. */
  readonly #tves: Cells
  /** Number of each window's life, 0 while it does nothing. It tells records apart: no state of the machine. */
  readonly #lives: number[]
  readonly #tve = new TveFields()

  constructor({ phb, pe, group, firstSegment, segments }: IodaPeOptions) {
    const { platform, host, m32Base } = phb
    this.name = `${phb.name}-pe${pe}`
    this.pe = pe
    this.group = group
    this.#phb = phb
    this.firstSegment = firstSegment
    this.segments = segments
    this.tce32Start = firstSegment * 2 ** SEGMENT_SHIFT
    this.tce32Bytes = platform.hasSegments ? segments * 2 ** SEGMENT_SHIFT : m32Base
    this.pageSizes = phb.pageShifts.reduce((set, shift) => set | (1n << BigInt(shift)), 0n)
    this.maxWindows = platform.hasSegments ? 0 : 2
    this.maxLevels = platform.hasSegments ? 0 : 5
    this.tables = [null, null]
    this.ops = platform.hasSegments ? null : new IodaGroupOps(this, phb)
    const windows = platform.hasSegments ? Math.max(1, segments) : 2
    this.#tves = new Cells(host.journal, keyOf('tve', this.name), 2 * windows)
    this.#lives = new Array<number>(windows).fill(0)
    this.stops = new PeStops(phb, pe)
  }

  get isMmioStopped(): boolean {
    return this.stops.isMmioStopped
  }

  /** Programs a TVE (a segment of P7IOC); 0 takes it away. */
  setTve(window: number, tve: bigint, table: number): void {
    this.#tves.set(window * 2, loOf(tve))
    this.#tves.set(window * 2 + 1, hiOf(tve))
    const { host, tables, unit } = this.#phb
    const before = this.#lives[window] as number
    const life = tve === 0n ? 0 : tables.nextTable()
    this.#lives[window] = life
    host.journal.change(keyOf('window-life', this.name, window), 0, 0, () => {
      this.#lives[window] = before
    })
    const { log, cause } = host.stage
    log.append(KIND['hw.window'], cause, unit, this.pe, window, loOf(tve), hiOf(tve), table, life)
  }

  /** The table of a window changes, for whoever asks `tables`; references are the caller's. */
  setTable(window: number, table: HwTable | null): void {
    const before = this.tables[window] ?? null
    this.tables[window] = table
    const key = keyOf('pe-table', this.name, window)
    this.#phb.host.journal.change(key, before?.number ?? 0, table?.number ?? 0, () => {
      this.tables[window] = before
    })
  }

  forget(table: MultiLevelTable, entry: number, count: number, calls: number): void {
    const { kills, tables, killsNothingForEver } = this.#phb
    if (entry === 0 && count === 0 && killsNothingForEver) tables.onBug?.(ENDLESS_KILL)
    else kills.pages(this.pe, table, entry, count, calls)
  }

  /**
   * Finds where a bus address leads. Answers why not (`DMA_FAULT`), in words in `why`.
   *
   * @param need TCE_READ or TCE_WRITE
   */
  translate(hi: number, lo: number, need: number): number {
    this.perm = 0
    this.entry = 0
    this.window = this.#select(hi, lo)
    if (this.window === NO_WINDOW) return DMA_FAULT.OUTSIDE
    const tve = this.#tve
    tve.read(this.#tves.get(this.window * 2 + 1), this.#tves.get(this.window * 2))
    if (!tve.isValid) return this.#fail(DMA_FAULT.OUTSIDE, WHY.NO_TVE)
    if (tve.pageShift === 0) return this.#bypass(hi, lo)
    const { pageShift } = tve
    const maskHi = pageShift < 32 ? 0 : (1 << (pageShift - 32)) - 1
    const maskLo = pageShift < 32 ? ((1 << pageShift) - 1) | 0 : -1
    if (this.#phb.platform.hasSegments) {
      this.#leaf = (lo & IN_SEGMENT) >>> pageShift
      this.entry = this.window * (1 << (SEGMENT_SHIFT - pageShift)) + this.#leaf
    } else {
      this.#leaf = pageOf(hi & IN_WINDOW_HI, lo, pageShift)
      if (this.#phb.wraps) this.#leaf %= leavesOf(tve)
      this.entry = this.#leaf
    }
    if (!this.#load(hi & ~maskHi, lo & ~maskLo)) return this.#faultOfLoad
    this.perm = this.#tceLo & TCE_PERM
    this.hpaHi = (this.#tceHi & ~maskHi) | (hi & maskHi)
    this.hpaLo = (this.#tceLo & ~maskLo) | (lo & maskLo)
    this.#reachShift = pageShift
    return (this.perm & need) === need ? DMA_FAULT.NONE : this.#fail(DMA_FAULT.REFUSED, WHY.PERMISSION)
  }

  request({ device, hi, lo, buffer, at, bytes, isWrite }: DmaRequest): number {
    const { stage } = this.#phb.host
    const before = stage.cause
    recordRequest(stage, device, hi, lo, bytes, isWrite)
    const code = this.access(hi, lo, buffer, at, bytes, isWrite)
    recordDone(stage, device, this.moved, code)
    stage.cause = before
    return code
  }

  /** The bytes of a request on their way, translation by translation; allocates nothing. Answers the code. */
  access(hi: number, lo: number, buffer: Uint8Array, at: number, bytes: number, isWrite: boolean): number {
    this.moved = 0
    this.fault = this.stops.isDmaStopped ? DMA_FAULT.FROZEN : DMA_FAULT.NONE
    const need = isWrite ? TCE_WRITE : TCE_READ
    for (let done = 0; done < bytes; ) {
      const left = bytes - done
      const low = (lo >>> 0) + done
      const atLo = low | 0
      const atHi = (hi + hiOfNumber(low)) | 0
      let piece = 0
      if (!this.stops.isDmaStopped) {
        let fault = this.translate(atHi, atLo, need)
        this.#recordTranslate(atHi, atLo, need, fault)
        if (fault === DMA_FAULT.NONE) {
          piece = this.#move(buffer, at + done, Math.min(left, this.#reach(atHi, atLo)), isWrite)
          if (piece === 0) fault = this.#fail(DMA_FAULT.NO_MEMORY, WHY.NO_MEMORY)
        }
        if (fault !== DMA_FAULT.NONE) {
          if (this.fault === DMA_FAULT.NONE) this.fault = fault
          this.#freeze(atHi, atLo, isWrite)
        }
      }
      this.moved += piece
      if (piece === 0) {
        piece = this.stops.isDmaStopped ? left : Math.min(left, PAGE_BYTES - (atLo & (PAGE_BYTES - 1)))
        if (!isWrite) buffer.fill(0, at + done, at + done + piece)
      }
      done += piece
    }
    return this.fault === DMA_FAULT.NONE ? MEMTX_OK : MEMTX_DECODE_ERROR
  }

  /** Which TVE an address is for; NO_WINDOW for what is no DMA. */
  #select(hi: number, lo: number): number {
    if (hi >>> 28 !== 0) return this.#outside(hi >>> 28 === 1 ? WHY.MSI : WHY.ABOVE)
    if (hi === 0 && lo >>> 16 === MSI_32_HIGH_HALF) return this.#outside(WHY.MSI)
    if (!this.#phb.platform.hasSegments) return (hi >>> 27) & 1
    const segment = (lo >>> SEGMENT_SHIFT) - this.firstSegment
    if (hi !== 0 || segment < 0 || segment >= this.segments) return this.#outside(WHY.NO_SEGMENT)
    return segment
  }

  #outside(why: string): number {
    this.why = why
    return NO_WINDOW
  }

  #fail(fault: number, why: string): number {
    this.why = why
    return fault
  }

  /** Without a table the address is the memory address, between the ends of the window where the PHB looks at them. */
  #bypass(hi: number, lo: number): number {
    const { bypassStart, bypassEnd } = this.#tve
    const { wraps } = this.#phb
    const unit = pageOf(hi & IN_WINDOW_HI, lo, BYPASS_UNIT_SHIFT)
    if (!wraps && (unit < bypassStart || unit >= bypassEnd)) return this.#fail(DMA_FAULT.OUTSIDE, WHY.BEYOND)
    this.perm = TCE_PERM
    this.hpaHi = hi & (wraps ? IN_BYPASS_HI : IN_WINDOW_HI)
    this.hpaLo = lo
    this.#reachShift = BYPASS_UNIT_SHIFT
    return DMA_FAULT.NONE
  }

  /** The TCE of a page into `#tceHi` and `#tceLo`, from the cache or from memory; false with `#faultOfLoad`. */
  #load(hi: number, lo: number): boolean {
    const { cache, kills, unit, host } = this.#phb
    if (cache.find(this.pe, hi, lo)) {
      this.#tceHi = cache.tceHi
      this.#tceLo = cache.tceLo
      return true
    }
    if (!this.#walk()) return false
    // An entry without permissions is no translation: there is nothing to remember.
    if ((this.#tceLo & TCE_PERM) === 0 || !this.#phb.caches) return true
    cache.fill(this.pe, hi, lo, this.#tve.pageShift, this.#tceHi, this.#tceLo)
    const { log, cause } = host.stage
    if (!log.on) return true
    log.append(KIND['hw.fill'], cause, unit, this.pe, lo, hi, this.#tve.pageShift, this.#tceLo, this.#tceHi)
    if (cache.evictedPe >= 0) kills.evicted()
    return true
  }

  /** From the first level to the leaf, as the PHB reads them. */
  #walk(): boolean {
    const { memory } = this.#phb.host
    const { levels, levelShift, tablePage } = this.#tve
    if (this.#leaf >= leavesOf(this.#tve)) return this.#stop(DMA_FAULT.OUTSIDE, WHY.BEYOND)
    let page = tablePage
    for (let level = levels - 1; level >= 0; level--) {
      const n = digitOf(this.#leaf, level * levelShift, levelShift)
      const at = page + (n >>> PAGE_ENTRIES_SHIFT)
      if (!memory.loadU64be(at, (n & PAGE_ENTRIES_MASK) << 3))
        return this.#stop(DMA_FAULT.REFUSED, WHY.NO_TABLE)
      if (level > 0 && (memory.wordLo & TCE_PERM) === 0) return this.#stop(DMA_FAULT.REFUSED, WHY.LEVEL)
      page = (memory.wordHi >>> 0) * 0x10_0000 + (memory.wordLo >>> 12)
    }
    this.#tceHi = memory.wordHi
    this.#tceLo = memory.wordLo
    return true
  }

  #stop(fault: number, why: string): boolean {
    this.#faultOfLoad = this.#fail(fault, why)
    return false
  }

  /** Bytes from an address on that its translation holds for. */
  #reach(hi: number, lo: number): number {
    const shift = this.#reachShift
    const page = POWERS_OF_TWO[shift] as number
    if (shift < 31) return page - (lo & (page - 1))
    return page - (((hi >>> 0) * 0x1_0000_0000 + (lo >>> 0)) % page)
  }

  /** Moves bytes until the first page without memory. */
  #move(buffer: Uint8Array, at: number, bytes: number, isWrite: boolean): number {
    const { memory } = this.#phb.host
    let page = pageOf(this.hpaHi, this.hpaLo, 12)
    let offset = this.hpaLo & (PAGE_BYTES - 1)
    if (offset + bytes <= PAGE_BYTES) {
      const isThere = isWrite
        ? memory.writePage(page, offset, buffer, at, bytes)
        : memory.readPage(page, offset, buffer, at, bytes)
      return isThere ? bytes : 0
    }
    let done = 0
    while (done < bytes) {
      const piece = Math.min(bytes - done, PAGE_BYTES - offset)
      const isThere = isWrite
        ? memory.writePage(page, offset, buffer, at + done, piece)
        : memory.readPage(page, offset, buffer, at + done, piece)
      if (!isThere) break
      done += piece
      offset = 0
      page++
    }
    return done
  }

  #freeze(hi: number, lo: number, isWrite: boolean): void {
    if (this.#phb.freezes) this.stops.freeze(hi, lo, isWrite, this.why)
  }

  #recordTranslate(hi: number, lo: number, need: number, fault: number): void {
    const { log, cause, line } = this.#phb.host.stage
    if (!log.on) return
    if (fault === DMA_FAULT.OUTSIDE) {
      log.append(KIND['dma.miss'], cause, this.#phb.unit, lo, hi, need === TCE_WRITE ? 1 : 0)
      return
    }
    const hasLeaf = this.perm !== 0 || fault === DMA_FAULT.NONE
    const at = log.begin(TRANSLATE, cause)
    const { lanes } = log
    lanes[at] = this.#lives[this.window] as number
    lanes[at + 1] = loOfNumber(this.entry)
    lanes[at + 2] = hiOfNumber(this.entry)
    lanes[at + 3] = lo | 0
    lanes[at + 4] = hi | 0
    lanes[at + 5] = hasLeaf ? this.hpaLo : 0
    lanes[at + 6] = hasLeaf ? this.hpaHi : 0
    lanes[at + 7] = this.perm
    lanes[at + 8] = need
    lanes[at + 9] = fault === DMA_FAULT.NONE ? 1 : 0
    lanes[at + 10] = line | 0
    log.commit(TRANSLATE)
  }
}
