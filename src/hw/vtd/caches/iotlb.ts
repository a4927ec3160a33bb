import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { hiOf, hiOfNumber, loOf, loOfNumber, pageOf } from '../../../bits/u64.ts'
import { NO_PASID, type Translation, type VtdInvalidation } from '../ports.ts'
import { DOMAIN, ENTRY, META, PAGE_LO, pageHiOf, pageLoOf, ROW_CELLS, TARGET_LO } from './page-rows.ts'
import { GROUP_FIRST, GROUP_SECOND, TaggedCache } from './tagged-cache.ts'

/** Pages of 4 KiB, 2 MiB and 1 GiB; the same for privileged requests; all addresses (pass-through). */
const SHIFTS = [0, 9, 18, 0, 9, 18, 52] as const
const PRIVILEGED = 3
const WHOLE = 6
const KINDS_OF_USER = 0b100_0111
const KINDS_OF_PRIVILEGED = 0b111_1000

/** Bits of META. */
const PERM_MASK = 7
const IS_DIRTY = 1 << 3
const IS_GLOBAL = 1 << 4
const IS_FIRST_LEVEL = 1 << 5
const REFUSED_SHIFT = 8
const FAULT_SHIFT = 11
const TARGET_SHIFT = 24

/** As many pages as an address space has. */
const ALL_ADDRESSES = 52

export interface IotlbOptions {
  readonly journal: Journal
  readonly name: string
  /** Entries that it holds at most; no bound where it is left out. */
  readonly maxEntries?: number
  /** Where it is full, all entries make room instead of one. */
  readonly dropsAllWhenFull?: boolean
  /** Entries are found by source-id and PASID, and not by domain (D3). */
  readonly isBySource?: boolean
  /** Erratum D6: of the pages of an invalidation only the lowest 8 bits are compared. */
  readonly comparesLowBits?: boolean
}

/** What an entry holds beside its translation. */
export interface IotlbEntry {
  /** Of a page that privileged requests only find, or all. */
  readonly isPrivileged: boolean
  readonly isFirstLevel: boolean
  /** The dirty bit is set, or there is none. */
  readonly isDirty: boolean
  /** What a unit in caching mode has refused on this page, and the reason; 0 for a translation. */
  readonly refused: number
}

/**
 * The IOTLB of a unit: translations of requests, by domain (second-level, and pass-through without PASID) or by domain
 * and PASID (first-level, nested, and pass-through with PASID). It never loses an entry unless told, asked (`evict`),
 * or full.
 *
 * Entries are named by numbers that are good until the next change; 0 is none.
 */
export class Iotlb {
  readonly isBySource: boolean
  readonly #cache: TaggedCache
  /** Cell 0: a global entry was ever kept. */
  readonly #whole: Cells
  readonly #maxEntries: number
  readonly #dropsAllWhenFull: boolean
  readonly #comparesLowBits: boolean

  constructor(options: IotlbOptions) {
    const { journal, name } = options
    this.#cache = new TaggedCache({ journal, name: `${name}-iotlb`, shifts: SHIFTS })
    this.#whole = new Cells(journal, keyOf('vtd-iotlb', name), 1)
    this.isBySource = options.isBySource ?? false
    this.#maxEntries = options.maxEntries ?? 0
    this.#dropsAllWhenFull = options.dropsAllWhenFull ?? false
    this.#comparesLowBits = options.comparesLowBits ?? false
  }

  get count(): number {
    return this.#cache.count
  }

  /** Another entry has no room beside those that are here. */
  get isFull(): boolean {
    return this.#maxEntries > 0 && this.count >= this.#maxEntries
  }

  /** The space of a domain, or of a domain and a PASID; where entries are by source, of a source-id and a PASID. */
  space(owner: number, pasid: number, isFirstLevel: boolean): number {
    const group = isFirstLevel && !this.isBySource ? GROUP_FIRST : GROUP_SECOND
    return this.#cache.space(owner, pasid, group)
  }

  /** The entry for an address. */
  find(space: number, hi: number, lo: number, isPrivileged: boolean): number {
    const kinds = isPrivileged ? KINDS_OF_PRIVILEGED : KINDS_OF_USER
    return this.#cache.find(space, pageHiOf(hi), pageLoOf(hi, lo), kinds)
  }

