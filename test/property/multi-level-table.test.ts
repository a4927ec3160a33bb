import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { wordOf } from '../../src/bits/u64.ts'
import type { DmaDir } from '../../src/table/hw-table.ts'
import { tableGeometry } from '../../src/table/ioda-geometry.ts'
import { MultiLevelTable } from '../../src/table/multi-level-table.ts'
import { makeHost } from '../support/host.ts'

const OFFSET = 1n << 59n

interface Step {
  readonly op: 'xchg' | 'clear' | 'user'
  readonly slot: number
  readonly hpaPage: number
  readonly dir: DmaDir
  readonly count: number
}

/** The naive table: what each slot holds, and the user address behind it. */
interface Naive {
  readonly tces: Map<number, { hpaPage: number; dir: number }>
  readonly users: Map<number, number>
}

function make(levels: number, journal = true) {
  const test = makeHost({ frames: 20_000, journal })
  const geometry = tableGeometry({ pageShift: 12, windowBytes: 1n << 30n, levels }, 12)
  if (typeof geometry === 'number') throw new Error('no such table')
  const table = MultiLevelTable.create(
    { host: test.host, nextTable: () => 1 },
    { geometry, pageShift: 12, busOffset: OFFSET, allocatedBytes: 0, hasUserView: true },
  ) as MultiLevelTable
  return { ...test, table, naive: { tces: new Map(), users: new Map() } as Naive }
}

/** Borders of levels, their neighbours, and anything between. */
const slot = fc.oneof(
  fc.constantFrom(0, 1, 511, 512, 513, 1023, 2 ** 17, 2 ** 18 - 1),
  fc.integer({ min: 0, max: 2 ** 18 - 1 }),
)
const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom('xchg', 'xchg', 'xchg', 'clear', 'user' as const),
  slot,
  hpaPage: fc.oneof(fc.integer({ min: 0, max: 2 ** 20 }), fc.integer({ min: 2 ** 31 - 4, max: 2 ** 31 + 4 })),
  dir: fc.constantFrom(0, 1, 2, 3 as const),
  count: fc.integer({ min: 0, max: 3000 }),
})

function apply(table: MultiLevelTable, naive: Naive, s: Step): void {
  const entry = table.offset + s.slot
  if (s.op === 'clear') {
    table.clear(entry, Math.min(s.count, table.entries - s.slot))
    for (const at of [...naive.tces.keys()]) if (at >= s.slot && at < s.slot + s.count) naive.tces.delete(at)
  } else if (s.op === 'user') {
    const before = naive.users.get(s.slot)
    expect(table.userSlot(entry, true)).toBe(true)
    expect([table.userHi, table.userLo >>> 0]).toEqual([before === undefined ? 0 : 7, before ?? 0])
    table.setUser(7, s.hpaPage | 0)
    naive.users.set(s.slot, s.hpaPage)
  } else {
    const before = naive.tces.get(s.slot) ?? { hpaPage: 0, dir: 0 }
    expect(table.xchg(entry, s.hpaPage, s.dir)).toBe(0)
    expect({ hpaPage: table.oldHpaPage, dir: table.oldDir as number }).toEqual(before)
    naive.tces.set(s.slot, { hpaPage: s.hpaPage, dir: s.dir === 2 ? 3 : s.dir })
  }
}

/** Where an address without permissions goes depends on the levels that are there: the naive table has none. */
const isPlain = (table: MultiLevelTable, s: Step): boolean =>
  s.op !== 'xchg' || s.dir !== 0 || s.hpaPage === 0 || table.levels === 1

const contents = (table: MultiLevelTable, slots: readonly number[]) =>
  slots.map((at) => {
    table.load(table.offset + at)
    const tce = [table.tceHi, table.tceLo]
    table.userSlot(table.offset + at, false)
    return [...tce, table.userHi, table.userLo]
  })

