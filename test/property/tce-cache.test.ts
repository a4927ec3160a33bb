import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { TceCache } from '../../src/hw/tce-cache.ts'

const SHIFT = 16

interface Step {
  readonly op: 'use' | 'drop' | 'pages' | 'pe' | 'all'
  readonly pe: number
  readonly page: number
  readonly count: number
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom('use', 'use', 'use', 'use', 'use', 'use', 'drop', 'pages', 'pe', 'all' as const),
  pe: fc.nat(2),
  page: fc.oneof(
    fc.nat(12),
    fc.nat(12).map((n) => 2 ** 43 + n),
    fc.nat(400),
  ),
  count: fc.oneof(fc.nat(6), fc.constant(1000)),
})

const lanes = (page: number) => [Math.floor(page / 2 ** (32 - SHIFT)) | 0, page << SHIFT] as const
const keyOf = (pe: number, page: number) => `${pe}:${page}`

/** The naive cache: a Map in the order of use. */
function apply(cache: TceCache, naive: Map<string, number>, most: number, s: Step): void {
  const [hi, lo] = lanes(s.page)
  const key = keyOf(s.pe, s.page)
  const forget = (isGone: (pe: number, page: number) => boolean) => {
    for (const k of [...naive.keys()]) {
      const [pe, page] = k.split(':').map(Number) as [number, number]
      if (isGone(pe, page)) naive.delete(k)
    }
  }
  if (s.op === 'use') {
    const known = naive.get(key)
    expect(cache.find(s.pe, hi, lo)).toBe(known !== undefined)
    if (known !== undefined) {
      expect(cache.tceLo).toBe(known)
      naive.delete(key)
      naive.set(key, known)
      return
    }
    const oldest = [...naive.keys()][0]
    cache.fill(s.pe, hi, lo, SHIFT, 1, s.count)
    if (naive.size >= most && oldest !== undefined) {
      naive.delete(oldest)
      const address = (cache.evictedHi >>> 0) * 2 ** (32 - SHIFT) + (cache.evictedLo >>> SHIFT)
      expect([keyOf(cache.evictedPe, address), cache.evictedShift]).toEqual([oldest, SHIFT])
    } else expect(cache.evictedPe).toBe(-1)
    naive.set(key, s.count)
  } else if (s.op === 'drop') {
    cache.drop(s.pe, hi, lo)
    naive.delete(key)
  } else if (s.op === 'pages') {
    cache.dropPages(s.pe, s.page, s.count, SHIFT)
    forget((pe, page) => pe === s.pe && page >= s.page && page < s.page + s.count)
  } else if (s.op === 'pe') {
    cache.dropPe(s.pe)
    forget((pe) => pe === s.pe)
  } else {
    cache.dropAll()
    naive.clear()
  }
}

describe.each([
  ['without a bound', Number.POSITIVE_INFINITY],
  ['of five entries', 5],
])('a TCE cache %s', (_name, most) => {
  const make = () => {
    const journal = new Journal()
    journal.on = true
    const bound = Number.isFinite(most) ? { maxEntries: most } : {}
    return { journal, cache: new TceCache({ journal, name: 'phb', ...bound }) }
  }

  it('remembers what a map does', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
        const { cache } = make()
        const naive = new Map<string, number>()
        for (const s of steps) {
          apply(cache, naive, most, s)
          expect(cache.count).toBe(naive.size)
        }
      }),
      { numRuns: 100 },
    )
  })

  it('goes back to a mark', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), fc.array(step, { maxLength: 100 }), (first, second) => {
        const { cache, journal } = make()
        const naive = new Map<string, number>()
        for (const s of first) apply(cache, naive, most, s)
        const copy = new Map(naive)
        const [mark, hash] = [journal.mark(), journal.hash]
        for (const s of second) apply(cache, naive, most, s)
        journal.rollback(mark)
        expect([journal.hash, cache.count]).toEqual([hash, copy.size])
        for (const s of second) apply(cache, copy, most, s)
      }),
      { numRuns: 40 },
    )
  })
})

it('grows past its first buckets', () => {
  const cache = new TceCache({ journal: new Journal(), name: 'phb' })
  for (let page = 0; page < 5000; page++) cache.fill(page % 3, ...lanes(page), SHIFT, 0, page)
  for (let page = 0; page < 5000; page++) {
    expect(cache.find(page % 3, ...lanes(page))).toBe(true)
    expect(cache.tceLo).toBe(page)
  }
  cache.dropPe(1)
  expect(cache.count).toBe(5000 - 1667)
})
