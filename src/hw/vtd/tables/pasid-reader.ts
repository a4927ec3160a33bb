import { pageOf } from '../../../bits/u64.ts'
import { FAULT } from '../fault-reasons.ts'
import { type ContextEntry, type PasidEntry, PGTT } from '../ports.ts'
import { type ContextReaderOptions, EXT_NESTE } from './context-reader.ts'
import type { TableFeatures } from './features.ts'
import { placeOf, TABLE_WORD, type TableMemory } from './table-memory.ts'

const { PASID_DIR, PASID } = TABLE_WORD
const PAGE_SHIFT = 12
const WORD_BYTES = 8
/** Words of a page, as log2. */
const WORDS_SHIFT = 9
const WORDS_MASK = (1 << WORDS_SHIFT) - 1
/** PASIDs below a directory entry, as log2. */
const TABLE_SHIFT = 6
const TABLE_MASK = (1 << TABLE_SHIFT) - 1
const ENTRY_WORDS = 8

const PRESENT = 1
const FPD = 1 << 1
const DIR_RSVD_LO = 0xffc

const AW_SHIFT = 2
const AW_MASK = 7
const SLEE = 1 << 5
const PGTT_SHIFT = 6
const PGTT_MASK = 7
const SLADE = 1 << 9
const RSVD_FIRST = 3 << 10
const RSVD_SECOND = 0x7f << 16
const DID_MASK = 0xffff
const PWSNP = 1 << 23
const SRE = 1 << 0
const ERE = 1 << 1
const FLPM_SHIFT = 2
const FLPM_MASK = 3
const WPE = 1 << 4
const NXE = 1 << 5
const SMEP = 1 << 6
const EAFE = 1 << 7
const RSVD_THIRD = 0xf << 8
const PGSNP = 1 << 24
/** CD, EMTE, EMT, PWT, PCD; PAT is the upper lane. */
const MEMORY_TYPES = 0x7f << 25

/** Entries of extended mode. */
const EXT_SRE = 1 << 11
const EXT_RSVD_LO = 0x7e6
/** Of the second word of the context entry. */
const EXT_NXE = 1 << 4
const EXT_WPE = 1 << 5
const EXT_SMEP = 1 << 24
const EXT_EAFE = 1 << 25
const EXT_ERE = 1 << 26

const LEVELS_BASE = 2
const FIRST_LEVELS = 4

/**
 * PASID directories and tables in memory. Nothing is cached. At each entry: it is read, then P, then the reserved bits,
 * then what the unit cannot do. FPD counts in an entry that is not present. (VT-d 4.1, Scalable-Mode PASID Directory
 * Entry and PASID Table Entry; of extended mode VT-d 2.5, PASID Entry)
 */
export class PasidReader {
  readonly #memory: TableMemory
  readonly #features: TableFeatures
  readonly #rsvdHi: number
  /** Reserved bits of the first three words: what the unit has not is reserved. */
  readonly #rsvdFirst: number
  readonly #rsvdSecond: number
  readonly #rsvdThird: number
  /** The translation type is looked at before P, and no reserved bit at all. */
  readonly #isTypeFirst: boolean
  /** The type is one of four, and the address width counts for all of them. */
  readonly #takesEveryType: boolean
  #tableHi = 0
  #tableLo = 0

  constructor({ memory, features, has }: ContextReaderOptions) {
    this.#memory = memory
    this.#features = features
    this.#rsvdHi = -(2 ** (features.hostAddressBits - 32)) | 0
    this.#isTypeFirst = has('D33') || has('D19')
    this.#takesEveryType = has('D19')
    const unless = (is: boolean, bits: number) => (is ? 0 : bits)
    this.#rsvdFirst = RSVD_FIRST | unless(features.hasSecondAccessedDirty, SLADE)
    this.#rsvdSecond =
      RSVD_SECOND |
      unless(features.hasWalkSnoop, PWSNP) |
      unless(features.hasSnoopControl, PGSNP) |
      unless(features.hasMemoryTypes, MEMORY_TYPES)
    this.#rsvdThird =
      RSVD_THIRD |
      unless(features.hasSupervisor, SRE) |
      unless(features.hasExecute, ERE) |
      unless(features.hasExtendedAccessed, EAFE)
  }

