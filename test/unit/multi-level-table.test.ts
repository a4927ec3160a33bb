import { describe, expect, it } from 'vitest'
import type { DmaDir } from '../../src/table/hw-table.ts'
import { type TableRequest, tableGeometry } from '../../src/table/ioda-geometry.ts'
import { type HwTableShape, MultiLevelTable } from '../../src/table/multi-level-table.ts'
import { eventsOf, makeHost, type TestHost } from '../support/host.ts'

const ENOMEM = -12
const BASE_64 = 1n << 59n
const H = 0x10_0000

function shapeOf(request: TableRequest, busOffset: bigint, hostPageShift: number): HwTableShape {
  const geometry = tableGeometry(request, hostPageShift)
  if (typeof geometry === 'number') throw new Error('no such table')
  return { geometry, pageShift: request.pageShift, busOffset, allocatedBytes: 0, hasUserView: true }
}

function make(
  request: TableRequest,
  options: { busOffset?: bigint; pageShift?: number; frames?: number; allocations?: number } = {},
) {
  const { busOffset = 0n, pageShift = 16, frames = 512, allocations = 1e9 } = options
  const host = makeHost({ pageShift, frames, journal: true })
  let left = allocations
  let number = 0
  const bugs: string[] = []
  const table = MultiLevelTable.create(
    {
      host: host.host,
      nextTable: () => ++number,
      onAllocate: () => left-- > 0,
      onBug: (why) => bugs.push(why),
    },
    shapeOf(request, busOffset, pageShift),
  )
  return { host, table: table as MultiLevelTable, bugs, allow: (n: number) => (left = n) }
}

const used = ({ host }: TestHost) => host.frames.frames - host.frames.free
const swap = (t: MultiLevelTable, entry: number, hpaPage: number, dir: DmaDir) => [
  t.xchg(entry, hpaPage, dir),
  t.oldHpaPage,
  t.oldDir,
]
const corrupt = (host: TestHost) => eventsOf(host, 'memory.corrupt')

const SINGLE = { kind: 'hw.set', table: 1, count: 1, beforeStep: -1, step: -1 } as const

/** 16 GiB of 64 KiB pages at 1 << 59. */
const FLAT: TableRequest = { pageShift: 16, windowBytes: 1n << 34n, levels: 1 }
const TWO: TableRequest = { ...FLAT, levels: 2 }
const FIRST = 0x800_0000_0000

describe('a table of one level', () => {
  it('is complete from the start: its entries and its mirror are frames of the kernel', () => {
    const { host, table } = make(FLAT, { busOffset: BASE_64 })
    expect([table.offset, table.entries, table.levels, table.references]).toEqual([FIRST, 0x4_0000, 1, 1])
    expect(used(host)).toBe(2 * 32)
    expect(host.host.frames.ownerOf(table.rootPage >> 4)).toBe('kernel')
  })

  it('holds big-endian entries in memory, and WRITE brings READ', () => {
    const { host, table } = make(FLAT, { busOffset: BASE_64 })
    expect(swap(table, FIRST + 0x201, H, 2)).toEqual([0, 0, 0])
    const bytes = new Uint8Array(8)
    host.host.memory.readPage(table.rootPage + 1, 8, bytes, 0, 8)
    expect([...bytes]).toEqual([0, 0, 0, 1, 0, 0, 0, 3])
    table.load(FIRST + 0x201)
    expect([table.tceHi, table.tceLo]).toEqual([1, 3])
    expect(swap(table, FIRST + 0x201, H + 16, 1)).toEqual([0, H, 3])
    expect(swap(table, FIRST + 0x201, 0, 0)).toEqual([0, H + 16, 1])
  })

  it('says each new entry in a record, counted from the start of the window', () => {
    const { host, table } = make(FLAT, { busOffset: BASE_64 })
    table.xchg(FIRST + 3, H, 1)
    table.xchg(FIRST + 3, 0, 0)
    expect(eventsOf(host, 'hw.set')).toEqual([
      { ...SINGLE, entry: 3, before: 0n, tce: 0x1_0000_0001n },
      { ...SINGLE, entry: 3, before: 0x1_0000_0001n, tce: 0n },
    ])
  })
})

