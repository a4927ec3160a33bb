import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import { ceilLog2, floorLog2 } from '../bits/u64.ts'
import type { HwTable, TableGroupOps } from '../table/hw-table.ts'
import { chargedBytes, type TableRequest, tableGeometry } from '../table/ioda-geometry.ts'
import { BLOCK_BYTES_SHIFT_MAX } from '../table/level-tree.ts'
import { MultiLevelTable } from '../table/multi-level-table.ts'
import { TCE_BYTES } from '../table/tce-entry.ts'
import type { IodaPe } from './ioda-pe.ts'
import type { IodaPhb } from './ioda-phb.ts'
import { bypassTve, tableTve, WINDOW_1_BASE } from './ioda-tve.ts'
import { FIRMWARE_PARAMETER } from './tce-kills.ts'

const { OK, ENOMEM } = ERRNO_CODES
/** Who holds the tables that the kernel made for itself. */
const KERNEL = 'kernel'
const DEFAULT_LEVELS = 2
/** log2 of the bytes that the allocator's bitmap of a default window may take, in bits. */
const DEFAULT_ENTRIES_SHIFT_MAX = BLOCK_BYTES_SHIFT_MAX + 3

/**
 * The windows of a PE as the kernel makes, programs and hands them out on PHB3 and later.
 *
 * Window 0 begins at 0, window 1 at 1 << 59, where a PE that the kernel keeps has its bypass window: all memory
 * without a table. (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_ioda2_ops)
 */
export class IodaGroupOps implements TableGroupOps {
  readonly kind = 'ioda2'
  readonly #pe: IodaPe
  readonly #phb: IodaPhb

  constructor(pe: IodaPe, phb: IodaPhb) {
    this.#pe = pe
    this.#phb = phb
  }

  tableBytes(pageShift: number, windowBytes: bigint, levels: number): number {
    return chargedBytes({ pageShift, windowBytes, levels }, this.#phb.host.pageShift)
  }

  createTable(window: number, pageShift: number, windowBytes: bigint, levels: number): HwTable | number {
    return this.#create(window, { pageShift, windowBytes, levels }, true)
  }

  /**
   * -1, as firmware answers, for a window that the PHB cannot do, and -ENOMEM where there is no memory for the link
   * between table and PE: nothing is programmed or linked then.
   */
  setWindow(window: number, table: HwTable): number {
    assert(table instanceof MultiLevelTable, 'the table is one that a PHB can walk')
    const levelEntries = table.levels > 1 ? 2 ** table.levelShift : table.entries
    const tve = tableTve(
      {
        levels: table.levels,
        tablePage: table.rootPage,
        levelBytes: levelEntries * TCE_BYTES,
        pageShift: table.pageShift,
      },
      this.#phb.platform.pageShifts,
    )
    if (tve === undefined) return FIRMWARE_PARAMETER
    const hasLink = this.#phb.tables.onAllocate?.() ?? true
    if (!hasLink && !this.#phb.forgetsLinks) return ERRNO_CODES.ENOMEM
    this.#pe.setTve(window, tve, table.number)
    if (hasLink) {
      table.link(this.#pe)
      table.get(this.#pe.name)
      this.#pe.setTable(window, table)
    }
    this.#phb.kills.pe(this.#pe.pe)
    return OK
  }

  unsetWindow(window: number): number {
    this.#pe.setTve(window, 0n, 0)
    this.#phb.kills.pe(this.#pe.pe)
    const table = this.#pe.tables[window] ?? null
    if (!(table instanceof MultiLevelTable)) return OK
    table.unlink(this.#pe)
    this.#pe.setTable(window, null)
    table.put(this.#pe.name)
    return OK
  }

  takeOwnership(): number {
    const own = this.#pe.tables[0] ?? null
    if (own === null && this.#phb.keepsBypass) return OK
    this.#setBypass(false)
    this.unsetWindow(0)
    own?.put(KERNEL)
    return OK
  }

  /** Also how a PE gets its first windows. Where no table can be made, it is left without any. */
  releaseOwnership(): void {
    const table = this.#create(0, this.#defaultTable(), false)
    if (typeof table === 'number') return
    if (this.setWindow(0, table) !== OK) table.put(KERNEL)
    this.#setBypass(true)
  }

  #create(window: number, request: TableRequest, hasUserView: boolean): MultiLevelTable | number {
    const { tables } = this.#phb
    if (tables.onAllocate?.() === false) return ENOMEM
    const geometry = tableGeometry(request, tables.host.pageShift)
    if (typeof geometry === 'number') return geometry
    return MultiLevelTable.create(tables, {
      geometry,
      pageShift: request.pageShift,
      busOffset: window === 0 ? BigInt(this.#pe.tce32Start) : WINDOW_1_BASE,
      allocatedBytes: hasUserView ? chargedBytes(request, tables.host.pageShift) : 0,
      hasUserView,
    })
  }

  /** All of memory in host pages, as far as one bitmap reaches, in as many levels as blocks of memory allow. */
  #defaultTable(): TableRequest {
    const { memory, pageShift } = this.#phb.host
    const memoryShift = floorLog2(BigInt(memory.pages)) + 12
    const windowShift = Math.min(DEFAULT_ENTRIES_SHIFT_MAX + pageShift, memoryShift)
    const levels = Math.ceil((windowShift - pageShift) / (BLOCK_BYTES_SHIFT_MAX - 3))
    return { pageShift, windowBytes: 1n << BigInt(windowShift), levels: Math.max(levels, DEFAULT_LEVELS) }
  }

  #setBypass(on: boolean): void {
    const end = 1n << BigInt(ceilLog2(BigInt(this.#phb.host.memory.pages)) + 12)
    const tve = bypassTve(WINDOW_1_BASE, on ? end : 0n, 1)
    if (tve !== undefined) this.#pe.setTve(1, tve, 0)
  }
}
