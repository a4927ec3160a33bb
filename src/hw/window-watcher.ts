import type { TceEntries } from '../table/tce-entries.ts'
import type { SpaprTceTable, WindowShape } from './spapr-tce-table.ts'

/** Who holds entries of tables outside the emulator: KVM, whose table the emulator maps. */
export interface TableBacking {
  /** Entries for a window, all 0; null where the emulator has to hold them itself. */
  allocate(liobn: number, shape: WindowShape, needsVfio: boolean): TceEntries | null
  /** Whether entries that were allocated here can stay where they are when VFIO comes to hear of changes. */
  keeps(entries: TceEntries): boolean
  /** They are not needed any more; false where they are none of these. */
  release(entries: TceEntries): boolean
}

/** Who is told of the windows of a bus: after one has opened, and before one closes. */
export interface WindowWatcher {
  opened(table: SpaprTceTable): void
  closing(table: SpaprTceTable): void
}
