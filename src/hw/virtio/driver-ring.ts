import { assert } from '../../bits/errors.ts'
import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import {
  availableBytes,
  availEventOffset,
  DESCRIPTOR,
  DESCRIPTOR_BYTES,
  descriptorsBytes,
  isRingEntries,
  NO_INTERRUPT,
  NO_NOTIFY,
  needsEvent,
  RING_ENTRIES_OFFSET,
  RING_FLAGS_OFFSET,
  RING_INDEX_OFFSET,
  USED_ENTRY_BYTES,
  usedBytes,
  usedEventOffset,
} from './ring-layout.ts'

/** Memory as the driver's own CPU sees it: addresses are exact numbers below 2^53. */
export interface DriverMemory {
  load(address: number, into: Uint8Array, at: number, bytes: number): void
  store(address: number, from: Uint8Array, at: number, bytes: number): void
}

/** A buffer that a driver gives to a device: its bus address, its length, and who writes it. */
export interface DriverBuffer {
  readonly address: bigint
  readonly bytes: number
  readonly isWritten: boolean
}

/** Where the three parts of a ring lie, as the driver's CPU addresses them. */
export interface RingPlaces {
  readonly descriptors: number
  readonly available: number
  readonly used: number
}

export interface DriverRingOptions {
  readonly memory: DriverMemory
  readonly journal: Journal
  /** Name of the queue, for the hash of the state. */
  readonly name: string
  readonly entries: number
  readonly places: RingPlaces
  readonly hasEventIndex: boolean
}

/** A chain that the device has given back. */
export interface ReapedChain {
  readonly head: number
  /** Bytes that the device says it wrote. */
  readonly written: number
}

/** What `reap` answers: a chain, nothing yet, or that the device gave back what it did not have. */
export type Reaped = ReapedChain | 'empty' | 'unknown-head'

const FREE = 0
const FREE_COUNT = 1
const AVAIL = 2
const ADDED = 3
const LAST_USED = 4
const WANTS_CALLS = 5
const NEXTS = 6

/**
 * Places of a ring in one block of memory, as Linux lays out a ring: descriptors, available, and used from the
 * next multiple of `alignBytes` on. `bytes` is the length of the whole.
 */
export function ringPlaces(
  entries: number,
  start: number,
  hasEventIndex: boolean,
  alignBytes = 4096,
): RingPlaces & { readonly bytes: number } {
  const available = start + descriptorsBytes(entries)
  const end = available + availableBytes(entries, hasEventIndex)
  const used = Math.ceil(end / alignBytes) * alignBytes
  return { descriptors: start, available, used, bytes: used + usedBytes(entries, hasEventIndex) - start }
}

/**
 * The driver's side of a split virtqueue, in the driver's own memory (virtio 1.2, Split Virtqueues; Linux v6.1
 * drivers/virtio/virtio_ring.c).
 *
 * Buffers carry bus addresses, ring and tables the driver's own. `add` and `addIndirect` make a chain, `publish`
 * shows all added ones to the device and says whether it wants to be notified; `reap` takes used ones back.
 *
 * @example
 * const ring = new DriverRing({ memory, journal, name: 'vda', entries: 256, places, hasEventIndex: true })
 * ring.reset()
 * const head = ring.add([{ address: 0x1000n, bytes: 16, isWritten: false }])
 * if (ring.publish()) kick()
 */
export class DriverRing {
  readonly entries: number
  readonly hasEventIndex: boolean
  readonly places: RingPlaces
  readonly #memory: DriverMemory
  readonly #cells: Cells
  readonly #scratch = new Uint8Array(DESCRIPTOR_BYTES)
  readonly #words = new DataView(this.#scratch.buffer)

  constructor(options: DriverRingOptions) {
    const { entries, journal, name } = options
    assert(isRingEntries(entries), 'a ring has a power of two of entries')
    this.#memory = options.memory
    this.entries = entries
    this.hasEventIndex = options.hasEventIndex
    this.places = options.places
    // Behind the indices: the next descriptor of each, and how many the chain has that starts there.
    this.#cells = new Cells(journal, keyOf('driver ring', name), NEXTS + 2 * entries)
  }

  /** An empty ring, all descriptors free, interrupts wanted: memory of the ring is cleared. */
  reset(): void {
    const { entries, hasEventIndex, places } = this
    this.#clear(places.descriptors, descriptorsBytes(entries))
    this.#clear(places.available, availableBytes(entries, hasEventIndex))
    this.#clear(places.used, usedBytes(entries, hasEventIndex))
    this.#cells.fill(0, 0, this.#cells.length)
    this.#cells.set(FREE_COUNT, entries)
    this.#cells.set(WANTS_CALLS, 1)
    for (let i = 0; i < entries; i++) this.#cells.set(NEXTS + i, i + 1)
  }

  /** Descriptors that no chain holds. */
  get freeCount(): number {
    return this.#cells.get(FREE_COUNT)
  }

  /** Index of the next chain to publish, and of the next used one to reap. */
  get availableIndex(): number {
    return this.#cells.get(AVAIL)
  }

  get usedIndex(): number {
    return this.#cells.get(LAST_USED)
  }

  /** A chain of these buffers, those to read first. Answers its head, or -1 where not enough descriptors are free. */
  add(buffers: readonly DriverBuffer[]): number {
    assert(buffers.length > 0, 'a chain has a buffer')
    if (buffers.length > this.freeCount) return -1
    const head = this.#cells.get(FREE)
    let at = head
    buffers.forEach(({ address, bytes, isWritten }, i) => {
      const next = this.#cells.get(NEXTS + at)
      const isLast = i === buffers.length - 1
      const flags = (isWritten ? DESCRIPTOR.WRITE : 0) | (isLast ? 0 : DESCRIPTOR.NEXT)
      this.#putDescriptor(this.places.descriptors, at, address, bytes, flags, isLast ? 0 : next)
      at = next
    })
    this.#expose(head, buffers.length, at)
    return head
  }

