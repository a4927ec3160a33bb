import type { Profile } from '../../../bits/errata.ts'
import { hex, U64_MAX } from '../../../bits/u64.ts'
import type { LogBatch } from '../../../reader/log-batch.ts'
import { QEMU_TRACE } from '../../../reader/qemu-trace-format.ts'
import { NONE, FLUSH_SCOPE as SCOPE } from '../../../trace/event-codes.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import { deviceTlbRange } from '../device-tlb-range.ts'
import { DomainPages, type GonePages, HOW, type ShownPage } from './domain-pages.ts'
import type { MessageTally } from './message-tally.ts'
import { type Range, ToldRanges } from './told-ranges.ts'

const N = QEMU_TRACE.number
const S = QEMU_TRACE.slot
const UNIT = 'vt-d'
const NO_PASID_FLUSH = { unit: UNIT, pasid: NONE, hint: 0 } as const
/** Translation type of a context entry: through page tables, and the device has a TLB of its own. */
const WITH_DEVICE_TLB = 1
const PAGE_SHIFT = 12n

interface Context {
  readonly domain: number
  readonly hasAts: boolean
  /** Where its page tables are. */
  readonly tables: bigint
}

interface Flush {
  readonly scope: number
  readonly domain: number
  readonly source: number
  readonly iova: bigint
  readonly bytes: bigint
  readonly line: number
  /** How it is counted. */
  readonly name: string
  /** It is about the device of the back end, which listens. */
  readonly isOurs: boolean
  told: number
}

/** What a page walk of a flush has found gone. */
interface Walk {
  readonly domain: number
  readonly ranges: GonePages[]
}

interface VtdLinesParts {
  readonly log: RecordLog
  readonly tally: MessageTally
  /** How records call the device of the back end. */
  readonly device: string
  /** Errata of the QEMU that wrote the trace. */
  readonly profile: Profile
}

/** A flush of a domain is told only as far as two walks differ. */
const DOMAIN_UNHEARD = 'VD1'
/** Without ATS vhost hears of nothing, unless the unit refuses such a listener. */
const DEVICE_TLB_ONLY = 'VD2'

/**
 * What the lines of QEMU's intel-iommu say of domains: what translations and walks show to be mapped, what flushes take
 * back, and whom QEMU must tell of it. A listener of a device without ATS hears of flushed pages, and of flushed domains
 * (before 8.0: of those pages of one that an earlier walk had found and this one does not; before 7.2.5 of nothing,
 * where the unit has device-iotlb=on, which no line shows); one of a device with ATS hears of flushes of the device's TLB,
 * and of nothing else.
 */
export class VtdLines {
  readonly #log: RecordLog
  readonly #tally: MessageTally
  readonly #device: string
  readonly #profile: Profile
  readonly #contexts = new Map<number, Context>()
  readonly #pagesOf: DomainPages
  readonly #told = new ToldRanges()
  /** Source id of the device of the back end. */
  #sid: number | undefined
  #attached: Context | undefined
  #perm = 3
  #flush: Flush | undefined
  #walk: Walk | undefined
  /** Whether the back end's device has a listener: from the start of a driver to its stop. */
  isListening = false
  /** A miss is under way: whose translations these are. */
  inMiss = false
  /** What the last line showed for the miss. */
  shown: ShownPage | undefined
  /** Bus address of a translation that failed in the miss. */
  faultAddress: bigint | undefined

  constructor({ log, tally, device, profile }: VtdLinesParts) {
    this.#log = log
    this.#tally = tally
    this.#device = device
    this.#profile = profile
    this.#pagesOf = new DomainPages(log)
  }

