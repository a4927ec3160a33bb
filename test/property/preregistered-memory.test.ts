import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { LeakPin } from '../../src/check/leak-pin.ts'
import { LockedVmBalance } from '../../src/check/locked-vm-balance.ts'
import { OrphanedRegion } from '../../src/check/orphaned-region.ts'
import { Uses } from '../../src/check/uses.ts'
import { WindowShadows } from '../../src/check/window-shadow.ts'
import { eventsOf } from '../support/host.ts'
import { AT, makePrereg, mapAt } from '../support/prereg.ts'

const [ENOENT, ENXIO, ENOMEM, EFAULT, EBUSY, EINVAL] = [-2, -6, -12, -14, -16, -22]
const NONE = -1
const PAGES = 16
const FRAMES = 40
const NAMES = ['qemu', 'other'] as const

type Op =
  | { op: 'create'; who: number; page: number; pages: number; by: number; failsAt: number }
  | { op: 'get' | 'find'; who: number; page: number; pages: number }
  | { op: 'put' | 'inc' | 'dec'; which: number }
  | { op: 'lookup'; who: number; page: number; offset: number; bytes: number }
  | { op: 'hpa'; which: number; page: number; shift: number }
  | { op: 'map' | 'unmap' | 'protect'; who: number; page: number; pages: number }
  | { op: 'limit'; who: number; pages: number; cap: boolean }

interface NaiveRegion {
  readonly who: number
  readonly page: number
  /** A name for each page of memory: no two are the same. */
  readonly pinned: readonly number[]
  used: number
  mapped: number
}

/** Regions in a list, memory as pages that have names, and every sum made anew. */
class NaivePrereg {
  readonly regions = new Map<number, NaiveRegion>()
  readonly limits = NAMES.map(() => ({ pages: 1000, cap: false }))
  /** Of each process: page to its name (0 where it was never used), and whether it may be written. */
  readonly memory = NAMES.map(() => new Map<number, { name: number; write: boolean }>())
  #names = 0

  locked(who: number): number {
    return this.#of(who).reduce((n, r) => n + r.pinned.length, 0)
  }

  frames(): number {
    const names = new Set<number>()
    for (const space of this.memory) for (const { name } of space.values()) if (name > 0) names.add(name)
    for (const { pinned } of this.regions.values()) for (const name of pinned) names.add(name)
    return names.size
  }

  pinsOf(name: number): number {
    return [...this.regions.values()].flatMap((r) => r.pinned).filter((n) => n === name).length
  }

  create(o: Extract<Op, { op: 'create' }>): number {
    const { who, page, pages, by, failsAt } = o
    const limit = this.limits[by]!
    if (pages > 0 && !limit.cap && this.locked(who) + pages > limit.pages) return ENOMEM
    if (failsAt === 1 || pages === 0 || failsAt === 2) return ENOMEM
    const pinned: number[] = []
    for (let at = page; at < page + pages; at++) {
      const found = this.memory[who]!.get(at)
      if (found?.write !== true) return EFAULT
      if (found.name === 0 && this.frames() === FRAMES) return at === page ? ENOMEM : EFAULT
      if (found.name === 0) found.name = ++this.#names
      pinned.push(found.name)
    }
    if (this.#of(who).some((r) => r.page < page + pages && page < r.page + r.pinned.length)) return EINVAL
    let region = 0
    while (this.regions.has(region)) region++
    this.regions.set(region, { who, page, pinned, used: 1, mapped: 1 })
    return region
  }

  find(who: number, page: number, pages: number): number {
    return this.#first((r) => r.who === who && r.page === page && r.pinned.length === pages)
  }

  lookup(who: number, at: number, bytes: number): number {
    const from = (r: NaiveRegion) => r.page * 4096
    return this.#first(
      (r) => r.who === who && from(r) <= at && at + bytes <= from(r) + r.pinned.length * 4096,
    )
  }

  put(region: number): number {
    const found = this.regions.get(region)
    if (found === undefined) return ENOENT
    if (found.used === 1 && found.mapped !== 1) return EBUSY
    if (--found.used === 0) this.regions.delete(region)
    return 0
  }

  #of(who: number): NaiveRegion[] {
    return [...this.regions.values()].filter((r) => r.who === who)
  }

  #first(holds: (r: NaiveRegion) => boolean): number {
    return [...this.regions].find(([, r]) => holds(r))?.[0] ?? NONE
  }
}

function makeBoth(journal = false) {
  const faults = { at: 0, seen: 0 }
  const onAllocate = () => ++faults.seen !== faults.at
  const m = makePrereg({ pageShift: 12, frames: FRAMES, pages: PAGES, journal, onAllocate })
  const naive = new NaivePrereg()
  const other = m.processes.spawn('other', { memlockBytes: 1000n << 12n, hasIpcLock: false })
  m.qemu.allow(other)
  mapAt(other, AT, BigInt(PAGES) << 12n)
  for (const space of naive.memory) for (let i = 0; i < PAGES; i++) space.set(i, { name: 0, write: true })
  return { ...m, naive, faults }
}
type Both = ReturnType<typeof makeBoth>

