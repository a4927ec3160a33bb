import { hiOfNumber, loOfNumber, POWERS_OF_TWO } from '../bits/u64.ts'
import { bit, bits, word } from '../bits/word.ts'
import type { MultiLevelTable } from '../table/multi-level-table.ts'
import { KIND } from '../trace/event.ts'
import type { Stage } from '../trace/stage.ts'
import type { IodaPlatform } from './ioda-platform.ts'
import type { TceCache } from './tce-cache.ts'

/** What a kill takes from the cache; the numbers are those of the firmware call, and one more for lack of room. */
export const KILL_SCOPE = { PAGES: 0, PE: 1, ALL: 2, EVICTED: 3 } as const

/** Kill registers of P7IOC and PHB3, offset in the register block. */
export const TCE_KILL_OFFSET = 0x210

/** What is stored to the kill register of a PHB3 (`TCE_KILL_OFFSET`). */
const PHB3_TCE_KILL = word(
  'PHB3_TCE_KILL',
  64,
  'Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_phb3_tce_invalidate',
  {
    ALL: bit(63, 'wo', 'Forget everything.'),
    PE: bit(62, 'wo', 'Forget all of a PE.'),
    ONE: bit(61, 'wo', 'Forget one page of a PE.'),
    ADDRESS: bits(60, 12, 'wo', 'ONE: bus address of the page, in units of 4 KiB.'),
    PE_NUMBER: bits(7, 0, 'wo', 'PE and ONE: lowest bits of the PE number.'),
  },
)

/** What is stored to the kill register of a P7IOC (`TCE_KILL_OFFSET`). */
const P7IOC_TCE_KILL = word(
  'P7IOC_TCE_KILL',
  64,
  'Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_p7ioc_tce_invalidate',
  {
    BY_ADDRESS: bit(63, 'wo', 'Forget the TCEs that lie at an address of memory.'),
    ADDRESS: bits(59, 4, 'wo', 'Host address of two neighbouring TCEs, in units of 16 bytes.'),
  },
)

/** The words of the kill registers. */
export const KILL_WORDS = [PHB3_TCE_KILL, P7IOC_TCE_KILL] as const

/** OPAL_PCI_TCE_KILL. */
export const FIRMWARE_TCE_KILL = 126
/** OPAL_PARAMETER. */
export const FIRMWARE_PARAMETER = -1

/** Upper lanes of the stores to the kill registers: what to kill. */
const KILL_ALL_HI = 1 << 31
const KILL_PE_HI = 1 << 30
const KILL_ONE_HI = 1 << 29
const KILL_ADDRESS_HI = 1 << 31
const PE_MASK = 0xff
/** log2 of the bytes that one store to P7IOC covers: two TCEs. */
const PAIR_SHIFT = 4
const TCE_SHIFT = 3

const STORE = KIND['hw.store']
const CALL = KIND['hw.firmware']
const KILL = KIND['hw.kill']

export interface TceKillsParts {
  readonly platform: IodaPlatform
  readonly cache: TceCache
  readonly stage: Stage
  /** Name of the PHB. */
  readonly unit: string
}

/** Address lanes of a page number: page << shift. */
const hiOfAddress = (page: number, shift: number): number =>
  shift < 32
    ? Math.floor(page / (POWERS_OF_TWO[32 - shift] as number)) | 0
    : loOfNumber(page * (POWERS_OF_TWO[shift - 32] as number))
const loOfAddress = (page: number, shift: number): number => (shift < 32 ? page << shift : 0)

/**
 * How the kernel makes a PHB forget TCEs: the stores or firmware calls of its platform, as records, and what
 * they take from the cache. Nothing here allocates.
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c; skiboot hw/phb4.c, phb4_tce_kill)
 */
export class TceKills {
  readonly #platform: IodaPlatform
  readonly #cache: TceCache
  readonly #stage: Stage
  readonly #unit: number

  constructor({ platform, cache, stage, unit }: TceKillsParts) {
    this.#platform = platform
    this.#cache = cache
    this.#stage = stage
    this.#unit = stage.log.names.intern(unit)
  }

