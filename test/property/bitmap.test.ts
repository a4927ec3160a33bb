import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Bitmap } from '../../src/bits/bitmap.ts'
import { Cells, Journal, keyOf } from '../../src/bits/state.ts'

const BITS = 200
const range = fc.tuple(fc.nat(BITS), fc.nat(BITS)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)
const op = fc.record({ set: fc.boolean(), range })

const make = (journal = new Journal()) => new Bitmap(new Cells(journal, keyOf('bitmap')), BITS)

function both(ops: readonly { set: boolean; range: readonly [number, number] }[]) {
  const map = make()
  const naive = new Array<boolean>(BITS).fill(false)
  for (const { set, range } of ops) {
    if (set) map.setRange(...range)
    else map.clearRange(...range)
    naive.fill(set, ...range)
  }
  return { map, naive }
}

const first = (from: number, end: number, ok: (i: number) => boolean): number => {
  for (let i = from; i < end; i++) if (ok(i)) return i
  return end
}

describe('a bitmap, against an array of booleans', () => {
  it('holds the bits that were set and not cleared', () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 12, size: 'max' }), range, (ops, [from, end]) => {
        const { map, naive } = both(ops)
        expect(naive.map((_, i) => map.has(i))).toEqual(naive)
        expect(map.count(from, end)).toBe(naive.slice(from, end).filter(Boolean).length)
        expect(map.count()).toBe(naive.filter(Boolean).length)
      }),
    )
  })

  it('finds the next clear and the next set bit', () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 12, size: 'max' }), range, (ops, [from, end]) => {
        const { map, naive } = both(ops)
        expect(map.nextZero(from, end)).toBe(first(from, end, (i) => naive[i] === false))
        expect(map.nextSet(from, end)).toBe(first(from, end, (i) => naive[i] === true))
      }),
    )
  })

  it('finds the first aligned area of clear bits', () => {
    fc.assert(
      fc.property(
        fc.array(op, { maxLength: 12, size: 'max' }),
        range,
        fc.integer({ min: 1, max: 40 }),
        fc.nat(5),
        fc.nat(100),
        (ops, [from, end], count, order, offset) => {
          const { map, naive } = both(ops)
          const free = (i: number) =>
            (i + offset) % 2 ** order === 0 &&
            i + count <= end &&
            naive.slice(i, i + count).every((used) => !used)
          expect(map.nextZeroArea(from, end, count, 2 ** order - 1, offset)).toBe(first(from, end, free))
        },
      ),
    )
  })

  it('goes back to a mark, and its hash does not depend on the way', () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 8 }), fc.array(op, { maxLength: 8 }), (ops, more) => {
        const journal = new Journal()
        journal.on = true
        const map = make(journal)
        const run = (list: typeof ops) => {
          for (const { set, range } of list) set ? map.setRange(...range) : map.clearRange(...range)
        }
        run(ops)
        const { hash } = journal
        const before = Array.from({ length: BITS }, (_, i) => map.has(i))
        const mark = journal.mark()
        run(more)
        const after = { hash: journal.hash, bits: Array.from({ length: BITS }, (_, i) => map.has(i)) }
        journal.rollback(mark)
        expect(journal.hash).toBe(hash)
        expect(Array.from({ length: BITS }, (_, i) => map.has(i))).toEqual(before)

        const other = new Journal()
        other.on = true
        const straight = make(other)
        after.bits.forEach((bit, i) => {
          if (bit) straight.setRange(i, i + 1)
        })
        expect(other.hash).toBe(after.hash)
      }),
    )
  })
})
