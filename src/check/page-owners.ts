import { NO_VALUE, RangeMap } from '../bits/range-map.ts'
import { wordOf } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { isFree } from './describe.ts'
import { NO_RECORD } from './lives.ts'
import { pageSlot } from './window-shadow.ts'
import { bytesText } from './words.ts'

const OWN = slotMap('page.own')
const MEMORY = slotMap('memory.slot')
const UNIT_SHIFT = 12
const UNIT_BYTES = 1 << UNIT_SHIFT

/** A stretch of 4 KiB pages, and who owns it: an interned name, or NO_VALUE where nobody does. */
export interface Owned {
  readonly start: number
  readonly end: number
  readonly owner: number
}

/** The 4 KiB pages that a `page.own` or `memory.slot` record speaks of. */
export interface PageSpan {
  readonly start: number
  readonly end: number
}

/**
 * Who owns which page of guest memory, and what of it is RAM of the partition, by `page.own` and
 * `memory.slot` records. Pages are counted in 4 KiB.
 *
 * An owner lies outside the partition where its name begins with `host:`, or with `partition:` and is not the
 * owner of a memory slot.
 */
export class PageOwners {
  readonly #owners = new RangeMap()
  /** The last owner of each page, kept when it becomes free. */
  readonly #lastOwners = new RangeMap()
  readonly #records = new RangeMap()
  readonly #ram = new RangeMap()
  readonly #partitions = new Set<number>()
  /** A page has belonged to an owner outside the partition. */
  hasOutsiders = false

  /** Whether the partition's RAM is known. */
  get hasRam(): boolean {
    return this.#ram.count > 0
  }

  spanOf(log: RecordLog, seq: number): PageSpan {
    if (log.kindOf(seq) === 'memory.slot') {
      const gpa = wordOf(log.slot(seq, MEMORY.gpa + 1), log.slot(seq, MEMORY.gpa))
      const bytes = wordOf(log.slot(seq, MEMORY.bytes + 1), log.slot(seq, MEMORY.bytes))
      const start = Number(gpa >> BigInt(UNIT_SHIFT))
      return { start, end: start + Number(bytes >> BigInt(UNIT_SHIFT)) }
    }
    const units = 2 ** (log.slot(seq, OWN.pageShift) - UNIT_SHIFT)
    const start = Math.floor(pageSlot(log, seq, OWN.first) * units)
    return { start, end: start + Math.ceil(pageSlot(log, seq, OWN.count) * units) }
  }

  /** Takes note of a `page.own` record. */
  own(log: RecordLog, seq: number): void {
    const { start, end } = this.spanOf(log, seq)
    const owner = log.slot(seq, OWN.owner)
    this.#records.set(start, end, seq)
    if (isFree(log.names.word(owner))) this.#owners.erase(start, end)
    else {
      this.#owners.set(start, end, owner)
      this.#lastOwners.set(start, end, owner)
      if (this.isOutside(log, owner)) this.hasOutsiders = true
    }
  }

  /** Takes note of a `memory.slot` record. */
  slot(log: RecordLog, seq: number): void {
    const { start, end } = this.spanOf(log, seq)
    if (log.slot(seq, MEMORY.present) === 1) {
      this.#ram.set(start, end, 1)
      this.#partitions.add(log.slot(seq, MEMORY.owner))
    } else this.#ram.erase(start, end)
  }

  isOutside(log: RecordLog, owner: number): boolean {
    if (this.#partitions.has(owner)) return false
    const word = log.names.word(owner)
    return word.startsWith('host:') || word.startsWith('partition:')
  }

  /** Whether all pages of [start, end) have one owner. Allocates nothing. */
  areAllOf(owner: number, start: number, end: number): boolean {
    const owners = this.#owners
    return owners.next(start) && owners.start <= start && owners.end >= end && owners.value === owner
  }

  /** Whether all pages of [start, end) are RAM of the partition. Allocates nothing. */
  areRam(start: number, end: number): boolean {
    return this.#ram.covers(start, end)
  }

  /** The first page of a span that is not. */
  firstBeyondRam({ start, end }: PageSpan): number {
    let at = start
    while (at < end && this.#ram.next(at) && this.#ram.start <= at) at = this.#ram.end
    return Math.min(at, end)
  }

  ownerOf(page: number): number {
    return this.#owners.get(page)
  }

  lastOwnerOf(page: number): number {
    return this.#lastOwners.get(page)
  }

  /** The record that says who owns a page, or NO_RECORD. */
  recordOf(page: number): number {
    const seq = this.#records.get(page)
    return seq === NO_VALUE ? NO_RECORD : seq
  }

  /** Whether some record speaks of a page of a span. */
  isKnown({ start, end }: PageSpan): boolean {
    return this.#records.next(start) && this.#records.start < end
  }

  /** Pages of a span that no record speaks of. */
  unknownIn({ start, end }: PageSpan): number {
    let known = 0
    for (const r of this.#records.ranges(start, end)) known += Math.min(end, r.end) - Math.max(start, r.start)
    return Math.max(0, end - start - known)
  }

  /** A span cut by owner, in order. */
  *owned({ start, end }: PageSpan): Generator<Owned> {
    let at = start
    for (const range of this.#owners.ranges(start, end)) {
      if (range.start > at) yield { start: at, end: range.start, owner: NO_VALUE }
      at = Math.min(end, range.end)
      yield { start: Math.max(start, range.start), end: at, owner: range.value }
    }
    if (at < end) yield { start: at, end, owner: NO_VALUE }
  }

  /** How many pages of a span each owner has; NO_VALUE stands for nobody. */
  ownersOf(span: PageSpan): Map<number, number> {
    const owners = new Map<number, number>()
    for (const { start, end, owner } of this.owned(span)) {
      owners.set(owner, (owners.get(owner) ?? 0) + end - start)
    }
    return owners
  }

  /** For each of some owners the record that gave it its first page of a span. */
  recordsOf(owners: ReadonlyMap<number, number>, span: PageSpan): number[] {
    const records = new Map<number, number>()
    for (const { start, owner } of this.owned(span)) {
      if (!owners.has(owner) || records.has(owner)) continue
      const record = this.recordOf(start)
      if (record !== NO_RECORD) records.set(owner, record)
    }
    return [...records.values()]
  }
}

/** Pages by owner, in words: `kernel 12 KiB, free 4 KiB`. Most pages first. */
export function ownersText(log: RecordLog, pages: ReadonlyMap<number, number>): string {
  return [...pages]
    .sort((a, b) => b[1] - a[1] || a[0] - b[0])
    .map(
      ([owner, n]) => `${owner === NO_VALUE ? 'free' : log.names.word(owner)} ${bytesText(n * UNIT_BYTES)}`,
    )
    .join(', ')
}
