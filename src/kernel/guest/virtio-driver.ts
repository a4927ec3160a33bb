import type { RuleOf } from '../../bits/call.ts'
import { Held } from '../../bits/held.ts'
import { type Journal, keyOf } from '../../bits/state.ts'
import { type DriverBuffer, type DriverMemory, DriverRing, ringPlaces } from '../../hw/virtio/driver-ring.ts'
import { isRingEntries } from '../../hw/virtio/ring-layout.ts'
import type { DriverQueue, VirtioDevicePort } from '../ports.ts'
import type { VIRTIO_QUEUE, VIRTIO_READY, VIRTIO_REAP } from './virtio-calls.ts'

/** Descriptors of a queue that QEMU has. */
const ENTRIES_MAX = 256
const PAGE_MASK = 0xfffn
/** Guest addresses are exact numbers below this. */
const GPA_END = 1n << 53n

interface Ring {
  readonly ring: DriverRing
  readonly queue: DriverQueue
}

type Rings = readonly (Ring | null)[]
const NO_RINGS: Rings = []

export interface VirtioDriverParts {
  readonly name: string
  readonly journal: Journal
  readonly memory: DriverMemory
  /** Whether guest memory has some bytes. */
  readonly hasMemory: (gpa: bigint, bytes: bigint) => boolean
  readonly device: VirtioDevicePort
}

/**
 * What the driver of a virtio device does in its guest, whatever the device is: it lays out rings, gives buffers to the
 * device and takes them back. Bus addresses are those that it has mapped before, by hypercalls of its own.
 */
export class VirtioDriver {
  /** The chain that was made last, or `reap` found, and the bytes that the device wrote. */
  head = 0
  written = 0
  protected readonly parts: VirtioDriverParts
  readonly #queues: number
  readonly #rings: Held<Rings>
  /** Rings that were laid out: each has a state of its own. */
  readonly #made: Held<number>

  /** @param queues how many the device has */
  constructor(parts: VirtioDriverParts, queues: number) {
    const { journal, name } = parts
    this.parts = parts
    this.#queues = queues
    this.#made = new Held(journal, `virtio ${name} made`, 0, (n) => n)
    this.#rings = new Held<Rings>(journal, `virtio ${name} rings`, NO_RINGS, (rings) =>
      rings.length === 0 ? 0 : keyOf(...rings.map((r) => r?.queue.entries ?? 0)),
    )
  }

  /** Queues that are laid out. */
  get queues(): readonly DriverQueue[] {
    return this.#rings.value.flatMap((ring) => (ring === null ? [] : [ring.queue]))
  }

  /** The queue that was laid out last, and its length in memory. */
  last: { readonly queue: DriverQueue; readonly bytes: number } | undefined

  layOut(index: number, entries: number, gpa: bigint, iova: bigint): RuleOf<typeof VIRTIO_QUEUE> {
    const { device, memory, hasMemory, journal, name } = this.parts
    if (index >= this.#queues) return 'no-such-queue'
    if (device.isStarted) return 'running'
    if (!isRingEntries(entries) || entries > ENTRIES_MAX) return 'entries-invalid'
    if (((gpa | iova) & PAGE_MASK) !== 0n) return 'unaligned'
    const start = Number(BigInt.asUintN(53, gpa))
    const { bytes, ...places } = ringPlaces(entries, start, false)
    if (gpa >= GPA_END || !hasMemory(gpa, BigInt(bytes))) return 'outside-memory'
    const number = this.#made.value
    this.#made.set(number + 1)
    const ring = new DriverRing({
      memory,
      journal,
      name: `${name} ring ${number}`,
      entries,
      places,
      hasEventIndex: false,
    })
    ring.reset()
    const busOf = (place: number): bigint => BigInt.asUintN(64, iova + BigInt(place - start))
    const queue = {
      index,
      entries,
      descriptors: iova,
      available: busOf(places.available),
      used: busOf(places.used),
    }
    const before = this.#rings.value
    this.#rings.set(
      Array.from({ length: this.#queues }, (_, i) => (i === index ? { ring, queue } : (before[i] ?? null))),
    )
    this.last = { queue, bytes }
    return 'done'
  }

  ready(): RuleOf<typeof VIRTIO_READY> {
    const { device } = this.parts
    if (device.isStarted) return 'running'
    device.start(this.queues)
    return 'done'
  }

  reset(): void {
    const { device } = this.parts
    if (device.isStarted) device.stop(this.queues)
    this.#rings.set(NO_RINGS)
  }

  reap(index: number): RuleOf<typeof VIRTIO_REAP> {
    const ring = this.#rings.value[index]?.ring
    if (ring === undefined) return 'no-such-queue'
    const reaped = ring.reap()
    if (typeof reaped === 'string') return reaped
    this.head = reaped.head
    this.written = reaped.written
    return 'done'
  }

  /** Descriptors of a queue that no chain holds; undefined where it is not laid out. */
  protected freeOf(index: number): number | undefined {
    return this.#rings.value[index]?.ring.freeCount
  }

  /** A chain goes onto a queue, and the device is told if it wants to be. */
  protected add(index: number, buffers: readonly DriverBuffer[]): 'no-such-queue' | 'full' | 'done' {
    const ring = this.#rings.value[index]?.ring
    if (ring === undefined) return 'no-such-queue'
    const head = ring.add(buffers)
    if (head === -1) return 'full'
    this.head = head
    const { device } = this.parts
    if (ring.publish() && device.isStarted) device.kick(index)
    return 'done'
  }
}
