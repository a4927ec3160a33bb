import { KIND, slotMap } from '../trace/event.ts'
import { NONE, STAGE, VTD_CACHE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import type { FlushTag } from './vtd-flushes.ts'
import type { PageRange } from './vtd-invalidations.ts'
import { pageAt, type Structure, type VtdUnitShadow } from './vtd-unit-shadow.ts'
import { offsetOf, pagesOfLevel, ROLE, type Role } from './vtd-words.ts'

const WALK = slotMap('vtd.walk')
const FILL = slotMap('vtd.fill')
const TRANSLATE = slotMap('vtd.translate')
const LEVELS = 5
const PAGE_BYTES = 4096
const PAGE_SHIFT = 12
const LEVEL_BITS = 9
/** Records that one request of a device leaves, at most. */
const REQUEST_RECORDS = 96
/** `shift` of a translation of all addresses (pass-through). */
const ALL_SHIFT = 64
/** Numbers of cached translations whose records are found at once: the newest. */
const NUMBERS_MAX = 2 ** 24
/** Cached translations that are kept as objects. */
const ENTRIES_MAX = 2 ** 17
/** Tables that are remembered by the entries that lead to them. */
const LEADING_MAX = 8

/** A word that a cached translation was made from. */
export interface Dependence {
  readonly role: Role
  readonly level: number
  readonly address: number
  /** The record that read it. */
  readonly since: number
  /** Addresses that the entry stands for, of the input of its tables. */
  readonly range: PageRange
  /** A paging-structure cache knew it; its number, 0 where the walk read it. */
  readonly via: number
}

/** A translation, or a table, that a cache keeps. */
export interface CachedEntry {
  readonly number: number
  readonly cache: number
  /** Record of the fill. */
  readonly filled: number
  readonly source: number
  readonly domain: number
  readonly pasid: number
  /** What it is kept by; `NONE` stays where flushes name no PASID. */
  readonly tag: FlushTag
  /** Page that it leads to, and what it allows: nothing for one that says that there is nothing. */
  readonly target: number
  readonly perm: number
  /** Through no page table. */
  readonly isDirect: boolean
  readonly from: readonly Dependence[]
  /** The context entry, or PASID entry, that it was made under. */
  readonly base: Structure | undefined
}

/** A device, and the PASID of its requests, with a TLB of its own. */
export interface DeviceUser {
  readonly source: number
  readonly pasid: number
  /** Record of the last translation that it was given. */
  filled: number
}
const NOBODY: readonly DeviceUser[] = []

/** Which cache a translation entered, by the record of its fill. */
export const cacheOf = (log: RecordLog, filled: number): number => log.slot(filled, FILL.cache)

/** Finds what cached translations were made from: in the records of the request that filled them. */
export class Provenance {
  /** Record of each fill, by number; for numbers that are far apart, the newest. */
  #fills = new Int32Array(1024)
  readonly #entries = new Map<number, CachedEntry>()
  /** By unit and domain. */
  readonly #devices = new Map<string, readonly DeviceUser[]>()
  /** Entries of paging-structure caches by the table that they lead to, the newest last. */
  readonly #leading = new Map<number, number[]>()

  /** Devices with translations of a domain of a unit in TLBs of their own, ever. */
  devicesOf(unit: number, domain: number): readonly DeviceUser[] {
    return this.#devices.get(`${unit} ${domain}`) ?? NOBODY
  }

  fill(log: RecordLog, seq: number): void {
    const number = log.slot(seq, FILL.entry) >>> 0
    if (number >= this.#fills.length && this.#fills.length < NUMBERS_MAX) {
      const grown = new Int32Array(Math.min(NUMBERS_MAX, Math.max(number + 1, this.#fills.length * 2)))
      grown.set(this.#fills)
      this.#fills = grown
    }
    this.#fills[number % this.#fills.length] = seq + 1
    const cache = cacheOf(log, seq)
    if (cache === VTD_CACHE.DEVICE_TLB) this.#used(log, seq)
    if (cache !== VTD_CACHE.PAGING_STRUCTURE) return
    const table = pageAt(log, seq, FILL.target)
    const leading = this.#leading.get(table)
    if (leading === undefined) this.#leading.set(table, [number])
    else {
      if (leading.length >= LEADING_MAX) leading.shift()
      leading.push(number)
    }
  }

  /** Record of the fill of an entry; -1 where it is not known any more. */
  filledAt(log: RecordLog, number: number): number {
    const seq = (this.#fills[number % this.#fills.length] as number) - 1
    if (seq < 0 || !log.has(seq)) return -1
    return log.slot(seq, FILL.entry) >>> 0 === number ? seq : -1
  }

  #used(log: RecordLog, seq: number): void {
    const key = `${log.slot(seq, 0)} ${log.slot(seq, FILL.domain) >>> 0}`
    const source = log.slot(seq, FILL.source) >>> 0
    const pasid = log.slot(seq, FILL.pasid) >>> 0
    const users = this.#devices.get(key) ?? []
    const known = users.find((user) => user.source === source && user.pasid === pasid)
    if (known === undefined) this.#devices.set(key, [...users, { source, pasid, filled: seq }])
    else known.filled = seq
  }

  /** A table that nothing in a paging-structure cache ever led to is the first one. */
  isLedTo(table: number): boolean {
    return this.#leading.has(table)
  }

  entry(log: RecordLog, unit: VtdUnitShadow, number: number): CachedEntry | undefined {
    const known = this.#entries.get(number)
    if (known !== undefined) return known
    const filled = this.filledAt(log, number)
    if (filled < 0) return undefined
    const entry = this.#make(log, unit, number, filled)
    if (this.#entries.size >= ENTRIES_MAX) this.#entries.clear()
    this.#entries.set(number, entry)
    return entry
  }

  #make(log: RecordLog, unit: VtdUnitShadow, number: number, filled: number): CachedEntry {
    const cache = cacheOf(log, filled)
    const source = log.slot(filled, FILL.source) >>> 0
    const pasid = log.slot(filled, FILL.pasid) >>> 0
    const domain = log.slot(filled, FILL.domain) >>> 0
    const target = pageAt(log, filled, FILL.target)
    const shift = log.slot(filled, FILL.shift)
    const inner = cache === VTD_CACHE.DEVICE_TLB ? this.#behind(log, unit, filled) : undefined
    const ofTable = cache === VTD_CACHE.PAGING_STRUCTURE ? target : 0
    const all = inner === undefined ? walksBefore(log, filled) : []
    const walks = ofTable === 0 ? all : all.filter((walk) => readsTable(log, walk, ofTable))
    const from = inner?.from ?? walks.flatMap((walk) => this.#readBy(log, unit, { walk, domain, ofTable }))
    const isDirect = inner?.isDirect ?? shift >= ALL_SHIFT
    const range = rangeOf(pageAt(log, filled, FILL.iova), shift, ofTable !== 0)
    const isByPasid = inner?.tag.isByPasid ?? isKeptByPasid(from, pasid, isDirect)
    const context = unit.asOf(unit.context(source), filled)
    // A device that asks without a PASID is answered through that of its context entry.
    const through = unit.pasidOf(source, pasid)
    const own = through === NONE ? undefined : unit.asOf(unit.pasid(source, through), filled)
    const base = own ?? context
    return {
      number,
      cache,
      filled,
      source,
      domain,
      pasid,
      tag: { isByPasid, domain, pasid, source, range },
      target,
      perm: log.slot(filled, FILL.perm),
      isDirect,
      from,
      base,
    }
  }

  /** What answered the translation request whose answer a device keeps. */
  #behind(log: RecordLog, unit: VtdUnitShadow, filled: number): CachedEntry | undefined {
    const end = Math.max(log.firstKept, filled - REQUEST_RECORDS)
    for (let seq = filled - 1; seq >= end; seq--) {
      if (log.kindNumberOf(seq) !== KIND['vtd.translate'] || log.slot(seq, 0) !== unit.number) continue
      const number = log.slot(seq, TRANSLATE.entry) >>> 0
      return number === 0 ? undefined : this.entry(log, unit, number)
    }
    return undefined
  }

  /** The words that a walk read, of a table only those that lead to it, and what it knew of the levels above. */
  #readBy(
    log: RecordLog,
    unit: VtdUnitShadow,
    { walk, domain, ofTable }: { walk: number; domain: number; ofTable: number },
  ): Dependence[] {
    const hi = log.slot(walk, WALK.iova + 1)
    const lo = log.slot(walk, WALK.iova)
    const page = pageAt(log, walk, WALK.iova)
    const role = log.slot(walk, WALK.stage) === STAGE.FIRST ? ROLE.FIRST : ROLE.SECOND
    const from: Dependence[] = []
    let top = 0
    let topLevel = 0
    for (let level = LEVELS; level >= 1; level--) {
      const table = log.slot(walk, WALK.t1 + level - 1) >>> 0
      if (table === 0) continue
      // What was read behind a table does not lead to it.
      if (table === ofTable) break
      if (top === 0) {
        top = table
        topLevel = level
      }
      const pages = pagesOfLevel(level)
      const range = { first: page - (page % pages), pages }
      const address = table * PAGE_BYTES + offsetOf(hi, lo, level)
      from.push({ role, level, address, since: walk, range, via: 0 })
    }
    const known =
      top === 0
        ? undefined
        : this.#leadingTo(log, unit, { table: top, level: topLevel, domain, page, before: walk })
    if (known === undefined) return from
    return [
      ...known.from.map((word) => ({ ...word, via: word.via === 0 ? known.number : word.via })),
      ...from,
    ]
  }

  #leadingTo(
    log: RecordLog,
    unit: VtdUnitShadow,
    {
      table,
      level,
      domain,
      page,
      before,
    }: { table: number; level: number; domain: number; page: number; before: number },
  ): CachedEntry | undefined {
    const numbers = this.#leading.get(table) ?? []
    for (let i = numbers.length - 1; i >= 0; i--) {
      const number = numbers[i] as number
      const filled = this.filledAt(log, number)
      if (filled < 0 || filled >= before || log.slot(filled, 0) !== unit.number) continue
      if (log.slot(filled, FILL.domain) >>> 0 !== domain) continue
      // The same page may be a table elsewhere by now, or the first one.
      if (log.slot(filled, FILL.shift) !== PAGE_SHIFT + LEVEL_BITS * (level - 1)) continue
      const entry = this.entry(log, unit, number)
      if (entry === undefined) continue
      const flushed = unit.tables.last(entry.tag)
      if (flushed > filled && flushed < before) continue
      const { first, pages } = entry.tag.range
      if (page >= first && page < first + pages) return entry
    }
    return undefined
  }
}

/** Addresses of a translation, or of all entries of a table. */
function rangeOf(page: number, shift: number, isTable: boolean): PageRange {
  if (shift >= ALL_SHIFT) return { first: 0, pages: Number.POSITIVE_INFINITY }
  const pages = 2 ** (shift - PAGE_SHIFT) * (isTable ? pagesOfLevel(2) : 1)
  return { first: page - (page % pages), pages }
}

/** First-level, nested and pass-through with a PASID; unknown where no walk shows what it is. */
function isKeptByPasid(from: readonly Dependence[], pasid: number, isDirect: boolean): boolean | undefined {
  if (pasid === NONE) return false
  if (from.length === 0) return isDirect ? true : undefined
  return from.some(({ role }) => role === ROLE.FIRST)
}

/** Whether a walk read an entry of a table. */
function readsTable(log: RecordLog, walk: number, table: number): boolean {
  for (let level = 1; level <= LEVELS; level++) {
    if (log.slot(walk, WALK.t1 + level - 1) >>> 0 === table) return true
  }
  return false
}

/** The walks of the request that ends with a fill, in order. */
function walksBefore(log: RecordLog, filled: number): number[] {
  const walks: number[] = []
  const end = Math.max(log.firstKept, filled - REQUEST_RECORDS)
  for (let seq = filled - 1; seq >= end; seq--) {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.translate'] || kind === KIND['vtd.page-request']) break
    if (kind === KIND['vtd.walk'] && log.slot(seq, 0) === log.slot(filled, 0)) walks.unshift(seq)
  }
  return walks
}
