import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { NO_VALUE, RangeMap } from '../../src/bits/range-map.ts'
import { Journal } from '../../src/bits/state.ts'

const PAGES = 64
const OFFSETS = [0, 2 ** 32 - 20, 2 ** 52]

/** The naive model: one value a page. */
class Naive {
  readonly pages = new Map<number, number>()

  apply({ start, end, value }: Op): void {
    for (let page = start; page < end; page++) {
      if (value === null) this.pages.delete(page)
      else this.pages.set(page, value)
    }
  }

  /** Ranges of pages in a row that hold the same value. */
  merged(): [start: number, end: number, value: number][] {
    const out: [number, number, number][] = []
    for (const [page, value] of [...this.pages].sort((a, b) => a[0] - b[0])) {
      const last = out.at(-1)
      if (last !== undefined && last[1] === page && last[2] === value) last[1] = page + 1
      else out.push([page, page + 1, value])
    }
    return out
  }
}

interface Op {
  readonly start: number
  readonly end: number
  readonly value: number | null
}

const ops = fc.constantFrom(...OFFSETS).chain((offset) =>
  fc.array(
    fc
      .record({
        at: fc.nat(PAGES),
        pages: fc.nat(PAGES / 2),
        value: fc.option(fc.integer({ min: -1, max: 2 })),
      })
      .map(({ at, pages, value }): Op => ({ start: offset + at, end: offset + at + pages, value })),
    { maxLength: 30, size: 'max' },
  ),
)

const apply = (map: RangeMap, { start, end, value }: Op) =>
  value === null ? map.erase(start, end) : map.set(start, end, value)
const listOf = (map: RangeMap) => [...map.ranges()].map(({ start, end, value }) => [start, end, value])

describe('a range map, against a map of pages', () => {
  it('holds the same pages in merged ranges', () => {
    fc.assert(
      fc.property(ops, (list) => {
        const map = new RangeMap()
        const naive = new Naive()
        for (const op of list) {
          apply(map, op)
          naive.apply(op)
          expect(listOf(map)).toEqual(naive.merged())
          expect([map.count, map.pages]).toEqual([naive.merged().length, naive.pages.size])
        }
      }),
    )
  })

  it('finds the value at a page, the range at or after it, and the one that starts before it', () => {
    fc.assert(
      fc.property(ops, fc.constantFrom(...OFFSETS), fc.nat(PAGES * 2), (list, offset, at) => {
        const page = offset + at
        const map = new RangeMap()
        const naive = new Naive()
        for (const op of list) {
          apply(map, op)
          naive.apply(op)
        }
        expect(map.get(page)).toBe(naive.pages.get(page) ?? NO_VALUE)
        const next = naive.merged().find(([, end]) => end > page)
        expect(map.next(page) ? [map.start, map.end, map.value] : undefined).toEqual(next)
        const before = naive.merged().findLast(([start]) => start < page)
        expect(map.before(page) ? [map.start, map.end, map.value] : undefined).toEqual(before)
      }),
    )
  })

  it('knows whether a stretch has no hole', () => {
    fc.assert(
      fc.property(ops, fc.nat(PAGES), fc.nat(8), (list, start, pages) => {
        const map = new RangeMap()
        const naive = new Naive()
        for (const op of list) {
          apply(map, op)
          naive.apply(op)
        }
        const all = Array.from({ length: pages }, (_, i) => naive.pages.has(start + i)).every(Boolean)
        expect(map.covers(start, start + pages)).toBe(all)
      }),
    )
  })

  it('leaves neighbours apart where it is told not to merge, and holds the same pages', () => {
    fc.assert(
      fc.property(ops, (list) => {
        const map = new RangeMap({ merge: false })
        const naive = new Naive()
        for (const op of list) {
          apply(map, op)
          naive.apply(op)
          if (op.value !== null && op.end > op.start) {
            expect(map.next(op.start) && [map.start, map.end]).toEqual([op.start, op.end])
          }
        }
        const pages = [...map.ranges()].flatMap(({ start, end, value }) =>
          Array.from({ length: end - start }, (_, i) => [start + i, value]),
        )
        expect(pages).toEqual([...naive.pages].sort((a, b) => a[0] - b[0]))
      }),
    )
  })

  it('goes back to a mark, and two ways to the same ranges give the same hash', () => {
    fc.assert(
      fc.property(ops, ops, (list, more) => {
        const journal = new Journal()
        journal.on = true
        const map = new RangeMap({ journal, key: 5 })
        for (const op of list) apply(map, op)
        const before = { hash: journal.hash, ranges: listOf(map), count: map.count, pages: map.pages }
        const mark = journal.mark()
        for (const op of more) apply(map, op)

        const other = new Journal()
        other.on = true
        const straight = new RangeMap({ journal: other, key: 5 })
        for (const { start, end, value } of [...map.ranges()].reverse()) straight.set(start, end, value)
        expect(other.hash).toBe(journal.hash)
        expect(other.hash === before.hash).toBe(JSON.stringify(listOf(map)) === JSON.stringify(before.ranges))

        journal.rollback(mark)
        expect({ hash: journal.hash, ranges: listOf(map), count: map.count, pages: map.pages }).toEqual(
          before,
        )
      }),
    )
  })

  it('stays right over many leaves: ranges come in order, in reverse and at random, and go again', () => {
    const prng = new Prng(7)
    const journal = new Journal()
    journal.on = true
    const map = new RangeMap({ journal, key: 1 })
    const pages = new Int32Array(8192).fill(NO_VALUE)
    const check = () => {
      for (let page = 0; page < pages.length; page++) {
        if (map.get(page) !== pages[page]) expect([page, map.get(page)]).toEqual([page, pages[page]])
      }
      const ranges = [...map.ranges()]
      expect(ranges.length).toBe(map.count)
      for (let i = 1; i < ranges.length; i++)
        expect(ranges[i]!.start).toBeGreaterThanOrEqual(ranges[i - 1]!.end)
    }
    const put = (page: number, value: number) => {
      map.set(page, page + 1, value)
      pages[page] = value
    }
    for (let page = 0; page < 2048; page += 2) put(page, page)
    for (let page = 8190; page > 6000; page -= 2) put(page, page)
    for (let i = 0; i < 4000; i++) put(prng.below(8192), prng.below(3))
    check()
    const mark = journal.mark()
    const { hash } = journal
    const before = listOf(map)
    for (let i = 0; i < 6000; i++) {
      const start = prng.below(8192)
      const end = Math.min(8192, start + (prng.oneIn(200) ? 800 : 3))
      map.erase(start, end)
      pages.fill(NO_VALUE, start, end)
      if (i % 1500 === 0) check()
    }
    check()
    journal.rollback(mark)
    expect([journal.hash, listOf(map)]).toEqual([hash, before])
    map.clear()
    expect([map.count, map.pages, map.next(0)]).toEqual([0, 0, false])
  })
})
