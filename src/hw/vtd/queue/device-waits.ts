import { Held } from '../../../bits/held.ts'
import { type Journal, keyOf } from '../../../bits/state.ts'
import type { DeviceTlbEnd } from '../ports.ts'
import type { Descriptor } from './descriptors.ts'

export type Wait = Extract<Descriptor, { kind: 'wait' }>

/** An invalidation request that a device has not completed. */
interface Outstanding {
  readonly number: number
  readonly source: number
  /** It never will. */
  readonly isLost: boolean
}
interface WaitingWait {
  readonly number: number
  readonly wait: Wait
}
interface Pending {
  readonly next: number
  readonly requests: readonly Outstanding[]
  readonly waits: readonly WaitingWait[]
}

const NOTHING: Pending = { next: 1, requests: [], waits: [] }

/** For the hash of the state: which requests and waits are pending. */
const hashOf = ({ next, requests, waits }: Pending): number =>
  requests.length + waits.length === 0
    ? 0
    : keyOf(next, ...requests.flatMap((r) => [r.number, r.source]), ...waits.map((w) => w.number))

/** Invalidation requests that devices have not completed yet, and the wait descriptors that wait for them. */
export class DeviceWaits {
  readonly #pending: Held<Pending>

  constructor(journal: Journal, name: string) {
    this.#pending = new Held(journal, `vtd-device-waits ${name}`, NOTHING, hashOf)
  }

  get isEmpty(): boolean {
    const { requests, waits } = this.#pending.value
    return requests.length === 0 && waits.length === 0
  }

  /** A wait with a fence is among those that wait: nothing behind it begins. */
  get isFenced(): boolean {
    return this.#pending.value.waits.some(({ wait }) => wait.isFence)
  }

  /** Requests of a device that it has not completed. */
  countOf(source: number): number {
    return this.#pending.value.requests.filter((r) => r.source === source).length
  }

  /** A request was sent. */
  sent(source: number, end: DeviceTlbEnd): void {
    if (end === 'done') return
    const { next, requests, waits } = this.#pending.value
    const request = { number: next, source, isLost: end !== 'late' }
    this.#pending.set({ next: next + 1, requests: [...requests, request], waits })
  }

  /** A wait descriptor came. Answers whether it can be carried out at once. */
  add(wait: Wait): boolean {
    if (this.isEmpty) return true
    const { next, requests, waits } = this.#pending.value
    this.#pending.set({ next: next + 1, requests, waits: [...waits, { number: next, wait }] })
    return false
  }

  /** The oldest request of a device that is late is completed; false where there is none. */
  complete(source: number): boolean {
    const { next, requests, waits } = this.#pending.value
    const at = requests.findIndex((r) => r.source === source && !r.isLost)
    if (at < 0) return false
    this.#pending.set({ next, requests: requests.toSpliced(at, 1), waits })
    return true
  }

  /** Takes the oldest wait whose requests are all completed; undefined where there is none. */
  takeReady(): Wait | undefined {
    const { next, requests, waits } = this.#pending.value
    const [first, ...rest] = waits
    if (first === undefined || requests.some((r) => r.number < first.number)) return undefined
    this.#pending.set({ next, requests, waits: rest })
    return first.wait
  }

  /** Requests that are never completed run into their time-out, with all waits. Answers the device of the first one, or -1. */
  timeOut(): number {
    const { next, requests } = this.#pending.value
    const lost = requests.find((r) => r.isLost)
    if (lost === undefined) return -1
    this.#pending.set({ next, requests: requests.filter((r) => !r.isLost), waits: [] })
    return lost.source
  }

  clear(): void {
    if (!this.isEmpty) this.#pending.set(NOTHING)
  }
}
