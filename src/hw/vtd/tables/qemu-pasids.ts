import { FAULT } from '../fault-reasons.ts'
import { type ContextEntry, type PasidEntry, PGTT } from '../ports.ts'
import type { TableFeatures } from './features.ts'
import type { PasidReader } from './pasid-reader.ts'

const PRESENT = 1
const FIRST_LEVELS = 4
/** Of the second level. */
const LEVELS_MAX = 4

/**
 * How QEMU finds the entry of a PASID (D19, D34): all of it is checked while the context entry is fetched, for the PASID
 * of requests without one. After that directory and entry are read again for every request; a bad one is found only
 * where no FPD was met before, and whether it is present is not looked at. (QEMU 7.2 to 11.1 hw/i386/intel_iommu.c,
 * vtd_do_iommu_translate, vtd_ce_get_pasid_fpd; run on 7.2.22, 10.0.2 and 11.1.3)
 */
export class QemuPasids {
  /** The fault that was found is not recorded. */
  isSilent = false
  unmodelled = ''
  halt = ''
  readonly #reader: PasidReader
  readonly #features: TableFeatures

  constructor(reader: PasidReader, features: TableFeatures) {
    this.#reader = reader
    this.#features = features
  }

  /** Finds the entry of a PASID. Answers 0, or the fault. */
  find(context: ContextEntry, pasid: number, isKnown: boolean, into: PasidEntry): number {
    const reader = this.#reader
    this.isSilent = context.isSilent
    this.unmodelled = ''
    this.halt = ''
    if (!isKnown) {
      const fault = reader.read(context, context.ridPasid, into)
      if (fault !== 0) return fault
    }
    if (!context.isSilent) {
      const fault = this.#silence(context, pasid, into)
      if (fault !== 0) return fault
    }
    return this.#words(context, pasid, into)
  }

  /** Whether FPD of the directory entry or of the entry of a PASID is found set. */
  silences(context: ContextEntry, pasid: number, into: PasidEntry): boolean {
    this.isSilent = false
    this.#silence(context, pasid, into)
    return this.isSilent
  }

  /** Looks for FPD of the directory entry and of the entry. What is wrong with them on the way is recorded. */
  #silence(context: ContextEntry, pasid: number, into: PasidEntry): number {
    const reader = this.#reader
    into.isSilent = false
    const access = reader.readDirectory(context, pasid, into)
    if (access !== 0) return access
    if (into.isSilent) {
      this.isSilent = true
      return 0
    }
    if (!reader.isDirectoryPresent) return FAULT.PASID_DIR_P
    const fault = reader.readWords(pasid, into) || reader.checkType(into)
    this.isSilent = fault === 0 && into.isSilent
    return fault
  }

  /** The entry as it is in memory, whatever it is. */
  #words(context: ContextEntry, pasid: number, into: PasidEntry): number {
    const reader = this.#reader
    const isThere =
      reader.readDirectory(context, pasid, into) === 0 &&
      reader.isDirectoryPresent &&
      reader.readWords(pasid, into) === 0
    if (!isThere) {
      this.unmodelled = 'a PASID entry that QEMU could not read, and uses all the same'
      return FAULT.PASID_ENTRY_ACCESS
    }
    const isPassThrough = into.type === PGTT.PASS_THROUGH
    const isGood = (into.lo & PRESENT) !== 0 && reader.checkType(into) === 0
    if (isGood && isPassThrough) return 0
    const isFirst = this.#features.hasFirstLevel
    into.type = isFirst ? PGTT.FIRST_LEVEL : PGTT.SECOND_LEVEL
    into.hasSecondAccessedDirty = false
    into.hasSecondExecute = false
    if (!isFirst && into.levels > LEVELS_MAX) {
      this.unmodelled = 'second-level tables of more than four levels in QEMU'
      return FAULT.PASID_ENTRY_INVALID
    }
    if (isFirst && into.firstLevels !== FIRST_LEVELS) {
      this.halt = 'assertion failed: level < VTD_FPTE_RSVD_LEN'
      return FAULT.PASID_ENTRY_INVALID
    }
    return 0
  }
}
