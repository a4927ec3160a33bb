import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { hiOfNumber, loOfNumber, numberOf } from '../../../bits/u64.ts'
import type { PasidEntry } from '../ports.ts'
import { PAIR_CELLS, PairTable } from './pair-table.ts'

/** Cells of a row behind those of its pair (source-id and PASID): what a PASID table entry says. */
export const P_FLAGS = PAIR_CELLS
export const P_DOMAIN = PAIR_CELLS + 1
/** Its space in the IOTLB; 0 where not looked up yet. */
export const P_SPACE = PAIR_CELLS + 2
/** The epochs of everything, of its domain and of its device that it is good for. */
const SEEN_ALL = PAIR_CELLS + 3
const SEEN_DOMAIN = PAIR_CELLS + 4
const SEEN_SOURCE = PAIR_CELLS + 5
const HI = PAIR_CELLS + 6
const LO = PAIR_CELLS + 7
const ADDRESS_HI = PAIR_CELLS + 8
const ADDRESS_LO = PAIR_CELLS + 9
const DIRECTORY_HI = PAIR_CELLS + 10
const DIRECTORY_LO = PAIR_CELLS + 11
const ROOT_HI = PAIR_CELLS + 12
const ROOT_LO = PAIR_CELLS + 13
const FIRST_ROOT_HI = PAIR_CELLS + 14
const FIRST_ROOT_LO = PAIR_CELLS + 15
const ROW_CELLS = PAIR_CELLS + 16

/** Bits of the flags; then PGTT, both numbers of levels, and the fault. 0: the row holds nothing. */
const IS_KEPT = 1
const IS_SILENT = 1 << 1
export const P_HAS_SUPERVISOR = 1 << 2
export const P_HAS_EXECUTE = 1 << 3
const HAS_WRITE_PROTECT = 1 << 4
const HAS_NO_EXECUTE = 1 << 5
const HAS_SMEP = 1 << 6
const HAS_EXTENDED_ACCESSED = 1 << 7
export const P_HAS_SECOND_ACCESSED_DIRTY = 1 << 8
const HAS_SECOND_EXECUTE = 1 << 9
const HAS_WALK_SNOOP = 1 << 10
const TYPE_SHIFT = 11
const LEVELS_SHIFT = 14
const FIRST_LEVELS_SHIFT = 17
const FAULT_SHIFT = 20
export const P_FAULT_MASK = 0xff << FAULT_SHIFT

/**
 * The PASID cache of a unit: PASID table entries by source-id and PASID, each with its domain. An entry stays until
 * it is dropped, whatever memory holds; to drop those of a domain, of a device or all takes one step. Entries that
 * are not present, or not valid, are those of domain 0.
 */
export class PasidCache {
  readonly rows: Cells
  readonly #table: PairTable
  /** Epochs: of everything in cell 0, of domain n in 2n + 1, of source-id n in 2n + 2. */
  readonly #epochs: Cells

  constructor(journal: Journal, name: string) {
    this.#table = new PairTable(journal, `${name}-pasids`, ROW_CELLS)
    this.rows = this.#table.rows
    this.#epochs = new Cells(journal, keyOf('vtd-pasid-epochs', name), 512)
  }

  /** The row of a PASID of a device, where it holds an entry. */
  find(source: number, pasid: number): number {
    const row = this.#table.find(source, pasid)
    return row !== 0 && this.isGood(row, source) ? row : 0
  }

  /** Whether the row of a PASID of a device holds an entry. */
  isGood(row: number, source: number): boolean {
    const { data } = this.rows
    const epochs = this.#epochs.data
    return (
      data[row + P_FLAGS] !== 0 &&
      data[row + SEEN_ALL] === epochs[0] &&
      data[row + SEEN_DOMAIN] === epochs[(data[row + P_DOMAIN] as number) * 2 + 1] &&
      data[row + SEEN_SOURCE] === epochs[source * 2 + 2]
    )
  }

  typeOf(row: number): number {
    return ((this.rows.data[row + P_FLAGS] as number) >>> TYPE_SHIFT) & 7
  }

  /** FPD of the entry of a PASID, and of its directory entry. */
  isSilent(source: number, pasid: number): boolean {
    const row = this.find(source, pasid)
    return row !== 0 && (this.rows.get(row + P_FLAGS) & IS_SILENT) !== 0
  }

