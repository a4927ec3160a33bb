/**
 * Hardware TCE tables and the PEs that use them, as the software of a POWER host handles them: interfaces only.
 * `hw` has the platforms behind them, `kernel` (VFIO, KVM, the host's own DMA) the software before them.
 * (Linux v6.1 arch/powerpc/include/asm/iommu.h, struct iommu_table, iommu_table_ops, iommu_table_group)
 */

/** What a device may do through an entry: 0 nothing, 1 read memory, 2 write it, 3 both. */
export type DmaDir = 0 | 1 | 2 | 3

/**
 * Words of neighbouring entries, lent for changes in place: big-endian lanes, high first, two to an entry. Who changes
 * them tells the table (`note`); where somebody else may have changed a level since, `isLent` is asked first.
 */
export interface LentEntries {
  /** Slots (entries from the start of the table): the first, and the one behind the last. */
  start: number
  end: number
  /** Where the word of the first slot stands. */
  tces: Int32Array
  tceCell: number
  /** The same for the userspace view. */
  users: Int32Array
  userCell: number
}

/**
 * One hardware TCE table. Entry numbers are absolute (the window's start included) and exact numbers below 2^53;
 * host addresses are 4 KiB page numbers. Nothing here allocates JavaScript objects.
 *
 * A change is two steps that can be observed apart: `xchg` swaps an entry, `kill` makes caches forget it.
 */
export interface HwTable {
  /** Stands for the table in records and in the hash: one counter for the machine. */
  readonly number: number
  readonly pageShift: number
  /** it_offset: absolute number of the first entry. */
  readonly offset: number
  /** it_size: leaf entries. */
  readonly entries: number
  /** it_indirect_levels + 1. */
  readonly levels: number
  /** it_allocated_size: bytes charged for it, 0 for the kernel's own tables. */
  readonly allocatedBytes: number
  /** Whether it has the userspace view (it_userspace): tables that VFIO v2 made. */
  readonly hasUserView: boolean

  /** What the last `xchg` found. */
  oldHpaPage: number
  oldDir: DmaDir
  /**
   * Swaps one entry for a host page and direction (WRITE implies READ in hardware). Levels appear on demand.
   *
   * @returns 0, or -ENOMEM where a level was missing and there is no memory for it
   */
  xchg(entry: number, hpaPage: number, dir: DmaDir): number
  /** Whether all levels down to an entry are there: a swap needs no memory then. */
  reaches(entry: number): boolean
  /**
   * Swaps that go on with one another are one record from here on, which comes with `endRun` at the latest. Until
   * then the levels are changed through this table only, and `kill` is not asked for.
   */
  beginRun(): void
  endRun(): void
  /**
   * Makes the TCE caches of all PEs that use the table forget entries [entry, entry + count); `calls` times, each for
   * the entries behind those before.
   */
  kill(entry: number, count: number, calls?: number): void

  /**
   * Lends the words of a slot and of those behind it: false where a level is missing, the undo log is on, or there is
   * no userspace view.
   */
  lend?(slot: number, into: LentEntries): boolean
  /** Whether these words were the last ones to be lent, and are still those of their slots. */
  isLent?(entries: LentEntries): boolean
  /** A lent word was changed; recorded like a swap. */
  note?(slot: number, beforeHi: number, beforeLo: number, hi: number, lo: number): void

  /** The user address in the last slot that `userSlot` found, in lanes. */
  userHi: number
  userLo: number
  /** Finds the slot of an entry in the userspace view; false where its level is missing (and not `alloc`, or no memory). */
  userSlot(entry: number, alloc: boolean): boolean
  /** Writes the slot that `userSlot` found last. */
  setUser(hi: number, lo: number): void
  /** How many entries from this one on share one missing leaf of the userspace view: clearing skips them. */
  userGap(entry: number): number

  /** How many entries from this one on hold 0, of at most `most`: swapping them for nothing changes nothing. Maybe fewer. */
  emptyRun(entry: number, most: number): number

  /**
   * Takes all entries from the kernel's own allocator, for a container that uses a table of the kernel as it is:
   * 0, -EINVAL where entries cannot be swapped, -EBUSY where some are in use. Only such tables have it.
   */
  claim?(): number
  /** The kernel's allocator has them back. */
  unclaim?(): void

  /**
   * it_kref: container, each linked group and each KVM attachment hold one. The last `put` frees the table.
   *
   * @param holder whose reference it is, as records name it
   */
  get(holder: string): void
  put(holder: string): void
  readonly references: number
}

/** What a platform can do for a PE; null where it can do none of it (P7IOC, pseries). */
export interface TableGroupOps {
  /** The same for all groups of one kind: a container takes groups of one kind only. */
  readonly kind: string
  /** Bytes that a table will be charged with; 0 where it cannot be made. */
  tableBytes(pageShift: number, windowBytes: bigint, levels: number): number
  /** A new table with one reference, or a negative errno. `window` is 0 or 1. */
  createTable(window: number, pageShift: number, windowBytes: bigint, levels: number): HwTable | number
  /** Programs a window of the PE and takes a reference; 0 or a negative errno. */
  setWindow(window: number, table: HwTable): number
  /** Takes a window from the PE and drops the reference; harmless where there is none. */
  unsetWindow(window: number): number
  /** The kernel's own table and bypass go; 0 or a negative errno. */
  takeOwnership(): number
  /** They come back. */
  releaseOwnership(): void
}

/** A PE (IOMMU group) with its windows. */
export interface TableGroup {
  readonly name: string
  /** The IOMMU group's number: /dev/vfio/N. */
  readonly group: number
  readonly tce32Start: number
  readonly tce32Bytes: number
  /** Bit n set: IOMMU pages of 2^n bytes. */
  readonly pageSizes: bigint
  readonly maxWindows: number
  readonly maxLevels: number
  /** Tables programmed now. */
  readonly tables: (HwTable | null)[]
  readonly ops: TableGroupOps | null
}
