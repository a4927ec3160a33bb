import { NO_VALUE } from '../bits/range-map.ts'
import { hex } from '../bits/u64.ts'
import { type EventKind, KIND, slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { busAddress, isFree } from './describe.ts'
import { because } from './evidence.ts'
import type { FindingKey } from './finding-list.ts'
import { HostIsolation } from './host-isolation.ts'
import { type CheckerOptions, ListedChecker } from './listed-checker.ts'
import { INFERRED, LIVE, NO_RECORD } from './lives.ts'
import { MappedMemory, type Mapping, mappingsOf } from './mapped-memory.ts'
import { ownersText, PageOwners, type PageSpan } from './page-owners.ts'
import type { RuleId } from './rules.ts'
import { type Extent, extentsOf, isRow, memoryPageOf, NO_PAGE } from './tce-value.ts'
import { pageSlot, type WindowShadow } from './window-shadow.ts'
import { bytesText } from './words.ts'

const RULE = 'foreign-memory'
const SET = slotMap('tce.set')
const GRANT = slotMap('dma.grant')
const OWN = slotMap('page.own')
const MEMORY = slotMap('memory.slot')
const UNIT_SHIFT = 12
const HOW_UNKNOWN = 2
const UNIT_BYTES = 1 << UNIT_SHIFT
/** What is wrong: part of the key of a finding. */
const BESIDE_GRANT = 1
const BEYOND_RAM = 2
const OUTSIDER = 3
const TWO_OWNERS = 4
const HANDED_OVER = 5
/** Findings kept back until it is known what kind of window theirs is. */
const DEFERRED_MAX = 1000

/** A record, and the window that it is about. */
interface Moment {
  readonly log: RecordLog
  readonly seq: number
  readonly window: WindowShadow
}

/** A finding before it is counted. `by`, `ended` and `outcome` are parts of its key. */
interface Draft {
  readonly entry: number
  readonly outcome: number
  readonly by: number
  readonly ended?: number
  readonly message: string
  readonly records: readonly number[]
  readonly inferred: boolean
}

/**
 * Judges `foreign-memory`: an IOMMU page that lets a device reach memory of another owner.
 *
 * Where there are grants: at the grant, every page behind its entries must belong to the grant's owner; later
 * none of them may be given to somebody else while an entry still maps it. Where there are none, one IOMMU
 * page must not hold pages of two owners. In every window, memory outside the partition is foreign; a direct
 * window exposes all that is inside, by design.
 *
 * Entries of hardware tables and frames of the host: see `HostIsolation`.
 *
 * What is found in a window without grants waits for the end: the window may turn out to be a direct one.
 */
export class ForeignMemory extends ListedChecker {
  readonly rules: readonly RuleId[] = [RULE]
  readonly kinds: readonly EventKind[] = [
    'page.own',
    'memory.slot',
    'tce.set',
    'dma.grant',
    'dma.direct',
    'window.close',
    'hw.set',
    'hw.window',
  ]
  readonly #pages = new PageOwners()
  readonly #host: HostIsolation
  /** What windows that are not direct map; undefined until the first page has an owner. */
  #mapped: MappedMemory | undefined
  #deferred: { readonly moment: Moment; readonly draft: Draft }[] = []

  constructor(options: CheckerOptions) {
    super(options)
    this.#host = new HostIsolation(this.windows, this.list)
    options.uses.watchReach(this.#host)
  }

  see(log: RecordLog, seq: number): void {
    const kind = log.kindNumberOf(seq)
    if (kind === KIND['tce.set']) this.#set(log, seq)
    else if (kind === KIND['hw.set']) this.#host.set(log, seq)
    else if (kind === KIND['hw.window']) this.#host.programmed(log, seq)
    else if (kind === KIND['dma.grant']) this.#granted(log, seq)
    else if (kind === KIND['page.own']) this.#owned(log, seq)
    else if (kind === KIND['memory.slot']) this.#slot(log, seq)
    else if (kind === KIND['dma.direct']) {
      for (const window of this.windows.directOf(log, seq)) this.#leaveOut(log, window)
    } else {
      const window = this.windows.find(log.slot(seq, 0) >>> 0)
      if (window !== undefined) this.#leaveOut(log, window)
    }
  }

  override finish(): void {
    const deferred = this.#deferred
    this.#deferred = []
    for (const { moment, draft } of deferred) {
      if (!moment.window.isDirect && moment.window.grants === undefined) this.#report(moment, draft)
    }
  }

  /** What a window maps is not counted any more: it becomes direct, or closes. */
  #leaveOut(log: RecordLog, window: WindowShadow): void {
    if (!window.isDirect) this.#mapped?.window(log, window, -1)
  }

  #set(log: RecordLog, seq: number): void {
    if (this.#mapped === undefined && !this.#pages.hasRam) return
    const update = this.windows.update(log, seq)
    if (update === undefined) return
    const { window, first, end, perm, how } = update
    const count = end - first
    const mapped = window.isDirect ? undefined : this.#mapped
    if (update.live > 0) mapped?.take(log, window, first, count)
    if (count === 0 || perm === 0 || how === HOW_UNKNOWN) return
    mapped?.add(log, seq, window, first, count)
    const mayMix = mapped !== undefined && window.grants === undefined && window.units > 1
    if (isRow(log, seq, count, window.pageShift) && !mayMix && !this.#pages.hasOutsiders) {
      const page = memoryPageOf(log, seq, first, window.units)
      if (!this.#pages.hasRam || this.#pages.areRam(page, page + count * window.units)) return
    }
    for (const extent of extentsOf(log, seq, { first, count, pageShift: window.pageShift })) {
      const end = extent.page + extent.pages
      if (this.#pages.hasRam && !this.#pages.areRam(extent.page, end))
        this.#beyondRam({ log, seq, window }, extent)
      if (this.#pages.hasOutsiders) this.#outsider({ log, seq, window }, extent)
      if (mayMix) this.#twoOwners({ log, seq, window }, extent)
    }
  }

  #beyondRam({ log, seq, window }: Moment, extent: Extent): void {
    const page = this.#pages.firstBeyondRam({ start: extent.page, end: extent.page + extent.pages })
    const entry = entryOf(window, extent, page)
    this.#report(
      { log, seq, window },
      {
        entry,
        outcome: BEYOND_RAM,
        by: seq,
        message: `${pageText(window, page)} reaches beyond the partition's RAM, at ${busText(window, entry)}`,
        records: [seq],
        inferred: log.slot(seq, SET.how) !== 0,
      },
    )
  }

  #outsider({ log, seq, window }: Moment, extent: Extent): void {
    for (const { start, owner } of this.#pages.owned({
      start: extent.page,
      end: extent.page + extent.pages,
    })) {
      if (owner === NO_VALUE || !this.#pages.isOutside(log, owner)) continue
      const entry = entryOf(window, extent, start)
      const by = this.#pages.recordOf(start)
      this.#report(
        { log, seq, window },
        {
          entry,
          outcome: OUTSIDER,
          by,
          message: `${pageText(window, start)} exposes memory of ${log.names.word(owner)}, at ${busText(window, entry)}`,
          records: [by, seq],
          inferred: log.slot(seq, SET.how) !== 0,
        },
      )
      return
    }
  }

  /** Pages of two owners in one IOMMU page of a window in which nobody grants. */
  #twoOwners({ log, seq, window }: Moment, extent: Extent): void {
    const { units } = window
    for (let at = extent.page; at < extent.page + extent.pages; at += units) {
      const span = { start: at, end: at + units }
      const owners = this.#pages.ownersOf(span)
      owners.delete(NO_VALUE)
      if (owners.size < 2) continue
      const draft = {
        entry: entryOf(window, extent, at),
        outcome: TWO_OWNERS,
        by: seq,
        message: `${pageText(window, at)} holds memory of ${owners.size} owners: ${ownersText(log, owners)}`,
        records: [...this.#pages.recordsOf(owners, span), seq],
        inferred: log.slot(seq, SET.how) !== 0,
      }
      this.#defer({ log, seq, window }, draft)
      return
    }
  }

  /** Everything behind the entries of a grant must belong to the grant's owner. */
  #granted(log: RecordLog, seq: number): void {
    const window = this.windows.find(log.slot(seq, GRANT.window) >>> 0)
    if (window === undefined || this.#mapped === undefined) return
    const { tce, units } = window
    const first = pageSlot(log, seq, GRANT.first)
    const count = pageSlot(log, seq, GRANT.count)
    const gpa = pageSlot(log, seq, GRANT.gpa)
    const end = gpa + pageSlot(log, seq, GRANT.bytes)
    const buffer = { start: Math.floor(gpa / UNIT_BYTES), end: Math.ceil(end / UNIT_BYTES) }
    const named = log.slot(seq, GRANT.owner)
    const owner = named === 0 ? this.#pages.ownerOf(buffer.start) : named
    for (let i = 0; i < count; i++) {
      tce.loadAt(first + i)
      let start = (Math.floor(buffer.start / units) + i) * units
      if ((tce.state & LIVE) !== 0) start = memoryPageOf(log, tce.begun, first + i, units)
      if (start === NO_PAGE || this.#pages.areAllOf(owner, start, start + units)) continue
      const page = { start, end: start + units }
      if (this.#isExposing({ log, seq, window }, { entry: first + i, page, buffer, owner })) return
    }
  }

  /** Whether an IOMMU page exposes more than its grant's owner has; reports it. */
  #isExposing(
    { log, seq, window }: Moment,
    at: {
      readonly entry: number
      readonly page: PageSpan
      readonly buffer: PageSpan
      readonly owner: number
    },
  ): boolean {
    const { entry, page, buffer, owner } = at
    if (owner === NO_VALUE || !this.#pages.isKnown(page)) {
      this.list.skipped++
      return false
    }
    const inside = { start: Math.max(buffer.start, page.start), end: Math.min(buffer.end, page.end) }
    const others = this.#pages.ownersOf(page)
    others.delete(owner)
    // Granted pages that no record speaks of are taken to be the owner's.
    const free = (others.get(NO_VALUE) ?? 0) - this.#pages.unknownIn(inside)
    if (free > 0) others.set(NO_VALUE, free)
    else others.delete(NO_VALUE)
    if (others.size === 0) return false
    const records = this.#pages.recordsOf(others, page)
    const granted = Math.max(0, inside.end - inside.start) * UNIT_BYTES
    const whose =
      granted === 0 ? 'none of it granted' : `${bytesText(granted)} granted for ${log.names.word(owner)}`
    window.tce.loadAt(entry)
    const mappedBy = (window.tce.state & LIVE) === 0 ? NO_RECORD : window.tce.begun
    this.#report(
      { log, seq, window },
      {
        entry,
        outcome: BESIDE_GRANT,
        by: records[0] ?? NO_RECORD,
        message: `${pageText(window, page.start)}, ${whose}, also exposes ${ownersText(log, others)}`,
        records: [this.#pages.recordOf(buffer.start), ...records, mappedBy, seq],
        inferred: false,
      },
    )
    return true
  }

  /** Pages change hands: nobody else may still have them mapped. */
  #owned(log: RecordLog, seq: number): void {
    const space = log.names.word(log.slot(seq, OWN.space))
    if (space === 'hpa') this.#host.own(log, seq)
    if (space !== 'gpa') return
    if (this.#mapped === undefined) {
      this.#mapped = new MappedMemory()
      for (const window of this.windows.all()) if (!window.isDirect) this.#mapped.window(log, window, 1)
    }
    const owner = log.slot(seq, OWN.owner)
    if (!isFree(log.names.word(owner))) {
      const span = this.#pages.spanOf(log, seq)
      const isOutside = this.#pages.isOutside(log, owner)
      if (isOutside || this.#mapped.any(span)) {
        for (const mapping of mappingsOf(log, this.windows.all(), span)) {
          if (!mapping.window.isDirect || isOutside) this.#handedOver(log, seq, mapping)
        }
      }
    }
    this.#pages.own(log, seq)
  }

  #handedOver(log: RecordLog, seq: number, { window, run, extent }: Mapping): void {
    const page = Math.max(this.#pages.spanOf(log, seq).start, extent.page)
    const entry = entryOf(window, extent, page)
    window.grants?.loadAt(entry)
    const grantedBy = window.grants?.begun ?? NO_RECORD
    const isNamed = grantedBy !== NO_RECORD && log.has(grantedBy)
    const before = isNamed ? log.slot(grantedBy, GRANT.owner) : this.#pages.lastOwnerOf(page)
    const owner = log.slot(seq, OWN.owner)
    const isOutside = this.#pages.isOutside(log, owner)
    const hadOwner = before !== NO_VALUE && !isFree(log.names.word(before))
    if (before === owner || (!isOutside && !hadOwner)) return
    const draft = {
      entry,
      outcome: HANDED_OVER,
      by: run.begun,
      ended: seq,
      message:
        `memory ${hex(page * UNIT_BYTES)} was given to ${log.names.word(owner)} ` +
        `while ${busText(window, entry)} still maps it${hadOwner ? ` for ${log.names.word(before)}` : ''}`,
      records: [grantedBy, run.begun, seq],
      inferred: (run.state & INFERRED) !== 0,
    }
    if (window.grants === undefined && !isOutside) this.#defer({ log, seq, window }, draft)
    else this.#report({ log, seq, window }, draft)
  }

  /** RAM comes or goes: nothing may map what is gone. */
  #slot(log: RecordLog, seq: number): void {
    if (log.slot(seq, MEMORY.present) !== 1) {
      const span = this.#pages.spanOf(log, seq)
      for (const { window, run, extent } of mappingsOf(log, this.windows.all(), span)) {
        const page = Math.max(span.start, extent.page)
        const entry = entryOf(window, extent, page)
        const draft = {
          entry,
          outcome: BEYOND_RAM,
          by: run.begun,
          ended: seq,
          message: `memory ${hex(page * UNIT_BYTES)} left the partition while ${busText(window, entry)} still maps it`,
          records: [run.begun, seq],
          inferred: (run.state & INFERRED) !== 0,
        }
        this.#report({ log, seq, window }, draft)
      }
    }
    this.#pages.slot(log, seq)
  }

  #defer(moment: Moment, draft: Draft): void {
    if (this.#deferred.length < DEFERRED_MAX) this.#deferred.push({ moment, draft })
    else this.list.dropped++
  }

  #report({ log, window }: Moment, draft: Draft): void {
    const { entry, outcome, by, ended = NO_RECORD, message, records, inferred } = draft
    const key: FindingKey = { rule: RULE, window: window.number, entry, by, ended, outcome }
    if (this.list.again(key)) return
    const scene = {
      log,
      windows: { find: (n: number) => (n === window.number ? window : this.windows.find(n)) },
    }
    this.list.add({ rule: RULE, message, because: because(scene, ...records), inferred })
  }
}

const entryOf = (window: WindowShadow, { first, page: start }: Extent, page: number): number =>
  first + Math.floor((page - start) / window.units)

function pageText(window: WindowShadow, page: number): string {
  const { units } = window
  const start = Math.floor(page / units) * units
  return `the ${bytesText(2 ** window.pageShift)} IOMMU page at memory ${hex(start * UNIT_BYTES)}`
}

const busText = (window: WindowShadow, entry: number): string =>
  `bus address ${hex(busAddress(window, entry))}`
