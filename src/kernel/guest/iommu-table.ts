import { BITMAP_BITS_MAX, Bitmap } from '../../bits/bitmap.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, pageOf } from '../../bits/u64.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import type { AllocRequest } from './alloc-request.ts'
import type { GuestLog } from './guest-log.ts'
import { Lanes } from './lanes.ts'

/** No slot: what `rangeAlloc` answers where it finds none, and `slotOf` for an address of no slot. */
export const FAIL = -1

/** Pool number of the large pool in records, and of bits that are used from the start. */
export const LARGE_POOL = 4
const RESERVED_POOL = 5

const POOLS_MAX = 4
/** From this many bytes of window on the table has four pools. */
const SPLIT_BYTES = 2 ** 30
/** More entries than this come from the large pool. */
const SMALL_MAX = 15
/** A small allocation moves the hint to the next multiple of this. */
const BLOCK_ENTRIES = 16
/** Golden ratio of 2^32: spreads the CPUs over the pools. */
const GOLDEN = 0x61c8_8647
const POOL_BITS = 2
const WINDOW = POOLS_MAX + 1
/** Up to this boundary a remainder is taken in small integers. */
const INT_BOUNDARY_MAX = 2 ** 30
/** Free entries that a kdump kernel makes room for at the top of a full table. */
const KDUMP_ENTRIES = 2048

/** The limit of a search has wrapped: it is above every slot. */
const NO_LIMIT = Number.MAX_SAFE_INTEGER

/** Where a table lies: what `iommu_init_table` is given. */
export interface IommuTableShape {
  readonly liobn: number
  readonly pageShift: number
  /** Bus address of the window. */
  readonly busOffset: bigint
  readonly entries: number
  /** Absolute entries [start, end) that are never handed out: an MMIO hole. */
  readonly reserved?: { readonly start: number; readonly end: number }
  /** Entry of the window, as records count them, at which slot 0 lies: above 0 where tables share one window. */
  readonly windowFirst?: number
}

/** What a table shares with the rest of its kernel. */
export interface IommuTableParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly log: GuestLog
  /** Tells one table from another in the state hash. */
  readonly id: string
  /** The limit of the search wraps where the device reaches nothing of the window or a pool is empty (erratum). */
  readonly maskWraps: boolean
}

/**
 * The kernel's view of a DMA window: which of its entries are handed out.
 *
 * A *slot* counts from the start of the table; an absolute entry is slot + `offset`, and its bus address
 * entry << `pageShift`. The lower three quarters are one pool, or four from 1 GiB of window on, for allocations
 * of up to 15 entries; the rest is the large pool. Each pool has a hint where its next search begins. Nothing
 * on the way of an allocation allocates. (Linux v6.1 arch/powerpc/kernel/iommu.c, lib/iommu-helper.c)
 *
 * @example
 * const slot = table.rangeAlloc(1, request) // 1 in a fresh table at bus address 0: slot 0 is never given
 * table.free(slot, 1)
 */
export class IommuTable {
  readonly liobn: number
  readonly pageShift: number
  readonly pageBytes: number
  /** Absolute entry of slot 0 (`it_offset`). */
  readonly offset: number
  readonly entries: number
  /** Bus address of slot 0. */
  readonly busHi: number
  readonly busLo: number
  readonly poolCount: number
  readonly poolEntries: number
  /** Absolute entries that are never handed out; both `offset` where there are none. */
  readonly reservedStart: number
  readonly reservedEnd: number
  readonly windowFirst: number
  /** Result of `busOf`. */
  readonly bus = new Lanes()
  readonly #map: Bitmap
  /** Hints of the pools, then the number of the window's life. */
  readonly #state: Cells
  readonly #starts = new Int32Array(POOLS_MAX + 1)
  readonly #ends = new Int32Array(POOLS_MAX + 1)
  readonly #stage: Stage
  readonly #log: GuestLog
  readonly #maskWraps: boolean
  readonly #lanes = new Lanes()
  /** The boundary that was asked for last, and how far behind a multiple of it slot 0 lies. */
  #boundary = 1
  #intoOfFirst = 0
  #intoOfFirstLo = 0

