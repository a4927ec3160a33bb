import { describe, expect, it } from 'vitest'
import { resolveProfile } from '../../src/bits/errata.ts'
import { decode } from '../../src/bits/word.ts'
import { IODA_ERRATA } from '../../src/hw/ioda-errata.ts'
import type { IodaPhbOptions } from '../../src/hw/ioda-phb.ts'
import { KILL_WORDS } from '../../src/hw/tce-kills.ts'
import { eventsOf } from '../support/host.ts'
import { dma, makePhb, openWindow } from '../support/ioda.ts'

const BASE_64 = 1n << 59n
const H = 0x1_0000
/** Entry and slots of a page of 16 MiB, 64 KiB each: vector T6. */
const IO = 0x800_0000_0100
const SUB = 256

function world(options: Partial<IodaPhbOptions> = {}) {
  const m = makePhb({ frames: 16_384, ...options })
  const pe = m.phb.addPe({ pe: 5, group: 1 })
  const table = openWindow(pe, { window: 1, windowBytes: 1n << 34n })
  for (let k = 0; k < SUB; k++) table.xchg(IO + k, H + 0x5000 + k * 16, 3)
  return { m, pe, table }
}
type Setup = ReturnType<typeof world>

/** One DMA to each of the first entries: they are remembered. */
const touch = ({ pe }: Setup, entries: number) => {
  for (let k = 0; k < entries; k++) dma(pe, BASE_64 + 0x100_0000n + BigInt(k) * 0x1_0000n, 4)
}
const last = ({ m }: Setup, kind: string) => eventsOf(m, kind).at(-1)

describe('tce_kill of a page of 16 MiB in entries of 64 KiB (vectors T6 and T7)', () => {
  it('has 256 entries, and says what was there when they change', () => {
    const { table } = world()
    table.load(IO + 7)
    expect([table.tceHi, table.tceLo]).toEqual([(H + 0x5070) >>> 20, ((H + 0x5070) << 12) | 3])
    expect(table.xchg(IO + 7, H + 0x6070, 2)).toBe(0)
    expect([table.oldHpaPage, table.oldDir]).toEqual([H + 0x5070, 3])
    table.load(IO + 7)
    expect(table.tceLo & 3).toBe(3)
    expect(table.xchg(IO + 7, 0, 0)).toBe(0)
    expect([table.oldHpaPage, table.oldDir]).toEqual([H + 0x6070, 3])
  })

  it('on PHB3: 256 stores to the kill register, one a page', () => {
    const w = world({ platform: 'PHB3' })
    touch(w, 3)
    w.table.kill(IO, SUB)
    const store = last(w, 'hw.store') as { value: bigint; step: number; count: number }
    expect(store).toMatchObject({ offset: 0x210, value: 0x2800_0000_0100_0005n, step: 16, count: 256 })
    expect(store.value + BigInt(store.count - 1) * (1n << BigInt(store.step))).toBe(0x2800_0000_01ff_0005n)
    const [phb3] = KILL_WORDS
    expect(decode(phb3, store.value)).toMatchObject({
      ALL: 0n,
      PE: 0n,
      ONE: 1n,
      ADDRESS: (BASE_64 + 0x100_0000n) >> 12n,
      PE_NUMBER: 5n,
    })
    expect(last(w, 'hw.kill')).toMatchObject({ scope: 0, pe: 5, address: 0x800_0000_0100_0000n, count: 256 })
    expect(w.m.phb.cache.count).toBe(0)
  })

  // Defect B9: one kill a hardware entry.
  it('on PHB3, entry by entry: as many records as calls', () => {
    const w = world({ platform: 'PHB3' })
    for (let k = 0; k < SUB; k++) w.table.kill(IO + k, 1)
    const kills = eventsOf(w.m, 'hw.store').filter((e) => (e as { step?: number }).step === 16)
    expect(kills).toHaveLength(256)
  })

  // Defect B2: the number of the emulated entry instead.
  it('with the wrong entry leaves the page cached', () => {
    const w = world({ platform: 'PHB3' })
    touch(w, 1)
    for (let k = 0; k < SUB; k++) w.table.xchg(IO + k, 0, 0)
    w.table.kill(0x8_0000_0001, 1)
    expect(dma(w.pe, BASE_64 + 0x100_0000n, 4).code).toBe(0)
    w.table.kill(IO, SUB)
    expect(dma(w.pe, BASE_64 + 0x100_0000n, 4).code).not.toBe(0)
  })

  it.each(['PHB4', 'PHB5'] as const)(
    'on %s: one firmware call, and all of the PE goes (HW560152)',
    (platform) => {
      const w = world({ platform })
      touch(w, 3)
      w.table.kill(IO, 1)
      expect(last(w, 'hw.firmware')).toEqual({
        kind: 'hw.firmware',
        unit: 'phb0',
        call: 126,
        scope: 0,
        pe: 5,
        pageBytes: 0x1_0000,
        address: 0x800_0000_0100_0000n,
        count: 1,
        code: 0,
        calls: 1,
      })
      expect(last(w, 'hw.kill')).toMatchObject({ scope: 1, pe: 5 })
      expect(w.m.phb.cache.count).toBe(0)
    },
  )

  it('on PHB4 with firmware without that: the pages only', () => {
    const w = world({ platform: 'PHB4', killsWholePe: false })
    touch(w, 3)
    w.table.kill(IO, 1)
    expect(last(w, 'hw.kill')).toMatchObject({ scope: 0, count: 1 })
    expect(w.m.phb.cache.count).toBe(2)
  })
})