  load(row: number, into: PasidEntry): void {
    const { data } = this.rows
    const flags = data[row + P_FLAGS] as number
    into.fault = (flags & P_FAULT_MASK) >>> FAULT_SHIFT
    into.isSilent = (flags & IS_SILENT) !== 0
    into.hasSupervisor = (flags & P_HAS_SUPERVISOR) !== 0
    into.hasExecute = (flags & P_HAS_EXECUTE) !== 0
    into.hasWriteProtect = (flags & HAS_WRITE_PROTECT) !== 0
    into.hasNoExecute = (flags & HAS_NO_EXECUTE) !== 0
    into.hasSmep = (flags & HAS_SMEP) !== 0
    into.hasExtendedAccessed = (flags & HAS_EXTENDED_ACCESSED) !== 0
    into.hasSecondAccessedDirty = (flags & P_HAS_SECOND_ACCESSED_DIRTY) !== 0
    into.hasSecondExecute = (flags & HAS_SECOND_EXECUTE) !== 0
    into.hasWalkSnoop = (flags & HAS_WALK_SNOOP) !== 0
    into.type = (flags >>> TYPE_SHIFT) & 7
    into.levels = (flags >>> LEVELS_SHIFT) & 7
    into.firstLevels = (flags >>> FIRST_LEVELS_SHIFT) & 7
    into.domain = data[row + P_DOMAIN] as number
    into.hi = data[row + HI] as number
    into.lo = data[row + LO] as number
    into.address = numberOf(data[row + ADDRESS_HI] as number, data[row + ADDRESS_LO] as number)
    into.directoryAddress = numberOf(data[row + DIRECTORY_HI] as number, data[row + DIRECTORY_LO] as number)
    into.root = numberOf(data[row + ROOT_HI] as number, data[row + ROOT_LO] as number)
    into.firstRoot = numberOf(data[row + FIRST_ROOT_HI] as number, data[row + FIRST_ROOT_LO] as number)
  }

  /** Keeps an entry; answers its row. */
  keep(source: number, pasid: number, entry: PasidEntry): number {
    const row = this.#table.rowOf(source, pasid)
    const { rows } = this
    const domain = entry.fault === 0 ? entry.domain : 0
    const epochs = this.#epochs
    epochs.ensure(Math.max(domain * 2 + 2, source * 2 + 3))
    rows.set(row + SEEN_ALL, epochs.get(0))
    rows.set(row + SEEN_DOMAIN, epochs.get(domain * 2 + 1))
    rows.set(row + SEEN_SOURCE, epochs.get(source * 2 + 2))
    rows.set(row + P_DOMAIN, domain)
    rows.set(row + P_SPACE, 0)
    rows.set(row + HI, entry.hi)
    rows.set(row + LO, entry.lo)
    rows.set(row + ADDRESS_HI, hiOfNumber(entry.address))
    rows.set(row + ADDRESS_LO, loOfNumber(entry.address))
    rows.set(row + DIRECTORY_HI, hiOfNumber(entry.directoryAddress))
    rows.set(row + DIRECTORY_LO, loOfNumber(entry.directoryAddress))
    rows.set(row + ROOT_HI, hiOfNumber(entry.root))
    rows.set(row + ROOT_LO, loOfNumber(entry.root))
    rows.set(row + FIRST_ROOT_HI, hiOfNumber(entry.firstRoot))
    rows.set(row + FIRST_ROOT_LO, loOfNumber(entry.firstRoot))
    rows.set(
      row + P_FLAGS,
      IS_KEPT |
        (entry.isSilent ? IS_SILENT : 0) |
        (entry.hasSupervisor ? P_HAS_SUPERVISOR : 0) |
        (entry.hasExecute ? P_HAS_EXECUTE : 0) |
        (entry.hasWriteProtect ? HAS_WRITE_PROTECT : 0) |
        (entry.hasNoExecute ? HAS_NO_EXECUTE : 0) |
        (entry.hasSmep ? HAS_SMEP : 0) |
        (entry.hasExtendedAccessed ? HAS_EXTENDED_ACCESSED : 0) |
        (entry.hasSecondAccessedDirty ? P_HAS_SECOND_ACCESSED_DIRTY : 0) |
        (entry.hasSecondExecute ? HAS_SECOND_EXECUTE : 0) |
        (entry.hasWalkSnoop ? HAS_WALK_SNOOP : 0) |
        (entry.type << TYPE_SHIFT) |
        (entry.levels << LEVELS_SHIFT) |
        (entry.firstLevels << FIRST_LEVELS_SHIFT) |
        (entry.fault << FAULT_SHIFT),
    )
    return row
  }

  dropAll(): void {
    this.#next(0)
  }

  dropDomain(domain: number): void {
    this.#next(domain * 2 + 1)
  }

  /** All PASIDs of a device: its context entry is read anew. */
  dropSource(source: number): void {
    this.#next(source * 2 + 2)
  }

  /**
   * One PASID of a domain on a device. Entries that are not present are found by the PASID alone: software that makes
   * one present names the domain that it has then.
   */
  drop(source: number, pasid: number, domain: number): void {
    const row = this.find(source, pasid)
    if (row === 0) return
    const hasFault = (this.rows.get(row + P_FLAGS) & P_FAULT_MASK) !== 0
    if (hasFault || this.rows.get(row + P_DOMAIN) === domain) this.rows.set(row + P_FLAGS, 0)
  }

  /** Entries that are not present, or not valid, of whichever device. */
  dropFaulty(): void {
    const { rows } = this
    for (let row = ROW_CELLS; row < this.#table.end; row += ROW_CELLS) {
      if ((rows.get(row + P_FLAGS) & P_FAULT_MASK) !== 0) rows.set(row + P_FLAGS, 0)
    }
  }

  #next(epoch: number): void {
    if (epoch < this.#epochs.length) this.#epochs.set(epoch, this.#epochs.get(epoch) + 1)
  }
}
