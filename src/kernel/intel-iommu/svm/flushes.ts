import { encode } from '../../../bits/word.ts'
import {
  DESCRIPTOR_TYPE,
  EXT_IOTLB_INV_DSC_QW1,
  P_DEV_TLB_INV_DSC_QW1,
  P_IOTLB_INV_DSC_QW0,
} from '../../../hw/vtd/descriptor-format.ts'
import { type Descriptor, pasidCacheDescriptor, pasidDeviceTlbDescriptor } from '../descriptors.ts'
import type { DriverCore } from '../driver-core.ts'
import type { PasidDevice } from '../vtd-driver.ts'
import type { SvmQuirks } from './quirks.ts'

const PAGE_SHIFT = 12n
const PAGE_BYTES = 1n << PAGE_SHIFT
const U64 = (1n << 64n) - 1n
/** Of revisions 2.x: all PASIDs with global pages, one PASID, pages of one PASID. */
const G = { ALL: 0n, PASID: 2n, PAGES: 3n } as const
/** The address that stands for all: every bit of it but the last. */
const WHOLE = U64 >> 1n

/** Pages of a PASID that have changed. */
export interface PageRange {
  readonly address: bigint
  readonly pages: bigint
  /** Only entries that map pages have changed (IH). */
  readonly isLeafOnly: boolean
}

/** log2 of the smallest power of two that is not below `pages`. */
function orderOf(pages: bigint): number {
  let order = 0
  while (1n << BigInt(order) < pages) order++
  return order
}

/** A C int. */
const int = (value: bigint): bigint => BigInt.asIntN(32, value)
const u64 = (value: bigint): bigint => value & U64

/** The highest power of two in a number that is not 0. */
const highestBit = (value: bigint): bigint => 1n << BigInt(value.toString(2).length - 1)

/**
 * The first page of a device-TLB invalidation with S, which says by its lowest bits that are 1 how many pages it means:
 * the smallest aligned block that holds all of the range. (Linux v4.9 drivers/iommu/intel-svm.c, intel_flush_svm_range_dev)
 *
 * @example sizedAddress(0x12345f000n, 2n, {}) // 0x12345f000n: 0x123440000 to 0x12347ffff
 */
export function sizedAddress(
  address: bigint,
  pages: bigint,
  { encodesBelowSize, countsPagesInInt }: Pick<SvmQuirks, 'encodesBelowSize' | 'countsPagesInInt'>,
): bigint {
  if (encodesBelowSize) return firstSizedAddress(address, pages, countsPagesInInt)
  const bytes = (pages - 1n) << PAGE_SHIFT
  const last = u64(address + (countsPagesInInt ? int(bytes) : bytes))
  const mask = address === last ? PAGE_BYTES : highestBit(address ^ last)
  return ((address & ~mask) | (mask - 1n)) & ~(PAGE_BYTES - 1n)
}

/** As the first version has it: the address loses what lies above the size. */
function firstSizedAddress(address: bigint, pages: bigint, isInt: boolean): bigint {
  const sizeBytes = int(1n << (PAGE_SHIFT + BigInt(orderOf(pages))))
  const low = address & u64(sizeBytes - 1n)
  const bytes = pages << PAGE_SHIFT
  const delta = u64(address - low + (isInt ? int(bytes) : bytes))
  return (delta >= u64(sizeBytes) ? low & u64(~sizeBytes) : low) & ~(PAGE_BYTES - 1n)
}

/** Flushes of PASIDs in extended mode, each with its wait. (Linux v4.9 drivers/iommu/intel-svm.c) */
export class SvmFlushes {
  readonly #core: DriverCore
  readonly #quirks: SvmQuirks

  constructor(core: DriverCore, quirks: SvmQuirks) {
    this.#core = core
    this.#quirks = quirks
  }

  /** The cached entry of a PASID. */
  entry(device: PasidDevice, pasid: number): void {
    this.#submit(pasidCacheDescriptor(device.domain, pasid, 'pasid'))
  }

  /** All translations of a PASID in the IOTLB. @param isKernel with global pages, which only all PASIDs can be rid of */
  whole({ domain }: PasidDevice, pasid: number, isKernel: boolean): void {
    this.#submit(iotlbDescriptor(domain, pasid, isKernel ? G.ALL : G.PASID, 0n))
  }

  /** All translations of a PASID in the TLB of a device. */
  wholeDevice(device: PasidDevice, pasid: number): void {
    if (!device.hasAts) return
    // The first version takes "all" for a number of pages: 2^64 of them, which its shift makes 1, from address 0 on.
    const isWhole = !this.#quirks.encodesBelowSize
    this.#submit(deviceDescriptor(device, pasid, isWhole ? WHOLE : 0n, isWhole))
  }

  /** Pages of a PASID in the IOTLB, in blocks that are aligned to their number; a unit may be told to do less. */
  pages(device: PasidDevice, pasid: number, { address, pages, isLeafOnly }: PageRange): void {
    const { domain } = device
    const order = orderOf(pages)
    const { hasPageSelective, maxOrder } = this.#core.registers.features
    if (this.#quirks.asksPageSelective && (!hasPageSelective || order > maxOrder)) {
      this.#submit(iotlbDescriptor(domain, pasid, G.PASID, 0n))
      return
    }
    const block = PAGE_BYTES << BigInt(order)
    const start = this.#quirks.leavesUnaligned ? address : address & ~(block - 1n)
    const end = this.#quirks.leavesUnaligned ? start + 1n : address + pages * PAGE_BYTES
    for (let at = start; at < end; at += block) {
      const word = encode(EXT_IOTLB_INV_DSC_QW1, {
        ADDR: u64(at) >> PAGE_SHIFT,
        // The first version has global pages flushed too, which processes have none of.
        GL: this.#quirks.asksPageSelective ? 1n : 0n,
        IH: isLeafOnly ? 1n : 0n,
        AM: BigInt(order),
      })
      this.#submit(iotlbDescriptor(domain, pasid, G.PAGES, word))
    }
  }

  /** Pages of a PASID in the TLB of a device. */
  devicePages(device: PasidDevice, pasid: number, { address, pages }: PageRange): void {
    if (!device.hasAts) return
    const isOne = pages === 1n
    const first = isOne ? address : sizedAddress(address, pages, this.#quirks)
    this.#submit(deviceDescriptor(device, pasid, first, !isOne))
  }

  #submit(descriptor: Descriptor): void {
    this.#core.flusher.submit([descriptor])
  }
}

const iotlbDescriptor = (domain: number, pasid: number, g: bigint, hi: bigint): Descriptor => [
  encode(P_IOTLB_INV_DSC_QW0, {
    TYPE: BigInt(DESCRIPTOR_TYPE.PASID_IOTLB),
    G: g,
    DID: BigInt(domain),
    PASID: BigInt(pasid),
  }),
  hi,
]

function deviceDescriptor(device: PasidDevice, pasid: number, address: bigint, isSized: boolean): Descriptor {
  const [lo] = pasidDeviceTlbDescriptor(device, pasid, 0n, 0)
  return [lo, encode(P_DEV_TLB_INV_DSC_QW1, { ADDR: u64(address) >> PAGE_SHIFT, S: isSized ? 1n : 0n })]
}