describe('swaps in a run', () => {
  /** Swaps entries from FIRST + slot on for pages of a row. */
  const row = (table: MultiLevelTable, slot: number, page: number, count: number, dir: DmaDir = 3) => {
    for (let i = 0; i < count; i++) table.xchg(FIRST + slot + i, page === 0 ? 0 : page + 16 * i, dir)
  }
  const runs = (host: TestHost) =>
    eventsOf(host, 'hw.set').map((e) => {
      const { entry, count, before, beforeStep, tce, step } = e as Extract<typeof e, { kind: 'hw.set' }>
      return [entry, count, before, beforeStep, tce, step]
    })
  const [A, B] = [0x1_0000_0003n, 0x2_0000_0003n]

  it('are one record as long as both what was there and what is there now go on', () => {
    const { host, table } = make(TWO, { busOffset: BASE_64 })
    table.beginRun()
    row(table, 8190, H, 4)
    expect(runs(host)).toEqual([])
    table.endRun()
    table.beginRun()
    row(table, 8189, 0, 4, 0)
    table.endRun()
    expect(runs(host)).toEqual([
      [8190, 4, 0n, -1, A, 16],
      [8190, 3, A, 16, 0n, -1],
    ])
  })

  it.each<[string, (t: MultiLevelTable) => void, unknown[]]>([
    [
      'a gap',
      (t) => [row(t, 0, H, 2), row(t, 3, H + 48, 1)],
      [
        [0, 2],
        [3, 1],
      ],
    ],
    [
      'an entry again',
      (t) => [row(t, 0, H, 2), row(t, 1, H + 32, 1)],
      [
        [0, 2],
        [1, 1],
      ],
    ],
    [
      'pages that do not follow',
      (t) => [row(t, 0, H, 2), row(t, 2, H, 1)],
      [
        [0, 2],
        [2, 1],
      ],
    ],
    [
      'another direction',
      (t) => [row(t, 0, H, 2), row(t, 2, H + 32, 1, 1)],
      [
        [0, 2],
        [2, 1],
      ],
    ],
    [
      'a row after the same',
      (t) => [row(t, 0, H, 1), row(t, 1, H, 2)],
      [
        [0, 2],
        [2, 1],
      ],
    ],
    [
      'the same after a row',
      (t) => [row(t, 0, H, 2), row(t, 2, H + 16, 1)],
      [
        [0, 2],
        [2, 1],
      ],
    ],
    [
      'other old entries',
      (t) => row(t, 40, H, 4),
      [
        [40, 1],
        [41, 2],
        [43, 1],
      ],
    ],
  ])('end with %s', (_what, swaps, wanted) => {
    const { host, table } = make(FLAT, { busOffset: BASE_64 })
    for (const slot of [41, 42]) table.xchg(FIRST + slot, 2 * H, 3)
    const from = runs(host).length
    table.beginRun()
    swaps(table)
    table.endRun()
    expect(
      runs(host)
        .slice(from)
        .map((r) => r.slice(0, 2)),
    ).toEqual(wanted)
  })

  it('that change nothing are no record, and a stray one comes after those before it', () => {
    const { host, table } = make(FLAT, { busOffset: BASE_64 })
    table.xchg(FIRST + 7, 2 * H, 3)
    table.beginRun()
    row(table, 0, 0, 3, 0)
    row(table, 7, 2 * H, 1)
    table.xchg(FIRST + 0x4_0000, H, 3)
    table.endRun()
    expect(runs(host).slice(1)).toEqual([[7, 1, B, -1, B, -1]])
    expect(eventsOf(host, 'hw.set', 'memory.corrupt').map((e) => e.kind)).toEqual([
      ...['hw.set', 'hw.set'],
      'memory.corrupt',
    ])
  })
})

