import { Cells, type Journal, keyOf } from '../../../bits/state.ts'
import { DOMAIN, firstHi, firstLo, PageRows, ROW_CELLS, TAG } from './page-rows.ts'
import { OWNER, PAIR_CELLS, PASID, PairTable } from './pair-table.ts'

/** Cells of a space behind those of its pair: its tag, the epochs that it is good for, its rows, the kinds among them. */
const SPACE_TAG = PAIR_CELLS
const SEEN_ALL = PAIR_CELLS + 1
const SEEN_OWNER = PAIR_CELLS + 2
const ROWS = PAIR_CELLS + 3
const KINDS = PAIR_CELLS + 4
/** Which of the two epochs of its owner a space follows. */
const GROUP = PAIR_CELLS + 5
const SPACE_CELLS = PAIR_CELLS + 6

/** Cells of a group of an owner: its epoch, live rows of all its spaces, and the epoch of all that these are of. */
const EPOCH = 0
const GROUP_ROWS = 1
const GROUP_SEEN = 2
const GROUP_CELLS = 4

/** Cells of the whole: live rows, the epoch of all, tags ever used, first free tag, where `evict` goes on, tags given out. */
const LIVE = 0
const ALL = 1
const TAGS = 2
const FREE_TAG = 3
const HAND = 4
const WHOLE_CELLS = 5

/** Rows that no space knows any more may be as many as those that live, and so many more. */
const DEAD_SPARE = 1024

/** Whose pages a space holds: spaces of both groups go with their owner, those of one group can go alone. */
export const GROUP_SECOND = 0
export const GROUP_FIRST = 1

export interface TaggedCacheOptions {
  readonly journal: Journal
  readonly name: string
  /** log2 of the 4 KiB pages of each kind of row. */
  readonly shifts: readonly number[]
}

/**
 * What a unit remembers of pages, by spaces: a space is an owner (a domain, or a device where a unit tags by device)
 * with or without a PASID. A row stays until it is dropped, whatever the tables say by then.
 *
 * To drop a space, an owner or everything takes one step, however many rows they have: their rows are under a tag that
 * nobody uses any more, and make room when there are as many of them as live ones.
 */
export class TaggedCache {
  readonly pages: PageRows
  readonly #spaces: PairTable
  readonly #groups: Cells
  /** Space of each tag that is given out; of free ones the next. */
  readonly #tags: Cells
  readonly #whole: Cells

  constructor({ journal, name, shifts }: TaggedCacheOptions) {
    this.pages = new PageRows(journal, name, shifts)
    this.#spaces = new PairTable(journal, `${name}-spaces`, SPACE_CELLS)
    this.#groups = new Cells(journal, keyOf('vtd-groups', name), GROUP_CELLS)
    this.#tags = new Cells(journal, keyOf('vtd-tags', name), 16)
    this.#whole = new Cells(journal, keyOf('vtd-tagged', name), WHOLE_CELLS)
  }

  /** Live rows. */
  get count(): number {
    return this.#whole.get(LIVE)
  }

  /** The space of an owner and a PASID; `group` is the same whenever it is asked for. */
  space(owner: number, pasid: number, group: number): number {
    const known = this.#spaces.find(owner * 2 + group, pasid)
    if (known !== 0) return known
    const space = this.#spaces.rowOf(owner * 2 + group, pasid)
    this.#groups.ensure((owner * 2 + 2) * GROUP_CELLS)
    this.#spaces.rows.set(space + GROUP, (owner * 2 + group) * GROUP_CELLS)
    return space
  }

  /** As `space`, but 0 where nothing was ever kept in it. */
  knownSpace(owner: number, pasid: number, group: number): number {
    return this.#spaces.find(owner * 2 + group, pasid)
  }

  /** Owner and PASID of a live row. */
  ownerOf(row: number): number {
    return this.#spaces.rows.get(this.#tags.get(this.pages.rows.get(row + TAG)) + OWNER) >>> 1
  }

  pasidOf(row: number): number {
    return this.#spaces.rows.get(this.#tags.get(this.pages.rows.get(row + TAG)) + PASID) >>> 0
  }

