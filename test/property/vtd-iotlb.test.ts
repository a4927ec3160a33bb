import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { Iotlb } from '../../src/hw/vtd/caches/iotlb.ts'
import { NO_PASID, newTranslation, type VtdInvalidation } from '../../src/hw/vtd/ports.ts'
import { FAULTS, NaiveIotlb, type NaiveOptions, type NaiveSpace, WHOLE } from '../support/naive-vtd-iotlb.ts'
import { invalidation } from '../support/vtd-invalidation.ts'

/** Where addresses lie: few pages that are met again and again, the borders of lanes and of large pages. */
const BASES = [0, 0x200, 0x3ff00, 0xf_ff00, 0xffff_ff00, 0x1_0000_0000, 2 ** 45 - 0x300, 2 ** 51] as const
const KINDS = [1, 1, 1, 1, 1, 512, 2 ** 18] as const

const pageOf = (p: Prng): number => p.pick(BASES) + p.pick([p.below(24), p.below(24), p.below(700)])
const lanes = (page: number): [hi: number, lo: number] => [
  Math.floor(page / 2 ** 20) | 0,
  (page << 12) | 0x123,
]

/** Both sides, and one step on both at a time. `difference` is what came out different first. */
class Pair {
  readonly iotlb: Iotlb
  readonly naive: NaiveIotlb
  difference: string | undefined
  /** Entries that went with invalidations, and the most that there were. */
  dropped = 0
  peak = 0
  readonly #p: Prng
  readonly #to = newTranslation()
  readonly #isBySource: boolean
  #number = 0
  #steps = 0

  constructor(p: Prng, options: NaiveOptions, journal = new Journal()) {
    this.#p = p
    this.#isBySource = options.isBySource ?? false
    this.iotlb = new Iotlb({ journal, name: 'vtd0', dropsAllWhenFull: true, ...options })
    this.naive = new NaiveIotlb(options)
  }

