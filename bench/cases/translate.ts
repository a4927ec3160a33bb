import { DmaSpace } from '../../src/hw/dma-space.ts'
import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { busAddresses, PERM, pageOfEntry } from '../patterns.ts'
import { dynamicWindow, Stand } from '../stand.ts'

type Order = 'seq' | 'random'

const LIOBN = 0x8000_0001

/** The bus addresses of a window through its table to memory, as a device's access does it. */
export const translation =
  (log2Entries: number, order: Order): SetUp =>
  (operations) => {
    const stand = new Stand()
    const table = stand.table(LIOBN, dynamicWindow(log2Entries))
    const { stage, journal, memory } = stand
    const space = new DmaSpace({ unit: 'phb0', tables: [table], memory, stage, journal })
    const { hi, lo, mask } = busAddresses(operations, log2Entries, order)
    for (let i = 0; i <= Math.min(mask, 4096); i++) {
      check(space.translate(hi[i] as number, lo[i] as number), 'the address is in the window')
      const page = (space.gpaHi * 2 ** 16 + (space.gpaLo >>> 16)) >>> 0
      check(page === pageOfEntry(space.entry) && space.perm === PERM, 'the entry leads to its page')
    }
    check(!space.translate(0, 0x1000), 'an address below the window is in none')
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) {
          const at = i & mask
          if (space.translate(hi[at] as number, lo[at] as number))
            sum = (sum + space.gpaLo + space.entry + space.perm) | 0
        }
        return sum
      },
    }
  }

const caseOf = (log2Entries: number, order: Order): LoopCase => ({
  id: `translate/2^${log2Entries}/${order === 'seq' ? 'seq' : 'rand'}`,
  operation: 'translation',
  operations: 1 << 20,
  setUp: translation(log2Entries, order),
  peer: { label: 'C', floor: ['tce', log2Entries, order === 'random' ? 1 : 0], sameSum: true },
  goal: { ratioMax: 2.5 },
})

export const TRANSLATE: CaseGroup = {
  title: 'TCE translate',
  note:
    'Ours: DmaSpace.translate over a window of 64K pages at 2^59. C: a function out of line that looks through the ' +
    'tables of a bus, checks the range, reads a flat table and leaves the same four results. Neither makes a record.',
  cases: [16, 19, 22].flatMap((n) => [caseOf(n, 'seq'), caseOf(n, 'random')]),
}
