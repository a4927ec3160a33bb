import { pageOf } from '../../../bits/u64.ts'
import { FAULT } from '../fault-reasons.ts'
import { type ContextEntry, TABLE_MODE, type TableMode } from '../ports.ts'
import type { TableFeatures } from './features.ts'
import { placeOf, TABLE_WORD, type TableMemory } from './table-memory.ts'

const { ROOT, CONTEXT } = TABLE_WORD
const PAGE_SHIFT = 12
const WORD_BYTES = 8
const ROOT_BYTES = 16
const LEGACY_BYTES = 16
/** Extended and scalable mode: entries of 32 bytes, in two tables of 128 devices. */
const WIDE_BYTES = 32
const HALF = 0x80

const PRESENT = 1
const FPD = 1 << 1
const TYPE_SHIFT = 2
const AW_MASK = 7
const DID_SHIFT = 8
const DID_MASK = 0xffff

const ROOT_RSVD_LO = 0xffe
const LEGACY_RSVD_LO = 0xff0
/** Of the second word: bit 7, and all from 24 on. */
const LEGACY_RSVD_SECOND = (1 << 7) | (0xff << 24)

const TYPE = { UNTRANSLATED: 0, DEVICE_TLB: 1, PASS_THROUGH: 2, PASID: 4, PASID_DEVICE_TLB: 5 } as const
/** Flags of an extended context entry. */
const EXT_PRE = 1 << 9
export const EXT_NESTE = 1 << 10
const EXT_PASIDE = 1 << 11
const EXT_RSVD_SECOND = 0xf << 28
const EXT_RSVD_THIRD = 0xff0
const EXT_RSVD_FOURTH = 0xfff
const EXT_PASIDS_SHIFT = 5

/** Flags of a scalable-mode context entry. */
const SM_DTE = 1 << 2
const SM_PASIDE = 1 << 3
const SM_PRE = 1 << 4
const SM_RSVD_LO = 0xf << 5
const SM_PDTS_SHIFT = 9
/** 2^(PDTS+7) directory entries of 64 PASIDs. */
const SM_PASIDS_SHIFT = 13
const SM_RID_PRIV = 1 << 20
const SM_RID_PASID = 0xf_ffff
const SM_RSVD_SECOND = -1 << 21

const LEVELS_BASE = 2

export interface ContextReaderOptions {
  readonly memory: TableMemory
  readonly features: TableFeatures
  readonly has: (erratum: string) => boolean
}

/**
 * Root and context tables in memory, of every mode. Nothing is cached.
 *
 * At each entry: it is read, then P, then the reserved bits, then what the unit cannot do. FPD counts in an entry that is
 * not present. (VT-d 4.1, Translation Structure Formats; of extended mode 2.5)
 */
export class ContextReader {
  readonly #memory: TableMemory
  readonly #features: TableFeatures
  readonly #rsvdHi: number
  /** Reserved bits of both halves of a root entry are looked at. */
  readonly #checksBothHalves: boolean
  /** Reserved bits of the first and the second word of a scalable-mode entry: what the unit has not is reserved. */
  readonly #scalableRsvdLo: number
  readonly #scalableRsvdSecond: number
  /** RID_PASID counts in every unit. */
  readonly #takesRidPasid: boolean
  /** Any address width will do for pass-through, and its pointer counts. */
  readonly #takesAnyWidth: boolean
  #hi = 0
  #lo = 0

  constructor({ memory, features, has }: ContextReaderOptions) {
    this.#memory = memory
    this.#features = features
    this.#rsvdHi = -(2 ** (features.hostAddressBits - 32)) | 0
    this.#checksBothHalves = has('D50')
    this.#takesRidPasid = features.hasRidPasid || has('D37')
    this.#takesAnyWidth = has('D21')
    const { hasDeviceTlb, hasPasid, hasPageRequests, hasRidPrivilege, hasRidPasid } = features
    const isLax = has('D55')
    const unless = (is: boolean, bits: number) => (is || isLax ? 0 : bits)
    this.#scalableRsvdLo =
      SM_RSVD_LO |
      unless(hasDeviceTlb, SM_DTE) |
      unless(hasPasid, SM_PASIDE) |
      unless(hasPageRequests, SM_PRE)
    this.#scalableRsvdSecond =
      SM_RSVD_SECOND | unless(hasRidPrivilege, SM_RID_PRIV) | unless(hasRidPasid, SM_RID_PASID)
  }