/** The answer of the real one to a step, and that of the naive one. */
function apply(m: Both, o: Op): [real: number, naive: number] {
  const { memory, naive, processes } = m
  const ua = (page: number) => AT + (BigInt(page) << 12n)
  const bytes = (pages: number) => BigInt(pages) << 12n
  const process = processes.get('who' in o ? NAMES[o.who]! : NAMES[0])!
  switch (o.op) {
    case 'create': {
      m.faults.seen = 0
      m.faults.at = o.failsAt
      const task = processes.get(NAMES[o.by]!)!
      return [memory.create(process.mm, task, ua(o.page), bytes(o.pages)), naive.create(o)]
    }
    case 'get': {
      const region = naive.find(o.who, o.page, o.pages)
      if (region !== NONE) naive.regions.get(region)!.used++
      return [memory.get(process.mm, ua(o.page), bytes(o.pages)), region]
    }
    case 'find':
      return [memory.find(process.mm, ua(o.page), bytes(o.pages)), naive.find(o.who, o.page, o.pages)]
    case 'put':
      return [memory.put(o.which), naive.put(o.which)]
    case 'inc': {
      const found = naive.regions.get(o.which)
      if (found !== undefined) found.mapped++
      return [memory.mappedInc(o.which), found === undefined ? ENXIO : 0]
    }
    case 'dec': {
      memory.mappedDec(o.which)
      const found = naive.regions.get(o.which)
      if (found !== undefined) found.mapped = Math.max(1, found.mapped - 1)
      return [memory.mappedOf(o.which), found?.mapped ?? 0]
    }
    case 'lookup': {
      const at = ua(o.page) + BigInt(o.offset)
      const wanted = naive.lookup(o.who, o.page * 4096 + o.offset, o.bytes)
      return [memory.lookup(process.mm, hiOf(at), loOf(at), o.bytes), wanted]
    }
    case 'hpa': {
      const found = naive.regions.get(o.which)
      const name = found?.pinned[o.page - found.page]
      const code = memory.toHpa(o.which, hiOf(ua(o.page)), loOf(ua(o.page)), o.shift)
      if (code !== 0) return [code, name === undefined || o.shift > 12 ? EFAULT : 0]
      const pins = m.host.frames.pinsOf(memory.hpaPage)
      return [pins, o.shift > 12 ? EFAULT : naive.pinsOf(name ?? -1)]
    }
    case 'limit':
      process.allow({ memlockBytes: bytes(o.pages), hasIpcLock: o.cap })
      naive.limits[o.who] = { pages: o.pages, cap: o.cap }
      return [0, 0]
    default: {
      const space = naive.memory[o.who]!
      for (let i = o.page; i < o.page + o.pages; i++) {
        if (o.op === 'unmap') space.delete(i)
        else space.set(i, { name: 0, write: o.op === 'map' })
      }
      if (o.op === 'unmap') process.mm.munmap(ua(o.page), bytes(o.pages))
      else mapAt(process, ua(o.page), bytes(o.pages), { write: o.op === 'map' })
      return [0, 0]
    }
  }
}

function views(m: Both): [real: unknown, naive: unknown] {
  const { memory, naive, processes, host } = m
  const numbers = Array.from({ length: 12 }, (_, i) => i)
  const real = {
    locked: NAMES.map((name) => Number(processes.get(name)!.mm.locked.pages)),
    used: NAMES.map((name) => memory.isUsed(processes.get(name)!.mm)),
    regions: numbers.map((i) => [memory.usesOf(i), memory.mappedOf(i)]),
    free: host.frames.free,
  }
  const wanted = {
    locked: NAMES.map((_, who) => naive.locked(who)),
    used: NAMES.map((_, who) => [...naive.regions.values()].some((r) => r.who === who)),
    regions: numbers.map((i) => [naive.regions.get(i)?.used ?? 0, naive.regions.get(i)?.mapped ?? 0]),
    free: FRAMES - naive.frames(),
  }
  return [real, wanted]
}