describe('a table of several levels', () => {
  it('has its first level only, and gets others with the entries that need them', () => {
    const { host, table } = make(TWO, { busOffset: BASE_64 })
    expect(used(host)).toBe(2)
    expect(swap(table, FIRST + 8191, H, 3)).toEqual([0, 0, 0])
    expect(used(host)).toBe(3)
    table.xchg(FIRST + 8192, H, 3)
    table.xchg(FIRST, H, 3)
    expect(used(host)).toBe(4)
    host.host.memory.loadU64be(table.rootPage, 8)
    const { wordHi, wordLo } = host.host.memory
    expect([wordHi, wordLo & 0xfff]).toEqual([0, 3])
    expect(host.host.frames.ownerOf(wordLo >>> 16)).toBe('kernel')
  })

  it('takes nothing for an entry that goes, and reads it as 0', () => {
    const { host, table } = make(TWO, { busOffset: BASE_64 })
    expect(swap(table, FIRST + 5, H, 0)).toEqual([0, 0, 0])
    table.load(FIRST + 5)
    expect([table.tceHi, table.tceLo, used(host)]).toEqual([0, 0, 2])
  })

  it('stores an address without permissions where its level is there', () => {
    const { table } = make(TWO)
    table.xchg(5, H, 3)
    expect(swap(table, 6, H + 16, 0)).toEqual([0, 0, 0])
    expect(swap(table, 6, 0, 0)).toEqual([0, H + 16, 0])
  })

  it('answers -ENOMEM where no level can be had, and says then that nothing was there', () => {
    const { host, table, allow } = make(
      { pageShift: 12, windowBytes: 1n << 40n, levels: 4 },
      { pageShift: 12 },
    )
    allow(2)
    expect(swap(table, 77, H, 3)).toEqual([ENOMEM, 0, 0])
    expect(used(host)).toBe(4)
    allow(1)
    expect(swap(table, 77, H, 3)).toEqual([0, 0, 0])
    expect(swap(table, 77, 0, 0)).toEqual([0, H, 3])
  })

  it('clears a range and passes over the levels that are missing', () => {
    const { host, table } = make(TWO)
    for (const entry of [8190, 8191, 3 * 8192, 3 * 8192 + 7]) table.xchg(entry, H, 3)
    const before = host.log.length
    table.clear(8191, 2 * 8192 + 2)
    expect(host.log.length - before).toBe(2)
    table.load(8190)
    expect(table.tceLo).toBe(3)
    for (const entry of [8191, 3 * 8192]) {
      table.load(entry)
      expect([table.tceHi, table.tceLo]).toEqual([0, 0])
    }
    table.load(3 * 8192 + 7)
    expect(table.tceLo).toBe(3)
  })

  it('frees all its levels with the last reference', () => {
    const { host, table } = make({ pageShift: 12, windowBytes: 1n << 40n, levels: 4 }, { pageShift: 12 })
    for (const entry of [0, 511, 2 ** 20, 2 ** 27]) {
      table.xchg(entry, H, 3)
      table.userSlot(entry, true)
    }
    table.get('vfio')
    table.put('vfio')
    expect([table.references, used(host) > 10]).toEqual([1, true])
    table.put('vfio')
    expect([table.references, used(host)]).toEqual([0, 0])
    expect(() => table.put('vfio')).toThrow('model bug')
  })
})