  step(): void {
    const p = this.#p
    this.#steps++
    // Seldom at first, so that there is something to be dropped.
    if (p.oneIn(this.#steps % 500 < 300 ? 60 : 6)) this.#invalidate()
    else this.#use()
    const [is, expected] = [this.iotlb.count, this.naive.entries.length]
    this.peak = Math.max(this.peak, is)
    if (is !== expected) this.difference ??= `${is} entries instead of ${expected}`
  }

  /** Every entry of the list is found on the other side. */
  compareAll(): void {
    for (const e of this.naive.entries) this.#look(e, e.page, e.isPrivileged)
  }

  #spaceNumber({ source, domain, pasid, isOfPasid }: NaiveSpace): number {
    return this.#isBySource
      ? this.iotlb.space(source, pasid, false)
      : this.iotlb.space(domain, isOfPasid ? pasid : NO_PASID, isOfPasid)
  }

  /** Whether there is an entry; it is the same on both sides. */
  #look(space: NaiveSpace, page: number, isPrivileged: boolean): boolean {
    const [hi, lo] = lanes(page)
    const to = this.#to
    const expected = this.naive.find(space, page, isPrivileged)
    const entry = this.iotlb.find(this.#spaceNumber(space), hi, lo, isPrivileged)
    if (entry === 0 || expected === undefined) {
      if (entry !== 0 || expected !== undefined) {
        this.difference ??= `page ${page}: entry ${entry === 0 ? 0 : this.iotlb.numberOf(entry)} instead of ${expected?.number}`
      }
      return entry !== 0
    }
    this.iotlb.load(entry, hi, lo, to)
    const isWhole = expected.pages === WHOLE
    const answer = [this.iotlb.numberOf(entry), to.page, to.perm, to.domain, to.isDirect].join()
    const wanted = [
      expected.number,
      isWhole ? page : expected.target + (page - expected.page),
      expected.perm,
      expected.domain,
      isWhole,
    ].join()
    if (answer !== wanted) this.difference ??= `page ${page}: ${answer} instead of ${wanted}`
    return true
  }

  #use(): void {
    const p = this.#p
    const isOfPasid = p.oneIn(2)
    const source = p.below(3)
    const space = { source, domain: 1 + p.below(3), pasid: isOfPasid ? p.below(3) : NO_PASID, isOfPasid }
    const isPrivileged = isOfPasid && p.oneIn(4)
    const page = pageOf(p)
    if (this.#look(space, page, isPrivileged) && !p.oneIn(8)) return
    const isWhole = p.oneIn(40)
    const pages = isWhole ? WHOLE : p.pick(KINDS)
    const target = isWhole ? 0 : p.below(2 ** 20) * 2 ** 18 + (pages === 1 ? p.below(2 ** 18) : 0)
    const first = isWhole ? 0 : page - (page % pages)
    const isGlobal = isOfPasid && p.oneIn(6)
    const entry = {
      ...space,
      isPrivileged: isPrivileged && !isWhole,
      isFirstLevel: isOfPasid && !isWhole,
      ...{ isGlobal, page: first, pages, target, perm: 1 + p.below(3), number: ++this.#number },
    }
    const to = newTranslation()
    to.domain = space.domain
    to.isDirect = isWhole
    to.shift = isWhole ? 12 : 12 + Math.log2(pages)
    to.page = isWhole ? page : target + (page - first)
    to.perm = entry.perm
    to.isGlobal = isGlobal
    const [hi, lo] = lanes(page)
    this.iotlb.keep(
      this.#spaceNumber(space),
      hi,
      lo,
      to,
      { ...entry, isDirty: true, refused: 0 },
      entry.number,
    )
    this.naive.keep(entry)
  }

  #invalidate(): void {
    const p = this.#p
    const page = pageOf(p)
    const domain = 1 + p.below(3)
    const order = p.pick([0, 0, 0, 1, 2, 3, 8, 9, 10, 18, 20, 33, 45])
    const address = BigInt(page) << 12n
    const pages = { scope: 'fine', domain, address, order } as const
    const what: VtdInvalidation = p.pick([
      () => invalidation({ what: 'iotlb', ...pages }),
      () => invalidation({ what: 'iotlb', ...pages }),
      () => invalidation({ what: 'pasid-iotlb', ...pages, pasid: p.below(3), isGlobalToo: p.oneIn(2) }),
      () => invalidation({ what: 'pasid-iotlb', ...pages, pasid: p.below(3), isGlobalToo: p.oneIn(2) }),
      () => invalidation({ what: 'iotlb', scope: p.oneIn(4) ? 'all' : 'domain', domain }),
      () =>
        invalidation({
          what: 'pasid-iotlb',
          scope: 'pasid',
          domain,
          pasid: p.below(3),
          isGlobalToo: p.oneIn(2),
        }),
      () => invalidation({ what: 'pasid-iotlb', scope: 'domain', domain, isGlobalToo: p.oneIn(2) }),
    ])()
    const before = this.naive.entries.length
    if (what.what === 'iotlb') this.iotlb.invalidate(what)
    else this.iotlb.invalidatePasid(what)
    this.naive.invalidate(what)
    this.dropped += before - this.naive.entries.length
    if (p.oneIn(10)) this.compareAll()
  }
}

const STEPS = Number(process.env['IOTLB_OPERATIONS'] ?? 200_000)
const SHAPES: readonly (readonly [name: string, share: number, options: NaiveOptions])[] = [
  ['as the manual has it', 0.6, {}],
  ['by source-id, and emptied when full (D3)', 0.2, { isBySource: true, maxEntries: 48 }],
  [
    'by source-id, with the lowest bits of pages compared (D3, D6)',
    0.2,
    { isBySource: true, comparesLowBits: true, maxEntries: 1024 },
  ],
]

describe('the IOTLB of a VT-d unit', () => {
  it.each(SHAPES)('is a list of entries, %s', (_name, share, options) => {
    const pair = new Pair(new Prng(11), options)
    for (let i = 0; i < STEPS * share && pair.difference === undefined; i++) pair.step()
    expect(pair.difference).toBeUndefined()
    expect(pair.dropped).toBeGreaterThan(STEPS * share * 0.02)
    expect(pair.peak).toBeGreaterThan(40)
  })

  it.each(FAULTS)('is not one where %s', (fault) => {
    const pair = new Pair(new Prng(5), { fault })
    for (let i = 0; i < 20_000 && pair.difference === undefined; i++) {
      pair.step()
      if (i % 16 === 0) pair.compareAll()
    }
    expect(pair.difference).toBeDefined()
  })

  it('goes back to a mark, with its hash, and on from there', () => {
    for (let seed = 1; seed <= 12; seed++) {
      const journal = new Journal()
      journal.on = true
      const pair = new Pair(new Prng(seed), {}, journal)
      for (let i = 0; i < 700; i++) pair.step()
      const [mark, hash, entries] = [journal.mark(), journal.hash, pair.naive.entries]
      for (let i = 0; i < 1500; i++) pair.step()
      journal.rollback(mark)
      pair.naive.entries = [...entries]
      pair.compareAll()
      expect([journal.hash, pair.iotlb.count, pair.difference]).toEqual([hash, entries.length, undefined])
      for (let i = 0; i < 700; i++) pair.step()
      expect(pair.difference).toBeUndefined()
    }
  })
})