  /** Finds the entry of a source-id below the root table at a 4 KiB page. Answers 0, or the fault. */
  read(root: number, mode: TableMode, source: number, into: ContextEntry): number {
    into.isSilent = false
    into.address = 0
    into.domain = 0
    into.hi = 0
    into.lo = 0
    const offset = (source >> 8) * ROOT_BYTES
    into.rootAddress = placeOf(root, offset)
    const devfn = source & 0xff
    const fault =
      mode === TABLE_MODE.LEGACY ? this.#legacyRoot(root, offset) : this.#wideRoot(root, offset, devfn, mode)
    if (fault !== 0) {
      into.fault = fault
      return fault
    }
    const table = pageOf(this.#hi, this.#lo, PAGE_SHIFT)
    if (mode === TABLE_MODE.LEGACY) into.fault = this.#legacy(table, devfn * LEGACY_BYTES, into)
    else if (mode === TABLE_MODE.EXTENDED)
      into.fault = this.#extended(table, (devfn % HALF) * WIDE_BYTES, into)
    else into.fault = this.#scalable(table, (devfn % HALF) * WIDE_BYTES, into)
    return into.fault
  }

  /** The lower word of the root entry is left in the lanes. */
  #legacyRoot(root: number, offset: number): number {
    const memory = this.#memory
    if (!memory.load(ROOT, root, offset)) return FAULT.ROOT_ENTRY_ACCESS
    this.#hi = memory.hi
    this.#lo = memory.lo
    if ((memory.lo & PRESENT) === 0) return FAULT.ROOT_ENTRY_P
    memory.load(ROOT, root, offset + WORD_BYTES)
    const isReserved = this.#isReserved(ROOT_RSVD_LO) || (memory.hi | memory.lo) !== 0
    return isReserved ? FAULT.ROOT_ENTRY_RSVD : 0
  }

  /** The half of the root entry that counts is left in the lanes. */
  #wideRoot(root: number, offset: number, devfn: number, mode: TableMode): number {
    const memory = this.#memory
    const isScalable = mode === TABLE_MODE.SCALABLE
    const isUpper = devfn >= HALF
    if (!memory.load(ROOT, root, offset + (isUpper ? WORD_BYTES : 0))) {
      return isScalable ? FAULT.SM_ROOT_ENTRY_ACCESS : FAULT.ROOT_ENTRY_ACCESS
    }
    this.#hi = memory.hi
    this.#lo = memory.lo
    if ((memory.lo & PRESENT) === 0) return isScalable ? FAULT.SM_ROOT_ENTRY_P : FAULT.ROOT_ENTRY_P
    let isReserved = this.#isReserved(ROOT_RSVD_LO)
    if (this.#checksBothHalves) {
      memory.load(ROOT, root, offset + (isUpper ? 0 : WORD_BYTES))
      isReserved ||= (memory.hi & this.#rsvdHi) !== 0 || (memory.lo & ROOT_RSVD_LO) !== 0
    }
    if (!isReserved) return 0
    return isScalable ? FAULT.SM_ROOT_ENTRY_RSVD : FAULT.ROOT_ENTRY_RSVD
  }

  #legacy(table: number, offset: number, into: ContextEntry): number {
    const memory = this.#memory
    const first = this.#first(table, offset, into)
    if (first !== 0) return first === NOTHING ? FAULT.CONTEXT_ENTRY_ACCESS : FAULT.CONTEXT_ENTRY_P
    memory.load(CONTEXT, table, offset + WORD_BYTES)
    into.secondLo = memory.lo
    into.domain = (memory.lo >>> DID_SHIFT) & DID_MASK
    const type = (into.lo >> TYPE_SHIFT) & 3
    // The pointer of an entry that passes through is ignored.
    const ignoresPointer = type === TYPE.PASS_THROUGH && !this.#takesAnyWidth
    let isReserved = memory.hi !== 0 || (memory.lo & LEGACY_RSVD_SECOND) !== 0
    isReserved ||= (into.lo & LEGACY_RSVD_LO) !== 0 || (!ignoresPointer && this.#isReserved(0))
    if (isReserved) return FAULT.CONTEXT_ENTRY_RSVD
    into.type = type
    into.hasDeviceTlb = type === TYPE.DEVICE_TLB
    into.hasPasid = false
    into.hasPageRequests = false
    this.#secondLevel(into)
    const isType = type === TYPE.UNTRANSLATED || this.#hasType(type)
    return isType && this.#isWidth(memory.lo & AW_MASK, type) ? 0 : FAULT.CONTEXT_ENTRY_INVALID
  }

