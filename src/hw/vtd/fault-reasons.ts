/** Why a unit blocks a request, as its fault recording registers say it (FR). */
export interface FaultReason {
  readonly code: number
  /** The condition, as the manual numbers it. */
  readonly condition: string
  /** Whose tables, or which requests. */
  readonly mode: 'root' | 'legacy' | 'interrupt' | 'scalable'
  /** FPD of an entry met before keeps it from being recorded. */
  readonly isQualified: boolean
  /** As Linux 6.1 prints it (drivers/iommu/intel/dmar.c); it has no text for some, and prints "Unknown". */
  readonly kernelText: string
  readonly doc: string
}

const UNKNOWN = 'Unknown'

type Row = readonly [code: number, condition: string, isQualified: boolean, kernelText: string, doc: string]

const rows = <N extends string>(
  mode: FaultReason['mode'],
  of: Readonly<Record<N, Row>>,
): Readonly<Record<N, FaultReason>> => {
  const out = {} as Record<N, FaultReason>
  for (const [name, [code, condition, isQualified, kernelText, doc]] of Object.entries<Row>(of)) {
    out[name as N] = Object.freeze({ code, condition, mode, isQualified, kernelText, doc })
  }
  return out
}

/**
 * All fault reasons, by name. (VT-d manual, Hardware Fault Conditions; texts: Linux v6.1 drivers/iommu/intel/dmar.c. No
 * source tells whether FPD silences 0x42, 0x52 and 0x5a: here it does, as it does for what is wrong with an entry
 * elsewhere. QEMU takes 0xb for one that it does not silence.)
 */
