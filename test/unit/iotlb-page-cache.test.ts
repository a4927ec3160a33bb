import { describe, expect, it } from 'vitest'
import { IotlbPageCache } from '../../src/table/iotlb-page-cache.ts'
import { IotlbSlots, LAST_LO, SLOT_LANES } from '../../src/table/iotlb-slots.ts'

const ROUNDS = 0xff_ffff

describe('the page cache of an IOTLB', () => {
  const withPage = () => {
    const slots = new IotlbSlots()
    const cache = new IotlbPageCache(slots)
    const slot = slots.take(-1)
    slots.words[slot * SLOT_LANES + LAST_LO] = 0xfff
    cache.setClear(slot)
    cache.keep(0, slot)
    return { slots, cache, slot }
  }

  it('knows a clear map for its bytes only', () => {
    const { cache, slot } = withPage()
    expect([cache.find(0, 0), cache.find(0, 0xfff), cache.find(0, 0x1000), cache.find(1, 0)]).toEqual([
      slot,
      slot,
      -1,
      -1,
    ])
  })

  it('knows no map that is gone', () => {
    const { slots, cache, slot } = withPage()
    slots.release(slot)
    expect(cache.find(0, 0)).toBe(-1)
  })

  it('knows none in a new round, and none from long ago when rounds begin anew', () => {
    const { cache } = withPage()
    for (let round = 0; round < ROUNDS; round++) {
      cache.nextRound()
      const isLooked = round % 0x10000 === 0 || round > ROUNDS - 3
      if (isLooked && cache.find(0, 0) !== -1) expect.fail(`found in round ${round}`)
    }
  })

  it('forgets nothing that it needs where it grows', () => {
    const { cache, slot } = withPage()
    cache.fit(1000)
    expect(cache.find(0, 0)).toBe(slot === 0 ? slot : -1)
    expect(cache.isClear(slot)).toBe(true)
  })
})

describe('the slots of an IOTLB', () => {
  it('are 2^21 at most', () => {
    const slots = new IotlbSlots()
    for (let i = 0; i < 1 << 21; i++) slots.take(slots.newest)
    expect(() => slots.take(slots.newest)).toThrow('2097152 maps at most')
    slots.release(slots.oldest)
    expect(slots.take(slots.newest)).toBe(0)
    expect([slots.count, slots.oldest, slots.newest]).toEqual([1 << 21, 1, 0])
  })
})
