import { type EventCount, OTHER_NAMES } from './log-summary.ts'

/** Names with their counts, in the order in which they first occurred; names beyond a limit are one. */
export class NameCounts {
  readonly #byName = new Map<string, { count: number; firstLine: number }>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  add(name: string, line: number): void {
    const isNew = !this.#byName.has(name)
    const key = isNew && this.#byName.size >= this.#most ? OTHER_NAMES : name
    const counted = this.#byName.get(key)
    if (counted === undefined) this.#byName.set(key, { count: 1, firstLine: line })
    else counted.count++
  }

  all(): EventCount[] {
    return [...this.#byName].map(([name, counted]) => ({ name, ...counted }))
  }
}
