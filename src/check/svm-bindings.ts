import { hex, wordOf } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import { NONE } from '../trace/event-codes.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { sourceText } from './describe-vtd.ts'
import { because } from './evidence.ts'
import { ListedChecker } from './listed-checker.ts'
import type { RuleId } from './rules.ts'
import { AskedRequests } from './svm-asked.ts'
import { type Binding, BindingShadow, PASIDS } from './svm-binding-shadow.ts'
import { DriverObjects } from './svm-objects.ts'
import { NEVER } from './vtd-flushes.ts'
import { pageAt } from './vtd-unit-shadow.ts'
import { addressAt } from './vtd-words.ts'
import { bytesText } from './words.ts'

const CROSSTALK = 'pasid-crosstalk'
const BOOKS = 'svm-bookkeeping'
const UNBOUND = 'use-after-unbind'
const LINEAR = 'kernel-pasid-non-linear'
const TABLES = slotMap('svm.tables')
const PASID = slotMap('svm.pasid')
const ENTRY = slotMap('svm.entry')
const BIND = slotMap('svm.bind')
const REQUEST = slotMap('svm.request')
const CALLBACK = slotMap('svm.callback')
const OBJECT = slotMap('svm.object')
const FREED = slotMap('svm.use-after-free')
const TABLE = slotMap('mm.table')
const WALK = slotMap('vtd.walk')
const T = slotMap('vtd.translate')
const PAGE_BYTES = 4096
const ENTRY_BYTES = 8
const FIRST_STAGE = 1
const LEVELS = 5
const TOP_LEVEL = 4
/**
 * The direct map of all memory: 64 TiB, wherever a kernel of the time has it. (Linux v4.9
 * Documentation/x86/x86_64/mm.txt: from 0xffff880000000000; since v4.20 from 0xffff888000000000)
 */
const DIRECT_MAP = { first: 0xffff_8800_0000_0000n >> 12n, last: 0xffff_c87f_ffff_ffffn >> 12n } as const
const FIRST_DIRECT = Number(DIRECT_MAP.first)
const LAST_DIRECT = Number(DIRECT_MAP.last)
/** What records matter to: what devices asked for, and all else. */
const OF_REQUESTS = 1
const OF_BOOKS = 2

/**
 * Judges who is bound by which PASID, and what devices reach with it: `svm-bookkeeping`, `use-after-unbind`, `pasid-crosstalk` and
 * `kernel-pasid-non-linear`.
 */
export class SvmBindings extends ListedChecker {
  readonly rules: readonly RuleId[] = [CROSSTALK, BOOKS, UNBOUND, LINEAR]
  readonly kinds: readonly EventKind[] = [
    'svm.tables',
    'svm.pasid',
    'svm.entry',
    'svm.bind',
    'svm.object',
    'svm.request',
    'svm.callback',
    'svm.use-after-free',
    'vtd.page-request',
    'mm.users',
    'mm.table',
    'vtd.walk',
    'vtd.translate',
  ]
  readonly #shadow = new BindingShadow()
  readonly #objects = new DriverObjects()
  readonly #asked = new AskedRequests()
  #log: RecordLog | undefined

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    // Most records of most runs.
    if (kind === KIND['vtd.translate']) {
      if (this.#shadow.hasBindings) this.#translated(log, seq)
      return
    }
    if (kind === KIND['vtd.walk']) {
      if (this.#shadow.hasBindings) this.#walked(log, seq)
      return
    }
    this.#log = log
    if (kind === KIND['svm.tables']) this.#tables(log, seq)
    else if (kind === KIND['svm.pasid']) this.#pasid(log, seq)
    else if (kind === KIND['svm.entry']) this.#entry(log, seq)
    else if (kind === KIND['svm.bind']) this.#bound(log, seq)
    else if (kind === KIND['svm.object']) this.#object(log, seq)
    else if (kind === KIND['svm.request']) this.#requested(log, seq)
    else if (kind === KIND['vtd.page-request']) this.#asked.asked(log, seq)
    else if (kind === KIND['svm.callback']) this.#callback(log, seq)
    else if (kind === KIND['svm.use-after-free']) this.#freed(log, seq)
    else if (kind === KIND['mm.table']) {
      if (log.slot(seq, TABLE.level) === TOP_LEVEL)
        this.#shadow.root(
          addressAt(log, seq, TABLE.page),
          log.slot(seq, TABLE.mm),
          log.slot(seq, TABLE.state) === 1,
        )
    } else this.#shadow.counted(log, seq)
  }

