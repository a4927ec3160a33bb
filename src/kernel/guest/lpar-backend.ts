import { codeName, H_CODES } from '../../bits/codes.ts'
import type { Profile } from '../../bits/errata.ts'
import { TCE_LIST_MAX, TCE_READ, TCE_WRITE } from '../../table/tce-entry.ts'
import type { GuestRam, HcallPort } from '../ports.ts'
import type { GuestLog } from './guest-log.ts'
import type { IommuTable } from './iommu-table.ts'
import { Lanes, offsetOf } from './lanes.ts'
import { DIR, type Dir, type TceBackend } from './tce-backend.ts'

const { H_SUCCESS, H_NOT_ENOUGH_RESOURCES } = H_CODES

/** What the firmware offers for many entries at once. */
export interface MultiTce {
  /** H_PUT_TCE_INDIRECT is there. */
  readonly putIndirect: boolean
  /** H_STUFF_TCE is there. */
  readonly stuff: boolean
}

/** What a back end needs of its kernel. */
export interface LparParts {
  readonly hcall: HcallPort
  readonly ram: GuestRam
  readonly log: GuestLog
  readonly profile: Profile
  readonly multiTce: MultiTce
  /** Address of the list page of the CPU that acts, allocated when it is first needed; -1 where there is no memory. */
  readonly listPage: () => number
}

/**
 * Entries through hypercalls, as a guest of PowerVM, KVM or QEMU writes them.
 *
 * More than one entry goes out as H_PUT_TCE_INDIRECT of up to 512, out of a list page of the CPU; clearing as
 * H_STUFF_TCE of up to 512. Without these features every entry is one H_PUT_TCE.
 * (Linux v6.1 arch/powerpc/platforms/pseries/iommu.c)
 */
export class LparBackend implements TceBackend {
  readonly tce = new Lanes()
  readonly multiTce: MultiTce
  readonly #hcall: HcallPort
  readonly #ram: GuestRam
  readonly #log: GuestLog
  readonly #listPage: () => number
  /** X11: an error other than missing resources is logged, and the driver told that all is well. */
  readonly #hidesErrors: boolean
  /** X17: the undo of a first batch asks for 0 pages. */
  readonly #undoesNothing: boolean
  /** Entries that one H_STUFF_TCE clears. */
  readonly #stuffMax: number
  readonly #value = new Lanes()

  constructor({ hcall, ram, log, profile, multiTce, listPage }: LparParts) {
    this.#hcall = hcall
    this.#ram = ram
    this.#log = log
    this.#listPage = listPage
    this.multiTce = multiTce
    this.#hidesErrors = profile.has('X11')
    this.#undoesNothing = profile.has('X17')
    this.#stuffMax = profile.has('stuff-at-once') ? Number.MAX_SAFE_INTEGER : TCE_LIST_MAX
  }

  set(table: IommuTable, slot: number, count: number, gpa: number, dir: Dir): number {
    const list = count === 1 || !this.multiTce.putIndirect ? -1 : this.#listPage()
    if (list === -1) return this.#build(table, slot, count, gpa, dir)
    return this.#buildMulti(table, slot, count, gpa, dir, list)
  }

  clear(table: IommuTable, slot: number, count: number): void {
    if (!this.multiTce.stuff) {
      this.#clearSingly(table, slot, count)
      return
    }
    let done = 0
    do {
      const batch = Math.min(count - done, this.#stuffMax)
      const bus = table.busOf(slot + done)
      const rc = this.#log.heard(this.#hcall.stuffTce(0, table.liobn | 0, bus.hi, bus.lo, 0, 0, 0, batch))
      if (rc !== H_SUCCESS) {
        this.#complain('H_STUFF_TCE', rc)
        return
      }
      done += batch
    } while (done < count)
  }

  get(table: IommuTable, slot: number): boolean {
    const bus = table.busOf(slot)
    const rc = this.#log.heard(this.#hcall.getTce(0, table.liobn | 0, bus.hi, bus.lo))
    if (rc !== H_SUCCESS) this.#complain('H_GET_TCE', rc)
    // The kernel takes the register for the entry whatever the call answers.
    this.tce.put(this.#hcall.r4Hi, this.#hcall.r4Lo)
    return true
  }

  /** One H_PUT_TCE an entry. */
  #build(table: IommuTable, slot: number, count: number, gpa: number, dir: Dir): number {
    const from = gpa - offsetOf(gpa, table.pageShift)
    for (let i = 0; i < count; i++) {
      const bus = table.busOf(slot + i)
      const value = this.#tceFor(from + i * table.pageBytes, dir)
      const rc = this.#put(table, bus, value.hi, value.lo)
      if (rc === H_SUCCESS) continue
      if (rc === H_NOT_ENOUGH_RESOURCES || !this.#hidesErrors) {
        this.#clearSingly(table, slot, i)
        return rc
      }
      this.#complain('H_PUT_TCE', rc)
    }
    return 0
  }

  /** H_PUT_TCE_INDIRECT of up to 512 entries out of the list page. */
  #buildMulti(table: IommuTable, slot: number, count: number, gpa: number, dir: Dir, list: number): number {
    const from = gpa - offsetOf(gpa, table.pageShift)
    const listAt = this.#value.putNumber(list)
    const { hi: listHi, lo: listLo } = listAt
    for (let done = 0; done < count; ) {
      const batch = Math.min(count - done, TCE_LIST_MAX)
      this.fillList(list, batch, from + done * table.pageBytes, table.pageBytes, dir)
      const bus = table.busOf(slot + done)
      const rc = this.#log.heard(
        this.#hcall.putTceIndirect(0, table.liobn | 0, bus.hi, bus.lo, listHi, listLo, 0, batch),
      )
      if (rc === H_SUCCESS) {
        done += batch
        continue
      }
      if (rc === H_NOT_ENOUGH_RESOURCES || !this.#hidesErrors) {
        if (done > 0 || this.#undoesNothing) this.clear(table, slot, done)
        return rc
      }
      this.#complain('H_PUT_TCE_INDIRECT', rc)
      return 0
    }
    return 0
  }

  /** Writes entries for `count` IOMMU pages of memory from `gpa` on into the list page. */
  fillList(list: number, count: number, gpa: number, pageBytes: number, dir: Dir): void {
    for (let i = 0; i < count; i++) {
      const value = this.#tceFor(gpa + i * pageBytes, dir)
      this.#ram.storeU64be(list + i * 8, value.hi, value.lo)
    }
  }

  #clearSingly(table: IommuTable, slot: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const rc = this.#put(table, table.busOf(slot + i), 0, 0)
      if (rc !== H_SUCCESS) this.#complain('H_PUT_TCE', rc)
    }
  }

  #tceFor(gpa: number, dir: Dir): Lanes {
    const value = this.#value.putNumber(gpa)
    value.lo |= dir === DIR.TO_DEVICE ? TCE_READ : TCE_READ | TCE_WRITE
    return value
  }

  #put(table: IommuTable, bus: Lanes, hi: number, lo: number): number {
    return this.#log.heard(this.#hcall.putTce(0, table.liobn | 0, bus.hi, bus.lo, hi, lo))
  }

  #complain(call: string, rc: number): void {
    this.#log.warn(`${call} answered ${codeName('hcall', rc) ?? rc}`)
  }
}
