import { hex } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import { NONE, STAGE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { isFree, type Scene } from './describe.ts'
import { sourceText } from './describe-vtd.ts'
import { because } from './evidence.ts'
import type { FindingList } from './finding-list.ts'
import { type FlushTag, NEVER } from './vtd-flushes.ts'
import { type PageRange, SMALLEST } from './vtd-invalidations.ts'
import type { DeviceUser, Provenance } from './vtd-provenance.ts'
import { pageAt, type VtdUnitShadow } from './vtd-unit-shadow.ts'
import {
  addressAt,
  isLeaf,
  isPresent,
  isTakenBack,
  pageOfEntry,
  pagesOfLevel,
  ROLE,
  type Role,
  type WordChange,
} from './vtd-words.ts'

const FREED = 'freed-table-walked'
const REUSE = 'early-reuse'
const WALK = slotMap('vtd.walk')
const FILL = slotMap('vtd.fill')
const WORD = slotMap('vtd.word')
const TABLE = slotMap('vtd.table')
const MM_TABLE = slotMap('mm.table')
const OWN = slotMap('page.own')
const LEVELS = 5
const PAGE_BYTES = 4096
const PAGE_SHIFT = 12
/** Records of one request behind a walk, at most. */
const REQUEST_RECORDS = 16
/** Pages that were taken back are remembered for so many changes at most; the oldest go. */
const TAKEN_MAX = 2 ** 16

/** A word of page tables that does not map any more what it did. */
export interface TakenBack {
  readonly unit: VtdUnitShadow
  /** The record. */
  readonly seq: number
  readonly address: number
  /** The last walk before it that read the table: what was flushed behind that is not kept. */
  readonly walk: number
  readonly role: Role
  /** What a cache keeps it by. */
  readonly tag: FlushTag
  readonly isLeaf: boolean
  /** Memory that it led to. */
  readonly target: PageRange
  /** Devices whose own TLBs may have it. */
  readonly holders: readonly DeviceUser[]
}

/** Where a table lies, by a walk that read it. */
interface TablePlace {
  readonly role: Role
  readonly level: number
  /** Addresses behind the whole table. */
  readonly tag: FlushTag
  readonly isTop: boolean
}

/** What pages and tables are judged with. */
export interface PageParts {
  readonly list: FindingList
  readonly provenance: Provenance
  readonly scene: (log: RecordLog) => Scene
}

/** Judges what becomes of pages that were mapped, and of pages that held tables: `early-reuse`, `freed-table-walked`. */
export class TablePages {
  readonly #list: FindingList
  readonly #provenance: Provenance
  readonly #scene: PageParts['scene']
  /** Of each unit, by its number: the last walk through each table. */
  readonly #walks = new Map<number, Map<number, number>>()
  /** Tables that were given back, and the record. */
  readonly #freed = new Map<number, number>()
  /** Pages that were mapped and are not any more, with the change; large ones by their first page. */
  readonly #taken = new Map<number, TakenBack>()
  #hasLarge = false

  constructor({ list, provenance, scene }: PageParts) {
    this.#list = list
    this.#provenance = provenance
    this.#scene = scene
  }

  walked(log: RecordLog, seq: number, unit: VtdUnitShadow): void {
    let walks = this.#walks.get(unit.number)
    if (walks === undefined) {
      walks = new Map()
      this.#walks.set(unit.number, walks)
    }
    for (let level = 0; level < LEVELS; level++) {
      const table = log.slot(seq, WALK.t1 + level) >>> 0
      if (table === 0) continue
      const known = walks.get(table)
      if (known === undefined || known <= unit.lastEvent) walks.set(table, seq)
      if (this.#freed.size > 0) this.#walkedFreed(log, seq, unit, table)
    }
  }

  /** A page becomes a table of a driver, or is none any more. */
  table(log: RecordLog, seq: number, unit: VtdUnitShadow): void {
    this.#table(log, seq, unit, addressAt(log, seq, TABLE.page), log.slot(seq, TABLE.state) === 1)
  }

  /** A page becomes a page table of a process, or is none any more: every unit may walk it. */
  processTable(log: RecordLog, seq: number, units: readonly VtdUnitShadow[]): void {
    const page = addressAt(log, seq, MM_TABLE.page)
    const isTable = log.slot(seq, MM_TABLE.state) === 1
    for (const unit of units) this.#table(log, seq, unit, page, isTable)
  }

  #table(log: RecordLog, seq: number, unit: VtdUnitShadow, page: number, isTable: boolean): void {
    const walk = this.#walks.get(unit.number)?.get(page)
    // Whatever it was read as, it is something else from now on.
    this.#walks.get(unit.number)?.delete(page)
    if (isTable) {
      this.#freed.delete(page)
      return
    }
    this.#freed.set(page, seq)
    if (walk === undefined || !log.has(walk)) return
    const place = this.#placeOf(log, unit, page, walk)
    if (place === undefined) return
    const flushed = place.isTop ? this.#topFlushed(unit, place, walk) : unit.tables.last(place.tag)
    if (flushed > walk && flushed <= unit.completed) return
    const { domain, pasid, range } = place.tag
    const key = { rule: REUSE, window: unit.number, entry: page, by: walk, ended: seq }
    if (this.#list.again(key)) return
    const name = log.names.word(unit.number)
    const needed = place.isTop
      ? 'the context or PASID entry that led there'
      : place.role === ROLE.FIRST
        ? SMALLEST.pasidPages(unit.abilities, domain, pasid, range, false)
        : SMALLEST.pages(unit.abilities, domain, range, false)
    const message =
      `the page table at ${hex(page * PAGE_BYTES)} of domain ${domain} is given back while ${name} may still walk it: ` +
      `${pendingText(flushed > walk)} the invalidation of ${needed}`
    const chain = because(this.#scene(log), walk, flushed > walk ? flushed : NEVER, seq)
    this.#list.add({ rule: REUSE, message, because: chain, inferred: false })
  }

  /** Notes a change of a word; answers it where a page table had a translation taken back. */
  changed(log: RecordLog, seq: number, unit: VtdUnitShadow): TakenBack | undefined {
    const address = addressAt(log, seq, WORD.address)
    const table = Math.floor(address / PAGE_BYTES)
    const walk = this.#walks.get(unit.number)?.get(table)
    if (walk === undefined || !log.has(walk)) return undefined
    const place = this.#placeOf(log, unit, table, walk)
    if (place === undefined) return undefined
    const word: WordChange = {
      oldHi: log.slot(seq, WORD.before + 1),
      oldLo: log.slot(seq, WORD.before),
      hi: log.slot(seq, WORD.after + 1),
      lo: log.slot(seq, WORD.after),
    }
    const { role, level } = place
    this.#restored(address, role, level, word)
    if (!isTakenBack(role, level, word)) return undefined
    const pages = pagesOfLevel(level)
    const leaf = isLeaf(level, word.oldLo)
    const first = place.tag.range.first + ((address % PAGE_BYTES) / 8) * pages
    const target = { first: pageOfEntry(role, level, word.oldHi, word.oldLo), pages: leaf ? pages : 1 }
    const taken = {
      unit,
      seq,
      address,
      walk,
      role,
      tag: { ...place.tag, range: { first, pages } },
      isLeaf: leaf,
      target,
      holders: this.#holdersOf(unit, place.tag.domain, { first, pages }),
    }
    // A page that is mapped with fewer rights is still mapped.
    if (leaf && !this.#leadsTo(role, level, word, target.first)) {
      if (this.#taken.size >= TAKEN_MAX) this.#forgetOldest()
      this.#taken.delete(target.first)
      this.#taken.set(target.first, taken)
      if (pages > 1) this.#hasLarge = true
    }
    return taken
  }

  /** Pages go to an owner. */
  owned(log: RecordLog, seq: number): void {
    if (this.#taken.size === 0 || isFree(log.names.word(log.slot(seq, OWN.owner)))) return
    const scale = 2 ** ((log.slot(seq, OWN.pageShift) >>> 0) - PAGE_SHIFT)
    const first = addressAt(log, seq, OWN.first) * scale
    const pages = addressAt(log, seq, OWN.count) * scale
    if (pages <= this.#taken.size && !this.#hasLarge) {
      for (let page = first; page < first + pages; page++) {
        const taken = this.#taken.get(page)
        if (taken !== undefined) this.#given(log, seq, taken)
      }
      return
    }
    for (const taken of [...this.#taken.values()]) {
      const { target } = taken
      if (target.first < first + pages && first < target.first + target.pages) this.#given(log, seq, taken)
    }
  }

  #given(log: RecordLog, seq: number, taken: TakenBack): void {
    const { unit, seq: by, walk, tag, role, isLeaf: leaf, target } = taken
    // The call that takes a page back says what becomes of it, and not yet when.
    if (log.causeOf(seq) >= 0 && log.has(by) && log.causeOf(by) === log.causeOf(seq)) return
    this.#taken.delete(target.first)
    const { domain, pasid, range } = tag
    const flushed = unit.iotlb.last(tag)
    const isDone = flushed > walk && flushed <= unit.completed
    const device = isDone ? taken.holders.find((holder) => !isTold(taken, holder)) : undefined
    if (isDone && device === undefined) return
    const key = { rule: REUSE, window: unit.number, entry: target.first, by, ended: seq }
    if (this.#list.again(key)) return
    const needed =
      device !== undefined
        ? SMALLEST.device(device.source, device.pasid, range)
        : role === ROLE.FIRST
          ? SMALLEST.pasidPages(unit.abilities, domain, pasid, range, leaf)
          : SMALLEST.pages(unit.abilities, domain, range, leaf)
    const last = device === undefined ? flushed : unit.devices.last({ ...device, range })
    const who = device === undefined ? log.names.word(unit.number) : sourceText(device.source)
    const owner = log.names.word(log.slot(seq, OWN.owner))
    const message =
      `memory ${hex(target.first * PAGE_BYTES)} goes to ${owner} while ${who} may still reach it through ` +
      `${hex(range.first * PAGE_BYTES)} of domain ${domain}: ${pendingText(last > by)} the invalidation of ${needed}`
    const chain = because(this.#scene(log), by, last > by ? last : NEVER, seq)
    this.#list.add({ rule: REUSE, message, because: chain, inferred: false })
  }

  /** Devices that have asked for translations of a domain since their own TLBs were flushed for a range. */
  #holdersOf(unit: VtdUnitShadow, domain: number, range: PageRange): readonly DeviceUser[] {
    return this.#provenance
      .devicesOf(unit.number, domain)
      .filter(({ source, pasid, filled }) => unit.devices.last({ source, pasid, range }) <= filled)
  }

  #walkedFreed(log: RecordLog, seq: number, unit: VtdUnitShadow, table: number): void {
    const freed = this.#freed.get(table)
    if (freed === undefined) return
    const key = { rule: FREED, window: unit.number, entry: table, by: freed, ended: NEVER }
    if (this.#list.again(key)) return
    const source = sourceText(log.slot(seq, WALK.source) >>> 0)
    const iova = hex(pageAt(log, seq, WALK.iova) * PAGE_BYTES)
    const message =
      `${log.names.word(unit.number)} walks the page at ${hex(table * PAGE_BYTES)} for ${source} at ${iova}, ` +
      'which is no page table any more: it was given back'
    this.#list.add({ rule: FREED, message, because: because(this.#scene(log), freed, seq), inferred: false })
  }

  /** Where a table lies among those of its domain, as the walk found it. */
  #placeOf(log: RecordLog, unit: VtdUnitShadow, table: number, walk: number): TablePlace | undefined {
    const page = pageAt(log, walk, WALK.iova)
    const source = log.slot(walk, WALK.source) >>> 0
    const role = log.slot(walk, WALK.stage) === STAGE.FIRST ? ROLE.FIRST : ROLE.SECOND
    const key = keyOf(log, unit, walk)
    if (key === undefined) return undefined
    let isTop = !this.#provenance.isLedTo(table)
    for (let level = LEVELS; level >= 1; level--) {
      const read = log.slot(walk, WALK.t1 + level - 1) >>> 0
      if (read === 0) continue
      if (read !== table) {
        isTop = false
        continue
      }
      const pages = pagesOfLevel(level + 1)
      const range = { first: page - (page % pages), pages }
      return { role, level, isTop, tag: { ...key, source, isByPasid: role === ROLE.FIRST, range } }
    }
    return undefined
  }

  /** When what led to a first table was flushed: the entry that the walk went by, or one that was read in its place. */
  #topFlushed(unit: VtdUnitShadow, { tag }: TablePlace, walk: number): number {
    const own = unit.pasid(tag.source, tag.pasid) ?? unit.context(tag.source)
    const then = unit.asOf(own, walk)
    if (own === undefined) return NEVER
    // Read again since: what it was is gone from the cache.
    return own === then ? own.flushed : unit.completed
  }

  #leadsTo(role: Role, level: number, { hi, lo }: WordChange, target: number): boolean {
    return isPresent(role, lo) && isLeaf(level, lo) && pageOfEntry(role, level, hi, lo) === target
  }

  /** A mapping that comes back: what led to its memory leads there again. */
  #restored(address: number, role: Role, level: number, { hi, lo }: WordChange): void {
    if (this.#taken.size === 0 || !isLeaf(level, lo)) return
    const target = pageOfEntry(role, level, hi, lo)
    if (this.#taken.get(target)?.address === address) this.#taken.delete(target)
  }

  #forgetOldest(): void {
    const [oldest] = this.#taken.keys()
    if (oldest !== undefined) this.#taken.delete(oldest)
    this.#list.skipped++
  }
}

/** Whether the TLB of a device was told of a change, and has completed it. */
function isTold({ unit, seq, tag }: TakenBack, { source, pasid }: DeviceUser): boolean {
  const last = unit.devices.last({ source, pasid, range: tag.range })
  return last > seq && last <= unit.completed
}

/** Domain and PASID that a walk served: those of what it filled, else those of the entries of its device. */
function keyOf(
  log: RecordLog,
  unit: VtdUnitShadow,
  walk: number,
): { domain: number; pasid: number } | undefined {
  const pasid = log.slot(walk, WALK.pasid) >>> 0
  const end = Math.min(log.length, walk + REQUEST_RECORDS)
  for (let seq = walk + 1; seq < end; seq++) {
    const kind = log.kindOf(seq)
    if (kind === 'vtd.translate') break
    if (kind !== 'vtd.fill' || log.slot(seq, 0) !== unit.number) continue
    return { domain: log.slot(seq, FILL.domain) >>> 0, pasid }
  }
  const source = log.slot(walk, WALK.source) >>> 0
  const own = (pasid === NONE ? undefined : unit.pasid(source, pasid)) ?? unit.context(source)
  const then = unit.asOf(own, walk)
  return then === undefined ? undefined : { domain: then.domain, pasid }
}

const pendingText = (isFlushed: boolean): string =>
  isFlushed ? 'not complete yet is' : 'nothing was invalidated since, and it takes'
