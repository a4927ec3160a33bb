import { swap32 } from '../../bits/u64.ts'
import type { BusMemory } from '../../memory/ports.ts'
import { VTD_FAULT } from './faults.ts'

const ENTRY_BYTES = 16
const PRESENT = 1
const FPD = 1 << 1
const TYPE_SHIFT = 2
/** Reserved bits of the lower lanes. */
const ROOT_RSVD_LO = 0xffe
const CONTEXT_RSVD_LO = 0xff0
/** Reserved bits of the upper word: 7, and all from 24 on. */
const CONTEXT_RSVD = (1 << 7) | (0xff << 24)
const DID_SHIFT = 8
const LEVELS_BASE = 2
const PAGES_HI = 2 ** 20

/** What a context entry has done with the requests of a device (field T). */
export const TRANSLATION_TYPE = { UNTRANSLATED: 0, DEVICE_TLB: 1, PASS_THROUGH: 2, RESERVED: 3 } as const

export interface ContextOptions {
  readonly memory: BusMemory
  /** Width of host addresses: bits from here to 63 of a pointer are reserved. */
  readonly hostAddressBits: number
  /** Levels of second-level tables that the unit can walk (CAP.SAGAW). */
  readonly levels: readonly number[]
  /** ECAP.DT and ECAP.PT: which translation types there are. */
  readonly hasDeviceTlb: boolean
  readonly hasPassThrough: boolean
}

/**
 * Root and context tables of legacy mode in memory. Nothing is cached. `find` leaves the entry of a device in the fields.
 */
export class ContextTables {
  /** Fault processing is disabled: counts in an entry that is not present too. */
  fpd = false
  type = 0
  /** Levels of its second-level tables, and the 4 KiB page of the first. */
  levels = 0
  root = 0
  domain = 0
  readonly #options: ContextOptions
  readonly #rsvdHi: number
  #hi = 0
  #lo = 0

  constructor(options: ContextOptions) {
    this.#options = options
    this.#rsvdHi = -(2 ** (options.hostAddressBits - 32)) | 0
  }

  /** Finds the entry of a source-id below the root table at a 4 KiB page. Answers 0, or the fault. */
  find(rootTable: number, source: number): number {
    this.fpd = false
    if (!this.#load(rootTable, (source >> 8) * ENTRY_BYTES)) return VTD_FAULT.ROOT_ENTRY_ACCESS
    const [hi, lo] = [this.#hi, this.#lo]
    if ((lo & PRESENT) === 0) return VTD_FAULT.ROOT_ENTRY_P
    this.#load(rootTable, (source >> 8) * ENTRY_BYTES + 8)
    if ((hi & this.#rsvdHi) !== 0 || (lo & ROOT_RSVD_LO) !== 0 || (this.#hi | this.#lo) !== 0) {
      return VTD_FAULT.ROOT_ENTRY_RSVD
    }
    return this.#context(pageOf(hi, lo), (source & 0xff) * ENTRY_BYTES)
  }

  #context(table: number, offset: number): number {
    const { hasDeviceTlb, hasPassThrough, levels } = this.#options
    if (!this.#load(table, offset)) return VTD_FAULT.CONTEXT_ENTRY_ACCESS
    const [hi, lo] = [this.#hi, this.#lo]
    this.fpd = (lo & FPD) !== 0
    if ((lo & PRESENT) === 0) return VTD_FAULT.CONTEXT_ENTRY_P
    this.#load(table, offset + 8)
    const isReserved = (hi & this.#rsvdHi) !== 0 || (lo & CONTEXT_RSVD_LO) !== 0
    if (isReserved || this.#hi !== 0 || (this.#lo & CONTEXT_RSVD) !== 0) return VTD_FAULT.CONTEXT_ENTRY_RSVD
    this.type = (lo >> TYPE_SHIFT) & 3
    this.levels = LEVELS_BASE + (this.#lo & 7)
    this.root = pageOf(hi, lo)
    this.domain = (this.#lo >>> DID_SHIFT) & 0xffff
    const isType =
      this.type === TRANSLATION_TYPE.UNTRANSLATED ||
      (this.type === TRANSLATION_TYPE.DEVICE_TLB && hasDeviceTlb) ||
      (this.type === TRANSLATION_TYPE.PASS_THROUGH && hasPassThrough)
    return isType && levels.includes(this.levels) ? 0 : VTD_FAULT.CONTEXT_ENTRY_INVALID
  }

  #load(page: number, offset: number): boolean {
    const { memory } = this.#options
    const isThere = memory.isRam(page) && memory.loadU64be(page, offset)
    this.#hi = swap32(memory.wordLo)
    this.#lo = swap32(memory.wordHi)
    return isThere
  }
}

const pageOf = (hi: number, lo: number): number => (hi >>> 0) * PAGES_HI + (lo >>> 12)
