import fc from 'fast-check'
import { expect, it } from 'vitest'
import { INFERRED, Knowledge, SEEN, TRANSLATED, UNKNOWN } from '../../src/machine/replay/knowledge.ts'

const ENTRIES = 40_000
const how = fc.constantFrom(SEEN, INFERRED, UNKNOWN, TRANSLATED)
const fill = fc.record({ first: fc.nat(ENTRIES - 1), count: fc.nat(ENTRIES), how })
const step = fc.oneof(
  { arbitrary: fill, weight: 4 },
  { arbitrary: fc.constant('demote' as const), weight: 1 },
)

it('agrees with one word an entry', () => {
  fc.assert(
    fc.property(
      how,
      fc.array(step, { maxLength: 20 }),
      fc.array(fc.nat(ENTRIES - 1)),
      (initial, steps, looks) => {
        const naive = new Uint8Array(ENTRIES).fill(initial)
        const knowledge = new Knowledge(initial)
        for (const s of steps) {
          if (s === 'demote') {
            knowledge.demote()
            naive.forEach((h, i) => {
              if (h === SEEN || h === TRANSLATED) naive[i] = INFERRED
            })
            continue
          }
          const end = Math.min(ENTRIES, s.first + s.count)
          knowledge.fill(s.first, end, s.how)
          naive.fill(s.how, s.first, end)
        }
        for (const entry of [...looks, 0, ENTRIES - 1]) expect(knowledge.get(entry)).toBe(naive[entry])
      },
    ),
    { numRuns: 200 },
  )
})

it('a window of 2^31 entries costs what is written piecemeal', () => {
  const knowledge = new Knowledge()
  const before = process.memoryUsage().arrayBuffers
  knowledge.fill(1, 2 ** 31, UNKNOWN)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 << 20)
  expect([knowledge.get(0), knowledge.get(1), knowledge.get(2 ** 31 - 1)]).toEqual([SEEN, UNKNOWN, UNKNOWN])
})
