import { describe, expect, it } from 'vitest'
import { H_CODES } from '../../src/bits/codes.ts'
import { resolveProfile } from '../../src/bits/errata.ts'
import {
  NO_ADDRESS_WARNING,
  NO_SWAP_WARNING,
  UNALIGNED_BUG,
  updateErrata,
} from '../../src/kernel/kvm/entry-updates.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import { TableUpdates } from '../../src/kernel/kvm/table-updates.ts'
import { NO_ANSWER } from '../../src/kernel/ports.ts'
import { FakeGroup, FakeTable } from '../support/fake-platform.ts'
import { eventsOf } from '../support/host.ts'
import { dma } from '../support/ioda.ts'
import { EMPTY_PAGE, GUEST_SHIFT, H, mappedPage, OFFSET, S1, setUpS1, U } from '../support/kvm-tables.ts'
import { AT, makePrereg, mapAt } from '../support/prereg.ts'

const { H_SUCCESS, H_TOO_HARD } = H_CODES
const PAGE = 0x1_0000n
const BASE = 1n << 59n

const range = <T>(first: number, count: number, of: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => of(first + i))
const dirtyPages = ({ memory, region }: ReturnType<typeof setUpS1>, gpa: bigint, count: number) =>
  range(0, count, (k) => {
    const ua = U + gpa + BigInt(k) * PAGE
    return memory.isDirty(region, Number(ua >> 32n), Number(BigInt.asIntN(32, ua)))
  }).filter(Boolean).length

/** Vectors T6, T7, T9, T10, T17: what they say of hardware tables. */
describe.each(['intended', 'linux-6.1', 'linux-6.12.95'])('with profile %s', (profile) => {
  it('T6: a page of 16 MiB becomes 256 entries of 64 KiB, and one kill', () => {
    const s = setUpS1({ profile })
    const entry = Number((BASE | 0x100_0000n) >> 24n)
    expect(entry).toBe(0x8_0000_0001)
    const from = s.log.length
    expect(s.put(entry, 0x500_0000n)).toBe(H_SUCCESS)
    expect(range(0x100, 0x100, s.slots)).toEqual(mappedPage(0x500_0000n))
    expect(s.slots(0x100)).toEqual([(H + 0x500_0000n) | 3n, U + 0x500_0000n])
    expect([s.slots(0xff), s.slots(0x200)]).toEqual([
      [0n, 0n],
      [0n, 0n],
    ])
    expect(s.memory.mappedOf(s.region)).toBe(257)
    const stores = eventsOf(s, 'hw.store').slice(-1)
    expect(stores).toEqual([
      {
        kind: 'hw.store',
        unit: 'phb0',
        offset: 0x210,
        value: 0x2800_0000_0100_0005n,
        step: 16,
        count: 256,
      },
    ])
    expect(0x2800_0000_0100_0005n + 255n * PAGE).toBe(0x2800_0000_01ff_0005n)
    // One record tells all entries, one all counts, one the stores, one the kill.
    expect(s.log.length - from).toBe(4)
  })

  it('T7: another page replaces it and the counts stay; then it is taken back', () => {
    const s = setUpS1({ profile })
    const entry = 0x8_0000_0001
    s.put(entry, 0x500_0000n)
    expect(s.put(entry, 0x600_0000n, 2)).toBe(H_SUCCESS)
    expect(s.memory.mappedOf(s.region)).toBe(257)
    // Write access means read access in hardware.
    expect(range(0x100, 0x100, s.slots)).toEqual(mappedPage(0x600_0000n))
    expect([dirtyPages(s, 0x500_0000n, 256), dirtyPages(s, 0x600_0000n, 256)]).toEqual([256, 0])
    expect(s.updates.unmapPage(s.table, GUEST_SHIFT, entry)).toBe(H_SUCCESS)
    expect(range(0x100, 0x100, s.slots)).toEqual(EMPTY_PAGE)
    expect(s.memory.mappedOf(s.region)).toBe(1)
    expect(dirtyPages(s, 0x600_0000n, 256)).toBe(256)
    expect(eventsOf(s, 'hw.kill').filter((e) => 'count' in e && e.count === 256)).toHaveLength(3)
    expect(s.memory.put(s.region)).toBe(0)
  })

  it('T10: every page that changed is killed: no cached entry outlives its unmap', () => {
    const s = setUpS1({ profile })
    s.put(0x8_0000_0000, 0n)
    expect(dma(s.pe, BASE | 0x12_0000n, 8).code).toBe(0)
    s.updates.unmapPage(s.table, GUEST_SHIFT, 0x8_0000_0000)
    expect(dma(s.pe, BASE | 0x12_0000n, 8).code).not.toBe(0)
  })
})

