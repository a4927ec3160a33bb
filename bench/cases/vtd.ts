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
/** Pages of whole DMAs that miss, as vtd-qemu.ts has them. */
const DMA_MANY = 14
const LIVE = 10 ** 6
/** Pages of each domain, or PASID; and how many others come and go. */
const PER_OWNER = 1000
const OTHERS = 64
/** Entries of an IOTLB in C, and of the one that stands for it here. */
const SMALL = 1024

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
    const { translator } = stand
    const rounds = Math.max(1, Math.floor(operations / pages))
    return {
      operations: rounds * pages,
      pass(): number {
        let sum = 0
        for (let round = 0; round < rounds; round++) {
          translator.invalidate(NOTHING)
          for (let i = 0; i < pages; i++) sum = (sum + stand.translate(hi[i] as number, lo[i] as number)) | 0
        }
        check(translator.caches.iotlb.count === pages, 'each page has come back')
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

/** An IOTLB with many entries: pages of domains, or of PASIDs of one domain, 1000 to each. */
class Filled {
  readonly iotlb: Iotlb
  readonly #isByPasid: boolean
  readonly #to = newTranslation()
  readonly #entry

  constructor(entries: number, isByPasid: boolean, isSmall: boolean) {
    const kind = { isBySource: isSmall, comparesLowBits: isSmall }
    this.iotlb = new Iotlb({ journal: new Journal(), name: 'vtd0', ...kind })
    this.#isByPasid = isByPasid
    this.#entry = { isPrivileged: false, isFirstLevel: isByPasid, isDirty: true, refused: 0 }
    this.#to.perm = 3
    for (let i = 0; i < entries; i++) this.keep(i)
    check(this.iotlb.count === entries, 'all entries are there')
  }

  keep(index: number): void {
    const { iotlb } = this
    const owner = Math.floor(index / PER_OWNER)
    const page = FIRST_PAGE + index
    const to = this.#to
    to.domain = this.#isByPasid ? DOMAIN : DOMAIN + owner
    to.page = targetOf(index, 2 ** MANY)
    const pasid = this.#isByPasid ? owner : NO_PASID
    const space = iotlb.isBySource
      ? iotlb.space(0, pasid, false)
      : iotlb.space(to.domain, pasid, this.#isByPasid)
    iotlb.keep(space, page >>> 20, page << 12, to, this.#entry, index + 1)
  }

  forget(what: VtdInvalidation): void {
    if (this.#isByPasid) this.iotlb.invalidatePasid(what)
    else this.iotlb.invalidate(what)
  }
}

/** What names a page behind the entries, its block of 512 pages, or its owner. */
function nameOf(scope: Scope, index: number): VtdInvalidation {
  const owner = Math.floor(index / PER_OWNER)
  const address = BigInt(FIRST_PAGE + index) << 12n
  if (scope === 'page') return { ...NOTHING, scope: 'fine', domain: DOMAIN + owner, address }
  if (scope === '512 pages') return { ...NOTHING, scope: 'fine', domain: DOMAIN + owner, address, order: 9 }
  if (scope === 'domain') return { ...NOTHING, scope: 'domain', domain: DOMAIN + owner }
  return { ...NOTHING, what: 'pasid-iotlb', scope: 'pasid', domain: DOMAIN, pasid: owner }
}

/** Beside so many entries another one comes and is forgotten again, by an invalidation of one granularity. */
const forget =
  (scope: Scope, entries: number, isSmall = false): SetUp =>
  (operations) => {
    const filled = new Filled(entries, scope === 'PASID', isSmall)
    const { iotlb } = filled
    const behind = Math.ceil(entries / PER_OWNER) * PER_OWNER
    const others = Array.from({ length: OTHERS }, (_, i) => behind + i * PER_OWNER)
    const named = others.map((index) => nameOf(scope, index))
    return {
      operations,
      pass(): number {
        for (let i = 0; i < operations; i++) {
          filled.keep(others[i % OTHERS] as number)
          filled.forget(named[i % OTHERS] as VtdInvalidation)
        }
        check(iotlb.count === entries, 'what came is forgotten, and nothing else')
        return iotlb.count
      },
    }
  }

/** Everything is forgotten, and as many entries as before are kept. */
const refill =
  (entries: number): SetUp =>
  () => {
    const filled = new Filled(entries, false, false)
    const order = shuffled(entries)
    return {
      operations: entries,
      pass(): number {
        filled.forget(NOTHING)
        for (let i = 0; i < entries; i++) filled.keep(order[i] as number)
        return filled.iotlb.count
      },
    }
  }

/** A device reads eight bytes at random pages through a whole unit: of few, all cached; or each of many once. */
const dma =
  (watching: Watching, isHit: boolean): SetUp =>
  (operations) => {
    const pages = isHit ? 2 ** FEW : Math.min(operations, 2 ** DMA_MANY)
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
    const rounds = isHit ? 1 : Math.max(1, Math.floor(operations / pages))
    return {
      operations: rounds * count,
      pass(): number {
        let sum = 0
        for (let round = 0; round < rounds; round++) {
          if (!isHit) unit.translator.invalidate(NOTHING)
          for (let i = 0; i < count; i++) sum = (sum + one(i & mask)) | 0
        }
        if (judge.findings.length > 0) throw new Error('wrong result: the checkers find something')
        return sum
      },
    }
  }

/** The hash of GLib that vtd-glib.c is. */
const glib = (name: string, log2Pages: number, sameSum: boolean): Peer => ({
  label: 'GLib',
  floor: [`vtd-glib ${name}`, log2Pages],
  sameSum,
})

const OPERATIONS = 1 << 18

const loop = (id: string, operation: string, setUp: SetUp, peer: Peer, goal?: Goal): LoopCase => ({
  ...{ id: `vtd/${id}`, operation, operations: OPERATIONS, setUp, peer },
  ...(goal !== undefined && { goal }),
})

const scopeCase = (id: string, scope: Scope, peer: Peer): LoopCase => ({
  ...loop(`${id}/10^6`, 'keep + forget', forget(scope, LIVE), peer),
  operations: 1 << 15,
  goal: { ratioMax: 1 },
  pairsMax: 2,
})
const small = (scope: Scope): Peer => ({ label: '1024', setUp: forget(scope, SMALL, true) })

export const VTD: CaseGroup = {
  title: 'VT-d',
  note:
    'Ours: requests through the caches of a unit with tables of four levels (hit: 512 pages; miss: 65,536 pages, each once ' +
    'after all was forgotten; walk: without caches), legacy mode or first-level with a PASID, with records or without. ' +
    'dma: eight bytes through a whole unit and its bus. GLib: vtd-glib.c, entries of the heap in a GHashTable that is ' +
    'emptied at 1024, found at three levels; no records, no dirty bits. page, 512p, PASID, domain: beside 10^6 entries of 1000 domains or ' +
    'PASIDs another one comes and goes; 1024: the same beside 1024 entries that are all looked at, as emulators do. ' +
    'refill: everything forgotten, then 10^6 entries kept.',
  cases: [
    loop('hit', 'translation', hit({}), glib('translate', FEW, true), { ratioMax: 1 }),
    loop('hit/records', 'translation', hit({ records: true }), { label: 'bare', setUp: hit({}) }),
    loop('hit/PASID', 'translation', hit({ hasPasid: true }), { label: 'legacy', setUp: hit({}) }),
    loop('miss', 'translation', miss({}), glib('once', MANY, true), { ratioMax: 1 / 3 }),
    loop('miss/records', 'translation', miss({ records: true }), { label: 'bare', setUp: miss({}) }),
    loop('miss/PASID', 'translation', miss({ hasPasid: true }), { label: 'legacy', setUp: miss({}) }),
    loop('walk', 'walk', walk({}), glib('walk', MANY, true)),
    loop('walk/PASID', 'walk', walk({ hasPasid: true }), { label: 'legacy', setUp: walk({}) }),
    loop('dma/hit', 'read of 8 B', dma('bare', true), { label: 'no DMA', setUp: hit({}) }),
    loop('dma/hit/records', 'read of 8 B', dma('records', true), { label: 'bare', setUp: dma('bare', true) }),
    loop(
      'dma/hit/all',
      'read of 8 B',
      dma('checkers', true),
      { label: 'bare', setUp: dma('bare', true) },
      { nsMax: 30 },
    ),
    loop('dma/miss', 'read of 8 B', dma('bare', false), { label: 'no DMA', setUp: miss({}) }),
    loop(
      'dma/miss/all',
      'read of 8 B',
      dma('checkers', false),
      { label: 'bare', setUp: dma('bare', false) },
      { nsMax: 145 },
    ),
    scopeCase('page', 'page', glib('forget', 10, false)),
    scopeCase('512p', '512 pages', small('512 pages')),
    scopeCase('PASID', 'PASID', small('PASID')),
    scopeCase('domain', 'domain', small('domain')),
    { ...loop('refill/10^6', 'entry', refill(LIVE), glib('refill', 20, false)), pairsMax: 2 },
  ],
}
