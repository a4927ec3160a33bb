import { NO_RECORD } from './lives.ts'

const EMPTY = -1
const FIRST_CAPACITY = 64
const TCE_PERM = 3

/** What is known of a cached TCE: as the table has it, changed there and not dropped yet, or seen to be stale. */
export const CACHED = { FRESH: 0, CHANGED: 1, STALE: 2 } as const

/**
 * The TCEs that a PHB remembers for one PE, by the 4 KiB bus page at which their IOMMU page begins, with the
 * record that filled each, and the one that changed the table since.
 *
 * A hash table in typed arrays: nothing here allocates, except to hold more than ever since it was empty.
 */
export class CachedTces {
  /** Interned name of the PHB. */
  readonly unit: number
  readonly pe: number
  count = 0
  /** Of these, how many are known to be stale. */
  stale = 0
  filled = new Int32Array(FIRST_CAPACITY)
  changed = new Int32Array(FIRST_CAPACITY)
  state = new Uint8Array(FIRST_CAPACITY)
  #pages = new Float64Array(FIRST_CAPACITY).fill(EMPTY)
  #his = new Int32Array(FIRST_CAPACITY)
  #los = new Int32Array(FIRST_CAPACITY)
  #shifts = new Uint8Array(FIRST_CAPACITY)

  constructor(unit: number, pe: number) {
    this.unit = unit
    this.pe = pe
  }

  /** Where the TCE of a page stands, or -1. What stands there is good until the next change. */
  find(page: number): number {
    const mask = this.#pages.length - 1
    for (let at = slotOf(page, mask); ; at = (at + 1) & mask) {
      const found = this.#pages[at] as number
      if (found === page) return at
      if (found === EMPTY) return -1
    }
  }

  /** The TCE at a place, its address and permissions as far as they take part in a translation. */
  tceAt(at: number): bigint {
    return (BigInt((this.#his[at] as number) >>> 0) << 32n) | BigInt((this.#los[at] as number) >>> 0)
  }

  /** Places that there are; at some of them nothing stands. */
  get capacity(): number {
    return this.#pages.length
  }

  /** The page at a place, below 0 where nothing stands. */
  pageAt(at: number): number {
    return this.#pages[at] as number
  }

  /** Whether the TCE at a place translates as a raw one does. */
  isSame(at: number, hi: number, lo: number): boolean {
    const shift = this.#shifts[at] as number
    return this.#his[at] === upper(hi, shift) && this.#los[at] === lower(lo, shift)
  }

  fill(page: number, shift: number, hi: number, lo: number, seq: number): void {
    let at = this.find(page)
    if (at < 0) {
      if ((this.count + 1) * 2 > this.#pages.length) this.#grow()
      at = this.#free(page)
      this.count++
    } else if (this.state[at] === CACHED.STALE) this.stale--
    this.#pages[at] = page
    this.#shifts[at] = shift
    this.#his[at] = upper(hi, shift)
    this.#los[at] = lower(lo, shift)
    this.filled[at] = seq
    this.changed[at] = NO_RECORD
    this.state[at] = CACHED.FRESH
  }

  /** What is known of the TCE at a place, and the record that made it so. */
  mark(at: number, state: number, changed: number): void {
    if (this.state[at] === CACHED.STALE) this.stale--
    if (state === CACHED.STALE) this.stale++
    this.state[at] = state
    this.changed[at] = changed
  }

  /** Forgets those that begin in pages first, first + units, ...: `count` of them. */
  drop(first: number, count: number, units: number): void {
    if (count <= this.count)
      for (let i = 0; i < count && this.count > 0; i++) this.#dropPage(first + i * units)
    else for (const page of this.pages(first, first + count * units)) this.#dropPage(page)
  }

  clear(): void {
    if (this.count === 0) return
    this.count = 0
    this.stale = 0
    if (this.#pages.length === FIRST_CAPACITY) this.#pages.fill(EMPTY)
    else this.#resize(FIRST_CAPACITY)
  }

  /** Pages in [start, end) that are cached: all are looked at. */
  pages(start: number, end: number): number[] {
    const found: number[] = []
    for (const page of this.#pages) if (page >= start && page < end) found.push(page)
    return found
  }

  #dropPage(page: number): void {
    let hole = this.find(page)
    if (hole < 0) return
    this.count--
    if (this.state[hole] === CACHED.STALE) this.stale--
    // Those behind it move up, so that no search ends at the hole.
    const mask = this.#pages.length - 1
    for (let at = (hole + 1) & mask; this.#pages[at] !== EMPTY; at = (at + 1) & mask) {
      const home = slotOf(this.#pages[at] as number, mask)
      if (((at - home) & mask) < ((at - hole) & mask)) continue
      this.#move(at, hole)
      hole = at
    }
    this.#pages[hole] = EMPTY
  }

  #move(from: number, to: number): void {
    this.#pages[to] = this.#pages[from] as number
    this.#his[to] = this.#his[from] as number
    this.#los[to] = this.#los[from] as number
    this.#shifts[to] = this.#shifts[from] as number
    this.filled[to] = this.filled[from] as number
    this.changed[to] = this.changed[from] as number
    this.state[to] = this.state[from] as number
  }

  #free(page: number): number {
    const mask = this.#pages.length - 1
    let at = slotOf(page, mask)
    while (this.#pages[at] !== EMPTY) at = (at + 1) & mask
    return at
  }

  #grow(): void {
    const { filled, changed, state } = this
    const [pages, his, los, shifts] = [this.#pages, this.#his, this.#los, this.#shifts]
    this.#resize(pages.length * 2)
    for (let i = 0; i < pages.length; i++) {
      if (pages[i] === EMPTY) continue
      const at = this.#free(pages[i] as number)
      this.#pages[at] = pages[i] as number
      this.#his[at] = his[i] as number
      this.#los[at] = los[i] as number
      this.#shifts[at] = shifts[i] as number
      this.filled[at] = filled[i] as number
      this.changed[at] = changed[i] as number
      this.state[at] = state[i] as number
    }
  }

  #resize(capacity: number): void {
    this.#pages = new Float64Array(capacity).fill(EMPTY)
    this.#his = new Int32Array(capacity)
    this.#los = new Int32Array(capacity)
    this.#shifts = new Uint8Array(capacity)
    this.filled = new Int32Array(capacity)
    this.changed = new Int32Array(capacity)
    this.state = new Uint8Array(capacity)
  }
}

function slotOf(page: number, mask: number): number {
  const h = Math.imul(page ^ Math.floor(page / 0x1_0000_0000), 0x9e37_79b1)
  return (h ^ (h >>> 15)) & mask
}

const upper = (hi: number, shift: number): number => (shift <= 32 ? hi : (hi >> (shift - 32)) << (shift - 32))
const lower = (lo: number, shift: number): number =>
  (shift >= 32 ? 0 : (lo >> shift) << shift) | (lo & TCE_PERM)
