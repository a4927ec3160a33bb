import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { H_CODES } from '../../src/bits/codes.ts'
import { type Erratum, resolveProfile } from '../../src/bits/errata.ts'
import { updateErrata } from '../../src/kernel/kvm/entry-updates.ts'
import { KVM_ERRATA } from '../../src/kernel/kvm/errata.ts'
import { TableUpdates } from '../../src/kernel/kvm/table-updates.ts'
import type { DmaDir } from '../../src/table/hw-table.ts'
import { tableGeometry } from '../../src/table/ioda-geometry.ts'
import { MultiLevelTable } from '../../src/table/multi-level-table.ts'
import { AT, makePrereg } from '../support/prereg.ts'

const { H_SUCCESS, H_TOO_HARD } = H_CODES
const HW_SHIFT = 12
/** Registered pages of 4 KiB: two regions with a hole between them. */
const REGIONS = [
  { first: 0, pages: 40 },
  { first: 48, pages: 24 },
] as const
const PAGES = 80
/** Guest pages of the window. */
const GUEST_PAGES = 12

interface Live {
  readonly page: number
  readonly dir: DmaDir
}
interface Step {
  readonly op: 'map' | 'unmap' | 'clear'
  readonly at: number
  readonly page: number
  readonly dir: 1 | 2 | 3
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom('map', 'map', 'map', 'unmap', 'clear' as const),
  at: fc.integer({ min: 0, max: GUEST_PAGES - 1 }),
  page: fc.oneof(fc.integer({ min: 0, max: PAGES - 1 }), fc.constantFrom(36, 39, 40, 47, 48, 71, 72)),
  dir: fc.constantFrom(1, 2, 3 as const),
})

/** Counts, TCEs and user addresses as maps: nothing but what the interface promises. */
class Naive {
  readonly live = new Map<number, Live>()
  readonly users = new Map<number, number>()
  readonly counts = [1, 1]
  readonly sub: number
  readonly forgets: boolean

  constructor(sub: number, forgets: boolean) {
    this.sub = sub
    this.forgets = forgets
  }

  regionOf(page: number): number {
    return REGIONS.findIndex(({ first, pages }) => page >= first && page < first + pages)
  }

  map({ at, page, dir }: Step): number {
    for (let i = 0; i < this.sub; i++) {
      const region = this.regionOf(page + i)
      if (region < 0) return H_TOO_HARD
      const slot = at * this.sub + i
      this.counts[region]!++
      if (this.live.has(slot)) this.#take(slot)
      this.live.set(slot, { page: page + i, dir: dir === 2 ? 3 : dir })
      this.users.set(slot, page + i)
    }
    return H_SUCCESS
  }

  unmap(at: number): number {
    for (let i = 0; i < this.sub; i++) {
      const slot = at * this.sub + i
      if (this.live.has(slot)) this.#take(slot)
    }
    return H_SUCCESS
  }

  clear(at: number): void {
    for (let i = 0; i < this.sub; i++) {
      const slot = at * this.sub + i
      if (this.forgets) this.live.delete(slot)
      else if (this.live.has(slot)) this.#take(slot)
    }
  }

  /** An entry is live no more, and counts no more where it shows its memory. */
  #take(slot: number): void {
    this.live.delete(slot)
    const page = this.users.get(slot)!
    this.counts[this.regionOf(page)]!--
    this.users.delete(slot)
  }
}