  /** @throws IommulatorError ERR_MEMORY_LIMIT for a table of more entries than a bitmap holds */
  constructor(shape: IommuTableShape, { stage, journal, log, id, maskWraps }: IommuTableParts) {
    const { liobn, pageShift, busOffset, entries } = shape
    if (entries < 1 || entries > BITMAP_BITS_MAX) {
      throw new IommulatorError(
        'ERR_MEMORY_LIMIT',
        `a table of ${entries} entries is too large to allocate from`,
      )
    }
    this.liobn = liobn
    this.pageShift = pageShift
    this.pageBytes = 2 ** pageShift
    this.offset = pageOf(hiOf(busOffset), loOf(busOffset), pageShift)
    this.entries = entries
    const bus = BigInt(this.offset) << BigInt(pageShift)
    this.busHi = hiOf(bus)
    this.busLo = loOf(bus)
    this.windowFirst = shape.windowFirst ?? 0
    this.poolCount = entries * this.pageBytes >= SPLIT_BYTES ? POOLS_MAX : 1
    this.poolEntries = Math.floor(Math.floor((entries * 3) / 4) / this.poolCount)
    for (let i = 0; i < this.poolCount; i++) {
      this.#starts[i] = i * this.poolEntries
      this.#ends[i] = (i + 1) * this.poolEntries
    }
    this.#starts[LARGE_POOL] = this.poolCount * this.poolEntries
    this.#ends[LARGE_POOL] = entries
    this.#stage = stage
    this.#log = log
    this.#maskWraps = maskWraps
    this.#map = new Bitmap(new Cells(journal, keyOf('it_map', id)), entries)
    this.#state = new Cells(journal, keyOf('iommu_table', id), WINDOW + 1)
    for (let i = 0; i <= LARGE_POOL; i++) this.#state.set(i, this.#starts[i] as number)
    const start = Math.max(shape.reserved?.start ?? 0, this.offset)
    const end = Math.min(shape.reserved?.end ?? 0, this.offset + entries)
    this.reservedStart = start < end ? start : this.offset
    this.reservedEnd = start < end ? end : this.offset
  }

  /** The window's life as records name it. */
  get window(): number {
    return this.#state.get(WINDOW)
  }

  set window(number: number) {
    this.#state.set(WINDOW, number)
  }

  /** Marks what is never handed out: slot 0 of a table at bus address 0, and the reserved range. */
  reserve(): void {
    if (this.offset === 0) this.markUsed(0, 1)
    this.markUsed(this.reservedStart - this.offset, this.reservedEnd - this.offset)
  }

  /** Slots [from, end) are used by somebody else from the start. */
  markUsed(from: number, end: number): void {
    if (from >= end) return
    this.#map.setRange(from, end)
    this.#record(KIND['alloc.take'], from, end - from, RESERVED_POOL)
  }

  /** A kdump kernel makes room at the top where too little is free. True where it did. */
  makeRoom(used: number): boolean {
    if (this.entries - used >= KDUMP_ENTRIES) return false
    this.free(Math.max(0, this.entries - KDUMP_ENTRIES), Math.min(this.entries, KDUMP_ENTRIES))
    return true
  }

