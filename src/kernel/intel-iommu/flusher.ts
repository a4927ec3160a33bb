import { RID2PASID } from './context-entries.ts'
import type { CpuStores } from './cpu-stores.ts'
import {
  ALL_ORDER,
  contextDescriptor,
  type Descriptor,
  deviceTlbDescriptor,
  GRANULARITY,
  type Granularity,
  type IotlbFlush,
  iotlbDescriptor,
  pageMask,
  pasidCacheDescriptor,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  type Target,
} from './descriptors.ts'
import type { InvalidationQueue, SubmissionEnd } from './invalidation-queue.ts'
import type { UnitRegisters } from './unit-registers.ts'

const PAGE_BYTES = 4096
/** ICC, IVT: set to begin, clear when done. */
const BUSY = 1n << 63n

/** Errata of the driver that its flushes show. */
export interface FlushQuirks {
  /** K6-iva-zero */
  readonly leavesZeroIva: boolean
  /** K6-unaligned-piotlb */
  readonly cutsUnaligned: boolean
}

/** A device as flushes of its TLB need it. */
export interface FlushedDevice extends Target {
  /** It takes every invalidation twice (Intel 0x4940 to 0x4943). */
  readonly isTwice: boolean
}

/**
 * Flushes of a unit, each with its wait: through the queue, or where the unit has none through registers. What registers
 * cannot say (PASIDs, device-TLBs) is not sent then. (Linux v6.1 drivers/iommu/intel/dmar.c, qi_flush_*; iommu.c,
 * __iommu_flush_context, __iommu_flush_iotlb)
 */
export class Flusher {
  readonly queue: InvalidationQueue
  readonly #registers: UnitRegisters
  readonly #stores: CpuStores
  readonly #quirks: FlushQuirks

  constructor(
    parts: {
      readonly registers: UnitRegisters
      readonly queue: InvalidationQueue
      readonly stores: CpuStores
    },
    quirks: FlushQuirks,
  ) {
    this.#registers = parts.registers
    this.queue = parts.queue
    this.#stores = parts.stores
    this.#quirks = quirks
  }

