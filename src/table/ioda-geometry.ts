import { ERRNO_CODES } from '../bits/codes.ts'
import { floorLog2 } from '../bits/u64.ts'
import { TCE_BYTES_SHIFT } from './tce-entry.ts'

const { EINVAL } = ERRNO_CODES

/** Levels that a table of a PHB can have. */
export const TABLE_LEVELS_MAX = 5
/** Levels and IOMMU page together may translate fewer bits than this. */
const TRANSLATED_BITS_MAX = 55
/** What a table of any form is charged at least, for its leaves, before it is rounded up to whole levels. */
const LEAF_BYTES_MIN = 4096n

/** What is asked for: as it comes from `VFIO_IOMMU_SPAPR_TCE_CREATE`, nothing checked. */
export interface TableRequest {
  readonly pageShift: number
  readonly windowBytes: bigint
  readonly levels: number
}

/** The form of a table that can be made. */
export interface TableGeometry {
  /** Leaf entries of the whole table. */
  readonly entries: number
  /** log2 of the entries in one level. */
  readonly levelShift: number
  readonly levels: number
}

const u32 = (n: number): number => n >>> 0

/** 1 << shift as a 64-bit POWER does it: seven bits of the shift count, and 64 and more give 0. */
function powerOf(shift: number): bigint {
  const count = shift & 127
  return count > 63 ? 0n : 1n << BigInt(count)
}

const canBeMade = ({ windowBytes, levels }: TableRequest): boolean =>
  levels >= 1 && levels <= TABLE_LEVELS_MAX && windowBytes > 0n && (windowBytes & (windowBytes - 1n)) === 0n

/** log2 of all entries; of a window below one IOMMU page the difference wraps at 32 bits, as the kernel's does. */
const entriesShiftOf = ({ pageShift, windowBytes }: TableRequest): number =>
  u32(floorLog2(windowBytes) - pageShift)

/** log2 of the bytes of one level: the entries shared out over the levels, at least a system page. */
function levelBytesShiftOf(request: TableRequest, hostPageShift: number): number {
  const { levels } = request
  const share = Math.floor(u32(entriesShiftOf(request) + levels - 1) / levels)
  return Math.max(u32(share + TCE_BYTES_SHIFT), hostPageShift)
}

/**
 * The form of the table that the kernel makes for a request, or -EINVAL.
 *
 * A table has at least one system page of entries, so it may reach further than its window. All shifts are
 * computed in 32 bits and wrap: a window that is one to three bits smaller than an IOMMU page still gets a page
 * of entries. Whether there is memory for the first level is another question.
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda-tce.c, pnv_pci_ioda2_table_alloc_pages)
 *
 * @example tableGeometry({ pageShift: 16, windowBytes: 1n << 34n, levels: 1 }, 16) // 2^18 entries
 */
export function tableGeometry(request: TableRequest, hostPageShift: number): TableGeometry | number {
  if (!canBeMade(request)) return EINVAL
  const { levels, pageShift } = request
  const levelShift = levelBytesShiftOf(request, hostPageShift) - TCE_BYTES_SHIFT
  if (levelShift * levels + pageShift >= TRANSLATED_BITS_MAX) return EINVAL
  const tableShift = Math.max(u32(entriesShiftOf(request) + TCE_BYTES_SHIFT), hostPageShift)
  return { entries: Number(powerOf(tableShift)) / 2 ** TCE_BYTES_SHIFT, levelShift, levels }
}

/**
 * Bytes that a container is charged for a table: the hardware tree and the userspace view, complete, although
 * their levels appear on demand. 0 where the request cannot be met whatever the memory.
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c, pnv_pci_ioda2_get_table_size)
 */
export function chargedBytes(request: TableRequest, hostPageShift: number): number {
  if (!canBeMade(request)) return 0
  const leaf = powerOf(u32(entriesShiftOf(request) + TCE_BYTES_SHIFT))
  const level = powerOf(levelBytesShiftOf(request, hostPageShift))
  // A quotient by 0 has no defined value; it counts as 0, and the request fails later anyway.
  if (level === 0n) return 0
  let treeBytes = leaf > LEAF_BYTES_MIN ? leaf : LEAF_BYTES_MIN
  let sum = 0n
  for (let left = request.levels; left > 0; left--) {
    sum += (treeBytes + level - 1n) & -level
    treeBytes = (treeBytes / level) << BigInt(TCE_BYTES_SHIFT)
    if (treeBytes < level) treeBytes = level
  }
  return Number(BigInt.asUintN(64, sum * 2n))
}
