import { IommulatorError } from '../bits/errors.ts'
import { hex } from '../bits/u64.ts'
import type { BusMemory } from '../memory/ports.ts'
import { DmaSpace } from './dma-space.ts'
import type { LiobnMap } from './liobn-map.ts'
import { SpaprTceTable, type TableParts } from './spapr-tce-table.ts'

/** IOMMU page sizes that dynamic windows may have, and the bit of each in the mask that a query answers (LoPAR, ibm,query-pe-dma-window). */
export const DDW_PAGE_SIZES = Object.freeze([
  { pageShift: 12, bit: 0x1 },
  { pageShift: 16, bit: 0x2 },
  { pageShift: 24, bit: 0x4 },
  { pageShift: 25, bit: 0x8 },
  { pageShift: 26, bit: 0x10 },
  { pageShift: 27, bit: 0x20 },
  { pageShift: 28, bit: 0x40 },
  { pageShift: 34, bit: 0x80 },
  { pageShift: 21, bit: 0x100 },
])

/** LIOBNs of PCI windows have this bit: 0x80000000 | PHB index << 8 | window. */
export const PCI_LIOBN = 0x8000_0000
const DEFAULT_PAGE_SHIFT = 12
/** A count of entries has 32 bits in QEMU, and windows are powers of two. */
const WINDOW_ENTRIES_MAX = 2 ** 31

export interface PhbOptions {
  readonly name: string
  readonly index: number
  readonly buid: bigint
  /** Page sizes that its windows may have, as shifts. */
  readonly pageShifts: readonly number[]
  /** Whether the guest may ask for windows: the PHB then has two tables instead of one. */
  readonly hasDdw: boolean
  /** Entries of the largest window that firmware gives; 2^31 unless said otherwise. */
  readonly maxWindowEntries?: number
  readonly memory: BusMemory
  readonly liobns: LiobnMap
  /** Bus address and bytes of the default window: 0, 1 GiB. */
  readonly defaultBusOffset?: bigint
  readonly defaultBytes?: bigint
  /** Bus address of a window that opens beside another one: 1 << 59. */
  readonly dma64BusOffset?: bigint
}

/**
 * A PCI host bridge of a pseries machine: one or two TCE tables, and the bus addresses behind them.
 *
 * It has no window until its first `reset`. (QEMU 7.2 hw/ppc/spapr_pci.c)
 */
export class SpaprPhb {
  readonly name: string
  readonly index: number
  readonly buid: bigint
  /** Fixed for a machine that is described; the replay of a log sets it when the log shows it. */
  pageShifts: readonly number[]
  readonly hasDdw: boolean
  readonly maxWindowEntries: number
  readonly defaultBusOffset: bigint
  readonly dma64BusOffset: bigint
  readonly tables: readonly SpaprTceTable[]
  readonly space: DmaSpace
  /** Entries of the default window; like the page sizes, a log shows them. */
  defaultEntries: number

  /** @throws IommulatorError ERR_MACHINE where a LIOBN is taken, or a page size or address is none that windows can have */
  constructor(options: PhbOptions, parts: TableParts) {
    const { name, index, buid, pageShifts, hasDdw, memory, liobns } = options
    this.name = name
    this.index = index
    this.buid = buid
    this.pageShifts = pageShifts
    this.hasDdw = hasDdw
    this.maxWindowEntries = options.maxWindowEntries ?? WINDOW_ENTRIES_MAX
    this.defaultBusOffset = options.defaultBusOffset ?? 0n
    this.dma64BusOffset = options.dma64BusOffset ?? 1n << 59n
    this.defaultEntries = Number((options.defaultBytes ?? 1n << 30n) >> BigInt(DEFAULT_PAGE_SHIFT))
    this.#check()
    this.tables = (hasDdw ? [0, 1] : [0]).map(
      (window) => new SpaprTceTable((PCI_LIOBN | (index << 8) | window) >>> 0, name, parts),
    )
    for (const table of this.tables) liobns.add(table)
    this.space = new DmaSpace({
      unit: name,
      tables: this.tables,
      memory,
      stage: parts.stage,
      journal: parts.journal,
    })
  }

  get openWindows(): number {
    let open = 0
    for (const table of this.tables) if (table.window !== null) open++
    return open
  }

  /** The table that the next window gets: QEMU takes whichever its object list has first, the model the lowest. */
  get freeTable(): SpaprTceTable | undefined {
    return this.tables.find((table) => table.window === null)
  }

  /** Its page sizes as a query answers them. */
  get pageSizeMask(): number {
    let mask = 0
    for (const { pageShift, bit } of DDW_PAGE_SIZES) if (this.pageShifts.includes(pageShift)) mask |= bit
    return mask
  }

  /** All windows go, and the default one comes. `why` says so in the records. */
  reset(why: string): void {
    for (const table of this.tables) table.close(why)
    const [first] = this.tables
    if (first === undefined) return
    first.open({
      pageShift: DEFAULT_PAGE_SHIFT,
      busOffset: this.defaultBusOffset,
      entries: this.defaultEntries,
    })
    first.isDefault = true
  }

  #check(): void {
    const known = DDW_PAGE_SIZES.map((s) => s.pageShift)
    for (const pageShift of this.pageShifts) {
      if (!known.includes(pageShift)) {
        throw new IommulatorError(
          'ERR_MACHINE',
          `PHB ${this.name}: no window has pages of 2^${pageShift} bytes; known: ${known.join(', ')}`,
        )
      }
    }
    const largest = 1n << BigInt(Math.max(DEFAULT_PAGE_SHIFT, ...this.pageShifts))
    for (const offset of [this.defaultBusOffset, this.dma64BusOffset]) {
      if (offset % largest !== 0n) {
        throw new IommulatorError(
          'ERR_MACHINE',
          `PHB ${this.name}: a window cannot start at ${hex(offset)}, inside a page of ${hex(largest)} bytes`,
        )
      }
    }
  }
}
