import { FAULT } from '../fault-reasons.ts'
import { NO_PASID, PERM, STAGE, type StructureCaches } from '../ports.ts'
import type { TableFeatures } from './features.ts'
import {
  belowPage,
  entryOffset,
  isBeyond,
  PAGE_SHIFT,
  PS,
  pageOfAddress,
  pageOfEntry,
  pageWithin,
  reservedHi,
  shiftOfLevel,
} from './paging.ts'
import { TABLE_WORD, type TableMemory } from './table-memory.ts'
import { LEVELS_MAX, type Trail } from './trail.ts'

const { READ, WRITE, EXECUTE } = PERM
const A = 1 << 8
const D = 1 << 9
const SNP = 1 << 11
/** In the upper lane. */
const TM = 1 << 30

/** Which reason each thing is that can go wrong. */
export interface SecondLevelCodes {
  readonly beyond: number
  readonly topAccess: number
  readonly access: number
  /** Neither to read nor to write. */
  readonly none: { readonly read: number; readonly write: number }
  readonly read: number
  readonly write: number
  readonly execute: number
  readonly rsvd: number
  readonly accessedDirty: number
}

/** Legacy mode, and extended mode without a PASID. */
export const LEGACY_CODES: SecondLevelCodes = Object.freeze({
  beyond: FAULT.BEYOND_WIDTH,
  topAccess: FAULT.CONTEXT_ENTRY_INVALID,
  access: FAULT.NEXT_TABLE_ACCESS,
  none: { read: FAULT.READ, write: FAULT.WRITE },
  read: FAULT.READ,
  write: FAULT.WRITE,
  execute: FAULT.READ,
  rsvd: FAULT.PAGING_ENTRY_RSVD,
  accessedDirty: FAULT.SL_ACCESSED_DIRTY,
})

export const SCALABLE_CODES: SecondLevelCodes = Object.freeze({
  beyond: FAULT.SL_BEYOND,
  topAccess: FAULT.SL_TOP_ACCESS,
  access: FAULT.SL_ACCESS,
  none: { read: FAULT.SL_PERM, write: FAULT.SL_PERM },
  read: FAULT.SM_READ,
  write: FAULT.SM_WRITE,
  execute: FAULT.SM_EXECUTE,
  rsvd: FAULT.SL_RSVD,
  accessedDirty: FAULT.SL_ACCESSED_DIRTY,
})

/** For the tables of the first level: the first of them, and the others. */
export const FL_TOP_CODES: SecondLevelCodes = Object.freeze({
  ...SCALABLE_CODES,
  beyond: FAULT.FL_TABLE_BEYOND,
  none: { read: FAULT.FL_TOP_READ, write: FAULT.FL_TOP_READ },
  read: FAULT.FL_TOP_READ,
  write: FAULT.FL_TABLE_WRITE,
})
export const FL_TABLE_CODES: SecondLevelCodes = Object.freeze({
  ...FL_TOP_CODES,
  none: { read: FAULT.FL_TABLE_READ, write: FAULT.FL_TABLE_READ },
  read: FAULT.FL_TABLE_READ,
})

export interface WalkOptions {
  readonly memory: TableMemory
  readonly features: TableFeatures
  readonly caches: StructureCaches
  readonly trail: Trail
  readonly has: (erratum: string) => boolean
}

/** Which tables, and how they are walked: set before a walk. */
export interface SecondLevelTables {
  domain: number
  root: number
  levels: number
  setsAccessedDirty: boolean
  snoops: boolean
  checksExecute: boolean
}

/**
 * Second-level tables in memory: 2 to 5 levels of 512 entries, pages of 4 KiB, 2 MiB and 1 GiB.
 *
 * At each level: the entry is read, then the permission, then the reserved bits, then A and D are set. An entry without R
 * and W is one without permission: there is no "not present". (VT-d 4.1, Second-Level Paging Entries)
 */
export class SecondLevelWalk {
  /** 4 KiB page that the address is on. */
  page = 0
  /** First 4 KiB page of the page that maps it, as the entry names it. */
  first = 0
  shift = PAGE_SHIFT
  /** What all levels together allow. */
  perm = 0
  codes: SecondLevelCodes = LEGACY_CODES
  /** What may not be had is left out of `perm`, and is no fault: translation requests. */
  isLenient = false
  readonly tables: SecondLevelTables = {
    domain: 0,
    root: 0,
    levels: 0,
    setsAccessedDirty: false,
    snoops: true,
    checksExecute: false,
  }
  readonly #options: WalkOptions
  readonly #place = { level: 0, page: 0, perm: 0 }
  readonly #pages = new Float64Array(LEVELS_MAX)
  /** Reserved bits by level, of entries that lead on and of those that map. */
  readonly #rsvdHi: number
  readonly #rsvdLeafHi: number
  readonly #tableRsvdHi: number
  readonly #rsvdLeafLo: number
  #hi = 0
  #lo = 0

