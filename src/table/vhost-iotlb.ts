import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import type { Journal } from '../bits/state.ts'
import { hiOf, loOf, U64_MAX, wordOf } from '../bits/u64.ts'

const HALF = 1n << 63n

export interface VhostIotlbOptions {
  /** Maps that it keeps at most. */
  readonly limit: number
  /** Where it is full, the map that came first makes room; otherwise the new one is refused. */
  readonly retire: boolean
  /** Undo log that takes every change back, and the key of this container in its hash. */
  readonly journal?: Journal | undefined
  readonly key?: number
  /** A map of the whole space becomes two halves (the default). Linux before 5.17: one map, whose size is 0. */
  readonly splitsFullRange?: boolean
  /**
   * A limit of 0 is refused, and without `retire` a full container refuses (the default; Linux 6.1.192). In the
   * kernels before, 0 is no limit, and the limit counts with `retire` only.
   */
  readonly enforcesLimit?: boolean
}

/** A map of an IOTLB: bytes [start, last] are at `address` on. */
export interface IotlbMap {
  readonly mapNumber: number
  readonly start: bigint
  readonly last: bigint
  readonly address: bigint
  readonly perm: number
}

interface Part {
  readonly map: IotlbMap
  readonly evicted: IotlbMap | undefined
}

/**
 * The maps of vhost's IOTLB, and of its memory table: 64-bit ranges, byte by byte, `last` inclusive, which may overlap.
 *
 * Adding replaces and merges nothing; of the maps that hold an address the one with the smallest start answers, of
 * equal starts the one that came first. A deletion takes whole maps. Maps are numbered from 1 in the order in which
 * they came (Linux drivers/vhost/iotlb.c).
 *
 * @example
 * const iotlb = new VhostIotlb({ limit: 2048, retire: true })
 * iotlb.add(0x1000n, 0x1fffn, 0x7f00_0000_1000n, 3) // 0
 * iotlb.first(0x1800n, 0x1800n) // true, and the map is in the fields
 */
export class VhostIotlb {
  /** The map that `first`, `next` or `showAdd` found. */
  mapNumber = 0
  startHi = 0
  startLo = 0
  lastHi = 0
  lastLo = 0
  addrHi = 0
  addrLo = 0
  perm = 0
  /** Number of the map that the last `add` made (of the second half, where it made two). */
  added = 0
  /** How many maps the last `add` made: 1, 2 where the whole space was split, 0 where it was refused. */
  addedMaps = 0
  /** Number of the map that made room for it, -1 where none had to. */
  evicted = -1
  evictedStartHi = 0
  evictedStartLo = 0
  evictedLastHi = 0
  evictedLastLo = 0
  readonly limit: number
  readonly #options: VhostIotlbOptions
  #maps: readonly IotlbMap[] = []
  #made = 0
  #parts: Part[] = []
  #from = 0n
  #to = 0n

  constructor(options: VhostIotlbOptions) {
    assert(Number.isSafeInteger(options.limit) && options.limit >= 0, 'a limit is a count')
    this.#options = options
    this.limit = options.limit
  }

  /** Maps. */
  get count(): number {
    return this.#maps.length
  }

  get start(): bigint {
    return wordOf(this.startHi, this.startLo)
  }

  get last(): bigint {
    return wordOf(this.lastHi, this.lastLo)
  }

  get address(): bigint {
    return wordOf(this.addrHi, this.addrLo)
  }

  get evictedStart(): bigint {
    return wordOf(this.evictedStartHi, this.evictedStartLo)
  }

  get evictedLast(): bigint {
    return wordOf(this.evictedLastHi, this.evictedLastLo)
  }

  /**
   * Bytes [start, last] are at `address` on. Answers 0, or an errno: EFAULT where last is below start, EINVAL with a
   * limit of 0, ENOSPC where there is no room. `added` and `evicted` say what came of it.
   */
  add(start: bigint, last: bigint, address: bigint, perm: number): number {
    const { retire, splitsFullRange = true, enforcesLimit = true } = this.#options
    this.#parts = []
    this.addedMaps = 0
    this.evicted = -1
    if (last < start) return ERRNO_CODES.EFAULT
    if (enforcesLimit && this.limit === 0) return ERRNO_CODES.EINVAL
    let [from, to] = [start, address]
    if (splitsFullRange && start === 0n && last === U64_MAX) {
      if (enforcesLimit && (this.limit < 2 || (!retire && this.count > this.limit - 2)))
        return ERRNO_CODES.ENOSPC
      this.#addOne(0n, HALF - 1n, address, perm)
      from = HALF
      to = BigInt.asUintN(64, address + HALF)
    }
    if (enforcesLimit && !retire && this.count >= this.limit) return ERRNO_CODES.ENOSPC
    this.#addOne(from, last, to, perm)
    return 0
  }

