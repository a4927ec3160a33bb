import { assert } from '../bits/errors.ts'
import { FANOUT, IotlbNodes, LINKS, LOWS, TOPS } from './iotlb-nodes.ts'
import { type IotlbSlots, LAST_HI, LAST_LO, NUMBER, SLOT_LANES, START_HI, START_LO } from './iotlb-slots.ts'

const FEW_ROWS = FANOUT / 4
const JOINED_ROWS_MAX = (FANOUT * 3) / 4
/** Enough for 2^21 rows in nodes that hold a few each. */
const LEVELS_MAX = 16
const NONE = -1

/** A word is compared by its upper 53 bits, a double, and where those are equal by the lower 11. */
const LOW_BITS = 11
const LOW_MASK = (1 << LOW_BITS) - 1
const TWO_21 = 2 ** (32 - LOW_BITS)
const upperOf = (hi: number, lo: number): number => (hi >>> 0) * TWO_21 + (lo >>> LOW_BITS)

/** How many of the 32 keys from a place on are below one; it is not all of them. */
function keysBelow(keys: Float64Array, from: number, key: number): number {
  let at = from
  if ((keys[at + 15] as number) < key) at += 16
  if ((keys[at + 7] as number) < key) at += 8
  if ((keys[at + 3] as number) < key) at += 4
  if ((keys[at + 1] as number) < key) at += 2
  if ((keys[at] as number) < key) at += 1
  return at - from
}

/** How many of the 32 keys from a place on are not above one. */
function keysUpTo(keys: Float64Array, from: number, key: number): number {
  let at = from
  if ((keys[at + 15] as number) <= key) at += 16
  if ((keys[at + 7] as number) <= key) at += 8
  if ((keys[at + 3] as number) <= key) at += 4
  if ((keys[at + 1] as number) <= key) at += 2
  if ((keys[at] as number) <= key) at += 1
  if ((keys[at] as number) <= key) at += 1
  return at - from
}

/**
 * Ranges of 64-bit words that may overlap, in the order of their starts (equal ones in the order of their numbers).
 *
 * A B-tree in typed arrays. Beside the start of its range, each row has the greatest last byte of all rows of its node up
 * to it. That never falls within a node, so that the first range which reaches a byte or goes beyond it is found by a
 * binary search a level, however the ranges overlap. Inner nodes have the same rows: the start of the first range of a
 * child, and the greatest last byte of the children up to it.
 *
 * `seek` and its kin stand at a row; `insert` and `remove` change the tree and leave it standing nowhere.
 */
export class IotlbIndex extends IotlbNodes {
  readonly #slots: IotlbSlots
  #root = this.take()
  /** Levels of inner nodes above the leaves, which are level 0. */
  #height = 0
  // Where `seek` stands: node and row of each level.
  readonly #pathNodes = new Int32Array(LEVELS_MAX)
  readonly #pathRows = new Int32Array(LEVELS_MAX)

  constructor(slots: IotlbSlots) {
    super()
    this.#slots = slots
  }

