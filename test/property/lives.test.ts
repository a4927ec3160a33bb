import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { jointRuns } from '../../src/check/joint-runs.ts'
import { EVER, INFERRED, LIVE, type LifeRun, Lives, NO_RECORD, UNKNOWN } from '../../src/check/lives.ts'
import { PageCounts } from '../../src/check/page-counts.ts'

const ENTRIES = 3 * 4096

interface Life {
  state: number
  begun: number
  ended: number
}

/** The same by the simplest means: an object an entry. */
class NaiveLives {
  readonly all: Life[] = Array.from({ length: ENTRIES }, () => ({
    state: 0,
    begun: NO_RECORD,
    ended: NO_RECORD,
  }))

  begin(first: number, end: number, seq: number, bits: number): void {
    for (let i = first; i < end; i++) this.all[i] = { state: bits | EVER, begun: seq, ended: NO_RECORD }
  }

  end(first: number, end: number, seq: number): void {
    for (let i = first; i < end; i++) {
      const life = this.all[i]!
      if ((life.state & (LIVE | UNKNOWN)) === 0) continue
      const isUnknown = (life.state & UNKNOWN) !== 0
      life.state = (life.state & ~(LIVE | UNKNOWN | 3)) | (isUnknown ? INFERRED : 0)
      life.ended = seq
    }
  }

  runs(): LifeRun[] {
    const runs: { first: number; count: number; state: number; begun: number; ended: number }[] = []
    this.all.forEach((life, i) => {
      if (life.state === 0) return
      const last = runs.at(-1)
      const { state, begun, ended } = life
      if (
        last !== undefined &&
        last.first + last.count === i &&
        last.state === state &&
        last.begun === begun &&
        last.ended === ended
      )
        last.count++
      else runs.push({ first: i, count: 1, state, begun, ended })
    })
    return runs
  }
}

const anyRange = fc
  .oneof(
    fc.tuple(fc.nat(ENTRIES), fc.nat(12)),
    fc.tuple(fc.nat(ENTRIES), fc.nat(ENTRIES)),
    fc.constantFrom([0, 4096], [4096, 4096], [0, ENTRIES], [4095, 4098], [8192, 4095]),
  )
  .map(([first, count]) => ({
    first: first as number,
    end: Math.min(ENTRIES, (first as number) + (count as number)),
  }))

const anyStep = fc.oneof(
  fc.record({
    what: fc.constant('begin'),
    range: anyRange,
    bits: fc.constantFrom(LIVE | 1, LIVE | 3, LIVE | 3 | INFERRED, UNKNOWN | INFERRED),
  }),
  fc.record({ what: fc.constant('end'), range: anyRange, bits: fc.constant(0) }),
  fc.record({ what: fc.constant('doubt'), range: anyRange, bits: fc.constantFrom(0, 1) }),
  fc.record({ what: fc.constant('doubtAll'), range: anyRange, bits: fc.constant(0) }),
)

