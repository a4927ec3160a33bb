import { FAULT } from '../fault-reasons.ts'
import { PERM, TABLE_MODE, type TableMode } from '../ports.ts'

/** What stands refused on a page whose entry is not valid. */
export const EVERYTHING = PERM.READ | PERM.WRITE | PERM.EXECUTE

/** What a fault of a second-level walk refuses for good, in caching mode; 0 for one that is not remembered. */
export function refusedBy(fault: number, need: number): number {
  if (fault === FAULT.PAGING_ENTRY_RSVD || fault === FAULT.SL_RSVD) return EVERYTHING
  if (fault === FAULT.WRITE) return PERM.WRITE
  if (fault === FAULT.READ) return PERM.READ
  // Of an atomic it does not tell which of the two.
  return fault === FAULT.SL_PERM && (need & (need - 1)) === 0 ? need : 0
}

/** The reason why second-level tables do not allow what is missing. */
export function permissionFault(missing: number, mode: TableMode): number {
  if (mode === TABLE_MODE.SCALABLE) return FAULT.SL_PERM
  return (missing & PERM.WRITE) !== 0 ? FAULT.WRITE : FAULT.READ
}
