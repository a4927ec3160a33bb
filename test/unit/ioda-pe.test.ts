import { describe, expect, it } from 'vitest'
import { DMA_FAULT } from '../../src/hw/dma-space.ts'
import type { IodaPe } from '../../src/hw/ioda-pe.ts'
import { openSegments } from '../../src/hw/ioda1-window.ts'
import { STOP } from '../../src/hw/pe-firmware.ts'
import { eventsOf } from '../support/host.ts'
import { dma, makePhb, openWindow, windowOf } from '../support/ioda.ts'

const OK = 0
const DECODE_ERROR = 2
const BASE_64 = 1n << 59n
/** 4 KiB page of memory that no table lies in, and its address. */
const H = 0x8000
const HPA = BigInt(H) << 12n

const text = (bytes: Uint8Array) => String.fromCharCode(...bytes)
type World = ReturnType<typeof makePhb>

/** Why the PE was frozen. */
const whyFrozen = (m: World) => eventsOf(m, 'pe.freeze').map((e) => (e as { why?: string }).why)
const fillsOf = (m: World) => eventsOf(m, 'hw.fill').length
const put = (m: World, page: number, data: string) => {
  const bytes = new TextEncoder().encode(data)
  m.host.memory.writePage(page, 0, bytes, 0, bytes.length)
}

describe('a DMA through a window', () => {
  it.each([1, 2])('of %i levels moves bytes, over borders of pages too', (levels) => {
    const m = makePhb()
    const pe = m.phb.addPe({ pe: 5, group: 1 })
    const table = openWindow(pe, { window: 1, levels })
    table.xchg(table.offset, H, 3)
    table.xchg(table.offset + 1, H + 0x100, 3)
    expect(dma(pe, BASE_64 + 0xfffcn, 8, 'abcdefgh')).toMatchObject({ code: OK, moved: 8, fault: 0 })
    const read = dma(pe, BASE_64 + 0xfffcn, 8)
    expect([read.code, text(read.buffer)]).toEqual([OK, 'abcdefgh'])
    const bytes = new Uint8Array(4)
    m.host.memory.readPage(H + 0x100, 0, bytes, 0, 4)
    expect(text(bytes)).toBe('efgh')
    expect(eventsOf(m, 'dma.translate')).toHaveLength(4)
    expect(eventsOf(m, 'dma.translate')[0]).toMatchObject({
      window: windowOf(m),
      entry: 0,
      address: BASE_64 + 0xfffcn,
      gpa: HPA + 0xfffcn,
      perm: 3,
      need: 2,
      allowed: 1,
    })
  })

  it.each([1, 2])(
    'of %i levels reaches no further than its table; on an emulated host it begins anew (Q15)',
    (levels) => {
      for (const wraps of [false, true]) {
        const m = makePhb({ wraps, freeze: 'none' })
        const pe = m.phb.addPe({ pe: 5, group: 1 })
        const table = openWindow(pe, { levels })
        table.xchg(3, H, 3)
        // A level of one host page tells 2^13 entries apart, the only level of a table 2^14.
        const reach = (1n << (levels === 1 ? 14n : 26n)) << 16n
        expect(dma(pe, 0x3_0010n, 4, 'near')).toMatchObject({ code: OK, moved: 4 })
        const far = dma(pe, 5n * reach + 0x3_0010n, 4)
        expect([far.fault, text(far.buffer)]).toEqual(
          wraps ? [DMA_FAULT.NONE, 'near'] : [DMA_FAULT.OUTSIDE, '\0\0\0\0'],
        )
        expect(eventsOf(m, 'dma.translate').at(-1)).toMatchObject({ entry: wraps ? 3 : expect.any(Number) })
      }
    },
  )

  it('without a table ends with the memory; on an emulated host 50 bits of the address count (Q15)', () => {
    for (const wraps of [false, true]) {
      const m = makePhb({ wraps, freeze: 'none' })
      const pe = m.phb.addPe({ pe: 5, group: 1 })
      pe.ops!.releaseOwnership()
      put(m, H, 'near')
      const far = dma(pe, BASE_64 + (5n << 50n) + HPA, 4)
      expect([far.fault, text(far.buffer)]).toEqual(
        wraps ? [DMA_FAULT.NONE, 'near'] : [DMA_FAULT.OUTSIDE, '\0\0\0\0'],
      )
      const behind = dma(pe, BASE_64 + (1n << 40n), 4)
      expect(behind).toMatchObject({ moved: 0, fault: wraps ? DMA_FAULT.NO_MEMORY : DMA_FAULT.OUTSIDE })
    }
  })

  it('of PHB3 has pages of 16 MiB, of PHB4 of 1 GiB', () => {
    for (const [platform, pageShift, page] of [
      ['PHB3', 24, 0x8000],
      ['PHB4', 30, 0],
    ] as const) {
      const m = makePhb({ platform })
      const pe = m.phb.addPe({ pe: 1, group: 1 })
      const table = openWindow(pe, { window: 1, pageShift, windowBytes: 1n << 40n })
      table.xchg(table.offset + 3, page, 1)
      put(m, 0x8123, 'here')
      const at = BASE_64 + (3n << BigInt(pageShift)) + (BigInt(0x8123 - page) << 12n)
      expect(text(dma(pe, at, 4).buffer)).toBe('here')
    }
  })

  it('reads with a TCE that is for writes: WRITE brings READ in hardware', () => {
    const m = makePhb()
    const pe = m.phb.addPe({ pe: 5, group: 1 })
    const table = openWindow(pe)
    table.xchg(0, H, 2)
    put(m, H, 'data')
    expect(text(dma(pe, 0n, 4).buffer)).toBe('data')
  })
})