  heeds(log: RecordLog, seq: number): number {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['vtd.page-request']) return OF_REQUESTS
    // When a device asked is compared with when it was bound, and needed once the request is handled.
    const isOfRequests = kind === KIND['svm.bind'] || kind === KIND['svm.request']
    return isOfRequests ? OF_REQUESTS | OF_BOOKS : OF_BOOKS
  }

  override finish(): void {
    const log = this.#log
    if (log === undefined) return
    for (const { pasid, mm, seq, unbound } of this.#shadow.idle(log)) {
      const message = `PASID ${hex(pasid)} is handed out, for ${mm || 'the kernel'}, and no device is bound by it: it is lost`
      this.#found(log, BOOKS, { message, entry: seq, seqs: [seq, unbound] })
    }
    for (const { what, seq } of this.#objects.leaked()) {
      const message = `${what} is allocated, belongs to no binding, and is not freed: it is lost`
      this.#found(log, BOOKS, { message, entry: seq, seqs: [seq] })
    }
    for (const { pasid, seq, ended } of this.#shadow.leftEntries()) {
      const message = `the entry of PASID ${hex(pasid)} is still present, though nothing is bound by it any more`
      this.#found(log, UNBOUND, { message, entry: seq, seqs: [seq, ended] })
    }
  }

  #tables(log: RecordLog, seq: number): void {
    const entries = log.slot(seq, TABLES.entries) >>> 0
    const order = log.slot(seq, TABLES.order)
    const page = addressAt(log, seq, TABLES.page)
    this.#shadow.tables(log.slot(seq, TABLES.unit), page === 0 ? 0 : entries)
    if (entries === 0) return
    const bytes = entries * ENTRY_BYTES
    const right = Math.max(0, Math.ceil(Math.log2(bytes / PAGE_BYTES)))
    if (order === right) return
    const table = `the ${log.names.word(log.slot(seq, TABLES.table))} table of ${log.names.word(log.slot(seq, TABLES.unit))}`
    const message = `${table} of ${entries} entries needs ${bytesText(bytes)}, order ${right}, and order ${order} is ${page === 0 ? 'asked for in vain' : 'taken'}`
    this.#found(log, BOOKS, { message, entry: seq, seqs: [seq] })
  }

  #pasid(log: RecordLog, seq: number): void {
    const unit = log.slot(seq, PASID.unit)
    const pasid = log.slot(seq, PASID.pasid) >>> 0
    const isGiven = log.slot(seq, PASID.state) === 1
    const known = this.#shadow.given(log, unit, pasid)
    const books = (message: string, ...seqs: readonly number[]) =>
      this.#found(log, BOOKS, { message: `PASID ${hex(pasid)} ${message}`, entry: seq, seqs: [...seqs, seq] })
    if (isGiven) {
      if (known !== undefined) books('is handed out, though somebody has it', known.seq)
      if (!this.#shadow.fits(unit, pasid)) books('is handed out, and its table has no place for it')
      for (const left of this.#shadow.entriesOf(unit, pasid)) {
        const message = `PASID ${hex(pasid)} is handed out again while its entry leads to the page tables of who had it before`
        this.#found(log, UNBOUND, { message, entry: left.seq, seqs: [left.seq, seq] })
      }
    } else if (known === undefined) books('is given back, though nobody has it')
    else {
      const held = this.#shadow.boundBy(log, unit, pasid)
      if (held !== undefined)
        books(`is given back while ${log.names.word(held.device)} is bound by it`, held.seq)
    }
    this.#shadow.pasid(log, seq)
    if (isGiven) this.#objects.settled(ofPasid(pasid))
  }

  #entry(log: RecordLog, seq: number): void {
    const unit = log.slot(seq, ENTRY.unit)
    const pasid = log.slot(seq, ENTRY.pasid) >>> 0
    this.#shadow.entry(log, seq)
    if (this.#shadow.fits(unit, pasid)) return
    const message = `the entry of PASID ${hex(pasid)} is written behind the end of its table`
    this.#found(log, BOOKS, { message, entry: seq, seqs: [seq] })
  }

  #bound(log: RecordLog, seq: number): void {
    const unit = log.slot(seq, BIND.unit)
    const pasid = log.slot(seq, BIND.pasid) >>> 0
    const users = log.slot(seq, BIND.users)
    const before = this.#shadow.binding(log.slot(seq, BIND.source) >>> 0, pasid)
    const held = before?.users ?? 0
    const device = log.names.word(log.slot(seq, BIND.device))
    const wrong = (message: string, at = NEVER) =>
      this.#found(log, BOOKS, { message, entry: seq, seqs: [at, seq] })
    if (Math.abs(users - held) !== 1)
      wrong(`${device} is bound by PASID ${hex(pasid)} ${users} times, after ${held}`, before?.seq)
    const given = this.#shadow.given(log, unit, pasid)
    if (users > 0 && given === undefined)
      wrong(`${device} is bound by PASID ${hex(pasid)}, which nobody was given`)
    else if (users > 0 && given?.mm !== log.slot(seq, BIND.mm))
      wrong(`${device} is bound by PASID ${hex(pasid)}, which somebody else was given`, given?.seq)
    this.#shadow.bind(log, seq)
    if (held === 0 && users > 0) this.#objects.settled(ofDevice(log.slot(seq, BIND.device)))
  }

  /** Memory of the driver comes or goes: of a device, or of a PASID. */
  #object(log: RecordLog, seq: number): void {
    const device = log.slot(seq, OBJECT.device)
    const name = log.names.word(device) === '' ? ofPasid(log.slot(seq, OBJECT.pasid)) : ofDevice(device)
    if (log.slot(seq, OBJECT.state) === 1)
      this.#objects.made(name, { what: log.names.word(log.slot(seq, OBJECT.what)), seq })
    else this.#objects.settled(name)
  }

  /** A page request is granted: only who is bound by its PASID has pages brought in. */
  #requested(log: RecordLog, seq: number): void {
    const pasid = log.slot(seq, REQUEST.pasid) >>> 0
    const asked = this.#asked.taken(log, seq)
    if (pasid === NONE || log.names.word(log.slot(seq, REQUEST.result)) !== 'success') return
    const source = log.slot(seq, REQUEST.source) >>> 0
    const bound = this.#shadow.binding(source, pasid)
    if (bound !== undefined && bound.users > 0) return
    const iova = hex(wordOf(log.slot(seq, REQUEST.iova + 1), log.slot(seq, REQUEST.iova)))
    if (bound !== undefined) {
      // What it asked for while it was bound may be on its way.
      if (asked < bound.seq) return
      const message = `${sourceText(source)} has ${iova} brought in with PASID ${hex(pasid)}, from which it was unbound before it asked`
      this.#found(log, UNBOUND, { message, entry: bound.seq, seqs: [bound.seq, asked, seq] })
      return
    }
    const given = this.#shadow.given(log, log.slot(seq, REQUEST.unit), pasid)
    if (given === undefined) return
    const message = `${sourceText(source)} has ${iova} of ${log.names.word(given.mm) || 'the kernel'} brought in with PASID ${hex(pasid)}, by which it was never bound`
    this.#found(log, CROSSTALK, { message, entry: source * PASIDS + pasid, seqs: [given.seq, seq] })
  }

  #callback(log: RecordLog, seq: number): void {
    const told = log.slot(seq, CALLBACK.source) >>> 0
    const asked = log.slot(seq, CALLBACK.wanted) >>> 0
    if (told === asked) return
    const device = log.names.word(log.slot(seq, CALLBACK.device))
    const message = `the driver of ${device} (${sourceText(told)}) is told of a request of ${sourceText(asked)}`
    const pasid = log.slot(seq, CALLBACK.pasid) >>> 0
    const bound = this.#shadow.binding(asked, pasid)?.seq ?? NEVER
    this.#found(log, CROSSTALK, { message, entry: told * 2 ** 16 + asked, seqs: [bound, seq] })
  }

  #freed(log: RecordLog, seq: number): void {
    const what = log.slot(seq, FREED.what)
    const by = log.slot(seq, FREED.by)
    const message = `${log.names.word(by)} uses ${log.names.word(what)}, which is freed`
    const cause = log.causeOf(seq)
    this.#found(log, UNBOUND, { message, entry: what * 2 ** 20 + by, seqs: [cause, seq] })
  }

  #walked(log: RecordLog, seq: number): void {
    const pasid = log.slot(seq, WALK.pasid) >>> 0
    if (pasid === NONE || log.slot(seq, WALK.stage) !== FIRST_STAGE) return
    let top = 0
    for (let level = 0; level < LEVELS; level++) top = log.slot(seq, WALK.t1 + level) >>> 0 || top
    const owner = this.#shadow.ownerOf(top)
    const given = this.#shadow.given(log, log.slot(seq, WALK.unit), pasid)
    if (owner === undefined || given === undefined || owner === given.mm) return
    const source = sourceText(log.slot(seq, WALK.source) >>> 0)
    const message = `${source} walks the page tables of ${log.names.word(owner)} with PASID ${hex(pasid)}, which is of ${log.names.word(given.mm) || 'the kernel'}`
    this.#found(log, CROSSTALK, { message, entry: given.seq, seqs: [given.seq, seq] })
  }

  /** A device uses a PASID. */
  #translated(log: RecordLog, seq: number): void {
    const pasid = log.slot(seq, T.pasid) >>> 0
    if (pasid === NONE) return
    const source = log.slot(seq, T.source) >>> 0
    const unit = log.slot(seq, T.unit)
    if (this.#shadow.isOfKernel(log, unit, pasid)) this.#ofKernel(log, seq, pasid)
    if (log.slot(seq, T.fault) !== 0) return
    const need = log.slot(seq, T.need)
    if ((log.slot(seq, T.perm) & need) !== need) return
    const bound = this.#shadow.binding(source, pasid)
    if (bound !== undefined && bound.users > 0) return
    if (bound !== undefined) this.#stray(log, seq, { source, pasid, bound })
    else this.#foreign(log, seq, { unit, source, pasid })
  }

  #stray(
    log: RecordLog,
    seq: number,
    { source, pasid, bound }: { source: number; pasid: number; bound: Binding },
  ): void {
    const message = `${sourceText(source)} reaches memory at ${iovaText(log, seq)} with PASID ${hex(pasid)}, from which it was unbound`
    this.#found(log, UNBOUND, { message, entry: bound.seq, seqs: [bound.seq, seq] })
  }

  /** A device that was never bound by a PASID that others have. */
  #foreign(
    log: RecordLog,
    seq: number,
    { unit, source, pasid }: { unit: number; source: number; pasid: number },
  ): void {
    const given = this.#shadow.given(log, unit, pasid)
    if (given === undefined) return
    const whose = log.names.word(given.mm) || 'the kernel'
    const message = `${sourceText(source)} reaches memory of ${whose} at ${iovaText(log, seq)} with PASID ${hex(pasid)}, by which it was never bound`
    const entry = source * PASIDS + pasid
    this.#found(log, CROSSTALK, { message, entry, seqs: [given.seq, seq] })
  }

  #ofKernel(log: RecordLog, seq: number, pasid: number): void {
    const page = pageAt(log, seq, T.iova)
    // A device with a TLB of its own names the memory that it has the address of.
    if (page === pageAt(log, seq, T.target)) return
    if (page >= FIRST_DIRECT && page <= LAST_DIRECT) return
    const source = log.slot(seq, T.source) >>> 0
    const message = `${sourceText(source)} uses ${iovaText(log, seq)} with PASID ${hex(pasid)} of the kernel: that is outside the direct map of memory, and nothing is flushed when it changes`
    this.#found(log, LINEAR, { message, entry: source * PASIDS + pasid, seqs: [seq] })
  }

  #found(
    log: RecordLog,
    rule: RuleId,
    { message, entry, seqs }: { message: string; entry: number; seqs: readonly number[] },
  ): void {
    if (this.list.again({ rule, window: -1, entry, by: NEVER, ended: NEVER })) return
    this.list.add({ rule, message, because: because(this.scene(log), ...seqs), inferred: false })
  }
}

const iovaText = (log: RecordLog, seq: number): string =>
  hex((BigInt(log.slot(seq, T.iova + 1) >>> 0) << 32n) | BigInt(log.slot(seq, T.iova) >>> 0))

/** What the driver has of a device, and of a PASID. */
const ofDevice = (device: number): string => `device ${device}`
const ofPasid = (pasid: number): string => `PASID ${pasid}`
