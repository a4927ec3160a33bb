import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { WHOLE_MACHINE } from '../../src/check/coverage.ts'
import { Judge } from '../../src/check/judge.ts'
import { RULES } from '../../src/check/rules.ts'
import { RecordLog } from '../../src/trace/record-log.ts'

const ENTRIES = 512
const PAGES = 4096

interface Mapping {
  readonly first: number
  readonly count: number
  readonly page: number
  readonly dir: number
  readonly owner: string
  isLive: boolean
}

type Fault =
  | 'none'
  | 'unmap forgotten'
  | 'use after unmap'
  | 'never granted'
  | 'unmapped twice'
  | 'wrong direction'
  | 'reused too early'

/** A driver that does everything right, or one thing wrong: only records. `grants` false is a log of a real machine. */
class Driver {
  readonly log = new RecordLog()
  readonly judge = new Judge()
  readonly #prng: Prng
  readonly #grants: boolean
  readonly #used = new Uint8Array(ENTRIES)
  readonly #pageUsed = new Uint8Array(PAGES)
  readonly mappings: Mapping[] = []

  constructor(seed: number, grants: boolean) {
    this.#prng = new Prng(seed)
    this.#grants = grants
    this.judge.attach(this.log)
    const window = {
      window: 1,
      liobn: 0x8000_0000,
      pageShift: 12,
      busOffset: 0n,
      entries: ENTRIES,
      unit: 'phb',
    }
    this.log.emit('window.open', null, window)
    for (let at = 0; at < ENTRIES; at += 128) this.#clear(at, 128)
    if (grants) this.log.emit('alloc.take', null, { window: 1, first: 0, count: 1, pool: 5 })
    this.#used[0] = 1
  }

  #below(n: number): number {
    return (this.#prng.int32() >>> 0) % n
  }

