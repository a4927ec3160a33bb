/**
 * Fault reasons of legacy mode, by their numbers in a fault recording register (VT-d manual, Fault Conditions and
 * Remapping Hardware Behavior). 0: none.
 */
export const VTD_FAULT = {
  ROOT_ENTRY_P: 0x1,
  CONTEXT_ENTRY_P: 0x2,
  CONTEXT_ENTRY_INVALID: 0x3,
  ADDRESS_BEYOND_MGAW: 0x4,
  WRITE: 0x5,
  READ: 0x6,
  NEXT_TABLE_ACCESS: 0x7,
  ROOT_ENTRY_ACCESS: 0x8,
  CONTEXT_ENTRY_ACCESS: 0x9,
  ROOT_ENTRY_RSVD: 0xa,
  CONTEXT_ENTRY_RSVD: 0xb,
  PAGING_ENTRY_RSVD: 0xc,
  INTERRUPT_RANGE: 0xe,
} as const
