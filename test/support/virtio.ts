import { Journal } from '../../src/bits/state.ts'
import { numberOf } from '../../src/bits/u64.ts'
import { DriverRing, ringPlaces } from '../../src/hw/virtio/driver-ring.ts'
import type { AccessNumber, Reach, RingMemory, RingPartNumber } from '../../src/hw/virtio/ring-memory.ts'
import { RING } from '../../src/hw/virtio/ring-rules.ts'
import type { Segments } from '../../src/hw/virtio/segments.ts'
import { SplitRing, type SplitRingOptions } from '../../src/hw/virtio/split-ring.ts'

/** How a test memory hands out what was reached: views in whole, views a page, or places a page. */
export type Handing = 'whole' | 'pages' | 'places'

const PAGE_BYTES = 64

/**
 * Driver memory of a test from bus address 0 on. What was not reached cannot be moved: `load` and `store`
 * check each byte against what `reach` allowed for that access.
 */
export class TestMemory implements RingMemory {
  readonly bytes: Uint8Array
  readonly handing: Handing
  /** Bus addresses of which a translation is missing, or that are refused for an access: by page. */
  readonly missing = new Set<number>()
  readonly refused = new Map<number, number>()
  /** Accesses that `reach` allowed, a bit each, by byte. */
  readonly allowed: Uint8Array
  /** From here on there is nothing to move, but up to here everything can be reached in one piece. */
  emptyUpTo = 0

  constructor(bytes: number | Uint8Array, handing: Handing = 'whole') {
    this.bytes = typeof bytes === 'number' ? new Uint8Array(bytes) : bytes
    this.handing = handing
    this.allowed = new Uint8Array(this.bytes.length)
  }

  reach(
    _queue: number,
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    _part: RingPartNumber,
    into: Segments,
  ): Reach {
    const start = numberOf(hi, lo)
    if (bytes === 0) return 'ok'
    if (start >= this.bytes.length && start + bytes <= this.emptyUpTo) {
      into.addPlace(start, bytes)
      return 'ok'
    }
    if (start + bytes > this.bytes.length) return 'refused'
    for (let at = start; at < start + bytes; ) {
      if (into.isFull) return 'ok'
      const page = Math.floor(at / PAGE_BYTES)
      const end = Math.min((page + 1) * PAGE_BYTES, start + bytes)
      if (this.missing.has(page)) return 'pending'
      if (((this.refused.get(page) ?? 0) & access) !== 0) return 'refused'
      if (this.handing === 'pages') into.addView(this.bytes.subarray(at, end), 0, end - at)
      if (this.handing === 'places') into.addPlace(at, end - at)
      at = end
    }
    if (this.handing === 'whole') into.addView(this.bytes, start, bytes)
    if (this.handing === 'places') {
      for (let i = start; i < start + bytes; i++) this.allowed[i] = (this.allowed[i] as number) | access
    }
    return 'ok'
  }

  load(place: number, into: Uint8Array, at: number, bytes: number): void {
    this.#check(place, bytes, 1)
    into.set(this.bytes.subarray(place, place + bytes), at)
  }

  store(place: number, from: Uint8Array, at: number, bytes: number): void {
    this.#check(place, bytes, 2)
    this.bytes.set(from.subarray(at, at + bytes), place)
  }

  #check(place: number, bytes: number, access: number): void {
    for (let i = place; i < place + bytes; i++) {
      if (((this.allowed[i] ?? 0) & access) === 0) throw new Error(`byte ${i} was not reached`)
    }
  }
}

/** Both sides of one ring in one memory; the ring from address 0 on, free memory from `free` on. */
export function ringPair(
  memory: TestMemory,
  { entries = 8, hasEventIndex = false, start = 0, ...options }: RingPairOptions = {},
): { driver: DriverRing; ring: SplitRing; free: number } {
  const places = ringPlaces(entries, start, hasEventIndex, 64)
  const driver = new DriverRing({
    memory: {
      load: (address, into, at, bytes) => into.set(memory.bytes.subarray(address, address + bytes), at),
      store: (address, from, at, bytes) => memory.bytes.set(from.subarray(at, at + bytes), address),
    },
    journal: new Journal(),
    name: 'test',
    entries,
    places,
    hasEventIndex,
  })
  const ring = new SplitRing({ memory, queue: 0, journal: new Journal(), name: 'test', ...options })
  driver.reset()
  ring.setUp({
    entries,
    descriptors: BigInt(places.descriptors),
    available: BigInt(places.available),
    used: BigInt(places.used),
    hasEventIndex,
  })
  return { driver, ring, free: Math.ceil((start + places.bytes) / 64) * 64 }
}

export interface RingPairOptions extends Partial<Omit<SplitRingOptions, 'memory' | 'queue'>> {
  readonly entries?: number
  readonly hasEventIndex?: boolean
  readonly start?: number
}

/** Words of a descriptor, for tests that write rings by hand. */
export interface RawDescriptor {
  readonly address?: number
  readonly bytes?: number
  readonly flags?: number
  readonly next?: number
}

/** A ring written by hand: 4 entries unless said, descriptors at 0, available at 512, used at 640, free from 1024 on. */
export class RawRing {
  readonly memory: TestMemory
  readonly entries: number
  readonly ring: SplitRing
  readonly #words: DataView

  constructor(memory: TestMemory, entries = 4, options: Omit<RingPairOptions, 'entries' | 'start'> = {}) {
    const { hasEventIndex = false, ...rest } = options
    this.memory = memory
    this.entries = entries
    this.#words = new DataView(memory.bytes.buffer)
    this.ring = new SplitRing({ memory, queue: 0, journal: new Journal(), name: 'raw', ...rest })
    this.ring.setUp({ entries, descriptors: 0n, available: 512n, used: 640n, hasEventIndex })
  }

  /** A descriptor of the ring, or of a table elsewhere. */
  describe(index: number, d: RawDescriptor, table = 0): this {
    const at = table + 16 * index
    this.#words.setBigUint64(at, BigInt(d.address ?? 1024), true)
    this.#words.setUint32(at + 8, d.bytes ?? 16, true)
    this.#words.setUint16(at + 12, d.flags ?? 0, true)
    this.#words.setUint16(at + 14, d.next ?? 0, true)
    return this
  }

  /** Heads from entry 0 on, and the index behind them unless said. */
  offer(heads: readonly number[], index = heads.length): this {
    heads.forEach((head, i) => {
      this.#words.setUint16(512 + 4 + 2 * i, head, true)
    })
    this.#words.setUint16(512 + 2, index, true)
    return this
  }

  /** What the ring answers to `begin`, and if that is fine to `next`. */
  look(chain = this.ring.newChain()): number {
    const began = this.ring.begin()
    return began === RING.taken ? this.ring.next(chain) : began
  }
}