  #clear(first: number, count: number): void {
    this.log.emit('tce.set', null, { window: 1, first, count, tce: 0n, step: -1, how: 0 })
  }

  #room(used: Uint8Array, count: number): number {
    const start = this.#below(used.length)
    for (let i = 0; i < used.length; i++) {
      const at = (start + i) % used.length
      if (at + count <= used.length && used.subarray(at, at + count).every((u) => u === 0)) return at
    }
    return -1
  }

  map(): Mapping | undefined {
    const count = this.#below(4) === 0 ? 1 + this.#below(8) : 1
    const first = this.#room(this.#used, count)
    const page = this.#room(this.#pageUsed, count)
    if (first < 0 || page < 0) return undefined
    const dir = 1 + this.#below(3)
    const owner = `buffer${this.#below(5)}`
    this.#used.fill(1, first, first + count)
    this.#pageUsed.fill(1, page, page + count)
    if (this.#grants)
      this.log.emit('page.own', null, {
        space: 'gpa',
        pageShift: 12,
        first: page,
        count,
        owner,
        generation: 1,
      })
    if (this.#grants) this.log.emit('alloc.take', null, { window: 1, first, count, pool: 0 })
    const tce = (BigInt(page) << 12n) | BigInt(dir)
    this.log.emit('tce.set', null, { window: 1, first, count, tce, step: 12, how: 0 })
    if (this.#grants) {
      const gpa = BigInt(page) << 12n
      this.log.emit('dma.grant', null, {
        window: 1,
        first,
        count,
        gpa,
        bytes: count * 4096,
        dir,
        owner,
        device: 'nic',
      })
    }
    const mapping: Mapping = { first, count, page, dir, owner, isLive: true }
    this.mappings.push(mapping)
    return mapping
  }

  unmap(m: Mapping, clears = true): void {
    m.isLive = false
    if (this.#grants)
      this.log.emit('dma.revoke', null, { window: 1, first: m.first, count: m.count, device: 'nic' })
    if (clears) this.#clear(m.first, m.count)
    if (this.#grants) this.log.emit('alloc.free', null, { window: 1, first: m.first, count: m.count })
    if (this.#grants)
      this.log.emit('page.own', null, {
        space: 'gpa',
        pageShift: 12,
        first: m.page,
        count: m.count,
        owner: 'free',
        generation: 1,
      })
    this.#used.fill(0, m.first, m.first + m.count)
    this.#pageUsed.fill(0, m.page, m.page + m.count)
    this.mappings.splice(this.mappings.indexOf(m), 1)
  }

  dma(m: Mapping, allowed = true, need?: number): void {
    const at = this.#below(m.count)
    const wanted = need ?? (m.dir === 3 ? 1 + this.#below(3) : m.dir)
    const address = BigInt(m.first + at) << 12n
    this.log.emit('dma.translate', null, {
      window: 1,
      entry: m.first + at,
      address,
      gpa: allowed ? BigInt(m.page + at) << 12n : 0n,
      perm: allowed ? m.dir : 0,
      need: this.#grants ? wanted : 0,
      allowed: allowed ? 1 : 0,
      line: 0,
    })
  }

  step(): void {
    const what = this.#below(10)
    const m = this.mappings[this.#below(Math.max(1, this.mappings.length))]
    if (m === undefined || what < 2) this.map()
    else if (what < 4) this.unmap(m)
    else this.dma(m)
  }

  end(): void {
    for (const m of [...this.mappings]) this.unmap(m)
    this.log.emit('device.remove', null, { device: 'nic' })
    this.log.emit('run.end', null, { settled: 1 })
    this.judge.finish()
  }
}

describe('a perfect driver', () => {
  it.each([
    ['with grants, an allocator and owners', true],
    ['seen through a log of table updates alone', false],
  ])('%s: no finding in 100000 records', (_what, grants) => {
    const driver = new Driver(20_261_120, grants)
    while (driver.log.length < 100_000) driver.step()
    driver.end()
    expect(driver.judge.findings).toEqual([])
    expect(driver.judge.dropped).toBe(0)
    expect(driver.judge.verdicts(WHOLE_MACHINE).map((v) => v.state)).toEqual(RULES.map(() => 'kept'))
    expect(driver.judge.verdicts(WHOLE_MACHINE).map((v) => v.skipped)).toEqual(RULES.map(() => 0))
  })
})

describe('a driver with one fault', () => {
  const faults: Record<
    Exclude<Fault, 'none'>,
    { act: (d: Driver, m: Mapping) => void; rules: readonly string[] }
  > = {
    'unmap forgotten': {
      act: (d, m) => d.mappings.splice(d.mappings.indexOf(m), 1),
      rules: ['leak-mapping'],
    },
    'use after unmap': {
      act(d, m) {
        d.unmap(m)
        d.dma(m, false)
      },
      rules: ['use-after-unmap'],
    },
    'never granted': {
      act: (d, m) => d.dma({ ...m, first: 0, count: 1 }, false),
      rules: ['dma-not-granted'],
    },
    'unmapped twice': {
      act(d, m) {
        d.unmap(m)
        d.mappings.push(m)
        d.unmap(m)
      },
      rules: ['unmap-miss'],
    },
    'wrong direction': {
      act: (d, m) => d.dma({ ...m, dir: 3 }, true, 3 ^ m.dir),
      rules: ['dma-not-granted'],
    },
    'reused too early': {
      act(d, m) {
        d.unmap(m, false)
        for (let i = 0; i < 3000; i++) d.step()
      },
      rules: ['double-map', 'foreign-memory', 'allocator-drift', 'leak-mapping'],
    },
  }

  it.each(Object.entries(faults))('%s: is found, wherever it happens', (name, { act, rules }) => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 20, max: 400 }), (seed, steps) => {
        const driver = new Driver(seed, true)
        for (let i = 0; i < steps; i++) driver.step()
        let m = driver.map()
        while (name === 'wrong direction' && m?.dir === 3) m = driver.map()
        if (m === undefined) return
        act(driver, m)
        driver.end()
        const found = driver.judge.findings.map((f) => f.rule)
        expect(found.length).toBeGreaterThan(0)
        for (const rule of found) expect(rules).toContain(rule)
      }),
      { numRuns: 25 },
    )
  })
})
