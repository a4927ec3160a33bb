import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { calls, LIOBN, LIOBN_64, type Pseries, pseries, RAM, WINDOW_64 } from '../support/pseries.ts'

const H = { ok: 0, parameter: -4 } as const
const LIST = 0x9000n
const MASK = (1n << 64n) - 1n

/** One hypercall of a random stream. */
interface Step {
  readonly call: 'put' | 'get' | 'stuff' | 'indirect'
  readonly liobn: bigint
  readonly ioba: bigint
  readonly tce: bigint
  readonly npages: bigint
  readonly list: bigint
  readonly words: readonly bigint[]
}

/** A window as the naive model has it: entries in a Map. */
interface Naive {
  readonly shift: bigint
  readonly start: bigint
  readonly entries: bigint
  readonly tces: Map<bigint, bigint>
}

const naiveWindows = (): Map<bigint, Naive> =>
  new Map([
    [LIOBN, { shift: 12n, start: 0n, entries: 1n << 18n, tces: new Map() }],
    [LIOBN_64, { shift: 16n, start: WINDOW_64, entries: 64n, tces: new Map() }],
  ])

/** The hypercalls written down a second time, with bigints and page by page. `strict` is the intended path. */
function naive(windows: Map<bigint, Naive>, s: Step, strict: boolean): { code: number; r4: bigint } {
  const w = windows.get(s.liobn)
  const no = { code: H.parameter, r4: s.liobn }
  const yes = { code: H.ok, r4: s.liobn }
  if (w === undefined) return no
  if (s.call === 'indirect' && (s.npages > 512n || s.list % 4096n !== 0n)) return no
  if (s.call === 'stuff' && s.npages > w.entries) return no
  const pageBytes = 1n << w.shift
  const count = s.call === 'put' || s.call === 'get' ? 1n : s.npages
  if (count === 0n && !strict) return no
  if (strict && s.ioba % pageBytes !== 0n) return no
  const indexOf = (i: bigint): bigint =>
    ((s.ioba - (s.ioba % pageBytes) + i * pageBytes - w.start) & MASK) >> w.shift
  const isInside = (i: bigint): boolean => indexOf(i) < w.entries
  const values = (i: bigint): bigint =>
    s.call !== 'indirect' ? s.tce : s.list >= RAM ? 0n : (s.words[Number(i)] ?? 0n)
  if (strict) {
    if (count === 0n && ((s.ioba - w.start) & MASK) >> w.shift > w.entries) return no
    for (let i = 0n; i < count; i++) if (!isInside(i)) return no
    if (s.call === 'stuff' && (s.tce & 3n) !== 0n) return no
    if (s.call === 'indirect' && s.list >= RAM && count > 0n) return no
    for (let i = 0n; s.call !== 'get' && s.call !== 'stuff' && i < count; i++) {
      const tce = values(i)
      if ((tce & 3n) === 0n) continue
      const gpa = tce & ~3n
      if (gpa % pageBytes !== 0n || gpa + pageBytes > RAM) return no
    }
  }
  for (let i = 0n; i < count; i++) {
    if (!isInside(i)) return no
    if (s.call === 'get') return { code: H.ok, r4: w.tces.get(indexOf(i)) ?? 0n }
    w.tces.set(indexOf(i), values(i))
  }
  return yes
}

function run(m: Pseries, s: Step): { code: number; r4: bigint } {
  const c = calls(m)
  m.memory.bytes.fill(0, Number(LIST), Number(LIST) + 4096)
  m.memory.list(Number(LIST), s.words)
  const answer = {
    put: () => c.put(s.ioba, s.tce, s.liobn),
    get: () => c.get(s.ioba, s.liobn),
    stuff: () => c.stuff(s.ioba, s.tce, s.npages, s.liobn),
    indirect: () => c.indirect(s.ioba, s.list, s.npages, s.liobn),
  }[s.call]()
  return { code: answer.code === 'H_SUCCESS' ? H.ok : H.parameter, r4: answer.outputs['r4'] as bigint }
}

const u64 = fc.bigInt({ min: 0n, max: MASK })
const page = fc.bigInt({ min: 0n, max: 80n })
const ioba = fc.oneof(
  { weight: 6, arbitrary: page.map((p) => p << 12n) },
  { weight: 4, arbitrary: page.map((p) => WINDOW_64 + (p << 16n)) },
  { weight: 2, arbitrary: page.map((p) => (1n << 30n) - (p << 12n) + 0x2000n) },
  { weight: 1, arbitrary: page.map((p) => WINDOW_64 + (p << 12n) + 5n) },
  { weight: 1, arbitrary: u64 },
)
const tce = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.bigInt({ min: 0n, max: 0x400n }), fc.bigInt({ min: 0n, max: 3n }))
      .map(([p, d]) => (p << 16n) | d),
  },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: RAM * 2n }) },
  { weight: 1, arbitrary: u64 },
)
/** Rows of neighbours with breaks in them, so that runs of all kinds come. */
const words = fc
  .tuple(tce, fc.array(fc.constantFrom(0n, 0x1000n, 0x1_0000n, 3n, -0x1000n), { maxLength: 12 }))
  .map(([first, steps]) => {
    const row = [first]
    for (const by of steps) row.push(((row.at(-1) ?? 0n) + by) & MASK)
    return row
  })
