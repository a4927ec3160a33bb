import { hex } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import { TABLE_MODE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { sourceText } from './describe-vtd.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import type { RuleId } from './rules.ts'
import { NEVER } from './vtd-flushes.ts'
import { showsCapabilities, type VtdUnitShadow, VtdUnits } from './vtd-unit-shadow.ts'
import { addressAt } from './vtd-words.ts'

const ORDER = 'entry-order'
const DOMAIN = 'reserved-domain'
const WORD = slotMap('vtd.word')
const CONTEXT = slotMap('vtd.context')
const PASID = slotMap('vtd.pasid')
const PAGE_BYTES = 4096
const WORD_BYTES = 8
const PRESENT = 1
const { SCALABLE, EXTENDED } = TABLE_MODE
/** Bytes of an entry, by the mode of the tables. */
const CONTEXT_BYTES = [16, 32, 32, 16] as const
const PASID_BYTES = [64, 64, 8, 64] as const
/** Bits of the second word of a legacy context entry that hardware ignores. */
const AVAILABLE = 0x78
/** PASIDE of an extended context entry: without it the words of PASIDs say nothing. */
const HAS_PASIDS = 1 << 11
/** DID of a PASID entry, in its second word. What else is there may change while it is present. */
const PASID_DID = 0xffff
const SECOND_LEVEL = 2
const PGTT_SHIFT = 6
/** Domain that Linux keeps for first-level and pass-through entries. (Linux 6.1 drivers/iommu/intel/pasid.h, FLPT_DEFAULT_DID) */
const FIRST_LEVEL_DOMAIN = 1

/** What a page of entries is. */
interface EntryPage {
  readonly isPasids: boolean
  /** First words of entries as they were read, by address. */
  readonly read: Map<number, { readonly lo: number; readonly seq: number }>
}

/** Judges how software writes context and PASID entries: `entry-order` and `reserved-domain`. */
export class VtdStructures extends ListedChecker {
  readonly rules: readonly RuleId[] = [ORDER, DOMAIN]
  readonly kinds: readonly EventKind[] = ['vtd.register', 'vtd.root', 'vtd.context', 'vtd.pasid', 'vtd.word']
  readonly #units = new VtdUnits()
  /** By unit and page. */
  readonly #pages = new Map<string, EntryPage>()

  see(log: RecordLog, seq: number): void {
    const unit = this.#units.of(log, seq)
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.register']) unit.register(log, seq)
    else if (kind === KIND['vtd.root']) unit.root(log, seq)
    else if (kind === KIND['vtd.word']) {
      this.#written(log, seq, unit)
      unit.word(log, seq)
    } else this.#read(log, seq, unit, kind === KIND['vtd.pasid'])
  }

  heeds(log: RecordLog, seq: number): number {
    return log.kindNumberOf(seq) !== KIND['vtd.register'] || showsCapabilities(log, seq) ? 1 : 0
  }

  #read(log: RecordLog, seq: number, unit: VtdUnitShadow, isPasids: boolean): void {
    const at = isPasids ? PASID : CONTEXT
    const address = addressAt(log, seq, at.address)
    const lo = log.slot(seq, at.lo)
    if (log.slot(seq, at.fault) === 0) this.#judgeDomain(log, seq, unit, { isPasids, lo })
    if (address === 0) return
    const key = `${unit.number} ${Math.floor(address / PAGE_BYTES)}`
    let page = this.#pages.get(key)
    if (page?.isPasids !== isPasids) {
      page = { isPasids, read: new Map() }
      this.#pages.set(key, page)
    }
    page.read.set(address, { lo, seq })
  }

  #judgeDomain(
    log: RecordLog,
    seq: number,
    unit: VtdUnitShadow,
    { isPasids, lo }: { isPasids: boolean; lo: number },
  ): void {
    // Of scalable mode PASID entries have the domain.
    if (!isPasids && unit.mode === SCALABLE) return
    const at = isPasids ? PASID : CONTEXT
    const domain = log.slot(seq, at.domain) >>> 0
    const isAbsent = domain === 0 && unit.abilities.cachingMode === true
    const isSecond = isPasids && unit.mode !== EXTENDED && ((lo >>> PGTT_SHIFT) & 7) === SECOND_LEVEL
    const isKeptOne = domain === FIRST_LEVEL_DOMAIN && isSecond
    if (!isAbsent && !isKeptOne) return
    const address = addressAt(log, seq, at.address)
    const key = { rule: DOMAIN, window: unit.number, entry: address, by: domain, ended: NEVER }
    if (this.list.again(key)) return
    const source = sourceText(log.slot(seq, at.source) >>> 0)
    const what = isPasids
      ? `the entry of PASID ${hex(log.slot(seq, PASID.pasid) >>> 0)} of ${source}`
      : `the context entry of ${source}`
    const why = isAbsent
      ? 'which a unit in caching mode keeps for what is not present'
      : 'which is kept for first-level and pass-through entries'
    const message = `${what} is present with domain ${domain}, ${why}`
    this.list.add({ rule: DOMAIN, message, because: because(this.scene(log), seq), inferred: false })
  }

  /** A word of an entry changes: only the first one may while P is set. */
  #written(log: RecordLog, seq: number, unit: VtdUnitShadow): void {
    const address = addressAt(log, seq, WORD.address)
    const page = this.#pages.get(`${unit.number} ${Math.floor(address / PAGE_BYTES)}`)
    if (page === undefined) return
    const bytes = (page.isPasids ? PASID_BYTES : CONTEXT_BYTES)[unit.mode] ?? PAGE_BYTES
    const index = (address % bytes) / WORD_BYTES
    if (index === 0) return
    const base = address - index * WORD_BYTES
    const first = this.#firstWord(unit, page, base)
    if (first === undefined || (first & PRESENT) === 0) return
    if (!matters(log, seq, { index, first, mode: unit.mode, isPasids: page.isPasids })) return
    const key = { rule: ORDER, window: unit.number, entry: address, by: NEVER, ended: NEVER }
    if (this.list.again(key)) return
    const what = page.isPasids ? 'PASID entry' : 'context entry'
    const message = `word ${index} of the ${what} at ${hex(base)} changes while the entry is present: ${log.names.word(unit.number)} may read half of it`
    const seen = page.read.get(base)?.seq ?? NEVER
    const chain = because(this.scene(log), seen, unit.words.lastBy(base), seq)
    this.list.add({ rule: ORDER, message, because: chain, inferred: false })
  }

  /** Lower half of the first word of an entry, as it was written or else read last. */
  #firstWord(unit: VtdUnitShadow, page: EntryPage, base: number): number | undefined {
    return unit.words.load(base) ? unit.words.lo : page.read.get(base)?.lo
  }
}

/** Whether hardware takes notice of the bits that change. */
function matters(
  log: RecordLog,
  seq: number,
  { index, first, mode, isPasids }: { index: number; first: number; mode: number; isPasids: boolean },
): boolean {
  const hi = log.slot(seq, WORD.before + 1) ^ log.slot(seq, WORD.after + 1)
  const lo = log.slot(seq, WORD.before) ^ log.slot(seq, WORD.after)
  if (isPasids) return index === 1 ? (lo & PASID_DID) !== 0 : index === 2
  if (mode === EXTENDED && index >= 2) return (first & HAS_PASIDS) !== 0
  if (mode === SCALABLE || mode === EXTENDED) return true
  return hi !== 0 || (lo & ~AVAILABLE) !== 0
}
