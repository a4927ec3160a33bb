import { hex, numberOf, pageOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import { FLUSH_SCOPE, VTD_CACHE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import type { Scene } from './describe.ts'
import { because } from './evidence.ts'
import type { FindingList } from './finding-list.ts'
import { NO_RECORD } from './lives.ts'

const RULE = 'stale-translation'
const FILL = slotMap('vtd.fill')
const MAP = slotMap('domain.map')
const UNMAP = slotMap('domain.unmap')
const FLUSH = slotMap('domain.flush')
const PAGE_SHIFT = 12
const PAGE_BYTES = 2 ** PAGE_SHIFT
const HOW_UNKNOWN = 2

/** Ranges of more pages that no large page maps are not kept: a log of a driver has none. */
const RANGE_PAGES_MAX = 4096
/** Pages that are kept of all domains; more are forgotten all at once. */
const KEPT_MAX = 1 << 18
const LARGE = [0x200, 0x4_0000] as const
/** An IOTLB invalidation by page: type 2, granularity 3; DID from bit 16 on. */
const PAGE_DESCRIPTOR = 0x32n

/** Pages of bus addresses that were seen mapped. Those of a range are one of these each, a large page is one. */
interface Seen {
  readonly page: number
  readonly pages: number
  readonly target: number
  perm: number
  isInferred: boolean
  /** The last record that showed the mapping in force. */
  shown: number
  /** Record that took it back; NO_RECORD where none did. */
  unmapped: number
  /** The last flush that names it. */
  flushed: number
}

interface Domain {
  readonly pages: Map<number, Seen>
  /** Large pages have been seen. */
  hasLarge: boolean
  flushed: number
}

/**
 * Judges `stale-translation` for logs, which show no table in memory: where an address leads elsewhere now, or allows less,
 * a flush that covers it must have come since the old mapping was taken back, or was last seen in force. Else a cache may
 * still have the old one, while its address is used for something else.
 *
 * What is mapped shows in `domain.map` and `domain.unmap`, and in what enters an IOTLB. Machines whose tables are in memory
 * are not judged here.
 */
export class SeenMaps {
  static readonly KINDS: readonly EventKind[] = [
    'domain.map',
    'domain.unmap',
    'domain.flush',
    'vtd.fill',
    'vtd.root',
    'vtd.walk',
    'vtd.word',
  ]
  readonly #list: FindingList
  readonly #sceneOf: (log: RecordLog) => Scene
  readonly #domains = new Map<number, Domain>()
  #kept = 0
  #flushed = NO_RECORD
  /** The log shows tables in memory. */
  #isOff = false

  constructor(list: FindingList, sceneOf: (log: RecordLog) => Scene) {
    this.#list = list
    this.#sceneOf = sceneOf
  }

  see(log: RecordLog, seq: number): void {
    if (this.#isOff) return
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.fill']) this.#filled(log, seq)
    else if (kind === KIND['domain.flush']) this.#flush(log, seq)
    else if (kind === KIND['domain.map']) this.#mapped(log, seq)
    else if (kind === KIND['domain.unmap']) this.#unmapped(log, seq)
    else {
      this.#clear()
      this.#isOff = kind !== KIND['vtd.root']
    }
  }

  #clear(): void {
    this.#domains.clear()
    this.#kept = 0
  }

  #of(domain: number): Domain {
    let of = this.#domains.get(domain)
    if (of === undefined) {
      of = { pages: new Map(), hasLarge: false, flushed: NO_RECORD }
      this.#domains.set(domain, of)
    }
    return of
  }

  #filled(log: RecordLog, seq: number): void {
    if (log.slot(seq, FILL.cache) !== VTD_CACHE.IOTLB || log.slot(seq, FILL.perm) === 0) return
    const domain = log.slot(seq, FILL.domain) >>> 0
    const pages = 2 ** (log.slot(seq, FILL.shift) - PAGE_SHIFT)
    const page = pageAt(log, seq, FILL.iova)
    const target = pageAt(log, seq, FILL.target)
    const perm = log.slot(seq, FILL.perm)
    this.#show(log, domain, page - (page % pages), pages, target, perm, seq, true)
  }

  #mapped(log: RecordLog, seq: number): void {
    const domain = log.slot(seq, MAP.domain) >>> 0
    const { firstPage, pages } = rangeAt(log, seq, MAP)
    const target = pageAt(log, seq, MAP.gpa)
    const perm = log.slot(seq, MAP.perm)
    const isInferred = log.slot(seq, MAP.how) !== 0
    if (LARGE.some((large) => large === pages && firstPage % large === 0)) {
      this.#show(log, domain, firstPage, pages, target, perm, seq, isInferred)
      return
    }
    if (pages > RANGE_PAGES_MAX) {
      this.#list.skipped++
      return
    }
    for (let i = 0; i < pages; i++)
      this.#show(log, domain, firstPage + i, 1, target + i, perm, seq, isInferred)
  }

  /** A mapping shows. What is written for each page that a device reaches the first time: nothing is made where it is known. */
  #show(
    log: RecordLog,
    domain: number,
    page: number,
    pages: number,
    target: number,
    perm: number,
    seq: number,
    isInferred: boolean,
  ): void {
    const of = this.#of(domain)
    const known = of.pages.get(page)
    const isKnown =
      known?.pages === pages && known.target === target && (perm === 0 || (known.perm & ~perm) === 0)
    if (known !== undefined && isKnown) {
      known.shown = seq
      known.unmapped = NO_RECORD
      known.perm = perm
      known.isInferred = isInferred
      return
    }
    this.#replace(log, domain, of, newSeen(page, pages, target, perm, seq, isInferred))
  }

  #replace(log: RecordLog, domain: number, of: Domain, now: Seen): void {
    for (const seen of overlapping(of, now.page, now.pages)) {
      if (isOther(seen, now)) this.#judge(log, domain, of, seen, now)
      of.pages.delete(seen.page)
      this.#kept--
    }
    if (this.#kept >= KEPT_MAX) {
      this.#clear()
      return
    }
    of.pages.set(now.page, now)
    of.hasLarge ||= now.pages > 1
    this.#kept++
  }

  #judge(log: RecordLog, domain: number, of: Domain, seen: Seen, now: Seen): void {
    const since = Math.max(seen.shown, seen.unmapped)
    if (Math.max(seen.flushed, of.flushed, this.#flushed) > since) return
    const place = { rule: RULE, window: domain, entry: seen.page, by: seen.shown, ended: now.shown }
    if (this.#list.again(place)) return
    const at = hex(BigInt(Math.max(seen.page, now.page)) << 12n)
    const leads =
      targetAt(seen, now) === targetAt(now, seen) ? 'allows less' : `leads to ${hex(addressAt(now, seen))}`
    const message =
      `bus address ${at} of domain ${domain} ${leads} now, and no invalidation has covered it since it led to ` +
      `${hex(addressAt(seen, now))}: the IOTLB may still have that; enough is ${descriptorText(domain, seen)}`
    const chain = because(this.#sceneOf(log), seen.shown, seen.unmapped, now.shown)
    this.#list.add({ rule: RULE, message, because: chain, inferred: seen.isInferred || now.isInferred })
  }

  #unmapped(log: RecordLog, seq: number): void {
    const of = this.#domains.get(log.slot(seq, UNMAP.domain) >>> 0)
    if (of === undefined) return
    const { firstPage, pages } = rangeAt(log, seq, UNMAP)
    const isUnknown = log.slot(seq, UNMAP.how) === HOW_UNKNOWN
    for (const seen of overlapping(of, firstPage, pages)) {
      if (isUnknown) of.pages.delete(seen.page)
      else seen.unmapped = seq
    }
  }

  #flush(log: RecordLog, seq: number): void {
    const scope = log.slot(seq, FLUSH.scope)
    if (scope === FLUSH_SCOPE.ALL) this.#flushed = seq
    else if (scope === FLUSH_SCOPE.DOMAIN || scope === FLUSH_SCOPE.PASID)
      this.#of(log.slot(seq, FLUSH.domain) >>> 0).flushed = seq
    else if (scope === FLUSH_SCOPE.PAGES || scope === FLUSH_SCOPE.PASID_PAGES) {
      const of = this.#domains.get(log.slot(seq, FLUSH.domain) >>> 0)
      if (of === undefined) return
      const { firstPage, pages } = rangeAt(log, seq, FLUSH)
      for (const seen of overlapping(of, firstPage, pages)) seen.flushed = seq
    }
  }
}

