import type { AddressSpace } from '../../memory/address-space.ts'
import { KIND } from '../../trace/event.ts'
import type { Stage } from '../../trace/stage.ts'
import { NO_REGION, type RegionTable } from './region-table.ts'

const MAP = KIND['region.map']

/**
 * Records of regions. Mappings that come, or go, one after the other are one record between `begin` and `end`.
 * Nothing here allocates.
 */
export class RegionRecords {
  readonly #stage: Stage
  readonly #table: RegionTable
  /** Interned name of the process that had the last record, and its address space. */
  #named: AddressSpace | undefined
  #name = 0
  // Mappings that have no record yet: of which region, and how many (below 0: they go).
  #isRunning = false
  #region = NO_REGION
  #delta = 0

  constructor(stage: Stage, table: RegionTable) {
    this.#stage = stage
    this.#table = table
  }

  begin(): void {
    this.#isRunning = true
  }

  end(): void {
    this.#isRunning = false
    this.flush()
  }

  /** Mappings are about to change: those that they do not go on with have their record first. */
  before(region: number, delta: number): void {
    if (region !== this.#region || delta * this.#delta < 0) this.flush()
  }

  /** Mappings have changed. */
  add(region: number, delta: number): void {
    this.#region = region
    this.#delta += delta
    if (!this.#isRunning) this.flush()
  }

  /** The record of the mappings that have none. */
  flush(): void {
    if (this.#delta === 0) return
    this.record(MAP, this.#region, this.#delta)
    this.#delta = 0
  }

  /** A record of a region, which begins with what the region is: in place, because some come with every mapping. */
  record(kind: number, region: number, s8 = 0, s9 = 0): void {
    const { log, cause } = this.#stage
    if (!log.on) return
    const table = this.#table
    const at = log.begin(kind, cause)
    const { lanes } = log
    lanes[at] = region
    lanes[at + 1] = this.#nameOf(table.mmOf(region))
    table.describe(region, lanes, at + 2)
    lanes[at + 8] = s8
    lanes[at + 9] = s9
    log.commit(kind)
  }

  #nameOf(mm: AddressSpace): number {
    if (mm !== this.#named) {
      this.#named = mm
      this.#name = this.#stage.log.names.intern(mm.name)
    }
    return this.#name
  }
}
