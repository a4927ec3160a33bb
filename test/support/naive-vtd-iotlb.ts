import { NO_PASID, type VtdInvalidation } from '../../src/hw/vtd/ports.ts'

/** What a naive list does wrong when it is told to: each must show. */
export const FAULTS = [
  'a large page stays where only a part of it is named',
  'a page stays where it is not the first that is named',
  'what is named is not aligned down',
  'pages of a domain spare its first level',
  'a domain spares its first level',
  'pages of a PASID take all of it',
  'pages of a PASID take the second level',
  'a PASID takes what is passed through without one',
  'global entries go with their PASID',
  'a domain is all domains',
  'privileged entries answer users',
  'a large page answers before a small one',
  'a device that is passed through keeps its entry',
  'a new translation stands beside the old one',
] as const
export type Fault = (typeof FAULTS)[number]

/** Whose entries. `isOfPasid`: by domain and PASID (first level, nested, pass-through); else by the domain alone. */
export interface NaiveSpace {
  readonly source: number
  readonly domain: number
  readonly pasid: number
  readonly isOfPasid: boolean
}

export interface NaiveEntry extends NaiveSpace {
  readonly isPrivileged: boolean
  readonly isFirstLevel: boolean
  readonly isGlobal: boolean
  /** First 4 KiB page, and how many. */
  readonly page: number
  readonly pages: number
  readonly target: number
  readonly perm: number
  readonly number: number
}

export interface NaiveOptions {
  readonly fault?: Fault
  readonly isBySource?: boolean
  readonly comparesLowBits?: boolean
  readonly maxEntries?: number
}

/** All addresses there are, in pages. */
export const WHOLE = 2 ** 52

/** An IOTLB as a list of entries: no hash, no tags, no care for speed. (Specification 4.1, 4.3, 4.4; QEMU's D3, D6, CF13 to CF15) */
export class NaiveIotlb {
  entries: NaiveEntry[] = []
  readonly #options: NaiveOptions

  constructor(options: NaiveOptions = {}) {
    this.#options = options
  }

  find(space: NaiveSpace, page: number, isPrivileged: boolean): NaiveEntry | undefined {
    const { fault } = this.#options
    const fitting = this.entries.filter(
      (e) =>
        this.#isIn(e, space) &&
        (e.pages === WHOLE ||
          fault === 'privileged entries answer users' ||
          e.isPrivileged === isPrivileged) &&
        page >= e.page &&
        page < e.page + e.pages,
    )
    const sign = fault === 'a large page answers before a small one' ? -1 : 1
    return fitting.sort((a, b) => sign * (a.pages - b.pages))[0]
  }

  keep(entry: NaiveEntry): void {
    const { maxEntries, fault } = this.#options
    if (maxEntries !== undefined && this.entries.length >= maxEntries) this.entries = []
    if (fault !== 'a new translation stands beside the old one') {
      this.entries = this.entries.filter((e) => !this.#isSame(e, entry))
    }
    this.entries.push(entry)
  }

  /** Types 2 and 6. */
  invalidate(what: VtdInvalidation): void {
    const goes = what.what === 'iotlb' ? this.#goesWithType2(what) : this.#goesWithType6(what)
    this.entries = this.entries.filter((e) => !goes(e))
  }

  #isIn(e: NaiveEntry, space: NaiveSpace): boolean {
    if (this.#options.isBySource) return e.source === space.source && e.pasid === space.pasid
    if (e.domain !== space.domain || e.isOfPasid !== space.isOfPasid) return false
    return !e.isOfPasid || e.pasid === space.pasid
  }

  #isSame(a: NaiveEntry, b: NaiveEntry): boolean {
    return this.#isIn(a, b) && a.page === b.page && a.pages === b.pages && a.isPrivileged === b.isPrivileged
  }

  #overlaps(e: NaiveEntry, { address, order }: VtdInvalidation): boolean {
    const { fault } = this.#options
    const pages = 2 ** order
    const given = Number(address >> 12n)
    const first = fault === 'what is named is not aligned down' ? given : given - (given % pages)
    const last = first + pages - 1
    if (fault === 'a device that is passed through keeps its entry' && e.pages === WHOLE) return false
    if (fault === 'a large page stays where only a part of it is named' && e.pages > pages) return false
    if (fault === 'a page stays where it is not the first that is named')
      return e.page <= first && first < e.page + e.pages
    return e.page <= last && e.page + e.pages > first
  }

  #goesWithType2(what: VtdInvalidation): (e: NaiveEntry) => boolean {
    const { fault, isBySource, comparesLowBits } = this.#options
    const isIt = (e: NaiveEntry) => fault === 'a domain is all domains' || e.domain === what.domain
    if (what.scope === 'all') return () => true
    if (what.scope === 'domain') {
      return (e) => isIt(e) && !(fault === 'a domain spares its first level' && e.isOfPasid)
    }
    const isFirst = (e: NaiveEntry) =>
      fault !== 'pages of a domain spare its first level' &&
      (isBySource || comparesLowBits ? e.isFirstLevel : e.isOfPasid)
    if (!comparesLowBits) {
      return (e) => isIt(e) && (isFirst(e) || ((isBySource || !e.isOfPasid) && this.#overlaps(e, what)))
    }
    const mask = ~(2n ** BigInt(what.order) - 1n) & 0xffn
    const page = what.address >> 12n
    return (e) => {
      if (!isIt(e)) return false
      if (isFirst(e) || ((BigInt(e.page) ^ page) & mask) === 0n) return true
      return page >= BigInt(e.page) && page < BigInt(e.page) + BigInt(e.pages)
    }
  }

  #goesWithType6(what: VtdInvalidation): (e: NaiveEntry) => boolean {
    const { fault, isBySource } = this.#options
    const isNamed = (e: NaiveEntry) => {
      if (e.domain !== what.domain) return false
      const isOfPasid = isBySource ? e.pasid !== NO_PASID : e.isOfPasid
      if (!isOfPasid) {
        if (fault === 'pages of a PASID take the second level')
          return what.scope === 'fine' && this.#overlaps(e, what)
        return fault === 'a PASID takes what is passed through without one' && e.pages === WHOLE
      }
      if (what.scope === 'domain') return true
      if (e.pasid !== what.pasid) return false
      if (what.scope === 'pasid' || fault === 'pages of a PASID take all of it') return true
      return (!isBySource || e.isFirstLevel) && this.#overlaps(e, what)
    }
    return (e) =>
      isNamed(e) && (what.isGlobalToo || !e.isGlobal || fault === 'global entries go with their PASID')
  }
}
