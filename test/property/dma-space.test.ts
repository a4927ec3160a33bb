import fc from 'fast-check'
import { expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { calls, LIOBN, LIOBN_64, type Pseries, pseries, WINDOW_64 } from '../support/pseries.ts'

const MASK = (1n << 64n) - 1n
const RAM = 0x20_0000n
/** A page in the middle of RAM that is no memory. */
const HOLE = 0x123n

/** Byte by byte, with bigints: where a bus address leads to, or undefined. */
function naive(m: Pseries, iova: bigint, isWrite: boolean): number | undefined {
  for (const liobn of [LIOBN_64, LIOBN]) {
    const window = m.table(liobn).window
    if (window === null) continue
    const offset = (iova - window.busOffset) & MASK
    const entry = offset >> BigInt(window.pageShift)
    if (entry >= BigInt(window.entries)) continue
    const tce = window.store.get(Number(entry))
    if ((tce & (isWrite ? 2n : 1n)) === 0n) return undefined
    const mask = (1n << BigInt(window.pageShift)) - 1n
    const gpa = (tce & MASK & ~mask) | (offset & mask)
    return gpa < RAM && gpa >> 12n !== HOLE ? Number(gpa) : undefined
  }
  return undefined
}

const entry = fc.record({
  at: fc.nat(15),
  tce: fc.oneof(
    { weight: 6, arbitrary: fc.tuple(fc.nat(15), fc.nat(3)).map(([p, d]) => (BigInt(p) << 16n) | BigInt(d)) },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.nat(7), fc.nat(3)).map(([p, d]) => 0x12_0000n + (BigInt(p) << 12n) + BigInt(d)),
    },
    { weight: 1, arbitrary: fc.constantFrom(RAM | 3n, (RAM - 0x1000n) | 3n, MASK, 0xff00_0000_0003n) },
  ),
})
const request = fc.record({
  page: fc.oneof(
    { weight: 5, arbitrary: fc.nat(16).map((p) => BigInt(p) << 12n) },
    { weight: 5, arbitrary: fc.nat(16).map((p) => WINDOW_64 + (BigInt(p) << 16n)) },
    {
      weight: 1,
      arbitrary: fc.constantFrom((1n << 30n) - 0x1000n, MASK - 0xfffn, 0x5000_0000n, WINDOW_64 - 0x1000n),
    },
  ),
  offset: fc.oneof(fc.nat(4095), fc.integer({ min: 4080, max: 4095 }), fc.nat(0xffff)),
  bytes: fc.oneof(fc.nat(40), fc.nat(9000)),
  isWrite: fc.boolean(),
})

it('a request moves the bytes that a translation of each single byte would', () => {
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 24 }),
      fc.array(entry, { maxLength: 24 }),
      fc.array(request, { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      (small, large, requests, overlaps) => {
        const m = pseries({ ramBytes: Number(RAM) })
        m.memory.holes.add(Number(HOLE))
        calls(m).create(16n, 20n)
        if (overlaps) {
          // The first table's window lies under the second's and ends later (CP16).
          calls(m).remove(LIOBN)
          calls(m).create(12n, 21n)
        }
        const start = m.table(LIOBN).window!.busOffset
        for (const { at, tce } of small) calls(m).put(start + (BigInt(at) << 12n), tce)
        for (const { at, tce } of large) calls(m).put(WINDOW_64 + (BigInt(at) << 16n), tce, LIOBN_64)
        for (let i = 0; i < RAM; i++) m.memory.bytes[i] = (i * 7 + (i >> 8)) & 0xff
        for (const { page, offset, bytes, isWrite } of requests) {
          const iova = (page + BigInt(offset)) & MASK
          const buffer = Uint8Array.from({ length: bytes + 8 }, (_, i) => (i * 13 + 5) & 0xff)
          const [wantBuffer, wantMemory] = [buffer.slice(), m.memory.bytes.slice()]
          let moved = 0
          for (let i = 0; i < bytes; i++) {
            const gpa = naive(m, (iova + BigInt(i)) & MASK, isWrite)
            if (gpa !== undefined) moved++
            if (isWrite && gpa !== undefined) wantMemory[gpa] = wantBuffer[i + 4]!
            if (!isWrite) wantBuffer[i + 4] = gpa === undefined ? 0 : m.memory.bytes[gpa]!
          }
          const code = m.phb.space.access(hiOf(iova), loOf(iova), buffer, 4, bytes, isWrite)
          expect([m.phb.space.moved, code]).toEqual([moved, moved === bytes ? 0 : 2])
          expect(Buffer.compare(buffer, wantBuffer)).toBe(0)
          expect(Buffer.compare(m.memory.bytes, wantMemory)).toBe(0)
        }
      },
    ),
    { numRuns: 60 },
  )
})
