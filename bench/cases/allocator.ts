import { Journal } from '../../src/bits/state.ts'
import { AllocRequest } from '../../src/kernel/guest/alloc-request.ts'
import { GuestLog } from '../../src/kernel/guest/guest-log.ts'
import { FAIL, IommuTable } from '../../src/kernel/guest/iommu-table.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'
import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'
import { PAGE_SHIFT, randomIndices } from '../patterns.ts'

const ALL_ONES = -1
const CPUS = 8
/** Part of a table that the pools for small allocations have. */
const SMALL_PART = 0.75

/** A table whose small pools are full to `percent`, and pairs of a random free and an allocation. */
const pairs =
  (log2Slots: number, pages: number, percent: number): SetUp =>
  (operations) => {
    const log = new RecordLog({ keepRecords: 1 << 15 })
    log.on = false
    const stage = new Stage(log)
    const table = new IommuTable(
      { liobn: 0x8000_0001, pageShift: PAGE_SHIFT, busOffset: 1n << 59n, entries: 2 ** log2Slots },
      { stage, log: new GuestLog(stage), journal: new Journal(), id: 'bench', maskWraps: false },
    )
    const request = new AllocRequest().reach(ALL_ONES, ALL_ONES, PAGE_SHIFT).bound(0, ALL_ONES, PAGE_SHIFT)
    const live = new Int32Array(Math.floor((2 ** log2Slots * SMALL_PART * percent) / 100 / pages))
    for (let i = 0; i < live.length; i++) {
      request.cpu = i & (CPUS - 1)
      live[i] = table.rangeAlloc(pages, request)
    }
    check(!live.includes(FAIL), 'the table is not full')
    check(table.usedCount === live.length * pages, 'every slot is marked once')
    const { at: victims, mask } = randomIndices(operations, live.length)
    const pass = (): number => {
      let sum = 0
      for (let i = 0; i < operations; i++) {
        const at = victims[i & mask] as number
        table.free(live[at] as number, pages)
        request.cpu = i & (CPUS - 1)
        const slot = table.rangeAlloc(pages, request)
        live[at] = slot
        sum = (sum + slot) | 0
      }
      return sum
    }
    for (let done = 0; done < 2 * live.length; done += operations) pass()
    check(table.usedCount === live.length * pages, 'pairs leave as much in use as before')
    return { operations, pass }
  }

const caseOf = (log2Slots: number, pages: number, percent: number): LoopCase => ({
  id: `alloc/2^${log2Slots}/${percent}%/${pages}p`,
  operation: 'free + alloc',
  operations: 1 << 19,
  setUp: pairs(log2Slots, pages, percent),
  peer: { label: 'C', floor: ['alloc', log2Slots, pages, percent, 1], sameSum: true },
  goal: { ratioMax: 1 / 0.7 },
})

export const ALLOCATOR: CaseGroup = {
  title: 'Table allocator',
  note:
    'Ours: IommuTable.free of a random allocation, then rangeAlloc; records off. C: the same four pools, large ' +
    'pool and next fit over a bitmap of 64-bit words, with one uncontended lock (an atomic exchange) around each ' +
    'of the two, as a kernel must; ours has none. Both hand out the same slots. % of the small pools is in use.',
  cases: [16, 19, 22].flatMap((n) => [1, 8].flatMap((p) => [10, 50, 90].map((f) => caseOf(n, p, f)))),
}
