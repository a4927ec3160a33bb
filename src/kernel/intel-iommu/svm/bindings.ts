import { Held } from '../../../bits/held.ts'
import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import type { PasidDevice } from '../vtd-driver.ts'

/** A device that is bound to an address space: intel_svm_dev. */
export interface BoundDevice {
  readonly device: string
  /** How often it is bound. */
  readonly users: number
  /** What its driver is called back with; empty for nothing. */
  readonly ops: string
  readonly target: PasidDevice
}

/** An address space that devices share by a PASID: intel_svm. */
export interface Svm {
  /** No other one of the run has it. */
  readonly serial: number
  readonly pasid: number
  /** As records name it; empty for the kernel's. */
  readonly mm: string
  readonly isPrivate: boolean
  /** Found by its PASID. Without it is on the way out, and known by its serial number only. */
  readonly isListed: boolean
  readonly devices: readonly BoundDevice[]
}

const hashOf = (list: readonly Svm[]): number =>
  keyOf(
    ...list.flatMap((s) => [
      s.serial,
      s.pasid,
      s.mm,
      s.isListed ? 1 : 0,
      ...s.devices.map((d) => `${d.device} ${d.users} ${d.ops} ${d.target.hasAts} ${d.target.domain}`),
    ]),
  )

/** What is bound, by PASID: the idr of a unit. Each address space has a serial number, so that one that is gone is known. */
export class Bindings {
  readonly #list: Held<readonly Svm[]>
  readonly #serials: Cells

  constructor(journal: Journal, unit: string) {
    this.#list = new Held<readonly Svm[]>(journal, `bound to ${unit}`, [], hashOf)
    this.#serials = new Cells(journal, keyOf('svm serials', unit), 1)
  }

  /** In the order of their PASIDs. */
  get all(): readonly Svm[] {
    return this.#list.value.filter((svm) => svm.isListed)
  }

  find(pasid: number): Svm | undefined {
    return this.all.find((svm) => svm.isListed && svm.pasid === pasid)
  }

  /** Undefined where it has been freed. */
  bySerial(serial: number): Svm | undefined {
    return this.#list.value.find((svm) => svm.serial === serial)
  }

  /** Hands out the lowest PASID of [start, end) that nobody has: idr_alloc. Undefined where there is none. */
  add(start: number, end: number, mm: string, isPrivate: boolean): Svm | undefined {
    let pasid = start
    while (pasid < end && this.find(pasid) !== undefined) pasid++
    if (pasid >= end) return undefined
    const serial = this.#serials.get(0) + 1
    this.#serials.set(0, serial)
    const svm: Svm = { serial, pasid, mm, isPrivate, isListed: true, devices: [] }
    this.#list.set([...this.#list.value, svm].sort((a, b) => a.pasid - b.pasid))
    return svm
  }

  setDevices(svm: Svm, devices: readonly BoundDevice[]): void {
    this.#replace(svm.serial, { ...svm, devices })
  }

  /** Its PASID is given back: idr_remove. */
  unlist(svm: Svm): void {
    this.#replace(svm.serial, { ...svm, isListed: false })
  }

  free(serial: number): void {
    this.#replace(serial, undefined)
  }

  /** Another kernel begins. */
  reset(): void {
    this.#list.set([])
  }

  #replace(serial: number, by: Svm | undefined): void {
    this.#list.set(
      this.#list.value.flatMap((svm) => {
        if (svm.serial !== serial) return [svm]
        return by === undefined ? [] : [by]
      }),
    )
  }
}
