import { type GuestRange, type NamedPages, NO_DOMAIN } from './guest-log.ts'

/** Pages that are kept one by one, of ranges up to a limit. */
const RANGE_PAGES_MAX = 4096
/** Pages that are remembered after they were unmapped; more are forgotten all at once. */
const CLOSED_MAX = 1 << 18

/** How a translation stands to what the kernel has mapped. */
export type Standing = 'mapped' | 'unmapped' | 'flushed' | 'elsewhere' | 'not seen'

interface Closed {
  readonly target: number
  readonly domain: number
  readonly line: number
  isFlushed: boolean
}

/** What the kernel of a guest has mapped at a moment, and what it has unmapped. */
export class GuestMaps {
  /** Of a translation that `standingOf` looked at: line that unmapped its page, or that maps it elsewhere. */
  line = 0
  readonly #open = new Map<number, GuestRange[]>()
  readonly #large: GuestRange[] = []
  readonly #closed = new Map<number, Closed>()
  /** Pages that were unmapped and not flushed since. */
  readonly #pending = new Set<number>()

  /** Something is lost: what is mapped is not known any more. */
  clear(): void {
    this.#open.clear()
    this.#large.length = 0
    this.#closed.clear()
    this.#pending.clear()
  }

  map(range: GuestRange): void {
    if (range.pages > RANGE_PAGES_MAX) {
      this.#large.push(range)
      return
    }
    for (let page = range.page; page < range.page + range.pages; page++) {
      const maps = this.#open.get(page)
      if (maps === undefined) this.#open.set(page, [range])
      else maps.push(range)
    }
  }

  unmap(range: GuestRange): void {
    const { page: first, pages } = range
    const large = this.#large.findIndex((map) => map.page === first && map.pages === pages)
    if (large >= 0) this.#large.splice(large, 1)
    if (pages > RANGE_PAGES_MAX) {
      for (const page of this.#open.keys())
        if (page >= first && page < first + pages) this.#close(page, range)
      return
    }
    for (let page = first; page < first + pages; page++) this.#close(page, range)
  }

  flushed(named: NamedPages): void {
    for (const page of this.#pending) {
      const closed = this.#closed.get(page)
      const isNamed = page >= named.page && page < named.page + named.pages
      const isOf = [named.domain, closed?.domain].includes(NO_DOMAIN) || named.domain === closed?.domain
      if (closed !== undefined && !(isNamed && isOf)) continue
      this.#pending.delete(page)
      if (closed !== undefined) closed.isFlushed = true
    }
  }

  /** How a translation of a page to a page of memory stands to the maps. */
  standingOf(page: number, target: number): Standing {
    const maps = this.#mapsOf(page)
    if (maps.some((map) => map.target + (page - map.page) === target)) return 'mapped'
    const closed = this.#closed.get(page)
    if (closed?.target === target) {
      this.line = closed.line
      return closed.isFlushed ? 'flushed' : 'unmapped'
    }
    const [other] = maps
    if (other === undefined) return 'not seen'
    this.line = other.line
    return 'elsewhere'
  }

  #mapsOf(page: number): readonly GuestRange[] {
    const maps = this.#open.get(page) ?? []
    if (this.#large.length === 0) return maps
    return [...maps, ...this.#large.filter((map) => map.page <= page && page < map.page + map.pages)]
  }

  /** A page is unmapped: of several maps that of the same domain, or else the oldest. */
  #close(page: number, { domain, line }: GuestRange): void {
    const maps = this.#open.get(page)
    if (maps === undefined) return
    const found = maps.findIndex((map) => map.domain === domain)
    const [map] = maps.splice(Math.max(0, found), 1) as [GuestRange]
    if (maps.length === 0) this.#open.delete(page)
    if (this.#closed.size >= CLOSED_MAX) {
      this.#closed.clear()
      this.#pending.clear()
    }
    this.#closed.set(page, { target: map.target + (page - map.page), domain, line, isFlushed: false })
    this.#pending.add(page)
  }
}