function make(guestShift: number, levels: number, profile: string) {
  const world = makePrereg({ pageShift: 12, frames: 2000, pages: PAGES, journal: true })
  const ua = (page: number) => AT + BigInt(page) * 4096n
  const regions = REGIONS.map(({ first, pages }) =>
    world.memory.create(world.qemu.mm, world.qemu, ua(first), BigInt(pages) * 4096n),
  )
  const geometry = tableGeometry({ pageShift: HW_SHIFT, windowBytes: 1n << 30n, levels }, 12)
  if (typeof geometry === 'number') throw new Error('no such table')
  const table = MultiLevelTable.create(
    { host: world.host, nextTable: () => 1 },
    { geometry, pageShift: HW_SHIFT, busOffset: 1n << 59n, allocatedBytes: 0, hasUserView: true },
  ) as MultiLevelTable
  const told = new Set<number>()
  table.link({
    forget: (_, entry, count) => {
      for (let i = 0; i < count; i++) told.add(entry + i - table.offset)
    },
  })
  const errata = updateErrata(resolveProfile(KVM_ERRATA as readonly Erratum[], profile))
  const onBug = (why: string) => {
    throw new Error(why)
  }
  const updates = new TableUpdates({
    host: world.host,
    memory: world.memory,
    mm: world.qemu.mm,
    errata,
    onBug,
  })
  return { ...world, regions, table, updates, told, ua, first: Number((1n << 59n) >> BigInt(guestShift)) }
}

type World = ReturnType<typeof make>

const contents = ({ table, memory, qemu, ua }: World, slots: number) => {
  const live = new Map<number, Live>()
  const users = new Map<number, number>()
  const pageOf = new Map<number, number>()
  for (let page = 0; page < PAGES; page++) {
    const at = ua(page)
    const lanes = [Number(at >> 32n), Number(BigInt.asIntN(32, at))] as const
    const region = memory.lookup(qemu.mm, ...lanes, 4096)
    if (region >= 0 && memory.toHpa(region, ...lanes, 12) === 0) pageOf.set(memory.hpaPage, page)
  }
  for (let slot = 0; slot < slots; slot++) {
    table.load(table.offset + slot)
    const dir = (table.tceLo & 3) as DmaDir
    if (dir !== 0) live.set(slot, { page: pageOf.get((table.tceHi << 20) | (table.tceLo >>> 12))!, dir })
    table.userSlot(table.offset + slot, false)
    const user = (BigInt(table.userHi) << 32n) | BigInt(table.userLo >>> 0)
    if (user !== 0n) users.set(slot, Number((user - AT) / 4096n))
  }
  return { live, users }
}

const sorted = <T>(map: ReadonlyMap<number, T>) => [...map].sort(([a], [b]) => a - b)

describe.each([
  [12, 1, 'intended'],
  [14, 1, 'intended'],
  [16, 3, 'intended'],
  [14, 2, 'linux-6.12.95'],
  [16, 1, 'linux-6.12.95'],
  [13, 2, 'linux-5.3 -B1'],
])('guest pages of 2^%i bytes, %i levels, %s', (guestShift, levels, profile) => {
  it('leave entries, user addresses and counts as a map of pages would have them', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const world = make(guestShift, levels, profile)
        const { updates, table, memory, regions, told, first } = world
        const sub = 2 ** (guestShift - HW_SHIFT)
        const naive = new Naive(sub, profile.startsWith('linux'))
        for (const s of steps) {
          const entry = first + s.at
          told.clear()
          const before = new Map(naive.live)
          const ua = world.ua(s.page)
          if (s.op === 'map') {
            const result = updates.mapPage(
              table,
              guestShift,
              entry,
              Number(ua >> 32n),
              Number(BigInt.asIntN(32, ua)),
              s.dir,
            )
            expect(result).toBe(naive.map(s))
          } else if (s.op === 'unmap') {
            expect(updates.unmapPage(table, guestShift, entry)).toBe(naive.unmap(s.at))
          } else {
            updates.clearTce(table, guestShift, entry)
            naive.clear(s.at)
          }
          // A cache hears of every entry that went or changed: not after the clear of a kernel.
          const hears = s.op !== 'clear' || !naive.forgets || profile.startsWith('linux-5.3')
          for (const [slot, was] of before) {
            const now = naive.live.get(slot)
            if (hears && (now?.page !== was.page || now.dir !== was.dir)) expect(told.has(slot)).toBe(true)
          }
          expect(regions.map((region) => memory.mappedOf(region))).toEqual(naive.counts)
        }
        const { live, users } = contents(world, GUEST_PAGES * sub)
        expect(sorted(live)).toEqual(sorted(naive.live))
        expect(sorted(users)).toEqual(sorted(naive.users))
      }),
    )
  })
})
