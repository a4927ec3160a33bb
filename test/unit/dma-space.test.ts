import { describe, expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { SpaprPhb } from '../../src/hw/spapr-phb.ts'
import { calls, LIOBN, LIOBN_64, type Pseries, pseries, VIO_REG, WINDOW_64 } from '../support/pseries.ts'

/** Bus addresses that were translated, as offsets of the first. */
const translated = (m: Pseries, from: number): number[] => {
  const all = m.effects(from).filter((e) => e.kind === 'dma.translate')
  return all.map((e) => Number(e.address - all[0]!.address))
}

const access = (m: Pseries, iova: bigint, bytes: number, isWrite = false): Uint8Array => {
  const buffer = new Uint8Array(bytes).fill(0x55)
  m.phb.space.access(hiOf(iova), loOf(iova), buffer, 0, bytes, isWrite)
  return buffer
}

describe('translations that a request makes', () => {
  it('one for each IOMMU page that lets it through', () => {
    const m = pseries()
    for (const page of [1n, 2n, 3n]) calls(m).put(page << 12n, (page << 20n) | 3n)
    const from = m.log.length
    access(m, 0x1ff0n, 0x1020)
    expect(translated(m, from)).toEqual([0, 0x10, 0x1010])
  })

  it('one every 4 bytes where it is refused, or where no memory is (CQ9)', () => {
    const m = pseries()
    calls(m).put(0x1000n, 0x10_0002n)
    calls(m).put(0x2000n, 0xff00_0000_0003n)
    for (const iova of [0x1000n, 0x2000n, 0x3000n]) {
      const from = m.log.length
      expect(access(m, iova, 17)).toEqual(new Uint8Array(17))
      expect(translated(m, from)).toEqual([0, 4, 8, 12, 16])
    }
  })

  it('in pieces that are aligned to their own bytes', () => {
    const m = pseries()
    const from = m.log.length
    access(m, 0x1001n, 17)
    expect(translated(m, from)).toEqual([0, 1, 3, 7, 11, 15])
    const next = m.log.length
    access(m, 0x1002n, 3)
    expect(translated(m, next)).toEqual([0, 2])
    const last = m.log.length
    access(m, 0x1000n, 7)
    expect(translated(m, last)).toEqual([0, 4, 6])
  })

  it('none outside every window; one record says where a stretch of misses begins', () => {
    const m = pseries()
    calls(m).put((1n << 30n) - 0x1000n, 0x10_0003n)
    const from = m.log.length
    access(m, (1n << 30n) - 4n, 0x2000)
    expect(m.effects(from)).toMatchObject([
      { kind: 'dma.translate', address: (1n << 30n) - 4n },
      { kind: 'dma.miss', unit: 'pci0', iova: 1n << 30n, write: 0 },
    ])
  })

  it('again every 4 bytes from where the memory behind a large page ends', () => {
    const m = pseries({ ramBytes: 0x2_3000 })
    calls(m).create(16n, 24n)
    calls(m).put(WINDOW_64, 0x2_0003n, LIOBN_64)
    const from = m.log.length
    access(m, WINDOW_64 + 0x2ff0n, 24)
    expect(translated(m, from)).toEqual([0, 16, 20])
    expect(m.phb.space.moved).toBe(16)
  })

  it('wrap at the end of the bus', () => {
    const m = pseries()
    calls(m).put(0n, 0x10_0003n)
    m.memory.write(0x10_0000, 'ABCD')
    const got = access(m, (1n << 64n) - 4n, 8)
    expect(got).toEqual(Uint8Array.from([0, 0, 0, 0, 0x41, 0x42, 0x43, 0x44]))
  })

  it('see pages of 16 GiB whole', () => {
    const m = pseries({ pageShifts: [12, 34] })
    calls(m).create(34n, 36n)
    calls(m).put(WINDOW_64, 3n, LIOBN_64)
    calls(m).put(WINDOW_64 + (1n << 34n), 0x12_3456n | 1n, LIOBN_64)
    m.memory.write(0x2000, 'in page 0')
    expect(new TextDecoder().decode(access(m, WINDOW_64 + 0x2000n, 9))).toBe('in page 0')
    // Address bits of a TCE below the page size do not count.
    expect(new TextDecoder().decode(access(m, WINDOW_64 + (1n << 34n) + 0x2000n, 9))).toBe('in page 0')
    const from = m.log.length
    access(m, WINDOW_64 + (1n << 34n) - 4n, 8)
    expect(m.effects(from).map((e) => e.kind === 'dma.translate' && [e.entry, e.gpa])).toEqual([
      [0, 0n],
      [1, 0n],
    ])
  })
})

it('a request runs on inside a page of 16 GiB, also over a boundary of 4 GiB', () => {
  const m = pseries()
  const pages: number[] = []
  const note = (page: number) => pages.push(page) > 0
  const memory = {
    ...m.memory,
    isRam: note,
    readPage: note,
    writePage: note,
    loadU64be: note,
    loadU64le: note,
    loadWords: note,
    storeU64be: note,
  }
  const options = {
    name: 'x',
    index: 7,
    buid: 5n,
    pageShifts: [12, 34],
    hasDdw: true,
    memory,
    liobns: m.liobns,
  }
  const { stage, journal, life } = m
  const phb = new SpaprPhb(options, {
    stage,
    journal,
    life,
    profile: resolveProfile([], 'intended'),
    nextWindow: () => 9,
  })
  phb.tables[1]?.open({ pageShift: 34, busOffset: WINDOW_64, entries: 2 })
  phb.tables[1]?.window?.store.set(0, 3, 4)
  const from = m.log.length
  phb.space.access(0x800_0000, -4, new Uint8Array(8), 0, 8, false)
  expect(translated(m, from)).toEqual([0])
  expect(pages).toEqual([0x4f_ffff, 0x50_0000])
})

describe('a translation alone', () => {
  it('answers for what is needed, and leaves one record', () => {
    const m = pseries()
    calls(m).put(0x1000n, 0x10_0001n)
    const { space } = m.phb
    const from = m.log.length
    expect([1, 2, 3, 0].map((need) => space.translateOnly(0, 0x1234, need))).toEqual([
      true,
      false,
      false,
      true,
    ])
    expect(space.translateOnly(0, 0x2234, 0)).toBe(false)
    expect(space.translateOnly(0x10, 0, 2)).toBe(false)
    expect([space.window, m.log.length - from]).toEqual([null, 6])
    expect(m.effects(from)[1]).toEqual({
      kind: 'dma.translate',
      window: 1,
      entry: 1,
      address: 0x1234n,
      gpa: 0x10_0000n,
      perm: 1,
      need: 2,
      allowed: 0,
      line: 0,
    })
    expect(m.effects(from)[5]).toEqual({ kind: 'dma.miss', unit: 'pci0', iova: 0x10_0000_0000n, write: 1 })
  })
})

describe('a VIO device', () => {
  it('has a LIOBN of its own, and a way past its table', () => {
    const m = pseries()
    const device = m.vio.find(VIO_REG)!
    calls(m).put(0x1000n, 0x10_0003n, BigInt(VIO_REG))
    m.memory.write(0x10_0000, 'mapped')
    m.memory.write(0x1000, 'direct')
    const read = () => {
      const buffer = new Uint8Array(6)
      const code = device.space.access(0, 0x1000, buffer, 0, 6, false)
      return [new TextDecoder().decode(buffer), code]
    }
    expect(read()).toEqual(['mapped', 0])
    device.space.isBypassed = true
    const from = m.log.length
    expect(read()).toEqual(['direct', 0])
    expect(m.log.length).toBe(from)
    expect(device.space.access(0x7000_0000, 0, new Uint8Array(4), 0, 4, true)).toBe(2)
    m.vio.reset('test')
    expect(device.space.isBypassed).toBe(false)
    expect(m.tce(BigInt(VIO_REG), 1)).toBe(0n)
    expect(m.vio.find(1)).toBeUndefined()
  })
})

describe('a PHB', () => {
  it('cannot have the LIOBN of another, pages that no window has, or a window inside a page', () => {
    const m = pseries()
    const options = {
      name: 'x',
      index: 7,
      buid: 5n,
      pageShifts: [12, 24],
      hasDdw: true,
      memory: m.memory,
      liobns: m.liobns,
    }
    const parts = {
      stage: m.stage,
      journal: m.journal,
      life: m.life,
      profile: resolveProfile([], 'intended'),
      nextWindow: () => 1,
    }
    expect(() => new SpaprPhb({ ...options, index: 0 }, parts)).toThrow('0x80000000')
    expect(() => new SpaprPhb({ ...options, pageShifts: [13] }, parts)).toThrow('2^13')
    expect(() => new SpaprPhb({ ...options, dma64BusOffset: 0x1000n }, parts)).toThrow('0x1000000')
    expect(new SpaprPhb(options, parts).tables.map((t) => t.liobn)).toEqual([0x8000_0700, 0x8000_0701])
  })

  it('tells which life of a window a LIOBN stands for', () => {
    const m = pseries()
    expect(m.liobns.windowOf(Number(LIOBN))).toBe(1)
    expect([m.liobns.windowOf(0x8000_0001), m.liobns.windowOf(5)]).toEqual([0, 0])
    expect([...m.liobns.all()].map((t) => t.unit)).toEqual(['pci0', 'pci0', 'pci1', 'l-lan'])
  })
})
