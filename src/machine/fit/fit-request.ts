import { floorLog2 } from '../../bits/u64.ts'
import {
  chargedBytes,
  TABLE_LEVELS_MAX,
  type TableRequest,
  tableGeometry,
} from '../../table/ioda-geometry.ts'
import { BLOCK_BYTES_SHIFT_MAX } from '../../table/level-tree.ts'

/**
 * IOMMU pages of the host bridges, as shifts. PHB3: what the kernel takes where firmware says nothing; PHB4 and
 * PHB5: what their firmware says (ibm,supported-tce-sizes).
 * (Linux v6.1 arch/powerpc/platforms/powernv/pci-ioda.c; the second seen on Linux 6.12)
 */
export const PHB_PAGE_SHIFTS = {
  phb3: [12, 16, 24, 28],
  phb4: [12, 16, 21, 30],
  phb5: [12, 16, 21, 30],
} as const
export type PhbName = keyof typeof PHB_PAGE_SHIFTS

/** Bytes of the default window: up to where 32-bit MMIO begins (tce32_size). */
export const TCE32_BYTES = 2 ** 31
export const DEFAULT_WINDOW: TableRequest = { pageShift: 12, windowBytes: BigInt(TCE32_BYTES), levels: 1 }

/** A virtual machine and what it is to have; sizes in bytes are exact numbers. */
export interface FitRequest {
  /** VFIO_SPAPR_TCE_IOMMU or VFIO_SPAPR_TCE_v2_IOMMU. */
  readonly version: 'v1' | 'v2'
  readonly phb: PhbName
  readonly ramBytes: number
  readonly hostPageShift: 12 | 16
  /** log2 of the hugetlb pages that back all RAM; undefined for ordinary pages, transparent huge ones included. */
  readonly hugeShift: number | undefined
  /** What VFIO_IOMMU_SPAPR_TCE_CREATE is asked for, one after another. */
  readonly windows: readonly TableRequest[]
  /** The default window stays: else it is removed before anything uses it. */
  readonly keepsDefault: boolean
  /** IOMMU groups that are passed through. */
  readonly groups: number
  /** RLIMIT_MEMLOCK; undefined for none. */
  readonly memlockBytes: number | undefined
  readonly hasIpcLock: boolean
}

/** What a request for a table comes to on a host, all limits of memory aside. */
export interface TableCost {
  /** Charged; stays so if the table is refused after that. */
  readonly chargedBytes: number
  readonly entries: number
  /** Entries in one level. */
  readonly levelEntries: number
  /** Bytes that are allocated at once: the first level of the hardware tree and of the user addresses. */
  readonly firstBytes: number
  /** Bus addresses that the entries cover: at least a host page of entries, so maybe more than was asked for. */
  readonly reachBytes: number
}

export type TableVerdict =
  | { readonly rule: 'done'; readonly code: 'OK'; readonly cost: TableCost }
  | { readonly rule: 'bad-geometry'; readonly code: 'EINVAL' }
  | { readonly rule: 'table-refused'; readonly code: 'EINVAL'; readonly chargedBytes: number }
  | {
      readonly rule: 'no-memory'
      readonly code: 'ENOMEM'
      readonly chargedBytes: number
      readonly firstBytes: number
    }

/** What the kernel answers to a request for a table, and what the table costs. */
export function tableVerdict(request: TableRequest, hostPageShift: number): TableVerdict {
  const charged = chargedBytes(request, hostPageShift)
  if (charged === 0) return { rule: 'bad-geometry', code: 'EINVAL' }
  const geometry = tableGeometry(request, hostPageShift)
  if (typeof geometry === 'number') return { rule: 'table-refused', code: 'EINVAL', chargedBytes: charged }
  const firstShift = geometry.levelShift + 3
  if (firstShift > BLOCK_BYTES_SHIFT_MAX) {
    return { rule: 'no-memory', code: 'ENOMEM', chargedBytes: charged, firstBytes: 2 ** firstShift }
  }
  const cost = {
    chargedBytes: charged,
    entries: geometry.entries,
    levelEntries: 2 ** geometry.levelShift,
    firstBytes: 2 * 2 ** firstShift,
    reachBytes: geometry.entries * 2 ** request.pageShift,
  }
  return { rule: 'done', code: 'OK', cost }
}

/** The fewest levels with which a table can be made; undefined where none will do. */
export function fewestLevels(
  pageShift: number,
  windowBytes: bigint,
  hostPageShift: number,
): number | undefined {
  for (let levels = 1; levels <= TABLE_LEVELS_MAX; levels++) {
    if (tableVerdict({ pageShift, windowBytes, levels }, hostPageShift).rule === 'done') return levels
  }
  return undefined
}

/**
 * log2 of the largest IOMMU page that may map the RAM, registered as one region whose start is aligned as its
 * pages are: hugetlb pages count, transparent ones do not.
 * (Linux v6.1 arch/powerpc/mm/book3s64/iommu_api.c, mm_iommu_do_alloc)
 */
export function backingShift({ hugeShift, hostPageShift, ramBytes }: FitRequest): number {
  if (hugeShift === undefined) return hostPageShift
  const bytes = BigInt(ramBytes)
  return Math.max(hostPageShift, Math.min(hugeShift, floorLog2(bytes & -bytes)))
}
