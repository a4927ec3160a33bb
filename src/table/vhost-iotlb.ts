import { ERRNO_CODES } from '../bits/codes.ts'
import { assert } from '../bits/errors.ts'
import type { Journal } from '../bits/state.ts'
import { hiOf, isBelow, loOf, wordOf } from '../bits/u64.ts'
import { IotlbIndex } from './iotlb-index.ts'
import { IotlbPageCache } from './iotlb-page-cache.ts'
import {
  ADDR_HI,
  ADDR_LO,
  type IotlbMap,
  IotlbSlots,
  LAST_HI,
  LAST_LO,
  NUMBER,
  PERM,
  PERM_MASK,
  SLOT_LANES,
  START_HI,
  START_LO,
} from './iotlb-slots.ts'

const NONE = -1
/** Upper lanes of 2^63 and of 2^63 - 1. */
const HALF_HI = 0x8000_0000 | 0
const BELOW_HALF_HI = 0x7fff_ffff
const NUMBER_MAX = 0xffff_fffe

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
   * A limit of 0 is refused, and without `retire` a full container refuses (the default; Linux 6.1.192). In kernels
   * without that check 0 is no limit, and the limit counts with `retire` only.
   */
  readonly enforcesLimit?: boolean
}

/**
 * The maps of vhost's IOTLB, and of its memory table: 64-bit ranges, byte by byte, `last` inclusive, which may overlap.
 *
 * Adding replaces and merges nothing; of the maps that hold an address the one with the smallest start answers, of
 * equal starts the one that came first. A deletion takes whole maps. Maps are numbered from 1 in the order in which
 * they came (Linux drivers/vhost/iotlb.c). At most 2^21 maps.
 *
 * Every operation costs O(log n), whatever overlaps, a look-up of one address mostly one read of a page cache. The
 * methods with words in lanes allocate nothing once the arrays have grown, while no undo log is kept.
 *
 * @example
 * const iotlb = new VhostIotlb({ limit: 2048, retire: true })
 * iotlb.add(0x1000n, 0x1fffn, 0x7f00_0000_1000n, 3) // 0
 * iotlb.first(0x1800n, 0x1800n) // true, and the map is in the fields
 */
export class VhostIotlb {
  /** The map that `first`, `at`, `next` or `showAdd` found. */
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
  evicted = NONE
  evictedStartHi = 0
  evictedStartLo = 0
  evictedLastHi = 0
  evictedLastLo = 0
  readonly limit: number
  readonly #retire: boolean
  readonly #splitsFullRange: boolean
  readonly #enforcesLimit: boolean
  readonly #journal: Journal | undefined
  readonly #key: number
  readonly #slots = new IotlbSlots()
  readonly #index = new IotlbIndex(this.#slots)
  readonly #cache = new IotlbPageCache(this.#slots)
  /** Maps that ever came: the number of the youngest. */
  #made = 0
  /** Slot of the map in the fields, and whether the index stands at it. */
  #shown = NONE
  #isStanding = false
  // What `next` looks for.
  #fromHi = 0
  #fromLo = 0
  #toHi = 0
  #toLo = 0
  /** What `showAdd` tells of two halves: the words of each, and number, start and last of what made room for it. */
  readonly #halves = [new Int32Array(SLOT_LANES * 2), new Int32Array(SLOT_LANES * 2)] as const

  constructor(options: VhostIotlbOptions) {
    assert(Number.isSafeInteger(options.limit) && options.limit >= 0, 'a limit is a count')
    this.limit = options.limit
    this.#retire = options.retire
    this.#splitsFullRange = options.splitsFullRange ?? true
    this.#enforcesLimit = options.enforcesLimit ?? true
    this.#journal = options.journal
    this.#key = options.key ?? 0
  }

