import type { RuleOf } from '../../bits/call.ts'
import { Cells, keyOf } from '../../bits/state.ts'
import { floorLog2 } from '../../bits/u64.ts'
import { PERM, TABLE_MODE, type TableMode } from '../../hw/vtd/ports.ts'
import { type Outcome, unknown } from '../outcome.ts'
import { type Attached, Attachments, PASS_THROUGH_DOMAIN } from './attachments.ts'
import type {
  IOMMU_ATTACH,
  IOMMU_ATTACH_PASID,
  IOMMU_DETACH,
  IOMMU_DETACH_PASID,
  IOMMU_FLUSH_DEVICE_TLB,
  IOMMU_FLUSH_PAGES,
  IOMMU_MAP,
  IOMMU_RESUME,
  IOMMU_START,
  IOMMU_STOP,
  IOMMU_SUBMIT,
  IOMMU_SUSPEND,
  IOMMU_UNMAP,
} from './calls.ts'
import { type ExtendedPasids, RID2PASID } from './context-entries.ts'
import { ALL_ORDER, type Descriptor } from './descriptors.ts'
import { DomainFlush } from './domain-flush.ts'
import type { DomainTables } from './domain-tables.ts'
import { Domains, isAligned } from './domains.ts'
import { DriverCore, type DriverOptions, type DriverParts } from './driver-core.ts'
import type { Duty } from './duties.ts'
import type { FlushedDevice } from './flusher.ts'
import type { GuestDevice } from './guest-device.ts'
import { type HandledRequests, PageRequestThread } from './page-requests.ts'
import { type FaultRecord, REQUEST_QUEUE_ORDER } from './unit-control.ts'

const PAGE_SHIFT = 12n
const PAGE_BYTES = 4096n

/** How an unmapping flushes: not at all, before it returns, or later with others. */
export type FlushWay = 'none' | 'strict' | 'lazy'
/** What a domain is for: DMA of drivers, a user of its own, or memory as it is. */
export type DomainKind = 'dma' | 'unmanaged' | 'identity'

/** A device whose requests may have a PASID, as flushes need it. */
export interface PasidDevice extends FlushedDevice {
  readonly domain: number
  readonly hasAts: boolean
}

/** State of the unit, as the driver knows it. */
const STATE = { OFF: 0, ON: 1, ASLEEP: 2 } as const

/**
 * Linux's driver of a VT-d unit, through registers, memory and the queue only. Mapping and attaching do what the unit
 * needs of them; what is taken back is flushed as the caller says. (Linux v6.1 drivers/iommu/intel)
 */
export class VtdDriver {
  readonly core: DriverCore
  readonly attachments: Attachments
  readonly requests: PageRequestThread
  readonly #devices: readonly GuestDevice[]
  readonly #domains: Domains
  readonly #state: Cells
  readonly #flush: DomainFlush

