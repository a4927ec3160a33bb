import { hiOfPage, loOfPage } from '../../../bits/u64.ts'
import { KIND, slotMap } from '../../../trace/event.ts'
import { FLUSH_SCOPE, NONE, VTD_CACHE } from '../../../trace/event-codes.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import type { SeenEntry } from './seen-iotlb.ts'
import type { SeenPage } from './seen-pages.ts'
import type { ShownTranslation } from './translation-lines.ts'

/** How records of a replay call the unit of the log. */
export const UNIT = 'vt-d'
const TRANSLATE = KIND['vtd.translate']
const FILL = KIND['vtd.fill']
const T = slotMap('vtd.translate')
const F = slotMap('vtd.fill')
const MAP = KIND['domain.map']
const M = slotMap('domain.map')
const FLUSH = KIND['domain.flush']
const L = slotMap('domain.flush')
const WAIT = KIND['domain.wait']
const W = slotMap('domain.wait')
const NO_CAUSE = -1
/** `how` of a `domain.map`: a translation shows it. */
const SHOWN_BY_WALK = 1
const PAGE_SHIFT = 12

/** What a flush names; what it does not name is left out. */
export interface ShownFlush {
  readonly scope: number
  readonly domain?: number
  readonly source?: number
  readonly pasid?: number
  readonly iova?: bigint
  readonly bytes?: bigint
  readonly hint?: number
  readonly line: number
}

/** A fault, and what became of it. */
export interface ShownFault {
  readonly source: number
  readonly reason: number
  readonly iova: bigint
  readonly isWrite: boolean
  readonly line: number
}

/** Makes the records of a replayed VT-d unit. */
export class VtdRecords {
  readonly #log: RecordLog
  readonly #unit: number

  constructor(log: RecordLog) {
    this.#log = log
    this.#unit = log.names.intern(UNIT)
  }

  /** A translation entered the IOTLB, whose size shows. @param line the one that shows it */
  fill(entry: SeenEntry, line: number): void {
    const log = this.#log
    if (!log.on) return
    log.line = line
    const at = log.begin(FILL, NO_CAUSE)
    const { lanes } = log
    const { page } = entry
    lanes[at + F.unit] = this.#unit
    lanes[at + F.cache] = VTD_CACHE.IOTLB
    lanes[at + F.entry] = entry.number | 0
    lanes[at + F.source] = entry.source
    lanes[at + F.domain] = entry.domain
    lanes[at + F.pasid] = NONE | 0
    lanes[at + F.iova] = loOfPage(page, PAGE_SHIFT)
    lanes[at + F.iova + 1] = hiOfPage(page, PAGE_SHIFT)
    lanes[at + F.shift] = PAGE_SHIFT + (31 - Math.clz32(entry.pages))
    lanes[at + F.target] = entry.slpteLo & -(2 ** PAGE_SHIFT)
    lanes[at + F.target + 1] = entry.slpteHi & 0xf_ffff
    lanes[at + F.perm] = entry.slpteLo & 3
    log.commit(FILL)
  }

  /** A walk shows what a domain maps. */
  map(domain: number, page: number, { pages, target, perm, line }: SeenPage): void {
    const log = this.#log
    if (!log.on) return
    log.line = line
    const at = log.begin(MAP, NO_CAUSE)
    const { lanes } = log
    lanes[at + M.domain] = domain
    lanes[at + M.iova] = loOfPage(page, PAGE_SHIFT)
    lanes[at + M.iova + 1] = hiOfPage(page, PAGE_SHIFT)
    lanes[at + M.bytes] = pages << PAGE_SHIFT
    lanes[at + M.bytes + 1] = 0
    lanes[at + M.gpa] = loOfPage(target, PAGE_SHIFT)
    lanes[at + M.gpa + 1] = hiOfPage(target, PAGE_SHIFT)
    lanes[at + M.perm] = perm
    lanes[at + M.how] = SHOWN_BY_WALK
    log.commit(MAP)
  }

