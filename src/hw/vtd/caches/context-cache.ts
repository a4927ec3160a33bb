import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { hiOfNumber, loOfNumber, numberOf } from '../../../bits/u64.ts'
import { type ContextEntry, NO_PASID, TABLE_MODE, type TableMode, type VtdInvalidation } from '../ports.ts'

/** Cells of a row: what a context entry says. Rows are named by where their cells begin; 0 is none. */
export const C_FLAGS = 0
export const C_DOMAIN = 1
export const C_RID_PASID = 2
export const C_PASIDS = 3
/** The space of its domain in the IOTLB (where it has one), and the row of RID_PASID in the PASID cache: 0 where not looked up yet. */
export const C_SPACE = 4
export const C_RID_ROW = 5
const SOURCE = 6
const HI = 7
const LO = 8
const ADDRESS_HI = 9
const ADDRESS_LO = 10
const ROOT_ADDRESS_HI = 11
const ROOT_ADDRESS_LO = 12
const ROOT_HI = 13
const ROOT_LO = 14
const TABLE_HI = 15
const TABLE_LO = 16
const SECOND_LO = 17
const CONTEXT_CELLS = 18
const PASIDS = 2 ** 20

/** Bits of the flags; then T, levels, the table mode and the fault. 0: the row holds nothing. */
const IS_KEPT = 1
const IS_SILENT = 2
export const C_HAS_DEVICE_TLB = 4
export const C_HAS_PASID = 8
const HAS_PAGE_REQUESTS = 16
export const C_IS_RID_PRIVILEGED = 32
const TYPE_SHIFT = 8
const LEVELS_SHIFT = 11
const MODE_SHIFT = 14
const FAULT_SHIFT = 16
export const C_FAULT_MASK = 0xff << FAULT_SHIFT

/** What of a source-id the function mask FM leaves out: nothing, bit 2, bits 2 and 1, bits 2 to 0 of the function. */
export const FUNCTION_MASKS = [0, 4, 6, 7] as const

export interface ContextCacheOptions {
  readonly journal: Journal
  readonly name: string
  /** Erratum D26: an invalidation of one device does not look at the domain. */
  readonly ignoresDomain?: boolean
  /** Erratum D7: an invalidation of a domain is one of everything. */
  readonly domainIsAll?: boolean
  /** Erratum D118: an entry is kept once for each PASID of its device. */
  readonly isByPasid?: boolean
}

/**
 * The context cache of a unit: context entries by source-id. An entry stays until it is dropped, whatever memory
 * holds. Entries that are not present, or not valid, are those of domain 0.
 */
export class ContextCache {
  readonly rows: Cells
  /** Row of each source-id. */
  readonly #index: Cells
  /** Cell 0: rows ever used. */
  readonly #whole: Cells
  readonly #ignoresDomain: boolean
  readonly #domainIsAll: boolean
  /** Row of each place of a device and a PASID (D118). What has which place is no state: a row without an entry is none. */
  readonly #pasidIndex: Cells | undefined
  readonly #places = new Map<number, number>()

  constructor({ journal, name, ignoresDomain, domainIsAll, isByPasid }: ContextCacheOptions) {
    this.rows = new Cells(journal, keyOf('vtd-contexts', name), CONTEXT_CELLS)
    this.#index = new Cells(journal, keyOf('vtd-context-index', name), 256)
    this.#whole = new Cells(journal, keyOf('vtd-contexts-whole', name), 1)
    this.#ignoresDomain = ignoresDomain ?? false
    this.#domainIsAll = domainIsAll ?? false
    this.#pasidIndex =
      isByPasid === true ? new Cells(journal, keyOf('vtd-context-pasids', name), 1) : undefined
  }

