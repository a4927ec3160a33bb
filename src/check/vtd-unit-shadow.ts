import { numberOf } from '../bits/u64.ts'
import { KIND, slotMap } from '../trace/event.ts'
import { FLUSH_SCOPE, NONE, TABLE_MODE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { DeviceFlushes, type Flush, IotlbFlushes, NEVER } from './vtd-flushes.ts'
import { abilitiesOf, UNKNOWN_ABILITIES, type UnitAbilities } from './vtd-invalidations.ts'
import { addressAt, isGiven, isTakenBack, ROLE, type Role, WordHistory } from './vtd-words.ts'

const REGISTER = slotMap('vtd.register')
const ROOT = slotMap('vtd.root')
const CONTEXT = slotMap('vtd.context')
const PASID = slotMap('vtd.pasid')
/** Of both: `above` is the entry that leads to it. */
const CONTEXT_AT = { ...CONTEXT, above: CONTEXT.rootAddress }
const PASID_AT = { ...PASID, above: PASID.directory }
const CAP = 8
const WORD_BYTES = 8
const PAGE_BYTES = 4096
const PASIDS = 2 ** 20
/** Registers whose writes have the invalidation queue go on: GCMD, FSTS, IQT. What others flush is done at once. */
const QUEUE_REGISTERS = [0x18, 0x34, 0x88] as const
/** Words of an entry, by the mode of the tables. */
const CONTEXT_WORDS = [2, 4, 4, 0] as const
const PASID_WORDS = [0, 8, 1, 0] as const
const POINTER_HI = 0xf_ffff
const POINTER_LO = ~0xfff
/** T of a context entry whose requests pass through. */
const DIRECT = 2
/** PGTT of a PASID entry: 1 first-level, 2 second-level, 3 both, 4 none. */
const PGTT_SHIFT = 6
const PGTT_FIRST = 1
const PGTT_SECOND = 2
/** Place of the word with FLPTPTR. */
const FIRST_TABLE = 16
/** Earlier readings of one entry that are kept. */
const READINGS_MAX = 16
/** Flushes that are looked through for one that came near. */
const NEAR_MAX = 32

/** What a unit read of the context entry of a device, or of the entry of a PASID. */
export interface Structure {
  /** The record. */
  readonly seq: number
  readonly source: number
  /** `NONE` for a context entry. */
  readonly pasid: number
  /** Root entry, or PASID directory entry; and the entry, 0 where there was none to read. */
  readonly above: number
  readonly address: number
  /** Its first word. */
  readonly hi: number
  readonly lo: number
  readonly domain: number
  readonly fault: number
  /** The last flush that takes it. */
  flushed: number
  /** The reading before. */
  before: Structure | undefined
  /** Up to which state of the unit it is known to be as in memory. */
  judged: number
}

/** A word that does not say any more what a unit read. */
export interface Changed {
  readonly role: Role
  readonly address: number
  /** Record of the change. */
  readonly by: number
}

/** Whether an access to a register says what the unit can do: the only ones that its shadow looks at. */
export const showsCapabilities = (log: RecordLog, seq: number): boolean =>
  log.slot(seq, REGISTER.write) === 0 &&
  log.slot(seq, REGISTER.offset) === CAP &&
  log.slot(seq, REGISTER.bytes) === WORD_BYTES

/** What records say of one VT-d unit: its capabilities, its tables, what it read, and what it was told to forget. */
export class VtdUnitShadow {
  /** Interned name. */
  readonly number: number
  readonly words = new WordHistory()
  readonly iotlb = new IotlbFlushes()
  /** Those that take what leads to tables as well. */
  readonly tables = new IotlbFlushes()
  readonly devices = new DeviceFlushes()
  readonly contexts = new Map<number, Structure>()
  readonly pasids = new Map<number, Structure>()
  /** PASIDs that requests without one are translated through (RID_PASID), by device, as far as they were seen. */
  readonly ridPasids = new Map<number, number>()
  /** What was read of a PASID last. */
  lastPasid: Structure | undefined
  abilities: UnitAbilities = UNKNOWN_ABILITIES
  mode: number = TABLE_MODE.LEGACY
  /** 4 KiB page of the root table, and the record that set it; -1 where none did. */
  rootPage = -1
  rootSeq = NEVER
  /** Undefined where no record says. */
  isEnabled: boolean | undefined
  /** All flushes up to this record are complete. */
  completed = NEVER
  /** Moves with everything that may make a cached translation wrong. */
  clock = 1
  /** Record of what moved it last. */
  lastEvent = NEVER
  /** The last translation. */
  lastTranslate = NEVER
  /** The last walk of page tables. */
  lastWalk = NEVER
  #near: Flush[] = []
  #globalContexts = NEVER

  constructor(number: number) {
    this.number = number
  }

  register(log: RecordLog, seq: number): void {
    if (!showsCapabilities(log, seq)) return
    const [hi, lo] = [log.slot(seq, REGISTER.value + 1) >>> 0, log.slot(seq, REGISTER.value) >>> 0]
    this.abilities = abilitiesOf((BigInt(hi) << 32n) | BigInt(lo))
  }

  root(log: RecordLog, seq: number): void {
    const page = Math.floor(addressAt(log, seq, ROOT.address) / PAGE_BYTES)
    const mode = log.slot(seq, ROOT.mode)
    this.isEnabled = log.slot(seq, ROOT.enabled) === 1
    if (page !== this.rootPage || mode !== this.mode) this.rootSeq = seq
    this.rootPage = page
    this.mode = mode
    this.#moved(seq)
  }

  word(log: RecordLog, seq: number): void {
    this.words.note(log, seq)
    this.#moved(seq)
  }

  read(log: RecordLog, seq: number): void {
    const isContext = log.kindNumberOf(seq) === KIND['vtd.context']
    const at = isContext ? CONTEXT_AT : PASID_AT
    const source = log.slot(seq, at.source) >>> 0
    const pasid = isContext ? NONE : log.slot(seq, PASID.pasid) >>> 0
    const known = isContext ? this.contexts.get(source) : this.pasids.get(source * PASIDS + pasid)
    const fault = log.slot(seq, at.fault)
    const structure: Structure = {
      seq,
      source,
      pasid,
      above: addressAt(log, seq, at.above),
      address: addressAt(log, seq, at.address),
      hi: log.slot(seq, at.lo + 1),
      lo: log.slot(seq, at.lo),
      domain: log.slot(seq, at.domain) >>> 0,
      fault,
      flushed: NEVER,
      // What was found wrong again and again is one reading.
      before: known?.fault === 0 || fault === 0 ? known : known?.before,
      judged: 0,
    }
    let oldest = known
    for (let n = 1; n < READINGS_MAX && oldest !== undefined; n++) oldest = oldest.before
    if (oldest !== undefined) oldest.before = undefined
    if (isContext) this.contexts.set(source, structure)
    else {
      this.pasids.set(source * PASIDS + pasid, structure)
      this.lastPasid = structure
    }
  }

  flush(log: RecordLog, flush: Flush): void {
    const { seq, scope, hint } = flush
    if (scope === FLUSH_SCOPE.CONTEXT) this.#flushContexts(flush)
    else if (scope === FLUSH_SCOPE.PASID_CACHE) this.#flushPasids(flush)
    else if (scope === FLUSH_SCOPE.DEVICE_TLB || scope === FLUSH_SCOPE.PASID_DEVICE_TLB)
      this.devices.note(flush)
    else {
      this.iotlb.note(flush)
      if (hint === 0) this.tables.note(flush)
    }
    if (this.#near.length >= NEAR_MAX) this.#near = this.#near.slice(NEAR_MAX / 2)
    this.#near.push(flush)
    this.#moved(seq)
    if (isByRegister(log, seq)) this.completed = seq
  }

  /** All invalidations before are complete. */
  wait(seq: number): void {
    this.completed = seq
    this.clock++
  }

  /** The last flush since a record that is of some kind, and names what a reader would take for the right one. */
  flushNear(since: number, isNear: (flush: Flush) => boolean): number {
    return this.#near.findLast((flush) => flush.seq > since && isNear(flush))?.seq ?? NEVER
  }

  context(source: number): Structure | undefined {
    return this.contexts.get(source)
  }

  pasid(source: number, pasid: number): Structure | undefined {
    return this.pasids.get(source * PASIDS + pasid)
  }

  /** Notes which PASID a request without one was translated through: the one that was read for it. */
  noteRid(source: number, before: number): void {
    const read = this.lastPasid
    if (read !== undefined && read.seq > before && read.source === source)
      this.ridPasids.set(source, read.pasid)
  }

  /** The PASID that a request is translated through; `NONE` where it is not known, or there is none. */
  pasidOf(source: number, requested: number): number {
    return requested === NONE ? (this.ridPasids.get(source) ?? NONE) : requested
  }

  /** What was read of an entry last, before a record. */
  asOf(now: Structure | undefined, seq: number): Structure | undefined {
    let reading = now
    while (reading !== undefined && reading.seq > seq) reading = reading.before
    return reading
  }

  /** The word of an entry, or of what leads to it, that says something else since it was read; with the root pointer as a change of its own. */
  changeOf(structure: Structure): Changed | undefined {
    const { words } = this
    const isContext = structure.pasid === NONE
    const { seq, above, address, fault } = structure
    const isWrong = fault === 0 ? isTakenBack : isGiven
    const role = isContext ? ROLE.ROOT : ROLE.DIRECTORY
    if (isContext && this.rootSeq > seq && this.#globalContexts < this.rootSeq) {
      if (Math.floor(above / PAGE_BYTES) !== this.rootPage)
        return { role: ROLE.ROOT, address: this.rootPage * PAGE_BYTES, by: this.rootSeq }
    }
    if (words.isEmpty) return undefined
    if (words.changed(above, seq) && isWrong(role, 0, words)) return { role, address: above, by: words.by }
    if (address === 0) return undefined
    const count = (isContext ? CONTEXT_WORDS : PASID_WORDS)[this.mode] ?? 0
    for (let i = 0; i < count; i++) {
      const at = address + i * WORD_BYTES
      const own = isContext ? ROLE.CONTEXT : ROLE.PASID
      if (words.changed(at, seq) && isWrong(own, 0, words)) return { role: own, address: at, by: words.by }
    }
    return undefined
  }

  /** Whether the tables behind an entry are others by a later reading of it, or of the entry of another device. */
  leadsElsewhere(then: Structure, now: Structure): boolean {
    const isOther = ((then.hi ^ now.hi) & POINTER_HI) !== 0 || ((then.lo ^ now.lo) & POINTER_LO) !== 0
    if (this.mode === TABLE_MODE.EXTENDED && then.pasid !== NONE) return isOther
    if (this.mode !== TABLE_MODE.SCALABLE) {
      const isDirect = (entry: Structure) => ((entry.lo >>> 2) & 3) === DIRECT
      return isDirect(then) !== isDirect(now) || (!isDirect(then) && isOther)
    }
    if (then.pasid === NONE) return false
    const kind = (then.lo >>> PGTT_SHIFT) & 7
    if (kind !== ((now.lo >>> PGTT_SHIFT) & 7)) return true
    if ((kind & PGTT_SECOND) !== 0 && isOther) return true
    if ((kind & PGTT_FIRST) === 0 || then.address !== now.address) return false
    // The first-level tables: a word that records show only where it changed.
    const { words } = this
    if (!words.changed(then.address + FIRST_TABLE, then.seq)) return false
    return ((words.oldHi ^ words.hi) & POINTER_HI) !== 0 || ((words.oldLo ^ words.lo) & POINTER_LO) !== 0
  }

  #moved(seq: number): void {
    this.clock++
    this.lastEvent = seq
  }

  #flushContexts({ seq, domain, source, hint }: Flush): void {
    if (domain === NONE) this.#globalContexts = seq
    const ignored = [0, 4, 6, 7][hint & 3] as number
    for (const entry of this.contexts.values()) {
      // An entry that is not present is kept as one of domain 0; one of scalable mode has no domain: any names it.
      const isAny = this.mode === TABLE_MODE.SCALABLE || (entry.fault !== 0 && domain === 0)
      const isOf = isAny || entry.domain === domain
      const isNamed = source === NONE || (entry.source & ~ignored) === (source & ~ignored)
      if (domain === NONE || (isOf && isNamed)) entry.flushed = seq
    }
  }

  #flushPasids({ seq, domain, pasid }: Flush): void {
    for (const entry of this.pasids.values()) {
      const isOf = entry.domain === domain && (pasid === NONE || entry.pasid === pasid)
      // Of one that is not present a unit knows no domain; of extended tables software names PASID 0.
      const isNamed = entry.pasid === pasid || (pasid === 0 && this.mode === TABLE_MODE.EXTENDED)
      const isAbsent = entry.fault !== 0 && (isNamed || (pasid === NONE && domain === 0))
      if (domain === NONE || isOf || isAbsent) entry.flushed = seq
    }
  }
}

