import { H_CODES } from '../../bits/codes.ts'
import type { DmaDir } from '../../table/hw-table.ts'
import { NO_ANSWER } from '../ports.ts'
import type { Attachment, GuestTceTable } from './guest-tce-table.ts'
import type { TableUpdates } from './table-updates.ts'
import type { UserAddress } from './user-address.ts'

const { H_SUCCESS } = H_CODES

/**
 * Maps or takes back a guest page in all hardware tables behind a table of a guest. Where one refuses, page `clear` is
 * cleared there (below 0: none is); the tables before it keep what they have. Answers H_SUCCESS, what that table answered, or NO_ANSWER.
 *
 * @param isPut H_PUT_TCE, which tells the caches of each page
 */
export function writeAll(
  updates: TableUpdates,
  { attachments, pageShift }: GuestTceTable,
  entry: number,
  clear: number,
  { uaHi, uaLo }: UserAddress,
  dir: DmaDir,
  isMapped: boolean,
  isPut: boolean,
): number {
  for (let t = 0; t < attachments.length; t++) {
    const { table } = attachments[t] as Attachment
    const result = isMapped
      ? updates.mapPage(table, pageShift, entry, uaHi, uaLo, dir)
      : updates.unmapPage(table, pageShift, entry)
    if (result === NO_ANSWER) return NO_ANSWER
    if (isPut) updates.killGuestPages(table, entry, 1)
    if (result === H_SUCCESS) continue
    if (clear >= 0) updates.clearTce(table, pageShift, clear)
    return result
  }
  return H_SUCCESS
}

/** The caches of all those tables are told of guest pages. */
export function killAll(
  updates: TableUpdates,
  { attachments }: GuestTceTable,
  entry: number,
  npages: number,
): void {
  for (let t = 0; t < attachments.length; t++)
    updates.killGuestPages((attachments[t] as Attachment).table, entry, npages)
}