  /** The lowest of some kinds (bits) that has a row for a page; 0 where none has. */
  find(space: number, hi: number, lo: number, kinds: number): number {
    if (!this.#isGood(space)) return 0
    const { data } = this.#spaces.rows
    const tag = data[space + SPACE_TAG] as number
    for (let left = (data[space + KINDS] as number) & kinds; left !== 0; left &= left - 1) {
      const row = this.pages.find(tag, hi, lo, 31 - Math.clz32(left & -left))
      if (row !== 0) return row
    }
    return 0
  }

  /** The row of a page and a kind: the one that is there, or a new one. */
  keep(space: number, domain: number, hi: number, lo: number, kind: number): number {
    const known = this.find(space, hi, lo, 1 << kind)
    if (known !== 0) {
      this.pages.rows.set(known + DOMAIN, domain)
      return known
    }
    return this.add(space, domain, hi, lo, kind)
  }

  /** A new row for a page of which no row of that kind is there. */
  add(space: number, domain: number, hi: number, lo: number, kind: number): number {
    if (this.pages.linked > 2 * this.count + DEAD_SPARE) this.#sweep()
    const tag = this.#tagFor(space)
    const row = this.pages.add(tag, hi, lo, kind)
    const { rows } = this.#spaces
    this.pages.rows.set(row + DOMAIN, domain)
    rows.set(space + ROWS, rows.get(space + ROWS) + 1)
    rows.set(space + KINDS, rows.get(space + KINDS) | (1 << kind))
    this.#count(rows.get(space + GROUP), 1)
    return row
  }

  /** Whether a row is one of a space that has it. */
  isLive(row: number): boolean {
    const tag = this.pages.rows.get(row + TAG)
    if (tag === 0) return false
    const space = this.#tags.get(tag)
    return this.#spaces.rows.get(space + SPACE_TAG) === tag && this.#isGood(space)
  }

  /** Forgets a live row. */
  remove(row: number): void {
    const space = this.#tags.get(this.pages.rows.get(row + TAG))
    const { rows } = this.#spaces
    rows.set(space + ROWS, rows.get(space + ROWS) - 1)
    this.#count(rows.get(space + GROUP), -1)
    this.pages.remove(row)
  }

  dropAll(): void {
    if (this.count === 0) return
    this.#whole.set(ALL, this.#whole.get(ALL) + 1)
    this.#whole.set(LIVE, 0)
  }

  /** Forgets all that an owner has in a group. */
  dropGroup(owner: number, group: number): void {
    const at = (owner * 2 + group) * GROUP_CELLS
    if (at >= this.#groups.length) return
    const rows = this.#rowsOf(at)
    if (rows === 0) return
    this.#count(at, -rows)
    this.#groups.set(at + EPOCH, this.#groups.get(at + EPOCH) + 1)
  }

  dropOwner(owner: number): void {
    this.dropGroup(owner, GROUP_FIRST)
    this.dropGroup(owner, GROUP_SECOND)
  }

  dropSpace(space: number): void {
    if (space === 0 || !this.#isGood(space)) return
    const { rows } = this.#spaces
    const count = rows.get(space + ROWS)
    if (count === 0) return
    this.#count(rows.get(space + GROUP), -count)
    // The tag is nobody's from now on.
    rows.set(space + SPACE_TAG, 0)
    rows.set(space + ROWS, 0)
    rows.set(space + KINDS, 0)
  }

  /** Forgets the rows of a space that cover any of the 2^order pages that begin at a page. */
  dropPages(space: number, hi: number, lo: number, order: number, kinds = -1): void {
    if (space === 0 || !this.#isGood(space)) return
    const { data } = this.#spaces.rows
    for (let left = (data[space + KINDS] as number) & kinds; left !== 0; left &= left - 1) {
      this.#dropKind(space, hi, lo, order, 31 - Math.clz32(left & -left))
    }
  }

  /** Forgets so many rows, or all that there are, in the order of their places. */
  evict(rows: number): void {
    let left = Math.min(rows, this.count)
    let hand = this.#whole.get(HAND)
    while (left > 0) {
      hand = hand + ROW_CELLS >= this.pages.end ? ROW_CELLS : hand + ROW_CELLS
      if (!this.isLive(hand)) continue
      this.remove(hand)
      left--
    }
    this.#whole.set(HAND, hand)
  }

  #dropKind(space: number, hi: number, lo: number, order: number, kind: number): void {
    const { pages } = this
    const tag = this.#spaces.rows.get(space + SPACE_TAG)
    const shift = pages.shifts[kind] as number
    if (order - shift >= 31 || 1 << Math.max(0, order - shift) > pages.buckets) {
      const { data } = pages.rows
      for (let row = ROW_CELLS; row < pages.end; row += ROW_CELLS) {
        if (data[row + TAG] === tag && pages.kindOf(row) === kind && pages.overlaps(row, hi, lo, order))
          this.remove(row)
      }
      return
    }
    const count = 1 << Math.max(0, order - shift)
    const step = shift < 32 ? 1 << shift : 0
    const stepHi = shift < 32 ? 0 : 1 << (shift - 32)
    let at = firstLo(lo, order)
    let atHi = firstHi(hi, order)
    for (let i = 0; i < count; i++) {
      const row = pages.find(tag, atHi, at, kind)
      if (row !== 0) this.remove(row)
      at = (at + step) | 0
      if (step !== 0 && at >>> 0 < step >>> 0) atHi++
      atHi += stepHi
    }
  }

  #isGood(space: number): boolean {
    const { data } = this.#spaces.rows
    return (
      data[space + SEEN_ALL] === this.#whole.data[ALL] &&
      data[space + SEEN_OWNER] === this.#groups.data[(data[space + GROUP] as number) + EPOCH]
    )
  }

  /** The tag of a space, which may have rows from now on. */
  #tagFor(space: number): number {
    const { rows } = this.#spaces
    const tag = rows.get(space + SPACE_TAG)
    const isGood = this.#isGood(space)
    if (isGood && tag !== 0) return tag
    rows.set(space + SEEN_ALL, this.#whole.get(ALL))
    rows.set(space + SEEN_OWNER, this.#groups.get(rows.get(space + GROUP) + EPOCH))
    rows.set(space + KINDS, 0)
    if (tag !== 0 && rows.get(space + ROWS) === 0) return tag
    rows.set(space + ROWS, 0)
    const fresh = this.#takeTag()
    rows.set(space + SPACE_TAG, fresh)
    this.#tags.set(fresh, space)
    return fresh
  }

  #takeTag(): number {
    const free = this.#whole.get(FREE_TAG)
    if (free !== 0) {
      this.#whole.set(FREE_TAG, -this.#tags.get(free))
      return free
    }
    const tag = this.#whole.get(TAGS) + 1
    this.#whole.set(TAGS, tag)
    this.#tags.ensure(tag + 1)
    return tag
  }

  /** Live rows of a group. */
  #rowsOf(at: number): number {
    return this.#groups.get(at + GROUP_SEEN) === this.#whole.get(ALL) ? this.#groups.get(at + GROUP_ROWS) : 0
  }

  #count(at: number, more: number): void {
    const rows = this.#rowsOf(at) + more
    this.#groups.set(at + GROUP_SEEN, this.#whole.get(ALL))
    this.#groups.set(at + GROUP_ROWS, rows)
    this.#whole.set(LIVE, this.count + more)
  }

  /** Rows that no space knows any more make room, and so do their tags. */
  #sweep(): void {
    const { pages } = this
    if (this.count === 0) pages.clear()
    else {
      for (let row = ROW_CELLS; row < pages.end; row += ROW_CELLS) {
        if (!this.isLive(row)) pages.rows.set(row + TAG, 0)
      }
      pages.sweep()
    }
    const { rows } = this.#spaces
    const tags = this.#whole.get(TAGS)
    for (let tag = 1; tag <= tags; tag++) {
      const space = this.#tags.get(tag)
      if (space <= 0) continue
      if (rows.get(space + SPACE_TAG) === tag) {
        if (!this.#isGood(space)) rows.set(space + ROWS, 0)
        continue
      }
      this.#tags.set(tag, -this.#whole.get(FREE_TAG))
      this.#whole.set(FREE_TAG, tag)
    }
  }
}
