import { pageOf } from '../../../bits/u64.ts'
import { FTRACE } from '../../../reader/ftrace-format.ts'
import { type BatchSink, DAMAGED_LINE, type LogBatch } from '../../../reader/log-batch.ts'
import { LANES_MAX } from '../../../reader/log-format.ts'

const N = FTRACE.number
const S = FTRACE.slot
const PAGE_SHIFT = 12
const IOTLB = 2
const BY_DOMAIN = 2
const BY_PAGE = 3
/** How far behind an unmap its own flush is looked for. */
const LOOK_AHEAD = 64
/** No line shows the domain. */
export const NO_DOMAIN = -1

/** A range that the kernel maps, or unmaps. Page numbers count 4 KiB. */
export interface GuestRange {
  readonly what: 'map' | 'unmap'
  readonly page: number
  readonly pages: number
  /** Page of memory that a map leads to. */
  readonly target: number
  readonly line: number
  /** What it belongs to, as far as flushes show: `NO_DOMAIN` where they do not. */
  domain: number
}

/** A descriptor that the kernel put into the queue; its first two words in lanes. */
export interface GuestFlush {
  readonly what: 'flush'
  readonly loHi: number
  readonly loLo: number
  readonly hiHi: number
  readonly hiLo: number
  readonly line: number
}

/** Something is lost here. */
interface GuestGap {
  readonly what: 'gap'
  readonly line: number
}

export type GuestEvent = GuestRange | GuestFlush | GuestGap

/** What an IOTLB invalidation of the kernel names; undefined for other descriptors. */
export interface NamedPages {
  /** `NO_DOMAIN` for all of them. */
  readonly domain: number
  readonly page: number
  /** Infinity for all pages. */
  readonly pages: number
}

export function namedBy({ loLo, hiHi, hiLo }: GuestFlush): NamedPages | undefined {
  const type = (loLo & 0xf) | ((loLo >>> 5) & 0x70)
  if (type !== IOTLB) return undefined
  const by = (loLo >>> 4) & 3
  const domain = loLo >>> 16
  if (by === BY_DOMAIN) return { domain, page: 0, pages: Number.POSITIVE_INFINITY }
  if (by !== BY_PAGE) return { domain: NO_DOMAIN, page: 0, pages: Number.POSITIVE_INFINITY }
  const pages = 2 ** (hiLo & 0x3f)
  const page = pageOf(hiHi, hiLo, PAGE_SHIFT)
  return { domain, page: page - (page % pages), pages }
}

/**
 * What the kernel of a guest traced, as a whole: it is what fits the kernel's own buffer, or a stretch that somebody saved.
 * Which domain a map or an unmap is of no line says. An unmap is of the domain whose flush comes next, where that names
 * its pages; a map, of that which is unmapped there later; and where all flushes name one domain, all are of that one.
 */
export class GuestLog implements BatchSink {
  readonly events: GuestEvent[] = []
  maps = 0
  unmaps = 0
  flushes = 0
  pageRequests = 0
  /** Domains that flushes name. */
  readonly domains = new Set<number>()

  take(batch: LogBatch): void {
    for (let row = 0; row < batch.count; row++) this.#row(batch, row)
  }

  #row(batch: LogBatch, row: number): void {
    const { lanes } = batch
    const at = row * LANES_MAX
    const line = batch.lines[row] as number
    switch (batch.events[row]) {
      case N.map: {
        const s = S.map
        this.maps++
        const target = pageOf(lanes[at + s.paddr + 1] as number, lanes[at + s.paddr] as number, PAGE_SHIFT)
        this.events.push({
          what: 'map',
          ...rangeAt(lanes, at + s.iova, at + s.end),
          target,
          line,
          domain: NO_DOMAIN,
        })
        return
      }
      case N.unmap: {
        const s = S.unmap
        this.unmaps++
        const range = rangeAt(lanes, at + s.iova, at + s.end)
        this.events.push({ what: 'unmap', ...range, target: 0, line, domain: NO_DOMAIN })
        return
      }
      case N.qi_submit: {
        const s = S.qi_submit
        this.flushes++
        const flush: GuestFlush = {
          what: 'flush',
          loHi: lanes[at + s.qw0 + 1] as number,
          loLo: lanes[at + s.qw0] as number,
          hiHi: lanes[at + s.qw1 + 1] as number,
          hiLo: lanes[at + s.qw1] as number,
          line,
        }
        const named = namedBy(flush)
        if (named !== undefined && named.domain !== NO_DOMAIN) this.domains.add(named.domain)
        this.events.push(flush)
        return
      }
      case N.prq_report:
      case N.prq_report_private:
        this.pageRequests++
        return
      case DAMAGED_LINE:
        if (this.events.at(-1)?.what !== 'gap') this.events.push({ what: 'gap', line })
        return
      default:
    }
  }

  /** The log is over: says which domains ranges are of. */
  end(): void {
    const only = this.domains.size === 1 ? ([...this.domains][0] as number) : NO_DOMAIN
    /** Maps by page that are not unmapped yet. */
    const open = new Map<number, GuestRange[]>()
    this.events.forEach((event, i) => {
      if (event.what === 'map') {
        event.domain = only
        if (only === NO_DOMAIN) open.set(event.page, [...(open.get(event.page) ?? []), event])
      } else if (event.what === 'unmap') {
        event.domain = only === NO_DOMAIN ? this.#flushOf(event, i) : only
        if (only === NO_DOMAIN) this.#close(open, event)
      }
    })
  }

  /** Domain of the flush behind an unmap that names its pages. */
  #flushOf({ page, pages }: GuestRange, at: number): number {
    for (let i = at + 1; i < Math.min(this.events.length, at + LOOK_AHEAD); i++) {
      const event = this.events[i]
      const named = event?.what === 'flush' ? namedBy(event) : undefined
      if (named === undefined || named.pages === Number.POSITIVE_INFINITY) continue
      if (named.page <= page && page + pages <= named.page + named.pages) return named.domain
    }
    return NO_DOMAIN
  }

  /** The maps that an unmap ends are of its domain; where another may be meant, none is. */
  #close(open: Map<number, GuestRange[]>, { page, pages, domain }: GuestRange): void {
    for (let at = page; at < page + pages; ) {
      const maps = open.get(at)
      const [only] = maps ?? []
      if (maps !== undefined && only !== undefined && maps.length === 1) only.domain = domain
      open.delete(at)
      at += only?.pages ?? 1
    }
  }
}

function rangeAt(lanes: Int32Array, first: number, end: number): { page: number; pages: number } {
  const page = pageOf(lanes[first + 1] as number, lanes[first] as number, PAGE_SHIFT)
  const endPage = pageOf(lanes[end + 1] as number, lanes[end] as number, PAGE_SHIFT)
  return { page, pages: Math.max(0, endPage - page) }
}
