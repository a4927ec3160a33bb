import type { Profile } from '../../bits/errata.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import { AllocRequest, NO_HANDLE } from './alloc-request.ts'
import type { DmaDevice } from './dma-device.ts'
import type { GuestLog } from './guest-log.ts'
import { FAIL, type IommuTable } from './iommu-table.ts'
import { Lanes, offsetIn, offsetOf, pageStart } from './lanes.ts'
import { FREED, NO_PAGES, type PageAllocator } from './page-allocator.ts'
import { DIR, type Dir, type TceBackend } from './tce-backend.ts'

/** How a function of the DMA API ended. */
export const OUTCOME = {
  DONE: 0,
  /** Done without the IOMMU table: the device reaches memory directly. */
  DIRECT: 1,
  NO_TABLE: 2,
  NO_ENTRIES: 3,
  SET_FAILED: 4,
  OUTSIDE_TABLE: 5,
  NO_MEMORY: 6,
  ORDER_TOO_LARGE: 7,
  NOT_ALLOCATED: 8,
  TOO_LARGE_BLOCK: 9,
  BEYOND_MASK: 10,
} as const
export type Outcome = (typeof OUTCOME)[keyof typeof OUTCOME]

/** Coherent buffers of this order and up are refused. */
const IOMAP_MAX_ORDER = 13

export interface DmaApiParts {
  readonly stage: Stage
  readonly log: GuestLog
  readonly pages: PageAllocator
  readonly profile: Profile
}

/**
 * The DMA API of the guest kernel: buffers of drivers become bus addresses and cease to be.
 *
 * Results are in `handle` and `gpa`. Memory addresses are numbers below 2^52, bytes below 2^32. The table path
 * of `mapPage` and `unmapPage` allocates nothing.
 * (Linux v6.1 kernel/dma/mapping.c, kernel/dma/direct.c, arch/powerpc/kernel/dma-iommu.c and iommu.c)
 */
export class DmaApi {
  /** Bus address that the last mapping got. */
  readonly handle = new Lanes()
  /** Memory address that the last `allocCoherent` got. */
  gpa = 0
  /** Slot that the last `place` got. */
  slot = FAIL
  readonly request = new AllocRequest()
  readonly #stage: Stage
  readonly #log: GuestLog
  readonly #pages: PageAllocator
  readonly #cutsPages: boolean
  readonly #lanes = new Lanes()

  constructor({ stage, log, pages, profile }: DmaApiParts) {
    this.#stage = stage
    this.#log = log
    this.#pages = pages
    this.#cutsPages = profile.has('B11')
  }

  /** dma_map_page: `bytes` of memory from `gpa` on for a device. */
  mapPage(device: DmaDevice, gpa: number, bytes: number, dir: Dir): Outcome {
    if (this.isDirect(device, gpa + bytes)) return this.mapDirectly(device, gpa, bytes)
    const { table } = device
    if (table === undefined) return OUTCOME.NO_TABLE
    const into = offsetOf(gpa, table.pageShift)
    const count = table.pagesOf(into, bytes)
    this.#ask(device, table, device.maskHi, device.maskLo)
    this.request.alignOrder = this.alignOrder(table, gpa, bytes)
    const outcome = this.#place(device, table, count, gpa, dir)
    if (outcome !== OUTCOME.DONE) return outcome
    this.handle.putShifted(this.slot, table.pageShift).add(table.busHi, table.busLo)
    this.handle.addNumber(into)
    this.grant(device, table, this.slot, count, gpa, bytes, dir)
    return OUTCOME.DONE
  }

  /** dma_unmap_page: what `mapPage` gave for `bytes` goes. */
  unmapPage(device: DmaDevice, hi: number, lo: number, bytes: number): Outcome {
    if (this.isDirectHandle(device, hi, lo, bytes)) return OUTCOME.DIRECT
    const { table } = device
    if (table === undefined) return OUTCOME.NO_TABLE
    const count = table.pagesOf(offsetIn(hi, lo, table.pageShift), bytes)
    return this.release(device, table, hi, lo, count)
  }

