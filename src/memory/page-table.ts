import { Cells, type Journal, keyOf } from '../bits/state.ts'

export const LEAF_SHIFT = 10
export const LEAF_PTES = 1 << LEAF_SHIFT

/** Software may read the page. */
export const PTE_READ = 1
/** Software may write the page, and nobody else uses its frame. */
export const PTE_WRITE = 2
/** There is a frame, with or without permission. */
export const PTE_PRESENT = 4
const FRAME_SHIFT = 3

export const frameOfPte = (pte: number): number => pte >>> FRAME_SHIFT
export const pteOf = (frame: number, perm: number): number => (frame << FRAME_SHIFT) | PTE_PRESENT | perm

/**
 * The page table of a process: an int32 entry for each system page that has a frame, 0 for the others.
 *
 * Leaves of 1024 entries appear with their first entry and stay for the life of the table, also when all of it
 * is unmapped: who holds a leaf always sees the truth in it, without being told of changes.
 */
export class PageTable {
  readonly #journal: Journal
  readonly #name: string
  readonly #leaves = new Map<number, Cells>()
  /** Numbers of the leaves, in order. */
  readonly #numbers: number[] = []

  /** @param name stands for the table in the hash */
  constructor(journal: Journal, name: string) {
    this.#journal = journal
    this.#name = name
  }

  /** Leaf `number` holds pages from `number` * 1024 on; undefined while it never had an entry. */
  leaf(number: number): Cells | undefined {
    return this.#leaves.get(number)
  }

  get(page: number): number {
    const low = page & (LEAF_PTES - 1)
    const leaf = this.#leaves.get((page - low) / LEAF_PTES)
    return leaf === undefined ? 0 : leaf.get(low)
  }

  set(page: number, pte: number): void {
    const low = page & (LEAF_PTES - 1)
    const number = (page - low) / LEAF_PTES
    let leaf = this.#leaves.get(number)
    if (leaf === undefined) {
      if (pte === 0) return
      leaf = this.#addLeaf(number)
    }
    leaf.set(low, pte)
  }

  /** The first page of [from, end) that has an entry, or `end`. */
  next(from: number, end: number): number {
    let at = this.#placeOf(Math.floor(from / LEAF_PTES))
    for (; at < this.#numbers.length; at++) {
      const number = this.#numbers[at] as number
      const base = number * LEAF_PTES
      if (base >= end) break
      const { data } = this.#leaves.get(number) as Cells
      const stop = Math.min(LEAF_PTES, end - base)
      for (let i = Math.max(0, from - base); i < stop; i++) if (data[i] !== 0) return base + i
    }
    return end
  }

  /** Place of the first leaf whose number is `number` or more. */
  #placeOf(number: number): number {
    let low = 0
    let high = this.#numbers.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#numbers[middle] as number) < number) low = middle + 1
      else high = middle
    }
    return low
  }

  #addLeaf(number: number): Cells {
    const leaf = new Cells(this.#journal, keyOf('pte', this.#name, number), LEAF_PTES)
    this.#leaves.set(number, leaf)
    this.#numbers.splice(this.#placeOf(number), 0, number)
    return leaf
  }
}
