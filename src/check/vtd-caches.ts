import { hex } from '../bits/u64.ts'
import { isInterruptPage } from '../memory/interrupt-range.ts'
import { EVENT_KINDS, type EventKind, KIND, slotMap } from '../trace/event.ts'
import { FLUSH_SCOPE, NONE, VTD_CACHE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { sourceText } from './describe-vtd.ts'
import { because } from './evidence.ts'
import { type CheckerOptions, ListedChecker } from './listed-checker.ts'
import { endsCallInSteps, isStillAtIt } from './open-calls.ts'
import type { RuleId } from './rules.ts'
import { SeenMaps } from './seen-maps.ts'
import { FlushOrder } from './vtd-flush-order.ts'
import { type Flush, flushAt, NEVER } from './vtd-flushes.ts'
import { type CachedEntry, cacheOf, type Dependence, Provenance } from './vtd-provenance.ts'
import { missingFor, missingForStructure } from './vtd-remedies.ts'
import { TablePages } from './vtd-table-pages.ts'
import { pageAt, type Structure, showsCapabilities, type VtdUnitShadow, VtdUnits } from './vtd-unit-shadow.ts'
import { isGiven, isTakenBack, leadsToPage } from './vtd-words.ts'

const TRANSLATION = 'stale-translation'
const CONTEXT = 'stale-context'
const DEVICE = 'stale-device-tlb'
const SURVIVES = 'cache-survives'
const T = slotMap('vtd.translate')
/** Kinds that `SeenMaps` looks at, by their numbers. */
const IS_SEEN: readonly (boolean | undefined)[] = EVENT_KINDS.map((kind) => SeenMaps.KINDS.includes(kind))
const TRANSLATE = KIND['vtd.translate']
const WALK = KIND['vtd.walk']
const FILL = KIND['vtd.fill']
/** Translations that were judged last, by their numbers. */
const JUDGED = 2 ** 14
const JUDGED_LANES = 3

/**
 * Judges what VT-d units and devices use of what they remember: `stale-translation`, `stale-context`, `stale-device-tlb`
 * and `cache-survives`; with their pages and flushes `freed-table-walked`, `early-reuse` and `flush-order`.
 *
 * A use is stale where a word that the translation was made from says something else by now, and no invalidation since
 * covers it. More rights than the cache knows are nothing stale, but for what a unit in caching mode has refused.
 * Nothing is judged between an invalidation and the end of its wait, nor while the call that made the change has steps to
 * do: what it owes may be among them. A translation that is used although a complete
 * invalidation covers it has survived.
 */
export class VtdCaches extends ListedChecker {
  readonly rules: readonly RuleId[] = [
    TRANSLATION,
    CONTEXT,
    DEVICE,
    SURVIVES,
    'freed-table-walked',
    'early-reuse',
    'flush-order',
  ]
  readonly kinds: readonly EventKind[] = [
    'vtd.register',
    'vtd.root',
    'vtd.context',
    'vtd.pasid',
    'vtd.walk',
    'vtd.fill',
    'vtd.translate',
    'vtd.word',
    'vtd.table',
    'mm.table',
    'page.own',
    'domain.flush',
    'domain.wait',
    'domain.map',
    'domain.unmap',
  ]
  /** Whether a call was over when something else came. */
  readonly looksUp: readonly EventKind[] = ['call.return']
  readonly #units = new VtdUnits()
  readonly #provenance = new Provenance()
  readonly #pages: TablePages
  readonly #order: FlushOrder
  /** Of translations that were judged: number, state of the unit, source. */
  #judged: Int32Array | undefined
  /** Of logs, which show no tables. */
  readonly #seen: SeenMaps
  #log: RecordLog | undefined

  constructor(options: CheckerOptions) {
    super(options)
    const parts = {
      list: this.list,
      provenance: this.#provenance,
      scene: (log: RecordLog) => this.scene(log),
    }
    this.#pages = new TablePages(parts)
    this.#order = new FlushOrder(parts)
    this.#seen = new SeenMaps(this.list, parts.scene)
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['page.own']) {
      this.#pages.owned(log, seq)
      return
    }
    if (kind === KIND['mm.table']) {
      this.#pages.processTable(log, seq, this.#units.all)
      return
    }
    if (IS_SEEN[kind] === true) this.#seen.see(log, seq)
    if (kind === KIND['domain.map'] || kind === KIND['domain.unmap']) return
    const unit = this.#units.of(log, seq)
    if (kind === TRANSLATE) this.#translated(log, seq, unit)
    else if (kind === WALK) {
      unit.lastWalk = seq
      this.#pages.walked(log, seq, unit)
    } else if (kind === FILL) {
      this.#provenance.fill(log, seq)
    } else if (kind === KIND['domain.flush']) this.#flushed(log, seq, unit)
    else if (kind === KIND['domain.wait']) unit.wait(seq)
    else if (kind === KIND['vtd.word']) {
      unit.word(log, seq)
      const change = this.#pages.changed(log, seq, unit)
      if (change !== undefined) this.#order.changed(change)
    } else if (kind === KIND['vtd.table']) this.#pages.table(log, seq, unit)
    else if (kind === KIND['vtd.register']) unit.register(log, seq)
    else if (kind === KIND['vtd.root']) unit.root(log, seq)
    else unit.read(log, seq)
  }

  heeds(log: RecordLog, seq: number): number {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.register']) return showsCapabilities(log, seq) ? 1 : 0
    return kind !== KIND['call.return'] || endsCallInSteps(log, seq) ? 1 : 0
  }

  override finish(): void {
    if (this.#log !== undefined) this.#order.finish(this.#log)
  }

  #flushed(log: RecordLog, seq: number, unit: VtdUnitShadow): void {
    this.#log = log
    const flush = flushAt(log, seq)
    unit.flush(log, flush)
    this.#order.flushed(unit, flush)
  }

  #translated(log: RecordLog, seq: number, unit: VtdUnitShadow): void {
    const before = unit.lastTranslate
    unit.lastTranslate = seq
    const number = log.slot(seq, T.entry) >>> 0
    const source = log.slot(seq, T.source)
    const at = (number % JUDGED) * JUDGED_LANES
    // A judge is made for each order of an exploration, and most see no translation twice.
    this.#judged ??= new Int32Array(JUDGED * JUDGED_LANES)
    const judged = this.#judged
    const isAnswered = log.slot(seq, T.fault) === 0
    if (
      isAnswered &&
      number !== 0 &&
      judged[at] === (number | 0) &&
      judged[at + 1] === unit.clock &&
      judged[at + 2] === source
    ) {
      return
    }
    if (unit.isEnabled === false) return
    let isRight = this.#judgeStructures(log, seq, unit, before)
    if (number !== 0) isRight = this.#judgeEntry(log, seq, unit, number) && isRight
    if (!isRight || !isAnswered || number === 0) return
    judged[at] = number
    judged[at + 1] = unit.clock
    judged[at + 2] = source
  }

  /** Whether the context entry, and the PASID entry, that a request went by are as in memory. */
  #judgeStructures(log: RecordLog, seq: number, unit: VtdUnitShadow, before: number): boolean {
    const source = log.slot(seq, T.source) >>> 0
    const context = unit.context(source)
    if (context === undefined) return true
    const requested = log.slot(seq, T.pasid) >>> 0
    if (requested === NONE) unit.noteRid(source, before)
    const pasid = unit.pasidOf(source, requested)
    const number = log.slot(seq, T.entry) >>> 0
    const filled = number === 0 ? -1 : this.#provenance.filledAt(log, number)
    // A device that answers from its own TLB asks nobody.
    if (filled >= 0 && cacheOf(log, filled) === VTD_CACHE.DEVICE_TLB) return true
    if (number === 0 && isInterrupt(log, seq)) return true
    // What is new in this request was not found in a cache of translations.
    const isMiss =
      filled > before || (number === 0 && isRefused(log, seq) && unit.abilities.cachingMode === true)
    const isRight = this.#judgeStructure(log, seq, unit, { structure: context, before, isMiss })
    const entry = pasid === NONE ? undefined : unit.pasid(source, pasid)
    if (!isRight || entry === undefined) return isRight
    return this.#judgeStructure(log, seq, unit, { structure: entry, before, isMiss })
  }

  #judgeStructure(
    log: RecordLog,
    seq: number,
    unit: VtdUnitShadow,
    { structure, before, isMiss }: { structure: Structure; before: number; isMiss: boolean },
  ): boolean {
    // Read for this request.
    if (structure.seq > before) return true
    if (structure.flushed > structure.seq) {
      if (!isMiss || structure.flushed > unit.completed) return true
      this.#surviving(log, seq, unit, {
        what: structureText(structure),
        filled: structure.seq,
        flushed: structure.flushed,
      })
      return false
    }
    if (structure.judged === unit.clock) return true
    const change = unit.changeOf(structure)
    if (change === undefined) {
      structure.judged = unit.clock
      return true
    }
    if (isStillAtIt(log, change.by, seq)) return false
    const key = {
      rule: CONTEXT,
      window: unit.number,
      entry: structure.pasid,
      by: structure.seq,
      ended: change.by,
    }
    if (this.list.again(key)) return false
    const isNear = ({ scope, source }: Flush) =>
      structure.pasid === NONE
        ? scope === FLUSH_SCOPE.CONTEXT && (source === structure.source || source === NONE)
        : scope === FLUSH_SCOPE.PASID_CACHE
    const near = unit.flushNear(structure.seq, isNear)
    const message =
      `${doesText(log, seq)} by ${structureText(structure)} as ${log.names.word(unit.number)} read it before it changed. ` +
      `${nearText(near)}it takes the invalidation of ${missingForStructure(unit, structure, change)}`
    const chain = because(this.scene(log), structure.seq, change.by, near, seq)
    this.list.add({ rule: CONTEXT, message, because: chain, inferred: false })
    return false
  }

  /** Whether a cached translation is what the tables say. */
  #judgeEntry(log: RecordLog, seq: number, unit: VtdUnitShadow, number: number): boolean {
    const filled = this.#provenance.filledAt(log, number)
    if (filled < 0) {
      this.list.skipped++
      return true
    }
    // Made in this request, or since anything happened, from words that never changed.
    if (unit.words.isEmpty && filled > unit.lastEvent) return true
    const entry = this.#provenance.entry(log, unit, number)
    if (entry === undefined) return true
    const isOfDevice = entry.cache === VTD_CACHE.DEVICE_TLB
    const flushed = isOfDevice ? unit.devices.last(entry.tag) : unit.iotlb.last(entry.tag)
    if (flushed > filled) {
      if (flushed > unit.completed) return true
      const what = `${isOfDevice ? 'the TLB of the device' : 'the IOTLB'} keeps for ${rangeText(entry)}`
      this.#surviving(log, seq, unit, { what: `what ${what}`, filled, flushed })
      return false
    }
    const wrong = this.#wrongWord(log, seq, unit, entry)
    if (wrong !== undefined) {
      this.#stale(log, seq, unit, { entry, word: wrong.word, changed: wrong.by })
      return false
    }
    const root = this.#wrongRoot(log, seq, unit, entry)
    if (root === undefined) return true
    this.#stale(log, seq, unit, { entry, word: undefined, changed: root })
    return false
  }

  /** A word behind an entry that says something else by now. */
  #wrongWord(log: RecordLog, seq: number, unit: VtdUnitShadow, entry: CachedEntry) {
    const { words } = unit
    if (words.isEmpty) return undefined
    const isRefusal = isRefused(log, seq)
    for (const word of entry.from) {
      if (!words.changed(word.address, word.since)) continue
      const { by } = words
      if (isTakenBack(word.role, word.level, words)) return { word, by }
      // What a unit has refused it may keep in caching mode only, and nothing of the first level.
      const isKept = unit.abilities.cachingMode !== false && entry.cache === VTD_CACHE.IOTLB
      if (!isRefusal || !isKept || !isGiven(word.role, word.level, words)) continue
      if (leadsToPage(words, word, entry.tag.range.first)) return { word, by }
    }
    return undefined
  }

  /** The record that shows the tables of an entry to be others than those it was made from: its domain has other ones by now. */
  #wrongRoot(log: RecordLog, seq: number, unit: VtdUnitShadow, entry: CachedEntry): number | undefined {
    const { base } = entry
    if (base === undefined) return undefined
    // A device asks nobody what it is behind.
    if (entry.cache === VTD_CACHE.DEVICE_TLB) {
      const context = unit.asOf(unit.context(entry.source), entry.filled)
      return (unit.changeOf(base) ?? (context === undefined ? undefined : unit.changeOf(context)))?.by
    }
    const source = log.slot(seq, T.source) >>> 0
    const through = unit.pasidOf(source, log.slot(seq, T.pasid) >>> 0)
    const now = base.pasid === NONE ? unit.context(source) : unit.pasid(source, through)
    if (now === undefined || now === base || now.fault !== 0 || base.fault !== 0) return undefined
    if (now.domain !== entry.domain || base.domain !== entry.domain) return undefined
    return unit.leadsElsewhere(base, now) ? now.seq : undefined
  }

  #stale(
    log: RecordLog,
    seq: number,
    unit: VtdUnitShadow,
    { entry, word, changed }: { entry: CachedEntry; word: Dependence | undefined; changed: number },
  ): void {
    if (isStillAtIt(log, changed, seq)) return
    const isOfDevice = entry.cache === VTD_CACHE.DEVICE_TLB
    const rule = isOfDevice ? DEVICE : TRANSLATION
    const key = { rule, window: unit.number, entry: entry.number, by: entry.filled, ended: changed }
    if (this.list.again(key)) return
    const near = unit.flushNear(entry.filled, (flush) => isNearEntry(flush, entry))
    const keeper = isOfDevice ? 'its own TLB' : 'the IOTLB'
    const since = word === undefined ? 'its domain has other tables by now' : 'the tables have changed since'
    const message =
      `${doesText(log, seq)} by what ${keeper} keeps for ${rangeText(entry)}: ${since}. ` +
      `${nearText(near)}it takes the invalidation of ${missingFor(unit, entry, word)}`
    const via = word === undefined || word.via === 0 ? NEVER : this.#provenance.filledAt(log, word.via)
    const chain = because(this.scene(log), word?.since ?? NEVER, via, entry.filled, changed, near, seq)
    this.list.add({ rule, message, because: chain, inferred: false })
  }

  #surviving(
    log: RecordLog,
    seq: number,
    unit: VtdUnitShadow,
    { what, filled, flushed }: { what: string; filled: number; flushed: number },
  ): void {
    const key = { rule: SURVIVES, window: unit.number, entry: filled, by: filled, ended: flushed }
    if (this.list.again(key)) return
    const message = `${doesText(log, seq)} by ${what}, which was invalidated: the invalidation is complete`
    const chain = because(this.scene(log), filled, flushed, unit.completed, seq)
    this.list.add({ rule: SURVIVES, message, because: chain, inferred: false })
  }
}