const who = fc.nat(1)
const stretch = { page: fc.nat(PAGES), pages: fc.integer({ min: 0, max: 6 }) }
const which = fc.nat(5)
const anyOp: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('create' as const),
      who,
      ...stretch,
      by: who,
      failsAt: fc.constantFrom(0, 0, 0, 0, 1, 2),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constantFrom('get' as const, 'find' as const), who, ...stretch }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('put' as const), which }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constantFrom('inc' as const, 'dec' as const), which }) },
  fc.record({
    op: fc.constant('lookup' as const),
    who,
    page: stretch.page,
    offset: fc.nat(4095),
    bytes: fc.integer({ min: 1, max: 20_000 }),
  }),
  fc.record({
    op: fc.constant('hpa' as const),
    which,
    page: stretch.page,
    shift: fc.constantFrom(12, 12, 13),
  }),
  fc.record({
    op: fc.constantFrom('map' as const, 'unmap' as const, 'protect' as const),
    who,
    page: stretch.page,
    pages: fc.integer({ min: 1, max: 6 }),
  }),
  fc.record({ op: fc.constant('limit' as const), who, pages: fc.nat(20), cap: fc.boolean() }),
)
const ops = fc.array(anyOp, { maxLength: 60, size: 'max' })

describe('preregistered memory, against lists', () => {
  it('answers, counts and charges the same', () => {
    fc.assert(
      fc.property(ops, (list) => {
        const m = makeBoth()
        for (const o of list) {
          const [real, naive] = apply(m, o)
          // The page size of a region follows from alignment and backing: ordinary pages here, so none is above 12.
          expect(real).toBe(naive)
          const [seen, wanted] = views(m)
          expect(seen).toEqual(wanted)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('its records tell what there is: charges, pins and counts', () => {
    fc.assert(
      fc.property(ops, (list) => {
        const m = makeBoth()
        for (const o of list) apply(m, o)
        const lockedPages = new Map<string, number>(NAMES.map((name) => [name, 0]))
        const pins = new Map<string, number>(NAMES.map((name) => [name, 0]))
        const regions = new Map<number, number[]>()
        for (const e of eventsOf(
          m,
          'mm.locked',
          'mm.pin',
          'region.new',
          'region.get',
          'region.put',
          'region.map',
        )) {
          if (e.kind === 'mm.locked') lockedPages.set(e.process, lockedPages.get(e.process)! + e.delta)
          else if (e.kind === 'mm.pin') pins.set(e.process, pins.get(e.process)! + e.delta * e.count)
          else if ('region' in e) regions.set(e.region, [e.used, e.mapped])
        }
        for (const [who, name] of NAMES.entries()) {
          expect(lockedPages.get(name)).toBe(m.naive.locked(who))
          expect(pins.get(name)).toBe(m.naive.locked(who))
        }
        for (const [region, counts] of regions)
          expect(counts).toEqual([m.memory.usesOf(region), m.memory.mappedOf(region)])
      }),
      { numRuns: 100 },
    )
  })

  it('the checkers find nothing while it runs, and at the end exactly what is left of it', () => {
    fc.assert(
      fc.property(ops, fc.boolean(), (list, givesBack) => {
        const m = makeBoth()
        const { naive } = m
        const windows = new WindowShadows()
        const options = { windows, uses: new Uses(windows) }
        const checkers = [new LeakPin(options), new LockedVmBalance(options), new OrphanedRegion(options)]
        for (const checker of checkers) m.log.subscribe(checker)
        const found = () => checkers.map((checker) => checker.findings.length > 0)
        for (const o of list) {
          if (o.op === 'dec' && (naive.regions.get(o.which)?.mapped ?? 1) === 1) continue
          apply(m, o)
        }
        expect(checkers.flatMap((checker) => checker.findings)).toEqual([])
        if (givesBack) {
          for (const [region, { used, mapped }] of naive.regions) {
            for (let i = 1; i < mapped; i++) m.memory.mappedDec(region)
            for (let i = 0; i < used; i++) expect(m.memory.put(region)).toBe(0)
          }
        }
        for (const name of NAMES) m.processes.exit(m.processes.get(name)!)
        const isLeft = !givesBack && naive.regions.size > 0
        expect(found()).toEqual([isLeft, isLeft, isLeft])
      }),
      { numRuns: 150 },
    )
  })

  it('goes back to any mark: hash, answers and sums are those of before', () => {
    fc.assert(
      fc.property(ops, fc.nat(60), (list, stop) => {
        const m = makeBoth(true)
        const back = list.length === 0 ? 0 : stop % list.length
        const trail: unknown[] = []
        const run = (from: number) =>
          list.slice(from).map((o) => [apply(m, o)[0], m.journal.hash, views(m)[0]])
        let mark = m.journal.mark()
        let before: unknown
        for (const [i, o] of list.entries()) {
          if (i === back) {
            mark = m.journal.mark()
            before = [m.journal.hash, views(m)[0]]
          }
          const answer = apply(m, o)[0]
          if (i >= back) trail.push([answer, m.journal.hash, views(m)[0]])
        }
        if (list.length === 0) return
        m.journal.rollback(mark)
        expect([m.journal.hash, views(m)[0]]).toEqual(before)
        expect(run(back)).toEqual(trail)
      }),
      { numRuns: 100 },
    )
  })
})
