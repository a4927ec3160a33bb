import { Held } from '../../bits/held.ts'
import type { Journal } from '../../bits/state.ts'

/** Who does something when a file is signalled. */
export interface EventWaiter {
  signalled(): void
}

/** Those who wait for a file, in the order in which they came. */
export class Waiters {
  readonly #waiters: Held<readonly EventWaiter[]>

  constructor(journal: Journal, name: string) {
    this.#waiters = new Held<readonly EventWaiter[]>(journal, `${name} waiters`, [], (w) => w.length)
  }

  add(waiter: EventWaiter): void {
    this.#waiters.set([...this.#waiters.value, waiter])
  }

  remove(waiter: EventWaiter): void {
    this.#waiters.set(this.#waiters.value.filter((w) => w !== waiter))
  }

  /** Lets all of them run. */
  signal(): void {
    for (const waiter of this.#waiters.value) waiter.signalled()
  }
}
