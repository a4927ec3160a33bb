import { hiOfPage, loOfPage } from '../../../bits/u64.ts'
import { FAULT } from '../fault-reasons.ts'
import { type PasidEntry, PERM, STAGE } from '../ports.ts'
import {
  belowPage,
  entryOffset,
  isCanonical,
  PAGE_SHIFT,
  PS,
  pageOfAddress,
  pageOfEntry,
  pageWithin,
  reservedHi,
  shiftOfLevel,
} from './paging.ts'
import { FL_TABLE_CODES, FL_TOP_CODES, type SecondLevelWalk, type WalkOptions } from './second-level-walk.ts'
import { TABLE_WORD } from './table-memory.ts'
import { LEVELS_MAX } from './trail.ts'

const { READ, WRITE, EXECUTE } = PERM
/** The user may access it: with `PERM` in what levels allow together. */
const USER = 8

const P = 1 << 0
const RW = 1 << 1
const US = 1 << 2
const A = 1 << 5
const D = 1 << 6
const G = 1 << 8
const EA = 1 << 10
/** In the upper lane. */
const XD = 1 << 31
/** Bit 12 of a large page is PAT. */
const PAT_SHIFT = 13
/** Widths of addresses of four levels, and of five. */
const WIDTH_4 = 48
const WIDTH_5 = 57

/**
 * First-level tables in memory, as x86-64 processors have them: four or five levels, pages of 4 KiB, 2 MiB and 1 GiB.
 *
 * At each level: the entry is read, then P, U/S, R/W and XD, then the reserved bits, then A, and D at the end, are set. So
 * A of the levels above stays set where a level refuses. Nested: the tables, and the page, are addresses of the second
 * level. (VT-d 4.1, First-Level Paging Entries; the order is that of QEMU 10, run there)
 */
export class FirstLevelWalk {
  /** 4 KiB page that the address is on: an address of the second level where tables are nested. */
  page = 0
  /** First 4 KiB page of the page that maps it, as the entry names it. */
  first = 0
  shift = PAGE_SHIFT
  perm = 0
  isGlobal = false
  /** What may not be had is left out of `perm`, and is no fault: translation requests. */
  isLenient = false
  /** Nested: the second level, ready to walk. */
  through: SecondLevelWalk | undefined
  readonly #options: WalkOptions
  readonly #place = { level: 0, page: 0, perm: 0 }
  readonly #pages = new Float64Array(LEVELS_MAX)
  readonly #rsvdHi: number
  readonly #hasFirst1G: boolean
  // Quirks.
  readonly #setsAllOrNothing: boolean
  readonly #ignoresExecute: boolean
  readonly #isWidthOfSecond: boolean
  readonly #alwaysSnoops: boolean
  readonly #dirtiesReadOnly: boolean
  // Of the request.
  #pasid = 0
  #isSupervisor = false
  /** Pages that are not writable may not be written: always so without privilege. */
  #isWriteProtected = true
  #hasNoExecute = false
  #mayExecute = false
  #hasSmep = false
  #setsExtended = false
  #snoops = true
  #hi = 0
  #lo = 0
  // The table whose entry was read last, where it is in memory, and whether it may be written there.
  #table = 0
  #at = 0
  #mayWrite = true

  constructor(options: WalkOptions) {
    this.#options = options
    const { features, has } = options
    this.#rsvdHi = reservedHi(features.hostAddressBits)
    this.#hasFirst1G = features.hasFirst1G || has('D31')
    this.#setsAllOrNothing = has('D29')
    this.#ignoresExecute = has('D30')
    this.#isWidthOfSecond = has('D32')
    this.#alwaysSnoops = has('D51')
    this.#dirtiesReadOnly = has('D52')
  }

