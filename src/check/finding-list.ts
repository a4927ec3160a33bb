import type { Finding } from './rule.ts'

type Open = { -readonly [K in keyof Finding]: Finding[K] }

/** What makes two findings the same: the rule, the place, the records that led to it, and what came of it. */
export interface FindingKey {
  readonly rule: string
  readonly window: number
  readonly entry: number
  readonly by: number
  readonly ended: number
  readonly outcome?: number
}

const nameOf = (key: FindingKey): string =>
  `${key.rule}|${key.window}|${key.entry}|${key.by}|${key.ended}|${key.outcome ?? 0}`

const isSame = (a: FindingKey | undefined, b: FindingKey): boolean =>
  a !== undefined &&
  a.entry === b.entry &&
  a.by === b.by &&
  a.ended === b.ended &&
  a.window === b.window &&
  a.rule === b.rule &&
  a.outcome === b.outcome

/** Findings of a checker, at most so many: the same one again is counted, and what is too many is only counted. */
export class FindingList {
  readonly found: Open[] = []
  /** Findings that were not kept because there are too many. */
  dropped = 0
  /** Uses and changes that could not be judged, because a log does not show the value. */
  skipped = 0
  readonly #max: number
  readonly #known = new Map<string, Open>()
  // What `again` looked at last: refused DMAs come again and again.
  #key: FindingKey | undefined
  #name = ''
  #last: Open | undefined
  #wasNew = false

  constructor(max = 1000) {
    this.#max = max
  }

  /** Counts a finding that is known already, or one too many. False where it is new: then `add` must follow. */
  again(key: FindingKey): boolean {
    if (!isSame(this.#key, key)) {
      this.#key = key
      this.#name = nameOf(key)
      this.#last = this.#known.get(this.#name)
    }
    this.#wasNew = false
    if (this.#last !== undefined) {
      this.#last.times++
      return true
    }
    if (this.found.length < this.#max) return false
    this.dropped++
    return true
  }

  /** Whether a finding is there already; does not count it. */
  isKnown(key: FindingKey): boolean {
    return this.#known.has(nameOf(key))
  }

  /** The finding that `again` just called new. */
  add(finding: Omit<Finding, 'times'>): void {
    const open: Open = { ...finding, times: 1 }
    this.found.push(open)
    this.#known.set(this.#name, open)
    this.#last = open
    this.#wasNew = true
  }

  /** Takes back what the last `again` counted or `add` added: the next record showed that it cannot be judged. */
  retract(): void {
    this.skipped++
    if (this.#last === undefined) this.dropped--
    else if (this.#wasNew) {
      this.found.pop()
      this.#known.delete(this.#name)
      this.#last = undefined
    } else this.#last.times--
  }
}
