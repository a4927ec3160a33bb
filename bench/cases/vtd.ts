import { Journal } from '../../src/bits/state.ts'
import { Iotlb } from '../../src/hw/vtd/caches/iotlb.ts'
import { NO_PASID, newTranslation, type VtdInvalidation } from '../../src/hw/vtd/ports.ts'
import { type CaseGroup, check, type Goal, type LoopCase, type Peer, type SetUp } from '../case.ts'
import { placeIn, randomIndices, shuffled } from '../patterns.ts'
import {
  addressesOf,
  DOMAIN,
  FIRST_PAGE,
  NOTHING,
  targetOf,
  VtdDmaStand,
  VtdStand,
  type VtdStandOptions,
} from '../vtd-stand.ts'
import { requestOf, type Watching } from './dma.ts'

/** log2 of the pages of the cases: few that a processor's caches hold, and many. */
const FEW = 9
const MANY = 16
const LIVE = 10 ** 6
/** Owners of the live entries, where there are several: domains, or PASIDs. */
const OWNERS = 1000
/** Entries of an IOTLB in C, and of the one that stands for it here. */
const SMALL = 1024
const SMALL_OWNERS = 16

/** Random pages of few: all of them are cached. */
const hit =
  (options: VtdStandOptions): SetUp =>
  (operations) => {
    const stand = new VtdStand(options)
    stand.map(2 ** FEW)
    stand.checkAll(2 ** FEW, 'cached')
    const { at, mask } = randomIndices(operations, 2 ** FEW)
    const { hi, lo } = addressesOf(at)
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) {
          const k = i & mask
          sum = (sum + stand.translate(hi[k] as number, lo[k] as number)) | 0
        }
        return sum
      },
    }
  }

/** Each of many pages once, in random order, after everything was forgotten. */
const miss =
  (options: VtdStandOptions): SetUp =>
  (operations) => {
    const stand = new VtdStand(options)
    const pages = Math.min(operations, 2 ** MANY)
    stand.map(pages)
    stand.checkAll(pages, 'cached')
    const { hi, lo } = addressesOf(shuffled(pages))
    const { translator, log } = stand
    return {
      operations: pages,
      prepare(): void {
        translator.invalidate(NOTHING)
        check(translator.caches.iotlb.count === 0 && log.has(log.length - 1), 'everything is forgotten')
      },
      pass(): number {
        let sum = 0
        for (let i = 0; i < pages; i++) sum = (sum + stand.translate(hi[i] as number, lo[i] as number)) | 0
        return sum
      },
    }
  }

/** By memory alone: root, context, PASID, page tables. */
const walk =
  (options: VtdStandOptions): SetUp =>
  (operations) => {
    const stand = new VtdStand(options)
    stand.map(2 ** MANY)
    stand.checkAll(2 ** MANY, 'walk')
    check(stand.walk(0, 0x5000) === -1, 'a page that is not mapped leads nowhere')
    const { at, mask } = randomIndices(operations, 2 ** MANY)
    const { hi, lo } = addressesOf(at)
    return {
      operations,
      pass(): number {
        let sum = 0
        for (let i = 0; i < operations; i++) {
          const k = i & mask
          sum = (sum + stand.walk(hi[k] as number, lo[k] as number)) | 0
        }
        return sum
      },
    }
  }

type Scope = 'page' | '512 pages' | 'PASID' | 'domain'

/** An IOTLB with entries of so many owners, each with its own pages; what is forgotten comes back before each pass. */
class Filled {
  readonly iotlb: Iotlb
  readonly #perOwner: number
  readonly #isByPasid: boolean
  readonly #to = newTranslation()
  readonly #entry

  constructor(entries: number, owners: number, isByPasid: boolean, isSmall: boolean) {
    this.iotlb = new Iotlb({
      journal: new Journal(),
      name: 'vtd0',
      isBySource: isSmall,
      comparesLowBits: isSmall,
    })
    this.#perOwner = entries / owners
    this.#isByPasid = isByPasid
    this.#entry = { isPrivileged: false, isFirstLevel: isByPasid, isDirty: true, refused: 0 }
    this.#to.perm = 3
    for (let i = 0; i < entries; i++) this.fill(i)
    check(this.iotlb.count === entries, 'all entries are there')
  }

