import { describe, expect, it } from 'vitest'
import { World } from './world.ts'

const MIB = 1n << 20n

/** A window of IOMMU pages of 16 MiB over a partition of 256 MiB. */
const large = (): World => {
  const w = new World()
  w.ram(0n, 256n * MIB)
  w.open({ pageShift: 24, entries: 16, busOffset: 1n << 59n })
  return w
}

describe('foreign-memory, what a grant exposes', () => {
  it('a page of 16 MiB over pages of two owners', () => {
    const w = large()
    const mine = w.own(0x1000, 1, 'nic')
    const other = w.own(0x1001, 3, 'disk')
    w.own(0x1004, 4092, 'nic')
    const set = w.map(2, 0x100_0003n)
    const grant = w.grant(2, { gpa: 0x100_0000n, bytes: 4096 })
    expect(w.found()).toEqual([
      {
        rule: 'foreign-memory',
        message: 'the 16 MiB IOMMU page at memory 0x1000000, 4 KiB granted for nic, also exposes disk 12 KiB',
        because: [
          { seq: mine, line: 0, text: 'gpa 0x1000000 + 4 KiB belongs to nic' },
          { seq: other, line: 0, text: 'gpa 0x1001000 + 12 KiB belongs to disk' },
          {
            seq: set,
            line: 1,
            text:
              'H_PUT_TCE mapped bus address 0x800000002000000 (LIOBN 0x80000000, entry 2) to memory 0x1000000: ' +
              'the device may read and write',
          },
          {
            seq: grant,
            line: 0,
            text:
              'the DMA API granted nic bus address 0x800000002000000 (LIOBN 0x80000000, entry 2): ' +
              '4 KiB of memory at 0x1000000 of nic, to read and write',
          },
        ],
        times: 1,
        inferred: false,
      },
    ])
  })

  it('free memory and the kernel beside the buffer are named with how much of them', () => {
    const w = large()
    w.own(0x1000, 1, 'nic')
    w.own(0x1001, 16, 'kernel')
    w.own(0x1100, 16, 'disk')
    w.own(0x1100, 16, 'free')
    w.map(2, 0x100_0003n)
    w.grant(2, { gpa: 0x100_0000n, bytes: 4096 })
    expect(w.messages('foreign-memory')).toEqual([
      'the 16 MiB IOMMU page at memory 0x1000000, 4 KiB granted for nic, also exposes free ~15.9 MiB, kernel 64 KiB',
    ])
  })

  it('the entry counts, not the words of the grant: it maps another page', () => {
    const w = new World()
    w.open()
    w.own(5, 1, 'nic')
    w.own(6, 1, 'disk')
    w.map(1, 0x6003n)
    w.grant(1, { gpa: 0x5000n })
    expect(w.messages('foreign-memory')).toEqual([
      'the 4 KiB IOMMU page at memory 0x6000, none of it granted, also exposes disk 4 KiB',
    ])
  })

  it('a grant of memory that belongs to somebody else', () => {
    const w = new World()
    w.open()
    w.own(5, 1, 'disk')
    w.map(1, 0x5003n)
    w.grant(1, { gpa: 0x5000n })
    expect(w.rules()).toEqual(['foreign-memory'])
  })

  it('is judged by the grant where the entry is set after it', () => {
    const w = large()
    w.own(0x1000, 1, 'nic')
    w.own(0x1001, 1, 'disk')
    w.grant(2, { gpa: 0x100_0000n, bytes: 4096 })
    expect(w.rules()).toEqual(['foreign-memory'])
  })

  it('the same page for the same reason is counted', () => {
    const w = large()
    w.own(0x1000, 1, 'nic')
    w.own(0x1001, 1, 'disk')
    for (let i = 0; i < 3; i++) {
      w.map(2, 0x100_0003n)
      w.grant(2, { gpa: 0x100_0000n, bytes: 4096 })
      w.revoke(2)
      w.clear(2)
    }
    expect(w.found().map((f) => f.times)).toEqual([3])
  })

  it.each<[string, (w: World) => unknown]>([
    [
      'whole pages of one owner',
      (w) => [w.own(0x1000, 4096, 'nic'), w.map(2, 0x100_0003n), w.grant(2, { gpa: 0x100_0000n })],
    ],
    [
      'two IOMMU pages, both of one owner',
      (w) => [
        w.own(0x1000, 8192, 'nic'),
        w.map(2, 0x100_0003n, { count: 2, step: 24 }),
        w.grant(2, { count: 2, gpa: 0x100_0000n, bytes: 32 << 20 }),
      ],
    ],
    [
      'owners in system pages of 64 KiB',
      (w) => [
        w.own(0x100, 256, 'nic', { pageShift: 16 }),
        w.map(2, 0x100_0003n),
        w.grant(2, { gpa: 0x100_0000n }),
      ],
    ],
    [
      'no owner is named in the grant: the owner of its first page',
      (w) => [w.own(0x1000, 4096, 'nic'), w.map(2, 0x100_0003n), w.grant(2, { gpa: 0x100_0000n, owner: '' })],
    ],
    [
      'memory that no record speaks of',
      (w) => [w.own(0x5000, 1, 'nic'), w.map(2, 0x100_0003n), w.grant(2, { gpa: 0x100_0000n })],
    ],
    [
      'pages of the host are no pages of the guest',
      (w) => [
        w.own(0x1000, 4096, 'nic'),
        w.own(0x1001, 1, 'disk', { space: 'hpa' }),
        w.map(2, 0x100_0003n),
        w.grant(2, { gpa: 0x100_0000n }),
      ],
    ],
  ])('kept: %s', (_what, act) => {
    const w = large()
    act(w)
    expect(w.found()).toEqual([])
  })
})

