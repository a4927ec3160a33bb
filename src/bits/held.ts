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
  /** What the state hash sees of the value; undefined where nobody has asked. */
  #hash: number | undefined

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
    this.#value = value
    if (!this.#journal.on) {
      this.#hash = undefined
      return
    }
    const hashBefore = this.#hash ?? this.#hashOf(before)
    const hash = this.#hashOf(value)
    this.#hash = hash
    this.#journal.change(this.#key, hashBefore, hash, () => {
      this.#value = before
      this.#hash = hashBefore
    })
  }
}
