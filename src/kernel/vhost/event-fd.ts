import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'
import type { FileTarget, IoctlRefusal } from '../files.ts'
import { Waiters } from './waiters.ts'

/** An eventfd: a counter that files of processes and queues of vhost share. (Linux v6.1 fs/eventfd.c) */
export class EventFd implements FileTarget {
  readonly kind = 'eventfd'
  readonly #count: Held<bigint>
  /** Who waits for it. */
  readonly waiters: Waiters

  constructor(journal: Journal, number: number, count: bigint) {
    this.#count = new Held(journal, `eventfd ${number}`, count, (n) => Number(BigInt.asUintN(32, n)))
    this.waiters = new Waiters(journal, `eventfd ${number}`)
  }

  get count(): bigint {
    return this.#count.value
  }

  /** Adds 1, and lets those run who wait. */
  signal(): void {
    this.#count.set(this.count + 1n)
    this.waiters.signal()
  }

  /** The counter, which is 0 then. */
  take(): bigint {
    const { count } = this
    this.#count.set(0n)
    return count
  }

  released(): void {}

  refusal(): IoctlRefusal {
    return 'unknown'
  }
}
