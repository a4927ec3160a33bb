/**
 * The entries of one flat TCE table, wherever they lie: in memory of an emulator (`TceStore`), or in a table of the
 * kernel that its process has mapped. Indices were range-checked; words come and go in lanes.
 */
export interface TceEntries {
  /** Lower lane of the entry that `load` found. */
  lo: number
  /** Upper lane of the entry that `load` found. */
  hi: number
  load(index: number): void
  /** The entry as a bigint: for the edges. */
  get(index: number): bigint
  set(index: number, lo: number, hi: number): void
  /** Entries from `first` on become the first `count` words of a list: high lane, low lane, and so on. */
  setList(first: number, count: number, list: Int32Array): void
  /** Entries [first, end) become one value. */
  fill(first: number, end: number, lo: number, hi: number): void
  /** Entries with a permission bit, in order: index and raw word. Whoever asks looks at every entry. */
  live(): Iterable<readonly [index: number, tce: bigint]>
  /** Entries that are not 0, in the same way. */
  held(): Iterable<readonly [index: number, tce: bigint]>
}