  row(batch: LogBatch): void {
    const event = batch.events[0] as number
    const u32 = (slot: number) => (batch.lanes[slot] as number) >>> 0
    const u64 = (slot: number) => batch.u64(0, slot)
    const line = batch.lines[0] as number
    this.#log.line = line
    switch (event) {
      case N.vtd_iotlb_cc_hit:
      case N.vtd_iotlb_cc_update: {
        const s = S.vtd_iotlb_cc_hit
        this.#context(((u32(s.bus) & 0xff) << 8) | (u32(s.devfn) & 0xff), u64(s.hi), u64(s.lo))
        return
      }
      case N.vtd_iotlb_page_hit:
      case N.vtd_iotlb_page_update:
        this.#perm = u32(S.vtd_iotlb_page_hit.slpte) & 3
        return
      case N.vtd_dmar_translate: {
        const s = S.vtd_dmar_translate
        const sid = (u32(s.bus) << 8) | (u32(s.slot) << 3) | u32(s.fn)
        this.#translated(sid, { iova: u64(s.iova), bytes: u64(s.mask) + 1n, gpa: u64(s.gpa) })
        return
      }
      case N.vtd_dmar_fault: {
        const s = S.vtd_dmar_fault
        if (!this.inMiss) return
        this.#isOurs(u32(s.sid))
        this.faultAddress = u64(s.iova)
        return
      }
      case N.vtd_page_walk_level:
        this.#walks(u64(S.vtd_page_walk_level.tableAddress))
        return
      case N.vtd_page_walk_one: {
        const s = S.vtd_page_walk_one
        const page = { iova: u64(s.iova), bytes: u64(s.mask) + 1n, gpa: u64(s.gpa) }
        this.#walked(u32(s.domain) & 0xffff, page, u32(s.perm) & 3, line)
        return
      }
      case N.vtd_page_walk_one_skip_unmap: {
        const s = S.vtd_page_walk_one_skip_unmap
        this.#gone(u64(s.iova), u64(s.mask) + 1n, line)
        return
      }
      default:
        this.#descriptor(batch, event, line)
    }
  }

  /** The back end is told that [iova, last] goes. Answers why; nothing where no line says so. */
  take(iova: bigint, last: bigint): string | undefined {
    if (this.#flush !== undefined) this.#flush.told++
    return this.#told.take(iova, last)
  }

  /** The back end is told of a range that the message log does not have. Answers what of it must go, if that shows. */
  takeUnseen(): Range | undefined {
    const range = this.#told.takeNext()
    if (range !== undefined && this.#flush !== undefined) this.#flush.told++
    return range
  }

  /** The descriptor that was being carried out is over: its record comes behind those of what it took back. */
  finish(): void {
    this.#endWalk()
    const flush = this.#flush
    for (const { why, iova, last } of this.#told.close()) {
      this.#tally.diverge({
        line: flush?.line ?? 0,
        call: `flush ${flush?.name ?? ''}`,
        log: 'no INVALIDATE',
        model: `INVALIDATE of [${hex(iova)}, ${hex(last)}] for ${why}`,
        rule: 'listener-not-told',
      })
    }
    if (flush === undefined) return
    this.#flush = undefined
    const { scope, domain, source, iova, bytes, line, isOurs, told, name } = flush
    const outcome = !isOurs
      ? 'not of the device of the back end'
      : told > 0
        ? 'the back end was told'
        : 'the back end was told nothing'
    this.#tally.flushes.add(`${name}: ${outcome}`, line)
    this.#log.emit('domain.flush', null, { ...NO_PASID_FLUSH, scope, domain, source, iova, bytes, line })
  }

