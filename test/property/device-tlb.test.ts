import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { NO_PASID, type VtdInvalidation } from '../../src/hw/vtd/ports.ts'
import { DeviceTlb, type DeviceTlbEntry } from '../../src/hw/vtd-devices/device-tlb.ts'

const PASIDS = [NO_PASID, 1, 2]

type Step =
  | {
      readonly do: 'keep'
      readonly pasid: number
      readonly isPrivileged: boolean
      readonly page: number
      readonly shift: number
    }
  | { readonly do: 'invalidate'; readonly what: VtdInvalidation }
  | { readonly do: 'clear' }

const pasid = fc.constantFrom(...PASIDS)
const page = fc.integer({ min: 0, max: 2048 })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('keep' as const),
      pasid,
      isPrivileged: fc.boolean(),
      page,
      shift: fc.constantFrom(12, 12, 12, 21, 30),
    }),
  },
  {
    weight: 4,
    arbitrary: fc
      .record({ pasid, page, order: fc.constantFrom(0, 0, 1, 3, 9, 52), isGlobalToo: fc.boolean() })
      .map(({ page: first, ...more }) => {
        const what: VtdInvalidation = {
          what: more.pasid === NO_PASID ? 'device-tlb' : 'pasid-device-tlb',
          scope: 'fine',
          domain: 0,
          source: 0,
          functionMask: 0,
          address: BigInt(first) << 12n,
          isLeafOnly: false,
          ...more,
        }
        return { do: 'invalidate' as const, what }
      }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('clear' as const) }) },
)

/** A list of entries, each with the pages that it is for: the slow way. */
class NaiveTlb {
  list: DeviceTlbEntry[] = []
  readonly #most: number
  constructor(most: number) {
    this.#most = most
  }
  covers(e: DeviceTlbEntry, at: number): boolean {
    return at >= e.first && at < e.first + 2 ** (e.shift - 12)
  }
  keep(entry: DeviceTlbEntry, at: number): void {
    const isSame = (e: DeviceTlbEntry) => e.pasid === entry.pasid && e.isPrivileged === entry.isPrivileged
    this.list = this.list.filter((e) => !(isSame(e) && this.covers(e, at)))
    if (this.list.length >= this.#most) {
      const oldest = Math.min(...this.list.map((e) => e.number))
      this.list = this.list.filter((e) => e.number !== oldest)
    }
    this.list.push(entry)
  }
  invalidate({ what, order, address, pasid: named, isGlobalToo }: VtdInvalidation): void {
    const every = what === 'pasid-device-tlb' && isGlobalToo
    this.list = this.list.filter((e) => {
      if (every ? e.pasid === NO_PASID : e.pasid !== named) return true
      if (order === 52) return false
      const first = (Number(address >> 12n) >> order) << order
      for (let at = first; at < first + 2 ** order; at++) if (this.covers(e, at)) return false
      return true
    })
  }
}

/** Runs steps on both; throws where they differ, also on the way back. */
function compare(tlbOf: (journal: Journal) => DeviceTlb, most: number, steps: readonly Step[]): void {
  const journal = new Journal()
  journal.on = true
  const tlb = tlbOf(journal)
  const naive = new NaiveTlb(most)
  const marks: [mark: number, hash: string, list: DeviceTlbEntry[]][] = []
  const check = () => {
    expect(tlb.entries).toBe(naive.list.length)
    for (const p of PASIDS) {
      for (const isPrivileged of [false, true]) {
        for (const at of steps.map((s) => (s.do === 'keep' ? s.page : 7))) {
          const same = naive.list.filter(
            (e) => e.pasid === p && e.isPrivileged === isPrivileged && naive.covers(e, at),
          )
          const found = tlb.find(p, isPrivileged, at)
          // Where a small page lies in a large one, either may answer.
          if (same.length === 0) expect(found).toBeUndefined()
          else expect(same).toContain(found)
        }
      }
    }
  }
  for (const [number, s] of steps.entries()) {
    marks.push([journal.mark(), journal.hash, naive.list])
    if (s.do === 'clear') {
      tlb.clear()
      naive.list = []
    } else if (s.do === 'invalidate') {
      tlb.invalidate(s.what)
      naive.invalidate(s.what)
    } else {
      const first = s.page - (s.page % 2 ** (s.shift - 12))
      const { pasid: p, isPrivileged, shift } = s
      const entry = { number, pasid: p, isPrivileged, first, target: number, shift, perm: 3 }
      tlb.keep(entry, s.page)
      naive.keep(entry, s.page)
    }
    check()
  }
  for (const [mark, hash, list] of marks.reverse()) {
    journal.rollback(mark)
    naive.list = list
    check()
    expect(journal.hash).toBe(hash)
  }
}

const runs = (tlbOf: (journal: Journal) => DeviceTlb, most = Number.POSITIVE_INFINITY) =>
  fc.check(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => compare(tlbOf, most, steps)),
    { numRuns: 150, seed: 7 },
  )

/** Forgets one page of an invalidation of many. */
class NarrowTlb extends DeviceTlb {
  override invalidate(what: VtdInvalidation): void {
    super.invalidate({ ...what, order: what.order === 52 ? 52 : 0 })
  }
}

/** Keeps what has a PASID when all of them are named. */
class PasidTlb extends DeviceTlb {
  override invalidate(what: VtdInvalidation): void {
    super.invalidate({ ...what, isGlobalToo: false })
  }
}

describe('the TLB of a device', () => {
  it.each([Number.POSITIVE_INFINITY, 5])('keeps what a list of at most %s entries would', (most) => {
    expect(runs((journal) => new DeviceTlb('d', journal, most), most)).toMatchObject({ failed: false })
  })

  it.each([
    ['an invalidation that is too narrow', (journal: Journal) => new NarrowTlb('d', journal)],
    ['PASIDs that stay', (journal: Journal) => new PasidTlb('d', journal)],
    ['a bound', (journal: Journal) => new DeviceTlb('d', journal, 5)],
  ])('the comparison sees %s', (_what, tlbOf) => {
    expect(runs(tlbOf).failed).toBe(true)
  })
})