  fill(index: number): void {
    const owner = Math.floor(index / this.#perOwner)
    const page = FIRST_PAGE + index
    const { iotlb } = this
    this.#to.domain = this.#isByPasid ? DOMAIN : DOMAIN + owner
    this.#to.page = targetOf(index)
    const pasid = this.#isByPasid ? owner : NO_PASID
    const space = iotlb.isBySource
      ? iotlb.space(0, pasid, false)
      : iotlb.space(this.#to.domain, pasid, this.#isByPasid)
    iotlb.keep(space, page >>> 20, page << 12, this.#to, this.#entry, index + 1)
  }

  forget(what: VtdInvalidation): void {
    if (this.#isByPasid) this.iotlb.invalidatePasid(what)
    else this.iotlb.invalidate(what)
  }

  /** What names one of the entries, or the owner of that number, and the entries that go with it. */
  named(scope: Scope, index: number): { what: VtdInvalidation; first: number; count: number } {
    if (scope === 'page') {
      const what = {
        ...NOTHING,
        scope: 'fine',
        domain: DOMAIN,
        address: BigInt(FIRST_PAGE + index) << 12n,
      } as const
      return { what, first: index, count: 1 }
    }
    if (scope === '512 pages') {
      const first = index & ~511
      const address = BigInt(FIRST_PAGE + first) << 12n
      return { what: { ...NOTHING, scope: 'fine', domain: DOMAIN, address, order: 9 }, first, count: 512 }
    }
    const first = index * this.#perOwner
    if (scope === 'domain') {
      return { what: { ...NOTHING, scope: 'domain', domain: DOMAIN + index }, first, count: this.#perOwner }
    }
    const what = { ...NOTHING, what: 'pasid-iotlb', scope: 'pasid', domain: DOMAIN, pasid: index } as const
    return { what, first, count: this.#perOwner }
  }
}

/** Invalidations of one granularity, each of other entries. */
const forget =
  (scope: Scope, entries: number, isSmall = false): SetUp =>
  (operations) => {
    const isOfOwner = scope === 'PASID' || scope === 'domain'
    const owners = !isOfOwner ? 1 : isSmall ? SMALL_OWNERS : OWNERS
    const live = Math.floor(entries / 512) * 512
    const filled = new Filled(isOfOwner ? entries : live, owners, scope === 'PASID', isSmall)
    const count = Math.min(operations, isOfOwner ? owners : scope === 'page' ? live : live / 512)
    const step = scope === '512 pages' ? 512 : 1
    const chosen = shuffled(isOfOwner ? owners : live / step).subarray(0, count)
    const named = Array.from(chosen, (index) => filled.named(scope, index * step))
    const { iotlb } = filled
    const total = iotlb.count
    return {
      operations: count,
      prepare(): void {
        for (const { first, count: pages } of named) for (let i = 0; i < pages; i++) filled.fill(first + i)
        check(iotlb.count === total, 'what was forgotten is back')
      },
      pass(): number {
        for (let i = 0; i < count; i++) filled.forget((named[i] as ReturnType<Filled['named']>).what)
        return iotlb.count
      },
    }
  }

/** Everything is forgotten, and as many entries as before are kept. */
const refill =
  (entries: number): SetUp =>
  () => {
    const filled = new Filled(entries, 1, false, false)
    const order = shuffled(entries)
    return {
      operations: entries,
      pass(): number {
        filled.forget(NOTHING)
        for (let i = 0; i < entries; i++) filled.fill(order[i] as number)
        return filled.iotlb.count
      },
    }
  }

/** A device reads eight bytes at random pages through a whole unit: of few, all cached; or each of many once. */
const dma =
  (watching: Watching, isHit: boolean): SetUp =>
  (operations) => {
    const pages = isHit ? 2 ** FEW : Math.min(operations, 2 ** MANY)
    const stand = new VtdDmaStand(watching, pages)
    const { at, mask } = isHit ? randomIndices(operations, pages) : { at: shuffled(pages), mask: pages - 1 }
    const { hi, lo } = addressesOf(at)
    for (let i = 0; i < lo.length; i++) lo[i] = ((lo[i] as number) & ~0xfff) | placeIn(at[i] as number)
    const request = requestOf(stand)
    const { buffer } = request
    const { space, unit, judge } = stand
    const count = isHit ? operations : pages
    const one = (k: number): number => {
      request.hi = hi[k] as number
      request.lo = lo[k] as number
      return space.request(request) + (buffer[3] as number)
    }
    for (let k = 0; k < pages; k++) check(one(k) === ((at[k] as number) & 0xff), 'data is read')
    return {
      operations: count,
      prepare(): void {
        if (!isHit) unit.translator.invalidate(NOTHING)
      },
      pass(): number {
        let sum = 0
        for (let i = 0; i < count; i++) sum = (sum + one(i & mask)) | 0
        if (judge.findings.length > 0) throw new Error('wrong result: the checkers find something')
        return sum
      },
    }
  }

/** The hash of GLib that vtd-glib.c is. */
const glib = (name: string, log2Pages: number, sameSum: boolean): Peer => ({
  label: 'GLib hash',
  floor: [`vtd-glib ${name}`, log2Pages],
  sameSum,
})

const OPERATIONS = 1 << 18

const loop = (id: string, operation: string, setUp: SetUp, peer: Peer, goal?: Goal): LoopCase => ({
  ...{ id: `vtd/${id}`, operation, operations: OPERATIONS, setUp, peer },
  ...(goal !== undefined && { goal }),
})

const scopeCase = (id: string, scope: Scope): LoopCase => ({
  ...loop(`forget/${id}/10^6`, 'invalidation', forget(scope, LIVE), {
    label: '1024',
    setUp: forget(scope, SMALL, true),
  }),
  operations: 1 << 12,
  goal: { ratioMax: 1 },
  pairsMax: 2,
})

export const VTD: CaseGroup = {
  title: 'VT-d',
  note:
    'Ours: requests through the caches of a unit with tables of four levels (hit: 512 pages; miss: 65,536 pages, each once ' +
    'after all was forgotten; walk: without caches), legacy mode or first-level with a PASID, with records or without. ' +
    'dma: eight bytes through a whole unit and its bus. GLib hash: vtd-glib.c, entries of the heap in a GHashTable that is ' +
    'emptied at 1024, found at three levels; no records, no dirty bits. forget: of 10^6 entries, of 1000 domains or PASIDs; ' +
    '1024: the same with 1024 entries that are all looked at, as emulators do. refill: everything forgotten, then 10^6 ' +
    'entries kept.',
  cases: [
    loop('hit', 'translation', hit({}), glib('translate', FEW, true), { ratioMax: 1 }),
    loop('hit/records', 'translation', hit({ records: true }), { label: 'bare', setUp: hit({}) }),
    loop('hit/PASID', 'translation', hit({ hasPasid: true }), { label: 'legacy', setUp: hit({}) }),
    loop('miss', 'translation', miss({}), glib('once', MANY, true), { ratioMax: 1 / 3 }),
    loop('miss/records', 'translation', miss({ records: true }), { label: 'bare', setUp: miss({}) }),
    loop('miss/PASID', 'translation', miss({ hasPasid: true }), { label: 'legacy', setUp: miss({}) }),
    loop('walk', 'walk', walk({}), glib('walk', MANY, true)),
    loop('walk/PASID', 'walk', walk({ hasPasid: true }), { label: 'legacy', setUp: walk({}) }),
    loop('dma/hit', 'read of 8 B', dma('bare', true), { label: 'translation', setUp: hit({}) }),
    loop('dma/hit/records', 'read of 8 B', dma('records', true), { label: 'bare', setUp: dma('bare', true) }),
    loop(
      'dma/hit/all',
      'read of 8 B',
      dma('checkers', true),
      { label: 'bare', setUp: dma('bare', true) },
      { nsMax: 30 },
    ),
    loop('dma/miss', 'read of 8 B', dma('bare', false), { label: 'translation', setUp: miss({}) }),
    loop(
      'dma/miss/all',
      'read of 8 B',
      dma('checkers', false),
      { label: 'bare', setUp: dma('bare', false) },
      { nsMax: 145 },
    ),
    {
      ...loop('forget/page/10^6', 'invalidation', forget('page', LIVE), glib('forget', 10, false), {
        ratioMax: 1,
      }),
      pairsMax: 2,
      operations: 1 << 12,
    },
    scopeCase('512p', '512 pages'),
    scopeCase('PASID', 'PASID'),
    scopeCase('domain', 'domain'),
    { ...loop('refill/10^6', 'entry', refill(LIVE), glib('refill', 20, false)), pairsMax: 2 },
  ],
}