export const FAULT_REASONS = Object.freeze({
  ...rows('legacy', {
    ROOT_ENTRY_P: [
      0x01,
      'LRT.2',
      false,
      'Present bit in root entry is clear',
      'The root entry is not present.',
    ],
    CONTEXT_ENTRY_P: [
      0x02,
      'LCT.2',
      true,
      'Present bit in context entry is clear',
      'The context entry is not present.',
    ],
    CONTEXT_ENTRY_INVALID: [
      0x03,
      'LCT.4',
      true,
      'Invalid context entry',
      'The context entry asks for what the unit has not, or its first page table cannot be read.',
    ],
    BEYOND_WIDTH: [
      0x04,
      'LGN.1',
      true,
      'Access beyond MGAW',
      'The address is beyond the width of the page tables, or of the unit.',
    ],
    WRITE: [
      0x05,
      'LGN.2',
      true,
      'PTE Write access is not set',
      'A write or an atomic met an entry without write permission.',
    ],
    READ: [0x06, 'LGN.3', true, 'PTE Read access is not set', 'A read met an entry without read permission.'],
    NEXT_TABLE_ACCESS: [
      0x07,
      'LSL.1',
      true,
      'Next page table ptr is invalid',
      'A page table, not the first one, cannot be read.',
    ],
    ROOT_ENTRY_ACCESS: [0x08, 'LRT.1', false, 'Root table address invalid', 'The root entry cannot be read.'],
    CONTEXT_ENTRY_ACCESS: [
      0x09,
      'LCT.1',
      false,
      'Context table ptr is invalid',
      'The context entry cannot be read.',
    ],
    ROOT_ENTRY_RSVD: [
      0x0a,
      'LRT.3',
      false,
      'non-zero reserved fields in RTP',
      'A reserved bit of the root entry is set.',
    ],
    CONTEXT_ENTRY_RSVD: [
      0x0b,
      'LCT.3',
      true,
      'non-zero reserved fields in CTP',
      'A reserved bit of the context entry is set.',
    ],
    PAGING_ENTRY_RSVD: [
      0x0c,
      'LSL.2',
      true,
      'non-zero reserved fields in PTE',
      'A reserved bit of a second-level entry is set.',
    ],
    TRANSLATION_REQUEST: [
      0x0d,
      'LCT.5',
      true,
      'PCE for translation request specifies blocking',
      'A translation request or a translated request, and the context entry allows none.',
    ],
    INTERRUPT_RANGE: [0x0e, 'LGN.4', true, UNKNOWN, 'The address leads to the interrupt range 0xfeexxxxx.'],
  }),
  ...rows('interrupt', {
    IR_REQUEST_RSVD: [
      0x20,
      'IR',
      false,
      'Detected reserved fields in the decoded interrupt-remapped request',
      'A reserved field of the interrupt request is set.',
    ],
    IR_INDEX: [
      0x21,
      'IR',
      false,
      'Interrupt index exceeded the interrupt-remapping table size',
      'The index is beyond the interrupt remapping table.',
    ],
    IR_ENTRY_P: [
      0x22,
      'IR',
      true,
      'Present field in the IRTE entry is clear',
      'The interrupt remapping entry is not present.',
    ],
    IR_ENTRY_ACCESS: [
      0x23,
      'IR',
      false,
      'Error accessing interrupt-remapping table pointed by IRTA_REG',
      'The interrupt remapping entry cannot be read.',
    ],
    IR_ENTRY_RSVD: [
      0x24,
      'IR',
      true,
      'Detected reserved fields in the IRTE entry',
      'A reserved bit of the interrupt remapping entry is set.',
    ],
    IR_COMPATIBILITY: [
      0x25,
      'IR',
      false,
      'Blocked a compatibility format interrupt request',
      'An interrupt request in compatibility format, and those are blocked.',
    ],
    IR_SOURCE: [
      0x26,
      'IR',
      true,
      'Blocked an interrupt request due to source-id verification failure',
      'The interrupt remapping entry is not for this source-id.',
    ],
  }),
  ...rows('root', {
    TABLE_MODE: [
      0x30,
      'RTA.1',
      false,
      'SM: Invalid Root Table Address',
      'The root table address names a mode that the unit has not, or that aborts.',
    ],
    LEGACY_WITH_PASID: [
      0x31,
      'RTA.2',
      false,
      'SM: TTM 0 for request with PASID',
      'A request with a PASID in legacy mode.',
    ],
    LEGACY_PAGE_REQUEST: [
      0x32,
      'RTA.3',
      false,
      'SM: TTM 0 for page group request',
      'A page request in legacy mode.',
    ],
  }),
  ...rows('scalable', {
    SM_ROOT_ENTRY_ACCESS: [
      0x38,
      'SRT.1',
      false,
      'SM: Error attempting to access Root Entry',
      'The root entry cannot be read.',
    ],
    SM_ROOT_ENTRY_P: [
      0x39,
      'SRT.2',
      false,
      'SM: Present bit in Root Entry is clear',
      'The half of the root entry is not present.',
    ],
    SM_ROOT_ENTRY_RSVD: [
      0x3a,
      'SRT.3',
      false,
      'SM: Non-zero reserved field set in Root Entry',
      'A reserved bit of the root entry is set.',
    ],
    SM_CONTEXT_ENTRY_ACCESS: [
      0x40,
      'SCT.1',
      false,
      'SM: Error attempting to access Context Entry',
      'The context entry cannot be read.',
    ],
    SM_CONTEXT_ENTRY_P: [
      0x41,
      'SCT.2',
      true,
      'SM: Present bit in Context Entry is clear',
      'The context entry is not present.',
    ],
    SM_CONTEXT_ENTRY_RSVD: [
      0x42,
      'SCT.3',
      true,
      'SM: Non-zero reserved field set in the Context Entry',
      'A reserved bit of the context entry is set.',
    ],
    SM_CONTEXT_ENTRY_INVALID: [
      0x43,
      'SCT.4',
      true,
      'SM: Invalid Context Entry',
      'RID_PASID is beyond the directory.',
    ],
    SM_DTE: [
      0x44,
      'SCT.5',
      true,
      'SM: DTE field in Context Entry is clear',
      'A translation request or a translated request, and DTE is 0.',
    ],
    SM_PASIDE: [
      0x45,
      'SCT.6',
      true,
      'SM: PASID Enable field in Context Entry is clear',
      'A request with a PASID, and PASIDE is 0.',
    ],
    SM_PASID_BEYOND: [
      0x46,
      'SCT.7',
      true,
      'SM: PASID is larger than the max in Context Entry',
      'The PASID is beyond the directory.',
    ],
    SM_PRE: [0x47, 'SCT.8', true, 'SM: PRE field in Context-Entry is clear', 'A page request, and PRE is 0.'],
    SM_RID_PASID: [
      0x48,
      'SCT.9',
      true,
      'SM: RID_PASID field error in Context-Entry',
      'RID_PASID is wrong. The model gives SM_CONTEXT_ENTRY_INVALID for one beyond the directory.',
    ],
    PASID_DIR_ACCESS: [
      0x50,
      'SPD.1',
      false,
      'SM: Error attempting to access the PASID Directory Entry',
      'The PASID directory entry cannot be read.',
    ],
    PASID_DIR_P: [
      0x51,
      'SPD.2',
      true,
      'SM: Present bit in Directory Entry is clear',
      'The PASID directory entry is not present.',
    ],
    PASID_DIR_RSVD: [
      0x52,
      'SPD.3',
      true,
      'SM: Non-zero reserved field set in PASID Directory Entry',
      'A reserved bit of the PASID directory entry is set.',
    ],
    PASID_ENTRY_ACCESS: [
      0x58,
      'SPT.1',
      false,
      'SM: Error attempting to access PASID Table Entry',
      'The PASID table entry cannot be read.',
    ],
    PASID_ENTRY_P: [
      0x59,
      'SPT.2',
      true,
      'SM: Present bit in PASID Table Entry is clear',
      'The PASID table entry is not present.',
    ],
    PASID_ENTRY_RSVD: [
      0x5a,
      'SPT.3',
      true,
      'SM: Non-zero reserved field set in PASID Table Entry',
      'A reserved bit of the PASID table entry is set.',
    ],
    PASID_ENTRY_INVALID: [
      0x5b,
      'SPT.4',
      true,
      'SM: Invalid Scalable-Mode PASID Table Entry',
      'The PASID table entry asks for a translation that the unit has not.',
    ],
    PASID_ERE: [
      0x5c,
      'SPT.5',
      true,
      'SM: ERE field is clear in PASID Table Entry',
      'A request to execute, and ERE is 0.',
    ],
    PASID_SRE: [
      0x5d,
      'SPT.6',
      true,
      'SM: SRE field is clear in PASID Table Entry',
      'A request with privilege, and SRE is 0.',
    ],
    FL_ACCESS: [
      0x70,
      'SFL.1',
      true,
      'SM: Error attempting to access first-level paging entry',
      'A first-level table, not the first one, cannot be read.',
    ],
    FL_P: [
      0x71,
      'SFL.2',
      true,
      'SM: Present bit in first-level paging entry is clear',
      'A first-level entry is not present.',
    ],
    FL_RSVD: [
      0x72,
      'SFL.3',
      true,
      'SM: Non-zero reserved field set in first-level paging entry',
      'A reserved bit of a first-level entry is set.',
    ],
    FL_TOP_ACCESS: [
      0x73,
      'SFL.4',
      true,
      'SM: Error attempting to access FL-PML4 entry',
      'The first of the first-level tables cannot be read.',
    ],
    FL_TABLE_BEYOND: [
      0x74,
      'SFL.5',
      true,
      'SM: First-level entry address beyond MGAW in Nested translation',
      'Nested: a first-level table is beyond the width of the second level.',
    ],
    FL_TOP_READ: [
      0x75,
      'SFL.6',
      true,
      'SM: Read permission error in FL-PML4 entry in Nested translation',
      'Nested: the second level does not allow to read the first of the first-level tables.',
    ],
    FL_TABLE_READ: [
      0x76,
      'SFL.7',
      true,
      'SM: Read permission error in first-level paging entry in Nested translation',
      'Nested: the second level does not allow to read a first-level table.',
    ],
    FL_TABLE_WRITE: [
      0x77,
      'SFL.8',
      true,
      'SM: Write permission error in first-level paging entry in Nested translation',
      'Nested: the second level does not allow to set A or D in a first-level entry.',
    ],
    SL_ACCESS: [
      0x78,
      'SSL.1',
      true,
      'SM: Error attempting to access second-level paging entry',
      'A second-level table, not the first one, cannot be read.',
    ],
    SL_PERM: [
      0x79,
      'SSL.2',
      true,
      'SM: Read/Write permission error in second-level paging entry',
      'The second-level entries so far allow neither to read nor to write.',
    ],
    SL_RSVD: [
      0x7a,
      'SSL.3',
      true,
      'SM: Non-zero reserved field set in second-level paging entry',
      'A reserved bit of a second-level entry is set.',
    ],
    SL_TOP_ACCESS: [
      0x7b,
      'SSL.4',
      true,
      'SM: Invalid second-level page table pointer',
      'The first of the second-level tables cannot be read.',
    ],
    SL_ACCESSED_DIRTY: [
      0x7c,
      'SSL.5',
      true,
      'SM: A/D bit update needed in second-level entry when set up in no snoop',
      'A or D of a second-level entry is to be set, and the walk does not snoop.',
    ],
    NOT_CANONICAL: [
      0x80,
      'SGN.1',
      true,
      'SM: Address in first-level translation is not canonical',
      'The address is not canonical for the first-level tables.',
    ],
    FL_USER: [
      0x81,
      'SGN.2',
      true,
      'SM: U/S set 0 for first-level translation with user privilege',
      'A request without privilege met a first-level entry of the supervisor.',
    ],
    SM_EXECUTE: [
      0x82,
      'SGN.3',
      true,
      'SM: No execute permission for request with PASID and ER=1',
      'A request to execute met an entry that forbids it.',
    ],
    HOST_WIDTH: [
      0x83,
      'SGN.4',
      true,
      'SM: Address beyond the DMA hardware max',
      'The address of a request that is passed through is beyond the width of memory addresses.',
    ],
    SL_BEYOND: [
      0x84,
      'SGN.5',
      true,
      'SM: Second-level entry address beyond the max',
      'The address is beyond the width of the second-level tables, or of the unit.',
    ],
    SM_WRITE: [
      0x85,
      'SGN.6',
      true,
      'SM: No write permission for Write/AtomicOp request',
      'A write or an atomic met an entry without write permission.',
    ],
    SM_READ: [
      0x86,
      'SGN.7',
      true,
      'SM: No read permission for Read/AtomicOp request',
      'A read met a second-level entry without read permission.',
    ],
    SM_INTERRUPT_RANGE: [
      0x87,
      'SGN.8',
      true,
      'SM: Invalid address-interrupt address',
      'The address leads to the interrupt range 0xfeexxxxx.',
    ],
    FL_ACCESSED_DIRTY: [
      0x90,
      'SFL.9',
      true,
      'SM: A/D bit update needed in first-level entry when set up in no snoop',
      'A or D of a first-level entry is to be set, and the walk does not snoop.',
    ],
  }),
})

export type FaultName = keyof typeof FAULT_REASONS

/** The numbers of all fault reasons, by name. */
export const FAULT = Object.freeze(
  Object.fromEntries(Object.entries(FAULT_REASONS).map(([name, { code }]) => [name, code])),
) as Readonly<Record<FaultName, number>>

const CODES = 256
const QUALIFIED = new Uint8Array(CODES)
const NAMES: (FaultName | undefined)[] = new Array(CODES).fill(undefined)
for (const [name, { code, isQualified }] of Object.entries(FAULT_REASONS)) {
  QUALIFIED[code] = isQualified ? 1 : 0
  NAMES[code] = name as FaultName
}

/** Whether FPD keeps a fault from being recorded; not so for a number that is no reason. */
export const isQualified = (code: number): boolean => QUALIFIED[code] === 1

/** The name of a fault reason by its number. */
export const faultNameOf = (code: number): FaultName | undefined => NAMES[code]

/** What Linux 6.1 prints for a number. */
export const kernelTextOf = (code: number): string => {
  if (code === 0) return 'Software'
  const name = NAMES[code]
  return name === undefined ? UNKNOWN : FAULT_REASONS[name].kernelText
}
