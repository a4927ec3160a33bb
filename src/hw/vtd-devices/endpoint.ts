import type { Iova } from '../../bits/brand.ts'
import { rulesOf } from '../../bits/call.ts'
import type { Clock } from '../../bits/clock.ts'
import { DMA_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { Stage } from '../../trace/stage.ts'
import type { BusMaster } from '../bus-master.ts'
import { DeviceBuffer } from '../device-buffer.ts'
import { type RequestTags, recordDone, recordRequest } from '../dma-request.ts'
import { DMA_FAULT } from '../dma-space.ts'
import { DMA_RULE_OF_FAULT } from '../edu.ts'
import { DMA_READ } from '../edu-calls.ts'
import { type DeviceTlbEnd, NO_PASID, type PageResponse, PERM, type VtdInvalidation } from '../vtd/ports.ts'
import { type Asked, AtsClient } from './ats-client.ts'
import type { DeviceTlb } from './device-tlb.ts'
import { INVALIDATION_WAYS, type InvalidationWay } from './endpoint-calls.ts'
import { type Ended, PageRequests } from './page-requests.ts'
import type { VtdUnitPort } from './unit-port.ts'
import type { VtdDmaSpace } from './vtd-dma-space.ts'

const DMA = rulesOf(DMA_READ)
const { MEMTX_OK, MEMTX_ERROR, MEMTX_DECODE_ERROR } = DMA_CODES
const BUFFER_BYTES = 4096
const PAGE_SHIFT = 12
const PAGE_BYTES = 4096

/** Capabilities of a function, as its configuration space has them. */
export interface EndpointOptions {
  readonly name: string
  /** Bus, device and function. */
  readonly source: number
  /** ATS: how many translations it keeps at most. */
  readonly ats: { readonly entries?: number } | undefined
  /** PRI: how many page requests may wait. */
  readonly pri: { readonly requests: number } | undefined
  readonly pasid:
    | { readonly bits: number; readonly execute: boolean; readonly privileged: boolean }
    | undefined
}

export interface EndpointParts {
  readonly unit: VtdUnitPort
  /** The bus as it sees it without ATS. */
  readonly space: VtdDmaSpace
  readonly stage: Stage
  readonly journal: Journal
  readonly clock: Clock
}

/** A DMA as it is asked for: tried again where it has waited for pages. */
interface Access {
  readonly iova: bigint
  readonly bytes: number
  readonly isWrite: boolean
  readonly at: number
  readonly tags: RequestTags
}

/** An invalidation that the device has not completed. */
interface Waiting {
  readonly what: VtdInvalidation
  readonly due: number
}

export const NO_TAGS: RequestTags = { pasid: undefined, isPrivileged: false, isExecute: false }

// Cells of the state.
const ATS_ON = 0
const PASID_ON = 1
const EXECUTE_ON = 2
const PRIVILEGED_ON = 3
const WAY = 4
const WAY_TICKS = 5
const CELLS = 6

/**
 * A PCI Express function with a DMA engine and a buffer of 4096 bytes, and with ATS, PRI and PASIDs as it is made: it
 * asks for translations and keeps them in a TLB of its own, requests pages that are missing, and tries again with the
 * response. How it treats invalidations can be said. (PCI Express Base Specification, Address Translation Services)
 */
export class Endpoint implements BusMaster {
  readonly name: string
  readonly options: EndpointOptions
  readonly hasTags = true
  warnings: string[] = []
  /** Undefined where it cannot request pages. */
  readonly pages: PageRequests<Access> | undefined
  readonly #parts: EndpointParts
  readonly #device: number
  readonly #state: Cells
  readonly #buffer: DeviceBuffer
  readonly #ats: AtsClient
  readonly #scratch = new Uint8Array(BUFFER_BYTES)
  readonly #waiting: Held<readonly Waiting[]>

  constructor(options: EndpointOptions, parts: EndpointParts) {
    const { name, source, ats, pri } = options
    const { journal, unit, stage } = parts
    this.name = name
    this.options = options
    this.#parts = parts
    this.#device = stage.log.names.intern(name)
    this.#state = new Cells(journal, keyOf('endpoint', name), CELLS)
    this.#buffer = new DeviceBuffer(journal, keyOf('endpoint-buffer', name), BUFFER_BYTES)
    this.#ats = new AtsClient({ name, source, entries: ats?.entries }, unit, parts)
    this.pages = pri && new PageRequests<Access>({ name, source, most: pri.requests }, unit, journal)
    this.#waiting = new Held<readonly Waiting[]>(journal, `invalidations in ${name}`, [], (list) =>
      keyOf(...list.map((w) => `${w.what.what} ${w.what.address} ${w.what.order} ${w.due}`)),
    )
  }

  get moved(): number {
    return this.#parts.space.moved
  }

  get reason(): number {
    return this.#parts.space.reason
  }

  /** The translations that it keeps. */
  get tlb(): DeviceTlb {
    return this.#ats.tlb
  }

  bufferAt(at: number, bytes: number): Uint8Array {
    return this.#buffer.slice(at, bytes)
  }

  get hasAts(): boolean {
    return this.#state.get(ATS_ON) !== 0
  }

  /** Software switches ATS; off, the device forgets what it keeps. */
  setAts(on: boolean): void {
    this.#state.set(ATS_ON, on ? 1 : 0)
    if (!on) this.tlb.clear()
  }

  setPasid(on: boolean, execute = false, privileged = false): void {
    this.#state.set(PASID_ON, on ? 1 : 0)
    this.#state.set(EXECUTE_ON, on && execute ? 1 : 0)
    this.#state.set(PRIVILEGED_ON, on && privileged ? 1 : 0)
  }

  behave(way: InvalidationWay, ticks: number): void {
    this.#state.set(WAY, INVALIDATION_WAYS.indexOf(way))
    this.#state.set(WAY_TICKS, ticks)
  }

  /** Whether a request of the device may carry such tags now. */
  takes({ pasid, isPrivileged, isExecute }: RequestTags): boolean {
    if (pasid === undefined) return !isPrivileged && !isExecute
    if (this.#state.get(PASID_ON) === 0 || pasid >= 2 ** (this.options.pasid?.bits ?? 0)) return false
    if (isPrivileged && this.#state.get(PRIVILEGED_ON) === 0) return false
    return !isExecute || this.#state.get(EXECUTE_ON) !== 0
  }

  transfer(
    iova: Iova,
    bytes: number,
    isWrite: boolean,
    at: number,
    data?: Uint8Array,
    tags: RequestTags = NO_TAGS,
  ): number {
    this.#parts.space.begin()
    if (!this.takes(tags)) return DMA['tags-off']
    if (at + Math.max(bytes, data?.length ?? 0) > BUFFER_BYTES) return DMA['buffer-overrun']
    if (data !== undefined) this.#buffer.store(at, data, data.length)
    return this.#run({ iova, bytes, isWrite, at, tags })
  }

  /** Asks for the translation of a page and keeps it, if it allows anything. */
  translate(iova: bigint, tags: RequestTags, isNoWrite: boolean): Asked {
    return this.#ats.translate(Number(iova >> BigInt(PAGE_SHIFT)), tags, 0, isNoWrite)
  }

  /** It has no more work for a PASID. Answers whether the unit has counted it. */
  releasePasid(pasid: number): boolean {
    const all = { address: 0n, order: 52, isLeafOnly: false, isGlobalToo: false }
    const { source } = this.options
    this.tlb.invalidate({
      ...{ what: 'pasid-device-tlb', scope: 'fine', source, pasid, domain: 0, functionMask: 0 },
      ...all,
    })
    return this.#parts.unit.pasidLeft?.(source, pasid) ?? false
  }

  /** An invalidation request of the unit. */
  invalidate(what: VtdInvalidation): DeviceTlbEnd {
    if (!this.hasAts) return 'no-device'
    const way = INVALIDATION_WAYS[this.#state.get(WAY)]
    if (way === 'late') {
      const due = this.#parts.clock.tick + this.#state.get(WAY_TICKS)
      this.#waiting.set([...this.#waiting.value, { what, due }])
      return 'late'
    }
    if (way !== 'ignored' && way !== 'kept') this.tlb.invalidate(what)
    return way === 'at-once' || way === 'kept' ? 'done' : 'lost'
  }

  /** A response to its page requests: what has waited for it is tried again, or fails. */
  respond(response: PageResponse): void {
    if (this.pages !== undefined) this.settle(this.pages.respond(response))
  }

  /** Accesses that have waited go on. */
  settle({ again, failed }: Ended<Access>): void {
    for (const access of failed) this.#fail(access)
    for (const access of again) this.#run(access)
  }

  /** Completes the invalidation that waits longest, or sends a completion of nothing: false. */
  complete(): boolean {
    const [oldest, ...rest] = this.#waiting.value
    if (oldest !== undefined) {
      this.tlb.invalidate(oldest.what)
      this.#waiting.set(rest)
    }
    this.#parts.unit.invalidationDone(this.options.source)
    return oldest !== undefined
  }

  elapse(): void {
    const { tick } = this.#parts.clock
    while (this.#waiting.value.some((w) => w.due <= tick)) this.complete()
  }

  /** One access, now. Answers the place of its rule. */
  #run(access: Access): number {
    const { iova, bytes, isWrite, at, tags } = access
    const { space } = this.#parts
    const scratch = this.#scratch
    if (isWrite) this.#buffer.load(at, bytes, scratch)
    let rule: number
    if (this.hasAts) rule = this.#throughTlb(access)
    else {
      const place = { device: this.#device, hi: hiOf(iova), lo: loOf(iova), buffer: scratch, at: 0 }
      space.request({ ...place, bytes, isWrite, tags })
      rule = DMA_RULE_OF_FAULT[space.fault] as number
    }
    if (!isWrite && rule !== DMA['page-requested']) this.#buffer.store(at, scratch, bytes)
    return rule
  }

  #throughTlb(access: Access): number {
    const { stage, space } = this.#parts
    const { iova, bytes, isWrite } = access
    const before = stage.cause
    recordRequest(stage, this.#device, hiOf(iova), loOf(iova), bytes, isWrite)
    space.begin()
    let rule = this.pages?.isOn === true ? this.#requestMissing(access, this.pages) : -1
    if (rule < 0) rule = this.#movePages(access)
    const code =
      rule === DMA.done ? MEMTX_OK : rule === DMA['page-requested'] ? MEMTX_ERROR : MEMTX_DECODE_ERROR
    recordDone(stage, this.#device, space.moved, code)
    stage.cause = before
    return rule
  }

  /** Requests the pages that no translation allows. -1 where all are there, or one is blocked anyway. */
  #requestMissing(access: Access, pages: PageRequests<Access>): number {
    const { isWrite, tags } = access
    const missing: number[] = []
    for (const { page } of piecesOf(access)) {
      const { isAllowed, reason } = this.#ats.pageFor(page, tags, needOf(access))
      if (reason !== 0) return -1
      if (!isAllowed) missing.push(page)
    }
    if (missing.length === 0) return -1
    if (!pages.hasCredits(missing.length)) return DMA['page-request-lost']
    const group = pages.nextGroup()
    for (const [i, page] of missing.entries()) {
      const isLast = i === missing.length - 1
      const request = {
        source: this.options.source,
        pasid: tags.pasid ?? NO_PASID,
        address: BigInt(page) << BigInt(PAGE_SHIFT),
        isRead: !isWrite,
        isWrite,
        isExecute: tags.isExecute,
        isPrivileged: tags.isPrivileged,
        group,
        isLast,
        privateData: undefined,
      }
      const { end, ended } = pages.send(request, isLast ? access : undefined)
      this.settle(ended)
      if (end !== 'queued') return DMA['page-request-lost']
    }
    return DMA['page-requested']
  }

  #movePages(access: Access): number {
    const { isWrite, tags } = access
    const { space, unit } = this.#parts
    const scratch = this.#scratch
    let isLacking = false
    for (const { page, offset, done, bytes } of piecesOf(access)) {
      const { entry, isAllowed, reason } = this.#ats.pageFor(page, tags, needOf(access))
      const wasFine = space.fault === DMA_FAULT.NONE
      if (entry === undefined || !isAllowed) {
        const fault = reason === 0 ? DMA_FAULT.REFUSED : DMA_FAULT.BLOCKED
        if (wasFine) isLacking = reason === 0
        space.refuse(fault, reason, scratch, done, bytes, isWrite)
        continue
      }
      const refused = this.#ats.use(entry, page, offset, tags, needOf(access))
      if (refused !== 0) space.refuse(DMA_FAULT.BLOCKED, refused, scratch, done, bytes, isWrite)
      else space.move(unit.translation.page, offset, scratch, done, bytes, isWrite)
    }
    return isLacking ? DMA['translation-refused'] : (DMA_RULE_OF_FAULT[space.fault] as number)
  }

  /** An access that has waited for pages, and does not get them. */
  #fail({ iova, bytes, isWrite }: Access): void {
    const { stage } = this.#parts
    const before = stage.cause
    recordRequest(stage, this.#device, hiOf(iova), loOf(iova), bytes, isWrite)
    recordDone(stage, this.#device, 0, MEMTX_DECODE_ERROR)
    stage.cause = before
  }
}

const needOf = ({ isWrite, tags }: Access): number =>
  isWrite ? PERM.WRITE : tags.isExecute ? PERM.READ | PERM.EXECUTE : PERM.READ

/** The pieces of an access, none across a page: `done` bytes of it are before each. */
function* piecesOf({ iova, bytes }: Access) {
  for (let done = 0; done < bytes; ) {
    const at = BigInt.asUintN(64, iova + BigInt(done))
    const offset = Number(at & BigInt(PAGE_BYTES - 1))
    const count = Math.min(bytes - done, PAGE_BYTES - offset)
    yield { page: Number(at >> BigInt(PAGE_SHIFT)), offset, done, bytes: count }
    done += count
  }
}
