import { assert } from '../../bits/errors.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import { U64_MAX } from '../../bits/u64.ts'
import { VhostIotlb } from '../../table/vhost-iotlb.ts'
import type { Stage } from '../../trace/stage.ts'
import { type IotlbMessage, PERM } from './messages.ts'

/** Maps of an IOTLB that have numbers of their own in a run. */
const MAPS_OF_IOTLB = 2 ** 22

/** A region of a memory table. */
export interface MemoryRegion {
  readonly gpa: bigint
  readonly bytes: bigint
  readonly ua: bigint
}

interface Tables {
  readonly memory: VhostIotlb | null
  readonly iotlb: VhostIotlb | null
  /** Number of the IOTLB among all of the run, from 1; 0 for none. */
  readonly number: number
}

const NONE: Tables = { memory: null, iotlb: null, number: 0 }

export interface DeviceTablesParts {
  readonly stage: Stage
  readonly journal: Journal
  /** Name of the device. */
  readonly name: string
  /** Maps that an IOTLB keeps (module parameter max_iotlb_entries). */
  readonly limit: number
  /** Whether a map of all addresses becomes two. */
  readonly splitsFullRange: boolean
  /** The number of the next IOTLB, and of the next container of maps. */
  readonly nextIotlb: () => number
  readonly nextContainer: () => number
}

/**
 * What a vhost device translates with: the memory table that its owner gave it, and its IOTLB, with the records of what
 * comes and goes there. (Linux v6.1 drivers/vhost/vhost.c, vhost_set_memory, vhost_init_device_iotlb)
 */
export class DeviceTables {
  readonly journal: Journal
  readonly #parts: DeviceTablesParts
  readonly #tables: Held<Tables>

  constructor(parts: DeviceTablesParts) {
    this.journal = parts.journal
    this.#parts = parts
    this.#tables = new Held(parts.journal, `${parts.name} tables`, NONE, ({ memory, iotlb, number }) =>
      memory === null && iotlb === null ? 0 : keyOf(memory?.count ?? -1, iotlb === null ? 0 : 1, number),
    )
  }

  /** The memory table; null where there is none. */
  get memory(): VhostIotlb | null {
    return this.#tables.value.memory
  }

  get iotlb(): VhostIotlb | null {
    return this.#tables.value.iotlb
  }

  get number(): number {
    return this.#tables.value.number
  }

  /** The number that a map has in the run. */
  mapNumber(inIotlb: number): number {
    return (this.number - 1) * MAPS_OF_IOTLB + inIotlb
  }

  /** A new memory table; null where one of the regions cannot be in it. */
  makeMemory(regions: readonly MemoryRegion[]): VhostIotlb | null {
    const table = this.#make()
    for (const { gpa, bytes, ua } of regions) {
      if (table.add(gpa, BigInt.asUintN(64, gpa + bytes - 1n), ua, PERM.RW) < 0) return null
    }
    return table
  }

  setMemory(memory: VhostIotlb): void {
    this.#tables.set({ ...this.#tables.value, memory })
  }

  /** An IOTLB without maps replaces the one that there is. */
  beginIotlb(): void {
    const { log, cause } = this.#parts.stage
    const { name, limit } = this.#parts
    const number = this.#parts.nextIotlb()
    this.#tables.set({ ...this.#tables.value, iotlb: this.#make(), number })
    log.emit('iotlb.new', cause, { iotlb: number, device: name, limit })
  }

  /** Both tables go; a new memory table may be there then. */
  clear(memory: VhostIotlb | null): void {
    const { iotlb } = this.#tables.value
    if (iotlb !== null && iotlb.count > 0) this.#drop(0n, U64_MAX, iotlb.reset(), 'reset')
    this.#tables.set({ ...NONE, memory })
  }

  /** An UPDATE comes to the IOTLB, whose range does not pass 2^64. */
  fill({ iova, bytes, ua, perm }: IotlbMessage): void {
    const { iotlb } = this
    if (iotlb === null) throw new Error('model bug: an UPDATE without an IOTLB')
    const code = iotlb.add(iova, BigInt.asUintN(64, iova + bytes - 1n), ua, perm)
    assert(code === 0, 'an IOTLB has room for what is in order')
    for (let part = 0; part < iotlb.addedMaps; part++) {
      iotlb.showAdd(part)
      this.#recordAdd(iotlb)
    }
  }

  /** An INVALIDATE comes to the IOTLB. */
  invalidate({ iova, bytes }: IotlbMessage): void {
    const { iotlb } = this
    if (iotlb === null) throw new Error('model bug: an INVALIDATE without an IOTLB')
    const last = BigInt.asUintN(64, iova + bytes - 1n)
    this.#drop(iova, last, iotlb.delete(iova, last), 'invalidate')
  }

  #make(): VhostIotlb {
    const { limit, splitsFullRange, journal, name, nextContainer } = this.#parts
    const key = keyOf('vhost maps', name, nextContainer())
    return new VhostIotlb({ limit, retire: true, journal, key, splitsFullRange })
  }

  /** The map that `showAdd` shows, and the one that made room for it. */
  #recordAdd(iotlb: VhostIotlb): void {
    const { log, cause } = this.#parts.stage
    const { number } = this
    if (iotlb.evicted >= 0) {
      const map = this.mapNumber(iotlb.evicted)
      log.emit('iotlb.evict', cause, {
        iotlb: number,
        map,
        iova: iotlb.evictedStart,
        last: iotlb.evictedLast,
      })
    }
    const map = this.mapNumber(iotlb.mapNumber)
    const { start, last, address, perm } = iotlb
    log.emit('iotlb.fill', cause, { iotlb: number, map, iova: start, last, ua: address, perm })
  }

  #drop(iova: bigint, last: bigint, maps: number, why: string): void {
    const { log, cause } = this.#parts.stage
    log.emit('iotlb.drop', cause, { iotlb: this.number, iova, last, maps, why })
  }
}
