import type { AddressSpace } from '../memory/address-space.ts'
import type { Task } from '../memory/locked-vm.ts'

/**
 * Preregistered memory of address spaces, as VFIO and KVM ask for it (Linux v6.1 arch/powerpc/mm/book3s64/
 * iommu_api.c). Regions are numbers; user addresses are in lanes, host pages are 4 KiB page numbers.
 */
export interface MmIommu {
  /** Pins and registers [ua, ua + bytes); a region (>= 0) or -ENOMEM, -EFAULT, -EINVAL (overlap). */
  create(mm: AddressSpace, task: Task, ua: bigint, bytes: bigint): number
  /**
   * What the kernel's function answered to the last `create` or `createDevice`: 0, the negative errno, or, with the
   * erratum `partial-pin-count`, the positive number of pages that were pinned before one could not be.
   */
  readonly answer: number
  /** Registers memory of a device at host address `hpa`, which is neither charged nor pinned; -ENOMEM, -EINVAL. */
  createDevice(mm: AddressSpace, ua: bigint, bytes: bigint, hpa: bigint): number
  /** The region of exactly this range with one more use, or -1. */
  get(mm: AddressSpace, ua: bigint, bytes: bigint): number
  /** The region of exactly this range without taking a use, or -1. */
  find(mm: AddressSpace, ua: bigint, bytes: bigint): number
  /** The first region that holds [ua, ua + bytes) whole, or -1. Called for every mapped page: allocates nothing. */
  lookup(mm: AddressSpace, uaHi: number, uaLo: number, bytes: number): number
  /** One use less; 0, -ENOENT where there was none, -EBUSY where live mappings keep it (the use stays then). */
  put(region: number): number
  /**
   * A holder that will be gone lets go: `put`, but where live mappings of others keep the region their last one gives
   * it back. Until then it is registered, and whoever registers it again holds it.
   */
  leave(region: number): void
  /** Uses of a region: registrations that hold it. */
  usesOf(region: number): number
  /** 1 + live mappings; 0 while it goes. */
  mappedOf(region: number): number
  /** A mapping comes: 0, or -ENXIO where the region goes. */
  mappedInc(region: number): number
  /** A mapping goes; never below 1. */
  mappedDec(region: number): void
  /** Mappings that come, or go, one after the other are one record from here on; it comes with `endRun` at the latest. */
  beginRun(): void
  endRun(): void
  /** Host page of the last `toHpa`. */
  hpaPage: number
  /** Host page behind a user address for an IOMMU page of 2^pageShift: 0 or -EFAULT. */
  toHpa(region: number, uaHi: number, uaLo: number, pageShift: number): number
  /** A device wrote the host page behind a user address: it is dirty when the region goes. */
  markDirty(region: number, uaHi: number, uaLo: number): void
  /** Bytes of device memory behind a host page, 0 where it is ordinary memory. */
  deviceBytes(mm: AddressSpace, hpaPage: number, pageShift: number): number
  /** Whether the address space has any region. */
  isUsed(mm: AddressSpace): boolean
}
