import { type Journal, keyOf } from './state.ts'

/**
 * A value that an undo log can take back: replaced as a whole by `set`, never changed inside.
 *
 * For the few parts of a state that are no numbers: lists of windows, properties of a node, files, named
 * buffers. `hashOf` says what of the value the state hash sees.
 */
export class Held<T> {
  readonly #journal: Journal
  readonly #key: number
  readonly #hashOf: (value: T) => number
  #value: T

  constructor(journal: Journal, name: string, value: T, hashOf: (value: T) => number) {
    this.#journal = journal
    this.#key = keyOf('held', name)
    this.#hashOf = hashOf
    this.#value = value
  }

  get value(): T {
    return this.#value
  }

  set(value: T): void {
    const before = this.#value
    if (this.#journal.on) {
      this.#journal.change(this.#key, this.#hashOf(before), this.#hashOf(value), () => {
        this.#value = before
      })
    }
    this.#value = value
  }
}
