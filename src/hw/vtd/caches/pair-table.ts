import { Cells, type Journal, keyOf } from '../../../bits/state.ts'

/** Cells of the whole: rows, log2 of the buckets. */
const USED = 0
const BUCKET_SHIFT = 1
const FIRST_BUCKET_SHIFT = 4

/** Cells that the table itself needs: the two keys, and the next row of the bucket. */
export const OWNER = 0
export const PASID = 1
const CHAIN = 2
export const PAIR_CELLS = 3

/**
 * Rows for pairs of an owner (a domain or a source-id) and a PASID. A row stays for ever: there are as many as pairs
 * that were ever met. Rows are named by where their cells begin; 0 is none.
 */
export class PairTable {
  readonly rows: Cells
  readonly #rowCells: number
  readonly #buckets: Cells
  readonly #whole: Cells

  /** @param cells cells of a row, those of `PAIR_CELLS` included */
  constructor(journal: Journal, name: string, cells: number) {
    this.#rowCells = cells
    this.rows = new Cells(journal, keyOf('vtd-pairs', name), cells)
    this.#buckets = new Cells(journal, keyOf('vtd-pair-buckets', name), 1 << FIRST_BUCKET_SHIFT)
    this.#whole = new Cells(journal, keyOf('vtd-pairs-whole', name), 2)
    this.#whole.set(BUCKET_SHIFT, FIRST_BUCKET_SHIFT)
  }

  /** Where the cells of the last row end; the first begins where as many have gone by as a row has. */
  get end(): number {
    return (this.#whole.get(USED) + 1) * this.#rowCells
  }

  find(owner: number, pasid: number): number {
    const { data } = this.rows
    const key = pasid | 0
    let row = this.#buckets.data[this.#bucketOf(owner, key)] as number
    while (row !== 0) {
      if (data[row + PASID] === key && data[row + OWNER] === owner) return row
      row = data[row + CHAIN] as number
    }
    return 0
  }

  /** The row of a pair, new where there is none: its other cells are 0 then. */
  rowOf(owner: number, pasid: number): number {
    const known = this.find(owner, pasid)
    if (known !== 0) return known
    const used = this.#whole.get(USED) + 1
    if (used > 1 << this.#whole.get(BUCKET_SHIFT)) this.#moreBuckets()
    const row = used * this.#rowCells
    this.rows.ensure(row + this.#rowCells)
    this.#whole.set(USED, used)
    this.rows.set(row + OWNER, owner)
    this.rows.set(row + PASID, pasid)
    this.#link(row)
    return row
  }

  #link(row: number): void {
    const bucket = this.#bucketOf(this.rows.get(row + OWNER), this.rows.get(row + PASID))
    this.rows.set(row + CHAIN, this.#buckets.get(bucket))
    this.#buckets.set(bucket, row)
  }

  #bucketOf(owner: number, pasid: number): number {
    const h = Math.imul(owner ^ Math.imul(pasid, 0x85eb_ca6b), 0x9e37_79b1)
    return (h ^ (h >>> 15)) & ((1 << (this.#whole.data[BUCKET_SHIFT] as number)) - 1)
  }

  #moreBuckets(): void {
    const shift = this.#whole.get(BUCKET_SHIFT) + 1
    const { end } = this
    this.#buckets.ensure(1 << shift)
    this.#buckets.fill(0, 0, 1 << shift)
    this.#whole.set(BUCKET_SHIFT, shift)
    for (let row = this.#rowCells; row < end; row += this.#rowCells) this.#link(row)
  }
}