/** Records of entries; a level that comes has others. */
const sets = (log: ReturnType<typeof make>['log']): number =>
  [...log.records()].filter(({ event }) => event.kind === 'hw.set').length

/** What the records of a table say that its slots hold; each must know what was there. */
function recorded({ log }: ReturnType<typeof make>): Map<number, bigint> {
  const tces = new Map<number, bigint>()
  const step = (shift: number) => (shift < 0 ? 0n : 1n << BigInt(shift))
  for (const { event } of log.records()) {
    if (event.kind !== 'hw.set') continue
    for (let i = 0; i < event.count; i++) {
      const at = event.entry + i
      expect(tces.get(at) ?? 0n).toBe(event.before + BigInt(i) * step(event.beforeStep))
      tces.set(at, event.tce + BigInt(i) * step(event.step))
    }
  }
  return tces
}

describe.each([1, 2, 4])('a table of %i levels', (levels) => {
  it('says all that it does in its records, in runs and out of them', () => {
    const row = fc.record({
      slot: fc.integer({ min: 500, max: 530 }),
      count: fc.integer({ min: 1, max: 20 }),
      hpaPage: fc.integer({ min: 2 ** 20 - 9, max: 2 ** 20 }),
      dir: fc.constantFrom(0, 1, 3 as const),
      pages: fc.constantFrom(0, 1, 2),
      inRun: fc.boolean(),
      journal: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(row, { maxLength: 12 }), (rows) => {
        const made = make(levels, rows[0]?.journal)
        const { table, log } = made
        const users = new Map<number, number>()
        for (const { slot: at, count, hpaPage, dir, pages, inRun } of rows) {
          if (inRun) table.beginRun()
          const before = sets(log)
          for (let i = 0; i < count; i++) {
            const entry = table.offset + at + i
            expect(table.userSlot(entry, true)).toBe(true)
            expect([table.userHi, table.userLo]).toEqual([0, users.get(entry) ?? 0])
            table.xchg(entry, dir === 0 ? 0 : hpaPage + i * pages, dir)
            table.setUser(0, hpaPage + i)
            users.set(entry, hpaPage + i)
          }
          if (inRun) table.endRun()
          if (inRun && pages === 1 && rows.length === 1) expect(sets(log) - before).toBe(dir === 0 ? 0 : 1)
        }
        const tces = recorded(made)
        for (let at = 495; at < 560; at++) {
          table.load(table.offset + at)
          expect(tces.get(at) ?? 0n).toBe(wordOf(table.tceHi, table.tceLo))
        }
      }),
      { numRuns: 100 },
    )
  })

  it('does what a map of slots does', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const { table, naive } = make(levels)
        for (const s of steps) if (isPlain(table, s)) apply(table, naive, s)
        for (const [at, { hpaPage, dir }] of naive.tces) {
          table.load(table.offset + at)
          const page = (table.tceHi >>> 0) * 2 ** 20 + (table.tceLo >>> 12)
          expect([page, table.tceLo & 0xfff]).toEqual([hpaPage, dir])
        }
      }),
      { numRuns: 60 },
    )
  })

  it('goes back to a mark with its levels, its entries and the hash', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 10 }), fc.array(step, { maxLength: 10 }), (first, second) => {
        const { table, naive, journal, host } = make(levels)
        for (const s of first) if (isPlain(table, s)) apply(table, naive, s)
        const slots = [...first, ...second].map((s) => s.slot)
        const before = { hash: journal.hash, free: host.frames.free, contents: contents(table, slots) }
        const mark = journal.mark()
        for (const s of second) if (isPlain(table, s)) apply(table, naive, s)
        table.put('vfio')
        journal.rollback(mark)
        expect(table.references).toBe(1)
        expect({ hash: journal.hash, free: host.frames.free, contents: contents(table, slots) }).toEqual(
          before,
        )
      }),
      { numRuns: 20 },
    )
  })
})
