import { hiOfNumber, loOfNumber } from '../../../bits/u64.ts'
import { VTD_CACHE } from '../../../trace/event-codes.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import {
  type ContextEntry,
  NO_PASID,
  type PasidEntry,
  PERM,
  STAGE,
  type StructureCaches,
  type TableMode,
  type TablePlace,
} from '../ports.ts'
import type { EntryNumbers } from './entry-numbers.ts'
import { firstHi, firstLo } from './page-rows.ts'
import { type Fill, newFill, type TranslationRecords } from './translation-records.ts'
import type { UnitCaches } from './unit-caches.ts'

const PAGE_SHIFT = 12
const LEVEL_BITS = 9
/** What of the permissions of a table is that of requests. */
const PERM_MASK = PERM.READ | PERM.WRITE | PERM.EXECUTE
/** Tables that one request can keep: those of all walks of nested tables. */
const TABLES_MAX = 64

export interface StructureKeeperParts {
  readonly caches: UnitCaches
  readonly numbers: EntryNumbers
  readonly records: TranslationRecords
  readonly log: RecordLog
  /** Entries that are not present, or not valid, are kept, too (CAP.CM). */
  readonly keepsFaults: boolean
  /** Erratum D27. */
  readonly hasNoPasidCache: boolean
}

/** What an engine asks and tells of structures in memory: it lies in the caches of the unit, and gets its records. */
export class StructureKeeper implements StructureCaches {
  /** Which tables the root table leads to. */
  mode: TableMode = 0
  readonly #parts: StructureKeeperParts
  /** Tables kept by the walks that go on: their records come after those of the walks. */
  readonly #tables: readonly Fill[] = Array.from({ length: TABLES_MAX }, newFill)
  #tableCount = 0
  #source = 0
  #pasid = NO_PASID
  // Which entry was loaded last, into what, and when.
  #loaded = -1
  #generation = 0
  #context: ContextEntry | undefined

  constructor(parts: StructureKeeperParts) {
    this.#parts = parts
  }

  begin(source: number, pasid: number): void {
    this.#source = source
    if (pasid !== this.#pasid) this.#loaded = -1
    this.#pasid = pasid
    this.#tableCount = 0
  }

  /** Records the tables that were kept since `begin`. */
  record(): void {
    for (let i = 0; i < this.#tableCount; i++) this.#parts.records.fill(this.#tables[i] as Fill)
  }

  loadContext(source: number, into: ContextEntry): boolean {
    const { contexts, front } = this.#parts.caches
    // It is still there from the last time.
    if (source === this.#loaded && front.generation === this.#generation && into === this.#context)
      return true
    this.#loaded = -1
    const row = contexts.find(source, this.#pasid)
    if (row === 0 || contexts.modeOf(row) !== this.mode) return false
    contexts.load(row, into)
    this.#loaded = source
    this.#generation = front.generation
    this.#context = into
    return true
  }

  keepContext(source: number, entry: ContextEntry): void {
    const { caches, log, records, keepsFaults } = this.#parts
    this.#loaded = -1
    if (log.on) records.context(source, entry)
    if (entry.fault === 0 || keepsFaults) caches.contexts.keep(source, this.#pasid, this.mode, entry)
  }

  loadPasid(source: number, _context: ContextEntry, pasid: number, into: PasidEntry): boolean {
    const { pasids } = this.#parts.caches
    const row = pasids.find(source, pasid)
    if (row === 0) return false
    pasids.load(row, into)
    return true
  }

  keepPasid(source: number, _context: ContextEntry, pasid: number, entry: PasidEntry): void {
    const { caches, log, records, keepsFaults, hasNoPasidCache } = this.#parts
    if (log.on) records.pasid(source, pasid, entry)
    if (!hasNoPasidCache && (entry.fault === 0 || keepsFaults)) caches.pasids.keep(source, pasid, entry)
  }

  loadTable(
    stage: number,
    domain: number,
    pasid: number,
    _first: number,
    inputPage: number,
    into: TablePlace,
  ): boolean {
    const { tables } = this.#parts.caches
    return tables?.load(stage, domain, pasid, inputPage, into) ?? false
  }

  keepTable(
    stage: number,
    domain: number,
    pasid: number,
    _first: number,
    inputPage: number,
    place: TablePlace,
  ): void {
    const { caches, numbers, log } = this.#parts
    if (caches.tables === undefined) return
    const number = numbers.next()
    caches.tables.keep(stage, domain, pasid, inputPage, place, number)
    if (!log.on || this.#tableCount === TABLES_MAX) return
    const { level, page, perm } = place
    const order = LEVEL_BITS * level
    const firstPage = firstLo(loOfNumber(inputPage), order)
    const firstPageHi = firstHi(hiOfNumber(inputPage), order)
    const fill = this.#tables[this.#tableCount++] as Fill
    fill.cache = VTD_CACHE.PAGING_STRUCTURE
    fill.entry = number
    fill.source = this.#source
    fill.domain = domain
    fill.pasid = stage === STAGE.SECOND ? NO_PASID : pasid
    fill.hi = (firstPageHi << PAGE_SHIFT) | (firstPage >>> (32 - PAGE_SHIFT))
    fill.lo = firstPage << PAGE_SHIFT
    fill.shift = PAGE_SHIFT + LEVEL_BITS * (level - 1)
    fill.page = page
    fill.perm = perm & PERM_MASK
  }
}