  /** Slot of the first range whose last byte is not below a word, or -1. Stands where it stood. */
  find(hi: number, lo: number): number {
    const upper = upperOf(hi, lo)
    const low = lo & LOW_MASK
    let node = this.#root
    if (!this.#reaches(upper, low)) return NONE
    const { keys, words } = this
    for (let level = this.#height; level >= 0; level--) {
      let at = node + keysBelow(keys, node + TOPS, upper)
      while (keys[at + TOPS] === upper && (words[2 * at + LOWS] as number) < low) at++
      node = words[2 * at + LINKS] as number
    }
    return node
  }

  /** Stands at the range that `find` finds; answers its slot, or -1. */
  seek(hi: number, lo: number): number {
    const upper = upperOf(hi, lo)
    const low = lo & LOW_MASK
    return this.#reaches(upper, low) ? this.#descend(this.#height, this.#root, upper, low) : NONE
  }

  /** Goes on from there to the next range whose last byte is not below a word; answers its slot, or -1. */
  seekNext(hi: number, lo: number): number {
    const upper = upperOf(hi, lo)
    const low = lo & LOW_MASK
    const { words } = this
    for (let level = 0; level <= this.#height; level++) {
      const node = this.#pathNodes[level] as number
      const rows = this.rowsOf(node)
      for (let row = (this.#pathRows[level] as number) + 1; row < rows; row++) {
        const own = this.#ownUpper(level, node + row)
        if (own < upper || (own === upper && this.#ownLow(level, node + row) < low)) continue
        this.#pathRows[level] = row
        const link = words[2 * (node + row) + LINKS] as number
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
      node = this.words[2 * (node + row) + LINKS] as number
    }
    assert(node === slot, 'the range of the slot is in the tree')
  }

  /** Whether a range before the one where it stands reaches its first byte. */
  isReachedBefore(): boolean {
    const slotWords = this.#slots.words
    const from = this.#slotHere() * SLOT_LANES
    const upper = upperOf(slotWords[from + START_HI] as number, slotWords[from + START_LO] as number)
    const low = (slotWords[from + START_LO] as number) & LOW_MASK
    for (let level = this.#height; level >= 0; level--) {
      const row = this.#pathRows[level] as number
      const before = (this.#pathNodes[level] as number) + row - 1
      if (row > 0 && this.#isTopNotBelow(before, upper, low)) return true
    }
    return false
  }

  /** Whether the range after the one where it stands starts at or below a word, or so close behind that it may. */
  mayStartNext(hi: number, lo: number): boolean {
    const upper = upperOf(hi, lo)
    for (let level = 0; level <= this.#height; level++) {
      const node = this.#pathNodes[level] as number
      const row = (this.#pathRows[level] as number) + 1
      if (row < this.rowsOf(node)) return (this.keys[node + row] as number) <= upper
    }
    return false
  }

  /** Whether what `insert` put in last may reach a range behind it, and whether one before it may reach it. */
  reachesNext = false
  isReached = false

  /** The range of a slot comes in. */
  insert(slot: number): void {
    const slotWords = this.#slots.words
    const from = slot * SLOT_LANES
    const start = upperOf(slotWords[from + START_HI] as number, slotWords[from + START_LO] as number)
    const top = upperOf(slotWords[from + LAST_HI] as number, slotWords[from + LAST_LO] as number)
    const topLow = (slotWords[from + LAST_LO] as number) & LOW_MASK
    if (this.rowsOf(this.#root) === FANOUT) this.#growRoot()
    let node = this.#root
    let row = 0
    let reachesNext = false
    let isReached = false
    for (let level = this.#height; ; level--) {
      row = this.#rowsNotAfter(level, node, start, slot)
      if (level === 0) break
      const at = row === 0 ? node : node + row - 1
      const child = this.words[2 * at + LINKS] as number
      if (this.rowsOf(child) === FANOUT) {
        this.#split(level - 1, node, at - node, start >= (this.keys[child + FANOUT - 1] as number))
        level++
        continue
      }
      const { keys } = this
      if (start < (keys[at] as number)) keys[at] = start
      this.raise(node, at - node, top, topLow)
      // A row that is not used starts behind every word.
      if (at - node + 1 < FANOUT && (keys[at + 1] as number) <= top) reachesNext = true
      if (row > 1 && (keys[at - 1 + TOPS] as number) >= start) isReached = true
      node = child
    }
    this.openRow(node, row)
    const { keys, words } = this
    const at = node + row
    const before = row === 0 ? NONE : (keys[at - 1 + TOPS] as number)
    const beforeLow = row === 0 ? 0 : (words[2 * (at - 1) + LOWS] as number)
    const isTop = before < top || (before === top && beforeLow < topLow)
    keys[at] = start
    keys[at + TOPS] = isTop ? top : before
    words[2 * at + LINKS] = slot
    words[2 * at + LOWS] = isTop ? topLow : beforeLow
    this.raise(node, row + 1, top, topLow)
    this.reachesNext = reachesNext || (row + 1 < FANOUT && (keys[at + 1] as number) <= top)
    this.isReached = isReached || before >= start
  }

  /** The range where it stands goes. */
  remove(): void {
    const slotWords = this.#slots.words
    const from = this.#slotHere() * SLOT_LANES
    const top = upperOf(slotWords[from + LAST_HI] as number, slotWords[from + LAST_LO] as number)
    const topLow = (slotWords[from + LAST_LO] as number) & LOW_MASK
    let level = 0
    // Nodes that have no other row go with it.
    while (level < this.#height && this.rowsOf(this.#pathNodes[level] as number) === 1) {
      this.free(this.#pathNodes[level] as number)
      level++
    }
    const node = this.#pathNodes[level] as number
    const row = this.#pathRows[level] as number
    this.closeRow(node, row)
    let isLower = this.#lower(level, node, row, top, topLow)
    for (let up = level + 1; isLower && up <= this.#height; up++) {
      isLower = this.#lower(up, this.#pathNodes[up] as number, this.#pathRows[up] as number, top, topLow)
    }
    for (let up = level, first = row; first === 0 && up < this.#height; ) {
      const start = this.keys[this.#pathNodes[up] as number] as number
      up++
      first = this.#pathRows[up] as number
      this.keys[(this.#pathNodes[up] as number) + first] = start
    }
    for (let low = level; low < this.#height; low++) {
      if (this.rowsOf(this.#pathNodes[low] as number) >= FEW_ROWS) break
      const parent = this.#pathNodes[low + 1] as number
      const place = this.#pathRows[low + 1] as number
      if (!this.#join(parent, place) && !(place > 0 && this.#join(parent, place - 1))) break
    }
    while (this.#height > 0 && this.rowsOf(this.#root) === 1) {
      const child = this.words[2 * this.#root + LINKS] as number
      this.free(this.#root)
      this.#root = child
      this.#height--
    }
  }

  /** All ranges go. */
  reset(): void {
    this.clear()
    this.#root = this.take()
    this.#height = 0
  }

  /** Whether some range has its last byte not below a word. */
  #reaches(upper: number, low: number): boolean {
    const rows = this.rowsOf(this.#root)
    if (rows === 0) return false
    return this.#isTopNotBelow(this.#root + rows - 1, upper, low)
  }

  #isTopNotBelow(at: number, upper: number, low: number): boolean {
    const top = this.keys[at + TOPS] as number
    return top > upper || (top === upper && (this.words[2 * at + LOWS] as number) >= low)
  }

  #slotHere(): number {
    return this.words[2 * ((this.#pathNodes[0] as number) + (this.#pathRows[0] as number)) + LINKS] as number
  }

  /** From a node that has such a row down to the first range whose last byte is not below a word. */
  #descend(from: number, top: number, upper: number, low: number): number {
    const { keys, words } = this
    let node = top
    for (let level = from; level >= 0; level--) {
      let at = node + keysBelow(keys, node + TOPS, upper)
      while (keys[at + TOPS] === upper && (words[2 * at + LOWS] as number) < low) at++
      this.#pathNodes[level] = node
      this.#pathRows[level] = at - node
      node = words[2 * at + LINKS] as number
    }
    return node
  }

  /** How many rows of a node are not after the range of a slot; `upper` is of its start. */
  #rowsNotAfter(level: number, node: number, upper: number, slot: number): number {
    const { keys } = this
    let row = keysUpTo(keys, node, upper)
    while (row > 0 && keys[node + row - 1] === upper && this.#isAfter(level, node + row - 1, slot)) row--
    return row
  }

  /** Whether a row whose start has the same upper bits as a slot's range comes after it. */
  #isAfter(level: number, at: number, slot: number): boolean {
    let other = this.words[2 * at + LINKS] as number
    for (let down = level; down > 0; down--) other = this.words[2 * other + LINKS] as number
    const { words } = this.#slots
    const [a, b] = [other * SLOT_LANES, slot * SLOT_LANES]
    const lowA = (words[a + START_LO] as number) & LOW_MASK
    const lowB = (words[b + START_LO] as number) & LOW_MASK
    if (lowA !== lowB) return lowA > lowB
    return (words[a + NUMBER] as number) >>> 0 > (words[b + NUMBER] as number) >>> 0
  }

  /** The greatest last byte of a row alone: of its range, or of its child. */
  #ownUpper(level: number, at: number): number {
    const link = this.words[2 * at + LINKS] as number
    if (level > 0) return this.keys[link + this.rowsOf(link) - 1 + TOPS] as number
    const { words } = this.#slots
    return upperOf(words[link * SLOT_LANES + LAST_HI] as number, words[link * SLOT_LANES + LAST_LO] as number)
  }

  #ownLow(level: number, at: number): number {
    const link = this.words[2 * at + LINKS] as number
    if (level > 0) return this.words[2 * (link + this.rowsOf(link) - 1) + LOWS] as number
    return (this.#slots.words[link * SLOT_LANES + LAST_LO] as number) & LOW_MASK
  }

  /**
   * A last byte is gone from before row `row` of a node, or from its child: counts the greatest ones of the rows again
   * as far as they may have been it. Answers whether the greatest of the node may have been it.
   */
  #lower(level: number, node: number, row: number, gone: number, goneLow: number): boolean {
    const { keys, words } = this
    let top = row === 0 ? NONE : (keys[node + row - 1 + TOPS] as number)
    let topLow = row === 0 ? 0 : (words[2 * (node + row - 1) + LOWS] as number)
    if (top > gone || (top === gone && topLow >= goneLow)) return false
    const end = node + this.rowsOf(node)
    for (let at = node + row; at < end; at++) {
      const was = keys[at + TOPS] as number
      if (was > gone || (was === gone && (words[2 * at + LOWS] as number) > goneLow)) return false
      const own = this.#ownUpper(level, at)
      const ownLow = this.#ownLow(level, at)
      if (own > top || (own === top && ownLow > topLow)) {
        top = own
        topLow = ownLow
      }
      keys[at + TOPS] = top
      words[2 * at + LOWS] = topLow
    }
    return true
  }

  /** A full root becomes the only child of a new one. */
  #growRoot(): void {
    const child = this.#root
    const root = this.take()
    this.copyRows(child, FANOUT - 1, 1, root)
    this.keys[root] = this.keys[child] as number
    this.words[2 * root + LINKS] = child
    this.#root = root
    this.#height++
  }

  /** The full child at a row of a node gives half of its rows to a new one behind it, or one where rows come in order. */
  #split(level: number, parent: number, row: number, isLast: boolean): void {
    const next = this.take()
    const at = parent + row
    const child = this.words[2 * at + LINKS] as number
    const keep = isLast ? FANOUT - 1 : FANOUT / 2
    this.copyRows(child, keep, FANOUT - keep, next)
    // What the rows that went have may come from those that stay, and what the parent has from those that went.
    const last = child + keep - 1
    const { keys, words } = this
    this.#lower(level, next, 0, keys[last + TOPS] as number, words[2 * last + LOWS] as number)
    this.cut(child, keep)
    this.openRow(parent, row + 1)
    keys[at + 1] = keys[next] as number
    keys[at + 1 + TOPS] = keys[at + TOPS] as number
    words[2 * (at + 1) + LINKS] = next
    words[2 * (at + 1) + LOWS] = words[2 * at + LOWS] as number
    const isFirst = row === 0
    keys[at + TOPS] = keys[(isFirst ? last : at - 1) + TOPS] as number
    words[2 * at + LOWS] = words[2 * (isFirst ? last : at - 1) + LOWS] as number
    this.raise(parent, row, keys[last + TOPS] as number, words[2 * last + LOWS] as number)
  }

  /** The children at a row of a node and behind it become one, where they are few rows. */
  #join(parent: number, row: number): boolean {
    if (row + 1 >= this.rowsOf(parent)) return false
    const { keys, words } = this
    const at = parent + row
    const child = words[2 * at + LINKS] as number
    const next = words[2 * (at + 1) + LINKS] as number
    const rows = this.rowsOf(child)
    if (rows + this.rowsOf(next) > JOINED_ROWS_MAX) return false
    const last = child + rows - 1
    this.copyRows(next, 0, this.rowsOf(next), child)
    this.raise(child, rows, keys[last + TOPS] as number, words[2 * last + LOWS] as number)
    keys[at + TOPS] = keys[at + 1 + TOPS] as number
    words[2 * at + LOWS] = words[2 * (at + 1) + LOWS] as number
    this.closeRow(parent, row + 1)
    this.free(next)
    return true
  }
}
