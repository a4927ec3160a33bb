/**
 * Memory as a bus master or a hypervisor meets it: 4 KiB pages of one physical address space, whatever the
 * system page size. Page numbers are below 2^40 and small integers on the hot path; nothing here allocates.
 */
export interface BusMemory {
  /** Result lanes of `loadU64be` and `loadU64le`. */
  wordHi: number
  wordLo: number
  /** Whether there is memory at a 4 KiB page. */
  isRam(page: number): boolean
  /** The big-endian word at a page and offset (a multiple of 8) into the result lanes; false and 0 where there is no memory. */
  loadU64be(page: number, offset: number): boolean
  /** As `loadU64be`, for little-endian words. */
  loadU64le(page: number, offset: number): boolean
  /**
   * The first `count` big-endian words of a page into lanes (word i: high in `into[2 * i]`, low behind it); false,
   * and zeros, where there is no memory.
   */
  loadWords(page: number, count: number, into: Int32Array): boolean
  storeU64be(page: number, offset: number, hi: number, lo: number): boolean
  /** Copies bytes of one page out; false, and zeros, where there is no memory. */
  readPage(page: number, offset: number, into: Uint8Array, at: number, bytes: number): boolean
  /** Copies bytes into one page; false, and nothing happens, where there is no memory. */
  writePage(page: number, offset: number, from: Uint8Array, at: number, bytes: number): boolean
}

/**
 * Told of writes through a `BusMemory` to pages that somebody watches. Software and devices do not write otherwise where
 * tables lie; what a process does to the memory behind (its user addresses) is not told.
 */
export interface WriteWatcher {
  /** Whether a 4 KiB page is watched: asked at every write, so it is quick. */
  watches(page: number): boolean
  /** `bytes` bytes from `offset` of the page on are about to change. */
  willWrite(page: number, offset: number, bytes: number): void
  /** They are there now. A write that finds no memory does not come so far. */
  wrote(page: number, offset: number, bytes: number): void
}