describe('T9: real mode meets a level that is missing', () => {
  const FIRST = 0x8_0000_0000
  const SECOND = 0x8_0000_0020
  const real = (profile: string) => {
    const s = setUpS1({ profile, levels: 2, isReal: true })
    expect([s.table.levelShift, s.table.offset]).toEqual([13, OFFSET])
    const virtual = new TableUpdates({
      host: s.host,
      memory: s.memory,
      mm: s.qemu.mm,
      errata: updateErrata(resolveProfile(KVM_ERRATA, profile)),
      onBug: (why) => s.bugs.push(why),
    })
    return { ...s, virtual }
  }

  it.each(['intended', 'B1', 'B1+X5', 'linux-5.4', 'linux-6.1'])(
    'first, with %s, no harm is done',
    (profile) => {
      const s = real(profile)
      const from = eventsOf(s, 'hw.set').length
      expect(s.put(FIRST, 0n)).toBe(H_TOO_HARD)
      s.updates.clearTce(s.table, GUEST_SHIFT, FIRST)
      expect(eventsOf(s, 'memory.corrupt')).toEqual([])
      expect(eventsOf(s, 'hw.set')).toHaveLength(from)
      expect(s.memory.mappedOf(s.region)).toBe(1)
      // Virtual mode allocates the levels.
      expect(s.put(FIRST, 0n, 3, s.virtual)).toBe(H_SUCCESS)
      expect(range(0, 256, s.slots)).toEqual(mappedPage(0n))
      expect(s.memory.mappedOf(s.region)).toBe(257)
    },
  )

  it.each([
    ['B1', 1],
    ['linux-5.4', 1],
    ['intended', 0],
    ['linux-5.18', 0],
    ['linux-6.1', 0],
  ])('later, with %s, %i entries are written far outside', (profile, strays) => {
    const s = real(profile)
    s.put(FIRST, 0n, 3, s.virtual)
    expect(s.put(SECOND, 0x100_0000n)).toBe(H_TOO_HARD)
    s.updates.clearTce(s.table, GUEST_SHIFT, SECOND)
    s.host.memory.loadU64be(s.table.rootPage, 0)
    const leaf = (BigInt(s.host.memory.wordHi) << 32n) | BigInt(s.host.memory.wordLo >>> 0)
    const address = BigInt.asUintN(64, (leaf & ~0xfffn) + 0xffff_f808_0000_0020n * 8n)
    const place = { table: s.table.number, entry: 0xffff_f808_0000_0020n }
    const corrupt = { kind: 'memory.corrupt', space: 'hpa', address, bytes: 8, what: 'tce', ...place }
    expect(eventsOf(s, 'memory.corrupt')).toEqual(strays === 0 ? [] : [corrupt])
    expect(range(0, 256, s.slots)).toEqual(mappedPage(0n))
    expect(range(0x2000, 0x100, s.slots)).toEqual(EMPTY_PAGE)
    expect(s.memory.mappedOf(s.region)).toBe(257)
  })

  it('where only the level of the entries is missing, the count is taken back', () => {
    const s = setUpS1({ isReal: true })
    const table = new FakeTable(1, { pageShift: 16, offset: 0, entries: 64, levels: 2, leaves: 8, bytes: 0 })
    table.userSlot(0, true)
    const [hi, lo] = [0x7000, 0]
    expect(s.updates.mapPage(table, 16, 0, hi, lo, 3)).toBe(H_TOO_HARD)
    expect([table.live(), s.memory.mappedOf(s.region)]).toEqual([[], 1])
    // Nor can an entry be taken back whose user address cannot be found.
    table.xchg(9, 5, 3)
    expect(s.updates.unmapPage(table, 16, 9)).toBe(H_TOO_HARD)
    expect(table.live()).toEqual([[9, 5, 3]])
  })
})