  constructor(options: WalkOptions) {
    this.#options = options
    const { features, has } = options
    this.#rsvdHi = reservedHi(features.hostAddressBits)
    const isQemu = has('D23')
    const hasTm = features.hasDeviceTlb && !has('D54')
    this.#rsvdLeafHi = this.#rsvdHi | (hasTm ? 0 : TM)
    this.#tableRsvdHi = this.#rsvdHi | TM
    const hasSnp = features.hasSnoopControl || (isQemu && features.hasScalableMode)
    this.#rsvdLeafLo = hasSnp ? 0 : SNP
  }

  /** Walks for an address. Answers 0, or the fault. */
  walk(hi: number, lo: number, need: number): number {
    const { trail } = this.#options
    if (trail.on) for (let i = 0; i < LEVELS_MAX; i++) this.#pages[i] = 0
    const fault = this.#walk(hi, lo, need)
    if (trail.on) trail.add(STAGE.SECOND, pageOfAddress(hi, lo), fault, this.#pages)
    return fault
  }

  #walk(hi: number, lo: number, need: number): number {
    const { codes, tables } = this
    const { memory, features, caches, trail } = this.#options
    const { levels, root, domain } = tables
    this.perm = 0
    const width = Math.min(features.maxAddressBits, shiftOfLevel(levels + 1))
    if (isBeyond(hi, lo, width)) return this.isLenient ? 0 : codes.beyond
    let table = root
    let level = levels
    let perm = READ | WRITE | EXECUTE
    const place = this.#place
    const input = pageOfAddress(hi, lo)
    if (caches.loadTable(STAGE.SECOND, domain, NO_PASID, root, input, place) && (need & ~place.perm) === 0) {
      table = place.page
      level = place.level
      perm = place.perm
    }
    for (; ; level--) {
      const offset = entryOffset(level, hi, lo)
      if (trail.on) this.#pages[level - 1] = table
      if (!memory.load(TABLE_WORD.SECOND_LEVEL | level, table, offset)) {
        return level === levels ? codes.topAccess : codes.access
      }
      this.#hi = memory.hi
      this.#lo = memory.lo
      perm &= tables.checksExecute ? this.#lo : this.#lo | EXECUTE
      const denied = this.#denied(perm, need)
      if (denied !== 0) return this.isLenient ? 0 : denied
      const isLeaf = this.#isLeaf(level)
      if (this.#isReserved(level, isLeaf)) return codes.rsvd
      const flags = !tables.setsAccessedDirty ? 0 : isLeaf && (need & perm & WRITE) !== 0 ? A | D : A
      if ((flags & ~this.#lo) !== 0) {
        if (!tables.snoops) return codes.accessedDirty
        memory.store(table, offset, this.#hi, this.#lo | flags)
      }
      const next = pageOfEntry(this.#hi, this.#lo)
      if (isLeaf) {
        this.first = next
        this.page = next + pageWithin(level, lo)
        this.shift = shiftOfLevel(level)
        this.perm = perm
        return 0
      }
      table = next
      place.level = level - 1
      place.page = next
      place.perm = perm
      caches.keepTable(STAGE.SECOND, domain, NO_PASID, root, input, place)
    }
  }

  /** 0, or the reason why the request may not pass. A request that needs nothing needs an entry that is there. */
  #denied(perm: number, need: number): number {
    const { codes } = this
    if ((perm & (READ | WRITE)) === 0) return (need & WRITE) !== 0 ? codes.none.write : codes.none.read
    const missing = need & ~perm
    if (missing === 0 || this.isLenient) return 0
    if ((missing & WRITE) !== 0) return codes.write
    return (missing & READ) !== 0 ? codes.read : codes.execute
  }

  #isLeaf(level: number): boolean {
    if (level === 1) return true
    if ((this.#lo & PS) === 0) return false
    const { hasSecond2M, hasSecond1G } = this.#options.features
    return level === 2 ? hasSecond2M : level === 3 && hasSecond1G
  }

  #isReserved(level: number, isLeaf: boolean): boolean {
    const lo = this.#lo
    if (isLeaf)
      return (
        (this.#hi & this.#rsvdLeafHi) !== 0 || (lo & (this.#rsvdLeafLo | belowPage(level, PAGE_SHIFT))) !== 0
      )
    return (this.#hi & this.#tableRsvdHi) !== 0 || (lo & (SNP | PS)) !== 0
  }
}
