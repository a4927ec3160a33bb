import { assert, IommulatorError } from './errors.ts'

const ENTRY_CELLS = 3
const CHANGE = -1

/**
 * What makes a machine able to go back: an undo log of every cell that changed, and a hash of all cells that
 * is kept up to date with each write.
 *
 * Switched off (the default) it costs one test per write. Switched on it must be on before the first write,
 * or `hash` speaks of the changes since then only. The hash of a state does not depend on the way to it: two
 * machines whose cells hold the same values have the same hash, whatever they did.
 *
 * @example
 * const journal = new Journal()
 * journal.on = true
 * const mark = journal.mark()
 * cells.set(4, 7)
 * journal.rollback(mark) // cell 4 holds what it held before
 */
export class Journal {
  on = false
  /** How often `rollback` went back: what a reader derived from cells is stale when it moved. */
  rollbacks = 0
  #entries = new Int32Array(1024 * ENTRY_CELLS)
  #used = 0
  readonly #stores: Cells[] = []
  #changes: { undo: () => void; key: number; before: number; after: number }[] = []
  #hashHi = 0
  #hashLo = 0
  readonly #maxEntries: number

  /** @param maxEntries undo entries that are kept at most; past it a write throws ERR_STATE_LIMIT */
  constructor(maxEntries = 64 * 1024 * 1024) {
    this.#maxEntries = maxEntries
  }

  /** Position in the undo log; give it to `rollback`. */
  mark(): number {
    return this.#used
  }

  /** 64 bits over all cells and declared changes, as 16 hexadecimal digits. */
  get hash(): string {
    const part = (n: number) => (n >>> 0).toString(16).padStart(8, '0')
    return part(this.#hashHi) + part(this.#hashLo)
  }

  adopt(store: Cells): number {
    this.#stores.push(store)
    return this.#stores.length - 1
  }

  note(store: number, key: number, index: number, before: number, after: number): void {
    this.#push(store, index, before)
    this.#mix(key, index, before, -1)
    this.#mix(key, index, after, 1)
  }

  /**
   * A change that is not a cell (an object appears, a map gains a key): how to take it back, and what it does
   * to the hash (`key` says what changed, `before` and `after` are its values as numbers).
   */
  change(key: number, before: number, after: number, undo: () => void): void {
    if (!this.on) return
    this.#push(CHANGE, this.#changes.length, 0)
    this.#changes.push({ undo, key, before, after })
    this.#mix(key, CHANGE, before, -1)
    this.#mix(key, CHANGE, after, 1)
  }

  /** Takes back everything since a mark, newest first. */
  rollback(mark: number): void {
    assert(mark >= 0 && mark <= this.#used, 'the mark lies in the undo log')
    const on = this.on
    this.on = false
    this.rollbacks++
    while (this.#used > mark) {
      this.#used--
      const at = this.#used * ENTRY_CELLS
      const store = this.#entries[at] as number
      const index = this.#entries[at + 1] as number
      if (store === CHANGE) {
        const change = this.#changes.pop()
        assert(change !== undefined && this.#changes.length === index, 'changes are undone in order')
        this.#mix(change.key, CHANGE, change.after, -1)
        this.#mix(change.key, CHANGE, change.before, 1)
        change.undo()
        continue
      }
      const cells = this.#stores[store]
      assert(cells !== undefined, 'the store of an undo entry exists')
      const before = this.#entries[at + 2] as number
      this.#mix(cells.key, index, cells.get(index), -1)
      this.#mix(cells.key, index, before, 1)
      cells.restore(index, before)
    }
    this.on = on
  }

  #push(store: number, index: number, before: number): void {
    let at = this.#used * ENTRY_CELLS
    if (at + ENTRY_CELLS > this.#entries.length) {
      if (this.#used >= this.#maxEntries) {
        throw new IommulatorError('ERR_STATE_LIMIT', `the undo log is full (${this.#maxEntries} changes)`)
      }
      const grown = new Int32Array(this.#entries.length * 2)
      grown.set(this.#entries)
      this.#entries = grown
      at = this.#used * ENTRY_CELLS
    }
    this.#entries[at] = store
    this.#entries[at + 1] = index
    this.#entries[at + 2] = before
    this.#used++
  }

  /** Adds (+1) or takes away (-1) one cell; a cell that holds 0 counts as absent. */
  #mix(key: number, index: number, value: number, sign: 1 | -1): void {
    if (value === 0) return
    let h = Math.imul(key ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(index + 0x7f4a_7c15, 0xc2b2_ae35)
    h = Math.imul(h ^ (h >>> 15), 0x2c1b_3c6d) ^ Math.imul(value, 0x297a_2d39)
    h = Math.imul(h ^ (h >>> 12), 0x846c_a68b)
    const g = Math.imul(h ^ (h >>> 16) ^ Math.imul(value ^ key, 0x1b87_3593), 0xcc9e_2d51)
    this.#hashLo = (this.#hashLo + sign * h) | 0
    this.#hashHi = (this.#hashHi + sign * (g ^ (g >>> 13))) | 0
  }
}

/**
 * Int32 cells that a machine can change: written through `set` only, so that the journal sees it.
 *
 * `key` stands for the cells in the hash. It must not depend on the order in which stores were made: derive it
 * from what they are (`keyOf('tce', liobn)`).
 */
export class Cells {
  readonly key: number
  data: Int32Array
  readonly #journal: Journal
  readonly #id: number

  constructor(journal: Journal, key: number, length = 0) {
    this.key = key
    this.data = new Int32Array(length)
    this.#journal = journal
    this.#id = journal.adopt(this)
  }

  get length(): number {
    return this.data.length
  }

  get(index: number): number {
    return this.data[index] as number
  }

  set(index: number, value: number): void {
    const before = this.data[index] as number
    const now = value | 0
    if (before === now) return
    if (this.#journal.on) {
      assert(before !== undefined, 'the cell exists')
      this.#journal.note(this.#id, this.key, index, before, now)
    }
    this.data[index] = now
  }

  /** Cells [from, end) become `value`. One copy where nobody keeps an undo log. */
  fill(value: number, from: number, end: number): void {
    if (!this.#journal.on) this.data.fill(value, from, end)
    else for (let i = from; i < end; i++) this.set(i, value)
  }

  /** At least `length` cells; new ones hold 0, which the hash does not see. */
  ensure(length: number): void {
    if (length <= this.data.length) return
    const grown = new Int32Array(Math.max(length, this.data.length * 2, 16))
    grown.set(this.data)
    this.data = grown
  }

  /** For the journal only: a value comes back. */
  restore(index: number, value: number): void {
    this.data[index] = value
  }
}

/** A hash key from what a store is: words and numbers, in order. */
export function keyOf(...parts: readonly (string | number)[]): number {
  let h = 0x811c_9dc5 | 0
  for (const part of parts) {
    const text = String(part)
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x0100_0193)
    h = Math.imul(h ^ 0x2f, 0x0100_0193)
  }
  return h
}
