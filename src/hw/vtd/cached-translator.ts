import type { Profile } from '../../bits/errata.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOfNumber, loOfNumber, numberOf } from '../../bits/u64.ts'
import type { Stage } from '../../trace/stage.ts'
import { type Engine, type EnginePorts, NOT_KEPT, type PageCache } from './caches/engine.ts'
import { EntryNumbers } from './caches/entry-numbers.ts'
import { NO_PAGES, PassThroughHold } from './caches/pass-through-hold.ts'
import { EVERYTHING, permissionFault, refusedBy } from './caches/refusals.ts'
import { RequestSpace } from './caches/request-space.ts'
import { clearPage, isInterrupt, passThrough } from './caches/results.ts'
import { StructureKeeper } from './caches/structure-keeper.ts'
import { newFill, TranslationRecords } from './caches/translation-records.ts'
import { UnitCaches } from './caches/unit-caches.ts'
import { FAULT } from './fault-reasons.ts'
import {
  ADDRESS_TYPE,
  type ContextEntry,
  NO_CACHES,
  NO_PASID,
  newTranslation,
  type PasidEntry,
  PERM,
  TABLE_MODE,
  type TableMode,
  type Translation,
  type VtdInvalidation,
  type VtdRequest,
} from './ports.ts'
import type { RootPointer } from './unit-translator.ts'

const PAGE_SHIFT = 12
/** log2 of the bytes that there are addresses for. */
const ALL_SHIFT = 64

/** Cells of the root: translation is on, TTM and what it stands for, the 4 KiB page of the root table. */
const ENABLED = 0
const TTM = 1
const MODE = 2
const ROOT_HI = 3
const ROOT_LO = 4
const ROOT_CELLS = 5

export interface CachedTranslatorOptions<E extends Engine = Engine> {
  /** Name of the unit. */
  readonly name: string
  /** Makes what reads memory; asked twice where a unit holds pass-through (D28). */
  readonly engine: (ports: EnginePorts) => E
  readonly stage: Stage
  readonly journal: Journal
  readonly profile: Profile
  /** CAP.CM: what is not present, or not valid, is remembered, too. */
  readonly isCaching: boolean
  /** ECAP.FLTS; of a unit that holds pass-through (D103). */
  readonly hasFirstLevel?: boolean
  /** Addresses below 2^this pass a device that is passed through: the smaller of MGAW and the width of memory. */
  readonly addressBits: number
  /** Shared with whatever else fills caches of the machine. */
  readonly numbers?: EntryNumbers
  /** Entries that the IOTLB holds; no bound where it is left out. */
  readonly iotlbEntries?: number
  /** Whether tables are remembered beside translations. */
  readonly keepsTables?: boolean
}

/**
 * The way of a request through the caches of a VT-d unit: context cache, PASID cache, IOTLB. What they do not hold is
 * asked of the engine, which reads memory, and is kept. An entry stays until software has it forgotten, whatever
 * memory holds by then.
 *
 * A cached translation that does not allow what is asked is looked up in memory again, as is one whose dirty bit is
 * not set at the first write. In caching mode the second level is not: software has to say that more is allowed.
 *
 * `translate` leaves everything in `result`; nothing on the way allocates.
 */
export class CachedTranslator<E extends Engine = Engine> implements PageCache {
  /** What the last `translate` found. */
  readonly result: Translation = newTranslation()
  readonly engine: E
  readonly caches: UnitCaches
  readonly numbers: EntryNumbers
  readonly #stage: Stage
  readonly #records: TranslationRecords
  readonly #keeper: StructureKeeper
  readonly #place: RequestSpace
  readonly #hold: PassThroughHold | undefined
  readonly #root: Cells
  readonly #addressBits: number
  readonly #keepsFaults: boolean
  /** Errata D27, D4, D29 and D119. */
  readonly #hasNoPasidCache: boolean
  readonly #ignoresPermissions: boolean
  readonly #ignoresDirty: boolean
  readonly #keepsNoWrite: boolean
  readonly #fill = newFill()
  readonly #kept = { isPrivileged: false, isFirstLevel: false, isDirty: false, refused: 0 }
  // Of the request that goes on: the number of the entry that answers, the space that was looked in, the one to keep in.
  #number = 0
  #looked = 0
  #space = 0
  #isOfPages = false
  #hasEntry = false

