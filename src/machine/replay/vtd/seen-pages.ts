/** Pages that are kept of all domains; more are forgotten all at once, as a log may show any number. */
const KEPT_MAX = 1 << 18
const LARGE = [0x200, 0x4_0000] as const

/** A page that a walk has shown mapped. */
export interface SeenPage {
  readonly pages: number
  /** 4 KiB page of memory. */
  readonly target: number
  /** 1 read, 2 write. */
  readonly perm: number
  /** Line of the walk. */
  readonly line: number
}

/** What is known of an address: which walk has shown it mapped, and which flush may have told of its end. */
export interface PageStory {
  readonly page: SeenPage
  /** Line of the first flush after the walk that names it; 0 for none. */
  readonly flushLine: number
}

interface Domain {
  readonly pages: Map<number, SeenPage>
  /** Of pages that a flush of pages has named since. */
  readonly flushed: Map<number, number>
  flushLine: number
}

/** Which pages of domains walks have shown mapped, and flushes named since: why a later fault is no wonder. */
export class SeenPages {
  readonly #domains = new Map<number, Domain>()
  #kept = 0
  #flushLine = 0

  /** A walk shows a page. Whether that is news. */
  walked(domain: number, page: number, seen: SeenPage): boolean {
    if (this.#kept >= KEPT_MAX) this.clear()
    const of = this.#of(domain)
    const before = of.pages.size
    const known = of.pages.get(page)
    of.pages.set(page, seen)
    this.#kept += of.pages.size - before
    of.flushed.delete(page)
    const { pages, target, perm } = seen
    return known?.target !== target || known.pages !== pages || known.perm !== perm
  }

  storyOf(domain: number, page: number): PageStory | undefined {
    const of = this.#domains.get(domain)
    if (of === undefined) return undefined
    const first = [page, ...LARGE.map((pages) => page - (page % pages))].find((at) => {
      const seen = of.pages.get(at)
      return seen !== undefined && at + seen.pages > page
    })
    if (first === undefined) return undefined
    const seen = of.pages.get(first) as SeenPage
    const lines = [of.flushed.get(first) ?? 0, of.flushLine, this.#flushLine].filter((l) => l > seen.line)
    return { page: seen, flushLine: lines.length === 0 ? 0 : Math.min(...lines) }
  }

  /** Whether a walk has shown any page of a domain. */
  hasSeen(domain: number): boolean {
    return (this.#domains.get(domain)?.pages.size ?? 0) > 0
  }

  flushed(line: number): void {
    this.#flushLine = line
  }

  flushedDomain(domain: number, line: number): void {
    this.#of(domain).flushLine = line
  }

  flushedPages(domain: number, first: number, pages: number, line: number): void {
    const of = this.#domains.get(domain)
    if (of === undefined) return
    if (pages > of.pages.size) {
      for (const [page, seen] of of.pages) {
        if (page < first + pages && first < page + seen.pages) of.flushed.set(page, line)
      }
      return
    }
    for (let page = first; page < first + pages; page++) if (of.pages.has(page)) of.flushed.set(page, line)
    for (const large of LARGE) {
      const start = first - (first % large)
      if (of.pages.get(start)?.pages === large) of.flushed.set(start, line)
    }
  }

  clear(): void {
    this.#domains.clear()
    this.#kept = 0
    this.#flushLine = 0
  }

  #of(domain: number): Domain {
    let of = this.#domains.get(domain)
    if (of === undefined) {
      of = { pages: new Map(), flushed: new Map(), flushLine: 0 }
      this.#domains.set(domain, of)
    }
    return of
  }
}
