import { describe, expect, it } from 'vitest'
import { World } from './world.ts'

const opened = (shape = {}): World => {
  const w = new World()
  w.open(shape)
  return w
}

describe('double-map', () => {
  it('a live entry gets another page without an unmap', () => {
    const w = opened()
    const first = w.map(1, 0x5003n)
    const second = w.map(1, 0x6003n)
    expect(w.found()).toMatchObject([
      {
        message: 'a live entry was overwritten at bus address 0x1000: 0x5003 became 0x6003',
        inferred: false,
      },
    ])
    expect(w.found()[0]?.because.map((e) => [e.seq, e.line])).toEqual([
      [first, 1],
      [second, 2],
    ])
  })

  it('other permissions are another value', () => {
    const w = opened()
    w.map(1, 0x5001n)
    w.map(1, 0x5003n)
    expect(w.rules()).toEqual(['double-map'])
  })

  it('a list over a list: one finding, with the first entry that differs and how many', () => {
    const w = opened()
    w.map(4, 0x10_0003n, { count: 8 })
    w.map(0, 0x20_0003n, { count: 16 })
    expect(w.messages('double-map')).toEqual([
      '8 live entries were overwritten at bus address 0x4000: 0x100003 became 0x204003',
    ])
  })

  it('a list that agrees with the row it overwrites up to one entry', () => {
    const w = opened()
    w.map(0, 0x10_0003n, { count: 4 })
    w.map(0, 0x10_0003n, { count: 4, step: -1 })
    expect(w.messages('double-map')).toEqual([
      '3 live entries were overwritten at bus address 0x1000: 0x101003 became 0x100003',
    ])
  })

  it('is inferred where either value is', () => {
    const w = opened()
    w.map(0, 0x5003n, { how: 1 })
    w.map(0, 0x6003n)
    w.map(1, 0x5003n)
    w.map(1, 0x6003n, { how: 1 })
    expect(w.found().map((f) => f.inferred)).toEqual([true, true])
  })

  it.each<[string, (w: World) => unknown]>([
    ['unmapped in between', (w) => [w.map(1, 0x5003n), w.clear(1), w.map(1, 0x6003n)]],
    ['the same value again', (w) => [w.map(1, 0x5003n), w.map(1, 0x5003n)]],
    [
      'the same row again, as one record',
      (w) => [w.map(0, 0x5003n, { count: 4 }), w.map(0, 0x5003n, { count: 4 })],
    ],
    ['the same row again, entry by entry', (w) => [w.map(0, 0x5003n, { count: 2 }), w.map(1, 0x6003n)]],
    ['over an entry that nobody knows', (w) => [w.map(1, 0n, { how: 2 }), w.map(1, 0x6003n)]],
    ['by a value that nobody knows', (w) => [w.map(1, 0x5003n), w.map(1, 0n, { how: 2 })]],
    [
      'the same entry of two windows',
      (w) => [w.open({ window: 2 }), w.map(1, 0x5003n), w.map(1, 0x6003n, { window: 2 })],
    ],
  ])('kept: %s', (_what, act) => {
    const w = opened()
    act(w)
    expect(w.found()).toEqual([])
  })

  it('kept: bits below a larger IOMMU page take no part', () => {
    const w = opened({ pageShift: 16 })
    w.map(1, 0x12_3003n)
    w.map(1, 0x12_0003n)
    expect(w.found()).toEqual([])
  })

  it('what a log shows of an entry is what the next write is compared with', () => {
    const w = opened()
    w.map(1, 0x5003n, { how: 1 })
    w.log.emit('tce.seen', null, { window: 1, entry: 1, tce: 0x6003n, verdict: 2, line: 3 })
    w.map(1, 0x6003n)
    expect(w.found()).toEqual([])
  })
})