  constructor(options: CachedTranslatorOptions<E>) {
    const { name, stage, journal, profile, isCaching } = options
    this.#stage = stage
    this.#records = new TranslationRecords(stage, name)
    this.#addressBits = options.addressBits
    this.numbers = options.numbers ?? new EntryNumbers(journal)
    this.#root = new Cells(journal, keyOf('vtd-root', name), ROOT_CELLS)
    this.caches = new UnitCaches(options)
    this.#keepsFaults = isCaching && !profile.has('D60')
    this.#hasNoPasidCache = profile.has('D27')
    this.#ignoresPermissions = profile.has('D4')
    this.#ignoresDirty = profile.has('D29')
    this.#keepsNoWrite = profile.has('D119')
    this.#keeper = new StructureKeeper({
      ...{ caches: this.caches, numbers: this.numbers, records: this.#records, log: stage.log },
      ...{ keepsFaults: this.#keepsFaults, hasNoPasidCache: this.#hasNoPasidCache },
    })
    this.engine = options.engine({ caches: this.#keeper, pages: this })
    this.#place = new RequestSpace(this.caches, this.engine, profile.has('D35'))
    this.#hold = profile.has('D28') ? this.#holdWith(options) : undefined
  }

  /** The last fault came from page tables: context and PASID entries were in order. */
  get isWalkFault(): boolean {
    return this.#isOfPages && this.result.fault !== 0
  }

  get isEnabled(): boolean {
    return this.#root.data[ENABLED] !== 0
  }

  /** The entries that the last request was translated by, or that were found last. */
  get context(): ContextEntry {
    return this.finder.context
  }

  get pasid(): PasidEntry {
    return this.finder.pasid
  }

  /** Translation is switched on or off, or another root table is taken. Nothing is forgotten with it. */
  setRoot({ page, mode, isEnabled }: RootPointer): void {
    this.#root.set(ENABLED, isEnabled ? 1 : 0)
    this.#root.set(TTM, mode)
    this.#root.set(MODE, this.engine.modeOf(mode) ?? TABLE_MODE.ABORT)
    this.#root.set(ROOT_HI, hiOfNumber(page))
    this.#root.set(ROOT_LO, loOfNumber(page))
    this.caches.front.clear()
    this.#hold?.rootChanged()
  }

  /** What entries alone are found with. */
  protected get finder(): E {
    return this.engine
  }

  /** Finds the context entry of a source-id, and leaves it in `context`. Answers 0, or the fault. */
  findContext(source: number): number {
    if (this.engine.modeOf(this.#root.get(TTM)) === undefined || this.#mode === TABLE_MODE.ABORT) {
      return FAULT.TABLE_MODE
    }
    this.#begin(source, NO_PASID)
    return this.finder.findContext(this.#rootPage, this.#mode, source)
  }

  /** Finds an entry of a PASID below the context that was found last, and leaves it in `pasid`. */
  findPasid(source: number, pasid: number): number {
    return this.finder.findPasid(source, this.#mode, pasid)
  }

  /** A device is behind the unit. Only a unit that holds pass-through (D28) wants to know. */
  addSource(source: number): void {
    this.caches.front.clear()
    this.#hold?.decide(source)
  }

  /** Forgets what an invalidation names. Its record is the caller's. */
  invalidate(what: VtdInvalidation): void {
    this.caches.invalidate(what, this.#mode)
    this.#hold?.invalidated(what)
  }

  /** Forgets everything. */
  dropAll(): void {
    this.caches.dropAll()
  }

  /** One request. Where translation is off, it goes to memory as it is. */
  translate(request: VtdRequest): Translation {
    const { result } = this
    const known = this.caches.front.find(request, result)
    if (known !== 0) {
      if (this.#stage.log.on) this.#records.translate(request, result, known)
      return result
    }
    this.#number = 0
    this.#hasEntry = false
    this.#isOfPages = false
    this.#place.mode = this.#mode
    if (!this.isEnabled || isInterrupt(request)) return this.#unordinary(request)
    const isOrdinary = request.addressType === ADDRESS_TYPE.UNTRANSLATED
    if (this.#hold === undefined || !isOrdinary || !this.#isHeld(this.#hold, request)) {
      const space = this.#place.ofCaches(request)
      if (space === 0 || !this.#isHit(space, request)) this.#miss(request, space)
    }
    if (request.isNoWrite && !result.isDirect) result.perm &= ~PERM.WRITE
    if (this.#stage.log.on) this.#records.translate(request, result, this.#number)
    return result
  }

  /** For the engine, which knows the entries of the request by now. */
  loadPage(request: VtdRequest): number {
    this.#isOfPages = true
    // What the caches said before holds, unless they look in the IOTLB first.
    const isKnown = this.#looked !== 0 && !this.caches.iotlb.isBySource
    this.#space = isKnown ? this.#looked : this.#place.ofEngine(request)
    if (this.#space !== this.#looked && this.#isHit(this.#space, request)) {
      this.#space = 0
      return this.result.fault
    }
    return NOT_KEPT
  }

  #begin(source: number, pasid: number): void {
    this.#keeper.mode = this.#mode
    this.#keeper.begin(source, pasid)
  }

  get #rootPage(): number {
    return numberOf(this.#root.get(ROOT_HI), this.#root.get(ROOT_LO))
  }

  /** Whether the same request has the same answer while nothing is forgotten. Not so where PASID entries are always read. */
  get #mayRepeat(): boolean {
    return !this.#hasNoPasidCache || this.#mode !== TABLE_MODE.SCALABLE
  }

  get #mode(): TableMode {
    return this.#root.data[MODE] as TableMode
  }

  /** Whether the IOTLB answers. */
  #isHit(space: number, request: VtdRequest): boolean {
    const { iotlb } = this.caches
    const place = this.#place
    const { hi, lo, need } = request
    const { result } = this
    const entry = place.isDirect ? iotlb.findDirect(space) : iotlb.find(space, hi, lo, place.isPrivileged)
    if (entry === 0) return false
    this.#hasEntry = true
    const isOrdinary = request.addressType === ADDRESS_TYPE.UNTRANSLATED
    const refused = iotlb.refusedBy(entry)
    const perm = iotlb.permOf(entry)
    let fault = 0
    if (refused !== 0) {
      if (!isOrdinary || (need & refused) === 0) return false
      fault = refused === EVERYTHING ? iotlb.faultOf(entry) : permissionFault(need, refused, this.#mode)
    } else if (isOrdinary && (need & ~perm) !== 0 && !this.#ignoresPermissions) {
      if (!this.#keepsFaults || !place.isSecondLevel || request.isZeroLength) return false
      fault = permissionFault(need, ~perm, this.#mode)
      // The first write has the dirty bit set.
    } else if (!iotlb.isDirty(entry) && (need & perm & PERM.WRITE) !== 0) return false
    else if (iotlb.isDirect(entry) && this.#isBeyond(hi)) return false
    iotlb.load(entry, hi, lo, result)
    result.fault = fault
    result.pasid = place.pasid
    result.isSilent = fault !== 0 && this.#isSilent(request)
    this.#number = iotlb.numberOf(entry)
    if (fault !== 0) clearPage(this.result)
    else if (!request.isNoWrite && this.#mayRepeat)
      this.caches.front.keep(request, result, iotlb.isDirty(entry), this.#number)
    this.#isOfPages = true
    return true
  }

  /** What the caches do not answer: the engine reads memory, and what it finds is kept. */
  #miss(request: VtdRequest, looked: number): void {
    const { result, engine } = this
    const { log } = this.#stage
    this.#looked = looked
    this.#space = 0
    this.#begin(request.source, request.pasid)
    engine.trail.on = log.on
    engine.translate(this.#rootPage, this.#root.get(TTM), request, result)
    // Interrupts apart, what comes back without a walk is final, and was kept before or is not to be.
    const space = this.#space
    if (result.fault !== 0) clearPage(this.result)
    else if (result.isDirect && space === 0 && this.#number === 0) this.#meetDirect(request)
    if (space === 0) return
    if (log.on) {
      this.#records.walks(request.source, this.#place.pasid, engine.trail)
      this.#keeper.record()
    }
    if (result.fault !== 0) {
      if (this.#keepsFaults && this.#place.isSecondLevel) this.#keepRefusal(space, request)
      // What a device does not want to write may be writable all the same.
    } else if (result.perm !== 0 && (!request.isNoWrite || this.#keepsNoWrite)) this.#keep(space, request, 0)
  }

  /** A device that is passed through: one entry of the IOTLB stands for all addresses, or QEMU decides anew. */
  #meetDirect(request: VtdRequest): void {
    if (this.#hold !== undefined) {
      this.#hold.decide(request.source)
      this.caches.front.clear()
    } else if (request.addressType !== ADDRESS_TYPE.TRANSLATED) {
      const space = this.#place.ofEngine(request)
      const known = this.caches.iotlb.findDirect(space)
      if (known === 0) this.#keep(space, request, 0)
      else this.#number = this.caches.iotlb.numberOf(known)
    }
  }

  /** Keeps what `result` says of the address; `refused` where it is a fault. */
  #keep(space: number, request: VtdRequest, refused: number): void {
    const { result } = this
    const { hi, lo } = request
    const kept = this.#kept
    const place = this.#place
    kept.isPrivileged = place.isPrivileged
    kept.isFirstLevel = !place.isSecondLevel && !result.isDirect
    kept.isDirty =
      this.#ignoresDirty ||
      !place.hasDirty ||
      result.isDirect ||
      (request.need & result.perm & PERM.WRITE) !== 0
    kept.refused = refused
    this.#number = this.numbers.next()
    const { iotlb, front } = this.caches
    // An entry makes room, or others may answer beside it: a smaller page that allows less.
    if (this.#hasEntry || iotlb.isFull) front.clear()
    iotlb.keep(space, hi, lo, result, kept, this.#number, !this.#hasEntry)
    if (refused === 0 && !this.#hasEntry && this.#mayRepeat && !request.isNoWrite)
      front.keep(request, result, kept.isDirty, this.#number)
    if (!this.#stage.log.on) return
    const fill = this.#fill
    const isWhole = result.isDirect
    fill.entry = this.#number
    fill.source = request.source
    fill.domain = result.domain
    fill.pasid = place.pasid
    fill.perm = result.perm
    fill.shift = isWhole ? ALL_SHIFT : result.shift
    fill.hi = isWhole ? 0 : hi
    fill.lo = isWhole ? 0 : lo & (-1 << result.shift)
    fill.page = isWhole ? 0 : result.page - (result.page & ((1 << (result.shift - PAGE_SHIFT)) - 1))
    this.#records.fill(fill)
  }

  /** Caching mode: that a page is not mapped, or not for this, is remembered, too. What was refused before stays so. */
  #keepRefusal(space: number, request: VtdRequest): void {
    const { iotlb } = this.caches
    const refused = refusedBy(this.result.fault)
    if (refused === 0) return
    const known = iotlb.find(space, request.hi, request.lo, false)
    const before = known === 0 ? 0 : iotlb.refusedBy(known)
    if (known === 0 || before !== 0) this.#keep(space, request, refused | before)
  }

  /** Translation is off, or the request is an interrupt. */
  #unordinary(request: VtdRequest): Translation {
    const { result } = this
    if (this.isEnabled) {
      this.#miss(request, 0)
      if (this.#stage.log.on && !result.isInterrupt) this.#records.translate(request, result, this.#number)
    } else passThrough(request, this.result)
    return result
  }

  /** A device that QEMU has decided to pass through. */
  #isHeld(hold: PassThroughHold, request: VtdRequest): boolean {
    if (!hold.isKnown(request.source)) hold.decide(request.source)
    if (!hold.isDirect(request.source)) return false
    passThrough(request, this.result)
    return true
  }

  #holdWith(options: CachedTranslatorOptions<E>): PassThroughHold {
    const { name, journal, hasFirstLevel: replays = false } = options
    const remembers = options.profile.has('D103')
    const reader = options.engine({ caches: NO_CACHES, pages: NO_PAGES })
    const read = (request: VtdRequest, into: Translation) => {
      into.isDirect = false
      if (this.isEnabled) reader.translate(this.#rootPage, this.#root.get(TTM), request, into)
    }
    return new PassThroughHold(read, () => reader.pasid, journal, { name, replays, remembers })
  }

  /** FPD of the entries that a request goes through, as the caches have them. */
  #isSilent({ source, pasid: asked }: VtdRequest): boolean {
    const { contexts, pasids } = this.caches
    const { pasid } = this.#place
    return contexts.isSilent(source, asked) || (pasid !== NO_PASID && pasids.isSilent(source, pasid))
  }

  #isBeyond(hi: number): boolean {
    return this.#addressBits < 64 && hi >>> Math.max(0, this.#addressBits - 32) !== 0
  }
}
