/** A mapping of a domain that a line has shown; pages have 4 KiB. */
export interface SeenMap {
  readonly firstPage: number
  readonly pages: number
  readonly gpa: bigint
  readonly perm: number
}

/** The mappings of a domain that the lines of a log have shown, and not taken back since. */
export class SeenMaps {
  readonly #maps = new Map<number, SeenMap>()

  get count(): number {
    return this.#maps.size
  }

  /** Whether it says something new. */
  add(map: SeenMap): boolean {
    const known = this.#maps.get(map.firstPage)
    if (known !== undefined && known.pages === map.pages && known.gpa === map.gpa && known.perm === map.perm)
      return false
    this.#maps.set(map.firstPage, map)
    return true
  }

  /** Forgets what touches ranges of pages, in ascending order, and answers it in theirs. */
  remove(ranges: readonly { readonly firstPage: number; readonly endPage: number }[]): SeenMap[] {
    if (ranges.length === 0) return []
    const only = ranges.length === 1 ? ranges[0] : undefined
    if (only !== undefined && only.endPage - only.firstPage <= 64) {
      const found: SeenMap[] = []
      for (let page = only.firstPage; page < only.endPage; page++) {
        const map = this.#maps.get(page)
        if (map !== undefined) found.push(map)
      }
      // A larger page may begin before the range.
      for (const large of [0x200, 0x4_0000]) {
        const start = Math.floor(only.firstPage / large) * large
        const map = start < only.firstPage ? this.#maps.get(start) : undefined
        if (map !== undefined && map.firstPage + map.pages > only.firstPage && !found.includes(map))
          found.push(map)
      }
      for (const map of found) this.#maps.delete(map.firstPage)
      return found
    }
    const found = [...this.#maps.values()].filter((map) => touches(map, ranges))
    for (const map of found) this.#maps.delete(map.firstPage)
    return found.sort((a, b) => a.firstPage - b.firstPage)
  }
}

/** Whether a mapping touches one of several ranges in ascending order. */
function touches(
  { firstPage, pages }: SeenMap,
  ranges: readonly { readonly firstPage: number; readonly endPage: number }[],
): boolean {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ranges[middle] as { endPage: number }).endPage <= firstPage) low = middle + 1
    else high = middle
  }
  const range = ranges[low]
  return range !== undefined && range.firstPage < firstPage + pages
}