  /** Maps. */
  get count(): number {
    return this.#slots.count
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
    return this.addLanes(hiOf(start), loOf(start), hiOf(last), loOf(last), hiOf(address), loOf(address), perm)
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
    this.addedMaps = 0
    this.evicted = NONE
    if (isBelow(lastHi, lastLo, startHi, startLo)) return ERRNO_CODES.EFAULT
    const refuses = this.#enforcesLimit && !this.#retire
    const room = this.limit - this.#slots.count
    if (this.#enforcesLimit && this.limit === 0) return ERRNO_CODES.EINVAL
    if (this.#splitsFullRange && (startHi | startLo) === 0 && (lastHi & lastLo) === -1) {
      if ((this.#enforcesLimit && this.limit < 2) || (refuses && room < 2)) return ERRNO_CODES.ENOSPC
      this.#addOne(0, 0, BELOW_HALF_HI, -1, addrHi, addrLo, perm)
      this.#keepHalf(0)
      this.#addOne(HALF_HI, 0, -1, -1, addrHi ^ HALF_HI, addrLo, perm)
      this.#keepHalf(1)
      this.addedMaps = 2
      return ERRNO_CODES.OK
    }
    if (refuses && room < 1) return ERRNO_CODES.ENOSPC
    this.#addOne(startHi, startLo, lastHi, lastLo, addrHi, addrLo, perm)
    this.addedMaps = 1
    return ERRNO_CODES.OK
  }

  /**
   * Shows map `part` (from 0) of the last `add` in the fields, and in `evicted` what made room for it: where the whole
   * space was split, each half may have put a map out, the second one even the first. Nothing else changed since.
   */
  showAdd(part: number): void {
    assert(part >= 0 && part < this.addedMaps, 'the last add made such a map')
    if (this.addedMaps === 1) {
      this.#show(this.#slots.newest)
      return
    }
    const half = this.#halves[part] as Int32Array
    this.#showWords(half, 0)
    this.#shown = NONE
    this.added = this.mapNumber
    this.#tellEvicted(half, SLOT_LANES)
  }

  /** Drops every map that overlaps [start, last], whole; answers how many. */
  delete(start: bigint, last: bigint): number {
    return this.deleteLanes(hiOf(start), loOf(start), hiOf(last), loOf(last))
  }

  /** `delete`, with words in lanes. */
  deleteLanes(startHi: number, startLo: number, lastHi: number, lastLo: number): number {
    this.#isStanding = false
    for (let maps = 0; ; maps++) {
      const slot = this.#index.seek(startHi, startLo)
      if (slot === NONE || !this.#slots.startsBy(slot, lastHi, lastLo)) return maps
      const more = this.#index.mayStartNext(lastHi, lastLo)
      this.#removeHere(slot)
      if (!more) return maps + 1
    }
  }

  /** Drops every map; answers how many. */
  reset(): number {
    if (this.#journal?.on === true) return this.deleteLanes(0, 0, -1, -1)
    const maps = this.#slots.count
    this.#isStanding = false
    this.#index.reset()
    this.#slots.clear()
    return maps
  }

  /** Finds the map with the smallest start that overlaps [start, last] (of equal ones the first that came). */
  first(start: bigint, last: bigint): boolean {
    return this.firstLanes(hiOf(start), loOf(start), hiOf(last), loOf(last))
  }

  /** `first`, with words in lanes. */
  firstLanes(startHi: number, startLo: number, lastHi: number, lastLo: number): boolean {
    this.#fromHi = startHi
    this.#fromLo = startLo
    this.#toHi = lastHi
    this.#toLo = lastLo
    this.#isStanding = false
    const slot = this.#index.find(startHi, startLo)
    if (slot === NONE || !this.#slots.startsBy(slot, lastHi, lastLo)) return false
    this.#show(slot)
    return true
  }

  /** Finds the map that answers for one address: `first` from it to it. */
  at(hi: number, lo: number): boolean {
    const slot = this.#cache.find(hi, lo)
    if (slot === NONE) return this.#lookUp(hi, lo)
    this.#fromHi = hi
    this.#fromLo = lo
    this.#toHi = hi
    this.#toLo = lo
    this.#isStanding = false
    this.#show(slot)
    return true
  }

  /** Goes on behind the map that `first`, `at` or `next` found, in the same range. That map is still there. */
  next(): boolean {
    if (!this.#isStanding) {
      assert(this.#slots.numberOf(this.#shown) === this.mapNumber, 'the map is still there')
      this.#index.seekSlot(this.#shown)
    }
    const slot = this.#index.seekNext(this.#fromHi, this.#fromLo)
    this.#isStanding = slot !== NONE && this.#slots.startsBy(slot, this.#toHi, this.#toLo)
    if (this.#isStanding) this.#show(slot)
    return this.#isStanding
  }

  /** All maps in the order in which they came. */
  *entries(): Generator<IotlbMap> {
    const slots = this.#slots
    for (let slot = slots.oldest; slot !== NONE; slot = slots.newerThan(slot)) yield slots.mapOf(slot)
  }

  /** What the page cache does not know. It learns the maps that answer for all of their bytes. */
  #lookUp(hi: number, lo: number): boolean {
    if (!this.firstLanes(hi, lo, hi, lo)) return false
    const slot = this.#shown
    if (!this.#cache.isClear(slot)) {
      this.#index.seekSlot(slot)
      if (this.#index.isReachedBefore()) return true
      this.#cache.setClear(slot)
    }
    this.#cache.keep(lo, slot)
    return true
  }

  #addOne(
    startHi: number,
    startLo: number,
    lastHi: number,
    lastLo: number,
    addrHi: number,
    addrLo: number,
    perm: number,
  ): void {
    const slots = this.#slots
    this.#isStanding = false
    this.evicted = NONE
    if (this.#retire && this.limit > 0 && slots.count >= this.limit) {
      const slot = slots.oldest
      this.#tellEvicted(slots.words, slot * SLOT_LANES)
      this.#index.seekSlot(slot)
      this.#removeHere(slot)
    }
    assert(this.#made < NUMBER_MAX, 'the number of a map fits 32 bits')
    const slot = slots.take(slots.newest)
    this.added = ++this.#made
    const { words } = slots
    const at = slot * SLOT_LANES
    words[at + START_HI] = startHi
    words[at + START_LO] = startLo
    words[at + LAST_HI] = lastHi
    words[at + LAST_LO] = lastLo
    words[at + ADDR_HI] = addrHi
    words[at + ADDR_LO] = addrLo
    words[at + PERM] = perm & PERM_MASK
    words[at + NUMBER] = this.#made
    this.#cache.fit(slots.count)
    this.#insert(slot)
    if (this.#journal?.on === true) this.#noteAdd(slot)
  }

  #insert(slot: number): void {
    const index = this.#index
    index.insert(slot)
    if (index.reachesNext) this.#cache.nextRound()
    if (!index.isReached) this.#cache.setClear(slot)
  }

  /** The map of a slot goes; the index stands at it. */
  #removeHere(slot: number): void {
    if (this.#journal?.on === true) this.#noteRemoval(slot)
    this.#index.remove()
    this.#slots.release(slot)
  }

  #show(slot: number): void {
    this.#shown = slot
    this.#showWords(this.#slots.words, slot * SLOT_LANES)
  }

  #showWords(words: Int32Array, at: number): void {
    this.mapNumber = (words[at + NUMBER] as number) >>> 0
    this.startHi = words[at + START_HI] as number
    this.startLo = words[at + START_LO] as number
    this.lastHi = words[at + LAST_HI] as number
    this.lastLo = words[at + LAST_LO] as number
    this.addrHi = words[at + ADDR_HI] as number
    this.addrLo = words[at + ADDR_LO] as number
    this.perm = (words[at + PERM] as number) & PERM_MASK
  }

  #tellEvicted(words: Int32Array, at: number): void {
    const number = words[at + NUMBER] as number
    this.evicted = number === NONE ? NONE : number >>> 0
    this.evictedStartHi = words[at + START_HI] as number
    this.evictedStartLo = words[at + START_LO] as number
    this.evictedLastHi = words[at + LAST_HI] as number
    this.evictedLastLo = words[at + LAST_LO] as number
  }

  #keepHalf(part: number): void {
    const half = this.#halves[part] as Int32Array
    const at = this.#slots.newest * SLOT_LANES
    for (let lane = 0; lane < SLOT_LANES; lane++) half[lane] = this.#slots.words[at + lane] as number
    half[SLOT_LANES + NUMBER] = this.evicted
    half[SLOT_LANES + START_HI] = this.evictedStartHi
    half[SLOT_LANES + START_LO] = this.evictedStartLo
    half[SLOT_LANES + LAST_HI] = this.evictedLastHi
    half[SLOT_LANES + LAST_LO] = this.evictedLastLo
  }

  #noteAdd(slot: number): void {
    const [h, g] = this.#slots.hashOf(slot, this.#key)
    this.#journal?.change(h, 0, g, () => {
      this.#forgetFound()
      this.#index.seekSlot(slot)
      this.#index.remove()
      this.#slots.release(slot)
      this.#made--
    })
  }

  #noteRemoval(slot: number): void {
    const [h, g] = this.#slots.hashOf(slot, this.#key)
    const words = this.#slots.words.slice(slot * SLOT_LANES, (slot + 1) * SLOT_LANES)
    const older = this.#slots.olderThan(slot)
    this.#journal?.change(h, g, 0, () => {
      this.#forgetFound()
      const again = this.#slots.take(older)
      assert(again === slot, 'a slot is taken again in the order in which it was given back')
      words[PERM] = (words[PERM] as number) & PERM_MASK
      this.#slots.words.set(words, slot * SLOT_LANES)
      this.#insert(slot)
    })
  }

  /** What was found may be no more: numbers come again after an undo. */
  #forgetFound(): void {
    this.#isStanding = false
    this.#shown = NONE
  }
}
