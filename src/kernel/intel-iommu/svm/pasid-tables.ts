import { Cells, keyOf } from '../../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../../bits/u64.ts'
import { encode, get } from '../../../bits/word.ts'
import { extendedTableSize } from '../../../hw/vtd/tables/extended-sizes.ts'
import { EXT_PASID_ENTRY, EXT_PASID_STATE } from '../../../hw/vtd/tables/format.ts'
import type { PagePort } from '../../process-port.ts'
import type { DriverCore } from '../driver-core.ts'
import type { SvmQuirks } from './quirks.ts'

/** Entries of a page, as log2. */
const ENTRIES_SHIFT = 9
/** DINV, with no active reference. */
const DEFERRED = encode(EXT_PASID_STATE, { DINV: 1n })
/** What the first version took: bytes of the table, as log2, above ECAP.PSS; and its PASIDs. */
const FIRST_BYTES_SHIFT = 7 - 12
const OWNER = 'kernel'

// Cells of the state.
const TABLE = 0
const STATES = 1
const PASIDS = 2
const ORDER = 3
const CELLS = 4

export interface PasidTableParts {
  readonly core: DriverCore
  readonly pages: PagePort
  readonly quirks: Pick<SvmQuirks, 'tableSize' | 'rawSizeCode'>
  readonly say: (text: string) => void
}

/** What the entry of a PASID leads to. */
export interface PasidTarget {
  /** Page of the first table. */
  readonly pgd: number
  /** As records name it; empty for the kernel. */
  readonly mm: string
}

/**
 * The PASID table of a unit in extended mode, and its PASID-state table: contiguous memory that all devices of the unit
 * share. The unit snoops what it reads there. (Linux v4.9 drivers/iommu/intel-svm.c, intel_svm_alloc_pasid_tables)
 */
export class PasidTables {
  readonly #parts: PasidTableParts
  readonly #state: Cells

  constructor(parts: PasidTableParts) {
    this.#parts = parts
    this.#state = new Cells(parts.core.journal, keyOf('PASID tables', parts.core.options.port.name), CELLS)
  }

  /** First page of the PASID table; 0 where there is none. */
  get table(): number {
    return this.#state.get(TABLE)
  }

  /** The same of the PASID-state table. */
  get states(): number {
    return this.#state.get(STATES)
  }

  /** PASIDs that the unit has (pasid_max). */
  get pasids(): number {
    return this.#state.get(PASIDS)
  }

  /** PTS. (Linux v4.10 drivers/iommu/intel-iommu.c, intel_iommu_get_pts) */
  get sizeCode(): number {
    return this.#parts.quirks.rawSizeCode ? this.#pss : Math.max(0, Math.log2(this.pasids) - 5)
  }

  /** ECAP.PSS */
  get #pss(): number {
    return this.#parts.core.registers.features.pasidBits - 1
  }

  /** Allocates both; without the second one the unit is used all the same. */
  allocate(): void {
    this.free()
    const { features } = this.#parts.core.registers
    const pss = this.#pss
    const { order, pasids } = this.#parts.quirks.tableSize
      ? { order: Math.max(0, pss + FIRST_BYTES_SHIFT), pasids: 2 ** (pss + 1) }
      : extendedTableSize(pss)
    this.#state.set(ORDER, order)
    this.#state.set(PASIDS, pasids)
    this.#state.set(TABLE, this.#take('PASID', order))
    if (this.table !== 0 && features.hasDeferred) this.#state.set(STATES, this.#take('PASID state', order))
  }

  free(): void {
    for (const [cell, name] of [
      [TABLE, 'PASID'],
      [STATES, 'PASID state'],
    ] as const) {
      const page = this.#state.get(cell)
      if (page === 0) continue
      this.#parts.pages.free(page, this.#state.get(ORDER))
      this.#record(name, page, 0)
      this.#state.set(cell, 0)
    }
  }

  /** Points the entry of a PASID to a page table. */
  set(pasid: number, { pgd, mm }: PasidTarget): void {
    const isKernel = mm === ''
    const entry = encode(EXT_PASID_ENTRY, { P: 1n, FLPTPTR: BigInt(pgd), SRE: isKernel ? 1n : 0n })
    this.#write(this.table, pasid, entry)
    this.#recordEntry(pasid, mm, pgd, isKernel)
  }

  clear(pasid: number, mm: string): void {
    this.#write(this.table, pasid, 0n)
    this.#recordEntry(pasid, mm, 0, mm === '')
  }

  /**
   * Defers an invalidation of a PASID that no device uses: the unit drops all that it has of it with the next use. False
   * where one uses it, or one was deferred already, or there are no states.
   */
  defer(pasid: number): boolean {
    if (this.states === 0 || this.#read(this.states, pasid) !== 0n) return false
    this.#write(this.states, pasid, DEFERRED)
    return true
  }

  /** Whether an entry is present, for whoever looks at the driver. */
  isPresent(pasid: number): boolean {
    return get(EXT_PASID_ENTRY, this.#read(this.table, pasid), 'P') === 1n
  }

  #read(table: number, pasid: number): bigint {
    const { stores } = this.#parts.core
    stores.load(table + (pasid >> ENTRIES_SHIFT), pasid % 2 ** ENTRIES_SHIFT)
    return wordOf(stores.hi, stores.lo)
  }

  #write(table: number, pasid: number, word: bigint): void {
    const { stores } = this.#parts.core
    const value = { hi: hiOf(word), lo: loOf(word) }
    stores.store(table + (pasid >> ENTRIES_SHIFT), pasid % 2 ** ENTRIES_SHIFT, value, true)
  }

  #take(name: string, order: number): number {
    const { pages, say, core } = this.#parts
    const page = pages.allocate(order, OWNER)
    if (page < 0) say(`IOMMU: ${core.options.port.name}: Failed to allocate ${name} table`)
    this.#record(name, Math.max(0, page), this.pasids)
    return Math.max(0, page)
  }

  #record(name: string, page: number, entries: number): void {
    const { stage, options } = this.#parts.core
    const order = this.#state.get(ORDER)
    const cause = stage.cause < 0 ? null : stage.cause
    stage.log.emit('svm.tables', cause, { unit: options.port.name, table: name, page, order, entries })
  }

  #recordEntry(pasid: number, mm: string, pgd: number, isKernel: boolean): void {
    const { stage, options } = this.#parts.core
    stage.log.emit('svm.entry', stage.cause, {
      ...{ unit: options.port.name, device: '', pasid, mm, pgd },
      present: pgd === 0 ? 0 : 1,
      supervisor: isKernel ? 1 : 0,
    })
  }
}
