import { hex, wordOf } from '../../../bits/u64.ts'
import { deviceTlbRange } from '../../../hw/vtd/invalidation.ts'
import { NONE, FLUSH_SCOPE as SCOPE } from '../../../trace/event-codes.ts'
import type { SeenContexts } from './seen-contexts.ts'
import type { SeenIotlb } from './seen-iotlb.ts'
import type { SeenPages } from './seen-pages.ts'
import type { ShownFlush, VtdRecords } from './vtd-records.ts'
import type { VtdTally } from './vtd-tally.ts'

const PAGE_SHIFT = 12n
/** Types of descriptors. (VT-d manual, Invalidation Queue) */
const TYPE = {
  CONTEXT: 1,
  IOTLB: 2,
  DEVICE_TLB: 3,
  INTERRUPT: 4,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
  PASID_DEVICE_TLB: 8,
} as const
/** Granularities of types 1 and 2. */
const BY = { ALL: 1, DOMAIN: 2, FINE: 3 } as const
const PASID_IOTLB_PAGES = 3
const PASID_CACHE_BY = { DOMAIN: 0, PASID: 1, ALL: 3 } as const

interface InvalidationParts {
  readonly tally: VtdTally
  readonly records: VtdRecords
  readonly contexts: SeenContexts
  readonly iotlb: SeenIotlb
  readonly pages: SeenPages
}

/** What a line says that the unit forgets. */
interface Done {
  readonly type: number
  readonly by: number
  readonly domain: number
  readonly source: number
  readonly iova: bigint
  readonly order: number
}

/**
 * The lines about invalidations: each descriptor with the line that says what QEMU does about it, and those of registers,
 * which have the second line only. What they name is forgotten, and becomes a `domain.flush`.
 */
export class InvalidationLines {
  readonly #parts: InvalidationParts
  /** A descriptor whose line is still to come. */
  #open: { readonly lo: bigint; readonly hi: bigint; readonly line: number } | undefined
  /** The line is about a descriptor: one about registers means that it is done. */
  #isQueued = false
  /** The line about all contexts that comes next belongs to a flush that is told already. */
  #isTold = false

  constructor(parts: InvalidationParts) {
    this.#parts = parts
  }

  /** A descriptor is carried out. Of most types another line says what that means. */
  descriptor(hiHi: number, hiLo: number, loHi: number, loLo: number, line: number): void {
    this.settle()
    const type = (loLo & 0xf) | ((loLo >>> 5) & 0x70)
    if (type === TYPE.WAIT) return
    const [hi, lo] = [wordOf(hiHi, hiLo), wordOf(loHi, loLo)]
    if (type === TYPE.CONTEXT || type === TYPE.IOTLB) this.#open = { hi, lo, line }
    else this.#alone(type, hi, lo, line)
  }

  /** Nothing more comes for the descriptor before: QEMU refused it, or the log has no such lines. */
  settle(): void {
    this.#open = undefined
    this.#isTold = false
  }

  all(line: number): void {
    this.#check({ type: TYPE.IOTLB, by: BY.ALL, domain: 0, source: 0, iova: 0n, order: 0 }, line)
    this.#tell('the IOTLB: everything', { scope: SCOPE.ALL, line })
    this.#parts.iotlb.clear(line)
    this.#parts.pages.flushed(line)
    this.#done(line)
  }

  domain(domain: number, line: number): void {
    this.#check({ type: TYPE.IOTLB, by: BY.DOMAIN, domain, source: 0, iova: 0n, order: 0 }, line)
    this.#tell('the IOTLB: a domain', { scope: SCOPE.DOMAIN, domain, line })
    this.#parts.iotlb.flushDomain(domain, line)
    this.#parts.pages.flushedDomain(domain, line)
    this.#done(line)
  }

  pages(domain: number, address: bigint, order: number, line: number): void {
    this.#check({ type: TYPE.IOTLB, by: BY.FINE, domain, source: 0, iova: address, order }, line)
    const bytes = BigInt.asUintN(64, 0x1000n << BigInt(order & 63))
    const iova = bytes === 0n ? 0n : address & ~(bytes - 1n)
    this.#tell('the IOTLB: pages', { scope: SCOPE.PAGES, domain, iova, bytes, line })
    const [first, count] = [Number(iova >> PAGE_SHIFT), 2 ** order]
    this.#parts.iotlb.flushPages(domain, first, count, line)
    this.#parts.pages.flushedPages(domain, first, count, line)
    this.#done(line)
  }

  allContexts(line: number): void {
    this.#parts.contexts.forget()
    if (this.#isTold) {
      this.#isTold = false
      return
    }
    this.#check({ type: TYPE.CONTEXT, by: BY.ALL, domain: 0, source: 0, iova: 0n, order: 0 }, line)
    this.#tell('contexts: all', { scope: SCOPE.CONTEXT, source: NONE, domain: NONE, line })
    this.#done(line)
  }

  contextsOf(domain: number, line: number): void {
    this.#check({ type: TYPE.CONTEXT, by: BY.DOMAIN, domain, source: 0, iova: 0n, order: 0 }, line)
    this.#tell('contexts: a domain', { scope: SCOPE.CONTEXT, source: NONE, domain, line })
    this.#done(line)
    this.#isTold = true
  }