describe('foreign-memory, pages that change hands', () => {
  const granted = (): World => {
    const w = new World()
    w.open()
    w.own(5, 1, 'nic')
    w.map(1, 0x5003n)
    w.grant(1, { gpa: 0x5000n })
    return w
  }

  it('freed and given to another owner while an entry still maps it', () => {
    const w = granted()
    w.own(5, 1, 'free')
    const reuse = w.own(5, 1, 'disk')
    expect(w.messages('foreign-memory')).toEqual([
      'memory 0x5000 was given to disk while bus address 0x1000 still maps it for nic',
    ])
    expect(w.found()[0]?.because.map((e) => w.log.kindOf(e.seq))).toEqual([
      'tce.set',
      'dma.grant',
      'page.own',
    ])
    expect(w.found()[0]?.because.at(-1)?.seq).toBe(reuse)
  })

  it('also when the grant was taken back but the entry stayed', () => {
    const w = granted()
    w.revoke(1)
    w.own(5, 1, 'disk')
    expect(w.rules()).toEqual(['foreign-memory'])
  })

  it('a page inside a large IOMMU page that was mapped before the first owner was known', () => {
    const w = large()
    w.map(2, 0x100_0003n)
    w.grant(2, { gpa: 0x100_0000n, bytes: 4096 })
    w.own(0x1800, 1, 'disk')
    expect(w.messages('foreign-memory')).toEqual([
      'memory 0x1800000 was given to disk while bus address 0x800000002000000 still maps it for nic',
    ])
  })

  it.each<[string, (w: World) => unknown]>([
    ['unmapped before', (w) => [w.revoke(1), w.clear(1), w.own(5, 1, 'disk')]],
    ['freed only', (w) => w.own(5, 1, 'free')],
    ['given to the same owner again', (w) => [w.own(5, 1, 'free'), w.own(5, 1, 'nic')]],
    ['another page', (w) => w.own(6, 1, 'disk')],
    [
      'the entry maps another page by then',
      (w) => [w.clear(1), w.own(7, 1, 'nic'), w.map(1, 0x7003n), w.own(5, 1, 'disk')],
    ],
    ['the window is closed', (w) => [w.close(), w.own(5, 1, 'disk')]],
  ])('kept: %s', (_what, act) => {
    const w = granted()
    act(w)
    expect(w.found()).toEqual([])
  })

  it('a page that two entries map is exposed until both are cleared', () => {
    const w = granted()
    w.map(2, 0x5003n)
    w.clear(1)
    w.own(5, 1, 'disk')
    w.clear(2)
    w.own(5, 1, 'nic')
    w.own(5, 1, 'disk')
    expect(w.messages('foreign-memory')).toEqual([
      'memory 0x5000 was given to disk while bus address 0x2000 still maps it for nic',
    ])
  })
})