describe('the userspace view', () => {
  it('has levels of its own, and holds what was set', () => {
    const { host, table } = make(TWO)
    expect(table.userSlot(9000, false)).toBe(false)
    expect(table.userSlot(9000, true)).toBe(true)
    expect(used(host)).toBe(3)
    table.setUser(0x7000, 0x12_0000)
    expect(table.userSlot(9001, false)).toBe(true)
    expect([table.userHi, table.userLo]).toEqual([0, 0])
    expect(table.userSlot(9000, false)).toBe(true)
    expect([table.userHi, table.userLo]).toEqual([0x7000, 0x12_0000])
    table.load(9000)
    expect(table.tceLo).toBe(0)
  })

  it('tells how many entries a missing leaf stands for', () => {
    const { table } = make(TWO, { busOffset: BASE_64 })
    expect([table.userGap(FIRST + 8190), table.userGap(FIRST + 8192)]).toEqual([2, 8192])
    table.userSlot(FIRST, true)
    expect([table.userGap(FIRST + 8190), table.userGap(FIRST + 8192)]).toEqual([0, 8192])
    expect(make(FLAT).table.userGap(3)).toBe(0)
  })

  it('passes over all leaves of a level that is missing at once', () => {
    const { table } = make({ pageShift: 12, windowBytes: 1n << 48n, levels: 4 }, { pageShift: 12 })
    const top = 2 ** 27
    expect([table.userGap(5), table.userGap(top - 1)]).toEqual([top - 5, 1])
    table.userSlot(5, true)
    expect([table.userGap(5), table.userGap(512), table.userGap(2 ** 18), table.userGap(top)]).toEqual([
      ...[0, 512, 2 ** 18, top],
    ])
    // Leaves that do not begin where the window does: no more than one of them, as the kernel counts.
    const odd = make(
      { pageShift: 12, windowBytes: 1n << 48n, levels: 4 },
      { pageShift: 12, busOffset: 512n << 12n },
    ).table
    expect([odd.userGap(512), odd.userGap(515)]).toEqual([512, 509])
  })

  it('tells how many entries in a row hold nothing, within a leaf', () => {
    const { table } = make(TWO, { busOffset: BASE_64 })
    expect(table.emptyRun(FIRST, 100)).toBe(0)
    for (const at of [5, 6, 8191, 8192 + 3]) table.xchg(FIRST + at, H, 3)
    // Without permission, an entry that holds an address is not empty.
    table.xchg(FIRST + 100, H, 0)
    const runs = [0, 5, 7, 101, 8191, 8192].map((at) => table.emptyRun(FIRST + at, 1e6))
    expect(runs).toEqual([5, 0, 93, 8090, 0, 3])
    expect([table.emptyRun(FIRST + 7, 10), table.emptyRun(FIRST + 7, 0)]).toEqual([10, 0])
    expect(table.emptyRun(FIRST + 2 ** 26, 10)).toBe(0)
  })

  it('is refused without memory, and is not there in a table of the kernel', () => {
    const { table, allow } = make(TWO)
    allow(0)
    expect(table.userSlot(1, true)).toBe(false)
    const { host } = makeHost({ pageShift: 16, frames: 64 })
    const shape = { ...shapeOf(TWO, 0n, 16), hasUserView: false }
    const own = MultiLevelTable.create({ host, nextTable: () => 1 }, shape) as MultiLevelTable
    expect([own.userSlot(1, true), own.userGap(1), host.frames.frames - host.frames.free]).toEqual([
      false,
      0,
      1,
    ])
  })
})

describe('words that are lent', () => {
  const NONE = new Int32Array(0)
  const borrower = () => ({ start: 0, end: 0, tces: NONE, tceCell: 0, users: NONE, userCell: 0 })
  const lent = () => {
    const { host, table } = make({ pageShift: 16, windowBytes: 1n << 34n, levels: 2 })
    host.host.journal.on = false
    for (const entry of [0, 8192]) {
      table.xchg(entry, H, 3)
      table.userSlot(entry, true)
      table.setUser(1, 0)
    }
    return { host, table }
  }

  it('are those of the slots, as many as lie side by side', () => {
    const { table } = lent()
    const mine = borrower()
    expect(table.lend(8192, mine)).toBe(true)
    expect([mine.start, mine.end]).toEqual([8192, 16384])
    expect([...mine.tces.subarray(mine.tceCell, mine.tceCell + 2)]).toEqual([0x0100_0000, 0x0300_0000])
    expect([...mine.users.subarray(mine.userCell, mine.userCell + 2)]).toEqual([0x0100_0000, 0])
    expect(table.isLent(mine)).toBe(true)
  })

  it('are not while levels are missing, for slots outside, and with an undo log', () => {
    const { host, table } = lent()
    for (const slot of [16384, -1, 2 ** 18]) expect(table.lend(slot, borrower())).toBe(false)
    const mine = borrower()
    expect(table.lend(0, mine)).toBe(true)
    host.host.journal.on = true
    expect([table.lend(0, borrower()), table.isLent(mine)]).toEqual([false, false])
  })

  it('are so no more when somebody else borrows others, or a level leads elsewhere', () => {
    const { host, table } = lent()
    const [mine, its] = [borrower(), borrower()]
    table.lend(0, mine)
    table.lend(8192, its)
    expect([table.isLent(mine), table.isLent(its)]).toEqual([false, true])
    table.lend(0, mine)
    expect([table.isLent(mine), table.isLent(its)]).toEqual([true, false])
    const { memory } = host.host
    memory.loadU64be(table.rootPage, 0)
    memory.storeU64be(table.rootPage, 0, memory.wordHi, memory.wordLo + 0x1_0000)
    expect(table.isLent(mine)).toBe(false)
  })
})

