import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { FileTarget, IoctlRefusal } from '../files.ts'

/** Who does something when an eventfd is signalled. */
export interface EventWaiter {
  signalled(): void
}

/** An eventfd: a counter that files of processes and queues of vhost share. (Linux v6.1 fs/eventfd.c) */
export class EventFd implements FileTarget {
  readonly kind = 'eventfd'
  readonly #count: Held<bigint>
  readonly #waiters: Held<readonly EventWaiter[]>

  constructor(journal: Journal, number: number, count: bigint) {
    this.#count = new Held(journal, `eventfd ${number}`, count, (n) => Number(BigInt.asUintN(32, n)))
    this.#waiters = new Held<readonly EventWaiter[]>(
      journal,
      `eventfd ${number} waiters`,
      [],
      (w) => w.length,
    )
  }

  get count(): bigint {
    return this.#count.value
  }

  /** Adds 1, and lets those run who wait. */
  signal(): void {
    this.#count.set(this.count + 1n)
    for (const waiter of this.#waiters.value) waiter.signalled()
  }

  /** The counter, which is 0 then. */
  take(): bigint {
    const { count } = this
    this.#count.set(0n)
    return count
  }

  watch(waiter: EventWaiter): void {
    this.#waiters.set([...this.#waiters.value, waiter])
  }

  unwatch(waiter: EventWaiter): void {
    this.#waiters.set(this.#waiters.value.filter((w) => w !== waiter))
  }

  released(): void {}

  refusal(): IoctlRefusal {
    return 'unknown'
  }
}
