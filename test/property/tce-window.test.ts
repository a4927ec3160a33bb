import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { TceStore } from '../../src/table/tce-store.ts'
import { entryAt, OUTSIDE, type TceWindow } from '../../src/table/tce-window.ts'

const U64 = (1n << 64n) - 1n
const store = new TceStore({ entries: 1, journal: new Journal(), key: 0, maxBytes: 8 })

function windowAt(busOffset: bigint, pageShift: number, entries: number): TceWindow {
  const lanes = { busHi: hiOf(busOffset), busLo: loOf(busOffset) }
  return { number: 1, liobn: 1, pageShift, busOffset, ...lanes, entries, store }
}

/** The same by bigint: the difference wraps at 64 bits. */
function naiveEntry({ busOffset, pageShift, entries }: TceWindow, address: bigint): number {
  const entry = ((address - busOffset) & U64) >> BigInt(pageShift)
  return entry < BigInt(entries) ? Number(entry) : OUTSIDE
}

const pageShift = fc.constantFrom(12, 16, 21, 24, 28, 31, 32, 34)
const entries = fc.oneof(
  fc.integer({ min: 1, max: 2 ** 20 }),
  fc.constantFrom(2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1, 2 ** 40),
)
const u64 = fc.bigInt({ min: 0n, max: U64 })
const busOffset = fc.oneof(fc.constantFrom(0n, 1n << 31n, 1n << 32n, 1n << 59n, U64 - 0xfffn), u64)

describe('entryAt', () => {
  it('finds the entry that 64-bit arithmetic finds, for every window and address', () => {
    fc.assert(
      fc.property(busOffset, pageShift, entries, u64, (bus, shift, count, address) => {
        const window = windowAt(bus, shift, count)
        expect(entryAt(window, hiOf(address), loOf(address))).toBe(naiveEntry(window, address))
      }),
      { numRuns: 2000 },
    )
  })

  it('is exact at both ends of a window', () => {
    fc.assert(
      fc.property(busOffset, pageShift, entries, fc.bigInt(-2n, 2n), (bus, shift, count, by) => {
        const window = windowAt(bus, shift, count)
        for (const end of [bus, bus + (BigInt(count) << BigInt(shift)), bus + (1n << BigInt(shift))]) {
          const address = (end + by) & U64
          expect(entryAt(window, hiOf(address), loOf(address))).toBe(naiveEntry(window, address))
        }
      }),
      { numRuns: 2000 },
    )
  })
})
