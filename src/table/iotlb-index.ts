import { assert } from '../bits/errors.ts'
import { FANOUT, IotlbNodes, LOW_BITS, LOW_MASK } from './iotlb-nodes.ts'
import { type IotlbSlots, LAST_HI, LAST_LO, NUMBER, SLOT_LANES, START_HI, START_LO } from './iotlb-slots.ts'

const FEW_ROWS = FANOUT / 4
const JOINED_ROWS_MAX = (FANOUT * 3) / 4
/** Enough for 2^21 rows in nodes that hold a few each. */
const LEVELS_MAX = 16
const NONE = -1

/** A word is compared by its upper 53 bits, a double, and where those are equal by the lower 11. */
const TWO_21 = 2 ** (32 - LOW_BITS)
const upperOf = (hi: number, lo: number): number => (hi >>> 0) * TWO_21 + (lo >>> LOW_BITS)

/** How many rows of a node have a key below one; 31 at most. */
function rowsBelow(keys: Float64Array, base: number, key: number): number {
  let at = base
  if ((keys[at + 15] as number) < key) at += 16
  if ((keys[at + 7] as number) < key) at += 8
  if ((keys[at + 3] as number) < key) at += 4
  if ((keys[at + 1] as number) < key) at += 2
  if ((keys[at] as number) < key) at += 1
  return at - base
}

/** How many rows of a node have a key that is not above one. */
function rowsUpTo(keys: Float64Array, base: number, key: number): number {
  let at = base
  if ((keys[at + 15] as number) <= key) at += 16
  if ((keys[at + 7] as number) <= key) at += 8
  if ((keys[at + 3] as number) <= key) at += 4
  if ((keys[at + 1] as number) <= key) at += 2
  if ((keys[at] as number) <= key) at += 1
  if ((keys[at] as number) <= key) at += 1
  return at - base
}

/**
 * Ranges of 64-bit words that may overlap, in the order of their starts (equal ones in the order of their numbers).
 *
 * A B-tree in typed arrays. Beside the start of its range, each row has the greatest last byte of all rows of its node up
 * to it. That never falls within a node, so that the first range which reaches a byte or goes beyond it is found by a
 * binary search a level, however the ranges overlap. Inner nodes have the same rows: the start of the first range of a
 * child, and the greatest last byte of the children up to it.
 *
 * `seek` stands at a row; `insert` and `remove` change the tree where it stands and leave it standing nowhere.
 */
export class IotlbIndex {
  readonly #slots: IotlbSlots
  readonly #nodes = new IotlbNodes()
  #root = 0
  /** Levels of inner nodes above the leaves, which are level 0. */
  #height = 0
  // Where `seek` stands: node and row of each level.
  readonly #pathNodes = new Int32Array(LEVELS_MAX)
  readonly #pathRows = new Int32Array(LEVELS_MAX)

  constructor(slots: IotlbSlots) {
    this.#slots = slots
  }

