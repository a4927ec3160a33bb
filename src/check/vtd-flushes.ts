import { numberOf } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import { FLUSH_SCOPE, NONE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'

const FLUSH = slotMap('domain.flush')
const PAGE_BYTES = 4096
/** Bytes of pages that larger translations and tables have, as log2 of 4 KiB pages. */
const COARSE = [9, 18, 27, 36] as const
/** No flush: before every record. */
export const NEVER = -1
const PASIDS = 2 ** 20
/** Of 64-bit addresses. */
const PAGES_MAX = 2 ** 52

/** What one flush of ranges covers. Pages count 4 KiB. */
interface Range {
  readonly first: number
  readonly pages: number
}

/** When each page of one address space was flushed last. */
class RangeFlushes {
  #whole = NEVER
  /** By their number: the first page of each aligned block, and its last flush. */
  readonly #blocks = new Map<number, Map<number, number>>()
  /** Blocks of 2 MiB and more in which something smaller was flushed. */
  readonly #touched: readonly Map<number, number>[] = COARSE.map(() => new Map())

  note({ first, pages }: Range, seq: number): void {
    if (pages >= PAGES_MAX) {
      this.#whole = seq
      this.#blocks.clear()
      for (const touched of this.#touched) touched.clear()
      return
    }
    let blocks = this.#blocks.get(pages)
    if (blocks === undefined) {
      blocks = new Map()
      this.#blocks.set(pages, blocks)
    }
    blocks.set(first, seq)
    COARSE.forEach((order, i) => {
      const large = 2 ** order
      if (pages < large) this.#touched[i]?.set(first - (first % large), seq)
    })
  }

  /** The last flush of any of some pages: an aligned power of two. */
  last({ first, pages }: Range): number {
    let last = this.#whole
    for (const [block, seqs] of this.#blocks) {
      if (block < pages) continue
      last = Math.max(last, seqs.get(first - (first % block)) ?? NEVER)
    }
    const at = COARSE.findIndex((order) => 2 ** order === pages)
    if (at >= 0) last = Math.max(last, this.#touched[at]?.get(first) ?? NEVER)
    return last
  }
}

const rangesOf = (of: Map<number, RangeFlushes>, key: number): RangeFlushes => {
  let ranges = of.get(key)
  if (ranges === undefined) {
    ranges = new RangeFlushes()
    of.set(key, ranges)
  }
  return ranges
}

/** What a flush names, read from its record. */
export interface Flush {
  readonly seq: number
  readonly scope: number
  readonly domain: number
  readonly source: number
  readonly pasid: number
  readonly range: Range
  readonly hint: number
}

const WHOLE: Range = { first: 0, pages: Number.POSITIVE_INFINITY }

export function flushAt(log: RecordLog, seq: number): Flush {
  const bytes = numberOf(log.slot(seq, FLUSH.bytes + 1), log.slot(seq, FLUSH.bytes))
  const first = numberOf(log.slot(seq, FLUSH.iova + 1), log.slot(seq, FLUSH.iova)) / PAGE_BYTES
  return {
    seq,
    scope: log.slot(seq, FLUSH.scope),
    domain: log.slot(seq, FLUSH.domain) >>> 0,
    source: log.slot(seq, FLUSH.source) >>> 0,
    pasid: log.slot(seq, FLUSH.pasid) >>> 0,
    range: bytes === 0 ? WHOLE : { first: Math.floor(first), pages: bytes / PAGE_BYTES },
    hint: log.slot(seq, FLUSH.hint),
  }
}

/** What a translation is kept by, as far as flushes name it. */
export interface FlushTag {
  /** First level or nested: kept by PASID as well. `undefined` where records do not say. */
  readonly isByPasid: boolean | undefined
  readonly domain: number
  readonly pasid: number
  readonly source: number
  readonly range: Range
}

/**
 * When what a unit may keep was flushed last, by the rules of the manual: an invalidation takes everything that it names,
 * hardware may take more. Page-selective invalidations of a domain take every first-level and nested translation of the domain.
 * (VT-d manual, IOTLB Invalidate)
 */
export class IotlbFlushes {
  #all = NEVER
  readonly #domains = new Map<number, RangeFlushes>()
  readonly #pasids = new Map<number, RangeFlushes>()
  /** The last flush of a domain that names no PASID, of whatever pages. */
  readonly #ofDomain = new Map<number, number>()
  readonly #wholeDomains = new Map<number, number>()

  note({ seq, scope, domain, pasid, range }: Flush): void {
    if (scope === FLUSH_SCOPE.ALL) this.#all = seq
    else if (scope === FLUSH_SCOPE.DOMAIN || scope === FLUSH_SCOPE.PAGES) {
      rangesOf(this.#domains, domain).note(scope === FLUSH_SCOPE.DOMAIN ? WHOLE : range, seq)
      this.#ofDomain.set(domain, seq)
      if (scope === FLUSH_SCOPE.DOMAIN) this.#wholeDomains.set(domain, seq)
    } else if (scope === FLUSH_SCOPE.PASID) rangesOf(this.#pasids, domain * PASIDS + pasid).note(WHOLE, seq)
    else if (scope === FLUSH_SCOPE.PASID_PAGES) {
      if (pasid === NONE) this.#ofDomain.set(domain, seq)
      else rangesOf(this.#pasids, domain * PASIDS + pasid).note(range, seq)
    }
  }

  /** The last flush that takes a translation. */
  last({ isByPasid, domain, pasid, range }: FlushTag): number {
    if (isByPasid === undefined) return Math.max(this.#all, this.#wholeDomains.get(domain) ?? NEVER)
    if (!isByPasid) return Math.max(this.#all, this.#domains.get(domain)?.last(range) ?? NEVER)
    const ofPasid = this.#pasids.get(domain * PASIDS + pasid)?.last(range) ?? NEVER
    return Math.max(this.#all, this.#ofDomain.get(domain) ?? NEVER, ofPasid)
  }
}

/** When what the TLBs of devices may keep was flushed last. */
export class DeviceFlushes {
  readonly #plain = new Map<number, RangeFlushes>()
  readonly #pasids = new Map<number, RangeFlushes>()
  /** Of all PASIDs of a device at once. */
  readonly #every = new Map<number, RangeFlushes>()

  note({ seq, scope, source, pasid, range }: Flush): void {
    if (scope === FLUSH_SCOPE.DEVICE_TLB) rangesOf(this.#plain, source).note(range, seq)
    else if (scope === FLUSH_SCOPE.PASID_DEVICE_TLB) {
      if (pasid === NONE) rangesOf(this.#every, source).note(range, seq)
      else rangesOf(this.#pasids, source * PASIDS + pasid).note(range, seq)
    }
  }

  last({ source, pasid, range }: Pick<FlushTag, 'source' | 'pasid' | 'range'>): number {
    if (pasid === NONE) return this.#plain.get(source)?.last(range) ?? NEVER
    const every = this.#every.get(source)?.last(range) ?? NEVER
    return Math.max(every, this.#pasids.get(source * PASIDS + pasid)?.last(range) ?? NEVER)
  }
}