describe('what cannot be carried out freezes the PE', () => {
  const world = (levels = 2) => {
    const m = makePhb()
    const pe = m.phb.addPe({ pe: 5, group: 1 })
    const table = openWindow(pe, { levels })
    table.xchg(0, H, 1)
    return { m, pe, table }
  }

  it.each<[string, bigint, number, string]>([
    ['a write without WRITE', 0n, DMA_FAULT.REFUSED, 'no permission'],
    ['an empty entry', 0x1_0000n, DMA_FAULT.REFUSED, 'no permission'],
    ['a missing level', 8192n << 16n, DMA_FAULT.REFUSED, 'a level of the table is missing'],
    ['the window without a TVE', BASE_64, DMA_FAULT.OUTSIDE, 'no valid TVE'],
    ['an address behind all levels', 1n << 42n, DMA_FAULT.OUTSIDE, 'outside the window'],
    ['the 32-bit MSI hole', 0xffff_0000n, DMA_FAULT.OUTSIDE, 'address of message signalled interrupts'],
    ['the 64-bit MSI space', 1n << 60n, DMA_FAULT.OUTSIDE, 'address of message signalled interrupts'],
    ['bus address bits 61 and up', 1n << 61n, DMA_FAULT.OUTSIDE, 'bus address bits 60 to 63'],
  ])('%s', (_what, iova, fault, why) => {
    const { m, pe } = world()
    expect(dma(pe, iova, 4, 'lost')).toMatchObject({ code: DECODE_ERROR, moved: 0, fault })
    expect([pe.stops.latched === STOP.BOTH, whyFrozen(m)]).toEqual([true, [why]])
  })

  it('memory that is not there', () => {
    const { m, pe, table } = world()
    table.xchg(2, 0x800_0000, 3)
    expect(dma(pe, 0x2_0000n, 4)).toMatchObject({ moved: 0, fault: DMA_FAULT.NO_MEMORY })
    expect(whyFrozen(m)).toEqual(['no memory there'])
  })

  it('and stops it in the middle: bytes before are moved, the rest of a read is zeros', () => {
    const { m, pe } = world()
    put(m, H + 15, 'x'.repeat(4096))
    const { buffer, moved } = dma(pe, 0xfffcn, 12)
    expect([moved, [...buffer]]).toEqual([4, [...new TextEncoder().encode('xxxx'), 0, 0, 0, 0, 0, 0, 0, 0]])
  })

  it('until it is thawed: nothing gets through, other PEs go on', () => {
    const { m, pe } = world()
    const other = m.phb.addPe({ pe: 6, group: 2 })
    openWindow(other).xchg(0, H, 3)
    dma(pe, 0n, 4, 'lost')
    const before = eventsOf(m, 'dma.translate').length
    expect(dma(pe, 0n, 4)).toMatchObject({ code: DECODE_ERROR, moved: 0, fault: DMA_FAULT.FROZEN })
    expect(eventsOf(m, 'dma.translate')).toHaveLength(before)
    expect(dma(other, 0n, 4, 'good').code).toBe(OK)
    pe.stops.clearFreeze(STOP.BOTH)
    pe.stops.clearFreeze(STOP.BOTH)
    expect([text(dma(pe, 0n, 4).buffer), eventsOf(m, 'pe.thaw').length]).toEqual(['good', 1])
  })

  it('except where the PHB does not: software that freezes a PE is told that it did', () => {
    const m = makePhb({ freeze: 'none' })
    const { stops } = m.phb.addPe({ pe: 5, group: 1 })
    expect([stops.setFreeze(), stops.latched, stops.isDmaStopped, eventsOf(m, 'pe.stop')]).toEqual([
      0,
      0,
      false,
      [],
    ])
    m.phb.fence.raise()
    expect(stops.setFreeze()).toBe(-5)
  })

  it('except where the PHB does not freeze: zeros, and the next page goes on', () => {
    const m = makePhb({ freeze: 'none' })
    const pe = m.phb.addPe({ pe: 5, group: 1 })
    const table = openWindow(pe, { pageShift: 12 })
    table.xchg(1, H, 3)
    put(m, H, 'data')
    const { code, moved, buffer } = dma(pe, 0xffcn, 8)
    expect([code, moved, [...buffer]]).toEqual([
      DECODE_ERROR,
      4,
      [0, 0, 0, 0, ...new TextEncoder().encode('data')],
    ])
    expect([pe.stops.latched === STOP.BOTH, pe.fault, whyFrozen(m)]).toEqual([false, DMA_FAULT.REFUSED, []])
    expect(dma(pe, 0n, 4096 + 4, `${'lost'.repeat(1024)}good`)).toMatchObject({ moved: 4 })
    expect(text(dma(pe, 0x1000n, 4).buffer)).toBe('good')
  })
})

