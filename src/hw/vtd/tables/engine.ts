import { assert } from '../../../bits/errors.ts'
import { hiOfPage, loOfPage } from '../../../bits/u64.ts'
import { INTERRUPT_PAGES, isInterruptPage } from '../../../memory/interrupt-range.ts'
import type { BusMemory } from '../../../memory/ports.ts'
import { NOT_KEPT, type PageCache } from '../caches/engine.ts'
import { FAULT } from '../fault-reasons.ts'
import {
  ADDRESS_TYPE,
  type ContextEntry,
  NO_PASID,
  newContextEntry,
  newPasidEntry,
  type PasidEntry,
  PERM,
  PGTT,
  type StructureCaches,
  TABLE_MODE,
  type TableMode,
  type Translation,
  type VtdRequest,
} from '../ports.ts'
import { blocksPasids, ContextReader, isPassThroughType } from './context-reader.ts'
import type { TableFeatures } from './features.ts'
import { FirstLevelWalk } from './first-level-walk.ts'
import { isBeyond, PAGE_SHIFT, pageOfAddress } from './paging.ts'
import { PasidReader } from './pasid-reader.ts'
import { QemuPasids } from './qemu-pasids.ts'
import { Reasons } from './reasons.ts'
import { LEGACY_CODES, SCALABLE_CODES, SecondLevelWalk } from './second-level-walk.ts'
import { TableMemory, type TableWatcher } from './table-memory.ts'
import { Trail } from './trail.ts'

const { READ, WRITE, EXECUTE } = PERM
const ALL = READ | WRITE | EXECUTE
const { first: INTERRUPT_FIRST, last: INTERRUPT_LAST } = INTERRUPT_PAGES
/** Pages of 4 KiB of the largest page: 1 GiB. */
const PAGES_MAX = 1 << 18

export interface EngineOptions {
  readonly memory: BusMemory
  readonly features: TableFeatures
  /** Asked before something is read, and told after. */
  readonly caches: StructureCaches
  /** Asked for a translation when context and PASID entry are known, before page tables are walked. */
  readonly pages?: PageCache
  /** Whether the unit has an erratum (`profile.has`). */
  readonly has: (erratum: string) => boolean
}

/**
 * Translates requests of devices by the tables in memory, with every check in its order: root, context and PASID entries,
 * page tables of both levels, the interrupt range. (VT-d 4.1, DMA Remapping; of extended mode VT-d 2.5)
 *
 * Whether translation is on at all is the unit's to know. What the tables say of a context, a PASID or a table above the
 * last one is asked of the caches first; the page tables themselves are read at every call. What was met is left in
 * `context`, `pasid` and `trail`.
 *
 * A large page that reaches into the interrupt range is answered as pages of 4 KiB, so that who keeps a translation need
 * not look at that range again.
 */
export class TranslationEngine {
  /** The entries that the last request was translated by. */
  readonly context: ContextEntry = newContextEntry()
  readonly pasid: PasidEntry = newPasidEntry()
  readonly trail = new Trail()
  /** What the model cannot answer for the last request, which is blocked then. */
  unmodelled = ''
  /** The last request ends the unit's process (QEMU): why. */
  halt = ''
  readonly #options: EngineOptions
  readonly #memory: TableMemory
  readonly #contexts: ContextReader
  readonly #pasids: PasidReader
  readonly #second: SecondLevelWalk
  readonly #first: FirstLevelWalk
  readonly #qemu: QemuPasids | undefined
  readonly #reasons: Reasons
  // Quirks.
  readonly #hasLegacyCodes: boolean
  readonly #looksAtBit10: boolean
  readonly #boundsPassThrough: boolean
  readonly #trustsContext: boolean
  readonly #forgivesWalks: boolean
  /** The code of an address that leads to the interrupt range. */
  #interruptCode = 0

  constructor(options: EngineOptions) {
    const { features, has, caches } = options
    assert(
      features.hostAddressBits >= 32 && features.hostAddressBits <= 52,
      'addresses of memory have 32 to 52 bits',
    )
    this.#options = options
    const memory = new TableMemory(options.memory, has('D53'))
    this.#memory = memory
    this.#contexts = new ContextReader({ memory, features, has })
    this.#pasids = new PasidReader({ memory, features, has })
    const walk = { memory, features, caches, trail: this.trail, has }
    this.#second = new SecondLevelWalk(walk)
    this.#first = new FirstLevelWalk(walk)
    this.#qemu = has('D19') || has('D34') ? new QemuPasids(this.#pasids, features) : undefined
    this.#reasons = new Reasons(features, has)
    this.#hasLegacyCodes = has('D16')
    this.#looksAtBit10 = has('D41')
    this.#boundsPassThrough = !has('D21')
    this.#trustsContext = has('D55')
    this.#forgivesWalks = has('D111')
  }

