import type { Clock } from '../../bits/clock.ts'
import type { RemappingUnit } from '../../hw/vtd/remapping-unit.ts'
import type { UnitPort } from '../../kernel/intel-iommu/unit-port.ts'
import type { BusMemory } from '../../memory/ports.ts'
import type { RecordLog } from '../../trace/record-log.ts'

export interface DriverPortParts {
  readonly unit: RemappingUnit
  readonly memory: BusMemory
  readonly clock: Clock
  readonly log: RecordLog
  /** What acts as time passes, in order. */
  readonly units: readonly { elapse(): void }[]
}

/** A unit as the guest's driver meets it: while the driver polls, time passes for devices and unit. */
export class DriverPort implements UnitPort {
  readonly name: string
  readonly memory: BusMemory
  readonly #parts: DriverPortParts

  constructor(parts: DriverPortParts) {
    this.name = parts.unit.name
    this.memory = parts.memory
    this.#parts = parts
  }

  mmioRead(offset: number, bytes: 4 | 8): bigint {
    return this.#parts.unit.mmioRead(offset, bytes)
  }

  mmioWrite(offset: number, bytes: 4 | 8, value: bigint): void {
    this.#parts.unit.mmioWrite(offset, bytes, value)
  }

  /** Only invalidations that a device has not completed take time. */
  elapse(): boolean {
    const { unit, clock, log, units } = this.#parts
    if (!unit.queue.isWaiting) return false
    clock.advance(1)
    log.tick = clock.tick
    for (const one of units) one.elapse()
    return true
  }
}
