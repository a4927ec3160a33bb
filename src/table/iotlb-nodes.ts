/** Rows of a node. */
export const FANOUT = 32
const FEW_NODES = 4

/** A row's link has 21 bits for a slot or a child, and below them the lower 11 bits of the row's greatest last byte. */
export const LOW_BITS = 11
export const LOW_MASK = (1 << LOW_BITS) - 1

/** What stands in rows that are not used: greater than every key. */
const NO_KEY = Number.POSITIVE_INFINITY

/** Nodes of an `IotlbIndex`, in typed arrays: row r of node n stands at n * FANOUT + r. */
export class IotlbNodes {
  /** Upper 53 bits of where the range of a row starts, or the first one of its child. */
  starts = new Float64Array(FEW_NODES * FANOUT).fill(NO_KEY)
  /** Upper 53 bits of the greatest last byte of the rows of the node up to this one. */
  tops = new Float64Array(FEW_NODES * FANOUT).fill(NO_KEY)
  links = new Int32Array(FEW_NODES * FANOUT)
  /** How many rows of a node are used. */
  rows = new Int32Array(FEW_NODES)
  #made = 1
  readonly #spare: number[] = []

  /** Rows from one on have a greatest last byte that is not below this. */
  raise(node: number, from: number, top: number, topLow: number): void {
    const end = node * FANOUT + (this.rows[node] as number)
    for (let at = node * FANOUT + from; at < end; at++) {
      const was = this.tops[at] as number
      const link = this.links[at] as number
      if (was > top || (was === top && (link & LOW_MASK) >= topLow)) return
      this.tops[at] = top
      this.links[at] = (link & ~LOW_MASK) | topLow
    }
  }

  /** Room for a row at a place of a node that is not full. */
  openRow(node: number, row: number): void {
    const starts = this.starts
    const tops = this.tops
    const links = this.links
    const rows = this.rows[node] as number
    const to = node * FANOUT + row
    for (let at = node * FANOUT + rows; at > to; at--) {
      starts[at] = starts[at - 1] as number
      tops[at] = tops[at - 1] as number
      links[at] = links[at - 1] as number
    }
    this.rows[node] = rows + 1
  }

  closeRow(node: number, row: number): void {
    const starts = this.starts
    const tops = this.tops
    const links = this.links
    const rows = (this.rows[node] as number) - 1
    const end = node * FANOUT + rows
    for (let at = node * FANOUT + row; at < end; at++) {
      starts[at] = starts[at + 1] as number
      tops[at] = tops[at + 1] as number
      links[at] = links[at + 1] as number
    }
    starts[end] = NO_KEY
    tops[end] = NO_KEY
    this.rows[node] = rows
  }

  /** Node 0 is empty, and there is no other. */
  clear(): void {
    this.starts.fill(NO_KEY, 0, this.#made * FANOUT)
    this.tops.fill(NO_KEY, 0, this.#made * FANOUT)
    this.rows.fill(0, 0, this.#made)
    this.#spare.length = 0
    this.#made = 1
  }

  /** An empty node. */
  take(): number {
    const spare = this.#spare.pop()
    if (spare !== undefined) return spare
    if (this.#made === this.rows.length) this.#grow()
    return this.#made++
  }

  free(node: number): void {
    this.cut(node, 0)
    this.#spare.push(node)
  }

  /** A node keeps its first rows only. */
  cut(node: number, rows: number): void {
    const end = node * FANOUT + (this.rows[node] as number)
    this.starts.fill(NO_KEY, node * FANOUT + rows, end)
    this.tops.fill(NO_KEY, node * FANOUT + rows, end)
    this.rows[node] = rows
  }

  #grow(): void {
    const nodes = this.rows.length * 2
    const [starts, tops, links, rows] = [this.starts, this.tops, this.links, this.rows]
    this.starts = new Float64Array(nodes * FANOUT).fill(NO_KEY, starts.length)
    this.starts.set(starts)
    this.tops = new Float64Array(nodes * FANOUT).fill(NO_KEY, tops.length)
    this.tops.set(tops)
    this.links = new Int32Array(nodes * FANOUT)
    this.links.set(links)
    this.rows = new Int32Array(nodes)
    this.rows.set(rows)
  }
}