describe('lives', () => {
  it('agree with an object an entry, whatever happens', () => {
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 25 }), anyRange, fc.boolean(), (steps, asked, isSmall) => {
        const lives = isSmall ? new Lives(ENTRIES) : new Lives()
        const naive = new NaiveLives()
        steps.forEach(({ what, range: { first, end }, bits }, seq) => {
          if (what === 'begin') {
            lives.begin(first, end, seq, bits)
            naive.begin(first, end, seq, bits)
          } else if (what === 'end') {
            lives.end(first, end, seq)
            naive.end(first, end, seq)
          } else if (what === 'doubt' && first < ENTRIES) {
            lives.doubt(first, bits === 1)
            const life = naive.all[first]!
            if (life.state !== 0) life.state = bits === 1 ? life.state | INFERRED : life.state & ~INFERRED
          } else if (what === 'doubtAll') {
            lives.doubtAll()
            for (const life of naive.all) if (life.state !== 0) life.state |= INFERRED
          }
        })
        expect([...lives.runs()]).toEqual(naive.runs())
        const part = naive.all.slice(asked.first, asked.end)
        const countOf = (bit: number) => part.filter((l) => (l.state & bit) !== 0).length
        lives.scan(asked.first, asked.end)
        expect([lives.scannedLive, lives.scannedUnknown, lives.scannedEver]).toEqual([
          countOf(LIVE),
          countOf(UNKNOWN),
          countOf(EVER),
        ])
        expect(lives.live).toBe(naive.all.filter((l) => (l.state & LIVE) !== 0).length)
        for (const i of [asked.first, asked.end]) {
          if (i >= ENTRIES) continue
          lives.loadAt(i)
          expect({ state: lives.state, begun: lives.begun, ended: lives.ended }).toEqual(naive.all[i])
        }
        naive.all.forEach((life, i) => {
          if (lives.stateAt(0, i) !== life.state)
            expect(`${i}: ${lives.stateAt(0, i)}`).toBe(`${i}: ${life.state}`)
        })
      }),
      { numRuns: 150 },
    )
  })

  it('a range of runs is the runs cut to it', () => {
    fc.assert(
      fc.property(fc.array(anyRange, { maxLength: 8 }), anyRange, (ranges, { first, end }) => {
        const lives = new Lives(ENTRIES)
        for (const [seq, r] of ranges.entries()) lives.begin(r.first, r.end, seq, LIVE)
        const cut = [...lives.runs()].flatMap((run) => {
          const from = Math.max(first, run.first)
          const stop = Math.min(end, run.first + run.count)
          return from < stop ? [{ ...run, first: from, count: stop - from }] : []
        })
        expect([...lives.runs(first, end)]).toEqual(cut)
      }),
      { numRuns: 100 },
    )
  })

  it('joint runs are what each table says of every entry', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(anyRange, { maxLength: 5 }), { minLength: 1, maxLength: 3 }),
        (tables) => {
          const all = tables.map((ranges, t) => {
            const lives = new Lives(ENTRIES)
            for (const [seq, r] of ranges.entries()) lives.begin(r.first, r.end, t * 100 + seq, LIVE)
            return lives
          })
          const said = tables.map(() => new Array<number>(ENTRIES).fill(NO_RECORD))
          let last = 0
          for (const { first, count, parts } of jointRuns([...all, undefined])) {
            expect(first).toBeGreaterThanOrEqual(last)
            last = first + count
            parts.forEach((part, t) => {
              if (part !== undefined) said[t]!.fill(part.begun, first, first + count)
            })
          }
          all.forEach((lives, t) => {
            const wanted = new Array<number>(ENTRIES).fill(NO_RECORD)
            for (const run of lives.runs()) wanted.fill(run.begun, run.first, run.first + run.count)
            expect(said[t]).toEqual(wanted)
          })
        },
      ),
      { numRuns: 60 },
    )
  })

  it('a table of 2^31 entries costs what is touched', () => {
    const lives = new Lives(2 ** 31)
    lives.begin(2 ** 31 - 1, 2 ** 31, 1, LIVE | 3)
    for (let i = 0; i < 2000; i++) lives.end(0, 2 ** 31 - 1, 2)
    expect(lives.live).toBe(1)
    lives.begin(0, 2 ** 31, 3, UNKNOWN)
    lives.end(0, 2 ** 31, 4)
    expect([...lives.runs()]).toEqual([
      { first: 0, count: 2 ** 31, state: EVER | INFERRED, begun: 3, ended: 4 },
    ])
  })

  it('entries past 2^32 are others', () => {
    const lives = new Lives()
    lives.begin(2 ** 40 + 5, 2 ** 40 + 6, 1, LIVE | 3)
    expect(lives.stateAt(256, 5)).toBe(LIVE | EVER | 3)
    expect(lives.stateAt(0, 5)).toBe(0)
    expect([...lives.runs()]).toMatchObject([{ first: 2 ** 40 + 5, count: 1 }])
  })
})

describe('page counts', () => {
  it('agree with one number a page', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(anyRange, fc.constantFrom(1, -1)), { maxLength: 20 }),
        anyRange,
        (steps, asked) => {
          const counts = new PageCounts()
          const naive = new Int32Array(ENTRIES)
          for (const [{ first, end }, delta] of steps) {
            counts.add(first, end, delta)
            for (let i = first; i < end; i++) naive[i] = naive[i]! + delta
          }
          expect(counts.any(asked.first, asked.end)).toBe(
            naive.slice(asked.first, asked.end).some((n) => n > 0),
          )
          for (let at = 0; at < ENTRIES; at += 1023) expect(counts.any(at, at + 1)).toBe(naive[at]! > 0)
        },
      ),
      { numRuns: 100 },
    )
  })
})
