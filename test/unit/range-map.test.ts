import { describe, expect, it } from 'vitest'
import { NO_VALUE, RangeMap } from '../../src/bits/range-map.ts'

describe('RangeMap', () => {
  it('splits, trims and merges', () => {
    const map = new RangeMap()
    map.set(10, 20, 7)
    map.erase(12, 14)
    expect([...map.ranges()]).toEqual([
      { start: 10, end: 12, value: 7 },
      { start: 14, end: 20, value: 7 },
    ])
    map.set(12, 14, 7)
    expect([...map.ranges()]).toEqual([{ start: 10, end: 20, value: 7 }])
    expect([map.get(9), map.get(10), map.get(19), map.get(20)]).toEqual([NO_VALUE, 7, 7, NO_VALUE])
  })

  it('shows the ranges that reach into a stretch whole', () => {
    const map = new RangeMap()
    map.set(0, 10, 1)
    map.set(20, 30, 2)
    map.set(40, 50, 3)
    expect([...map.ranges(5, 40)].map((r) => r.start)).toEqual([0, 20])
    expect([...map.ranges(10, 21)].map((r) => r.start)).toEqual([20])
  })

  it('may be changed while it is walked', () => {
    const map = new RangeMap()
    for (let page = 0; page < 1000; page += 2) map.set(page, page + 1, page)
    for (const { start } of map.ranges()) map.erase(start, start + 3)
    expect(map.count).toBe(0)
  })

  it('does nothing for an empty stretch', () => {
    const map = new RangeMap()
    map.set(5, 5, 1)
    map.set(6, 5, 1)
    map.erase(0, 0)
    expect([map.count, map.get(5), map.before(9)]).toEqual([0, NO_VALUE, false])
  })

  it('refuses pages past 2^53 and values that are no int32', () => {
    const map = new RangeMap()
    expect(() => map.set(-1, 1, 0)).toThrow('model bug')
    expect(() => map.set(0, 2 ** 53, 0)).toThrow('model bug')
    expect(() => map.set(0, 1, 2 ** 31)).toThrow('model bug')
    expect(() => map.set(0, 1, NO_VALUE)).toThrow('model bug')
    expect(map.count).toBe(0)
  })
})
