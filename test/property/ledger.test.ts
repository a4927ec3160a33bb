import fc from 'fast-check'
import { expect, it } from 'vitest'
import { World } from '../unit/check/world.ts'

const ENTRIES = 64

const anyStep = fc.record({
  window: fc.constantFrom(1, 2),
  first: fc.nat(ENTRIES - 1),
  count: fc.integer({ min: 1, max: 12 }),
  page: fc.nat(40),
  perm: fc.constantFrom(0, 1, 2, 3),
  step: fc.constantFrom(-1, 12, 13),
})

/** Pages behind a record, entry by entry, as the simplest reading of it says. */
it('the ledger agrees with one number an entry', () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 40 }), (steps) => {
      const w = new World()
      w.open()
      w.open({ window: 2, liobn: 0x8000_0001 })
      const live = new Map<string, number>()
      const sums = { mapped: 0, cleared: 0, unmapped: 0, peakPages: 0 }
      const runs: number[] = []
      let next = ''
      for (const { window, first, count, page, perm, step } of steps) {
        w.set({ window, first, count, tce: (BigInt(page) << 12n) | BigInt(perm), step })
        for (let i = 0; i < count && first + i < ENTRIES; i++) {
          const key = `${window}/${first + i}`
          if (perm === 0) {
            sums.cleared++
            if (live.delete(key)) sums.unmapped++
            continue
          }
          sums.mapped++
          const there = page + (step < 0 ? 0 : i * 2 ** (step - 12))
          live.set(key, there)
          if (next === `${key}@${there}`) runs.push((runs.pop() ?? 0) + 1)
          else runs.push(1)
          next = `${window}/${first + i + 1}@${there + 1}`
        }
        sums.peakPages = Math.max(sums.peakPages, live.size)
      }
      const ledger = w.counter.ledger()
      expect(ledger).toMatchObject({
        ...sums,
        livePages: live.size,
        liveBytes: live.size * 4096,
        reachableBytes: new Set(live.values()).size * 4096,
      })
      const histogram = new Map<number, [number, number]>()
      for (const pages of runs) {
        const from = 2 ** Math.floor(Math.log2(pages))
        const [n, sum] = histogram.get(from) ?? [0, 0]
        histogram.set(from, [n + 1, sum + pages])
      }
      const wanted = [...histogram].sort((a, b) => a[0] - b[0]).map(([from, [n, sum]]) => [from, n, sum])
      expect(ledger.runs.map((r) => [r.from, r.runs, r.pages])).toEqual(wanted)
    }),
    { numRuns: 300 },
  )
})
