import { pageOf } from '../bits/u64.ts'
import type { TceEntries } from './tce-entries.ts'

/**
 * A DMA window: bus addresses [busOffset, busOffset + entries << pageShift), translated by one TCE table.
 *
 * `number` counts lives: a LIOBN that is removed and created again is another window. The bus offset stands
 * in two lanes for the hot path.
 */
export interface TceWindow {
  readonly number: number
  readonly liobn: number
  readonly pageShift: number
  readonly busOffset: bigint
  readonly busHi: number
  readonly busLo: number
  readonly entries: number
  readonly store: TceEntries
}

// A constant that is exported is read through a cell wherever it is used; one that is not becomes part of the code.
const NONE = -1

/** What `entryAt` answers for an address outside the window. */
export const OUTSIDE = NONE

/** Up to so many entries, everything is a small integer. No window of a machine has more. */
const NEAR_ENTRIES = 0x7fff_ffff

/**
 * Entry of a bus address in two lanes, the address rounded down to its page; OUTSIDE (below 0) below or above
 * the window. The difference wraps at 64 bits, as the machine's does.
 */
export function entryAt(window: TceWindow, hi: number, lo: number): number {
  const { busLo, pageShift, entries } = window
  const high = (((hi - window.busHi) | 0) - (lo >>> 0 < busLo >>> 0 ? 1 : 0)) | 0
  const low = (lo - busLo) | 0
  if (pageShift >= 32 || entries > NEAR_ENTRIES) return farEntry(window, high, low)
  if (high >>> pageShift !== 0) return NONE
  const entry = (high << (32 - pageShift)) | (low >>> pageShift)
  return entry >= 0 && entry < entries ? entry : NONE
}

function farEntry({ entries, pageShift }: TceWindow, high: number, low: number): number {
  const entry = pageOf(high, low, pageShift)
  return entry < entries ? entry : NONE
}