const newSeen = (
  page: number,
  pages: number,
  target: number,
  perm: number,
  shown: number,
  isInferred: boolean,
): Seen => ({ page, pages, target, perm, isInferred, shown, unmapped: NO_RECORD, flushed: NO_RECORD })

const pageAt = (log: RecordLog, seq: number, slot: number): number =>
  pageOf(log.slot(seq, slot + 1), log.slot(seq, slot), PAGE_SHIFT)

/** Pages that the fields `iova` and `bytes` of a record touch; all from there on for no bytes. */
function rangeAt(
  log: RecordLog,
  seq: number,
  slots: { iova: number; bytes: number },
): { firstPage: number; pages: number } {
  const firstPage = pageAt(log, seq, slots.iova)
  const bytes = numberOf(log.slot(seq, slots.bytes + 1), log.slot(seq, slots.bytes))
  if (bytes === 0) return { firstPage, pages: Number.POSITIVE_INFINITY }
  const offset = log.slot(seq, slots.iova) & (PAGE_BYTES - 1)
  return { firstPage, pages: Math.ceil((offset + bytes) / PAGE_BYTES) }
}

const NONE_SEEN: readonly Seen[] = []

/** What of a domain maps any of `pages` pages from `first` on. */
function overlapping(of: Domain, first: number, pages: number): readonly Seen[] {
  if (pages > of.pages.size) {
    return [...of.pages.values()].filter((s) => s.page < first + pages && first < s.page + s.pages)
  }
  if (!of.hasLarge && pages === 1) {
    const seen = of.pages.get(first)
    return seen === undefined ? NONE_SEEN : [seen]
  }
  const found: Seen[] = []
  for (const large of LARGE) {
    const seen = of.pages.get(first - (first % large))
    if (seen !== undefined && seen.page < first && seen.page + seen.pages > first) found.push(seen)
  }
  for (let page = first; page < first + pages; page++) {
    const seen = of.pages.get(page)
    if (seen !== undefined) found.push(seen)
  }
  return found
}

/** Page of memory that `a` leads to where it and `b` begin to overlap. */
const targetAt = (a: Seen, b: Seen): number => a.target + Math.max(0, b.page - a.page)
const addressAt = (a: Seen, b: Seen): bigint => BigInt(targetAt(a, b)) << 12n

/** It leads elsewhere, or allows less; a trace of a kernel does not say what is allowed. */
const isOther = (before: Seen, now: Seen): boolean =>
  targetAt(before, now) !== targetAt(now, before) || (now.perm !== 0 && (before.perm & ~now.perm) !== 0)

/** The smallest invalidation that covers a mapping, as its descriptor. */
function descriptorText(domain: number, { page, pages }: Seen): string {
  const order = BigInt(Math.log2(pages))
  const lo = PAGE_DESCRIPTOR | (BigInt(domain) << 16n)
  return `the IOTLB invalidation with low word ${hex(lo)} and high word ${hex((BigInt(page) << 12n) | order)}`
}