it('T9, window at 0: with B1 an innocent entry is cleared', () => {
  const world = makePrereg({ pages: 512, frames: 1024 })
  world.memory.create(world.qemu.mm, world.qemu, AT, 256n * PAGE)
  const run = (profile: string) => {
    const table = new FakeTable(1, {
      pageShift: 16,
      offset: 0,
      entries: 0x1000,
      levels: 1,
      leaves: 0x1000,
      bytes: 0,
    })
    const errata = updateErrata(resolveProfile(KVM_ERRATA, profile))
    const onBug = () => undefined
    const updates = new TableUpdates({
      host: world.host,
      memory: world.memory,
      mm: world.qemu.mm,
      errata,
      onBug,
    })
    updates.mapPage(table, 20, 0, Number(AT >> 32n), 0, 3)
    expect(updates.mapPage(table, 20, 1, Number(AT >> 32n), 0xf8_0000, 3)).toBe(H_TOO_HARD)
    updates.clearTce(table, 20, 1)
    return table.live().map(([slot]) => slot)
  }
  expect(run('intended')).toEqual(range(0, 16, (n) => n))
  expect(run('X5')).toEqual(range(0, 16, (n) => n))
  expect(run('B1+X5')).toEqual([0, ...range(2, 22, (n) => n)])
})

describe('T17: registered memory ends inside the page', () => {
  it.each([
    ['intended', 1, 0],
    ['linux-6.1', 129, 128],
    ['linux-6.12.95', 129, 128],
  ])('with %s the count is %i and %i user addresses are left', (profile, mapped, left) => {
    const s = setUpS1({ profile, registered: 0x580_0000n })
    const from = eventsOf(s, 'hw.kill').length
    expect(s.put(0x8_0000_0001, 0x500_0000n)).toBe(H_TOO_HARD)
    expect(range(0x100, 0x81, s.slots)).toEqual([...mappedPage(0x500_0000n).slice(0, 0x80), [0n, 0n]])
    expect(s.memory.mappedOf(s.region)).toBe(129)
    s.updates.clearTce(s.table, GUEST_SHIFT, 0x8_0000_0001)
    const slots = range(0x100, 0x100, s.slots)
    expect(slots.filter(([tce]) => tce !== 0n)).toEqual([])
    expect(slots.filter(([, ua]) => ua !== 0n)).toHaveLength(left)
    expect(s.memory.mappedOf(s.region)).toBe(mapped)
    expect(s.memory.put(s.region)).toBe(mapped === 1 ? 0 : -16)
    const kills = eventsOf(s, 'hw.kill').slice(from)
    expect(kills[0]).toMatchObject({ count: 256 })
    // X5: the kill came before the clear, and none comes after it.
    expect(kills).toHaveLength(left > 0 ? 1 : 2)
  })

  it('what a device wrote before the clear is dirty all the same', () => {
    for (const profile of ['intended', 'X5']) {
      const s = setUpS1({ profile, registered: 0x580_0000n })
      s.put(0x8_0000_0001, 0x500_0000n)
      s.updates.clearTce(s.table, GUEST_SHIFT, 0x8_0000_0001)
      expect(dirtyPages(s, 0x500_0000n, 128)).toBe(128)
    }
  })
})

describe('kills', () => {
  const killsOf = (profile: string, run: (s: ReturnType<typeof setUpS1>) => void) => {
    const s = setUpS1({ profile })
    const from = eventsOf(s, 'hw.kill').length
    run(s)
    return eventsOf(s, 'hw.kill')
      .slice(from)
      .map((e) => (e.kind === 'hw.kill' ? [e.address, e.count] : []))
  }
  const put = (s: ReturnType<typeof setUpS1>) => {
    s.put(0x8_0000_0001, 0x500_0000n)
    s.updates.killGuestPages(s.table, 0x8_0000_0001, 1)
  }

  it('B2: caches hear of the number of the guest, a page of the hardware', () => {
    expect(killsOf('intended', put)).toEqual([[BASE | 0x100_0000n, 256]])
    expect(killsOf('linux-5.17', put)).toEqual([[0x8_0000_0001n << 16n, 1]])
    const s = setUpS1({ profile: 'linux-5.17' })
    s.put(0x8_0000_0000, 0n)
    dma(s.pe, BASE, 8)
    s.updates.unmapPage(s.table, GUEST_SHIFT, 0x8_0000_0000)
    s.updates.killGuestPages(s.table, 0x8_0000_0000, 1)
    expect(dma(s.pe, BASE, 8).code).toBe(0)
  })

  it('B9: one for each hardware page', () => {
    const kills = killsOf('linux-5.3', put)
    expect(kills).toHaveLength(256)
    expect(kills[255]).toEqual([BASE | 0x1ff_0000n, 1])
  })
})