  /** Told of every word that is read. */
  set watcher(watcher: TableWatcher | undefined) {
    this.#memory.watcher = watcher
  }

  /** What the mode in the root table address (TTM) stands for in this unit. */
  modeOf(ttm: number): TableMode | undefined {
    const { hasScalableMode, hasExtendedContext } = this.#options.features
    if (this.#looksAtBit10)
      return hasScalableMode && (ttm & 1) !== 0 ? TABLE_MODE.SCALABLE : TABLE_MODE.LEGACY
    if (ttm === TABLE_MODE.LEGACY) return TABLE_MODE.LEGACY
    if (ttm === TABLE_MODE.SCALABLE) return hasScalableMode ? TABLE_MODE.SCALABLE : undefined
    if (ttm === TABLE_MODE.EXTENDED) return hasExtendedContext ? TABLE_MODE.EXTENDED : undefined
    return TABLE_MODE.ABORT
  }

  /**
   * Translates a request below the root table at a 4 KiB page.
   *
   * @param ttm bits 11:10 of the root table address, as the unit has taken them
   */
  translate(root: number, ttm: number, request: VtdRequest, into: Translation): void {
    this.trail.begin()
    this.unmodelled = ''
    this.halt = ''
    into.isSilent = false
    into.page = 0
    into.shift = PAGE_SHIFT
    into.perm = 0
    into.domain = 0
    into.pasid = request.pasid
    into.isGlobal = false
    into.isDirect = false
    into.isInterrupt = false
    const page = pageOfAddress(request.hi, request.lo)
    if (
      isInterruptPage(page) &&
      request.pasid === NO_PASID &&
      request.addressType !== ADDRESS_TYPE.TRANSLATED
    ) {
      into.isInterrupt = true
      into.fault = 0
      into.page = page
      return
    }
    const fault = this.#translate(root, this.modeOf(ttm), request, into)
    const code = fault === 0 ? 0 : this.#reasons.codeOf(fault)
    into.fault = code
    if (code === 0) return
    into.isSilent &&= this.#reasons.isSilenced(code)
    into.page = 0
    into.perm = 0
    into.shift = PAGE_SHIFT
    into.isDirect = false
  }

  /** Finds the context entry of a source-id, of the caches or in memory. Answers 0, or the fault. */
  findContext(root: number, mode: TableMode, source: number): number {
    const { caches } = this.#options
    const { context } = this
    if (caches.loadContext(source, context)) return context.fault
    this.trail.hasContext = true
    const fault = this.#contexts.read(root, mode, source, context)
    // QEMU keeps one only when its PASID entry is good as well.
    const isLate = this.#qemu !== undefined && mode === TABLE_MODE.SCALABLE && fault === 0
    if (!isLate) caches.keepContext(source, context)
    return fault
  }

  /** Finds the entry of a PASID of the context that was found last. Answers 0, or the fault. */
  findPasid(source: number, mode: TableMode, pasid: number): number {
    const { caches } = this.#options
    const { context } = this
    if (caches.loadPasid(source, context, pasid, this.pasid)) return this.pasid.fault
    this.trail.hasPasid = true
    const fault =
      mode === TABLE_MODE.EXTENDED
        ? this.#pasids.readExtended(context, pasid, this.pasid)
        : this.#pasids.read(context, pasid, this.pasid)
    caches.keepPasid(source, context, pasid, this.pasid)
    return fault
  }

  /** See `UnitTranslator`. */
  silences(pasid: number): boolean {
    return this.#qemu?.silences(this.context, pasid, this.pasid) ?? false
  }

  #translate(root: number, mode: TableMode | undefined, request: VtdRequest, into: Translation): number {
    const { features } = this.#options
    const hasPasid = request.pasid !== NO_PASID
    if (mode === undefined || mode === TABLE_MODE.ABORT) {
      into.isSilent = mode === TABLE_MODE.ABORT && features.hasAbortMode
      return FAULT.TABLE_MODE
    }
    if (mode === TABLE_MODE.LEGACY && hasPasid) return FAULT.LEGACY_WITH_PASID
    const fault = this.findContext(root, mode, request.source)
    into.isSilent = this.context.isSilent
    into.domain = this.context.domain
    if (fault !== 0) return fault
    if (mode === TABLE_MODE.SCALABLE) return this.#scalable(request, into)
    this.#interruptCode = hasPasid ? FAULT.SM_INTERRUPT_RANGE : FAULT.INTERRUPT_RANGE
    if (request.addressType !== ADDRESS_TYPE.UNTRANSLATED && !this.context.hasDeviceTlb) {
      return FAULT.TRANSLATION_REQUEST
    }
    return hasPasid ? this.#extendedPasid(request, into) : this.#legacy(request, into)
  }