describe('foreign-memory, windows without grants', () => {
  it('two owners in one IOMMU page, once it is clear that nobody grants there', () => {
    const w = large()
    w.own(0x1000, 1, 'nic')
    w.own(0x1001, 1, 'disk')
    w.map(2, 0x100_0003n)
    expect(w.judge.findings).toEqual([])
    expect(w.messages('foreign-memory')).toEqual([
      'the 16 MiB IOMMU page at memory 0x1000000 holds memory of 2 owners: nic 4 KiB, disk 4 KiB',
    ])
  })

  it('a page that goes from one owner to another', () => {
    const w = new World()
    w.open()
    w.own(5, 1, 'nic')
    w.map(1, 0x5003n)
    w.own(5, 1, 'free')
    w.own(5, 1, 'disk')
    expect(w.messages('foreign-memory')).toEqual([
      'memory 0x5000 was given to disk while bus address 0x1000 still maps it for nic',
    ])
  })

  it.each<[string, (w: World) => unknown]>([
    [
      'the window turns out to be a direct one',
      (w) => [w.map(2, 0x100_0003n), w.own(0x1001, 1, 'nic'), w.direct(1n << 59n)],
    ],
    [
      'a direct window, and pages change hands',
      (w) => [w.map(2, 0x100_0003n), w.direct(1n << 59n), w.own(0x1001, 1, 'nic')],
    ],
    ['one owner and free memory', (w) => [w.own(0x1001, 1, 'free'), w.map(2, 0x100_0003n)]],
    ['a page of the table size', (w) => [w.open({ window: 2 }), w.map(1, 0x100_0003n, { window: 2 })]],
  ])('kept: %s', (_what, act) => {
    const w = large()
    w.own(0x1000, 1, 'nic')
    w.own(0x1001, 1, 'disk')
    act(w)
    expect(w.found()).toEqual([])
  })

  it('only windows of the same unit become direct', () => {
    const w = large()
    w.log.emit('device.add', null, { device: 'nic', unit: 'phb1', mask: 0n })
    w.open({ window: 2, pageShift: 24, entries: 16, busOffset: 1n << 59n, unit: 'phb1' })
    w.own(0x1000, 1, 'nic')
    w.own(0x1001, 1, 'disk')
    w.map(2, 0x100_0003n)
    w.map(2, 0x100_0003n, { window: 2 })
    w.direct(1n << 59n, 'nic')
    expect(w.found()).toHaveLength(1)
  })
})

describe('foreign-memory, outside the partition', () => {
  it('an IOMMU page that reaches beyond RAM, in a direct window too', () => {
    const w = new World()
    w.ram(0n, 256n * MIB - 4096n)
    w.open({ pageShift: 24, entries: 16, busOffset: 1n << 59n })
    w.direct(1n << 59n)
    w.map(0, 0x3n, { count: 16, step: 24 })
    expect(w.messages('foreign-memory')).toEqual([
      "the 16 MiB IOMMU page at memory 0xf000000 reaches beyond the partition's RAM, at bus address 0x80000000f000000",
    ])
  })

  it('memory that leaves the partition while a direct window maps it', () => {
    const w = large()
    w.map(0, 0x3n, { count: 16, step: 24 })
    w.direct(1n << 59n)
    w.ram(128n * MIB, 128n * MIB, 0)
    expect(w.messages('foreign-memory')).toEqual([
      'memory 0x8000000 left the partition while bus address 0x800000008000000 still maps it',
    ])
  })

  it('a page of the host inside a direct window, before and after it is mapped', () => {
    const w = large()
    w.own(0x1234, 1, 'host:firmware')
    w.map(0, 0x3n, { count: 16, step: 24 })
    w.direct(1n << 59n)
    w.own(0x4000, 1, 'partition:b')
    expect(w.messages('foreign-memory')).toEqual([
      'the 16 MiB IOMMU page at memory 0x1000000 exposes memory of host:firmware, at bus address 0x800000001000000',
      'memory 0x4000000 was given to partition:b while bus address 0x800000004000000 still maps it',
    ])
  })

  it.each<[string, (w: World) => unknown]>([
    ['all of it RAM', (w) => w.map(0, 0x3n, { count: 16, step: 24 })],
    [
      'RAM that is cleared before it goes',
      (w) => [w.map(8, 0x800_0003n), w.clear(8), w.ram(128n * MIB, 128n * MIB, 0)],
    ],
    [
      'RAM in two slots that touch',
      (w) => [w.ram(256n * MIB, 16n * MIB), w.map(0, 0xf00_0003n, { count: 2, step: 24 })],
    ],
    [
      'pages of the partition itself',
      (w) => [w.own(0x1000, 4096, 'partition:a'), w.map(0, 0x3n, { count: 2, step: 24 })],
    ],
  ])('kept: %s', (_what, act) => {
    const w = large()
    act(w)
    expect(w.found()).toEqual([])
  })
})