describe('unmap-miss, entries', () => {
  it('an entry that was mapped, unmapped, and is unmapped again', () => {
    const w = opened()
    const mapped = w.map(5, 0x5003n)
    const cleared = w.clear(5)
    const again = w.clear(5)
    expect(w.found()).toMatchObject([
      {
        rule: 'unmap-miss',
        message: 'an unmap of 1 entry from bus address 0x5000 that is not mapped any more',
      },
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([mapped, cleared, again])
  })

  it('an entry that the clearing of the table had reached, and nobody mapped', () => {
    const w = opened()
    w.clear(0, 64)
    w.clear(5, 2)
    expect(w.messages('unmap-miss')).toEqual([
      'an unmap of 2 entries from bus address 0x5000 that were never mapped',
    ])
  })

  it('entry 0 of a window, unmapped twice: a run of clears that goes nowhere', () => {
    const w = opened()
    w.map(0, 0x5003n)
    w.clear(0)
    w.clear(0)
    w.map(3, 0x5003n)
    expect(w.rules()).toEqual(['unmap-miss'])
  })

  it('entry 0 unmapped twice, and then the run ends', () => {
    const w = opened()
    w.map(0, 0x5003n)
    w.clear(0)
    w.clear(0)
    w.end()
    expect(w.rules()).toEqual(['unmap-miss'])
  })

  it('a sweep that is broken off shows its misses', () => {
    const w = opened()
    for (let at = 0; at < 64; at += 16) w.clear(at, 16)
    w.clear(0, 16)
    w.clear(16, 16)
    w.map(3, 0x5003n)
    expect(w.messages('unmap-miss')).toHaveLength(2)
  })

  it('a window that closes in the middle of a sweep shows them too', () => {
    const w = opened()
    w.clear(0, 64)
    w.clear(0, 16)
    w.close()
    expect(w.rules()).toEqual(['unmap-miss'])
  })

  it.each<[string, (w: World) => unknown]>([
    ['the table at its start, in parts', (w) => [0, 16, 32, 48].map((at) => w.clear(at, 16))],
    [
      'the table again, by a kernel that another one started',
      (w) => {
        w.clear(0, 64)
        w.map(20, 0x5003n)
        for (const at of [0, 16, 32, 48]) w.clear(at, 16)
        for (const at of [0, 16, 32, 48]) w.clear(at, 16)
      },
    ],
    [
      'a sweep that the end of the log cuts',
      (w) => [w.clear(0, 64), w.clear(0, 16), w.clear(16, 16), w.end()],
    ],
    ['a first clear of entries that nobody has touched', (w) => [w.clear(7, 3), w.clear(20)]],
    ['a list in which one entry is live', (w) => [w.clear(0, 64), w.map(9, 0x5003n), w.clear(8, 4)]],
    ['a clear of no entries', (w) => [w.clear(0, 64), w.clear(5, 0)]],
    ['an entry that nobody knows', (w) => [w.clear(0, 64), w.map(9, 0n, { how: 2 }), w.clear(9)]],
    [
      'the undo of a map that failed: the allocator still holds the entries',
      (w) => [w.clear(0, 64), w.map(9, 0x5003n), w.clear(9), w.take(9), w.clear(9), w.free(9)],
    ],
    ['mapped and unmapped over and over', (w) => [1, 2, 3].map(() => [w.map(9, 0x5003n), w.clear(9)])],
  ])('kept: %s', (_what, act) => {
    const w = opened()
    act(w)
    expect(w.found()).toEqual([])
  })

  it('kept: RAM that goes offline and comes back in a direct window', () => {
    const w = opened({ busOffset: 1n << 59n })
    w.map(0, 0x3n, { count: 64 })
    w.direct(1n << 59n)
    w.clear(32, 32)
    w.clear(32, 32)
    expect(w.found()).toEqual([])
  })

  it('an unmap that follows a refused map in a log without an allocator is one', () => {
    const w = opened()
    w.clear(0, 64)
    w.call('H_PUT_TCE', () => undefined, -4)
    w.clear(9)
    expect(w.rules()).toEqual(['unmap-miss'])
  })
})

describe('unmap-miss, grants', () => {
  it('taken back twice', () => {
    const w = opened()
    const granted = w.grant(4, { count: 2 })
    const revoked = w.revoke(4, 2)
    const again = w.revoke(4, 2)
    expect(w.found()).toMatchObject([
      { rule: 'unmap-miss', message: 'an unmap at bus address 0x4000, where nothing is granted any more' },
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([granted, revoked, again])
  })

  it('never granted', () => {
    const w = opened()
    w.revoke(4)
    expect(w.messages('unmap-miss')).toEqual(['an unmap at bus address 0x4000, where nothing is granted'])
  })

  it('more than was granted', () => {
    const w = opened()
    w.grant(4, { count: 2 })
    w.revoke(4, 3)
    expect(w.messages('unmap-miss')).toEqual([
      'an unmap of 3 entries from bus address 0x4000, of which 2 are granted',
    ])
  })

  it('kept: two grants taken back as one, as a scatter list that was merged', () => {
    const w = opened()
    w.grant(4, { count: 2 })
    w.grant(6, { count: 2 })
    w.revoke(4, 4)
    w.revoke(4, 0)
    expect(w.found()).toEqual([])
  })
})

describe('out-of-table', () => {
  it('shows the arithmetic', () => {
    const w = opened()
    const open = 0
    const set = w.set({ first: 62, count: 5, tce: 0x5003n, step: 12 })
    expect(w.found()).toMatchObject([
      {
        rule: 'out-of-table',
        message:
          '3 entries were written outside the table of LIOBN 0x80000000: 62 + 5 = 67, the table has 64',
      },
    ])
    expect(w.found()[0]?.because.map((e) => e.seq)).toEqual([open, set])
  })

  it('all of it outside, by a clear as by a map', () => {
    const w = opened()
    w.clear(64)
    w.map(2 ** 40, 0x5003n)
    expect(w.messages('out-of-table')).toEqual([
      '1 entry was written outside the table of LIOBN 0x80000000: 64 + 1 = 65, the table has 64',
      '1 entry was written outside the table of LIOBN 0x80000000: 1099511627776 + 1 = 1099511627777, the table has 64',
    ])
  })

  it('kept: up to the last entry, and a window of which the log shows no table', () => {
    const w = opened()
    w.map(63, 0x5003n)
    w.clear(0, 64)
    w.map(5000, 0x5003n, { window: 7 })
    expect(w.found()).toEqual([])
  })
})

describe('unmodelled', () => {
  it('each thing once, with its line', () => {
    const w = opened()
    for (const what of ['a', 'b', 'a']) w.log.emit('unmodelled', null, { what, line: 7 })
    expect(w.found().map((f) => [f.message, f.times, f.because[0]?.line])).toEqual([
      ['not modelled: a', 2, 7],
      ['not modelled: b', 1, 7],
    ])
  })

  it('kept: warnings are none', () => {
    const w = opened()
    w.log.emit('warning', null, { layer: 'linux', text: 'iommu_alloc failed' })
    expect(w.found()).toEqual([])
  })
})
