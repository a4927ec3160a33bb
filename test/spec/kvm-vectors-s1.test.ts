import { describe, expect, it } from 'vitest'
import type { EventFields } from '../../src/trace/event.ts'
import { eventsOf } from '../support/host.ts'
import { dma } from '../support/ioda.ts'
import { guestOnS1, SMALL } from '../support/kvm-s1.ts'
import { EMPTY_PAGE, mappedPage } from '../support/kvm-tables.ts'

/*
 * Vectors T6 to T10, T17 and T18 as hypercalls, with the numbers that they name: pages of 16 MiB of a guest with 16 GiB
 * over hardware pages of 64 KiB, at bus address 1 << 59 of a PHB3.
 */

const BASE = 1n << 59n
const MIB16 = 0x100_0000n
const PROFILES = ['intended', 'linux-6.1', 'linux-6.12.95'] as const
/** Slots of one page of the guest, from a slot of the hardware table on. */
const page = (s: ReturnType<typeof guestOnS1>, from: number) =>
  Array.from({ length: 256 }, (_, k) => s.slots(from + k))

describe.each(PROFILES)('with profile %s', (profile) => {
  const isRight = profile === 'intended'

  it('T6: 256 entries, one kill, and the guest reads what it wrote', () => {
    const s = guestOnS1({ profile })
    expect(s.put(BASE | MIB16, 0x500_0003n).code).toBe('H_SUCCESS')
    expect([page(s, 0x100), s.slots(0xff), s.slots(0x200)]).toEqual([
      mappedPage(0x500_0000n),
      [0n, 0n],
      [0n, 0n],
    ])
    expect([s.mapped(), s.get(BASE | MIB16), s.get(BASE)]).toEqual([257, 0x500_0003n, 0n])
    expect(eventsOf(s, 'hw.store').slice(-1)).toMatchObject([{ value: 0x2800_0000_0100_0005n, count: 256 }])
  })

  it('T7: another page in its place, then none', () => {
    const s = guestOnS1({ profile })
    s.put(BASE | MIB16, 0x500_0003n)
    expect(s.put(BASE | MIB16, 0x600_0002n).code).toBe('H_SUCCESS')
    // A page that may be written may be read, too, in hardware; the guest finds what it wrote.
    expect([page(s, 0x100), s.mapped(), s.get(BASE | MIB16)]).toEqual([
      mappedPage(0x600_0000n),
      257,
      0x600_0002n,
    ])
    expect(s.put(BASE | MIB16, 0n).code).toBe('H_SUCCESS')
    expect([page(s, 0x100), s.mapped(), s.get(BASE | MIB16)]).toEqual([EMPTY_PAGE, 1, 0n])
  })

  it('T8: a TCE that is no page of 16 MiB goes to user space, and nothing is written', () => {
    const s = guestOnS1({ profile })
    s.put(BASE | MIB16, 0x500_0003n)
    expect(s.put(BASE | MIB16, 0x500_1003n)).toMatchObject({ code: 'H_TOO_HARD', rule: 'tce-unaligned' })
    expect([page(s, 0x100), s.mapped(), s.get(BASE | MIB16)]).toEqual([
      mappedPage(0x500_0000n),
      257,
      0x500_0003n,
    ])
  })

  it('T10: no cached entry of four pages outlives H_STUFF_TCE', () => {
    const s = guestOnS1({ profile })
    for (let i = 0n; i < 8n; i++) {
      s.put(i << 12n, (i << 12n) | 3n, SMALL)
      expect(dma(s.pe, i << 12n, 8).code).toBe(0)
    }
    const before = eventsOf(s, 'hw.kill').length
    expect(s.stuff(0n, 0n, 4n, SMALL).code).toBe('H_SUCCESS')
    const kills = eventsOf(s, 'hw.kill').slice(before) as EventFields<'hw.kill'>[]
    // One record tells the kills of all four.
    expect(kills.map((k) => [k.address, k.count])).toEqual([[0n, 4]])
    expect(dma(s.pe, 4n << 12n, 8).code).toBe(0)
    expect(dma(s.pe, 0n, 8).code).not.toBe(0)
    // The PE is frozen now: even a page that is mapped is out of reach.
    expect(dma(s.pe, 4n << 12n, 8).code).not.toBe(0)
  })

  it('T17: half a page of 16 MiB is cleared; kernels keep 128 counts and user addresses (X5)', () => {
    const s = guestOnS1({ profile, registered: 0x580_0000n })
    expect(s.put(BASE | MIB16, 0x500_0003n)).toMatchObject({ code: 'H_TOO_HARD', rule: 'table-refused' })
    const slots = page(s, 0x100)
    expect(slots.filter(([tce]) => tce !== 0n)).toEqual([])
    expect([slots.filter(([, ua]) => ua !== 0n).length, s.mapped()]).toEqual(isRight ? [0, 1] : [128, 129])
    expect(s.get(BASE | MIB16)).toBe(0n)
  })

  it('T18: a list with a 0 unmaps; kernels map an address without permissions (X2)', () => {
    const s = guestOnS1({ profile })
    expect(s.indirect(BASE, [0n]).code).toBe('H_SUCCESS')
    expect([s.get(BASE), s.mapped()]).toEqual([0n, isRight ? 1 : 257])
    expect(page(s, 0)).toEqual(isRight ? EMPTY_PAGE : mappedPage(0n, 0n))
    expect(dma(s.pe, BASE, 8).code).not.toBe(0)
    expect(eventsOf(s, 'pe.freeze')).toHaveLength(1)
  })
})

