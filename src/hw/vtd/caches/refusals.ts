import { FAULT } from '../fault-reasons.ts'
import { PERM, TABLE_MODE, type TableMode } from '../ports.ts'

/** What stands refused on a page whose entry is not valid. */
export const EVERYTHING = PERM.READ | PERM.WRITE | PERM.EXECUTE

/** What a fault of a second-level walk refuses for good, in caching mode; 0 for one that is not remembered. */
export function refusedBy(fault: number): number {
  if (fault === FAULT.PAGING_ENTRY_RSVD || fault === FAULT.SL_RSVD) return EVERYTHING
  if (fault === FAULT.SL_PERM) return PERM.READ | PERM.WRITE
  if (fault === FAULT.WRITE || fault === FAULT.SM_WRITE) return PERM.WRITE
  return fault === FAULT.READ || fault === FAULT.SM_READ ? PERM.READ : 0
}

const NOTHING_THERE = PERM.READ | PERM.WRITE

/** The reason why second-level tables do not allow what is needed; `refused` is all that they do not allow. */
export function permissionFault(need: number, refused: number, mode: TableMode): number {
  const missing = need & refused
  const isWrite = (missing & PERM.WRITE) !== 0
  if (mode !== TABLE_MODE.SCALABLE) return isWrite ? FAULT.WRITE : FAULT.READ
  if ((refused & NOTHING_THERE) === NOTHING_THERE) return FAULT.SL_PERM
  if (isWrite) return FAULT.SM_WRITE
  return (missing & PERM.READ) !== 0 ? FAULT.SM_READ : FAULT.SM_EXECUTE
}