  /**
   * The same through a table of descriptors, which lies at `table` for the CPU and at `tableAddress` for the
   * device, 16 bytes a buffer, until the chain is reaped.
   */
  addIndirect(buffers: readonly DriverBuffer[], table: number, tableAddress: bigint): number {
    assert(buffers.length > 0, 'a chain has a buffer')
    if (this.freeCount === 0) return -1
    buffers.forEach(({ address, bytes, isWritten }, i) => {
      const isLast = i === buffers.length - 1
      const flags = (isWritten ? DESCRIPTOR.WRITE : 0) | (isLast ? 0 : DESCRIPTOR.NEXT)
      this.#putDescriptor(table, i, address, bytes, flags, isLast ? 0 : i + 1)
    })
    const head = this.#cells.get(FREE)
    const bytes = buffers.length * DESCRIPTOR_BYTES
    this.#putDescriptor(this.places.descriptors, head, tableAddress, bytes, DESCRIPTOR.INDIRECT, 0)
    this.#expose(head, 1, this.#cells.get(NEXTS + head))
    return head
  }

  /** The device sees what was added since the last call. True: it wants to be notified. */
  publish(): boolean {
    const now = this.#cells.get(AVAIL)
    const before = (now - this.#cells.get(ADDED)) & 0xffff
    this.#put16(this.places.available + RING_INDEX_OFFSET, now)
    this.#cells.set(ADDED, 0)
    const { used } = this.places
    if (this.hasEventIndex) {
      return needsEvent(this.#get16(used + availEventOffset(this.entries)), now, before)
    }
    return now !== before && (this.#get16(used + RING_FLAGS_OFFSET) & NO_NOTIFY) === 0
  }

  /** The next chain that the device has used; its descriptors are free again. */
  reap(): Reaped {
    const cells = this.#cells
    const last = cells.get(LAST_USED)
    if (this.#get16(this.places.used + RING_INDEX_OFFSET) === last) return 'empty'
    const at = this.places.used + RING_ENTRIES_OFFSET + USED_ENTRY_BYTES * (last & (this.entries - 1))
    this.#memory.load(at, this.#scratch, 0, USED_ENTRY_BYTES)
    const head = this.#words.getUint32(0, true)
    const written = this.#words.getUint32(4, true)
    const count = head < this.entries ? cells.get(NEXTS + this.entries + head) : 0
    if (count === 0) return 'unknown-head'
    let end = head
    for (let i = 1; i < count; i++) end = cells.get(NEXTS + end)
    cells.set(NEXTS + end, cells.get(FREE))
    cells.set(FREE, head)
    cells.set(NEXTS + this.entries + head, 0)
    cells.set(FREE_COUNT, this.freeCount + count)
    cells.set(LAST_USED, (last + 1) & 0xffff)
    if (cells.get(WANTS_CALLS) === 1) this.#askForCall()
    return { head, written }
  }

  /** The driver wants an interrupt with the next used chain. True: one is there already. */
  enableCalls(): boolean {
    this.#cells.set(WANTS_CALLS, 1)
    this.#askForCall()
    return this.#get16(this.places.used + RING_INDEX_OFFSET) !== this.usedIndex
  }

  /** The driver wants no interrupts. With event indices it stops to move its index on. */
  disableCalls(): void {
    this.#cells.set(WANTS_CALLS, 0)
    if (!this.hasEventIndex) this.#put16(this.places.available + RING_FLAGS_OFFSET, NO_INTERRUPT)
  }

  #askForCall(): void {
    const { available } = this.places
    if (this.hasEventIndex) this.#put16(available + usedEventOffset(this.entries), this.usedIndex)
    else this.#put16(available + RING_FLAGS_OFFSET, 0)
  }

  /** The chain that begins at `head` is used up, and goes into the available ring. */
  #expose(head: number, count: number, free: number): void {
    const cells = this.#cells
    const index = cells.get(AVAIL)
    cells.set(FREE, free)
    cells.set(FREE_COUNT, this.freeCount - count)
    cells.set(NEXTS + this.entries + head, count)
    this.#put16(this.places.available + RING_ENTRIES_OFFSET + 2 * (index & (this.entries - 1)), head)
    cells.set(AVAIL, (index + 1) & 0xffff)
    cells.set(ADDED, cells.get(ADDED) + 1)
  }

  #putDescriptor(
    table: number,
    index: number,
    address: bigint,
    bytes: number,
    flags: number,
    next: number,
  ): void {
    this.#words.setInt32(0, loOf(address), true)
    this.#words.setInt32(4, hiOf(address), true)
    this.#words.setUint32(8, bytes, true)
    this.#words.setUint16(12, flags, true)
    this.#words.setUint16(14, next, true)
    this.#memory.store(table + index * DESCRIPTOR_BYTES, this.#scratch, 0, DESCRIPTOR_BYTES)
  }

  #get16(address: number): number {
    this.#memory.load(address, this.#scratch, 0, 2)
    return this.#words.getUint16(0, true)
  }

  #put16(address: number, value: number): void {
    this.#words.setUint16(0, value, true)
    this.#memory.store(address, this.#scratch, 0, 2)
  }

  #clear(address: number, bytes: number): void {
    this.#memory.store(address, new Uint8Array(bytes), 0, bytes)
  }
}
