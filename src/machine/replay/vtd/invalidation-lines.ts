import { hex, pageOf, wordOf } from '../../../bits/u64.ts'
import { NONE, FLUSH_SCOPE as SCOPE } from '../../../trace/event-codes.ts'
import { deviceTlbRange } from '../device-tlb-range.ts'
import type { SeenContexts } from './seen-contexts.ts'
import type { SeenIotlb } from './seen-iotlb.ts'
import type { SeenPages } from './seen-pages.ts'
import type { ShownFlush, VtdRecords } from './vtd-records.ts'
import type { VtdTally } from './vtd-tally.ts'

const PAGE_SHIFT = 12
/** Of the second word of a page descriptor: the address, and AM. */
const ADDRESS = -(2 ** PAGE_SHIFT)
const AM = 0x3f
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

/** A descriptor, its words in lanes. One object is used again. */
interface Descriptor {
  hiHi: number
  hiLo: number
  loHi: number
  loLo: number
}

/**
 * The lines about invalidations: each descriptor with the line that says what QEMU does about it, and those of registers,
 * which have the second line only. What they name is forgotten, and becomes a `domain.flush`.
 */
export class InvalidationLines {
  readonly #parts: InvalidationParts
  /** A descriptor, and whether the line that says what it means is still to come. */
  readonly #descriptor: Descriptor = { hiHi: 0, hiLo: 0, loHi: 0, loLo: 0 }
  #isOpen = false
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
    if (type === TYPE.CONTEXT || type === TYPE.IOTLB) {
      const d = this.#descriptor
      d.hiHi = hiHi
      d.hiLo = hiLo
      d.loHi = loHi
      d.loLo = loLo
      this.#isOpen = true
    } else this.#alone(type, wordOf(hiHi, hiLo), wordOf(loHi, loLo), line)
  }

  /** Nothing more comes for the descriptor before: QEMU refused it, or the log has no such lines. */
  settle(): void {
    this.#isOpen = false
    this.#isTold = false
  }

  all(line: number): void {
    this.#check(this.#is(TYPE.IOTLB, BY.ALL), line)
    this.#tell('the IOTLB: everything', { scope: SCOPE.ALL, line })
    this.#parts.iotlb.clear(line)
    this.#parts.pages.flushed(line)
    this.#done(line)
  }

  domain(domain: number, line: number): void {
    this.#check(this.#is(TYPE.IOTLB, BY.DOMAIN) && this.#domain === domain, line)
    this.#tell('the IOTLB: a domain', { scope: SCOPE.DOMAIN, domain, line })
    this.#parts.iotlb.flushDomain(domain, line)
    this.#parts.pages.flushedDomain(domain, line)
    this.#done(line)
  }

  /** @param order log2 of the pages; the address, in lanes, is as given: it is aligned down */
  pages(domain: number, hi: number, lo: number, order: number, line: number): void {
    const d = this.#descriptor
    const isSame = d.hiHi === hi && (d.hiLo & ADDRESS) === (lo & ADDRESS) && (d.hiLo & AM) === order
    this.#check(this.#is(TYPE.IOTLB, BY.FINE) && this.#domain === domain && isSame, line)
    const count = 2 ** order
    const page = pageOf(hi, lo, PAGE_SHIFT)
    const first = page - (page % count)
    this.#parts.tally.flushes.add('the IOTLB: pages', line)
    this.#parts.records.flushPages(domain, first, order, line)
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
    this.#check(this.#is(TYPE.CONTEXT, BY.ALL), line)
    this.#tell('contexts: all', { scope: SCOPE.CONTEXT, source: NONE, domain: NONE, line })
    this.#done(line)
  }

  contextsOf(domain: number, line: number): void {
    this.#check(this.#is(TYPE.CONTEXT, BY.DOMAIN) && this.#domain === domain, line)
    this.#tell('contexts: a domain', { scope: SCOPE.CONTEXT, source: NONE, domain, line })
    this.#done(line)
    this.#isTold = true
  }

  contextOf(source: number, functionMask: number, line: number): void {
    const domain = this.#isOpen ? this.#domain : NONE
    this.#check(this.#is(TYPE.CONTEXT, BY.FINE) && (this.#descriptor.loHi & 0xffff) === source, line)
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

  /** Whether the descriptor has a type and a granularity. */
  #is(type: number, by: number): boolean {
    const { loLo } = this.#descriptor
    return (loLo & 0xf) === type && ((loLo >>> 4) & 3) === by
  }

  get #domain(): number {
    return this.#descriptor.loLo >>> 16
  }

  /** A line says what is forgotten: it must be what the descriptor before it says, if one is open. */
  #check(isSame: boolean, line: number): void {
    this.#isQueued = this.#isOpen
    this.#isOpen = false
    if (!this.#isQueued || isSame) return
    const { hiHi, hiLo, loHi, loLo } = this.#descriptor
    this.#parts.tally.diverge({
      line,
      what: 'record',
      call: `descriptor high ${hex(wordOf(hiHi, hiLo))} low ${hex(wordOf(loHi, loLo))}`,
      log: 'the unit does something else',
      model: 'what the descriptor says',
      rule: 'descriptor-differs',
    })
  }
}
