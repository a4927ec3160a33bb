import { describe, expect, it } from 'vitest'
import { World } from '../check/world.ts'

describe('the ledger', () => {
  it('counts windows, maps, unmaps, peak and what is left', () => {
    const w = new World()
    w.open()
    w.clear(0, 64)
    w.map(1, 0x5003n)
    w.map(16, 0x10_0003n, { count: 16 })
    w.clear(16, 16)
    w.map(2, 0x5003n)
    w.map(1, 0x5001n)
    const l = w.counter.ledger()
    expect(l).toMatchObject({
      mapCalls: 4,
      mapped: 19,
      unmapCalls: 2,
      cleared: 80,
      unmapped: 16,
      peakPages: 17,
      peakBytes: 17 * 4096,
      livePages: 2,
      liveBytes: 8192,
      unknownPages: 0,
      entries: { known: 99, inferred: 0, unknown: 0 },
    })
    expect(l.windows).toEqual([
      {
        window: 1,
        liobn: '0x80000000',
        busOffset: '0x0',
        pageBytes: 4096,
        entries: 64,
        unit: 'phb0',
        openedBy: 0,
        closedBy: null,
        why: '',
        mapCalls: 4,
        mapped: 19,
        unmapCalls: 2,
        cleared: 80,
        unmapped: 16,
        peakPages: 17,
        livePages: 2,
        allowed: 0,
        refused: 0,
      },
    ])
  })

  it('memory that two entries map is reachable once', () => {
    const w = new World()
    w.open({ pageShift: 16 })
    w.map(1, 0x5_0003n)
    w.map(2, 0x5_0001n)
    w.map(3, 0x6_0001n)
    expect(w.counter.ledger()).toMatchObject({ liveBytes: 3 * 65536, reachableBytes: 2 * 65536 })
  })

  it('a window that closes takes its pages with it, and keeps its row', () => {
    const w = new World()
    w.open()
    w.map(1, 0x5003n)
    const closed = w.close()
    w.open({ window: 2, liobn: 0x8000_0001, busOffset: 1n << 59n })
    const l = w.counter.ledger()
    expect(l).toMatchObject({ livePages: 0, peakPages: 1, reachableBytes: 0 })
    expect(l.windows.map((x) => [x.liobn, x.busOffset, x.closedBy, x.why, x.livePages])).toEqual([
      ['0x80000000', '0x0', closed, 'reset', 1],
      ['0x80000001', '0x800000000000000', null, '', 0],
    ])
  })

  it('a call counts once, however many records it leaves', () => {
    const w = new World()
    w.open()
    w.call('H_PUT_TCE_INDIRECT', (c) => {
      w.set({ first: 1, tce: 0x5003n }, c)
      w.set({ first: 2, tce: 0x9003n }, c)
      w.set({ first: 3, tce: 0n }, c)
      w.set({ first: 5, tce: 0n }, c)
    })
    w.set({ first: 4, tce: 0x9003n })
    w.set({ first: 5, tce: 0x9003n })
    expect(w.counter.ledger()).toMatchObject({
      mapCalls: 3,
      mapped: 4,
      unmapCalls: 1,
      cleared: 2,
      unmapped: 0,
    })
  })

  it('answers by call, layer and code', () => {
    const w = new World()
    w.open()
    w.map(1, 0x5003n)
    w.map(2, 0x5003n)
    w.call('H_PUT_TCE', () => undefined, -4)
    w.clear(1)
    expect(w.counter.ledger().calls).toEqual([
      { call: 'H_PUT_TCE', layer: 'qemu', code: 0, count: 2 },
      { call: 'H_PUT_TCE', layer: 'qemu', code: -4, count: 1 },
      { call: 'H_STUFF_TCE', layer: 'qemu', code: 0, count: 1 },
    ])
  })

  it('DMA: requests by device, translations by window, misses', () => {
    const w = new World()
    w.open()
    w.map(1, 0x5003n)
    w.use(1, { cause: w.request('nic', 0x1000n) })
    w.refused(2, { cause: w.request('disk', 0x2000n, 1) })
    w.use(1, { window: 9 })
    w.refused(1, { window: 9 })
    w.log.emit('dma.miss', w.request('nic', 1n << 60n), { unit: 'phb0', iova: 1n << 60n, write: 0 })
    const l = w.counter.ledger()
    expect(l.dma).toEqual({
      requests: 3,
      reads: 2,
      writes: 1,
      bytes: 12,
      allowed: 2,
      refused: 2,
      outsideWindows: 1,
      byDevice: [
        { device: 'disk', requests: 1, bytes: 4 },
        { device: 'nic', requests: 2, bytes: 8 },
      ],
    })
    expect(l.windows[0]).toMatchObject({ allowed: 1, refused: 1 })
  })

  it('what a log does not show, and what it shows later', () => {
    const w = new World()
    w.open()
    w.map(1, 0x5003n, { how: 1 })
    w.map(2, 0n, { how: 2, count: 3 })
    for (const [entry, verdict] of [
      [1, 1],
      [2, 3],
      [3, 2],
      [4, 0],
    ] as const) {
      w.log.emit('tce.seen', null, { window: 1, entry, tce: 0x7003n, verdict, line: 1 })
    }
    expect(w.counter.ledger()).toMatchObject({
      entries: { known: 0, inferred: 1, unknown: 3 },
      shown: { confirmed: 1, contradicted: 1, learned: 1 },
      livePages: 3,
    })
  })

  it('is plain data, the same each time', () => {
    const w = new World()
    w.open()
    w.map(1, 0x5003n)
    const text = JSON.stringify(w.counter.ledger())
    expect(JSON.stringify(w.counter.ledger())).toBe(text)
    expect(JSON.parse(text)).toEqual(w.counter.ledger())
  })
})