  constructor(options: DriverOptions, parts: DriverParts, devices: readonly GuestDevice[]) {
    this.core = new DriverCore(options, parts)
    this.#devices = devices
    this.attachments = new Attachments(this.core)
    this.#flush = new DomainFlush(this.core, this.attachments)
    this.requests = new PageRequestThread(this.core, (source) => this.attachments.hasRequests(source))
    this.#domains = new Domains(this.core, (tables, first, pages) => {
      this.#flush.flushRange(tables, { first, end: first + pages }, { hint: false, isMap: false })
      this.core.pool.settle(tables.shape.domain)
    })
    this.#state = new Cells(parts.journal, keyOf('driver', options.port.name), 1)
  }

  /** Done while the unit is started, before it translates: what shared virtual memory needs. */
  onStart: () => void = () => undefined

  get isOn(): boolean {
    return this.#state.get(0) === STATE.ON
  }

  device(name: string): GuestDevice | undefined {
    return this.#devices.find((d) => d.name === name)
  }

  attachmentOf(device: GuestDevice): Attached | undefined {
    return this.attachments.of(device)
  }

  hasDomain(domain: number): boolean {
    return this.#domains.find(domain) !== undefined
  }

  start(): Outcome<RuleOf<typeof IOMMU_START>> {
    const { registers, stores, control, pool, flusher } = this.core
    if (this.#state.get(0) !== STATE.OFF) return 'on'
    if (!registers.probe()) return 'no-unit'
    if (this.core.levels === 0) return 'ignored'
    const { features } = registers
    stores.setPath({ hasWriteBuffer: features.needsWriteBufferFlush })
    const root = pool.take(0, this.core.snoopsEntries)
    const queue = flusher.queue.pages === 1 ? pool.take(0, true) : pool.takeRun(flusher.queue.pages, true)
    const statuses = pool.take(0, true)
    const hasRequests = this.core.isScalable && features.hasPasid && features.hasPageRequests
    const requests = hasRequests ? pool.takeRun(2 ** REQUEST_QUEUE_ORDER, true) : 0
    if (Math.min(root, queue, statuses, requests) < 0) return 'no-table-page'
    this.attachments.reset()
    this.#domains.reset()
    flusher.queue.setPlace({ queue, statuses })
    control.prepare()
    this.attachments.setRoot(root)
    control.setRoot(root, this.#tableMode)
    control.flushWriteBuffer()
    this.requests.place = requests
    if (hasRequests) control.enableRequests(requests)
    this.onStart()
    control.enableFaults()
    control.enable()
    this.#state.set(0, STATE.ON)
    return 'done'
  }

  stop(): Outcome<RuleOf<typeof IOMMU_STOP>> {
    if (!this.isOn) return 'off'
    this.core.control.shutDown()
    this.#state.set(0, STATE.OFF)
    return 'done'
  }

  suspend(): Outcome<RuleOf<typeof IOMMU_SUSPEND>> {
    if (!this.isOn) return 'off'
    this.core.control.suspend()
    this.#state.set(0, STATE.ASLEEP)
    return 'done'
  }

  resume(): Outcome<RuleOf<typeof IOMMU_RESUME>> {
    if (this.#state.get(0) !== STATE.ASLEEP) return 'not-asleep'
    this.core.control.resume(this.attachments.root, this.#tableMode)
    this.#state.set(0, STATE.ON)
    return 'done'
  }

  forget(duty: Duty, isForgotten: boolean): void {
    this.core.setForgotten(duty, isForgotten)
  }

  /** The thread of the page request interrupt. @param isMapped whether the pages are there in the end */
  answerRequests(isMapped: boolean): HandledRequests | undefined {
    return this.requests.place === 0 ? undefined : this.requests.run(isMapped)
  }

  readFaults(): readonly FaultRecord[] {
    return this.core.control.readFaults()
  }

  attach(
    device: GuestDevice,
    domain: number,
    { wantsAts, kind }: { readonly wantsAts: boolean; readonly kind: DomainKind },
  ): Outcome<RuleOf<typeof IOMMU_ATTACH>> {
    const { isScalable, registers } = this.core
    if (domain === 0 || (isScalable && domain === PASS_THROUGH_DOMAIN)) return 'domain-reserved'
    if (domain >= registers.features.domains) return 'beyond-domains'
    if (this.attachmentOf(device) !== undefined) return 'attached'
    let tables: DomainTables | undefined
    if (kind !== 'identity') {
      tables = this.#domains.open(domain, this.#isFirstLevel(kind))
      if (tables === undefined) return 'no-table-page'
    } else if (!registers.features.hasPassThrough) {
      return unknown('an identity domain of a unit without pass-through, which maps all of memory')
    }
    return this.attachments.attach(device, { domain, tables, wantsAts }) ? 'done' : 'no-table-page'
  }

  /**
   * Lets requests of a device have a PASID, in extended mode. A device without a domain gets one of its own. Undefined
   * where no page is left for its tables. (Linux v4.9 drivers/iommu/intel-iommu.c, intel_iommu_enable_pasid)
   */
  enablePasids(
    device: GuestDevice,
    tables: Pick<ExtendedPasids, 'table' | 'sizeCode' | 'states'>,
  ): PasidDevice | undefined {
    if (this.attachmentOf(device) === undefined) {
      let domain = 1
      while (this.hasDomain(domain) || this.attachments.hasDomain(domain)) domain++
      this.attach(device, domain, { wantsAts: true, kind: 'dma' })
    }
    const attached = this.attachmentOf(device)
    if (attached === undefined) return undefined
    const { domain, hasAts } = this.attachments.enablePasids(attached, tables)
    return { ...this.attachments.flushed(device), domain, hasAts }
  }

  detach(device: GuestDevice): Outcome<RuleOf<typeof IOMMU_DETACH>> {
    const attached = this.attachmentOf(device)
    if (attached === undefined) return 'not-attached'
    this.attachments.detach(attached)
    return 'done'
  }

  attachPasid(
    device: GuestDevice,
    pasid: number,
    domain: number,
  ): Outcome<RuleOf<typeof IOMMU_ATTACH_PASID>> {
    const attached = this.attachmentOf(device)
    if (attached === undefined) return 'not-attached'
    const tables = this.#domains.find(domain)
    if (tables === undefined) return 'domain-unknown'
    if (!attached.hasPasid) return 'no-pasids'
    const isPresent = this.attachments.isPasidPresent(attached, pasid)
    if (isPresent === undefined) return 'no-entry'
    if (isPresent) return 'present'
    return this.attachments.attachPasid(attached, pasid, tables) ? 'done' : 'no-entry'
  }

  detachPasid(
    device: GuestDevice,
    pasid: number,
    isSilent: boolean,
  ): Outcome<RuleOf<typeof IOMMU_DETACH_PASID>> {
    const attached = this.attachmentOf(device)
    if (attached === undefined) return 'not-attached'
    const isThere = pasid !== RID2PASID && this.attachments.isPasidPresent(attached, pasid) === true
    if (!isThere) return 'not-present'
    if (attached.hasRequests && this.requests.holds(pasid)) {
      return unknown('page requests that wait while their PASID goes')
    }
    this.attachments.clearPasid(attached, pasid, isSilent)
    this.drainRequests(attached, pasid)
    return 'done'
  }

  /** Page requests of a PASID that the device and the unit have under way are pushed out. */
  drainRequests(attached: Attached, pasid: number): void {
    this.#flush.drainRequests(attached, pasid)
  }

  map(
    domain: number,
    at: { readonly iova: bigint; readonly gpa: bigint; readonly bytes: bigint },
    perm: number,
    owner: string,
  ): Outcome<RuleOf<typeof IOMMU_MAP>> {
    const { control, flushesNew, options } = this.core
    const tables = this.#domains.find(domain)
    const { iova, gpa, bytes } = at
    if (tables === undefined) return 'domain-unknown'
    if (gpa % PAGE_BYTES !== 0n || !isAligned(iova, bytes)) return 'unaligned'
    const span = this.#domains.spanOf(tables, iova, bytes)
    if (span === undefined || gpa + bytes > 1n << BigInt(options.hostAddressBits)) return 'beyond-width'
    if (tables.isMapped(span.first, span.end)) return 'mapped'
    const target = Number(gpa >> PAGE_SHIFT)
    const isWhole = tables.map(span.first, span.end, target, perm | PERM.READ)
    this.#domains.recordMaps(tables, span)
    this.#domains.own(target, span.end - span.first, owner)
    if (!isWhole) return 'no-table-page'
    // Entries of the first level that are not present are never kept.
    if (flushesNew && !tables.shape.isFirstLevel)
      this.#flush.flushRange(tables, span, { hint: false, isMap: true })
    else control.flushWriteBuffer()
    return 'done'
  }

  unmap(
    domain: number,
    { iova, bytes }: { readonly iova: bigint; readonly bytes: bigint },
    owner: string,
    way: FlushWay,
  ): Outcome<RuleOf<typeof IOMMU_UNMAP>> {
    const tables = this.#domains.find(domain)
    if (tables === undefined) return 'domain-unknown'
    if (!isAligned(iova, bytes)) return 'unaligned'
    const span = this.#domains.spanOf(tables, iova, bytes)
    if (span === undefined) return 'beyond-width'
    const gone = this.#domains.runsOf(tables, span)
    const [head] = gone
    const tail = gone.at(-1)
    if (head === undefined || tail === undefined) return 'not-mapped'
    tables.unmap(span.first, span.end)
    for (const run of gone) this.#domains.recordUnmap(domain, run)
    if (way === 'strict') {
      const hint = !this.core.pool.hasWaiting(domain)
      const whole = {
        first: Math.min(head.first, span.first),
        end: Math.max(tail.first + tail.pages, span.end),
      }
      if (this.attachments.has(domain)) this.#flush.flushRange(tables, whole, { hint, isMap: false })
      this.core.pool.settle(domain)
    } else if (way === 'lazy') this.#flush.queueUp(tables)
    for (const run of gone) this.#domains.own(run.target, run.pages, owner)
    return 'done'
  }

  flushPages(domain: number, iova: bigint, bytes: bigint): Outcome<RuleOf<typeof IOMMU_FLUSH_PAGES>> {
    const tables = this.#domains.find(domain)
    if (tables === undefined) return 'domain-unknown'
    if (!isAligned(iova, bytes)) return 'unaligned'
    const span = this.#domains.spanOf(tables, iova, bytes)
    if (span === undefined) return 'beyond-width'
    const isWhole = this.#flush.flushIotlb(tables, span, false)
    this.core.pool.settle(domain)
    return isWhole ? 'too-many' : 'done'
  }

  /** All of a domain, in the IOTLB only. */
  flushDomain(domain: number): Outcome<'domain-unknown' | 'done'> {
    const tables = this.#domains.find(domain)
    if (tables === undefined) return 'domain-unknown'
    this.#flush.flushWhole(tables)
    this.core.pool.settle(domain)
    return 'done'
  }

  flushAll(): void {
    this.core.flusher.everything()
    this.core.pool.settle()
  }

  /** The timer of the flush queue of a domain: whatever waits is flushed. */
  flushQueue(domain: number): Outcome<'domain-unknown' | 'empty' | 'done'> {
    const tables = this.#domains.find(domain)
    if (tables === undefined) return 'domain-unknown'
    if (this.#flush.waiting(domain) === 0) return 'empty'
    this.#flush.flushWaiting(tables)
    return 'done'
  }

  flushDeviceTlb(
    device: GuestDevice,
    iova: bigint,
    bytes: bigint,
  ): Outcome<RuleOf<typeof IOMMU_FLUSH_DEVICE_TLB>> {
    const attached = this.attachmentOf(device)
    if (attached === undefined) return 'not-attached'
    const order = bytes === 0n && iova === 0n ? ALL_ORDER : floorLog2(bytes) - Number(PAGE_SHIFT)
    const isBlock = order >= 0 && (order === ALL_ORDER || bytes === 1n << (BigInt(order) + PAGE_SHIFT))
    if (!isBlock || (iova & (bytes - 1n)) !== 0n) return 'no-block'
    if (!attached.hasAts) return 'ats-off'
    this.core.flusher.deviceTlb(this.attachments.flushed(device), iova, order)
    return 'done'
  }

  submit(descriptor: Descriptor): Outcome<RuleOf<typeof IOMMU_SUBMIT>> {
    return this.core.flusher.submit([descriptor])
  }

  get #tableMode(): TableMode {
    if (this.core.isScalable) return TABLE_MODE.SCALABLE
    return this.core.isExtended ? TABLE_MODE.EXTENDED : TABLE_MODE.LEGACY
  }

  /** First level where the unit has it, for DMA; a user of its own gets the second level where there is one. */
  #isFirstLevel(kind: DomainKind): boolean {
    const { hasFirstLevel, hasSecondLevel } = this.core.registers.features
    if (!this.core.isScalable || !hasFirstLevel) return false
    return !hasSecondLevel || kind !== 'unmanaged'
  }
}
