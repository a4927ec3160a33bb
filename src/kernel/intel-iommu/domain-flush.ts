import { Held } from '../../bits/held.ts'
import { keyOf } from '../../bits/state.ts'
import type { Attached, Attachments } from './attachments.ts'
import { RID2PASID } from './context-entries.ts'
import { fenceDescriptor, pageMask, pasidDeviceTlbDescriptor, pasidIotlbDescriptor } from './descriptors.ts'
import type { DomainTables } from './domain-tables.ts'
import type { PageSpan } from './domains.ts'
import type { DriverCore } from './driver-core.ts'

const PAGE_SHIFT = 12n
/** Unmappings that wait in a flush queue at most. (Linux v6.1 drivers/iommu/dma-iommu.c, IOVA_FQ_SIZE) */
const QUEUE_MOST = 255

/**
 * Flushes of domains: the IOTLB first, by PASIDs where the tables are of the first level, then the TLBs of devices.
 * (Linux v6.1 drivers/iommu/intel/iommu.c, iommu_flush_iotlb_psi, intel_flush_iotlb_all)
 */
export class DomainFlush {
  readonly #core: DriverCore
  readonly #attachments: Attachments
  /** Lazy unmappings that wait, by domain. */
  readonly #waiting: Held<ReadonlyMap<number, number>>

  constructor(core: DriverCore, attachments: Attachments) {
    this.#core = core
    this.#attachments = attachments
    this.#waiting = new Held<ReadonlyMap<number, number>>(core.journal, 'flush queues', new Map(), (m) =>
      keyOf(...[...m].flat()),
    )
  }

  /** A lazy unmapping waits; a queue that is full is flushed before. */
  queueUp(tables: DomainTables): void {
    const { domain } = tables.shape
    if (this.waiting(domain) === QUEUE_MOST) this.flushWaiting(tables)
    const count = this.waiting(domain)
    this.#waiting.set(new Map([...this.#waiting.value, [domain, count + 1]]))
  }

  /** Lazy unmappings of a domain that wait. */
  waiting(domain: number): number {
    return this.#waiting.value.get(domain) ?? 0
  }

  /** All that waits is flushed. */
  flushWaiting(tables: DomainTables): void {
    const { domain } = tables.shape
    const { flusher, pool } = this.#core
    if (this.#attachments.has(domain)) {
      if (!this.#core.forgets('iotlb')) this.flushWhole(tables)
      if (this.#core.flushesDeviceTlbs && !this.#core.forgets('device-tlb')) {
        for (const device of this.#attachments.withTlb(domain)) flusher.deviceTlb(device)
        for (const { device, pasid } of this.#pasidsWithTlb(domain)) flusher.pasidDeviceTlb(device, pasid)
      }
    }
    pool.settle(domain)
    this.#waiting.set(new Map([...this.#waiting.value, [domain, 0]]))
  }

  /** All of a domain in the IOTLB. */
  flushWhole(tables: DomainTables): void {
    const { flusher } = this.#core
    const { domain, isFirstLevel } = tables.shape
    if (!isFirstLevel) {
      flusher.domain(domain)
      return
    }
    flusher.pasid(domain, RID2PASID)
    for (const { pasid } of this.#attachments.pasidsOf(domain)) flusher.pasid(domain, pasid)
  }

  /** Pages in the IOTLB; true where all of the domain was flushed instead. */
  flushIotlb(tables: DomainTables, { first, end }: PageSpan, hint: boolean): boolean {
    const { flusher } = this.#core
    const { domain, isFirstLevel } = tables.shape
    if (!isFirstLevel) return flusher.pages(domain, first, end - first, hint).isWhole
    flusher.pasidPages(domain, RID2PASID, first, end - first, hint)
    for (const { pasid } of this.#attachments.pasidsOf(domain)) {
      flusher.pasidPages(domain, pasid, first, end - first, hint)
    }
    return false
  }

  /** Pages in the IOTLB, then in the TLBs of the devices of the domain. */
  flushRange(
    tables: DomainTables,
    span: PageSpan,
    { hint, isMap }: { readonly hint: boolean; readonly isMap: boolean },
  ): void {
    const { flusher, registers } = this.#core
    const { domain, isFirstLevel } = tables.shape
    if (isMap || !this.#core.forgets('iotlb')) this.flushIotlb(tables, span, hint)
    if ((isMap && registers.features.isCachingMode) || this.#core.forgets('device-tlb')) return
    const pages = span.end - span.first
    const order = flusher.deviceOrder(span.first, pages, isFirstLevel)
    const address = BigInt(span.first) << PAGE_SHIFT
    for (const device of this.#attachments.withTlb(domain)) flusher.deviceTlb(device, address, order)
    for (const { device, pasid } of this.#pasidsWithTlb(domain)) {
      flusher.pasidDeviceTlb(device, pasid, address, pageMask(span.first, pages))
    }
  }

  #pasidsWithTlb(domain: number) {
    return this.#attachments
      .pasidsOf(domain)
      .filter(({ device }) => device.hasAts)
      .map(({ device, pasid }) => ({ device: this.#attachments.flushed(device.device), pasid }))
  }

  /**
   * Page requests of a PASID are pushed out of the device and the unit, where it has requests. The flush of its TLB names
   * one page: it only has to pass. (Linux v6.1 drivers/iommu/intel/svm.c, intel_svm_drain_prq)
   */
  drainRequests(attached: Attached, pasid: number): void {
    if (!attached.hasRequests) return
    const device = this.#attachments.flushed(attached.device)
    this.#core.flusher.submit(
      [
        fenceDescriptor(),
        pasidIotlbDescriptor(attached.domain, pasid),
        pasidDeviceTlbDescriptor(device, pasid, 0n, 0),
      ],
      true,
    )
  }
}