  /** Finds the entry of a PASID below the directory of a context entry of scalable mode. Answers 0, or the fault. */
  read(context: ContextEntry, pasid: number, into: PasidEntry): number {
    into.isSilent = false
    into.fault = this.readDirectory(context, pasid, into) || this.#present() || this.#entry(pasid, into)
    return into.fault
  }

  /** Reads the directory entry alone, and its FPD: 0, or that it cannot be read. */
  readDirectory(context: ContextEntry, pasid: number, into: PasidEntry): number {
    const memory = this.#memory
    const index = pasid >> TABLE_SHIFT
    const page = context.pasidTable + (index >> WORDS_SHIFT)
    const offset = (index & WORDS_MASK) * WORD_BYTES
    into.address = 0
    into.domain = 0
    into.hi = 0
    into.lo = 0
    into.directoryAddress = placeOf(page, offset)
    if (!memory.load(PASID_DIR, page, offset)) return FAULT.PASID_DIR_ACCESS
    this.#tableHi = memory.hi
    this.#tableLo = memory.lo
    if ((memory.lo & FPD) !== 0) into.isSilent = true
    return 0
  }

  /** Whether the directory entry that was read last is present. */
  get isDirectoryPresent(): boolean {
    return (this.#tableLo & PRESENT) !== 0
  }

  /** Reads the words of the entry below the directory entry that was read last: 0, or that they cannot be read. */
  readWords(pasid: number, into: PasidEntry): number {
    const memory = this.#memory
    const page = pageOf(this.#tableHi, this.#tableLo, PAGE_SHIFT)
    const offset = (pasid & TABLE_MASK) * ENTRY_WORDS * WORD_BYTES
    into.address = placeOf(page, offset)
    if (!memory.load(PASID, page, offset)) return FAULT.PASID_ENTRY_ACCESS
    const { hi, lo } = memory
    into.hi = hi
    into.lo = lo
    if ((lo & FPD) !== 0) into.isSilent = true
    let isReserved = (hi & this.#rsvdHi) !== 0 || (lo & this.#rsvdFirst) !== 0
    into.type = (lo >> PGTT_SHIFT) & PGTT_MASK
    into.levels = LEVELS_BASE + ((lo >> AW_SHIFT) & AW_MASK)
    into.root = pageOf(hi, lo, PAGE_SHIFT)
    into.hasSecondExecute = (lo & SLEE) !== 0
    into.hasSecondAccessedDirty = (lo & SLADE) !== 0
    memory.load(PASID, page, offset + WORD_BYTES)
    isReserved ||= (memory.lo & this.#rsvdSecond) !== 0
    isReserved ||= memory.hi !== 0 && !this.#features.hasMemoryTypes
    into.domain = memory.lo & DID_MASK
    into.hasWalkSnoop = (memory.lo & PWSNP) !== 0
    memory.load(PASID, page, offset + 2 * WORD_BYTES)
    isReserved ||= (memory.hi & this.#rsvdHi) !== 0 || (memory.lo & this.#rsvdThird) !== 0
    this.#thirdWord(memory.hi, memory.lo, into)
    for (let word = 3; word < ENTRY_WORDS; word++) {
      memory.load(PASID, page, offset + word * WORD_BYTES)
      isReserved ||= (memory.hi | memory.lo) !== 0
    }
    this.#isReserved = isReserved
    return 0
  }

  #isReserved = false

  /** What the entry asks for is there: 0, or that it is not. */
  checkType(entry: PasidEntry): number {
    const features = this.#features
    const isWidth = ((features.sagaw >> (entry.levels - LEVELS_BASE)) & 1) !== 0
    if (this.#takesEveryType) {
      const isType = entry.type >= PGTT.FIRST_LEVEL && entry.type <= PGTT.PASS_THROUGH
      const isThere = isType && (entry.type !== PGTT.PASS_THROUGH || features.hasPassThrough)
      return isThere && isWidth ? 0 : FAULT.PASID_ENTRY_INVALID
    }
    const isFirst = entry.firstLevels === FIRST_LEVELS || (features.hasFirst5 && entry.firstLevels === 5)
    let isThere = false
    if (entry.type === PGTT.FIRST_LEVEL) isThere = features.hasFirstLevel && isFirst
    else if (entry.type === PGTT.SECOND_LEVEL) isThere = features.hasSecondLevel && isWidth
    else if (entry.type === PGTT.NESTED) isThere = features.hasNesting && isFirst && isWidth
    else if (entry.type === PGTT.PASS_THROUGH) isThere = features.hasPassThrough
    return isThere ? 0 : FAULT.PASID_ENTRY_INVALID
  }

  /** The entry of a PASID in the table of an extended context entry. */
  readExtended(context: ContextEntry, pasid: number, into: PasidEntry): number {
    const memory = this.#memory
    const { secondLo } = context
    const page = context.pasidTable + (pasid >> WORDS_SHIFT)
    const offset = (pasid & WORDS_MASK) * WORD_BYTES
    into.isSilent = false
    into.directoryAddress = 0
    into.address = placeOf(page, offset)
    into.domain = context.domain
    into.fault = FAULT.PASID_ENTRY_ACCESS
    if (!memory.load(PASID, page, offset)) return into.fault
    const { hi, lo } = memory
    into.hi = hi
    into.lo = lo
    into.type = (context.lo & EXT_NESTE) === 0 ? PGTT.FIRST_LEVEL : PGTT.NESTED
    into.levels = context.levels
    into.root = context.root
    into.firstLevels = FIRST_LEVELS
    into.firstRoot = pageOf(hi, lo, PAGE_SHIFT)
    into.hasSupervisor = (lo & EXT_SRE) !== 0
    into.hasExecute = (secondLo & EXT_ERE) !== 0
    into.hasWriteProtect = (secondLo & EXT_WPE) !== 0
    into.hasNoExecute = (secondLo & EXT_NXE) !== 0
    into.hasSmep = (secondLo & EXT_SMEP) !== 0
    into.hasExtendedAccessed = (secondLo & EXT_EAFE) !== 0
    into.hasSecondAccessedDirty = false
    into.hasSecondExecute = false
    into.hasWalkSnoop = true
    if ((lo & PRESENT) === 0) into.fault = FAULT.PASID_ENTRY_P
    else if ((hi & this.#rsvdHi) !== 0 || (lo & EXT_RSVD_LO) !== 0) into.fault = FAULT.PASID_ENTRY_RSVD
    else into.fault = 0
    return into.fault
  }

  #present(): number {
    if (!this.isDirectoryPresent) return FAULT.PASID_DIR_P
    if (this.#isTypeFirst) return 0
    const isReserved = (this.#tableHi & this.#rsvdHi) !== 0 || (this.#tableLo & DIR_RSVD_LO) !== 0
    return isReserved ? FAULT.PASID_DIR_RSVD : 0
  }

  #entry(pasid: number, into: PasidEntry): number {
    const access = this.readWords(pasid, into)
    if (access !== 0) return access
    const isPresent = (into.lo & PRESENT) !== 0
    if (this.#isTypeFirst) return this.checkType(into) || (isPresent ? 0 : FAULT.PASID_ENTRY_P)
    if (!isPresent) return FAULT.PASID_ENTRY_P
    return this.#isReserved ? FAULT.PASID_ENTRY_RSVD : this.checkType(into)
  }

  #thirdWord(hi: number, lo: number, into: PasidEntry): void {
    into.firstLevels = FIRST_LEVELS + ((lo >> FLPM_SHIFT) & FLPM_MASK)
    into.firstRoot = pageOf(hi, lo, PAGE_SHIFT)
    into.hasSupervisor = (lo & SRE) !== 0
    into.hasExecute = (lo & ERE) !== 0
    into.hasWriteProtect = (lo & WPE) !== 0
    into.hasNoExecute = (lo & NXE) !== 0
    into.hasSmep = (lo & SMEP) !== 0
    into.hasExtendedAccessed = (lo & EAFE) !== 0
  }
}