describe('an index that leaves the table', () => {
  const stray = (table: MultiLevelTable, slot: bigint) =>
    BigInt.asUintN(64, BigInt(table.rootPage) * 4096n + slot * 8n)
  const strayTce = (table: MultiLevelTable, slot: bigint) => ({
    kind: 'memory.corrupt',
    space: 'hpa',
    bytes: 8,
    what: 'tce',
    table: table.number,
    entry: BigInt.asUintN(64, slot),
  })

  it('is computed and not written: behind a flat table, and before it', () => {
    const { host, table } = make(FLAT, { busOffset: BASE_64 })
    const hash = host.journal.hash
    expect(swap(table, FIRST + 0x4_0000, H, 3)).toEqual([0, 0, 0])
    expect(swap(table, FIRST - 1, H, 3)).toEqual([0, 0, 0])
    expect(corrupt(host)).toEqual([
      { ...strayTce(table, 0x4_0000n), address: stray(table, 0x4_0000n) },
      { ...strayTce(table, -1n), address: stray(table, -1n) },
    ])
    expect(host.journal.hash).toBe(hash)
  })

  // Vector T9: the entry number of a 16 MiB page taken for one of 64 KiB.
  it('of a missing level does no harm; once the level is there it lands far outside', () => {
    const { host, table } = make(TWO, { busOffset: BASE_64 })
    const emulated = 0x8_0000_0000
    expect(swap(table, emulated, 0, 0)).toEqual([0, 0, 0])
    expect(corrupt(host)).toEqual([])
    table.xchg(FIRST, H, 3)
    table.xchg(emulated + 0x20, 0, 0)
    host.host.memory.loadU64be(table.rootPage, 0)
    const leaf = BigInt(host.host.memory.wordLo & ~0xfff)
    const address = BigInt.asUintN(64, leaf + 0xffff_f808_0000_0020n * 8n)
    expect(corrupt(host)).toEqual([{ ...strayTce(table, 0xffff_f808_0000_0020n), address }])
    table.load(FIRST)
    expect(table.tceLo).toBe(3)
  })

  it('reads as nothing, and a user address that is set there goes astray as well', () => {
    const { host, table } = make(FLAT)
    table.load(0x4_0000)
    expect([table.tceHi, table.tceLo, table.userSlot(0x4_0000, false)]).toEqual([0, 0, true])
    expect([table.userHi, table.userLo, corrupt(host).length]).toEqual([0, 0, 0])
    table.setUser(1, 1)
    table.clear(0x3_ffff, 2)
    expect(corrupt(host).map((e) => (e as { what?: string }).what)).toEqual(['userspace address', 'tce'])
  })
})

it('a table that has no memory leaves nothing behind', () => {
  for (const allocations of [0, 1]) {
    const { host, table } = make(FLAT, { allocations })
    expect([table, used(host)]).toEqual([ENOMEM, 0])
  }
  // 128 GiB of 64 KiB pages are the most that one level can have.
  const large = make({ pageShift: 16, windowBytes: 1n << 38n, levels: 1 }, { frames: 4096 })
  expect(large.table).toBe(ENOMEM)
  expect(make({ pageShift: 16, windowBytes: 1n << 37n, levels: 1 }, { frames: 4096 }).table.entries).toBe(
    2 ** 21,
  )
})

it('the kernel stops at an address that is no multiple of the IOMMU page', () => {
  const { table, bugs } = make(FLAT)
  expect(swap(table, 0, H + 1, 3)).toEqual([0, 0, 0])
  expect(bugs).toHaveLength(1)
  table.load(0)
  expect(table.tceLo).toBe(0)
})

it('a kill reaches every user of the table, the newest first', () => {
  const { table } = make(FLAT)
  const heard: string[] = []
  const user = (name: string) => ({
    forget: (_: MultiLevelTable, entry: number, count: number) => heard.push(`${name} ${entry} ${count}`),
  })
  const [one, two] = [user('one'), user('two')]
  table.link(one)
  table.link(two)
  table.kill(4, 2)
  expect([table.unlink(one), table.unlink(one)]).toEqual([true, false])
  table.kill(5, 1)
  expect(heard).toEqual(['two 4 2', 'one 4 2', 'two 5 1'])
})
