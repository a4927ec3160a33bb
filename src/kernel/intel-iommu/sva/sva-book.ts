import { Held } from '../../../bits/held.ts'
import { type Journal, keyOf } from '../../../bits/state.ts'
import type { Stage } from '../../../trace/stage.ts'
import type { MmuNotifier } from '../../process-port.ts'

/** PASIDs begin here; 0 is for requests without one. (Linux drivers/iommu/intel/pasid.h, PASID_MIN) */
const PASID_MIN = 1

/** A device that is bound to an address space, and how often. (Linux struct intel_svm_dev) */
export interface Bond {
  readonly device: string
  readonly users: number
}

/** What a PASID stands for while a device is bound by it. (Linux struct intel_svm) */
export interface SharedSpace {
  readonly pasid: number
  /** Its address space; empty for the kernel's. */
  readonly mm: string
  /** Undefined for the kernel's, which nobody is told about. */
  readonly notifier: MmuNotifier | undefined
  readonly bonds: readonly Bond[]
}

/**
 * Who has which PASID, and what is bound by it: one PASID for an address space, for as long as it lives.
 * (Linux v6.1 drivers/iommu/iommu-sva-lib.c; intel/svm.c, pasid_private_array)
 */
export class SvaBook {
  readonly #stage: Stage
  /** By address space; the kernel's is empty. */
  readonly #pasids: Held<ReadonlyMap<string, number>>
  readonly #spaces: Held<ReadonlyMap<number, SharedSpace>>

  constructor(stage: Stage, journal: Journal) {
    this.#stage = stage
    this.#pasids = new Held<ReadonlyMap<string, number>>(
      journal,
      'PASIDs of address spaces',
      new Map(),
      (m) => keyOf(...[...m].flat()),
    )
    this.#spaces = new Held<ReadonlyMap<number, SharedSpace>>(journal, 'shared spaces', new Map(), (m) =>
      keyOf(
        ...[...m.values()].flatMap((s) => [s.pasid, s.mm, ...s.bonds.flatMap((b) => [b.device, b.users])]),
      ),
    )
  }

  /** The PASID of an address space, where it has one. */
  pasidOf(mm: string): number | undefined {
    return this.#pasids.value.get(mm)
  }

  /** The address space of a PASID: also when no device is bound any more. */
  mmOf(pasid: number): string | undefined {
    for (const [mm, known] of this.#pasids.value) if (known === pasid) return mm
    return undefined
  }

  /** The lowest PASID that nobody has, up to `most`; undefined where all have somebody. */
  allocate(mm: string, most: number): number | undefined {
    const taken = new Set(this.#pasids.value.values())
    let pasid = PASID_MIN
    while (taken.has(pasid)) pasid++
    if (pasid > most) return undefined
    this.#pasids.set(new Map([...this.#pasids.value, [mm, pasid]]))
    this.#record(pasid, mm, 1)
    return pasid
  }

  /** An address space has ended for good: its PASID is free. (Linux v6.1 kernel/fork.c, __mmdrop) */
  drop(mm: string): void {
    const pasid = this.#pasids.value.get(mm)
    if (pasid === undefined) return
    this.#pasids.set(new Map([...this.#pasids.value].filter(([known]) => known !== mm)))
    this.#record(pasid, mm, 0)
  }

  spaceOf(pasid: number): SharedSpace | undefined {
    return this.#spaces.value.get(pasid)
  }

  setSpace(space: SharedSpace): void {
    this.#spaces.set(new Map([...this.#spaces.value, [space.pasid, space]]))
  }

  removeSpace(pasid: number): void {
    this.#spaces.set(new Map([...this.#spaces.value].filter(([known]) => known !== pasid)))
  }

  /** The bonds of a PASID are now these. */
  setBonds(pasid: number, bonds: readonly Bond[]): void {
    const space = this.spaceOf(pasid)
    if (space !== undefined) this.setSpace({ ...space, bonds })
  }

  bondOf(pasid: number, device: string): Bond | undefined {
    return this.spaceOf(pasid)?.bonds.find((b) => b.device === device)
  }

  #record(pasid: number, mm: string, state: number): void {
    const { log, cause } = this.#stage
    log.emit('svm.pasid', cause < 0 ? null : cause, { unit: '', pasid, mm, state })
  }
}
