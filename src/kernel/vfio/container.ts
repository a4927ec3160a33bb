import type { RuleOf } from '../../bits/call.ts'
import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { Process } from '../../memory/process.ts'
import type { FileTarget, IoctlRefusal } from '../files.ts'
import type { Outcome } from '../outcome.ts'
import type { VFIO_SET_IOMMU } from './calls.ts'
import type { VfioGroup } from './group.ts'
import { type MoreOutcome, SpaprContainer } from './spapr-container.ts'
import type { SpaprParts } from './spapr-mapping.ts'

/** Types of VFIO_SET_IOMMU and numbers of VFIO_CHECK_EXTENSION. */
export const SPAPR_TCE_IOMMU = 2n
export const VFIO_EEH = 5n
export const SPAPR_TCE_V2_IOMMU = 7n

/**
 * A container: groups, and the driver that translates for all of them once it has one. It lives while its file is
 * open or a group is in it; without groups it has no driver.
 * (Linux v6.12 drivers/vfio/container.c)
 */
export class VfioContainer implements FileTarget {
  readonly kind = 'container'
  readonly name: string
  readonly #parts: SpaprParts
  readonly #driver: Held<SpaprContainer | null>
  /** The one that came last is first. */
  readonly #groups: Held<readonly VfioGroup[]>
  readonly #journal: Journal

  constructor(parts: SpaprParts, number: number) {
    const { journal } = parts.host
    this.name = `container ${number}`
    this.#parts = parts
    this.#journal = journal
    this.#driver = new Held<SpaprContainer | null>(journal, `${this.name} driver`, null, (d) =>
      d === null ? 0 : d.isV2 ? 2 : 1,
    )
    this.#groups = new Held<readonly VfioGroup[]>(journal, `${this.name} groups`, [], (groups) =>
      groups.reduce((n, g) => (n * 31 + g.number + 1) | 0, 0),
    )
  }

  get driver(): SpaprContainer | null {
    return this.#driver.value
  }

  get groups(): readonly VfioGroup[] {
    return this.#groups.value
  }

  /** Its file is gone. What groups hold stays. */
  released(): void {}

  /** Its driver is asked. (v6.12 vfio_fops_unl_ioctl, tce_iommu_ioctl) */
  refusal(process: Process): IoctlRefusal {
    if (this.driver === null) return 'invalid'
    return this.driver.isOther(process) ? 'other-process' : 'unknown'
  }

  setIommu(type: bigint, process: Process): Outcome<RuleOf<typeof VFIO_SET_IOMMU>> {
    if (this.groups.length === 0) return 'no-group'
    if (this.driver !== null) return 'driver-set'
    // Types and extensions share their numbers: the driver is asked for the extension, then told to open the type.
    if (type === VFIO_EEH && this.#parts.hasEeh) return 'type-is-extension'
    if (type !== SPAPR_TCE_IOMMU && type !== SPAPR_TCE_V2_IOMMU) return 'type-unknown'
    if (!this.#parts.allocates()) return 'no-driver-record'
    const driver = new SpaprContainer(this.#parts, type === SPAPR_TCE_V2_IOMMU, {
      journal: this.#journal,
      name: this.name,
    })
    const attached: VfioGroup[] = []
    for (const group of this.groups) {
      const outcome = driver.attach(group.table, process)
      if (outcome !== 'done') {
        for (const one of attached.reverse()) driver.detach(one.table)
        driver.release()
        return outcome
      }
      attached.push(group)
    }
    this.#driver.set(driver)
    return 'done'
  }

  /** A group comes; its DMA is claimed. */
  join(group: VfioGroup): MoreOutcome {
    const outcome = this.driver?.attachMore(group.table) ?? 'done'
    if (outcome === 'done') this.#groups.set([group, ...this.groups])
    return outcome
  }

  /** A group goes; with the last one the driver. */
  leave(group: VfioGroup, releaseDma: () => void): void {
    const { driver } = this
    driver?.detach(group.table)
    releaseDma()
    this.#groups.set(this.groups.filter((g) => g !== group))
    if (driver === null || this.groups.length > 0) return
    driver.release()
    this.#driver.set(null)
  }
}
