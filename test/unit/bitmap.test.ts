import { describe, expect, it } from 'vitest'
import { BITMAP_BITS_MAX, Bitmap } from '../../src/bits/bitmap.ts'
import { Cells, Journal } from '../../src/bits/state.ts'

const make = (bits: number) => new Bitmap(new Cells(new Journal(), 1), bits)

describe('Bitmap', () => {
  it('keeps to whole words at their edges', () => {
    const map = make(96)
    map.setRange(32, 64)
    expect([map.has(31), map.has(32), map.has(63), map.has(64)]).toEqual([false, true, true, false])
    expect(map.nextZero(32, 96)).toBe(64)
    expect(map.nextSet(0, 96)).toBe(32)
    expect(map.nextSet(0, 32)).toBe(32)
    map.clearRange(33, 63)
    expect(map.count(0, 96)).toBe(2)
  })

  it('does not see bits of the last word that lie past the end', () => {
    const map = make(40)
    map.setRange(0, 40)
    expect(map.nextZero(0, 40)).toBe(40)
    expect(map.nextZero(0, 33)).toBe(33)
  })

  it('skips an aligned place that would pass the end', () => {
    const map = make(64)
    map.setRange(0, 1)
    expect(map.nextZeroArea(0, 64, 32, 31)).toBe(32)
    map.setRange(40, 41)
    expect(map.nextZeroArea(0, 64, 32, 31)).toBe(64)
  })

  it('refuses a range that leaves it, and more bits than a small integer counts', () => {
    expect(() => make(40).setRange(0, 41)).toThrow('model bug')
    expect(() => make(40).nextZero(-1, 3)).toThrow('model bug')
    expect(() => make(BITMAP_BITS_MAX + 1)).toThrow('model bug')
  })
})