  /** The entry of a space that is passed through. */
  findDirect(space: number): number {
    return this.#cache.find(space, 0, 0, 1 << WHOLE)
  }

  isDirect(entry: number): boolean {
    return this.#cache.pages.kindOf(entry) === WHOLE
  }

  /** Keeps the translation of an address; answers its entry. `number` is that of its record; `isNew`: no entry is found for the address. */
  keep(
    space: number,
    hi: number,
    lo: number,
    to: Translation,
    entry: IotlbEntry,
    number: number,
    isNew = false,
  ): number {
    const kind = to.isDirect ? WHOLE : (to.shift - 12) / 9 + (entry.isPrivileged ? PRIVILEGED : 0)
    if (this.isFull) {
      if (this.#dropsAllWhenFull) this.dropAll()
      else this.#cache.evict(1)
    }
    const pageHi = pageHiOf(hi)
    const pageLo = pageLoOf(hi, lo)
    const row = isNew
      ? this.#cache.add(space, to.domain, pageHi, pageLo, kind)
      : this.#cache.keep(space, to.domain, pageHi, pageLo, kind)
    const { rows } = this.#cache.pages
    // The page of the first byte: addresses bring the rest.
    const first = to.isDirect ? 0 : loOfNumber(to.page) & (-1 << (to.shift - 12))
    const firstHi = to.isDirect ? 0 : hiOfNumber(to.page)
    rows.set(row + TARGET_LO, first)
    if (to.isGlobal) this.#whole.set(0, 1)
    rows.set(
      row + META,
      (to.perm & PERM_MASK) |
        (entry.isDirty ? IS_DIRTY : 0) |
        (to.isGlobal ? IS_GLOBAL : 0) |
        (entry.isFirstLevel ? IS_FIRST_LEVEL : 0) |
        (entry.refused << REFUSED_SHIFT) |
        (to.fault << FAULT_SHIFT) |
        (firstHi << TARGET_SHIFT),
    )
    rows.set(row + ENTRY, number)
    return row
  }

  /** What an entry says for an address on it. */
  load(entry: number, hi: number, lo: number, into: Translation): void {
    const { pages } = this.#cache
    const { data } = pages.rows
    const meta = data[entry + META] as number
    const pageShift = pages.shiftOf(entry)
    into.perm = meta & PERM_MASK
    into.isGlobal = (meta & IS_GLOBAL) !== 0
    into.domain = data[entry + DOMAIN] as number
    into.isInterrupt = false
    if (pageShift === 52) {
      into.isDirect = true
      into.shift = 12
      into.page = pageOf(hi, lo, 12)
      return
    }
    into.isDirect = false
    into.shift = pageShift + 12
    const low = (data[entry + TARGET_LO] as number) | (pageLoOf(hi, lo) & ((1 << pageShift) - 1))
    const high = meta >>> TARGET_SHIFT
    into.page = high === 0 && low >= 0 ? low : high * 0x1_0000_0000 + (low >>> 0)
  }

  /** Number of its record. */
  numberOf(entry: number): number {
    return this.#cache.pages.rows.get(entry + ENTRY) >>> 0
  }

  permOf(entry: number): number {
    return this.#cache.pages.rows.get(entry + META) & PERM_MASK
  }

  isDirty(entry: number): boolean {
    return (this.#cache.pages.rows.get(entry + META) & IS_DIRTY) !== 0
  }

  /** What a unit in caching mode has refused through an entry (bits of PERM), 0 where it is a translation. */
  refusedBy(entry: number): number {
    return (this.#cache.pages.rows.get(entry + META) >>> REFUSED_SHIFT) & PERM_MASK
  }

  /** The reason that an entry stands for which is no translation. */
  faultOf(entry: number): number {
    return (this.#cache.pages.rows.get(entry + META) >>> FAULT_SHIFT) & 0xff
  }

  dropAll(): void {
    this.#cache.dropAll()
  }

  evict(entries: number): void {
    this.#cache.evict(entries)
  }

  /** Type 2: second-level and pass-through entries by page; those of the first level go with any page of their domain. */
  invalidate({ scope, domain, address, order }: VtdInvalidation): void {
    const hi = hiOf(address)
    const lo = loOf(address)
    if (scope === 'all') this.dropAll()
    else if (this.isBySource || this.#comparesLowBits) {
      this.#dropAmong(domain, scope === 'fine' ? order : ALL_ADDRESSES, hi, lo)
    } else if (scope === 'domain') this.#cache.dropOwner(domain)
    else {
      this.#cache.dropGroup(domain, GROUP_FIRST)
      const space = this.#cache.knownSpace(domain, NO_PASID, GROUP_SECOND)
      this.#cache.dropPages(space, pageHiOf(hi), pageLoOf(hi, lo), order)
    }
  }

  /**
   * Type 6: entries of the first level, nested ones, and pass-through with a PASID. Global ones stay, unless they are
   * named too.
   */
  invalidatePasid(what: VtdInvalidation): void {
    const { scope, domain, pasid, address } = what
    const order = scope === 'fine' ? what.order : ALL_ADDRESSES
    const hi = hiOf(address)
    const lo = loOf(address)
    const isOfAll = scope === 'all' || scope === 'domain'
    const keepsGlobal = !what.isGlobalToo && this.#whole.get(0) !== 0
    if (this.isBySource || keepsGlobal) {
      this.#dropAmongPasids(domain, isOfAll ? NO_PASID : pasid, order, hi, lo, keepsGlobal)
    } else if (isOfAll) this.#cache.dropGroup(domain, GROUP_FIRST)
    else {
      const space = this.#cache.knownSpace(domain, pasid, GROUP_FIRST)
      if (scope === 'pasid') this.#cache.dropSpace(space)
      else this.#cache.dropPages(space, pageHiOf(hi), pageLoOf(hi, lo), order)
    }
  }

  /** As `invalidate`, entry by entry. (QEMU 7.2 hw/i386/intel_iommu.c, vtd_hash_remove_by_page; 10.0 for the first level) */
  #dropAmong(domain: number, order: number, hi: number, lo: number): void {
    const cache = this.#cache
    const { rows } = cache.pages
    for (let row = ROW_CELLS; row < cache.pages.end; row += ROW_CELLS) {
      if (rows.get(row + DOMAIN) !== domain || !cache.isLive(row)) continue
      const isFirstLevel = (rows.get(row + META) & IS_FIRST_LEVEL) !== 0
      if (order === ALL_ADDRESSES || isFirstLevel || this.#isHit(row, hi, lo, order)) cache.remove(row)
    }
  }

  #isHit(row: number, hi: number, lo: number, order: number): boolean {
    const { pages } = this.#cache
    if (!this.#comparesLowBits) return pages.overlaps(row, pageHiOf(hi), pageLoOf(hi, lo), order)
    // The mask of 2^order pages is cut to 8 bits; a page of any size that holds the address itself goes too.
    const mask = order >= 8 ? 0 : 0xff & (-1 << order)
    const isSame = ((pages.rows.get(row + PAGE_LO) ^ pageLoOf(hi, lo)) & mask) === 0
    return isSame || pages.overlaps(row, pageHiOf(hi), pageLoOf(hi, lo), 0)
  }

  /** As `invalidatePasid`, entry by entry; `NO_PASID` for all. */
  #dropAmongPasids(
    domain: number,
    pasid: number,
    order: number,
    hi: number,
    lo: number,
    keepsGlobal: boolean,
  ): void {
    const cache = this.#cache
    const { rows } = cache.pages
    for (let row = ROW_CELLS; row < cache.pages.end; row += ROW_CELLS) {
      if (rows.get(row + DOMAIN) !== domain || !cache.isLive(row)) continue
      const meta = rows.get(row + META)
      const own = cache.pasidOf(row)
      if (own === NO_PASID || (pasid !== NO_PASID && own !== pasid)) continue
      if (keepsGlobal && (meta & IS_GLOBAL) !== 0) continue
      if (order !== ALL_ADDRESSES) {
        // By source-id, entries of the second level have a PASID, too.
        if (this.isBySource && (meta & IS_FIRST_LEVEL) === 0) continue
        if (!cache.pages.overlaps(row, pageHiOf(hi), pageLoOf(hi, lo), order)) continue
      }
      cache.remove(row)
    }
  }
}