describe('the TCE cache', () => {
  const world = (options: Parameters<typeof makePhb>[0] = {}) => {
    const m = makePhb({ platform: 'PHB3', ...options })
    const pe = m.phb.addPe({ pe: 5, group: 1 })
    const table = openWindow(pe, { pageShift: 12, windowBytes: 1n << 24n })
    for (let i = 0; i < 8; i++) {
      put(m, H + i, `p${i}`)
      table.xchg(i, H + i, 1)
    }
    return { m, pe, table }
  }
  const read = (pe: IodaPe, page: number) => text(dma(pe, BigInt(page) << 12n, 2).buffer)

  it('keeps an entry that the table has no more, until the kill', () => {
    const { pe, table } = world()
    expect(read(pe, 2)).toBe('p2')
    table.xchg(2, H + 3, 1)
    expect(read(pe, 2)).toBe('p2')
    table.kill(2, 1)
    expect(read(pe, 2)).toBe('p3')
    table.xchg(2, 0, 0)
    table.kill(2, 1)
    expect([read(pe, 2), pe.stops.latched === STOP.BOTH]).toEqual(['\0\0', true])
  })

  // Vector T10: the pages behind those that were cleared were killed.
  it('answers from a stale entry where the wrong pages were killed', () => {
    const { pe, table } = world()
    for (let i = 0; i < 8; i++) read(pe, i)
    table.clear(0, 4)
    table.kill(4, 4)
    expect(read(pe, 0)).toBe('p0')
    for (let i = 0; i < 4; i++) table.kill(i, 1)
    expect([read(pe, 0), pe.stops.latched === STOP.BOTH]).toEqual(['\0\0', true])
  })

  it('does not remember an entry without permission', () => {
    const { m, pe, table } = world({ freeze: 'none' })
    expect(read(pe, 9)).toBe('\0\0')
    expect(fillsOf(m)).toBe(0)
    table.xchg(9, H, 1)
    expect(read(pe, 9)).toBe('p0')
  })

  it('is of each PE, whatever the bus address', () => {
    const { m, pe, table } = world()
    const other = m.phb.addPe({ pe: 6, group: 2 })
    openWindow(other, { pageShift: 12, windowBytes: 1n << 24n }).xchg(0, H + 7, 1)
    expect([read(pe, 0), read(other, 0), m.phb.cache.count]).toEqual(['p0', 'p7', 2])
    table.kill(0, 16)
    expect(m.phb.cache.count).toBe(1)
  })

  it('of a number of entries makes room, with a record', () => {
    const { m, pe, table } = world({ cacheEntries: 2 })
    read(pe, 0)
    read(pe, 1)
    read(pe, 0)
    read(pe, 2)
    const kills = eventsOf(m, 'hw.kill')
    expect(kills.at(-1)).toMatchObject({ scope: 3, pe: 5, address: 0x1000n, pageShift: 12, count: 1 })
    table.xchg(1, H + 7, 1)
    expect([read(pe, 0), read(pe, 1)]).toEqual(['p0', 'p7'])
  })
})