  /**
   * Takes `count` slots in a row. Answers the first, or FAIL.
   *
   * The last slot below the end of a pool is never taken. Where a search fails: once more from the start of the
   * pool, then the other pools, at last the large pool.
   */
  rangeAlloc(count: number, request: AllocRequest): number {
    if (count === 0) {
      this.#log.warn('iommu_range_alloc: no pages are asked for')
      return FAIL
    }
    /** Highest slot in the device's reach. */
    const reach = request.maskPages - this.offset
    if (reach < 0 && !this.#maskWraps) return FAIL
    let poolNumber = poolOf(request.cpu, this.poolCount)
    const starts = this.#starts
    const ends = this.#ends
    let pool = count > SMALL_MAX ? LARGE_POOL : poolNumber
    for (let pass = 0; ; pass++) {
      const { handle } = request
      let start = this.#state.get(pool)
      let limit = ends[pool] as number
      if (pass === 0 && handle > 0 && handle >= (starts[pool] as number) && handle < limit) start = handle
      if (start >= limit) start = starts[pool] as number
      if (limit > reach) {
        limit = reach + 1
        const masked = start & request.maskPages
        if (pass > 0 || (reach < 0 ? reach === -1 : masked >= limit)) {
          pool = 0
          start = 0
        } else start = masked
        if (reach < 0) limit = NO_LIMIT
      }
      // One less than 0 is above every slot, too.
      if (limit === 0 && this.#maskWraps) limit = NO_LIMIT
      const slot = this.#area(start, limit, count, request)
      if (slot !== FAIL) {
        this.#take(slot, count, pool, request)
        return slot
      }
      if (limit === NO_LIMIT) return this.#leavesMap()
      if (pass > 0 && pass <= this.poolCount) {
        poolNumber = (poolNumber + 1) & (this.poolCount - 1)
        pool = poolNumber
      } else if (pass === this.poolCount + 1) pool = LARGE_POOL
      else if (pass > 0) return FAIL
      this.#state.set(pool, starts[pool] as number)
    }
  }

  /** Gives slots back, used or not. */
  free(slot: number, count: number): void {
    this.#map.clearRange(slot, slot + count)
    this.#record(KIND['alloc.free'], slot, count, 0)
  }

  /** Slot of a bus address in lanes; one past every table for an address outside. */
  slotOf(hi: number, lo: number): number {
    const { hi: at, lo: low } = this.#lanes.put(hi, lo).subtract(this.busHi, this.busLo)
    return pageOf(at, low, this.pageShift)
  }

  /** Bus address of a slot, into `bus`. */
  busOf(slot: number): Lanes {
    return this.bus.putShifted(slot, this.pageShift).add(this.busHi, this.busLo)
  }

  /** IOMMU pages that `bytes` from `offset` (below a page) on touch. */
  pagesOf(offset: number, bytes: number): number {
    return Math.ceil((offset + bytes) / this.pageBytes)
  }

  isUsed(slot: number): boolean {
    return this.#map.has(slot)
  }

  /** Used slots, those that are never handed out included. */
  get usedCount(): number {
    return this.#map.count()
  }

  /** Whether anything is handed out: slot 0 of a table at bus address 0 and the reserved range do not count. */
  get isInUse(): boolean {
    const first = this.offset === 0 ? 1 : 0
    const hole = this.reservedStart - this.offset
    const behind = this.reservedEnd - this.offset
    if (this.reservedStart === 0 && this.reservedEnd === 0) return this.#anySet(first, this.entries)
    return this.#anySet(first, hole) || this.#anySet(behind, this.entries)
  }

  /** The hint of a pool (0 to 3, LARGE_POOL): for tests and dumps. */
  hintOf(pool: number): number {
    return this.#state.get(pool)
  }

  #anySet(from: number, end: number): boolean {
    return from < end && this.#map.nextSet(from, end) < end
  }

  /** Free slots [at, at + count) in [start, limit - 1), aligned and inside a boundary. */
  #area(start: number, limit: number, count: number, request: AllocRequest): number {
    const map = this.#map
    const end = limit > this.entries ? this.entries : limit - 1
    const { alignOrder, boundary } = request
    if (count === 1 && alignOrder === 0) {
      const at = map.nextZero(start, end)
      return at < end ? at : FAIL
    }
    // A kernel would search for ever for a range longer than its boundary.
    if (count > boundary) return FAIL
    for (let from = start; ; ) {
      const at = map.nextZeroArea(from, end, count, (1 << alignOrder) - 1)
      if (at >= end) return FAIL
      const into = this.#intoBoundary(at, boundary)
      if (into + count <= boundary) return at
      from = at - into + boundary
    }
  }

  /** The search went on behind the bitmap: what it finds there nobody knows. */
  #leavesMap(): number {
    this.#log.doubt('iommu_range_alloc searches behind its bitmap')
    return FAIL
  }

  /**
   * How far behind a multiple of the boundary a slot lies. An absolute entry of a 64-bit window is no small
   * integer, and its remainder a call to the mathematical library: so that of slot 0 is kept.
   */
  #intoBoundary(slot: number, boundary: number): number {
    if (boundary !== this.#boundary) {
      this.#boundary = boundary
      this.#intoOfFirst = this.offset % boundary
      this.#intoOfFirstLo = this.#intoOfFirst | 0
    }
    if (boundary <= INT_BOUNDARY_MAX) return (this.#intoOfFirstLo + slot) & (boundary - 1)
    return (this.#intoOfFirst + slot) % boundary
  }

  #take(slot: number, count: number, pool: number, request: AllocRequest): void {
    const end = slot + count
    this.#map.setRange(slot, end)
    const hint = count > SMALL_MAX ? end : (end + BLOCK_ENTRIES - 1) & -BLOCK_ENTRIES
    this.#state.set(pool, hint)
    if (request.handle >= 0) request.handle = end
    this.#record(KIND['alloc.take'], slot, count, pool)
  }

  #record(kind: number, slot: number, count: number, pool: number): void {
    const { log, cause } = this.#stage
    if (!log.on) return
    log.append(kind, cause, this.#state.get(WINDOW), slot + this.windowFirst, 0, count, 0, pool)
  }
}

/** The pool of a CPU among 1 or 4: CPUs 0 to 7 have 0, 1, 3, 0, 2, 3, 1, 2 of four. */
const poolOf = (cpu: number, poolCount: number): number =>
  (Math.imul(cpu, GOLDEN) >>> (32 - POOL_BITS)) & (poolCount - 1)