describe('what ends a mapping', () => {
  const small = (errata = 'intended') => {
    const world = makePrereg({ pages: 64, frames: 256 })
    const region = world.memory.create(world.qemu.mm, world.qemu, AT, 16n * PAGE)
    const table = new FakeTable(1, { pageShift: 16, offset: 0, entries: 64, levels: 1, leaves: 64, bytes: 0 })
    const bugs: string[] = []
    const updates = new TableUpdates({
      host: world.host,
      memory: world.memory,
      mm: world.qemu.mm,
      errata: updateErrata(resolveProfile(KVM_ERRATA, errata)),
      onBug: (why) => bugs.push(why),
    })
    const warned = () => eventsOf(world, 'warning').map((e) => ('text' in e ? e.text : ''))
    const mapped = () => world.memory.mappedOf(region)
    const map = (ua: bigint, dir: 0 | 1 | 2 | 3 = 3) =>
      updates.mapPage(table, 16, 3, Number(ua >> 32n), Number(BigInt.asIntN(32, ua)), dir)
    return { ...world, region, table, updates, bugs, warned, mapped, map }
  }

  it('no slot for the user address', () => {
    const w = small()
    w.table.refuses = 'slot'
    expect([w.map(AT), w.mapped(), w.table.kills]).toEqual([H_TOO_HARD, 1, [[3, 1]]])
  })

  it('memory that is not registered, or a page across its end', () => {
    const w = small()
    expect(w.map(AT + 16n * PAGE)).toBe(H_TOO_HARD)
    expect(w.map(AT + 16n * PAGE - 0x1000n)).toBe(H_TOO_HARD)
    expect([w.mapped(), w.warned()]).toEqual([1, []])
  })

  it('memory that cannot back such pages, with a warning', () => {
    const w = small()
    const table = new FakeTable(1, { pageShift: 20, offset: 0, entries: 64, levels: 1, leaves: 64, bytes: 0 })
    expect(w.updates.mapPage(table, 20, 0, 0x7000, 0, 3)).toBe(H_TOO_HARD)
    expect([w.mapped(), w.warned()]).toEqual([1, [NO_ADDRESS_WARNING]])
  })

  it('a region that goes', () => {
    const w = small()
    w.memory.mappedInc = () => -6
    expect([w.map(AT), w.table.live()]).toEqual([H_TOO_HARD, []])
  })

  it('an entry that cannot be swapped: the count is taken back', () => {
    const w = small()
    w.table.refuses = 'xchg'
    expect([w.map(AT), w.mapped(), w.warned()]).toEqual([H_TOO_HARD, 1, [NO_SWAP_WARNING]])
  })

  it('an address with odd bits: the kernel stops', () => {
    const w = small()
    expect([w.map(AT + 0x4n, 0), w.bugs, w.table.kills]).toEqual([NO_ANSWER, [UNALIGNED_BUG], []])
  })

  it('a user address of memory that is gone: what was mapped is put back', () => {
    const w = small()
    w.map(AT)
    const other = makePrereg({ pages: 4 })
    w.table.userSlot(3, true)
    w.table.setUser(0x6000, 0)
    expect(w.updates.unmapPage(w.table, 16, 3)).toBe(H_TOO_HARD)
    expect([w.table.live().length, w.mapped(), other.memory.isUsed(w.qemu.mm)]).toEqual([1, 2, false])
    // A new mapping is made all the same, and the count of the old one stays for good.
    expect([w.map(AT), w.mapped()]).toEqual([H_SUCCESS, 3])
  })

  it('a table without user addresses is cleared, and nobody counts', () => {
    const w = small()
    const table = new FakeTable(1, { pageShift: 16, offset: 0, entries: 64, levels: 2, leaves: 8, bytes: 0 })
    table.xchg(3, 5, 3)
    expect([w.updates.unmapPage(table, 16, 3), table.live()]).toEqual([H_SUCCESS, []])
  })

  it('user addresses above 4 GiB of one page are added in full', () => {
    const w = small()
    mapAt(w.qemu, 0x1_0000_0000n - PAGE, 2n * PAGE)
    w.memory.create(w.qemu.mm, w.qemu, 0x1_0000_0000n - PAGE, 2n * PAGE)
    expect(w.updates.mapPage(w.table, 17, 1, 0, -0x1_0000, 1)).toBe(H_SUCCESS)
    expect([w.table.users.get(2), w.table.users.get(3)]).toEqual([
      { hi: 0, lo: -0x1_0000 },
      { hi: 1, lo: 0 },
    ])
  })
})

it('the setup is that of the vectors: one base, one length', () => {
  expect([S1.offset << 24n, BigInt(OFFSET) << 16n, S1.entries << 24n]).toEqual([BASE, BASE, 1n << 34n])
  expect(new FakeGroup().maxWindows).toBe(2)
})
