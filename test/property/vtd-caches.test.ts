import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { hiOf, loOf } from '../../src/bits/u64.ts'
import { faultNameOf } from '../../src/hw/vtd/fault-reasons.ts'
import { newRequest, type VtdInvalidation } from '../../src/hw/vtd/ports.ts'
import { FAULTS, type Fault, NaiveCaches } from '../support/naive-vtd-caches.ts'
import { cachedWorld } from '../support/vtd-cached.ts'
import { invalidation } from '../support/vtd-invalidation.ts'
import { legacyWorld, QEMU_FEATURES } from '../support/vtd-tables.ts'

const SOURCES = [0x18, 0x19, 0x1c] as const
/** Roots, tables of the middle level and of pages: a few of each, so that they are shared and changed. */
const ROOTS = [0x20, 0x21] as const
const MIDDLES = [0x30, 0x31] as const
const LEAVES = [0x40, 0x41, 0x42] as const
const PAGES = [0, 1, 2, 511, 512, 513, 0x4_0000, 0x4_0001] as const

/** A unit with its tables, and the naive caches beside it: one step on both at a time. */
class Pair {
  difference: string | undefined
  translations = 0
  faults = 0
  stale = 0
  readonly world
  readonly naive: NaiveCaches
  readonly #p: Prng
  readonly #request = newRequest()

  constructor(p: Prng, isCaching: boolean, fault?: Fault) {
    this.#p = p
    this.world = cachedWorld(legacyWorld(), { features: QEMU_FEATURES, isCaching })
    this.world.log.on = false
    this.world.journal.on = false
    this.naive = new NaiveCaches(this.world.read, isCaching, fault)
    for (let i = 0; i < 60; i++) this.#edit()
    this.#forget({ what: 'iotlb', scope: 'all' })
    this.#forget({ what: 'context', scope: 'all' })
  }

  step(): void {
    const p = this.#p
    const what = p.below(100)
    if (what < 70) this.#use()
    else if (what < 88) this.#edit()
    else this.#invalidate()
  }

  #use(): void {
    const p = this.#p
    const request = this.#request
    const page = p.pick(PAGES)
    const address = BigInt(page) << 12n
    request.source = p.pick(SOURCES)
    request.need = 1 + p.below(3)
    request.hi = hiOf(address)
    request.lo = loOf(address)
    const to = this.world.translator.translate(request)
    const is = to.fault === 0 ? `${to.page.toString(16)}:${to.shift}:${to.perm}` : `${faultNameOf(to.fault)}`
    const expected = this.naive.translate(request.source, page, request.need)
    this.translations++
    if (to.fault !== 0) this.faults++
    if (is !== expected) {
      this.difference ??= `${this.translations}: ${request.source} page ${page} need ${request.need}: ${is} instead of ${expected}`
    }
  }

  /** Software changes a table, and does not say so. */
  #edit(): void {
    const p = this.#p
    const { word } = this.world
    const link = (page: number) => (BigInt(page) << 12n) | BigInt(p.oneIn(5) ? p.below(4) : 3)
    const what = p.below(10)
    if (what < 6) word(p.pick(LEAVES) * 4096 + p.pick([0, 1, 2, 511]) * 8, link(0x100 + p.below(8)))
    else if (what < 8) {
      const isLarge = p.oneIn(4)
      const to = isLarge ? link(0x200 * (1 + p.below(3))) | 0x80n : link(p.pick(LEAVES))
      word(p.pick(MIDDLES) * 4096 + p.below(2) * 8, to)
    } else if (what < 9) word(p.pick(ROOTS) * 4096 + p.below(2) * 8, link(p.pick(MIDDLES)))
    else {
      const at = 0x1_1000 + p.pick(SOURCES) * 16
      const type = p.oneIn(6) ? 8n : 0n
      word(at, p.oneIn(8) ? 0n : (BigInt(p.pick(ROOTS)) << 12n) | type | 1n)
      word(at + 8, BigInt((1 + p.below(2)) << 8) | 1n)
    }
  }

  #invalidate(): void {
    const p = this.#p
    const domain = p.below(3)
    const fine = {
      what: 'iotlb',
      scope: 'fine',
      domain,
      address: BigInt(p.pick(PAGES)) << 12n,
      order: p.pick([0, 0, 1, 9, 18]),
      isLeafOnly: p.oneIn(2),
    } as const
    const device = {
      what: 'context',
      scope: 'fine',
      domain,
      source: p.pick(SOURCES),
      functionMask: p.below(4),
    } as const
    this.#forget(
      p.pick([
        fine,
        fine,
        fine,
        { what: 'iotlb', scope: p.oneIn(3) ? 'all' : 'domain', domain },
        device,
        device,
        { what: 'context', scope: p.oneIn(3) ? 'all' : 'domain', domain },
      ] as const),
    )
  }

  #forget(said: Parameters<typeof invalidation>[0]): void {
    const what: VtdInvalidation = invalidation(said)
    this.world.translator.invalidate(what)
    this.naive.invalidate(what)
  }
}

const STEPS = Number(process.env['VTD_CACHE_STEPS'] ?? 60_000)

describe.each([
  ['as it is', false],
  ['in caching mode', true],
])('requests through the caches of a unit, %s', (_name, isCaching) => {
  it('are answered as by lists of what was read, tables changed or not', () => {
    const pair = new Pair(new Prng(3), isCaching)
    for (let i = 0; i < STEPS && pair.difference === undefined; i++) pair.step()
    expect(pair.difference).toBeUndefined()
    expect(pair.faults).toBeGreaterThan(pair.translations / 20)
    expect(pair.faults).toBeLessThan(pair.translations * 0.9)
  })

  it('go back to a mark with what was remembered there', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const pair = new Pair(new Prng(seed), isCaching)
      const { journal } = pair.world
      journal.on = true
      for (let i = 0; i < 200; i++) pair.step()
      const [mark, hash, state] = [journal.mark(), journal.hash, pair.naive.state]
      for (let i = 0; i < 300; i++) pair.step()
      journal.rollback(mark)
      pair.naive.state = state
      expect(journal.hash).toBe(hash)
      for (let i = 0; i < 300; i++) pair.step()
      expect(pair.difference).toBeUndefined()
    }
  })
})

it.each(FAULTS)('are not where %s', (fault) => {
  const pair = new Pair(new Prng(9), false, fault)
  for (let i = 0; i < 20_000 && pair.difference === undefined; i++) pair.step()
  expect(pair.difference).toBeDefined()
})