  /** Walks for an address of a PASID, with or without privilege. Answers 0, or the fault. */
  walk(
    entry: PasidEntry,
    pasid: number,
    isSupervisor: boolean,
    hi: number,
    lo: number,
    need: number,
  ): number {
    const { trail } = this.#options
    this.#pasid = pasid
    this.#isSupervisor = isSupervisor
    this.#isWriteProtected = !isSupervisor || entry.hasWriteProtect
    this.#hasNoExecute = entry.hasNoExecute
    this.#mayExecute = entry.hasExecute
    this.#hasSmep = isSupervisor && entry.hasSmep
    this.#setsExtended = entry.hasExtendedAccessed && !this.#ignoresExecute
    this.#snoops = entry.hasWalkSnoop || this.#alwaysSnoops
    if (trail.on) for (let i = 0; i < LEVELS_MAX; i++) this.#pages[i] = 0
    const fault = this.#walk(entry, hi, lo, need)
    if (trail.on) trail.add(STAGE.FIRST, pageOfAddress(hi, lo), fault, this.#pages)
    return fault
  }

  #walk(entry: PasidEntry, hi: number, lo: number, need: number): number {
    const { caches, trail } = this.#options
    const { domain, firstRoot, firstLevels } = entry
    this.perm = 0
    this.isGlobal = false
    if (!isCanonical(hi, lo, this.#width(entry))) return this.isLenient ? 0 : FAULT.NOT_CANONICAL
    const place = this.#place
    const input = pageOfAddress(hi, lo)
    let table = firstRoot
    let level = firstLevels
    let perm = READ | WRITE | EXECUTE | USER
    if (
      caches.loadTable(STAGE.FIRST, domain, this.#pasid, firstRoot, input, place) &&
      this.#denied(place.perm, need) === 0
    ) {
      table = place.page
      level = place.level
      perm = place.perm
    }
    for (; ; level--) {
      const offset = entryOffset(level, hi, lo)
      if (trail.on) this.#pages[level - 1] = table
      const access = this.#load(level, level === firstLevels, table, offset)
      if (access !== 0) return access
      if ((this.#lo & P) === 0) return this.isLenient ? 0 : FAULT.FL_P
      perm = this.#allowed(perm)
      const denied = this.#denied(perm, need)
      if (denied !== 0) return this.isLenient ? 0 : denied
      const isLeaf = this.#isLeaf(level)
      if (this.#isReserved(level, isLeaf)) return FAULT.FL_RSVD
      const final = this.#permissions(perm, isLeaf)
      if (isLeaf && (need & EXECUTE & ~final) !== 0 && !this.isLenient) return FAULT.SM_EXECUTE
      const wrong = this.#setFlags(offset, level === firstLevels, isLeaf && this.#isDirtied(final, need))
      if (wrong !== 0) return wrong
      const next = pageOfEntry(this.#hi, this.#lo)
      if (isLeaf) {
        this.first = next
        this.shift = shiftOfLevel(level)
        this.page =
          (level === 1 ? next : next - (next % 2 ** (this.shift - PAGE_SHIFT))) + pageWithin(level, lo)
        this.isGlobal = (this.#lo & G) !== 0
        this.perm = final
        return 0
      }
      table = next
      place.level = level - 1
      place.page = next
      place.perm = perm
      caches.keepTable(STAGE.FIRST, domain, this.#pasid, firstRoot, input, place)
    }
  }

  #width(entry: PasidEntry): number {
    if (this.#isWidthOfSecond) return Math.min(shiftOfLevel(entry.levels + 1), WIDTH_4)
    return entry.firstLevels === 5 ? WIDTH_5 : WIDTH_4
  }

  /** Reads the entry of a table; nested, the table is found through the second level first. */
  #load(level: number, isTop: boolean, table: number, offset: number): number {
    const { memory } = this.#options
    const { through } = this
    this.#table = table
    this.#at = table
    this.#mayWrite = true
    if (through !== undefined) {
      const fault = this.#find(through, isTop, table, READ)
      if (fault !== 0) return fault
    }
    if (!memory.load(TABLE_WORD.FIRST_LEVEL | level, this.#at, offset)) {
      return isTop ? FAULT.FL_TOP_ACCESS : FAULT.FL_ACCESS
    }
    this.#hi = memory.hi
    this.#lo = memory.lo
    return 0
  }

  /** Finds where a table is in memory. */
  #find(through: SecondLevelWalk, isTop: boolean, table: number, need: number): number {
    const { isLenient } = through
    through.isLenient = false
    through.codes = isTop ? FL_TOP_CODES : FL_TABLE_CODES
    const fault = through.walk(hiOfPage(table, PAGE_SHIFT), loOfPage(table, PAGE_SHIFT), need)
    through.isLenient = isLenient
    this.#at = through.page
    this.#mayWrite = (through.perm & WRITE) !== 0
    return fault
  }

  /** What all levels down to the entry in the lanes allow. */
  #allowed(above: number): number {
    let perm = above
    if ((this.#lo & RW) === 0) perm &= ~WRITE
    if ((this.#lo & US) === 0) perm &= ~USER
    if ((this.#hi & XD) !== 0 && this.#hasNoExecute && !this.#ignoresExecute) perm &= ~EXECUTE
    return perm
  }

  #denied(perm: number, need: number): number {
    if (!this.#isSupervisor && (perm & USER) === 0) return FAULT.FL_USER
    if (this.isLenient) return 0
    if ((need & WRITE) !== 0 && (perm & WRITE) === 0 && this.#isWriteProtected) return FAULT.SM_WRITE
    return (need & EXECUTE & ~perm) !== 0 ? FAULT.SM_EXECUTE : 0
  }

  /** What the request may do in the end. */
  #permissions(perm: number, isLeaf: boolean): number {
    if (!isLeaf) return perm
    let final = perm & ~USER
    if (!this.#isWriteProtected) final |= WRITE
    const isGuarded = this.#hasSmep && (perm & USER) !== 0
    if (isGuarded || !this.#mayExecute) final &= ~EXECUTE
    return final
  }

  #isDirtied(final: number, need: number): boolean {
    return (need & WRITE) !== 0 && ((final & WRITE) !== 0 || this.#dirtiesReadOnly)
  }

  #isLeaf(level: number): boolean {
    if (level === 1) return true
    if ((this.#lo & PS) === 0) return false
    return level === 2 || (level === 3 && this.#hasFirst1G)
  }

  #isReserved(level: number, isLeaf: boolean): boolean {
    if ((this.#hi & this.#rsvdHi) !== 0) return true
    if ((this.#hi & XD) !== 0 && !this.#hasNoExecute && !this.#ignoresExecute) return true
    if (!isLeaf) return (this.#lo & PS) !== 0
    return (this.#lo & belowPage(level, PAT_SHIFT)) !== 0
  }

  /** Sets A, with D at the end of a write, and EA. Answers 0, or why it may not. */
  #setFlags(offset: number, isTop: boolean, isDirtied: boolean): number {
    const { memory } = this.#options
    const flags = A | (isDirtied ? D : 0) | (this.#setsExtended ? EA : 0)
    if ((flags & ~this.#lo) === 0 || (this.#setsAllOrNothing && (flags & this.#lo) !== 0)) return 0
    if (!this.#snoops) return FAULT.FL_ACCESSED_DIRTY
    const { through } = this
    if (through !== undefined) {
      if (!this.#mayWrite) return FAULT.FL_TABLE_WRITE
      if (through.tables.setsAccessedDirty) {
        const fault = this.#find(through, isTop, this.#table, READ | WRITE)
        if (fault !== 0) return fault
      }
    }
    memory.store(this.#at, offset, this.#hi, this.#lo | flags)
    return 0
  }
}
