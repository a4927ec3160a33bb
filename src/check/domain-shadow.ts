/** Ranges of more pages than this are kept as they are, not page by page. */
const PAGED = 4096

interface LargeRange {
  readonly firstPage: number
  readonly endPage: number
  readonly memoryPage: number
  readonly perm: number
  readonly by: number
}

/** What the page tables of a VT-d domain map, as far as records tell; pages have 4 KiB. */
export class DomainShadow {
  readonly number: number
  /** What software maps is seen, so that what is not here is not mapped; else translations show single pages. */
  isComplete = false
  /** What `find` found. */
  memoryPage = 0
  perm = 0
  /** Record that mapped what `find` found. */
  by = 0
  readonly #pages = new Map<
    number,
    { readonly memoryPage: number; readonly perm: number; readonly by: number }
  >()
  #large: LargeRange[] = []

  constructor(number: number) {
    this.number = number
  }

  map(firstPage: number, pages: number, to: { memoryPage: number; perm: number; by: number }): void {
    if (pages > PAGED) {
      this.unmap(firstPage, pages)
      this.#large.push({ firstPage, endPage: firstPage + pages, ...to })
      return
    }
    for (let i = 0; i < pages; i++) {
      this.#pages.set(firstPage + i, { ...to, memoryPage: to.memoryPage + i })
    }
  }

  unmap(firstPage: number, pages: number): void {
    const endPage = firstPage + pages
    if (pages > this.#pages.size) {
      for (const page of this.#pages.keys()) if (page >= firstPage && page < endPage) this.#pages.delete(page)
    } else for (let page = firstPage; page < endPage; page++) this.#pages.delete(page)
    if (this.#large.length === 0) return
    this.#large = this.#large.flatMap((range) => [...remains(range, firstPage, endPage)])
  }

  /** Whether a page is mapped: then `memoryPage` and `perm` say to what. */
  find(page: number): boolean {
    const known = this.#pages.get(page)
    if (known !== undefined) {
      this.memoryPage = known.memoryPage
      this.perm = known.perm
      this.by = known.by
      return true
    }
    const range = this.#large.findLast((r) => r.firstPage <= page && page < r.endPage)
    if (range === undefined) return false
    this.memoryPage = range.memoryPage + (page - range.firstPage)
    this.perm = range.perm
    this.by = range.by
    return true
  }
}

/** What is left of a range without [firstPage, endPage). */
function* remains(range: LargeRange, firstPage: number, endPage: number): Generator<LargeRange> {
  if (endPage <= range.firstPage || firstPage >= range.endPage) {
    yield range
    return
  }
  if (range.firstPage < firstPage) yield { ...range, endPage: firstPage }
  if (endPage < range.endPage) {
    yield { ...range, firstPage: endPage, memoryPage: range.memoryPage + (endPage - range.firstPage) }
  }
}