  contextOf(source: number, functionMask: number, line: number): void {
    const open = this.#open
    this.#check({ type: TYPE.CONTEXT, by: BY.FINE, domain: 0, source, iova: 0n, order: 0 }, line)
    const domain = open === undefined ? NONE : Number((open.lo >> 16n) & 0xffffn)
    this.#tell('contexts: a device', { scope: SCOPE.CONTEXT, source, domain, hint: functionMask, line })
    this.#done(line)
  }

  /** QEMU forgets the context entry of a device that it knows. */
  forgotContext(source: number): void {
    this.#parts.contexts.forget(source)
  }

  wait(line: number): void {
    this.settle()
    this.#parts.records.wait(line)
  }

  /** Invalidations of PASIDs, by the lines of releases that print them. */
  pasidPages(domain: number, pasid: number, address: bigint, order: number, line: number): void {
    const bytes = BigInt.asUintN(64, 0x1000n << BigInt(order & 63))
    const iova = bytes === 0n ? 0n : address & ~(bytes - 1n)
    this.#tell('the IOTLB: pages of a PASID', { scope: SCOPE.PASID_PAGES, domain, pasid, iova, bytes, line })
  }

  pasid(domain: number, pasid: number, line: number): void {
    this.#tell('the IOTLB: a PASID', { scope: SCOPE.PASID, domain, pasid, line })
  }

  /** Types whose descriptor says all. */
  #alone(type: number, hi: bigint, lo: bigint, line: number): void {
    const domain = Number((lo >> 16n) & 0xffffn)
    const pasid = Number((lo >> 32n) & 0xf_ffffn)
    const by = Number((lo >> 4n) & 3n)
    if (type === TYPE.DEVICE_TLB) {
      const { iova, last } = deviceTlbRange(hi)
      const source = Number((lo >> 32n) & 0xffffn)
      const bytes = BigInt.asUintN(64, last - iova + 1n)
      this.#tell('the TLB of a device', { scope: SCOPE.DEVICE_TLB, source, iova, bytes, line })
    } else if (type === TYPE.PASID_DEVICE_TLB) {
      // S is bit 11 here, and bit 0 in the descriptor without PASID.
      const { iova, last } = deviceTlbRange((hi & ~0xfffn) | ((hi >> 11n) & 1n))
      const bytes = BigInt.asUintN(64, last - iova + 1n)
      this.#tell('the TLB of a device: a PASID', {
        scope: SCOPE.PASID_DEVICE_TLB,
        source: domain,
        pasid,
        iova,
        bytes,
        line,
      })
    } else if (type === TYPE.INTERRUPT)
      this.#tell('interrupt entries', { scope: SCOPE.INTERRUPT_ENTRY, line })
    else if (type === TYPE.PASID_IOTLB) {
      if (by === PASID_IOTLB_PAGES) this.pasidPages(domain, pasid, hi & ~0xfffn, Number(hi & 0x3fn), line)
      else this.pasid(domain, pasid, line)
    } else if (type === TYPE.PASID_CACHE) {
      const isOne = by === PASID_CACHE_BY.PASID
      const named = by === PASID_CACHE_BY.ALL ? NONE : domain
      this.#tell('PASID entries', {
        scope: SCOPE.PASID_CACHE,
        domain: named,
        pasid: isOne ? pasid : NONE,
        line,
      })
    } else this.#parts.tally.flushes.add(`descriptor of type ${hex(type)}`, line)
  }

  #tell(name: string, flush: ShownFlush): void {
    this.#parts.tally.flushes.add(name, flush.line)
    this.#parts.records.flush(flush)
  }

  /** What a register asks for is done before software goes on. */
  #done(line: number): void {
    if (!this.#isQueued) this.#parts.records.wait(line)
  }

  /** A line says what is forgotten: it must be what the descriptor before it says. */
  #check(done: Done, line: number): void {
    const open = this.#open
    this.#open = undefined
    this.#isQueued = open !== undefined
    if (open === undefined) return
    const { hi, lo } = open
    const type = Number(lo & 0xfn)
    const by = Number((lo >> 4n) & 3n)
    const isDomain = by !== BY.ALL && (type === TYPE.IOTLB || by === BY.DOMAIN)
    const isSame =
      done.type === type &&
      done.by === by &&
      (!isDomain || done.domain === Number((lo >> 16n) & 0xffffn)) &&
      (type !== TYPE.CONTEXT || by !== BY.FINE || done.source === Number((lo >> 32n) & 0xffffn)) &&
      (type !== TYPE.IOTLB ||
        by !== BY.FINE ||
        (done.iova === (hi & ~0xfffn) && done.order === Number(hi & 0x3fn)))
    if (isSame) return
    this.#parts.tally.diverge({
      line,
      what: 'record',
      call: `descriptor high ${hex(hi)} low ${hex(lo)}`,
      log: `the unit does something else (line ${line})`,
      model: 'what the descriptor says',
      rule: 'descriptor-differs',
    })
  }
}
