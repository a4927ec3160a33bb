import { describe, expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { DMA_FAULT } from '../../src/hw/dma-space.ts'
import { IODA_ERRATA } from '../../src/hw/ioda-errata.ts'
import { STOP } from '../../src/hw/pe-firmware.ts'
import type { HwTable } from '../../src/table/hw-table.ts'
import type { MultiLevelTable } from '../../src/table/multi-level-table.ts'
import { eventsOf } from '../support/host.ts'
import { dma, makePhb, openWindow, windowOf } from '../support/ioda.ts'

const GIB = 1n << 30n
const BASE_64 = 1n << 59n
const [EINVAL, ENOMEM] = [-22, -12]

type World = ReturnType<typeof makePhb>
const used = ({ host }: World) => host.frames.frames - host.frames.free

function world(options: Parameters<typeof makePhb>[0] = {}) {
  const m = makePhb(options)
  const pe = m.phb.addPe({ pe: 5, group: 1 })
  const ops = pe.ops!
  return { m, pe, ops, create: ops.createTable.bind(ops) }
}
const shapeOf = (t: HwTable | number) =>
  typeof t === 'number'
    ? t
    : {
        offset: t.offset,
        entries: t.entries,
        levels: t.levels,
        charged: t.allocatedBytes,
        user: t.hasUserView,
      }

describe('a PE of PHB3 and later', () => {
  it('says what it can do', () => {
    const { pe } = world()
    expect(pe).toMatchObject({ tce32Start: 0, tce32Bytes: 2 ** 31, maxWindows: 2, maxLevels: 5 })
    expect(pe.pageSizes).toBe(0x4021_1000n)
    expect(world({ platform: 'PHB3' }).pe.pageSizes).toBe(0x1101_1000n)
    expect(world({ platform: 'PHB5', pageShifts: [12, 16] }).pe.pageSizes).toBe(0x1_1000n)
  })

  // Vector T14, the part of the platform.
  it('makes tables at 0 and at 1 << 59, and tells what they are charged with', () => {
    const { ops, create } = world({ platform: 'PHB3' })
    expect(shapeOf(create(0, 16, 16n * GIB, 1))).toEqual({
      offset: 0,
      entries: 0x4_0000,
      levels: 1,
      charged: 64 * 65_536,
      user: true,
    })
    expect(shapeOf(create(1, 16, 16n * GIB, 2))).toMatchObject({
      offset: 0x800_0000_0000,
      charged: 66 * 65_536,
    })
    expect([create(1, 16, 16n * GIB, 3), ops.tableBytes(16, 16n * GIB, 3)]).toEqual([EINVAL, 68 * 65_536])
    expect([create(0, 16, 16n * GIB, 6), ops.tableBytes(16, 16n * GIB, 6)]).toEqual([EINVAL, 0])
  })

  it('makes one page of entries for a window below an IOMMU page', () => {
    const { ops, create } = world()
    expect(shapeOf(create(0, 16, 0x8000n, 1))).toMatchObject({ entries: 8192, charged: 2 * 65_536 })
    expect([create(0, 16, 0x1000n, 1), ops.tableBytes(16, 0x8000n, 2)]).toEqual([EINVAL, 4 * 65_536])
  })

  it('has no memory for a level above 16 MiB, nor where allocation fails', () => {
    const { m, create } = world()
    expect(create(1, 16, 1n << 40n, 1)).toBe(ENOMEM)
    for (const n of [0, 1]) {
      m.allow(n)
      expect([create(0, 16, GIB, 1), used(m)]).toEqual([ENOMEM, 0])
    }
  })
})

describe('set_window and unset_window', () => {
  it('program the TVE, hold a reference, and kill all of the PE afterwards', () => {
    const { m, pe, ops, create } = world()
    const table = create(1, 16, 16n * GIB, 2) as MultiLevelTable
    expect(ops.setWindow(1, table)).toBe(0)
    expect([pe.tables, table.references]).toEqual([[null, table], 2])
    const tve = (BigInt(table.rootPage) << 16n) | (1n << 13n) | (5n << 8n) | 5n
    const name = 'phb0'
    expect(eventsOf(m, 'hw.window', 'hw.firmware', 'hw.kill')).toMatchObject([
      { kind: 'hw.window', unit: name, pe: 5, index: 1, tve, table: table.number },
      { kind: 'hw.firmware', unit: name, call: 126, scope: 1, pe: 5, count: 0, code: 0 },
      { kind: 'hw.kill', scope: 1, pe: 5 },
    ])
    expect(ops.unsetWindow(1)).toBe(0)
    expect([pe.tables, table.references, used(m)]).toEqual([[null, null], 1, 2])
    expect(dma(pe, BASE_64, 4).fault).toBe(DMA_FAULT.OUTSIDE)
    table.put('vfio')
    expect(used(m)).toBe(0)
  })

  it('of nothing do no harm', () => {
    const { pe, ops } = world()
    expect([ops.unsetWindow(0), ops.unsetWindow(1), pe.tables]).toEqual([0, 0, [null, null]])
  })

  it('are refused for pages that the PHB does not have: nothing is linked', () => {
    const { m, pe, ops, create } = world({ platform: 'PHB4' })
    const table = create(0, 24, GIB, 1) as HwTable
    expect([ops.setWindow(0, table), table.references, pe.tables]).toEqual([-1, 1, [null, null]])
    expect(eventsOf(m, 'hw.window')).toEqual([])
    const other = world({ platform: 'PHB3' })
    expect(other.ops.setWindow(0, other.create(0, 21, GIB, 1) as HwTable)).toBe(-1)
  })

  it('take what the cache held of the PE', () => {
    const { m, pe, ops, create } = world({ platform: 'PHB3' })
    const table = openWindow(pe, { window: 0 })
    table.xchg(0, 0x8000, 3)
    dma(pe, 0n, 4)
    expect(m.phb.cache.count).toBe(1)
    ops.unsetWindow(0)
    expect(m.phb.cache.count).toBe(0)
    expect(eventsOf(m, 'hw.store').at(-1)).toMatchObject({ offset: 0x210, value: (1n << 62n) | 5n, count: 1 })
    expect(ops.setWindow(0, create(0, 16, GIB, 1) as HwTable)).toBe(0)
    expect(dma(pe, 0n, 4).fault).toBe(DMA_FAULT.REFUSED)
  })

  it('share a table between PEs: both are told of a kill, the newest first', () => {
    const { m, pe, ops, create } = world({ platform: 'PHB3' })
    const other = m.phb.addPe({ pe: 6, group: 2 })
    const table = create(0, 16, GIB, 1) as HwTable
    ops.setWindow(0, table)
    other.ops!.setWindow(0, table)
    table.xchg(1, 0x8000, 3)
    expect([dma(pe, 0x1_0000n, 4).code, dma(other, 0x1_0000n, 4).code]).toEqual([0, 0])
    table.kill(1, 1)
    const stores = eventsOf(m, 'hw.store').slice(-2) as { value?: bigint }[]
    expect(stores.map((e) => e.value)).toEqual([(1n << 61n) | 0x1_0006n, (1n << 61n) | 0x1_0005n])
    expect([m.phb.cache.count, table.references]).toEqual([0, 3])
  })
})

describe('ownership', () => {
  it('of the kernel: a table of all memory in host pages, and the bypass window', () => {
    const { m, pe, ops } = world()
    ops.releaseOwnership()
    const own = pe.tables[0]!
    expect(shapeOf(own)).toEqual({ offset: 0, entries: 8192, levels: 2, charged: 0, user: false })
    expect([own.references, pe.tables[1], used(m)]).toEqual([2, null, 1])
    const at = BASE_64 + 0x800_0000n
    expect(dma(pe, at, 4, 'here').code).toBe(0)
    const bytes = new Uint8Array(4)
    m.host.memory.readPage(0x8000, 0, bytes, 0, 4)
    expect(String.fromCharCode(...bytes)).toBe('here')
    expect(eventsOf(m, 'dma.translate').at(-1)).toMatchObject({
      window: windowOf(m),
      gpa: 0x800_0000n,
      perm: 3,
    })
    expect(dma(pe, BASE_64 + (1n << 28n), 4)).toMatchObject({ moved: 0, fault: DMA_FAULT.OUTSIDE })
  })

  it('goes and comes back: bypass, window and table', () => {
    const { m, pe, ops } = world()
    ops.releaseOwnership()
    expect(ops.takeOwnership()).toBe(0)
    expect([pe.tables, used(m)]).toEqual([[null, null], 0])
    expect(dma(pe, BASE_64, 4).fault).toBe(DMA_FAULT.OUTSIDE)
    pe.stops.clearFreeze(STOP.BOTH)
    expect(ops.takeOwnership()).toBe(0)
    ops.releaseOwnership()
    expect([pe.tables[0]?.references, dma(pe, BASE_64, 4).code]).toEqual([2, 0])
  })

  it('goes with the bypass window, linked or not; it stays with a PE that knows no table (bypass-stays-on)', () => {
    for (const id of ['intended', 'bypass-stays-on', 'unlinked-window,bypass-stays-on']) {
      const { m, pe, ops } = world({ freeze: 'none', profile: resolveProfile(IODA_ERRATA, `intended,${id}`) })
      // The table, its first level, and no link.
      m.allow(2)
      ops.releaseOwnership()
      expect([pe.tables, dma(pe, BASE_64, 4).code]).toEqual([[null, null], 0])
      expect(ops.takeOwnership()).toBe(0)
      const stays = id !== 'intended'
      expect(dma(pe, BASE_64, 4).fault).toBe(stays ? DMA_FAULT.NONE : DMA_FAULT.OUTSIDE)
      // With its table linked it goes in any case.
      m.allow(1e9)
      ops.releaseOwnership()
      expect([pe.tables[0] === null, dma(pe, BASE_64, 4).code]).toEqual([false, 0])
      expect(ops.takeOwnership()).toBe(0)
      expect(dma(pe, BASE_64, 4).fault).toBe(DMA_FAULT.OUTSIDE)
    }
  })

  it('leaves a PE without windows where there is no memory for the table', () => {
    const { m, pe, ops } = world()
    m.allow(0)
    ops.releaseOwnership()
    expect(pe.tables).toEqual([null, null])
    expect(dma(pe, BASE_64, 4).fault).toBe(DMA_FAULT.OUTSIDE)
  })

  it('of a host with memory that is no power of two: the table below it, the bypass window above it', () => {
    const { pe, ops } = world({ frames: 3072 })
    ops.releaseOwnership()
    expect(pe.tables[0]?.entries).toBe(8192)
    expect(dma(pe, BASE_64 + 3072n * 65_536n - 4n, 4).code).toBe(0)
    expect(dma(pe, BASE_64 + 3072n * 65_536n, 4).fault).toBe(DMA_FAULT.NO_MEMORY)
  })
})