  /** Where the cells of the last row ever used end; the first begins at `step`. */
  get end(): number {
    return (this.#whole.get(0) + 1) * CONTEXT_CELLS
  }

  get step(): number {
    return CONTEXT_CELLS
  }

  /** The row of a source-id, where it holds an entry. Its PASID counts with D118 only. */
  find(source: number, pasid: number): number {
    const row =
      this.#pasidIndex === undefined || pasid === NO_PASID
        ? (this.#index.data[source] ?? 0)
        : (this.#pasidIndex.data[this.#placeOf(source, pasid)] ?? 0)
    return (this.rows.data[row + C_FLAGS] as number) === 0 ? 0 : row
  }

  isKept(row: number): boolean {
    return this.rows.get(row + C_FLAGS) !== 0
  }

  /** The source-id of a row, whether it holds an entry or not. */
  sourceOf(row: number): number {
    return this.rows.get(row + SOURCE)
  }

  /** Mode of the tables that the entry of a row was read from. */
  modeOf(row: number): number {
    return ((this.rows.data[row + C_FLAGS] as number) >>> MODE_SHIFT) & 3
  }

  typeOf(row: number): number {
    return ((this.rows.data[row + C_FLAGS] as number) >>> TYPE_SHIFT) & 7
  }

  /** FPD of the entry of a source-id. */
  isSilent(source: number, pasid: number): boolean {
    const row = this.find(source, pasid)
    return row !== 0 && (this.rows.get(row + C_FLAGS) & IS_SILENT) !== 0
  }

  load(row: number, into: ContextEntry): void {
    const { data } = this.rows
    const flags = data[row + C_FLAGS] as number
    into.fault = (flags & C_FAULT_MASK) >>> FAULT_SHIFT
    into.isSilent = (flags & IS_SILENT) !== 0
    into.hasDeviceTlb = (flags & C_HAS_DEVICE_TLB) !== 0
    into.hasPasid = (flags & C_HAS_PASID) !== 0
    into.hasPageRequests = (flags & HAS_PAGE_REQUESTS) !== 0
    into.isRidPrivileged = (flags & C_IS_RID_PRIVILEGED) !== 0
    into.type = (flags >>> TYPE_SHIFT) & 7
    into.levels = (flags >>> LEVELS_SHIFT) & 7
    into.address = numberOf(data[row + ADDRESS_HI] as number, data[row + ADDRESS_LO] as number)
    into.rootAddress = numberOf(data[row + ROOT_ADDRESS_HI] as number, data[row + ROOT_ADDRESS_LO] as number)
    into.hi = data[row + HI] as number
    into.lo = data[row + LO] as number
    into.secondLo = data[row + SECOND_LO] as number
    into.domain = data[row + C_DOMAIN] as number
    into.root = numberOf(data[row + ROOT_HI] as number, data[row + ROOT_LO] as number)
    into.pasidTable = numberOf(data[row + TABLE_HI] as number, data[row + TABLE_LO] as number)
    into.pasids = data[row + C_PASIDS] as number
    into.ridPasid = data[row + C_RID_PASID] as number
  }

  /** Keeps an entry; answers its row. */
  keep(source: number, pasid: number, mode: TableMode, entry: ContextEntry): number {
    const row = this.#rowOf(source, pasid)
    const { rows } = this
    rows.set(row + C_SPACE, 0)
    rows.set(row + C_RID_ROW, 0)
    rows.set(row + C_DOMAIN, entry.fault === 0 ? entry.domain : 0)
    rows.set(row + C_RID_PASID, entry.ridPasid)
    rows.set(row + C_PASIDS, entry.pasids)
    rows.set(row + HI, entry.hi)
    rows.set(row + LO, entry.lo)
    rows.set(row + SECOND_LO, entry.secondLo)
    rows.set(row + ADDRESS_HI, hiOfNumber(entry.address))
    rows.set(row + ADDRESS_LO, loOfNumber(entry.address))
    rows.set(row + ROOT_ADDRESS_HI, hiOfNumber(entry.rootAddress))
    rows.set(row + ROOT_ADDRESS_LO, loOfNumber(entry.rootAddress))
    rows.set(row + ROOT_HI, hiOfNumber(entry.root))
    rows.set(row + ROOT_LO, loOfNumber(entry.root))
    rows.set(row + TABLE_HI, hiOfNumber(entry.pasidTable))
    rows.set(row + TABLE_LO, loOfNumber(entry.pasidTable))
    rows.set(
      row + C_FLAGS,
      IS_KEPT |
        (entry.isSilent ? IS_SILENT : 0) |
        (entry.hasDeviceTlb ? C_HAS_DEVICE_TLB : 0) |
        (entry.hasPasid ? C_HAS_PASID : 0) |
        (entry.hasPageRequests ? HAS_PAGE_REQUESTS : 0) |
        (entry.isRidPrivileged ? C_IS_RID_PRIVILEGED : 0) |
        (entry.type << TYPE_SHIFT) |
        (entry.levels << LEVELS_SHIFT) |
        (mode << MODE_SHIFT) |
        (entry.fault << FAULT_SHIFT),
    )
    return row
  }

  drop(row: number): void {
    this.rows.set(row + C_FLAGS, 0)
  }

  dropAll(): void {
    for (let row = CONTEXT_CELLS; row < this.end; row += CONTEXT_CELLS) this.drop(row)
  }

  /**
   * Whether an invalidation (type 1, CCMD) covers the entry of a row. A scalable context entry has no domain: any
   * names it.
   */
  covers({ scope, domain, source, functionMask }: VtdInvalidation, row: number): boolean {
    if (scope === 'all' || (scope === 'domain' && this.#domainIsAll)) return true
    const isOfDomain = this.modeOf(row) === TABLE_MODE.SCALABLE || this.rows.get(row + C_DOMAIN) === domain
    if (scope === 'domain') return isOfDomain
    const compared = 0xffff & ~(FUNCTION_MASKS[functionMask & 3] as number)
    return ((this.sourceOf(row) ^ source) & compared) === 0 && (isOfDomain || this.#ignoresDomain)
  }

  #placeOf(source: number, pasid: number): number {
    const key = source * PASIDS + pasid
    const known = this.#places.get(key)
    if (known !== undefined) return known
    const place = this.#places.size
    this.#places.set(key, place)
    return place
  }

  #rowOf(source: number, pasid: number): number {
    const isOfSource = this.#pasidIndex === undefined || pasid === NO_PASID
    const index = isOfSource ? this.#index : this.#pasidIndex
    const place = isOfSource ? source : this.#placeOf(source, pasid)
    index.ensure(place + 1)
    const known = index.get(place)
    if (known !== 0) return known
    const row = this.end
    this.rows.ensure(row + CONTEXT_CELLS)
    this.#whole.set(0, this.#whole.get(0) + 1)
    index.set(place, row)
    this.rows.set(row + SOURCE, source)
    return row
  }
}
