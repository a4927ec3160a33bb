/** Rows of a node. */
export const FANOUT = 32
const FEW_NODES = 4

// A node is a run of doubles, and its number is where they begin: first, for each row, the upper 53 bits of where its
// range starts (or the first range of its child). Behind them, counted in doubles or in the int32 of the same memory:
/** Upper 53 bits of the greatest last byte of the rows up to each. */
export const TOPS = 32
/** Slot or child of each row, as every other int32. */
export const LINKS = TOPS * 4
/** Beside them the lower 11 bits of the greatest last byte. */
export const LOWS = LINKS + 1
/** How many rows are used. */
const ROWS = TOPS * 6
const STRIDE = FANOUT * 3 + 2

const NONE = -1

/** What stands in rows that are not used: greater than every key. */
const NO_KEY = Number.POSITIVE_INFINITY

/**
 * Nodes of an `IotlbIndex` in one buffer, so that what a search needs lies together. Row r of node n: its start is
 * `keys[n + r]`, its greatest last byte `keys[n + r + TOPS]` and `words[2 * (n + r) + LOWS]`, its link
 * `words[2 * (n + r) + LINKS]`.
 */
export class IotlbNodes {
  keys = new Float64Array(FEW_NODES * STRIDE)
  /** The same memory. */
  words = new Int32Array(this.keys.buffer)
  #made = 0
  /** The first node that was given back; its first link is the next one. */
  #spare = NONE

  /** How many rows of a node are used. */
  rowsOf(node: number): number {
    return this.words[2 * node + ROWS] as number
  }

  /** Rows from one on have a greatest last byte that is not below this. */
  raise(node: number, from: number, top: number, topLow: number): void {
    const { keys, words } = this
    const end = node + (words[2 * node + ROWS] as number)
    for (let at = node + from; at < end; at++) {
      const was = keys[at + TOPS] as number
      if (was > top || (was === top && (words[2 * at + LOWS] as number) >= topLow)) return
      keys[at + TOPS] = top
      words[2 * at + LOWS] = topLow
    }
  }

  /** Room for a row at a place of a node that is not full. Rows move as doubles, links as well: none is a NaN. */
  openRow(node: number, row: number): void {
    const { keys, words } = this
    const rows = words[2 * node + ROWS] as number
    const to = node + row
    for (let at = node + rows; at > to; at--) {
      keys[at] = keys[at - 1] as number
      keys[at + TOPS] = keys[at + (TOPS - 1)] as number
      keys[at + LINKS / 2] = keys[at + (LINKS / 2 - 1)] as number
    }
    words[2 * node + ROWS] = rows + 1
  }

  closeRow(node: number, row: number): void {
    const { keys, words } = this
    const rows = (words[2 * node + ROWS] as number) - 1
    const end = node + rows
    for (let at = node + row; at < end; at++) {
      keys[at] = keys[at + 1] as number
      keys[at + TOPS] = keys[at + (TOPS + 1)] as number
      keys[at + LINKS / 2] = keys[at + (LINKS / 2 + 1)] as number
    }
    keys[end] = NO_KEY
    keys[end + TOPS] = NO_KEY
    words[2 * node + ROWS] = rows
  }

  /** `rows` rows of a node from one on stand behind the last row of another, too. */
  copyRows(node: number, from: number, rows: number, to: number): void {
    const { keys, words } = this
    const end = to + this.rowsOf(to)
    keys.copyWithin(end, node + from, node + from + rows)
    keys.copyWithin(end + TOPS, node + from + TOPS, node + from + TOPS + rows)
    keys.copyWithin(end + LINKS / 2, node + from + LINKS / 2, node + from + LINKS / 2 + rows)
    words[2 * to + ROWS] = this.rowsOf(to) + rows
  }

  /** There are no nodes. */
  clear(): void {
    this.#spare = NONE
    this.#made = 0
  }

  /** A node without rows. */
  take(): number {
    let node = this.#spare
    if (node !== NONE) this.#spare = this.words[2 * node + LINKS] as number
    else {
      node = this.#made
      this.#made += STRIDE
      if (this.#made > this.keys.length) this.#grow()
    }
    this.keys.fill(NO_KEY, node, node + TOPS * 2)
    this.words[2 * node + ROWS] = 0
    return node
  }

  free(node: number): void {
    this.words[2 * node + LINKS] = this.#spare
    this.#spare = node
  }

  /** A node keeps its first rows only. */
  cut(node: number, rows: number): void {
    this.keys.fill(NO_KEY, node + rows, node + TOPS)
    this.keys.fill(NO_KEY, node + rows + TOPS, node + TOPS * 2)
    this.words[2 * node + ROWS] = rows
  }

  #grow(): void {
    const grown = new Float64Array(this.keys.length * 2)
    grown.set(this.keys)
    this.keys = grown
    this.words = new Int32Array(grown.buffer)
  }
}