  /** A request without a PASID of legacy or of extended mode. */
  #legacy(request: VtdRequest, into: Translation): number {
    const { context } = this
    const { features } = this.#options
    if (request.addressType === ADDRESS_TYPE.TRANSLATED) return this.#asItIs(request, into)
    if (isPassThroughType(context.type)) {
      if (this.#boundsPassThrough && isBeyond(request.hi, request.lo, features.hostAddressBits)) {
        return FAULT.BEYOND_WIDTH
      }
      return this.#asItIs(request, into)
    }
    const { tables } = this.#second
    tables.domain = context.domain
    tables.root = context.root
    tables.levels = context.levels
    tables.setsAccessedDirty = false
    tables.checksExecute = false
    this.#second.codes = LEGACY_CODES
    return this.#secondLevel(request, READ | WRITE, into)
  }

  /** A request with a PASID of extended mode. */
  #extendedPasid(request: VtdRequest, into: Translation): number {
    const { context } = this
    if (!context.hasPasid || blocksPasids(context.type)) return FAULT.SM_PASIDE
    if (request.pasid >= context.pasids) return FAULT.SM_PASID_BEYOND
    const fault = this.findPasid(request.source, TABLE_MODE.EXTENDED, request.pasid)
    return fault === 0 ? this.#byPasid(request, request.isPrivileged, into) : fault
  }

  #scalable(request: VtdRequest, into: Translation): number {
    const { context } = this
    const hasPasid = request.pasid !== NO_PASID
    this.#interruptCode = FAULT.SM_INTERRUPT_RANGE
    if (!this.#trustsContext) {
      if (!hasPasid && context.ridPasid >= context.pasids) return FAULT.SM_CONTEXT_ENTRY_INVALID
      if (request.addressType !== ADDRESS_TYPE.UNTRANSLATED && !context.hasDeviceTlb) return FAULT.SM_DTE
      if (hasPasid && !context.hasPasid) return FAULT.SM_PASIDE
      if (hasPasid && request.pasid >= context.pasids) return FAULT.SM_PASID_BEYOND
    }
    const pasid = hasPasid ? request.pasid : context.ridPasid
    into.pasid = pasid
    const fault =
      this.#qemu === undefined
        ? this.#pasidOf(request, pasid, into)
        : this.#asQemu(this.#qemu, request, pasid, into)
    into.domain = this.pasid.domain
    if (fault !== 0) return fault
    return this.#byPasid(request, hasPasid ? request.isPrivileged : context.isRidPrivileged, into)
  }

  #pasidOf(request: VtdRequest, pasid: number, into: Translation): number {
    const fault = this.findPasid(request.source, TABLE_MODE.SCALABLE, pasid)
    into.isSilent ||= this.pasid.isSilent
    return fault
  }

  #asQemu(qemu: QemuPasids, request: VtdRequest, pasid: number, into: Translation): number {
    const { context, trail } = this
    const { caches } = this.#options
    trail.hasPasid = true
    const fault = qemu.find(context, pasid, !trail.hasContext, this.pasid)
    into.isSilent = qemu.isSilent
    this.unmodelled = qemu.unmodelled
    this.halt = qemu.halt
    this.pasid.fault = fault
    if (trail.hasContext && fault === 0) caches.keepContext(request.source, context)
    caches.keepPasid(request.source, context, pasid, this.pasid)
    return fault
  }

  /** What the entry of the PASID says. */
  #byPasid(request: VtdRequest, isSupervisor: boolean, into: Translation): number {
    const { pasid } = this
    const { features } = this.#options
    if (this.#qemu === undefined) {
      if ((request.need & EXECUTE) !== 0 && !pasid.hasExecute) return FAULT.PASID_ERE
      // A unit that has no supervisor requests says that nothing is allowed.
      const isAsked = request.addressType === ADDRESS_TYPE.TRANSLATION_REQUEST
      if (isSupervisor && !pasid.hasSupervisor)
        return isAsked && !features.hasSupervisor ? 0 : FAULT.PASID_SRE
    }
    if (request.addressType === ADDRESS_TYPE.TRANSLATED) return this.#asItIs(request, into)
    if (pasid.type === PGTT.PASS_THROUGH) {
      if (this.#boundsPassThrough && isBeyond(request.hi, request.lo, features.hostAddressBits)) {
        return FAULT.HOST_WIDTH
      }
      return this.#asItIs(request, into)
    }
    const { tables } = this.#second
    tables.domain = pasid.domain
    tables.root = pasid.root
    tables.levels = pasid.levels
    tables.setsAccessedDirty = pasid.hasSecondAccessedDirty
    tables.snoops = pasid.hasWalkSnoop
    tables.checksExecute = pasid.hasSecondExecute
    if (pasid.type === PGTT.SECOND_LEVEL) {
      this.#second.codes = this.#hasLegacyCodes ? LEGACY_CODES : SCALABLE_CODES
      return this.#secondLevel(request, pasid.hasExecute ? ALL : READ | WRITE, into)
    }
    return this.#firstLevel(request, isSupervisor, into)
  }

  /** The address is one of memory already. */
  #asItIs(request: VtdRequest, into: Translation): number {
    const page = pageOfAddress(request.hi, request.lo)
    if (isInterruptPage(page)) return this.#interruptCode
    into.page = page
    into.perm = request.need & EXECUTE ? ALL : READ | WRITE
    into.isDirect = true
    return 0
  }

  #secondLevel(request: VtdRequest, most: number, into: Translation): number {
    const kept = this.#options.pages?.loadPage(request, into) ?? NOT_KEPT
    if (kept !== NOT_KEPT) return kept
    const second = this.#second
    second.isLenient = request.addressType === ADDRESS_TYPE.TRANSLATION_REQUEST
    const fault = second.walk(request.hi, request.lo, this.#needOf(request))
    if (fault !== 0 || second.perm === 0) return fault
    into.page = second.page
    into.shift = second.shift
    into.perm = second.perm & most
    return this.#guard(second.first, into)
  }

  #firstLevel(request: VtdRequest, isSupervisor: boolean, into: Translation): number {
    const kept = this.#options.pages?.loadPage(request, into) ?? NOT_KEPT
    if (kept !== NOT_KEPT) return kept
    const first = this.#first
    const isLenient = request.addressType === ADDRESS_TYPE.TRANSLATION_REQUEST
    const isNested = this.pasid.type === PGTT.NESTED
    first.isLenient = isLenient
    first.through = isNested ? this.#second : undefined
    const need = this.#needOf(request)
    const fault = first.walk(this.pasid, into.pasid, isSupervisor, request.hi, request.lo, need)
    if (fault !== 0 || first.perm === 0) return isLenient && this.#forgivesWalks ? 0 : fault
    into.isGlobal = first.isGlobal
    into.page = first.page
    into.shift = first.shift
    into.perm = first.perm
    if (!isNested) return this.#guard(first.first, into)
    return this.#nested(request, need, into)
  }

  /** The page of the first level is an address of the second. */
  #nested(request: VtdRequest, need: number, into: Translation): number {
    const second = this.#second
    second.isLenient = request.addressType === ADDRESS_TYPE.TRANSLATION_REQUEST
    second.codes = SCALABLE_CODES
    const wanted = second.isLenient ? need & into.perm : need
    const fault = second.walk(hiOfPage(into.page, PAGE_SHIFT), loOfPage(into.page, PAGE_SHIFT), wanted)
    if (fault !== 0 || second.perm === 0) {
      into.perm = 0
      return fault
    }
    into.page = second.page
    into.shift = Math.min(into.shift, second.shift)
    into.perm &= second.perm
    return this.#guard(second.first, into)
  }

  /** A read of no bytes needs no permission in a unit that has such reads; with NW nothing is to be written. */
  #needOf({ need, isZeroLength, isNoWrite }: VtdRequest): number {
    const wanted = isNoWrite ? need & ~WRITE : need
    return isZeroLength && this.#options.features.hasZeroLengthReads ? wanted & ~READ : wanted
  }

  /** No page table may lead to the interrupt range. `first` is the page as the entry names it. */
  #guard(first: number, into: Translation): number {
    // From there no page of any size reaches down to the range.
    if (into.page >= INTERRUPT_LAST + PAGES_MAX) return 0
    const pages = 1 << (into.shift - PAGE_SHIFT)
    const start = this.#hasLegacyCodes ? first : into.page & -pages
    if (start > INTERRUPT_LAST || start + pages <= INTERRUPT_FIRST) return 0
    if (this.#hasLegacyCodes || isInterruptPage(into.page)) return this.#interruptCode
    into.shift = PAGE_SHIFT
    return 0
  }
}
