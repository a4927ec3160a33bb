import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { FileTarget, IoctlRefusal } from '../files.ts'
import { Waiters } from './waiters.ts'

/** Frames that wait at a tap at most. (Linux v6.1 include/linux/if_tun.h, TUN_READQ_SIZE) */
export const TAP_FRAMES_MAX = 500

type Frames = readonly Uint8Array[]
const hashOf = (frames: Frames): number => frames.reduce((n, f) => (n * 31 + f.length + 1) | 0, 0)

/**
 * A queue of a macvtap interface, which opening /dev/tap1 makes: frames of the network that wait for the driver of a
 * vhost device, and those that came from it. Headers of virtio-net are not kept.
 */
export class TapFile implements FileTarget {
  readonly kind = 'tap'
  readonly #waiting: Held<Frames>
  readonly #sent: Held<Frames>
  /** Who waits for frames of the network. */
  readonly waiters: Waiters

  constructor(journal: Journal, number: number) {
    this.#waiting = new Held<Frames>(journal, `tap ${number} waiting`, [], hashOf)
    this.#sent = new Held<Frames>(journal, `tap ${number} sent`, [], hashOf)
    this.waiters = new Waiters(journal, `tap ${number}`)
  }

  /** The frame that waits longest. */
  get next(): Uint8Array | undefined {
    return this.#waiting.value[0]
  }

  /** A frame comes from the network: false where there is no room. */
  deliver(frame: Uint8Array): boolean {
    const waiting = this.#waiting.value
    if (waiting.length >= TAP_FRAMES_MAX) return false
    this.#waiting.set([...waiting, frame])
    this.waiters.signal()
    return true
  }

  /** The frame that waits longest is gone. */
  drop(): void {
    this.#waiting.set(this.#waiting.value.slice(1))
  }

  /** A frame comes from the driver. */
  send(frame: Uint8Array): void {
    this.#sent.set([...this.#sent.value, frame])
  }

  /** The frame that was sent first, and how many are left behind it. */
  collect(): { readonly frame: Uint8Array; readonly left: number } | undefined {
    const [frame, ...rest] = this.#sent.value
    if (frame === undefined) return undefined
    this.#sent.set(rest)
    return { frame, left: rest.length }
  }

  released(): void {}

  refusal(): IoctlRefusal {
    return 'invalid'
  }
}
