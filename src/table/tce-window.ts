import { pageOf } from '../bits/u64.ts'
import type { TceStore } from './tce-store.ts'

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
  readonly store: TceStore
}

/** What `entryAt` answers for an address outside the window. */
export const OUTSIDE = -1

/**
 * Entry of a bus address in two lanes, the address rounded down to its page; OUTSIDE below or above the
 * window. The difference wraps at 64 bits, as the machine's does.
 */
export function entryAt(window: TceWindow, hi: number, lo: number): number {
  const low = (lo >>> 0) - (window.busLo >>> 0)
  const borrow = low < 0 ? 1 : 0
  const entry = pageOf((hi - window.busHi - borrow) | 0, low | 0, window.pageShift)
  return entry < window.entries ? entry : OUTSIDE
}
