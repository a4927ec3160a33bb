import fc from 'fast-check'
import { expect, it } from 'vitest'
import { hiOfPage, loOfPage } from '../../src/bits/u64.ts'
import { newRequest, PERM } from '../../src/hw/vtd/ports.ts'
import { DOMAIN, DSC, SOURCE, vtdWorld } from '../support/vtd.ts'

const PAGES = 1 << 20

const range = fc
  .record({
    first: fc.oneof(
      fc.integer({ min: 0, max: PAGES - 1 }),
      fc.integer({ min: 0, max: PAGES / 512 - 1 }).map((n) => n * 512),
      fc.integer({ min: 0, max: 3 }).map((n) => n * 0x4_0000),
    ),
    count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(512, 1024, 1500, 0x4_0000, 0x4_0200)),
  })
  .map(({ first, count }) => ({ first, end: Math.min(first + count, PAGES) }))

const step = fc.record({
  isMap: fc.boolean(),
  range,
  offset: fc.oneof(fc.constantFrom(0, 512, 0x4_0000), fc.integer({ min: 0, max: 5000 })),
  perm: fc.constantFrom(1, 2, 3),
})

interface Mapped {
  readonly first: number
  readonly end: number
  readonly target: number
  readonly perm: number
}

/** Requests for 0xfeexxxxx are interrupts, whatever the tables say. */
const isInterrupt = (page: number): boolean => page >> 8 === 0xfee

/** Samples of a range: its ends, its neighbours, and some of its pages. */
const samples = ({ first, end }: { first: number; end: number }): number[] =>
  [first - 1, first, first + 1, (first + end) >> 1, end - 1, end].filter(
    (p) => p >= 0 && p < PAGES && !isInterrupt(p),
  )

it('tables say what a list of ranges says, to a walk and to a visit', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const { tables, unit, qemuTables, submit } = vtdWorld({ memoryBytes: 1 << 24 })
      let naive: Mapped[] = []
      const at = (page: number) => naive.find((m) => m.first <= page && page < m.end)
      for (const { isMap, range: r, offset, perm } of steps) {
        const isFree = !naive.some((m) => m.first < r.end && r.first < m.end)
        expect(tables.isMapped(r.first, r.end)).toBe(!isFree)
        if (isMap && isFree) {
          // Huge ranges in large pages, so that their tables are few.
          const shift = r.end - r.first >= 0x4_0000 ? offset & ~511 : offset
          const target = 0x10_0000 + (r.first % 512) + shift
          expect(tables.map(r.first, r.end, target, perm)).toBe(true)
          naive.push({ ...r, target, perm })
        } else if (!isMap) {
          // Whole ranges, as drivers do: a large page has no parts.
          const gone = naive.filter((m) => m.first < r.end && r.first < m.end)
          const first = Math.min(r.first, ...gone.map((m) => m.first))
          const end = Math.max(r.end, ...gone.map((m) => m.end))
          tables.unmap(first, end)
          naive = naive.filter((m) => m.end <= first || m.first >= end)
        }
        // Nothing of what was is remembered.
        expect(submit(...DSC.iotlbAll)).toBe('done')
        for (const page of [r, ...naive].flatMap(samples)) {
          const known = at(page)
          for (const isWrite of [false, true]) {
            const place = { hi: hiOfPage(page, 12), lo: loOfPage(page, 12) }
            const need = isWrite ? PERM.WRITE : PERM.READ
            const fault = unit.translate({ ...newRequest(), ...place, source: SOURCE, need })
            const isAllowed = known !== undefined && (known.perm & (isWrite ? 2 : 1)) !== 0
            expect(fault).toBe(isAllowed ? 0 : isWrite ? 5 : 6)
            if (isAllowed) expect(unit.translation.page).toBe(known.target + (page - known.first))
          }
        }
      }
      const seen: Mapped[] = []
      let next = 0
      expect([qemuTables.find(SOURCE), qemuTables.domain]).toEqual([0, DOMAIN])
      qemuTables.visit((first, pages, target, perm) => {
        expect(first).toBe(next)
        next = first + pages
        if (perm !== 0) seen.push({ first, end: first + pages, target, perm })
      })
      expect(next).toBe(2 ** 27)
      const pagesOf = (list: readonly Mapped[]) => list.reduce((n, m) => n + m.end - m.first, 0)
      expect(pagesOf(seen)).toBe(pagesOf(naive))
      for (const leaf of seen) {
        const known = at(leaf.first)
        expect(known).toMatchObject({ perm: leaf.perm })
        expect(leaf.target - leaf.first).toBe((known as Mapped).target - (known as Mapped).first)
      }
    }),
    {
      numRuns: 60,
      // The end of the range is the first page of the interrupts.
      examples: [[[{ isMap: false, range: { first: 0xfec00, end: 0xfee00 }, offset: 0, perm: 1 }]]],
    },
  )
})