  #extended(table: number, offset: number, into: ContextEntry): number {
    const memory = this.#memory
    const { hasPasid, hasNesting } = this.#features
    const first = this.#first(table, offset, into)
    if (first !== 0) return first === NOTHING ? FAULT.CONTEXT_ENTRY_ACCESS : FAULT.CONTEXT_ENTRY_P
    memory.load(CONTEXT, table, offset + WORD_BYTES)
    into.secondLo = memory.lo
    into.domain = (memory.lo >>> DID_SHIFT) & DID_MASK
    let isReserved = this.#isReserved(0) || (memory.lo & EXT_RSVD_SECOND) !== 0
    memory.load(CONTEXT, table, offset + 2 * WORD_BYTES)
    isReserved ||= (memory.hi & this.#rsvdHi) !== 0 || (memory.lo & EXT_RSVD_THIRD) !== 0
    into.pasidTable = pageOf(memory.hi, memory.lo, PAGE_SHIFT)
    into.pasids = 1 << ((memory.lo & 0xf) + EXT_PASIDS_SHIFT)
    memory.load(CONTEXT, table, offset + 3 * WORD_BYTES)
    isReserved ||= (memory.hi & this.#rsvdHi) !== 0 || (memory.lo & EXT_RSVD_FOURTH) !== 0
    if (isReserved) return FAULT.CONTEXT_ENTRY_RSVD
    const { lo } = into
    const type = (lo >> TYPE_SHIFT) & 7
    into.type = type
    into.hasDeviceTlb = type === TYPE.DEVICE_TLB || type === TYPE.PASID_DEVICE_TLB
    into.hasPasid = (lo & EXT_PASIDE) !== 0
    into.hasPageRequests = (lo & EXT_PRE) !== 0
    this.#secondLevel(into)
    const isType = type === TYPE.UNTRANSLATED || this.#hasType(type)
    const isAsked = (into.hasPasid && !hasPasid) || ((lo & EXT_NESTE) !== 0 && !hasNesting)
    return isType && !isAsked && this.#isWidth(into.secondLo & AW_MASK, type)
      ? 0
      : FAULT.CONTEXT_ENTRY_INVALID
  }

  #scalable(table: number, offset: number, into: ContextEntry): number {
    const memory = this.#memory
    const first = this.#first(table, offset, into)
    if (first !== 0) return first === NOTHING ? FAULT.SM_CONTEXT_ENTRY_ACCESS : FAULT.SM_CONTEXT_ENTRY_P
    memory.load(CONTEXT, table, offset + WORD_BYTES)
    into.secondLo = memory.lo
    let isReserved =
      this.#isReserved(this.#scalableRsvdLo) ||
      memory.hi !== 0 ||
      (memory.lo & this.#scalableRsvdSecond) !== 0
    for (let word = 2; word < 4; word++) {
      memory.load(CONTEXT, table, offset + word * WORD_BYTES)
      isReserved ||= (memory.hi | memory.lo) !== 0
    }
    if (isReserved) return FAULT.SM_CONTEXT_ENTRY_RSVD
    const { lo, secondLo } = into
    into.type = 0
    into.hasDeviceTlb = (lo & SM_DTE) !== 0
    into.hasPasid = (lo & SM_PASIDE) !== 0
    into.hasPageRequests = (lo & SM_PRE) !== 0
    into.levels = 0
    into.root = 0
    into.pasidTable = pageOf(into.hi, lo, PAGE_SHIFT)
    into.pasids = 1 << (((lo >> SM_PDTS_SHIFT) & 7) + SM_PASIDS_SHIFT)
    into.ridPasid = this.#takesRidPasid ? secondLo & SM_RID_PASID : 0
    into.isRidPrivileged = (secondLo & SM_RID_PRIV) !== 0 && this.#features.hasRidPrivilege
    return 0
  }

  /** Reads the first word: 0, or that there is nothing to read, or that it is not present. It is left in the lanes too. */
  #first(table: number, offset: number, into: ContextEntry): number {
    const memory = this.#memory
    into.address = placeOf(table, offset)
    if (!memory.load(CONTEXT, table, offset)) return NOTHING
    this.#hi = memory.hi
    this.#lo = memory.lo
    into.hi = memory.hi
    into.lo = memory.lo
    into.isSilent = (memory.lo & FPD) !== 0
    return (memory.lo & PRESENT) === 0 ? NOT_PRESENT : 0
  }

  /** Reserved bits of the word in the lanes. */
  #isReserved(rsvdLo: number): boolean {
    return (this.#hi & this.#rsvdHi) !== 0 || (this.#lo & rsvdLo) !== 0
  }

  #secondLevel(into: ContextEntry): void {
    into.levels = LEVELS_BASE + (into.secondLo & AW_MASK)
    into.root = pageOf(into.hi, into.lo, PAGE_SHIFT)
    into.ridPasid = 0
    into.isRidPrivileged = false
  }

  /** Whether the unit has a translation type other than 0. */
  #hasType(type: number): boolean {
    const { hasDeviceTlb, hasPassThrough, hasPasid } = this.#features
    if (type === TYPE.DEVICE_TLB) return hasDeviceTlb
    if (type === TYPE.PASS_THROUGH) return hasPassThrough
    if (type === TYPE.PASID) return hasPassThrough && hasPasid
    return type === TYPE.PASID_DEVICE_TLB && hasPassThrough && hasPasid && hasDeviceTlb
  }

  #isWidth(width: number, type: number): boolean {
    const { sagaw } = this.#features
    if (type === TYPE.PASS_THROUGH && !this.#takesAnyWidth) return sagaw >> width === 1
    return ((sagaw >> width) & 1) !== 0
  }
}

/** Why there is no first word. */
const NOTHING = 1
const NOT_PRESENT = 2

/** Whether requests without a PASID go to memory as they are. */
export const isPassThroughType = (type: number): boolean => type === TYPE.PASS_THROUGH || type >= TYPE.PASID
/** Whether requests with a PASID are blocked in extended mode, whatever PASIDE says. */
export const blocksPasids = (type: number): boolean => type === TYPE.PASS_THROUGH