  /** dma_alloc_coherent: whole system pages, naturally aligned, that the CPU and the device share. */
  allocCoherent(device: DmaDevice, bytes: number): Outcome {
    const order = this.orderOf(bytes)
    const pageBytes = 2 ** this.#pages.pageShift
    const roundBytes = Math.ceil(bytes / pageBytes) * pageBytes
    if (device.allocatesDirectly) {
      const page = order > this.#pages.maxOrder ? NO_PAGES : this.#pages.alloc(order, device.owner)
      if (page === NO_PAGES) return OUTCOME.NO_MEMORY
      this.gpa = page * pageBytes
      this.handle.put(device.offsetHi, device.offsetLo).addNumber(this.gpa)
      return OUTCOME.DIRECT
    }
    if (order >= IOMAP_MAX_ORDER) return OUTCOME.ORDER_TOO_LARGE
    const { table } = device
    if (table === undefined) return OUTCOME.NO_TABLE
    const page = order > this.#pages.maxOrder ? NO_PAGES : this.#pages.alloc(order, device.owner)
    if (page === NO_PAGES) return OUTCOME.NO_MEMORY
    this.gpa = page * pageBytes
    const count = this.#coherentEntries(table, roundBytes)
    this.#ask(device, table, device.coherentHi, device.coherentLo)
    this.request.alignOrder = coherentAlign(roundBytes, table.pageShift)
    const outcome = this.#place(device, table, count, this.gpa, DIR.BIDIRECTIONAL)
    if (outcome !== OUTCOME.DONE) {
      this.#pages.free(page, order)
      return outcome
    }
    this.handle.putShifted(this.slot, table.pageShift).add(table.busHi, table.busLo)
    if (!this.#cutsPages) this.handle.addNumber(offsetOf(this.gpa, table.pageShift))
    this.grant(device, table, this.slot, count, this.gpa, roundBytes, DIR.BIDIRECTIONAL)
    return OUTCOME.DONE
  }

  /** dma_free_coherent: the entries go first, then the pages. */
  freeCoherent(device: DmaDevice, bytes: number, gpa: number, hi: number, lo: number): Outcome {
    const pageBytes = 2 ** this.#pages.pageShift
    const roundBytes = Math.ceil(bytes / pageBytes) * pageBytes
    let outcome: Outcome = OUTCOME.DIRECT
    if (!device.allocatesDirectly) {
      const { table } = device
      if (table === undefined) return OUTCOME.NO_TABLE
      outcome = this.release(device, table, hi, lo, this.#coherentEntries(table, roundBytes))
    }
    const freed = this.freePages(Math.floor(gpa / pageBytes), this.orderOf(bytes))
    return freed === OUTCOME.DONE ? outcome : freed
  }

  /** free_pages, with a warning where the pages are not what the caller thinks. */
  freePages(page: number, order: number): Outcome {
    const freed = order > this.#pages.maxOrder ? FREED.NOT_ALLOCATED : this.#pages.free(page, order)
    if (freed === FREED.DONE) return OUTCOME.DONE
    this.#log.warn(
      freed === FREED.NOT_ALLOCATED
        ? 'pages that are not allocated are freed'
        : 'more pages are freed than were allocated',
    )
    return freed === FREED.NOT_ALLOCATED ? OUTCOME.NOT_ALLOCATED : OUTCOME.TOO_LARGE_BLOCK
  }

  /** log2 of the system pages that hold `bytes`; for 0 bytes an order that nobody has. */
  orderOf(bytes: number): number {
    const pages = Math.ceil(bytes / 2 ** this.#pages.pageShift)
    return pages === 0 ? 64 - this.#pages.pageShift : Math.ceil(Math.log2(pages))
  }

  /** Whether a device reaches memory up to `endGpa` directly. */
  isDirect(device: DmaDevice, endGpa: number): boolean {
    if (device.mapsDirectly) return true
    if ((device.limitHi | device.limitLo) === 0) return false
    const end = this.#lanes.put(device.offsetHi, device.offsetLo).addNumber(endGpa)
    return !isAbove(end.hi, end.lo, device.limitHi, device.limitLo)
  }

  isDirectHandle(device: DmaDevice, hi: number, lo: number, bytes: number): boolean {
    if (device.mapsDirectly) return true
    if ((device.limitHi | device.limitLo) === 0) return false
    const end = this.#lanes.put(hi, lo).addNumber(bytes)
    return !isAbove(device.offsetHi, device.offsetLo, end.hi, end.lo)
  }

  /**
   * The bus address of memory that a device reaches directly. A limit of direct access outlives the mask that
   * it was made for: where the mask is lower now, the address is refused, and the table is not asked.
   */
  mapDirectly(device: DmaDevice, gpa: number, bytes: number): Outcome {
    const last = this.#lanes
      .put(device.offsetHi, device.offsetLo)
      .addNumber(gpa + bytes)
      .subtract(0, 1)
    if (isAbove(last.hi, last.lo, device.maskHi, device.maskLo)) {
      this.#log.warn(`a directly mapped address is out of reach of ${device.name}`)
      return OUTCOME.BEYOND_MASK
    }
    this.handle.put(device.offsetHi, device.offsetLo).addNumber(gpa)
    return OUTCOME.DIRECT
  }

  /** Alignment of a mapping: whole system pages stay whole in a table of smaller ones. */
  alignOrder(table: IommuTable, gpa: number, bytes: number): number {
    const { pageShift } = this.#pages
    const isWhole = bytes >= 2 ** pageShift && offsetOf(gpa, pageShift) === 0
    return table.pageShift < pageShift && isWhole ? pageShift - table.pageShift : 0
  }

  /** Prepares `request` for the stream mask of a device, with a handle that lasts over several allocations. */
  askForList(device: DmaDevice, table: IommuTable): void {
    this.#ask(device, table, device.maskHi, device.maskLo)
    this.request.handle = 0
  }

  /** The driver may let the device at memory from now on. */
  grant(
    device: DmaDevice,
    table: IommuTable,
    slot: number,
    count: number,
    gpa: number,
    bytes: number,
    dir: Dir,
  ): void {
    const { log, cause } = this.#stage
    const from = this.#lanes.putNumber(gpa)
    const first = slot + table.windowFirst
    log.append(
      KIND['dma.grant'],
      cause,
      table.window,
      first,
      0,
      count,
      0,
      from.lo,
      from.hi,
      bytes | 0,
      Math.floor(bytes / 2 ** 32),
      dir,
      device.owner,
      device.id,
    )
  }

  /** Entries of `count` IOMMU pages from a bus address on go; an address outside the table changes nothing. */
  release(device: DmaDevice, table: IommuTable, hi: number, lo: number, count: number): Outcome {
    const slot = table.slotOf(hi, lo)
    if (slot + count > table.entries) {
      this.#log.warn('iommu_free: the address lies outside the table')
      return OUTCOME.OUTSIDE_TABLE
    }
    const { log, cause } = this.#stage
    const first = slot + table.windowFirst
    if (count > 0) log.append(KIND['dma.revoke'], cause, table.window, first, 0, count, 0, device.id)
    this.backendOf(device).clear(table, slot, count)
    if (count > 0) table.free(slot, count)
    return OUTCOME.DONE
  }

  backendOf(device: DmaDevice): TceBackend {
    return (device.group as NonNullable<typeof device.group>).backend
  }

  #coherentEntries(table: IommuTable, roundBytes: number): number {
    const entries = roundBytes / table.pageBytes
    return this.#cutsPages ? Math.floor(entries) : Math.ceil(entries)
  }

  #ask(device: DmaDevice, table: IommuTable, maskHi: number, maskLo: number): void {
    const { request } = this
    request.cpu = this.#stage.cpu
    request.handle = NO_HANDLE
    request.alignOrder = 0
    request.reach(maskHi, maskLo, table.pageShift)
    request.bound(device.boundaryHi, device.boundaryLo, table.pageShift)
  }

  /** iommu_alloc: slots, and their entries. Nothing is left behind where either fails. */
  #place(device: DmaDevice, table: IommuTable, count: number, gpa: number, dir: Dir): Outcome {
    this.slot = table.rangeAlloc(count, this.request)
    if (this.slot === FAIL) return OUTCOME.NO_ENTRIES
    const backend = this.backendOf(device)
    if (backend.set(table, this.slot, count, pageStart(gpa, table.pageShift), dir) === 0) return OUTCOME.DONE
    backend.clear(table, this.slot, count)
    table.free(this.slot, count)
    return OUTCOME.SET_FAILED
  }
}

/** a > b for unsigned words in lanes. */
const isAbove = (aHi: number, aLo: number, bHi: number, bLo: number): boolean =>
  aHi === bHi ? aLo >>> 0 > bLo >>> 0 : aHi >>> 0 > bHi >>> 0

/** Alignment of a coherent buffer in IOMMU pages: to its own length, rounded up to a power of two. */
function coherentAlign(roundBytes: number, pageShift: number): number {
  const last = Math.floor((roundBytes - 1) / 2 ** pageShift)
  return last <= 0 ? 0 : Math.floor(Math.log2(last)) + 1
}