  /** Stands at the first range whose last byte is not below a word; answers its slot, or -1. */
  seek(hi: number, lo: number): number {
    const upper = upperOf(hi, lo)
    const low = lo & LOW_MASK
    const root = this.#root
    const last = root * FANOUT + (this.#nodes.rows[root] as number) - 1
    if (last < root * FANOUT) return NONE
    const top = this.#nodes.tops[last] as number
    if (top < upper || (top === upper && ((this.#nodes.links[last] as number) & LOW_MASK) < low)) return NONE
    return this.#descend(this.#height, root, upper, low)
  }

  /** Goes on from there to the next range whose last byte is not below a word; answers its slot, or -1. */
  seekNext(hi: number, lo: number): number {
    const upper = upperOf(hi, lo)
    const low = lo & LOW_MASK
    for (let level = 0; level <= this.#height; level++) {
      const node = this.#pathNodes[level] as number
      const rows = this.#nodes.rows[node] as number
      for (let row = (this.#pathRows[level] as number) + 1; row < rows; row++) {
        const at = node * FANOUT + row
        const own = this.#ownUpper(level, at)
        if (own < upper || (own === upper && this.#ownLow(level, at) < low)) continue
        this.#pathRows[level] = row
        const link = (this.#nodes.links[at] as number) >>> LOW_BITS
        return level === 0 ? link : this.#descend(level - 1, link, upper, low)
      }
    }
    return NONE
  }

  /** Stands at the range of a slot, which is in the tree. */
  seekSlot(slot: number): void {
    const { words } = this.#slots
    const at = slot * SLOT_LANES
    const upper = upperOf(words[at + START_HI] as number, words[at + START_LO] as number)
    let node = this.#root
    for (let level = this.#height; level >= 0; level--) {
      const row = this.#rowsNotAfter(level, node, upper, slot) - 1
      assert(row >= 0, 'the first range of a child is known')
      this.#pathNodes[level] = node
      this.#pathRows[level] = row
      node = (this.#nodes.links[node * FANOUT + row] as number) >>> LOW_BITS
    }
    assert(node === slot, 'the range of the slot is in the tree')
  }

  /** Whether a range before the one where `seek` stands has its last byte at or behind a word that begins a page. */
  isReachedBefore(hi: number, lo: number): boolean {
    const upper = upperOf(hi, lo)
    for (let level = this.#height; level >= 0; level--) {
      const row = this.#pathRows[level] as number
      const at = (this.#pathNodes[level] as number) * FANOUT + row
      if (row > 0 && (this.#nodes.tops[at - 1] as number) >= upper) return true
    }
    return false
  }

  /** Whether the range after the one where `seek` stands starts at or below a word, or so close behind that it may. */
  mayStartNext(hi: number, lo: number): boolean {
    const upper = upperOf(hi, lo)
    for (let level = 0; level <= this.#height; level++) {
      const node = this.#pathNodes[level] as number
      const row = (this.#pathRows[level] as number) + 1
      if (row < (this.#nodes.rows[node] as number))
        return (this.#nodes.starts[node * FANOUT + row] as number) <= upper
    }
    return false
  }

  /** The range of a slot comes in. Answers whether it may reach one that stands behind it. */
  insert(slot: number): boolean {
    const { words } = this.#slots
    const at = slot * SLOT_LANES
    const start = upperOf(words[at + START_HI] as number, words[at + START_LO] as number)
    const top = upperOf(words[at + LAST_HI] as number, words[at + LAST_LO] as number)
    const topLow = (words[at + LAST_LO] as number) & LOW_MASK
    if (this.#nodes.rows[this.#root] === FANOUT) this.#growRoot()
    let node = this.#root
    let reaches = false
    for (let level = this.#height; level > 0; level--) {
      let row = Math.max(this.#rowsNotAfter(level, node, start, slot) - 1, 0)
      let child = (this.#nodes.links[node * FANOUT + row] as number) >>> LOW_BITS
      if (this.#nodes.rows[child] === FANOUT) {
        this.#split(
          level - 1,
          node,
          row,
          start >= (this.#nodes.starts[child * FANOUT + FANOUT - 1] as number),
        )
        row = Math.max(this.#rowsNotAfter(level, node, start, slot) - 1, 0)
        child = (this.#nodes.links[node * FANOUT + row] as number) >>> LOW_BITS
      }
      const base = node * FANOUT
      if (start < (this.#nodes.starts[base + row] as number)) this.#nodes.starts[base + row] = start
      this.#nodes.raise(node, row, top, topLow)
      // A row that is not used starts behind every word.
      if (row + 1 < FANOUT && (this.#nodes.starts[base + row + 1] as number) <= top) reaches = true
      node = child
    }
    const row = this.#rowsNotAfter(0, node, start, slot)
    const base = node * FANOUT
    this.#nodes.openRow(node, row)
    this.#nodes.starts[base + row] = start
    const before = row === 0 ? NONE : (this.#nodes.tops[base + row - 1] as number)
    const beforeLow = row === 0 ? 0 : (this.#nodes.links[base + row - 1] as number) & LOW_MASK
    const isTop = before < top || (before === top && beforeLow < topLow)
    this.#nodes.tops[base + row] = isTop ? top : before
    this.#nodes.links[base + row] = (slot << LOW_BITS) | (isTop ? topLow : beforeLow)
    this.#nodes.raise(node, row + 1, top, topLow)
    return reaches || (row + 1 < FANOUT && (this.#nodes.starts[base + row + 1] as number) <= top)
  }

  /** The range where `seek` stands goes. */
  remove(): void {
    const { words } = this.#slots
    const slot =
      (this.#nodes.links[
        (this.#pathNodes[0] as number) * FANOUT + (this.#pathRows[0] as number)
      ] as number) >>> LOW_BITS
    const at = slot * SLOT_LANES
    const top = upperOf(words[at + LAST_HI] as number, words[at + LAST_LO] as number)
    const topLow = (words[at + LAST_LO] as number) & LOW_MASK
    let level = 0
    // Nodes that have no other row go with it.
    while (level < this.#height && this.#nodes.rows[this.#pathNodes[level] as number] === 1) {
      this.#nodes.free(this.#pathNodes[level] as number)
      level++
    }
    const node = this.#pathNodes[level] as number
    const row = this.#pathRows[level] as number
    this.#nodes.closeRow(node, row)
    let isLower = this.#lower(level, node, row, top, topLow)
    for (let up = level + 1; isLower && up <= this.#height; up++) {
      isLower = this.#lower(up, this.#pathNodes[up] as number, this.#pathRows[up] as number, top, topLow)
    }
    for (let up = level, first = row; first === 0 && up < this.#height; ) {
      const start = this.#nodes.starts[(this.#pathNodes[up] as number) * FANOUT] as number
      up++
      first = this.#pathRows[up] as number
      this.#nodes.starts[(this.#pathNodes[up] as number) * FANOUT + first] = start
    }
    for (let low = level; low < this.#height; low++) {
      if ((this.#nodes.rows[this.#pathNodes[low] as number] as number) >= FEW_ROWS) break
      const parent = this.#pathNodes[low + 1] as number
      const place = this.#pathRows[low + 1] as number
      if (!this.#join(parent, place) && !(place > 0 && this.#join(parent, place - 1))) break
    }
    while (this.#height > 0 && this.#nodes.rows[this.#root] === 1) {
      const child = (this.#nodes.links[this.#root * FANOUT] as number) >>> LOW_BITS
      this.#nodes.free(this.#root)
      this.#root = child
      this.#height--
    }
  }

  /** All ranges go. */
  clear(): void {
    this.#nodes.clear()
    this.#root = 0
    this.#height = 0
  }

  /** From a node that has such a row down to the first range whose last byte is not below a word. */
  #descend(from: number, root: number, upper: number, low: number): number {
    const tops = this.#nodes.tops
    const links = this.#nodes.links
    let node = root
    for (let level = from; ; level--) {
      const base = node * FANOUT
      let row = rowsBelow(tops, base, upper)
      while (tops[base + row] === upper && ((links[base + row] as number) & LOW_MASK) < low) row++
      this.#pathNodes[level] = node
      this.#pathRows[level] = row
      node = (links[base + row] as number) >>> LOW_BITS
      if (level === 0) return node
    }
  }

  /** How many rows of a node are not after the range of a slot; `upper` is of its start. */
  #rowsNotAfter(level: number, node: number, upper: number, slot: number): number {
    const base = node * FANOUT
    let row = rowsUpTo(this.#nodes.starts, base, upper)
    while (
      row > 0 &&
      this.#nodes.starts[base + row - 1] === upper &&
      this.#isAfter(level, base + row - 1, slot)
    )
      row--
    return row
  }

  /** Whether a row whose start has the same upper bits as a slot's range comes after it. */
  #isAfter(level: number, at: number, slot: number): boolean {
    let other = (this.#nodes.links[at] as number) >>> LOW_BITS
    for (let down = level; down > 0; down--)
      other = (this.#nodes.links[other * FANOUT] as number) >>> LOW_BITS
    const { words } = this.#slots
    const [a, b] = [other * SLOT_LANES, slot * SLOT_LANES]
    const lowA = (words[a + START_LO] as number) & LOW_MASK
    const lowB = (words[b + START_LO] as number) & LOW_MASK
    if (lowA !== lowB) return lowA > lowB
    return (words[a + NUMBER] as number) >>> 0 > (words[b + NUMBER] as number) >>> 0
  }

  /** The greatest last byte of a row alone: of its range, or of its child. */
  #ownUpper(level: number, at: number): number {
    const link = (this.#nodes.links[at] as number) >>> LOW_BITS
    if (level > 0) return this.#nodes.tops[link * FANOUT + (this.#nodes.rows[link] as number) - 1] as number
    const { words } = this.#slots
    return upperOf(words[link * SLOT_LANES + LAST_HI] as number, words[link * SLOT_LANES + LAST_LO] as number)
  }

  #ownLow(level: number, at: number): number {
    const link = (this.#nodes.links[at] as number) >>> LOW_BITS
    if (level > 0)
      return (this.#nodes.links[link * FANOUT + (this.#nodes.rows[link] as number) - 1] as number) & LOW_MASK
    return (this.#slots.words[link * SLOT_LANES + LAST_LO] as number) & LOW_MASK
  }

  /**
   * A last byte is gone from before row `row` of a node, or from its child: counts the greatest ones of the rows again
   * as far as they may have been it. Answers whether the greatest of the node may have been it.
   */
  #lower(level: number, node: number, row: number, gone: number, goneLow: number): boolean {
    const base = node * FANOUT
    const end = base + (this.#nodes.rows[node] as number)
    let top = row === 0 ? NONE : (this.#nodes.tops[base + row - 1] as number)
    let topLow = row === 0 ? 0 : (this.#nodes.links[base + row - 1] as number) & LOW_MASK
    if (top > gone || (top === gone && topLow >= goneLow)) return false
    for (let at = base + row; at < end; at++) {
      const was = this.#nodes.tops[at] as number
      const link = this.#nodes.links[at] as number
      if (was > gone || (was === gone && (link & LOW_MASK) > goneLow)) return false
      const own = this.#ownUpper(level, at)
      const ownLow = this.#ownLow(level, at)
      if (own > top || (own === top && ownLow > topLow)) {
        top = own
        topLow = ownLow
      }
      this.#nodes.tops[at] = top
      this.#nodes.links[at] = (link & ~LOW_MASK) | topLow
    }
    return true
  }

  /** A full root becomes the only child of a new one. */
  #growRoot(): void {
    const child = this.#root
    const last = child * FANOUT + FANOUT - 1
    const root = this.#nodes.take()
    const at = root * FANOUT
    this.#nodes.starts[at] = this.#nodes.starts[child * FANOUT] as number
    this.#nodes.tops[at] = this.#nodes.tops[last] as number
    this.#nodes.links[at] = (child << LOW_BITS) | ((this.#nodes.links[last] as number) & LOW_MASK)
    this.#nodes.rows[root] = 1
    this.#root = root
    this.#height++
  }

  /** The full child at a row of a node gives half of its rows to a new one behind it, or one where rows come in order. */
  #split(level: number, parent: number, row: number, isLast: boolean): void {
    const next = this.#nodes.take()
    const child = (this.#nodes.links[parent * FANOUT + row] as number) >>> LOW_BITS
    const keep = isLast ? FANOUT - 1 : FANOUT / 2
    let top = NONE
    let topLow = 0
    for (let r = keep; r < FANOUT; r++) {
      const from = child * FANOUT + r
      const to = next * FANOUT + r - keep
      const link = this.#nodes.links[from] as number
      const own = this.#ownUpper(level, from)
      const ownLow = this.#ownLow(level, from)
      if (own > top || (own === top && ownLow > topLow)) {
        top = own
        topLow = ownLow
      }
      this.#nodes.starts[to] = this.#nodes.starts[from] as number
      this.#nodes.tops[to] = top
      this.#nodes.links[to] = (link & ~LOW_MASK) | topLow
    }
    this.#nodes.cut(child, keep)
    this.#nodes.rows[next] = FANOUT - keep
    this.#nodes.openRow(parent, row + 1)
    const at = parent * FANOUT + row
    this.#nodes.starts[at + 1] = this.#nodes.starts[next * FANOUT] as number
    this.#nodes.tops[at + 1] = this.#nodes.tops[at] as number
    this.#nodes.links[at + 1] = (next << LOW_BITS) | ((this.#nodes.links[at] as number) & LOW_MASK)
    // What the parent's row had may have come from the rows that went.
    const last = child * FANOUT + keep - 1
    top = this.#nodes.tops[last] as number
    topLow = (this.#nodes.links[last] as number) & LOW_MASK
    if (row > 0) {
      const before = this.#nodes.tops[at - 1] as number
      const beforeLow = (this.#nodes.links[at - 1] as number) & LOW_MASK
      if (before > top || (before === top && beforeLow > topLow)) {
        top = before
        topLow = beforeLow
      }
    }
    this.#nodes.tops[at] = top
    this.#nodes.links[at] = (child << LOW_BITS) | topLow
  }

  /** The children at a row of a node and behind it become one, where they are few rows. */
  #join(parent: number, row: number): boolean {
    if (row + 1 >= (this.#nodes.rows[parent] as number)) return false
    const at = parent * FANOUT + row
    const child = (this.#nodes.links[at] as number) >>> LOW_BITS
    const next = (this.#nodes.links[at + 1] as number) >>> LOW_BITS
    const rows = this.#nodes.rows[child] as number
    const more = this.#nodes.rows[next] as number
    if (rows + more > JOINED_ROWS_MAX) return false
    const top = this.#nodes.tops[child * FANOUT + rows - 1] as number
    const topLow = (this.#nodes.links[child * FANOUT + rows - 1] as number) & LOW_MASK
    for (let r = 0; r < more; r++) {
      const from = next * FANOUT + r
      const to = child * FANOUT + rows + r
      this.#nodes.starts[to] = this.#nodes.starts[from] as number
      this.#nodes.tops[to] = this.#nodes.tops[from] as number
      this.#nodes.links[to] = this.#nodes.links[from] as number
    }
    this.#nodes.rows[child] = rows + more
    this.#nodes.raise(child, rows, top, topLow)
    this.#nodes.tops[at] = this.#nodes.tops[at + 1] as number
    this.#nodes.links[at] = (child << LOW_BITS) | ((this.#nodes.links[at + 1] as number) & LOW_MASK)
    this.#nodes.closeRow(parent, row + 1)
    this.#nodes.free(next)
    return true
  }
}
