import { assert } from '../../../bits/errors.ts'

const PAGE_SHIFT = 12
/** Bytes of a PASID entry, and of a PASID-state entry, as log2. */
const ENTRY_SHIFT = 3
/** PASIDs that Linux lets one unit have in extended mode: tables of 1 MiB. */
const PASIDS_MAX = 0x2_0000
/** PTS 0 stands for 2^5 entries. */
const SMALLEST_SHIFT = 5

/** The PASID table of a unit in extended mode: one piece of memory, shared by all of its devices. */
export interface ExtendedTableSize {
  readonly pasids: number
  /** The table takes 2^order pages of 4 KiB, and the PASID-state table as many. */
  readonly order: number
  /** PTS of the extended context entries that point to it. */
  readonly sizeCode: number
}

/**
 * How large the PASID table of a unit is in extended mode, by ECAP.PSS: 2^(PSS+1) PASIDs, at most 0x20000.
 * (Linux v4.9 drivers/iommu/intel-svm.c, intel_svm_alloc_pasid_tables; PTS: iommu.c, intel_iommu_enable_pasid)
 *
 * @example extendedTableSize(19) // { pasids: 0x20000, order: 8, sizeCode: 12 }
 */
export function extendedTableSize(pss: number): ExtendedTableSize {
  assert(pss >= 0 && pss < 32, 'ECAP.PSS has 5 bits')
  const pasids = Math.min(2 ** (pss + 1), PASIDS_MAX)
  const shift = Math.log2(pasids)
  return {
    pasids,
    order: Math.max(0, shift + ENTRY_SHIFT - PAGE_SHIFT),
    sizeCode: Math.max(0, shift - SMALLEST_SHIFT),
  }
}