// Vector T17, the part of the hardware: half of a page is mapped, killed, and then cleared without another kill.
it('an entry that was read between the kill and the clear goes on working', () => {
  const w = world({ platform: 'PHB3' })
  w.table.kill(IO, SUB)
  touch(w, 1)
  for (let k = 0; k < SUB; k++) w.table.xchg(IO + k, 0, 0)
  expect(dma(w.pe, BASE_64 + 0x100_0000n, 4).code).toBe(0)
  expect(dma(w.pe, BASE_64 + 0x101_0000n, 4).code).not.toBe(0)
})

describe('kills', () => {
  it('of no page store nothing and take nothing', () => {
    const w = world({ platform: 'PHB3' })
    touch(w, 1)
    const before = w.m.log.length
    w.table.kill(IO, 0)
    expect([w.m.log.length - before, w.m.phb.cache.count]).toEqual([0, 1])
  })

  it.each([
    ['linux-6.12', 'PHB3', 0, 0, 1],
    ['linux-6.12', 'PHB3', 1, 0, 0],
    ['linux-6.12', 'PHB3', 0, 1, 0],
    ['linux-6.12', 'PHB4', 0, 0, 0],
    ['linux-5.3', 'PHB3', 0, 0, 0],
    ['intended', 'PHB3', 0, 0, 0],
  ] as const)(
    '%s, %s: from entry %i on, %i entries: the kernel stops %i times',
    (name, platform, entry, count, stops) => {
      const m = makePhb({ platform, profile: resolveProfile(IODA_ERRATA, name) })
      openWindow(m.phb.addPe({ pe: 5, group: 1 })).kill(entry, count)
      expect(m.bugs).toHaveLength(stops)
      expect(eventsOf(m, 'hw.store').filter((e) => (e as { step?: number }).step === 16)).toHaveLength(
        platform === 'PHB3' && count > 0 ? 1 : 0,
      )
    },
  )

  it('that firmware does not know the page size of are answered -1 and do nothing', () => {
    const m = makePhb({ platform: 'PHB4', killsWholePe: false })
    const pe = m.phb.addPe({ pe: 5, group: 1 })
    const table = pe.ops?.createTable(0, 24, 1n << 30n, 1)
    if (table === undefined || typeof table === 'number') throw new Error('no table')
    m.phb.kills.pages(5, table as never, 0, 1, 1)
    expect(eventsOf(m, 'hw.firmware', 'hw.kill')).toMatchObject([{ pageBytes: 0x100_0000, code: -1 }])
  })

  it.each([
    ['PHB3', 'hw.store', { value: 1n << 63n, count: 1 }],
    ['PHB4', 'hw.firmware', { scope: 2, count: 0 }],
  ] as const)('of all on %s take the entries of every PE', (platform, kind, record) => {
    const w = world({ platform })
    const other = w.m.phb.addPe({ pe: 6, group: 2 })
    openWindow(other).xchg(0, H, 3)
    touch(w, 2)
    dma(other, 0n, 4)
    expect(w.m.phb.cache.count).toBe(3)
    w.m.phb.kills.all()
    expect(last(w, kind)).toMatchObject(record)
    expect([w.m.phb.cache.count, last(w, 'hw.kill')]).toMatchObject([0, { scope: 2 }])
  })

  it('of a PE or of all are not there on P7IOC', () => {
    const m = makePhb({ platform: 'P7IOC' })
    m.phb.kills.all()
    m.phb.kills.pe(3)
    expect(eventsOf(m, 'hw.store', 'hw.firmware', 'hw.kill')).toEqual([])
  })
})
