import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { FAULT } from '../fault-reasons.ts'
import {
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

  /**
   * @param read answers a request by memory alone
   * @param endsWithPasids erratum D103
   */
  constructor(
    read: (request: VtdRequest, into: Translation) => void,
    journal: Journal,
    name: string,
    endsWithPasids: boolean,
  ) {
    this.#read = read
    this.#endsWithPasids = endsWithPasids
    this.#state = new Cells(journal, keyOf('vtd-pass-through', name), 256)
  }

  isDirect(source: number): boolean {
    return ((this.#state.data[source] ?? 0) & IS_DIRECT) !== 0
  }

  isKnown(source: number): boolean {
    return (this.#state.data[source] ?? 0) !== 0
  }

  /** One device. */
  decide(source: number): void {
    this.#state.ensure(source + 1)
    this.#request.source = source
    this.#found.fault = 0
    this.#read(this.#request, this.#found)
    const isDirect = this.#found.isDirect && this.#found.fault === 0
    this.#state.set(source, IS_KNOWN | (isDirect ? IS_DIRECT : 0))
  }

  decideAll(): void {
    for (let source = 0; source < this.#state.length; source++) if (this.isKnown(source)) this.decide(source)
  }

  /** Software has something forgotten. */
  invalidated(what: VtdInvalidation): void {
    if (what.what === 'context') this.decideCovered(what)
    else if (what.what === 'pasid-cache' && this.#endsWithPasids) this.#endBad()
  }

  /** Devices whose entries are bad by now are held no more, whatever the invalidation names. */
  #endBad(): void {
    for (let source = 0; source < this.#state.length; source++) {
      if (!this.isDirect(source)) continue
      this.#request.source = source
      this.#found.fault = 0
      this.#read(this.#request, this.#found)
      const { fault } = this.#found
      // What only lacks a walk of page tables is in order.
      if (fault !== 0 && fault !== FAULT.BEYOND_WIDTH) this.#state.set(source, IS_KNOWN)
    }
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
