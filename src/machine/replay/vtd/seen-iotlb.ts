/** Pages of 4 KiB that an entry of each size maps, the largest last. */
const LARGE = [0x200, 0x4_0000] as const
/** Entries that were dropped and are remembered, so that a hit of one can name the flush. */
const DROPPED_MAX = 4096
/** Entries that are kept; QEMU has 1024. More are there where the log lacks the lines that take them. */
const ENTRIES_MAX = 1 << 16

/** A translation that lines show in the IOTLB. */
export interface SeenEntry {
  readonly source: number
  readonly domain: number
  /** First 4 KiB page of the bus addresses it maps, and how many; 0 until the line that says so. */
  page: number
  pages: number
  /** The table entry that maps it. */
  readonly slpteHi: number
  readonly slpteLo: number
  /** Line that put it there. */
  readonly line: number
  /** Number of its record (vtd.fill). */
  readonly number: number
}

/** An entry that a flush took. */
export interface DroppedEntry {
  readonly entry: SeenEntry
  /** Line of the flush. */
  readonly line: number
}

interface SourceEntries {
  readonly source: number
  /** By page. An entry whose size no line has said yet stands at the page that was asked for. */
  readonly small: Map<number, SeenEntry>
  /** By first page, those of more than one page. */
  readonly large: Map<number, SeenEntry>
}

/**
 * What the lines of a trace show to be in the IOTLB of QEMU's intel-iommu: entries have a source-id, and leave when software
 * says so, or when QEMU does. QEMU takes more than it was told to (the mask of a page flush has 8 bits there); that is no
 * reason to wonder about a walk, so only what software named is gone here.
 */
export class SeenIotlb {
  /** All that is in it is known: the log has seen it empty. */
  isComplete = false
  readonly #sources = new Map<number, SourceEntries>()
  readonly #dropped = new Map<number, Map<number, DroppedEntry>>()
  #droppedCount = 0
  #filled = 0
  /** At most so many are there: those that have come since it was empty. */
  #most = 0

  /** A walk put the translation of a page into it. */
  fill(entry: Omit<SeenEntry, 'pages' | 'number'>): SeenEntry {
    if (++this.#most > ENTRIES_MAX) {
      this.clear(0)
      this.isComplete = false
    }
    // Property by property: a spread makes an object that is slow to use.
    const { source, domain, page, slpteHi, slpteLo, line } = entry
    const number = ++this.#filled
    const filled: SeenEntry = { source, domain, page, pages: 0, slpteHi, slpteLo, line, number }
    this.#of(source).small.set(page, filled)
    return filled
  }

  /** What it holds. */
  *entries(): Generator<SeenEntry> {
    for (const { small, large } of this.#sources.values()) {
      yield* small.values()
      yield* large.values()
    }
  }

  /** A line says how many pages an entry maps. */
  measure(entry: SeenEntry, pages: number): void {
    const { small, large } = this.#of(entry.source)
    entry.pages = pages
    if (pages === 1) return
    if (small.get(entry.page) === entry) small.delete(entry.page)
    entry.page -= entry.page % pages
    large.set(entry.page, entry)
  }

  /** The entry that maps a page for a source-id. */
  find(source: number, page: number): SeenEntry | undefined {
    const of = this.#sources.get(source)
    if (of === undefined) return undefined
    const found = of.small.get(page)
    if (found !== undefined || of.large.size === 0) return found
    for (const pages of LARGE) {
      const entry = of.large.get(page - (page % pages))
      if (entry?.pages === pages) return entry
    }
    return undefined
  }

  /** Which flush took the last entry that mapped a page for a source-id. */
  dropOf(source: number, page: number): DroppedEntry | undefined {
    const of = this.#dropped.get(source)
    const small = of?.get(page)
    if (of === undefined || small !== undefined) return small
    return LARGE.map((pages) => of.get(page - (page % pages))).find((dropped) => {
      const entry = dropped?.entry
      return entry !== undefined && entry.page + entry.pages > page
    })
  }

  /** Software, or the unit, empties it. @param line 0 where no flush is to be named for it */
  clear(line: number): void {
    this.isComplete = true
    this.#most = 0
    for (const { small, large } of this.#sources.values()) {
      for (const entry of small.values()) this.#remember(entry, line)
      for (const entry of large.values()) this.#remember(entry, line)
      small.clear()
      large.clear()
    }
  }

  flushDomain(domain: number, line: number): void {
    for (const of of this.#sources.values()) {
      for (const entry of of.small.values()) if (entry.domain === domain) this.#drop(of, entry, line)
      for (const entry of of.large.values()) if (entry.domain === domain) this.#drop(of, entry, line)
    }
  }

  /** Entries of a domain go that map any of `pages` pages from `first` on. */
  flushPages(domain: number, first: number, pages: number, line: number): void {
    for (const of of this.#sources.values()) {
      if (pages > of.small.size) {
        for (const entry of of.small.values()) {
          const isIn = entry.page >= first && entry.page < first + pages
          if (isIn && entry.domain === domain) this.#drop(of, entry, line)
        }
      } else {
        for (let page = first; page < first + pages; page++) {
          const entry = of.small.get(page)
          if (entry?.domain === domain) this.#drop(of, entry, line)
        }
      }
      if (of.large.size === 0) continue
      for (const entry of of.large.values()) {
        const isIn = entry.page < first + pages && first < entry.page + entry.pages
        if (isIn && entry.domain === domain) this.#drop(of, entry, line)
      }
    }
  }

  #of(source: number): SourceEntries {
    let of = this.#sources.get(source)
    if (of === undefined) {
      of = { source, small: new Map(), large: new Map() }
      this.#sources.set(source, of)
    }
    return of
  }

  #drop(of: SourceEntries, entry: SeenEntry, line: number): void {
    if (of.small.get(entry.page) === entry) of.small.delete(entry.page)
    else of.large.delete(entry.page)
    this.#remember(entry, line)
  }

  #remember(entry: SeenEntry, line: number): void {
    if (line === 0) return
    if (this.#droppedCount >= DROPPED_MAX) {
      this.#dropped.clear()
      this.#droppedCount = 0
    }
    let of = this.#dropped.get(entry.source)
    if (of === undefined) {
      of = new Map()
      this.#dropped.set(entry.source, of)
    }
    of.set(entry.page, { entry, line })
    this.#droppedCount++
  }
}