  /** Absolute entries [entry, entry + count) of a table, for one PE; and `calls - 1` times as many behind them. */
  pages(pe: number, table: MultiLevelTable, entry: number, count: number, calls: number): void {
    // Nothing to forget, and nobody to tell.
    if (!this.#stage.log.on && this.#cache.count === 0) return
    const { kill } = this.#platform
    const { pageShift } = table
    if (kill === 'memory-register') {
      for (let i = 0; i < calls; i++) this.#pairs(pe, table, entry + i * count, count)
      return
    }
    const all = count * calls
    const hi = hiOfAddress(entry, pageShift)
    const lo = loOfAddress(entry, pageShift)
    if (kill === 'page-register') {
      this.#store(KILL_ONE_HI | hi, (pe & PE_MASK) | lo, pageShift, all)
      this.#drop(pe & PE_MASK, entry, all, pageShift)
      return
    }
    const { killsWholePe, pageShifts } = this.#platform
    const isTaken = killsWholePe || pageShifts.includes(pageShift)
    this.#call(KILL_SCOPE.PAGES, pe, pageShift, hi, lo, count, isTaken ? 0 : FIRMWARE_PARAMETER, calls)
    if (killsWholePe) this.#dropPe(pe)
    else if (isTaken) this.#drop(pe, entry, all, pageShift)
  }

  /** All of a PE. */
  pe(pe: number): void {
    const { kill } = this.#platform
    if (kill === 'memory-register') return
    if (kill === 'page-register') this.#store(KILL_PE_HI, pe & PE_MASK, -1, 1)
    else this.#call(KILL_SCOPE.PE, pe, -1, 0, 0, 0, 0)
    this.#dropPe(kill === 'page-register' ? pe & PE_MASK : pe)
  }

  /** Everything. P7IOC has no such kill: nothing happens there. */
  all(): void {
    const { kill } = this.#platform
    if (kill === 'memory-register') return
    if (kill === 'page-register') this.#store(KILL_ALL_HI, 0, -1, 1)
    else this.#call(KILL_SCOPE.ALL, 0, -1, 0, 0, 0, 0)
    this.emptied()
  }

  /** The whole PHB was reset: nothing of its cache is left. */
  emptied(): void {
    this.#cache.dropAll()
    this.#record(KILL_SCOPE.ALL, 0, 0, 0, -1, 0)
  }

  /** The cache gave up an entry for another. */
  evicted(): void {
    const { evictedPe, evictedHi, evictedLo, evictedShift } = this.#cache
    this.#record(KILL_SCOPE.EVICTED, evictedPe, evictedHi, evictedLo, evictedShift, 1)
  }

  /** P7IOC is told where the TCEs lie in memory, two with each store. */
  #pairs(pe: number, table: MultiLevelTable, entry: number, count: number): void {
    const slot = entry - table.offset
    const page = table.rootPage + Math.floor(slot / 512)
    const at = (slot & 511) << TCE_SHIFT
    const stores = ((slot & 1) + count + 1) >>> 1
    this.#store(KILL_ADDRESS_HI | hiOfAddress(page, 12), (page << 12) | at, PAIR_SHIFT, stores)
    const first = entry - (slot & 1)
    this.#drop(pe, first, stores * 2, table.pageShift)
  }

  #drop(pe: number, page: number, count: number, shift: number): void {
    if (count === 0) return
    this.#cache.dropPages(pe, page, count, shift)
    this.#record(KILL_SCOPE.PAGES, pe, hiOfAddress(page, shift), loOfAddress(page, shift), shift, count)
  }

  #dropPe(pe: number): void {
    this.#cache.dropPe(pe)
    this.#record(KILL_SCOPE.PE, pe, 0, 0, -1, 0)
  }

  #store(hi: number, lo: number, step: number, count: number): void {
    if (count === 0) return
    const { log, cause } = this.#stage
    if (!log.on) return
    const at = log.begin(STORE, cause)
    const { lanes } = log
    lanes[at] = this.#unit
    lanes[at + 1] = TCE_KILL_OFFSET
    lanes[at + 2] = lo
    lanes[at + 3] = hi
    lanes[at + 4] = step
    lanes[at + 5] = loOfNumber(count)
    lanes[at + 6] = hiOfNumber(count)
    log.commit(STORE)
  }

  #call(
    scope: number,
    pe: number,
    shift: number,
    hi: number,
    lo: number,
    count: number,
    code: number,
    calls = 1,
  ): void {
    const { log, cause } = this.#stage
    if (!log.on) return
    const at = log.begin(CALL, cause)
    const { lanes } = log
    lanes[at] = this.#unit
    lanes[at + 1] = FIRMWARE_TCE_KILL
    lanes[at + 2] = scope
    lanes[at + 3] = pe
    // The kernel hands the page over in 32 bits.
    lanes[at + 4] = shift < 0 || shift > 31 ? 0 : 1 << shift
    lanes[at + 5] = lo
    lanes[at + 6] = hi
    lanes[at + 7] = loOfNumber(count)
    lanes[at + 8] = hiOfNumber(count)
    lanes[at + 9] = code
    lanes[at + 10] = calls
    log.commit(CALL)
  }

  #record(scope: number, pe: number, hi: number, lo: number, shift: number, count: number): void {
    const { log, cause } = this.#stage
    if (!log.on) return
    const at = log.begin(KILL, cause)
    const { lanes } = log
    lanes[at] = this.#unit
    lanes[at + 1] = scope
    lanes[at + 2] = pe
    lanes[at + 3] = lo
    lanes[at + 4] = hi
    lanes[at + 5] = shift
    lanes[at + 6] = loOfNumber(count)
    lanes[at + 7] = hiOfNumber(count)
    log.commit(KILL)
  }
}
