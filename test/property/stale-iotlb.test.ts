import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { VhostWorld } from '../unit/check/vhost-world.ts'

const ENTRIES = 6
const PAGE = 4096n

const step = fc.record({
  op: fc.constantFrom(
    ...Array<'fill'>(6).fill('fill'),
    ...Array<'use'>(10).fill('use'),
    'set',
    'set',
    'set',
    'clear',
    'drop',
    'new',
  ),
  entry: fc.nat(ENTRIES - 1),
  count: fc.integer({ min: 1, max: 3 }),
  /** Page of memory, of few, so that the same one comes again. */
  page: fc.nat(2),
  perm: fc.constantFrom(1, 3, 3, 3),
  row: fc.boolean(),
  tells: fc.constantFrom(true, false, false),
})
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

interface Known {
  readonly map: number
  readonly entry: number
  readonly count: number
  readonly page: number
}

/** What an IOMMU page holds: memory and rights, by entry. */
type Table = Map<number, { readonly page: number; readonly perm: number }>

const isRight = (table: Table, { entry, count, page }: Known): boolean =>
  Array.from({ length: count }, (_, i) => table.get(entry + i)).every(
    (e, i) => e !== undefined && e.page === page + i && e.perm === 3,
  )

/** Runs steps, each change in a call of its own; counts the uses of maps that are not what the table says, naively. */
function uses(steps: readonly Step[]) {
  const w = new VhostWorld()
  w.open({ entries: 64 })
  w.device()
  const table: Table = new Map()
  let maps: Known[] = []
  /** Maps that have been right at some time: one that never was is another rule's. */
  const wasRight = new Set<number>()
  let iotlb = 1
  let naive = 0
  const drop = (entry: number, count: number) => {
    w.drop(BigInt(entry) * PAGE, BigInt(entry + count) * PAGE - 1n, { iotlb })
    maps = maps.filter((m) => m.entry + m.count <= entry || m.entry >= entry + count)
  }
  const change = ({ op, entry, count, page, perm, row, tells }: Step) =>
    w.call(op, (c) => {
      const isSet = op === 'set'
      const tce = isSet ? (BigInt(page) << 12n) | BigInt(perm) : 0n
      w.set({ first: entry, count, tce, step: isSet && row ? 12 : -1 }, c)
      for (let i = 0; i < count; i++) {
        if (isSet) table.set(entry + i, { page: page + (row ? i : 0), perm })
        else table.delete(entry + i)
      }
      if (tells) drop(entry, count)
    })
  const fill = ({ entry, count, page }: Step) => {
    const known = { entry, count, page }
    const map = w.fill(BigInt(entry) * PAGE, BigInt(page) * PAGE, { bytes: BigInt(count) * PAGE, iotlb })
    maps.push({ map, ...known })
  }
  const use = ({ entry }: Step) => {
    const found = maps[entry % Math.max(1, maps.length)]
    if (found === undefined) return
    w.log.emit('iotlb.use', null, {
      iotlb,
      map: found.map,
      iova: BigInt(found.entry) * PAGE,
      ua: 0n,
      bytes: 4,
      write: 1,
      part: 0,
      line: 0,
    })
    if (!isRight(table, found) && wasRight.has(found.map)) naive++
  }
  for (const s of steps) {
    if (s.op === 'set' || s.op === 'clear') change(s)
    else if (s.op === 'fill') fill(s)
    else if (s.op === 'use') use(s)
    else if (s.op === 'drop') drop(s.entry, s.count)
    else {
      maps = []
      w.iotlb(++iotlb)
    }
    for (const m of maps) if (isRight(table, m)) wasRight.add(m.map)
  }
  const found = w
    .found()
    .filter((f) => f.rule === 'stale-iotlb' && / (wrote|read) /.test(f.message))
    .reduce((n, f) => n + f.times, 0)
  return { found, naive, wrong: w.messages('iotlb-mismatch').length }
}

describe('stale-iotlb', () => {
  it('finds the uses that a comparison of every map with the table finds', () => {
    let stale = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
        const { found, naive } = uses(steps)
        stale += naive
        // A map that never was right and is touched by a change counts here as well: it is no less stale.
        expect(found).toBeGreaterThanOrEqual(naive)
      }),
      { numRuns: 2000, seed: 7 },
    )
    expect(stale).toBeGreaterThan(100)
  })

  it('and no other, where every fill is right', () => {
    let stale = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
        const result = uses(onlyRight(steps))
        stale += result.naive
        expect(result.wrong).toBe(0)
        expect(result.found).toBe(result.naive)
      }),
      { numRuns: 2000, seed: 11 },
    )
    expect(stale).toBeGreaterThan(500)
  })
})

/** The same steps, without fills that the table does not back. */
function onlyRight(steps: readonly Step[]): Step[] {
  const table: Table = new Map()
  return steps.flatMap((s) => {
    const { op, entry, count, page, perm, row } = s
    for (let i = 0; i < count; i++) {
      if (op === 'set') table.set(entry + i, { page: page + (row ? i : 0), perm })
      else if (op === 'clear') table.delete(entry + i)
    }
    if (op !== 'fill') return [s]
    const from = table.get(entry)
    if (from === undefined || from.perm !== 3) return []
    let length = 1
    while (length < count) {
      const next = table.get(entry + length)
      if (next?.page !== from.page + length || next.perm !== 3) break
      length++
    }
    return [{ ...s, page: from.page, count: length }]
  })
}
