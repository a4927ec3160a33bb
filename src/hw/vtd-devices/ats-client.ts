import type { Journal } from '../../bits/state.ts'
import { hiOfPage, loOfPage } from '../../bits/u64.ts'
import { VTD_CACHE } from '../../trace/event-codes.ts'
import type { Stage } from '../../trace/stage.ts'
import type { RequestTags } from '../dma-request.ts'
import { ADDRESS_TYPE, NO_PASID, newRequest, PERM } from '../vtd/ports.ts'
import { DeviceTlb, type DeviceTlbEntry } from './device-tlb.ts'
import type { VtdUnitPort } from './unit-port.ts'

const PAGE_SHIFT = 12

/** What came of a page of an access: what the device keeps for it, and whether that is enough. */
export interface Asked {
  readonly entry: DeviceTlbEntry | undefined
  readonly isAllowed: boolean
  /** Fault reason where the unit has blocked the question. */
  readonly reason: number
}

export interface AtsClientOptions {
  readonly name: string
  readonly source: number
  /** Translations that the device has room for; no bound where it is left out. */
  readonly entries?: number | undefined
}

/** The part of a device that asks a VT-d unit for translations, keeps them, and makes requests with what it keeps. */
export class AtsClient {
  readonly tlb: DeviceTlb
  readonly #source: number
  readonly #unit: VtdUnitPort
  readonly #stage: Stage
  readonly #ask = newRequest()

  constructor(
    { name, source, entries }: AtsClientOptions,
    unit: VtdUnitPort,
    parts: { stage: Stage; journal: Journal },
  ) {
    this.tlb = new DeviceTlb(name, parts.journal, entries)
    this.#source = source
    this.#unit = unit
    this.#stage = parts.stage
    this.#ask.source = source
  }

  /** What the device keeps for a page, asked for anew where that is not enough. */
  pageFor(page: number, tags: RequestTags, need: number): Asked {
    const found = this.tlb.find(tags.pasid ?? NO_PASID, tags.isPrivileged, page)
    if (found !== undefined && (found.perm & need) === need)
      return { entry: found, isAllowed: true, reason: 0 }
    return this.translate(page, tags, need, false)
  }

  /** Asks for a translation of a page and keeps it, if it allows anything. */
  translate(page: number, tags: RequestTags, need: number, isNoWrite: boolean): Asked {
    const unit = this.#unit
    const wanted = PERM.READ | (isNoWrite ? 0 : PERM.WRITE) | (tags.isExecute ? PERM.EXECUTE : 0)
    const ask = this.#askFor(page, 0, tags, wanted)
    ask.addressType = ADDRESS_TYPE.TRANSLATION_REQUEST
    ask.isNoWrite = isNoWrite
    const reason = unit.translate(ask)
    const { perm, shift, page: target } = unit.translation
    if (reason !== 0 || (perm & (PERM.READ | PERM.WRITE)) === 0) {
      return { entry: undefined, isAllowed: false, reason }
    }
    const pages = 2 ** (shift - PAGE_SHIFT)
    const entry: DeviceTlbEntry = {
      number: unit.nextEntry(),
      pasid: tags.pasid ?? NO_PASID,
      isPrivileged: tags.isPrivileged,
      first: page - (page % pages),
      target: target - (target % pages),
      shift,
      perm,
    }
    this.tlb.keep(entry, page)
    this.#recordFill(entry, unit.translation.domain)
    return { entry, isAllowed: (perm & need) === need, reason: 0 }
  }

  #askFor(page: number, offset: number, tags: RequestTags, need: number) {
    const ask = this.#ask
    ask.pasid = tags.pasid ?? NO_PASID
    ask.hi = hiOfPage(page, PAGE_SHIFT)
    ask.lo = loOfPage(page, PAGE_SHIFT) | offset
    ask.need = need
    ask.isPrivileged = tags.isPrivileged
    ask.isNoWrite = false
    return ask
  }

  /** A translated request for bytes of a page, with an entry for it. Answers the fault reason, 0 for none. */
  use(entry: DeviceTlbEntry, page: number, offset: number, tags: RequestTags, need: number): number {
    const target = entry.target + (page - entry.first)
    this.#recordUse(entry, page, offset, target, need)
    const ask = this.#askFor(target, offset, tags, need)
    ask.addressType = ADDRESS_TYPE.TRANSLATED
    return this.#unit.translate(ask)
  }

  #recordFill({ number, pasid, first, target, shift, perm }: DeviceTlbEntry, domain: number): void {
    const { log, cause } = this.#stage
    log.emit('vtd.fill', cause < 0 ? null : cause, {
      unit: this.#unit.name,
      cache: VTD_CACHE.DEVICE_TLB,
      entry: number,
      source: this.#source,
      domain,
      pasid,
      iova: BigInt(first) << BigInt(PAGE_SHIFT),
      shift,
      target: BigInt(target) << BigInt(PAGE_SHIFT),
      perm,
    })
  }

  /** A translation that the device keeps is used. */
  #recordUse(entry: DeviceTlbEntry, page: number, offset: number, target: number, need: number): void {
    const { log, cause, line } = this.#stage
    log.emit('vtd.translate', cause < 0 ? null : cause, {
      unit: this.#unit.name,
      source: this.#source,
      pasid: entry.pasid,
      iova: (BigInt(page) << BigInt(PAGE_SHIFT)) | BigInt(offset),
      target: (BigInt(target) << BigInt(PAGE_SHIFT)) | BigInt(offset),
      perm: entry.perm,
      need,
      fault: 0,
      entry: entry.number,
      line,
    })
  }
}