  /** A request was translated. @param entry number of the cached translation, 0 for none */
  translate(shown: ShownTranslation, perm: number, entry: number): void {
    const log = this.#log
    if (!log.on) return
    const at = log.begin(TRANSLATE, NO_CAUSE)
    const { lanes } = log
    lanes[at + T.unit] = this.#unit
    lanes[at + T.source] = shown.source
    lanes[at + T.pasid] = NONE | 0
    lanes[at + T.iova] = shown.iovaLo
    lanes[at + T.iova + 1] = shown.iovaHi
    lanes[at + T.target] = shown.gpaLo
    lanes[at + T.target + 1] = shown.gpaHi
    lanes[at + T.perm] = perm
    lanes[at + T.need] = 0
    lanes[at + T.fault] = 0
    lanes[at + T.entry] = entry | 0
    lanes[at + T.line] = shown.line | 0
    log.commit(TRANSLATE)
  }

  /** @param record fault recording register that holds it, `NONE` for none, and then why */
  fault({ source, reason, iova, isWrite, line }: ShownFault, record: number, why: string): void {
    const access = isWrite ? 0 : 2
    this.#log.emit('vtd.fault', null, {
      unit: UNIT,
      source,
      pasid: NONE,
      reason,
      iova,
      access,
      record,
      why,
      line,
    })
  }

  flush({ scope, domain, source, pasid, iova, bytes, hint, line }: ShownFlush): void {
    this.#log.emit('domain.flush', null, {
      unit: UNIT,
      scope,
      domain: domain ?? 0,
      source: source ?? 0,
      pasid: pasid ?? NONE,
      iova: iova ?? 0n,
      bytes: bytes ?? 0n,
      hint: hint ?? 0,
      line,
    })
  }

  /** 2^order pages of a domain are forgotten, from a page on that is a multiple of that. */
  flushPages(domain: number, first: number, order: number, line: number): void {
    const log = this.#log
    if (!log.on) return
    const at = log.begin(FLUSH, NO_CAUSE)
    const { lanes } = log
    const shift = PAGE_SHIFT + order
    lanes[at + L.unit] = this.#unit
    lanes[at + L.scope] = FLUSH_SCOPE.PAGES
    lanes[at + L.domain] = domain
    lanes[at + L.source] = 0
    lanes[at + L.pasid] = NONE | 0
    lanes[at + L.iova] = loOfPage(first, PAGE_SHIFT)
    lanes[at + L.iova + 1] = hiOfPage(first, PAGE_SHIFT)
    // 2^64 bytes and more are 0: the whole space.
    lanes[at + L.bytes] = shift < 32 ? 1 << shift : 0
    lanes[at + L.bytes + 1] = shift >= 32 && shift < 64 ? 1 << (shift - 32) : 0
    lanes[at + L.hint] = 0
    lanes[at + L.line] = line | 0
    log.commit(FLUSH)
  }

  /** A wait completed: flushes before it are done. */
  wait(line: number): void {
    const log = this.#log
    if (!log.on) return
    const at = log.begin(WAIT, NO_CAUSE)
    log.lanes[at + W.unit] = this.#unit
    log.lanes[at + W.line] = line | 0
    log.commit(WAIT)
  }

  root(address: bigint, isScalable: boolean, isEnabled: boolean, line: number): void {
    const [mode, enabled] = [isScalable ? 1 : 0, isEnabled ? 1 : 0]
    this.#log.emit('vtd.root', null, { unit: UNIT, address, mode, enabled, line })
  }

  /** The context entry of a device was read. Where it is no log says. */
  context(source: number, lo: bigint, domain: number, line: number): void {
    this.#log.line = line
    const where = { rootAddress: 0n, address: 0n }
    this.#log.emit('vtd.context', null, { unit: UNIT, source, ...where, lo, domain, fault: 0 })
  }

  attach(source: number, domain: number, hasAts: boolean, line: number): void {
    this.#log.line = line
    const device = `${hex2(source >>> 8)}:${hex2((source >>> 3) & 31)}.${source & 7}`
    this.#log.emit('domain.attach', null, { device, source, domain, ats: hasAts ? 1 : 0 })
  }
}

const hex2 = (n: number): string => n.toString(16).padStart(2, '0')
