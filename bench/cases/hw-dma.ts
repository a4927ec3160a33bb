import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { DATA_PAGES, HwStand } from '../hw-stand.ts'
import { BUS_HI, PAGE_SHIFT, placeIn, randomIndices } from '../patterns.ts'
import { requestOf, type Watching } from './dma.ts'

/** Entries that are live, and in the table, unless a case says otherwise. */
const LOG2_ENTRIES = 16
/** Levels that tables of 64K entries have at most where a level takes a page of 64 KiB. */
const LEVELS_OF_64K_MAX = 2
/** A cache so small that every random access misses it. */
export const SMALL_CACHE = 64

export interface HwDma {
  readonly levels: number
  readonly isHit: boolean
  /** Live entries, in a table of 2^log2Entries. */
  readonly live: number
  readonly log2Entries: number
  readonly watching: Watching
  /** Which entries the device uses, one after the other. */
  readonly entries: (operations: number, live: number) => { at: Uint32Array; mask: number }
}

/** A device reads eight bytes through entries of a hardware table. */
export const hwDma =
  ({ levels, isHit, live, log2Entries, watching, entries }: HwDma): SetUp =>
  (operations) => {
    const records = watching !== 'bare'
    const cache = isHit ? {} : { cacheEntries: SMALL_CACHE }
    const stand = new HwStand({ records, hasSmallPages: levels > LEVELS_OF_64K_MAX, ...cache })
    const { pe, log, phb } = stand
    const table = stand.ready({ levels, log2Entries })
    stand.fill(table, live)
    const request = requestOf(stand)
    const { buffer } = request
    const one = (entry: number): number => {
      request.hi = BUS_HI + (entry >>> PAGE_SHIFT)
      request.lo = (entry << PAGE_SHIFT) + placeIn(entry & (DATA_PAGES - 1))
      return pe.request(request) + (buffer[3] as number)
    }
    // The cache has all that it can have.
    log.on = false
    const used = isHit ? live : Math.min(live, 2 * SMALL_CACHE)
    let wrong = 0
    for (let entry = 0; entry < used; entry++) if (one(entry) !== (entry & 0xff)) wrong++
    check(wrong === 0, 'data is read')
    log.on = records
    check(phb.cache.count === (isHit ? live : SMALL_CACHE), 'the cache is full')
    const { at, mask } = entries(operations, live)
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) sum = (sum + one(at[i & mask] as number)) | 0
        return sum
      },
    }
  }

const at = (levels: number, isHit: boolean, watching: Watching): HwDma => ({
  ...{ levels, isHit, watching },
  live: 2 ** LOG2_ENTRIES,
  log2Entries: LOG2_ENTRIES,
  entries: randomIndices,
})

const caseOf = (levels: number, isHit: boolean): LoopCase => ({
  id: `tce/${levels}-level/${isHit ? 'hit' : 'miss'}`,
  operation: 'read of 8 B',
  operations: 1 << 18,
  setUp: hwDma(at(levels, isHit, 'bare')),
  peer: {
    label: 'C',
    floor: ['hw-dma', LOG2_ENTRIES, levels, isHit ? 0 : SMALL_CACHE, 2 ** LOG2_ENTRIES, 0],
    sameSum: true,
  },
})

const recordedCase = (isHit: boolean): LoopCase => ({
  id: `tce/records/${isHit ? 'hit' : 'miss'}`,
  operation: 'read of 8 B',
  operations: 1 << 18,
  setUp: hwDma(at(2, isHit, 'records')),
  peer: { label: 'bare', setUp: hwDma(at(2, isHit, 'bare')) },
})

export const HW_DMA: CaseGroup = {
  title: 'DMA through hardware tables',
  note:
    'Ours: IodaPe.request over 2^16 live entries in random order: TVE, TCE cache, a walk through so many levels in ' +
    'host memory, permission, data; no records, or all (tables of two levels). Four levels are those of a host of 4 KiB pages. A miss also finds the oldest of 64 ' +
    'cached entries and takes its place. C: a hash with chains and an order of use, the same walk and the same copy; no ' +
    'TVE to decode, no second PE, no freeze.',
  cases: [
    ...[1, 2, 4].flatMap((levels) => [caseOf(levels, true), caseOf(levels, false)]),
    recordedCase(true),
    recordedCase(false),
  ],
}