describe('P7IOC', () => {
  const world = (segments = 2) => {
    const m = makePhb({ platform: 'P7IOC', frames: 8192 })
    const pe = m.phb.addPe({ pe: 3, group: 1, firstSegment: 4, segments })
    expect(openSegments(m.phb, pe)).toBe(0)
    return { m, pe, table: pe.tables[0]! }
  }

  it('has one window of segments, of 4 KiB pages, and no operations', () => {
    const { pe, table } = world()
    expect([pe.ops, pe.pageSizes, pe.tce32Start, pe.tce32Bytes]).toEqual([
      null,
      0x1000n,
      0x4000_0000,
      0x2000_0000,
    ])
    expect([table.offset, table.entries, table.levels, table.hasUserView, table.references]).toEqual([
      0x4_0000,
      0x2_0000,
      1,
      false,
      2,
    ])
  })

  it('reaches memory through the part of the table for the segment', () => {
    const { m, pe, table } = world(3)
    put(m, H, 'aa')
    put(m, H + 1, 'bb')
    table.xchg(0x4_0000, H, 3)
    table.xchg(0x6_ffff, H + 1, 3)
    expect(text(dma(pe, 0x4000_0000n, 2).buffer)).toBe('aa')
    expect(text(dma(pe, 0x6fff_f000n, 2).buffer)).toBe('bb')
    expect(eventsOf(m, 'dma.translate').map((e) => (e as { entry?: number }).entry)).toEqual([0, 0x2_ffff])
  })

  it.each([0x3000_0000n, 0x7000_0000n, 0x1_4000_0000n])(
    'freezes at %i, which is not of its segments',
    (at) => {
      const { m, pe } = world(3)
      expect(dma(pe, at, 2).fault).toBe(DMA_FAULT.OUTSIDE)
      expect(whyFrozen(m)).toEqual(['segment of another PE'])
    },
  )

  it('is made to forget by stores of the addresses of TCEs, two with each', () => {
    const { m, pe, table } = world()
    for (let i = 0; i < 6; i++) {
      table.xchg(0x4_0000 + i, H + i, 3)
      dma(pe, 0x4000_0000n + BigInt(i) * 4096n, 2)
    }
    const root = BigInt((table as unknown as { rootPage: number }).rootPage) << 12n
    for (const [entry, count, stores] of [
      [1, 1, 1],
      [1, 2, 2],
      [0, 3, 2],
      [513, 4, 3],
    ] as const) {
      table.kill(0x4_0000 + entry, count)
      expect(eventsOf(m, 'hw.store').at(-1)).toEqual({
        kind: 'hw.store',
        unit: 'phb0',
        offset: 0x210,
        value: (1n << 63n) | (root + BigInt(entry) * 8n),
        step: 4,
        count: stores,
      })
    }
    expect(m.phb.cache.count).toBe(2)
  })

  it('gives no window where there is no memory', () => {
    const m = makePhb({ platform: 'P7IOC', frames: 4 })
    const pe = m.phb.addPe({ pe: 3, group: 1, firstSegment: 0, segments: 1 })
    expect([openSegments(m.phb, pe), pe.tables]).toEqual([-12, [null, null]])
  })
})
