/** How many events of one kind, and the line of the first. */
export interface ReasonCount {
  readonly why: string
  readonly count: number
  readonly firstLine: number
}

/** Different reasons that are kept; what comes later counts as another one. */
const KEPT_MAX = 200
const OTHERS = 'other reasons'

/** Counts events by why they are so, in the order in which the reasons came up. */
export class Reasons {
  readonly #byWhy = new Map<string, { count: number; firstLine: number }>()

  add(why: string, line: number): void {
    const counted = this.#byWhy.get(why)
    if (counted !== undefined) {
      counted.count++
      return
    }
    const key = this.#byWhy.size < KEPT_MAX ? why : OTHERS
    const others = this.#byWhy.get(key)
    if (others === undefined) this.#byWhy.set(key, { count: 1, firstLine: line })
    else others.count++
  }

  get total(): number {
    let total = 0
    for (const { count } of this.#byWhy.values()) total += count
    return total
  }

  all(): ReasonCount[] {
    return [...this.#byWhy].map(([why, counted]) => ({ why, ...counted }))
  }
}