describe('run lengths', () => {
  const runsOf = (act: (w: World) => unknown, shape = {}) => {
    const w = new World()
    w.open(shape)
    act(w)
    return w.counter.ledger().runs.map((r) => [r.from, r.to, r.runs, r.pages])
  }

  it.each<[string, (w: World) => unknown, number[][]]>([
    ['one page', (w) => w.map(1, 0x5003n), [[1, 1, 1, 1]]],
    [
      'pages one behind the other are one run',
      (w) => [w.map(1, 0x5003n), w.map(2, 0x6003n), w.map(3, 0x7003n)],
      [[2, 3, 1, 3]],
    ],
    ['not where memory jumps', (w) => [w.map(1, 0x5003n), w.map(2, 0x8003n)], [[1, 1, 2, 2]]],
    ['not where bus addresses jump', (w) => [w.map(1, 0x5003n), w.map(3, 0x6003n)], [[1, 1, 2, 2]]],
    [
      'a list, and a page behind it',
      (w) => [w.map(1, 0x5003n, { count: 7 }), w.map(8, 0xc003n)],
      [[8, 15, 1, 8]],
    ],
    ['a list of one page again and again', (w) => w.map(1, 0x5003n, { count: 5, step: -1 }), [[1, 1, 5, 5]]],
    [
      'such a list goes on where a run ended',
      (w) => [w.map(1, 0x5003n), w.map(2, 0x6003n, { count: 3, step: -1 })],
      [
        [1, 1, 2, 2],
        [2, 3, 1, 2],
      ],
    ],
    ['clears do not end a run', (w) => [w.map(1, 0x5003n), w.clear(30), w.map(2, 0x6003n)], [[2, 3, 1, 2]]],
  ])('%s', (_what, act, runs) => {
    expect(runsOf(act)).toEqual(runs)
  })

  it('another window is another run, another page size another distance', () => {
    expect(
      runsOf((w) => [
        w.open({ window: 2, pageShift: 16 }),
        w.map(1, 0x5_0003n),
        w.map(2, 0x6_0003n, { window: 2 }),
        w.map(3, 0x7_0003n, { window: 2 }),
      ]),
    ).toEqual([
      [1, 1, 1, 1],
      [2, 3, 1, 2],
    ])
  })
})
