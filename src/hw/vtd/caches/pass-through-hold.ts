import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { FAULT } from '../fault-reasons.ts'
import {
  NO_PASID,
  newRequest,
  newTranslation,
  type Translation,
  type VtdInvalidation,
  type VtdRequest,
} from '../ports.ts'
import { FUNCTION_MASKS } from './context-cache.ts'
import type { PageCache } from './engine.ts'

const IS_KNOWN = 1
const IS_DIRECT = 2
/** Above the flags: the domain of the PASID entry when it was looked at last, plus 1; 0 for none (D103). */
const DOMAIN_SHIFT = 8
const FLAGS = (1 << DOMAIN_SHIFT) - 1

/** For an engine that shall not walk page tables: whatever would need them is refused. */
export const NO_PAGES: PageCache = Object.freeze({ loadPage: () => FAULT.BEYOND_WIDTH })

/**
 * Which devices QEMU passes by its unit: decided from memory at certain moments, and held until the next (D28).
 * (QEMU 7.2 hw/i386/intel_iommu.c, vtd_switch_address_space)
 */
export class PassThroughHold {
  readonly #read: (request: VtdRequest, into: Translation) => void
  readonly #request = newRequest()
  readonly #found = newTranslation()
  /** Of each source-id. */
  readonly #state: Cells
  readonly #endsWithPasids: boolean
  readonly #domainOf: () => number

  /**
   * @param read answers a request by memory alone
   * @param domainOf the domain of the PASID entry that it has read
   * @param endsWithPasids erratum D103
   */
  constructor(
    read: (request: VtdRequest, into: Translation) => void,
    domainOf: () => number,
    journal: Journal,
    name: string,
    endsWithPasids: boolean,
  ) {
    this.#read = read
    this.#domainOf = domainOf
    this.#endsWithPasids = endsWithPasids
    this.#state = new Cells(journal, keyOf('vtd-pass-through', name), 256)
  }

  isDirect(source: number): boolean {
    return ((this.#state.data[source] ?? 0) & IS_DIRECT) !== 0
  }

  isKnown(source: number): boolean {
    return (this.#state.data[source] ?? 0) !== 0
  }

  /**
   * One device.
   *
   * @param remembers the domain of its PASID entry is kept for later invalidations (D103)
   */
  decide(source: number, remembers = true): void {
    this.#state.ensure(source + 1)
    this.#look(source)
    const isDirect = this.#found.isDirect && this.#found.fault === 0
    const domain = remembers ? this.#domainFound << DOMAIN_SHIFT : (this.#state.data[source] ?? 0) & ~FLAGS
    this.#state.set(source, IS_KNOWN | (isDirect ? IS_DIRECT : 0) | domain)
  }

  decideAll(): void {
    for (let source = 0; source < this.#state.length; source++) if (this.isKnown(source)) this.decide(source)
  }

  /** Software has something forgotten. */
  invalidated(what: VtdInvalidation): void {
    if (what.what === 'context') this.decideCovered(what)
    else if (what.what === 'pasid-cache' && this.#endsWithPasids) this.#pasidsInvalidated(what)
  }

  /** Devices whose entries are bad by now are passed by no more; those that are named by the domain they had are looked at. */
  #pasidsInvalidated({ scope, domain, pasid }: VtdInvalidation): void {
    for (let source = 0; source < this.#state.length; source++) {
      if (!this.isKnown(source)) continue
      this.#look(source)
      const had = (this.#state.data[source] as number) >>> DOMAIN_SHIFT
      const has = this.#domainFound
      const isNamed = scope === 'all' || domain + 1 === (had === 0 ? has : had)
      if (this.#isBad) this.#state.set(source, IS_KNOWN)
      else if (has !== 0 && isNamed && (scope !== 'fine' || pasid === this.#found.pasid)) this.decide(source)
    }
  }

  #look(source: number): void {
    this.#request.source = source
    this.#found.fault = 0
    this.#found.pasid = NO_PASID
    this.#read(this.#request, this.#found)
  }

  /** What only lacks a walk of page tables is in order. */
  get #isBad(): boolean {
    const { fault } = this.#found
    return fault !== 0 && fault !== FAULT.BEYOND_WIDTH
  }

  /** The domain of the PASID entry that was looked at, plus 1; 0 where none is good. */
  get #domainFound(): number {
    return this.#isBad || this.#found.pasid === NO_PASID ? 0 : this.#domainOf() + 1
  }

  /** The devices that an invalidation of context entries names; any that names no device names all. */
  decideCovered({ scope, source, functionMask }: VtdInvalidation): void {
    if (scope !== 'fine') this.decideAll()
    else {
      const compared = 0xffff & ~(FUNCTION_MASKS[functionMask & 3] as number)
      for (let device = 0; device < 8; device++) {
        const named = (source & ~7) | device
        if (((named ^ source) & compared) === 0 && this.isKnown(named)) this.decide(named)
      }
    }
  }
}