  /** `add`, with words in lanes. */
  addLanes(
    startHi: number,
    startLo: number,
    lastHi: number,
    lastLo: number,
    addrHi: number,
    addrLo: number,
    perm: number,
  ): number {
    return this.add(wordOf(startHi, startLo), wordOf(lastHi, lastLo), wordOf(addrHi, addrLo), perm)
  }

  /**
   * Shows map `part` (from 0) of the last `add` in the fields, and in `evicted` what made room for it: where the whole
   * space was split, each half may have put a map out.
   */
  showAdd(part: number): void {
    const { map, evicted } = this.#parts[part] as Part
    this.#show(map)
    this.#showPart(map, evicted)
  }

  /** Drops every map that overlaps [start, last], whole; answers how many. */
  delete(start: bigint, last: bigint): number {
    const gone = this.#maps.filter((m) => m.start <= last && m.last >= start)
    if (gone.length > 0)
      this.#become(
        this.#maps.filter((m) => !gone.includes(m)),
        this.#made,
      )
    return gone.length
  }

  /** `delete`, with words in lanes. */
  deleteLanes(startHi: number, startLo: number, lastHi: number, lastLo: number): number {
    return this.delete(wordOf(startHi, startLo), wordOf(lastHi, lastLo))
  }

  /** Drops every map; answers how many. */
  reset(): number {
    return this.delete(0n, U64_MAX)
  }

  /** Finds the map with the smallest start that overlaps [start, last] (of equal ones the first that came). */
  first(start: bigint, last: bigint): boolean {
    this.#from = start
    this.#to = last
    return this.#find(-1n, 0)
  }

  /** `first`, with words in lanes. */
  firstLanes(startHi: number, startLo: number, lastHi: number, lastLo: number): boolean {
    return this.first(wordOf(startHi, startLo), wordOf(lastHi, lastLo))
  }

  /** Finds the map that answers for one address. */
  at(hi: number, lo: number): boolean {
    return this.firstLanes(hi, lo, hi, lo)
  }

  /** Goes on behind the map that `first` or `next` found, in the same range. */
  next(): boolean {
    return this.#find(this.start, this.mapNumber)
  }

  /** All maps in the order in which they came. */
  *entries(): Generator<IotlbMap> {
    yield* this.#maps
  }

  #addOne(start: bigint, last: bigint, address: bigint, perm: number): void {
    const { retire } = this.#options
    const evicted = retire && this.limit > 0 && this.count >= this.limit ? this.#maps[0] : undefined
    const map = { mapNumber: this.#made + 1, start, last, address, perm }
    this.#become([...this.#maps.slice(evicted === undefined ? 0 : 1), map], map.mapNumber)
    this.#parts.push({ map, evicted })
    this.addedMaps++
    this.#showPart(map, evicted)
  }

  #showPart(map: IotlbMap, evicted: IotlbMap | undefined): void {
    this.added = map.mapNumber
    this.evicted = evicted?.mapNumber ?? -1
    this.evictedStartHi = hiOf(evicted?.start ?? 0n)
    this.evictedStartLo = loOf(evicted?.start ?? 0n)
    this.evictedLastHi = hiOf(evicted?.last ?? 0n)
    this.evictedLastLo = loOf(evicted?.last ?? 0n)
  }

  #become(maps: readonly IotlbMap[], made: number): void {
    const [before, madeBefore] = [this.#maps, this.#made]
    this.#options.journal?.change(
      this.#options.key ?? 0,
      madeBefore * 65_537 + before.length,
      made * 65_537 + maps.length,
      () => {
        this.#maps = before
        this.#made = madeBefore
      },
    )
    this.#maps = maps
    this.#made = made
  }

  #find(start: bigint, mapNumber: number): boolean {
    let found: IotlbMap | undefined
    for (const m of this.#maps) {
      if (m.start > this.#to || m.last < this.#from) continue
      if (m.start < start || (m.start === start && m.mapNumber <= mapNumber)) continue
      if (found === undefined || m.start < found.start) found = m
    }
    if (found === undefined) return false
    this.#show(found)
    return true
  }

  #show(m: IotlbMap): void {
    this.mapNumber = m.mapNumber
    this.startHi = hiOf(m.start)
    this.startLo = loOf(m.start)
    this.lastHi = hiOf(m.last)
    this.lastLo = loOf(m.last)
    this.addrHi = hiOf(m.address)
    this.addrLo = loOf(m.address)
    this.perm = m.perm
  }
}
