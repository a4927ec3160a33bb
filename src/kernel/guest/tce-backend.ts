import type { IommuTable } from './iommu-table.ts'
import type { Lanes } from './lanes.ts'

/** Directions of a mapping, as records number them: what the device may do. */
export const DIR = { TO_DEVICE: 1, FROM_DEVICE: 2, BIDIRECTIONAL: 3 } as const
export type Dir = (typeof DIR)[keyof typeof DIR]

/** How the entries of a table get to whoever translates (`struct iommu_table_ops`). */
export interface TceBackend {
  /** Result of `get`. */
  readonly tce: Lanes
  /**
   * Slots [slot, slot + count) let the device at memory from `gpa` on, one IOMMU page each. Answers 0, or the
   * hypervisor's code; some of the entries may then be set. WRITE is left out for TO_DEVICE only.
   */
  set(table: IommuTable, slot: number, count: number, gpa: number, dir: Dir): number
  /** Slots [slot, slot + count) become 0. Errors are logged only. */
  clear(table: IommuTable, slot: number, count: number): void
  /** The entry of a slot into `tce`; false where it cannot be had. */
  get(table: IommuTable, slot: number): boolean
}
