import type { AddressSpace } from '../memory/address-space.ts'
import type { Task } from '../memory/locked-vm.ts'

/** What the cell of a page behind a region holds: the frame, and whether a device wrote it behind the kernel's back. */
export const DIRTY = 1
const FRAME_SHIFT = 1
export const cellOfFrame = (frame: number): number => (frame + 1) << FRAME_SHIFT
export const frameOfCell = (cell: number): number => (cell >>> FRAME_SHIFT) - 1

/** A region of ordinary memory, lent for mappings one after the other: see `MmIommu.lend`. */
export interface RegionLoan {
  /** -1: nothing is lent. */
  region: number
  /** First page of the process, and how many: pages of 4 KiB. */
  first: number
  pages: number
  /** log2 of the largest IOMMU page that it backs. */
  pageShift: number
  /** log2 of the 4 KiB pages in a system page. */
  subShift: number
  /** A cell for each system page (`frameOfCell`); a page that a device wrote is marked with `DIRTY`. */
  frames: Int32Array
  /** 1 + live mappings: the cell that holds it. */
  counts: Int32Array
  count: number
  /** `MmIommu.version` when it was lent: another one means that the loan is over. */
  version: number
}

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
  /** Whether a region gets its first mapping (no other CPU gives it back just then): asked once for each such mapping. */
  takesFirst(): boolean
  /**
   * Lends the region that holds a user address to who maps and unmaps many of its pages: false where there is none, it
   * is memory of a device, its last holder is gone, or an undo log must see each change. The borrower looks at bounds
   * and counts as `lookup`, `toHpa`, `mappedInc`, `mappedDec` and `markDirty` do, leaves the count at 1 at least, and
   * tells what it does with `beforeMapped` and `noteMapped` where things are recorded.
   */
  lend(mm: AddressSpace, uaHi: number, uaLo: number, loan: RegionLoan): boolean
  /** Another number whenever a region has come, gone, or lost its last holder, and whenever the host went back. */
  readonly version: number
  /** Mappings of a region that is lent are about to come (1) or go (-1): for the record. */
  beforeMapped(region: number, delta: number): void
  /** So many have come, or gone (below 0): for the record. */
  noteMapped(region: number, delta: number): void
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
