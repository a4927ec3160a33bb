import { FAULT, isQualified } from '../fault-reasons.ts'
import type { TableFeatures } from './features.ts'

/** Reasons of scalable mode that have the numbers of legacy mode in QEMU (D16). Those of page tables the walk has. */
const LEGACY_OF: ReadonlyMap<number, number> = new Map([
  [FAULT.SM_ROOT_ENTRY_ACCESS, FAULT.ROOT_ENTRY_ACCESS],
  [FAULT.SM_ROOT_ENTRY_P, FAULT.ROOT_ENTRY_P],
  [FAULT.SM_ROOT_ENTRY_RSVD, FAULT.ROOT_ENTRY_RSVD],
  [FAULT.SM_CONTEXT_ENTRY_ACCESS, FAULT.CONTEXT_ENTRY_ACCESS],
  [FAULT.SM_CONTEXT_ENTRY_P, FAULT.CONTEXT_ENTRY_P],
  [FAULT.SM_CONTEXT_ENTRY_RSVD, FAULT.CONTEXT_ENTRY_RSVD],
])

/** How a unit numbers its fault reasons, and which of them FPD silences. */
export class Reasons {
  readonly #hasScalableMode: boolean
  readonly #hasLegacyCodes: boolean
  readonly #hasOnePasidCode: boolean
  readonly #silencesReserved: boolean

  constructor({ hasScalableMode }: TableFeatures, has: (erratum: string) => boolean) {
    this.#hasScalableMode = hasScalableMode
    this.#hasLegacyCodes = has('D16')
    this.#hasOnePasidCode = has('D47')
    this.#silencesReserved = !has('D49')
  }

  /** The number that a reason has here. */
  codeOf(fault: number): number {
    const isPasid = fault >= FAULT.PASID_DIR_ACCESS && fault <= FAULT.PASID_ENTRY_INVALID
    if (this.#hasOnePasidCode && isPasid) return FAULT.PASID_ENTRY_ACCESS
    if (!this.#hasLegacyCodes) return fault
    if (fault === FAULT.INTERRUPT_RANGE && this.#hasScalableMode) return FAULT.SM_INTERRUPT_RANGE
    return LEGACY_OF.get(fault) ?? fault
  }

  /** Whether FPD keeps a fault from being recorded; a root table that aborts does as well. */
  isSilenced(code: number): boolean {
    if (code === FAULT.CONTEXT_ENTRY_RSVD) return this.#silencesReserved
    return isQualified(code) || code === FAULT.TABLE_MODE
  }
}
