import { hex } from '../../../bits/u64.ts'
import { FLUSH_SCOPE } from '../../../trace/event-codes.ts'
import type { RecordLog } from '../../../trace/record-log.ts'
import { FtraceTally, STANDING } from './ftrace-tally.ts'
import { type GuestFlush, type GuestLog, type GuestRange, NO_DOMAIN, namedBy } from './guest-log.ts'
import { GuestMaps } from './guest-maps.ts'
import type { VtdRecords } from './vtd-records.ts'

const PAGE_SHIFT = 12n
const HOW_UNKNOWN = 2
/** What is recorded is what the kernel says, and what a map allows it does not. */
const SAID_BY_KERNEL = { how: 0, perm: 0 } as const

/** A translation of a page to a page of memory. */
interface ShownPage {
  readonly page: number
  readonly target: number
  readonly line: number
}

/**
 * The guest's side of a boot: what its kernel maps, unmaps and flushes becomes records, and translations are held against
 * it. The events of the kernel's trace are taken one by one, as the story of both traces goes on.
 */
export class GuestSide {
  readonly tally = new FtraceTally()
  readonly #log: RecordLog
  readonly #guest: GuestLog
  readonly #records: VtdRecords | undefined
  readonly #maps = new GuestMaps()
  /** The event that comes next. */
  #next = 0

  /** @param records makes records of flushes as well: where no trace of QEMU shows what the unit did */
  constructor(log: RecordLog, guest: GuestLog, records?: VtdRecords) {
    this.#log = log
    this.#guest = guest
    this.#records = records
  }

  /** Takes the events before one. */
  upTo(end: number): void {
    for (; this.#next < end; this.#next++) {
      const event = this.#guest.events[this.#next]
      if (event === undefined) return
      if (event.what === 'gap') this.#forget(event.line)
      else if (event.what === 'flush') this.#flush(event)
      else this.#range(event)
    }
  }

  /** Leaves out the events before one: what is mapped is not known any more. */
  skipTo(end: number): void {
    this.#next = Math.max(this.#next, end)
    this.#forget(this.#guest.events[end - 1]?.line ?? 0)
  }

  /** A translation of QEMU's trace. Events of the kernel before `end` may have come before it. */
  translated({ page, target, line }: ShownPage, end: number): void {
    let standing = this.#maps.standingOf(page, target)
    if (standing !== 'mapped') {
      const at = this.#findMap(page, target, end)
      if (at >= 0) {
        this.upTo(at + 1)
        standing = this.#maps.standingOf(page, target)
      }
    }
    const { standings } = this.tally
    if (standing !== 'mapped' && end === this.#guest.events.length) standings.add(STANDING.AWAY, line)
    else if (standing === 'mapped') standings.add(STANDING.MAPPED, line)
    else if (standing === 'unmapped') standings.add(STANDING.UNMAPPED, line)
    else if (standing === 'flushed') {
      const model = `line ${this.#maps.line} of the kernel's trace unmaps it, and a flush came since`
      this.#diverge(page, target, line, model, 'translation-after-unmap')
    } else if (standing === 'elsewhere' && this.#guest.domains.size === 1) {
      const model = `line ${this.#maps.line} of the kernel's trace maps it elsewhere`
      this.#diverge(page, target, line, model, 'mapped-elsewhere')
    } else standings.add(STANDING.NOT_SEEN, line)
  }

  /** Where among the next events the kernel maps a page to a page of memory; -1 where it does not. */
  #findMap(page: number, target: number, end: number): number {
    for (let i = this.#next; i < end; i++) {
      const event = this.#guest.events[i]
      if (event?.what !== 'map') continue
      const isIn = page >= event.page && page < event.page + event.pages
      if (isIn && event.target + (page - event.page) === target) return i
    }
    return -1
  }

  /** Events are lost: what is mapped is not known any more. */
  #forget(line: number): void {
    this.#maps.clear()
    this.#log.line = line
    for (const domain of this.#guest.domains)
      this.#log.emit('domain.unmap', null, { domain, iova: 0n, bytes: 0n, how: HOW_UNKNOWN })
  }

  #range(range: GuestRange): void {
    const { what, page, pages, target, domain } = range
    if (what === 'map') this.#maps.map(range)
    else this.#maps.unmap(range)
    if (pages === 0) return
    if (domain === NO_DOMAIN) {
      this.tally.unplaced++
      return
    }
    this.#log.line = range.line
    const where = { domain, iova: BigInt(page) << PAGE_SHIFT, bytes: BigInt(pages) << PAGE_SHIFT }
    if (what === 'map')
      this.#log.emit('domain.map', null, { ...where, gpa: BigInt(target) << PAGE_SHIFT, ...SAID_BY_KERNEL })
    else this.#log.emit('domain.unmap', null, { ...where, how: SAID_BY_KERNEL.how })
  }

  #flush(flush: GuestFlush): void {
    const named = namedBy(flush)
    if (named === undefined) return
    this.#maps.flushed(named)
    const records = this.#records
    if (records === undefined) return
    const { domain, page, pages } = named
    const { line } = flush
    if (domain === NO_DOMAIN) records.flush({ scope: FLUSH_SCOPE.ALL, line })
    else if (pages === Number.POSITIVE_INFINITY) records.flush({ scope: FLUSH_SCOPE.DOMAIN, domain, line })
    else records.flushPages(domain, page, Math.log2(pages), line)
    // The kernel waits for each submission.
    records.wait(line)
  }

  #diverge(page: number, target: number, line: number, model: string, rule: string): void {
    const call = `bus address ${hex(BigInt(page) << PAGE_SHIFT)}`
    this.tally.diverge({ line, call, log: hex(BigInt(target) << PAGE_SHIFT), model, rule })
  }
}
