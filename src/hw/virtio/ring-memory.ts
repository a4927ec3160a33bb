import type { Segments } from './segments.ts'

/** What an access to memory of the driver is for, as the records number it (`iotlb.use`). */
export const RING_PART = {
  /** A buffer, or an indirect table. */
  BUFFER: 0,
  DESCRIPTORS: 1,
  AVAILABLE: 2,
  USED: 3,
} as const
export type RingPartNumber = (typeof RING_PART)[keyof typeof RING_PART]

/** What the device does there: the bits of a permission of vhost's IOTLB. */
export const ACCESS = { READ: 1, WRITE: 2 } as const
export type AccessNumber = (typeof ACCESS)[keyof typeof ACCESS]

/**
 * Whether a device may go on: `pending` while somebody was asked for the translation (try the whole queue again
 * after the answer), `refused` where nobody will ever allow it as things are.
 */
export type Reach = 'ok' | 'pending' | 'refused'

/**
 * The memory of the driver as a virtio device sees it, behind a translation or not.
 *
 * A device reaches bytes before it touches them: `reach` translates and checks, and puts into `into` where the
 * bytes lie. Then they are moved through the `Segments`, and through nothing else. Two ways to lie:
 *
 * - in a view (`into.addView`): mapped memory of a real guest. Moved in place; `load` and `store` are not asked.
 * - at a place (`into.addPlace`): any number that means something to this memory, a user address for instance.
 *   `load` and `store` are asked, with places inside what was added.
 *
 * What `reach` added holds until the device comes back from its run: a memory that forgets a translation in
 * between (an INVALIDATE) must do so outside of runs. Addresses are two int32 lanes. `bytes` is an exact number
 * up to 2^32; it may be 0 (nothing to reach: `ok`), and address + bytes may pass 2^64 (a memory without a better
 * idea refuses).
 */
export interface RingMemory {
  /**
   * Translates and checks [hi:lo, + bytes), and adds its segments to `into`, in order.
   * What it has added before it came to `pending` or `refused` is ignored. Where `into.isFull`, it stops with
   * `ok` before it looks up the next piece: too many pieces are a fault before a missing translation is one.
   *
   * @param queue number of the queue in its device
   */
  reach(
    queue: number,
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
    into: Segments,
  ): Reach
  /** Copies `bytes` bytes at a place to `into[at]` on. */
  load(place: number, into: Uint8Array, at: number, bytes: number): void
  /** Copies `bytes` bytes from `from[at]` on to a place. */
  store(place: number, from: Uint8Array, at: number, bytes: number): void
}
