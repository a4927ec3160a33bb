import { TCE_BYTES, TCE_READ, TCE_WRITE } from '../../table/tce-entry.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import type { GuestRam } from '../ports.ts'
import type { IommuTable } from './iommu-table.ts'
import { Lanes, offsetOf } from './lanes.ts'
import { DIR, type Dir, type TceBackend } from './tce-backend.ts'

const STEP_SAME = -1

/** The TCEs of a PHB in memory, as firmware laid them out (`linux,tce-base`, `linux,tce-size`). */
export interface TceArea {
  /** The window that the PHB translates with it, as records name it; it begins at bus address 0. */
  readonly window: number
  readonly gpa: number
  readonly bytes: number
}

/**
 * Entries written straight into memory, on machines without a hypervisor: slot s of a table is word
 * `table.offset` + s of the area.
 *
 * Nothing checks that the word lies in the area: what is behind it belongs to somebody else. Such a write is
 * recorded as an entry that its window does not have, and the model touches nothing.
 * (Linux v6.1 arch/powerpc/platforms/pseries/iommu.c)
 */
export class BareBackend implements TceBackend {
  readonly tce = new Lanes()
  readonly #area: TceArea
  readonly #ram: GuestRam
  readonly #stage: Stage
  readonly #value = new Lanes()

  constructor(area: TceArea, ram: GuestRam, stage: Stage) {
    this.#area = area
    this.#ram = ram
    this.#stage = stage
  }

  set(table: IommuTable, slot: number, count: number, gpa: number, dir: Dir): number {
    const from = gpa - offsetOf(gpa, table.pageShift)
    const perm = dir === DIR.TO_DEVICE ? TCE_READ : TCE_READ | TCE_WRITE
    const value = this.#value
    for (let i = 0; i < count; i++) {
      value.putNumber(from + i * table.pageBytes)
      this.#store(table.offset + slot + i, value.hi, value.lo | perm)
    }
    value.putNumber(from)
    this.#record(table.offset + slot, count, value.hi, value.lo | perm, table.pageShift)
    return 0
  }

  clear(table: IommuTable, slot: number, count: number): void {
    this.#zero(table.offset + slot, count)
  }

  /** Empties the whole area: firmware may have left entries in it. */
  clearArea(): void {
    this.#zero(0, Math.floor(this.#area.bytes / TCE_BYTES))
  }

  /** The kernel's memory reads back nothing in this model. */
  get(): boolean {
    return false
  }

  #zero(index: number, count: number): void {
    for (let i = 0; i < count; i++) this.#store(index + i, 0, 0)
    this.#record(index, count, 0, 0, STEP_SAME)
  }

  #store(index: number, hi: number, lo: number): void {
    const at = index * TCE_BYTES
    if (at + TCE_BYTES <= this.#area.bytes) this.#ram.storeU64be(this.#area.gpa + at, hi, lo)
  }

  #record(index: number, count: number, hi: number, lo: number, step: number): void {
    const { log, cause, how } = this.#stage
    log.append(KIND['tce.set'], cause, this.#area.window, index, 0, count, 0, lo, hi, step, how)
  }
}