const step: fc.Arbitrary<Step> = fc.record({
  call: fc.constantFrom('put', 'get', 'stuff', 'indirect' as const),
  liobn: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(LIOBN, LIOBN_64) },
    { weight: 1, arbitrary: fc.constantFrom(0n, LIOBN | (1n << 33n), 0x8000_0007n) },
  ),
  ioba,
  tce,
  npages: fc.oneof(
    { weight: 8, arbitrary: fc.bigInt({ min: 0n, max: 20n }) },
    { weight: 1, arbitrary: fc.constantFrom(64n, 65n, 512n, 513n, 1n << 32n, MASK) },
  ),
  list: fc.constantFrom(LIST, LIST, LIST, LIST + 8n, RAM, 1n << 60n),
  words,
})

const machine = (profile: string, hasJournal = false): Pseries => {
  const m = pseries({ profile, hasJournal })
  calls(m).create(16n, 22n)
  return m
}

/** What the tables hold, by the Map of the naive model's shape. */
const held = (m: Pseries): [bigint, bigint, bigint][] =>
  [LIOBN, LIOBN_64].flatMap((liobn) =>
    [...m.table(liobn).window!.store.live()].map(([entry, t]): [bigint, bigint, bigint] => [
      liobn,
      BigInt(entry),
      t,
    ]),
  )

const live = (windows: Map<bigint, Naive>): [bigint, bigint, bigint][] =>
  [...windows].flatMap(([liobn, { tces }]) =>
    [...tces]
      .filter(([, t]) => (t & 3n) !== 0n)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([entry, t]): [bigint, bigint, bigint] => [liobn, entry, t]),
  )

/** The tables again, from the records alone. */
function fromRecords(m: Pseries): Map<bigint, Naive> {
  const windows = naiveWindows()
  const liobns = new Map([LIOBN, LIOBN_64].map((liobn) => [m.table(liobn).window!.number, liobn]))
  for (const { event } of m.log.records()) {
    if (event.kind !== 'tce.set') continue
    const w = windows.get(liobns.get(event.window) as bigint)!
    const by = event.step === -1 ? 0n : 1n << BigInt(event.step)
    for (let i = 0n; i < BigInt(event.count); i++)
      w.tces.set(BigInt(event.first) + i, (event.tce + i * by) & MASK)
  }
  return windows
}

describe.each([
  ['qemu-7.2', false],
  ['intended', true],
])('the TCE hypercalls of profile %s against a naive model', (profile, strict) => {
  it('give its answers, and hold and record what it holds', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const m = machine(profile)
        const windows = naiveWindows()
        for (const s of steps) expect(run(m, s)).toEqual(naive(windows, s, strict))
        expect(held(m)).toEqual(live(windows))
        expect(live(fromRecords(m))).toEqual(live(windows))
      }),
      { numRuns: 150 },
    )
  })

  it('can be taken back: tables, windows and hash', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.array(step, { maxLength: 12 }), (first, second) => {
        const m = machine(profile, true)
        for (const s of first) run(m, s)
        const [mark, hash, before] = [m.journal.mark(), m.journal.hash, held(m)]
        const number = m.table(LIOBN_64).window!.number
        for (const s of second) run(m, s)
        calls(m).remove(LIOBN_64)
        calls(m).create(12n, 20n)
        calls(m).put(WINDOW_64, 3n, LIOBN_64)
        m.vio.reset('test')
        calls(m).reset()
        m.journal.rollback(mark)
        expect([m.journal.hash, held(m), m.table(LIOBN_64).window!.number]).toEqual([hash, before, number])
      }),
      { numRuns: 25 },
    )
  })
})

it('machines that came to the same tables on different ways have the same hash', () => {
  const [one, two] = [machine('qemu-7.2', true), machine('qemu-7.2', true)]
  calls(one).put(0x1000n, 0x5003n)
  calls(two).reset()
  calls(two).create(16n, 22n)
  calls(two).put(0x2000n, 3n)
  calls(two).put(0x1000n, 0x5003n)
  expect(two.journal.hash).not.toBe(one.journal.hash)
  calls(two).put(0x2000n, 0n)
  expect(two.journal.hash).toBe(one.journal.hash)
})