  #descriptor(batch: LogBatch, event: number, line: number): void {
    const u32 = (slot: number) => (batch.lanes[slot] as number) >>> 0
    const u64 = (slot: number) => batch.u64(0, slot)
    switch (event) {
      case N.vtd_inv_desc: {
        this.finish()
        const s = S.vtd_inv_desc
        if (batch.text(0, s.kind) === 'device') this.#deviceTlb(u64(s.hi), u64(s.lo), line)
        return
      }
      case N.vtd_inv_desc_iotlb_pages: {
        const s = S.vtd_inv_desc_iotlb_pages
        this.#pages(u32(s.domain), u64(s.iova), u32(s.order), line)
        return
      }
      case N.vtd_inv_desc_iotlb_domain:
        this.#wholeDomain(SCOPE.DOMAIN, u32(S.vtd_inv_desc_iotlb_domain.domain), line)
        return
      case N.vtd_inv_desc_iotlb_global:
        this.#wholeDomain(SCOPE.ALL, 0, line)
        return
      case N.vtd_inv_desc_cc_device: {
        const s = S.vtd_inv_desc_cc_device
        const sid = (u32(s.bus) << 8) | (u32(s.slot) << 3) | u32(s.fn)
        this.#contextGone(line, sid)
        return
      }
      case N.vtd_inv_desc_cc_global:
      case N.vtd_inv_desc_cc_domain:
      case N.vtd_dmar_enable:
        this.#contextGone(line, undefined)
        return
      case N.vtd_reg_dmar_root:
      case N.vtd_reset_exit:
        this.#contextGone(line, undefined)
        this.#startAnew()
        return
      case N.vtd_as_unmap_whole: {
        const s = S.vtd_as_unmap_whole
        const sid = (u32(s.bus) << 8) | (u32(s.slot) << 3) | u32(s.function)
        this.#unmappedWhole(sid, u64(s.start), u64(s.bytes), line)
        return
      }
      case N.vtd_inv_desc_wait_sw:
      case N.vtd_inv_desc_wait_irq:
        this.finish()
        this.#log.emit('domain.wait', null, { unit: UNIT, line })
        return
      case N.vtd_inv_qi_head:
        this.finish()
        return
      default:
    }
  }

  #context(sid: number, hi: bigint, lo: bigint): void {
    const domain = Number((hi >> 8n) & 0xffffn)
    const hasAts = Number((lo >> 2n) & 3n) === WITH_DEVICE_TLB
    this.#contexts.set(sid, { domain, hasAts, tables: lo & ~0xfffn })
    if (sid === this.#sid) this.#attach(sid)
  }

  /** Another root table: what is behind it, and whether our device is, the lines have not shown. */
  #startAnew(): void {
    this.#contexts.clear()
    this.#pagesOf.clear()
    this.#sid = undefined
    this.#attached = undefined
  }

  /** A miss of the back end was translated for this source: it is its device. */
  #isOurs(sid: number): void {
    this.#sid = sid
    this.#attach(sid)
  }

  #attach(sid: number): void {
    const context = this.#contexts.get(sid)
    const before = this.#attached
    if (context === undefined) return
    if (before?.domain === context.domain && before.hasAts === context.hasAts) return
    this.#attached = context
    this.#log.emit('domain.attach', null, {
      device: this.#device,
      source: sid,
      domain: context.domain,
      ats: context.hasAts ? 1 : 0,
    })
  }

  #translated(sid: number, page: ShownPage): void {
    if (this.inMiss) {
      this.#isOurs(sid)
      this.shown = page
    }
    const domain = this.#contexts.get(sid)?.domain
    if (domain !== undefined) this.#pagesOf.map(domain, page, this.#perm)
  }

  #begin(flush: Omit<Flush, 'told'>): void {
    this.finish()
    this.#flush = { ...flush, told: 0 }
  }

  /** Whether a listener of our device hears of flushes of a domain; undefined for any. */
  #hears(domain: number | undefined): boolean {
    const ours = this.#attached
    return this.isListening && ours !== undefined && (domain === undefined || ours.domain === domain)
  }

  #pages(domain: number, iova: bigint, order: number, line: number): void {
    const bytes = 0x1000n << BigInt(order & 63)
    const start = iova & ~(bytes - 1n)
    const isOurs = this.#hears(domain) && this.#attached?.hasAts === false
    const name = this.#attached?.hasAts === true ? 'of pages (the device has ATS)' : 'of pages'
    this.#begin({ scope: SCOPE.PAGES, domain, source: 0, iova: start, bytes, line, name, isOurs })
    // A driver flushes the pages whose entries it has changed.
    const firstPage = Number(start >> PAGE_SHIFT)
    this.#pagesOf.unmap(domain, [{ firstPage, endPage: firstPage + 2 ** order, line }], HOW.INFERRED)
    const last = iova + bytes - 1n
    if (isOurs) this.#told.expect(start, last, 'a flush of pages', this.#profile.has(DEVICE_TLB_ONLY))
  }

  #wholeDomain(scope: number, domain: number, line: number): void {
    const isOurs = this.#hears(scope === SCOPE.ALL ? undefined : domain) && this.#attached?.hasAts === false
    const what = scope === SCOPE.ALL ? 'of everything' : 'of a domain'
    const name = this.#attached?.hasAts === true ? `${what} (the device has ATS)` : what
    this.#begin({ scope, domain, source: 0, iova: 0n, bytes: 0n, line, name, isOurs })
    // No recorded run of such a QEMU says what exactly it tells.
    if (isOurs && !this.#profile.has(DOMAIN_UNHEARD))
      this.#told.expect(0n, U64_MAX, 'a flush of a domain', true)
  }

  #deviceTlb(hi: bigint, lo: bigint, line: number): void {
    const source = Number((lo >> 32n) & 0xffffn)
    const { iova, last } = deviceTlbRange(hi)
    // 0 for the whole space.
    const bytes = BigInt.asUintN(64, last - iova + 1n)
    const domain = this.#contexts.get(source)?.domain ?? 0
    const isOurs = this.#hears(undefined) && this.#sid === source && this.#attached?.hasAts === true
    const name = "of a device's TLB"
    this.#begin({ scope: SCOPE.DEVICE_TLB, domain, source, iova, bytes, line, name, isOurs })
    if (bytes !== 0n) {
      const firstPage = Number(iova >> PAGE_SHIFT)
      this.#pagesOf.unmap(
        domain,
        [{ firstPage, endPage: firstPage + Number(bytes >> PAGE_SHIFT), line }],
        HOW.INFERRED,
      )
    }
    if (isOurs) this.#told.expect(iova, last, "a flush of the device's TLB")
  }

  /** Context entries are read again: where one has changed, all that was behind it may be taken back. */
  #contextGone(line: number, sid: number | undefined): void {
    if (sid === undefined) this.finish()
    else {
      const name = 'of a context entry'
      const isOurs = this.#hears(undefined) && sid === this.#sid
      this.#begin({ scope: SCOPE.CONTEXT, domain: 0, source: sid, iova: 0n, bytes: 0n, line, name, isOurs })
    }
    if (this.isListening && (sid === undefined || sid === this.#sid))
      this.#told.expect(0n, U64_MAX, 'a context entry that was read again', true)
  }

  /** QEMU says that it has told the listener of a device that all of a range is gone; with ATS that reaches nobody. */
  #unmappedWhole(sid: number, start: bigint, bytes: bigint, line: number): void {
    if (!this.isListening || sid !== this.#sid || this.#attached?.hasAts !== false || bytes === 0n) return
    const last = start + bytes - 1n
    if (!this.#told.untold(start, last) || this.#profile.has(DEVICE_TLB_ONLY)) return
    this.#tally.diverge({
      line,
      call: 'vtd_as_unmap_whole',
      log: 'no INVALIDATE of some of it',
      model: `INVALIDATE of all of [${hex(start)}, ${hex(last)}]`,
      rule: 'listener-not-told',
    })
  }

  /** A table is walked: where it is the first of a device, its domain is walked from here on. */
  #walks(tables: bigint): void {
    const context = [...this.#contexts.values()].find((c) => c.tables === tables)
    if (context === undefined) return
    this.#endWalk()
    this.#walk = { domain: context.domain, ranges: [] }
  }

  #walked(domain: number, page: ShownPage, perm: number, line: number): void {
    if (perm !== 0) {
      this.#pagesOf.map(domain, page, perm)
      return
    }
    this.#gone(page.iova, page.bytes, line)
    if (this.#hears(domain) && this.#attached?.hasAts === false) {
      const last = page.iova + page.bytes - 1n
      const isOptional = this.#profile.has(DEVICE_TLB_ONLY)
      this.#told.expect(page.iova, last, 'a page that a walk found gone', isOptional)
    }
  }

  #gone(iova: bigint, bytes: bigint, line: number): void {
    const firstPage = Number(iova >> PAGE_SHIFT)
    this.#walk?.ranges.push({ firstPage, endPage: firstPage + Number(bytes >> PAGE_SHIFT), line })
  }

  /** What a walk found gone was gone before the flush that made it look. */
  #endWalk(): void {
    const walk = this.#walk
    this.#walk = undefined
    if (walk !== undefined) this.#pagesOf.unmap(walk.domain, walk.ranges, HOW.SEEN)
  }
}