describe('T8 in real mode of 5.18', () => {
  const hash = () => guestOnS1({ profile: 'linux-5.18', isHash: true })

  it('is answered where the page of the table is there', () => {
    const s = hash()
    s.put(BASE, 0xdead_0000_0000_0000n)
    expect(s.put(BASE | MIB16, 0x500_1003n)).toMatchObject({
      code: 'H_PARAMETER',
      rule: 'tce-unaligned-real',
    })
  })

  it('is not for radix guests', () => {
    const s = guestOnS1({ profile: 'linux-5.18' })
    s.put(BASE, 0xdead_0000_0000_0000n)
    expect(s.put(BASE | MIB16, 0x500_1003n)).toMatchObject({ code: 'H_TOO_HARD', rule: 'tce-unaligned' })
  })
})

describe('T9: a failure in real mode, with the page of the table there', () => {
  const hash = (profile: string) => {
    const s = guestOnS1({ profile, isHash: true, levels: 2 })
    s.put(BASE, 0xdead_0000_0000_0000n)
    return s
  }
  const corrupt = (s: ReturnType<typeof guestOnS1>) => eventsOf(s, 'memory.corrupt').length

  it.each([
    ['linux-5.4', 1],
    ['linux-5.18', 0],
    ['intended', 0],
  ])('%s: a clear by the number of the guest leaves the table %i times (B1)', (profile, times) => {
    const s = hash(profile)
    // The first level is empty: the walk ends there, and nothing is overwritten.
    expect(s.put(BASE, 3n).code).toBe('H_SUCCESS')
    expect([page(s, 0), s.mapped(), corrupt(s)]).toEqual([mappedPage(0n), 257, 0])
    expect(s.put(BASE | 0x2000_0000n, 3n).code).toBe('H_SUCCESS')
    expect([page(s, 0x2000), s.mapped(), corrupt(s)]).toEqual([mappedPage(0n), 513, times])
  })
})

it('T10, B3: the pages behind are killed, and a device goes on with those that were cleared', () => {
  const s = guestOnS1({ profile: 'linux-5.17' })
  for (let i = 0n; i < 8n; i++) {
    s.put(i << 12n, (i << 12n) | 3n, SMALL)
    dma(s.pe, i << 12n, 8)
  }
  expect(s.stuff(0n, 0n, 4n, SMALL).code).toBe('H_SUCCESS')
  expect(s.get(0n, SMALL)).toBe(0n)
  expect([0n, 1n, 2n, 3n].map((i) => dma(s.pe, i << 12n, 8).code)).toEqual([0, 0, 0, 0])
  // The pages behind are still mapped, and have to be read anew.
  const before = eventsOf(s, 'hw.fill').length
  expect([4n, 5n, 6n, 7n].map((i) => dma(s.pe, i << 12n, 8).code)).toEqual([0, 0, 0, 0])
  expect(eventsOf(s, 'hw.fill').length - before).toBe(4)
})