/** Interrupt requests meet no tables. */
function isInterrupt(log: RecordLog, seq: number): boolean {
  const page = pageAt(log, seq, T.iova)
  return log.slot(seq, T.pasid) >>> 0 === NONE && isInterruptPage(page)
}

const isRefused = (log: RecordLog, seq: number): boolean => {
  const need = log.slot(seq, T.need)
  return log.slot(seq, T.fault) !== 0 || (log.slot(seq, T.perm) & need) !== need
}

/** What a request did, in words. */
function doesText(log: RecordLog, seq: number): string {
  const source = sourceText(log.slot(seq, T.source) >>> 0)
  const iova = pageAt(log, seq, T.iova) * 4096 + (log.slot(seq, T.iova) & 0xfff)
  if (isRefused(log, seq)) return `a request of ${source} at ${hex(iova)} is refused`
  const does = (log.slot(seq, T.need) & 2) === 0 ? 'reads' : 'writes'
  const target = pageAt(log, seq, T.target) * 4096 + (log.slot(seq, T.target) & 0xfff)
  return `${source} ${does} memory ${hex(target)} through ${hex(iova)}`
}

const rangeText = ({ tag, domain, pasid, isDirect }: CachedEntry): string => {
  const of = `domain ${domain}${pasid === NONE ? '' : `, PASID ${hex(pasid)}`}`
  return isDirect ? of : `${hex(tag.range.first * 4096)} of ${of}`
}

const structureText = ({ source, pasid }: Structure): string =>
  pasid === NONE
    ? `the context entry of ${sourceText(source)}`
    : `the entry of PASID ${hex(pasid)} of ${sourceText(source)}`

const nearText = (near: number): string =>
  near === NEVER ? 'Nothing was invalidated for it: ' : 'What was invalidated since does not cover it: '

/** Whether a flush is of the kind that an entry needs, of its domain or device. */
function isNearEntry({ scope, domain, source }: Flush, entry: CachedEntry): boolean {
  if (entry.cache === VTD_CACHE.DEVICE_TLB) {
    const isOfDevices = scope === FLUSH_SCOPE.DEVICE_TLB || scope === FLUSH_SCOPE.PASID_DEVICE_TLB
    return isOfDevices && source === entry.source
  }
  const isOfIotlb =
    scope === FLUSH_SCOPE.DOMAIN ||
    scope === FLUSH_SCOPE.PAGES ||
    scope === FLUSH_SCOPE.PASID ||
    scope === FLUSH_SCOPE.PASID_PAGES
  return isOfIotlb && domain === entry.domain
}
