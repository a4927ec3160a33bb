import type { Profile } from '../../bits/errata.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import type { Life } from '../../hw/life.ts'
import type { Stage } from '../../trace/stage.ts'
import { CpuStores } from './cpu-stores.ts'
import type { Duty } from './duties.ts'
import { Flusher } from './flusher.ts'
import { InvalidationQueue } from './invalidation-queue.ts'
import { TablePool } from './table-pages.ts'
import { UnitControl } from './unit-control.ts'
import type { UnitPort } from './unit-port.ts'
import { UnitRegisters } from './unit-registers.ts'

/** What a driver is made with. */
export interface DriverOptions {
  readonly port: UnitPort
  /** Width of the addresses of memory. */
  readonly hostAddressBits: number
  /** Pages of guest memory for tables, the queue and its statuses. */
  readonly area: { readonly first: number; readonly pages: number }
  /** Scalable mode where the unit has it (intel_iommu=sm_on), else legacy. */
  readonly wantsScalable: boolean
  /** Extended root and context entries where the unit has them (revisions 2.x). */
  readonly wantsExtended?: boolean
}

export interface DriverParts {
  readonly stage: Stage
  readonly journal: Journal
  readonly profile: Profile
  /** The guest's kernel: it may wait for ever. */
  readonly life: Life
}

/** Levels of tables that have 2 more than their code. */
const LEVELS_OF_CODE = 2
/** Tables of the guest have at most 5 levels (DEFAULT_DOMAIN_ADDRESS_WIDTH 57). */
const CODE_MAX = 3
const FIRST_LEVEL_4 = 1 << 2
const FIRST_LEVEL_5 = 1 << 3

/** What all parts of a driver share: registers, flushes, stores, pages for tables, and what it forgets. */
export class DriverCore {
  readonly options: DriverOptions
  readonly stage: Stage
  readonly journal: Journal
  readonly life: Life
  readonly registers: UnitRegisters
  readonly stores: CpuStores
  readonly pool: TablePool
  readonly flusher: Flusher
  readonly control: UnitControl
  readonly #forgotten: Held<readonly Duty[]>
  /** K6-caching-device-tlb */
  readonly #trustsCaching: boolean
  /** K6-no-page-drain */
  readonly #ignoresDrain: boolean

  constructor(options: DriverOptions, { stage, journal, profile, life }: DriverParts) {
    const { port, hostAddressBits, area } = options
    this.options = options
    this.#trustsCaching = profile.has('K6-caching-device-tlb')
    this.#ignoresDrain = profile.has('K6-no-page-drain')
    this.stage = stage
    this.journal = journal
    this.life = life
    this.#forgotten = new Held<readonly Duty[]>(journal, 'forgotten duties', [], (d) => keyOf(...d))
    this.registers = new UnitRegisters(port, hostAddressBits, { journal, life })
    this.stores = new CpuStores(port.memory, journal)
    this.pool = new TablePool(this.stores, { ...area, unit: port.name }, { stage, journal })
    // Taken before the unit is known: the queue is two pages where its descriptors have 256 bits.
    const queue = new InvalidationQueue(this.registers, journal)
    const { registers, stores } = this
    this.flusher = new Flusher(
      { registers, queue, stores },
      {
        leavesZeroIva: profile.has('K6-iva-zero'),
        cutsUnaligned: profile.has('K6-unaligned-piotlb'),
      },
    )
    this.control = new UnitControl(
      { registers, flusher: this.flusher, stores },
      journal,
      (duty) => this.forgets(duty),
      profile.has('svm-faults-leave-overflow'),
    )
  }

  forgets(duty: Duty): boolean {
    return this.#forgotten.value.includes(duty)
  }

  setForgotten(duty: Duty, isForgotten: boolean): void {
    const others = this.#forgotten.value.filter((d) => d !== duty)
    this.#forgotten.set(isForgotten ? [...others, duty].sort() : others)
  }

  get isScalable(): boolean {
    return this.options.wantsScalable && this.registers.features.hasScalableMode
  }

  /** Root and context entries of revisions 2.x, which let requests have a PASID. */
  get isExtended(): boolean {
    return this.options.wantsExtended === true && this.registers.features.hasExtendedContext
  }

  /**
   * Whether devices may request pages: never through legacy entries. In scalable mode the driver drains them when a PASID
   * goes, which the unit has to be able to do. (Linux v6.18 drivers/iommu/intel/iommu.c, intel_iommu_probe_device)
   */
  get hasPageRequests(): boolean {
    const { hasPageRequests, hasPageDrain } = this.registers.features
    return hasPageRequests && (this.isScalable ? hasPageDrain || this.#ignoresDrain : this.isExtended)
  }

  /** Whether the unit snoops caches where it reads root, context and PASID entries. */
  get snoopsEntries(): boolean {
    return this.registers.features.isCoherent
  }

  /** The same of page tables: in scalable mode it is told to (PWSNP). */
  get snoopsTables(): boolean {
    const { isCoherent, hasWalkSnoop } = this.registers.features
    return this.isScalable ? hasWalkSnoop : isCoherent
  }

  /**
   * Levels of page tables: as many as the unit walks, of both kinds where it has both. 0 where it has none.
   * (Linux v6.1 drivers/iommu/intel/iommu.c, __iommu_calculate_sagaw)
   */
  get levels(): number {
    const { sagaw, hasFirst5, hasFirstLevel, hasSecondLevel } = this.registers.features
    const first = FIRST_LEVEL_4 | (hasFirst5 ? FIRST_LEVEL_5 : 0)
    const both = hasSecondLevel ? first & sagaw : first
    const codes = this.isScalable && hasFirstLevel ? both : sagaw
    for (let code = CODE_MAX; code >= 0; code--) {
      if ((codes & (1 << code)) !== 0) return code + LEVELS_OF_CODE
    }
    return 0
  }

  /** Whether what was not present must be flushed after it was written. */
  get flushesNew(): boolean {
    return this.registers.features.isCachingMode && !this.forgets('caching-mode')
  }

  /** Whether TLBs of devices are flushed with a whole domain, or with a PASID entry that goes. */
  get flushesDeviceTlbs(): boolean {
    return !(this.#trustsCaching && this.registers.features.isCachingMode)
  }

  /** What the kernel printed since it was last asked. */
  takePrinted(): string[] {
    return this.flusher.queue.printed.splice(0)
  }
}