/** Whether a flush came from a register that invalidates, which is done when the write is. */
function isByRegister(log: RecordLog, seq: number): boolean {
  const cause = log.causeOf(seq)
  if (cause < 0 || !log.has(cause) || log.kindNumberOf(cause) !== KIND['vtd.register']) return false
  const offset = log.slot(cause, REGISTER.offset)
  return !QUEUE_REGISTERS.some((register) => offset >= register && offset < register + 8)
}

/** Shadows of all units of a run, by the number of their name. */
export class VtdUnits {
  readonly #units: VtdUnitShadow[] = []
  #last: VtdUnitShadow | undefined

  get all(): readonly VtdUnitShadow[] {
    return this.#units
  }

  of(log: RecordLog, seq: number): VtdUnitShadow {
    const number = log.slot(seq, 0)
    if (this.#last?.number === number) return this.#last
    let unit = this.#units.find((u) => u.number === number)
    if (unit === undefined) {
      unit = new VtdUnitShadow(number)
      this.#units.push(unit)
    }
    this.#last = unit
    return unit
  }
}

/** A page-aligned address in two slots, as 4 KiB page. */
export const pageAt = (log: RecordLog, seq: number, slot: number): number =>
  Math.floor(numberOf(log.slot(seq, slot + 1), log.slot(seq, slot)) / PAGE_BYTES)
