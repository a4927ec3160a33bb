import type { ChainServer } from '../../hw/virtio/queue-run.ts'
import { QueueRun } from '../../hw/virtio/queue-run.ts'
import { RING, RING_ANSWERS } from '../../hw/virtio/ring-rules.ts'
import type { SplitRing } from '../../hw/virtio/split-ring.ts'

/**
 * What a queue does. `stopped`: no kick came since it was set up; `runs`; `waits` for the answer to a miss;
 * `starved`: there was no answer that helped, and the next kick or UPDATE tries again; `failed` until it is set up anew.
 */
export type QueueState = 'stopped' | 'runs' | 'waits' | 'starved' | 'failed'

/** Where a ring is, as SET_VRING_ADDR says. */
export interface VringAddresses {
  readonly desc: bigint
  readonly avail: bigint
  readonly used: bigint
}

/** A bus address that a queue waits for. */
export interface Awaited {
  readonly iova: bigint
  readonly access: number
  /** It is no part of the ring itself. */
  readonly isBuffer: boolean
}

/** A queue: its ring, the three events that belong to it, and what it does. -1 is no descriptor. */
export class Vring {
  readonly index: number
  readonly ring: SplitRing
  readonly #run: QueueRun
  entries = 0
  addresses: VringAddresses | undefined
  kickFd = -1
  callFd = -1
  errFd = -1
  isEnabled = false
  /** A kick came, or something else that makes it worth a look. */
  hasWork = false
  state: QueueState = 'stopped'
  awaited: Awaited | undefined
  /** The rule that it failed by. */
  fault = ''
  /** Whether the ring was entered since it started: then its used index is known. */
  #isEntered = false

  constructor(index: number, ring: SplitRing, server: ChainServer) {
    this.index = index
    this.ring = ring
    this.#run = new QueueRun(ring, server)
  }

  /** Whether its turn may come now. */
  get isServed(): boolean {
    return this.isEnabled && this.state === 'runs'
  }

  /** Whether its place and its size are fixed. */
  get isRunning(): boolean {
    return this.state !== 'stopped' && this.state !== 'failed'
  }

  /** The guest kicked: the ring starts with the first time. Answers false where it is not set up. */
  start(hasEventIndex: boolean): boolean {
    const { addresses, entries } = this
    if (addresses === undefined) return false
    const { desc, avail, used } = addresses
    this.state = 'runs'
    return this.ring.setUp({ entries, descriptors: desc, available: avail, used, hasEventIndex })
  }

  stop(): void {
    this.state = 'stopped'
    this.awaited = undefined
    this.hasWork = false
    this.#isEntered = false
  }

  fail(rule: string): void {
    this.state = 'failed'
    this.fault = rule
    this.awaited = undefined
  }

  /** What the run before says of interrupts, and of chains served. */
  get wantsCall(): boolean {
    return this.#run.wantsCall
  }

  get served(): number {
    return this.#run.served
  }

  /** Serves up to `budget` chains. `pending` and `failed` change the state elsewhere. */
  go(budget: number): 'idle' | 'more' | 'pending' | 'failed' {
    if (!this.#isEntered) {
      const answer = this.ring.start()
      if (answer === RING.pending) return 'pending'
      if (answer !== RING.taken) {
        this.fault = RING_ANSWERS[answer]?.rule ?? ''
        return 'failed'
      }
      this.#isEntered = true
    }
    const end = this.#run.go(budget)
    if (end === 'failed') this.fault = this.#run.fault
    // If nobody answers, the guest's next kick tries again: so it must know that kicks are wanted.
    if (end === 'pending' && this.awaited?.isBuffer === true) this.ring.enableNotify()
    return end
  }
}
