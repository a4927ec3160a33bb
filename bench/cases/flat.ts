import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { DATA_PAGES, HwStand, uaPageOf } from '../hw-stand.ts'
import { randomIndices } from '../patterns.ts'
import { hwDma, SMALL_CACHE } from './hw-dma.ts'

const LEVELS = 2
const POWERS = [3, 4, 5, 6, 7]
const SPREAD = 512
/** Pairs: ten million entries take seconds to make. */
const pairsFor = (power: number): number => (power < 7 ? 3 : 1)
/** A table takes at least a page of the host, 64 KiB. */
const LOG2_ENTRIES_MIN = 13

/** `all`: any live entry. `few`: 512 of them, spread over all, so that what they need stays in the processor's caches. */
type Where = 'all' | 'few'
type What = 'map' | 'hit' | 'miss'

const entriesOf =
  (where: Where) =>
  (operations: number, live: number): { at: Uint32Array; mask: number } => {
    if (where === 'all') return randomIndices(operations, live)
    const { at, mask } = randomIndices(operations, SPREAD)
    const step = Math.floor(live / SPREAD)
    return { at: at.map((n) => n * step), mask }
  }

/** An entry is unmapped and mapped again; all others stay. */
const remap =
  (where: Where, live: number, log2Entries: number): SetUp =>
  (operations) => {
    const stand = new HwStand({ records: true })
    const { mapping, memory, qemu } = stand
    const table = stand.ready({ levels: LEVELS, log2Entries })
    const { region } = stand
    stand.fill(table, live)
    check(memory.mappedOf(region) === live + 1, 'all entries are live')
    const { at, mask } = entriesOf(where)(operations, live)
    const { mm } = qemu
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) {
          const entry = at[i & mask] as number
          mapping.clear(table, mm, table.offset + entry, 1)
          sum += memory.mappedOf(region)
          const built = mapping.build(
            table,
            mm,
            table.offset + entry,
            uaPageOf(entry & (DATA_PAGES - 1)),
            1,
            3,
          )
          if (built === 'done') sum = (sum + memory.mappedOf(region)) | 0
        }
        return sum
      },
    }
  }

function caseOf(what: What, where: Where, power: number): LoopCase {
  const live = 10 ** power
  const log2Entries = Math.max(LOG2_ENTRIES_MIN, Math.ceil(Math.log2(live)))
  const spread = where === 'all' ? 0 : SPREAD
  const dma = what === 'map' ? undefined : { levels: LEVELS, isHit: what === 'hit', live, log2Entries }
  const cache = what === 'hit' ? 0 : SMALL_CACHE
  return {
    id: `flat/${what}/${where}/10^${power}`,
    operation: what === 'map' ? 'unmap + map' : 'read of 8 B',
    operations: 1 << 17,
    pairsMax: pairsFor(power),
    setUp:
      dma === undefined
        ? remap(where, live, log2Entries)
        : hwDma({ ...dma, watching: 'bare', entries: entriesOf(where) }),
    peer: {
      label: 'C',
      floor:
        what === 'map'
          ? ['remap', log2Entries, LEVELS, live, spread]
          : ['hw-dma', log2Entries, LEVELS, cache, live, spread],
      sameSum: true,
    },
  }
}

export const FLAT: CaseGroup = {
  title: 'From a thousand to ten million live entries',
  note:
    'Ours: as above, tables of two levels with so many live entries: an entry is unmapped and mapped again (with ' +
    'records), or a device reads through a cache that holds all entries (hit) or 64 of them (miss). C: the same ' +
    'structures with as many entries. all: any live entry, so that from 10^6 on both sides wait for memory. few: 512 of ' +
    'them, spread over all.',
  cases: (['map', 'hit', 'miss'] as const).flatMap((what) =>
    (['few', 'all'] as const).flatMap((where) => POWERS.map((power) => caseOf(what, where, power))),
  ),
}