  get #isQueued(): boolean {
    return this.#registers.features.hasQueue
  }

  context(domain: number, source: number, g: Granularity): void {
    if (this.#isQueued) {
      this.#submit(contextDescriptor(domain, source, g))
      return
    }
    this.#stores.drain()
    const named = g === GRANULARITY.GLOBAL ? 0n : BigInt(domain)
    const device = g === GRANULARITY.FINE ? BigInt(source) << 16n : 0n
    this.#registers.write64('CCMD', BUSY | (BigInt(g) << 61n) | device | named)
    this.#registers.poll64('CCMD', (value) => (value & BUSY) === 0n)
  }

  /** Everything in the IOTLB. */
  everything(): void {
    this.#iotlb({ domain: 0, g: GRANULARITY.GLOBAL })
  }

  domain(domain: number): void {
    this.#iotlb({ domain, g: GRANULARITY.DOMAIN })
  }

  /**
   * Second-level pages of a domain: the smallest block that holds them, or all of the domain where the unit cannot name
   * that. Answers the mask that it took.
   *
   * @param hint only entries that map pages have changed (IH): registers are told, the queue never is
   */
  pages(domain: number, first: number, pages: number, hint: boolean): { order: number; isWhole: boolean } {
    const order = pageMask(first, pages)
    const { hasPageSelective, maxOrder } = this.#registers.features
    const isWhole = !hasPageSelective || order > maxOrder
    if (isWhole) this.domain(domain)
    else {
      const address = BigInt(first) * BigInt(PAGE_BYTES)
      this.#iotlb({ domain, g: GRANULARITY.FINE, address, order, hint })
    }
    return { order, isWhole }
  }

  /** All translations of a PASID of a domain. */
  pasid(domain: number, pasid: number): void {
    this.#submit(pasidIotlbDescriptor(domain, pasid))
  }

  /**
   * First-level pages of a PASID, in blocks that are aligned to their number. (Linux v6.1 drivers/iommu/intel/svm.c,
   * intel_flush_svm_range_dev)
   */
  pasidPages(domain: number, pasid: number, first: number, pages: number, hint: boolean): void {
    let order = 0
    while (2 ** order < pages) order++
    const block = 2 ** order
    const begin = Math.floor(first / block) * block
    const isCut = this.#quirks.cutsUnaligned && pasid === RID2PASID
    const end = isCut ? begin + 1 : first + pages
    for (let page = begin; page < end; page += block) {
      const address = BigInt(page) * BigInt(PAGE_BYTES)
      this.#submit(pasidIotlbDescriptor(domain, pasid, { address, order, hint }))
    }
  }

  /** log2 of the pages around `first` that a flush of a device-TLB names after a flush of pages in the IOTLB. */
  deviceOrder(first: number, pages: number, isFirstLevel: boolean): number {
    // The address is not aligned down here, so that it may even name more.
    return isFirstLevel && this.#quirks.cutsUnaligned ? pageMask(0, pages) : pageMask(first, pages)
  }

  pasidEntry(domain: number, pasid: number): void {
    this.#submit(pasidCacheDescriptor(domain, pasid, 'pasid'))
  }

  pasidEntriesOf(domain: number): void {
    this.#submit(pasidCacheDescriptor(domain, 0, 'domain'))
  }

  everyPasidEntry(): void {
    this.#submit(pasidCacheDescriptor(0, 0, 'all'))
  }

  /** 2^order pages around an address in the TLB of a device; nothing is sent while translation is off. */
  deviceTlb(device: FlushedDevice, address = 0n, order = ALL_ORDER): void {
    if (!this.#registers.isOn('TE')) return
    const descriptor = deviceTlbDescriptor(device, address, order)
    this.#submit(descriptor)
    if (device.isTwice) this.#submit(descriptor)
  }

  pasidDeviceTlb(device: FlushedDevice, pasid: number, address = 0n, order = ALL_ORDER): void {
    if (!this.#registers.isOn('TE')) return
    const descriptor = pasidDeviceTlbDescriptor(device, pasid, address, order)
    this.#submit(descriptor)
    if (device.isTwice) this.#submit(descriptor)
  }

  /** A descriptor of the driver that the unit refuses is told, and no more: the caller goes on. */
  #submit(descriptor: Descriptor): void {
    this.submit([descriptor])
  }

  /**
   * Puts descriptors and a wait on the queue. The unit flushes the write buffer itself before it invalidates.
   * (VT-d manual, Context Command Register, ICC)
   */
  submit(descriptors: readonly Descriptor[], drains = false): SubmissionEnd {
    this.#stores.drain()
    return this.queue.submit(descriptors, drains)
  }

  #iotlb(what: IotlbFlush): void {
    const registers = this.#registers
    const { drainsWrites: writes, drainsReads: reads } = registers.features
    const drains = { writes, reads }
    // The kernel loses the hint there: it comes as bit 6 of the address, whose low bits are cut off.
    if (this.#isQueued) this.#submit(iotlbDescriptor({ ...what, hint: false }, drains))
    else this.#iotlbByRegister(what, drains.writes)
  }

  /** The address is written first; drains of reads are not asked for. */
  #iotlbByRegister(what: IotlbFlush, drainsWrites: boolean): void {
    const registers = this.#registers
    this.#stores.drain()
    const { domain, g, address = 0n, order = 0, hint = false } = what
    if (g === GRANULARITY.FINE) {
      const value = address | (hint ? 1n << 6n : 0n) | BigInt(order)
      if (value !== 0n || !this.#quirks.leavesZeroIva) registers.write64('IVA', value)
    }
    const tag = g === GRANULARITY.GLOBAL ? 0n : BigInt(domain) << 32n
    registers.write64('IOTLB', BUSY | (BigInt(g) << 60n) | tag | (drainsWrites ? 1n << 48n : 0n))
    const done = registers.poll64('IOTLB', (value) => (value & BUSY) === 0n)
    if (((done >> 57n) & 3n) === 0n && !registers.life.isDead) this.queue.printed.push('Flush IOTLB failed')
  }
}
