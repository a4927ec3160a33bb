import { IommulatorError } from '../bits/errors.ts'
import { isBelow, wordOf } from '../bits/u64.ts'

/** Lanes of a slot: the words of its map. */
export const SLOT_LANES = 8
export const START_HI = 0
export const START_LO = 1
export const LAST_HI = 2
export const LAST_LO = 3
export const ADDR_HI = 4
export const ADDR_LO = 5
/** Permission in its lower bits; in the upper ones, in which round of an `IotlbPageCache` the map was seen to be clear. */
export const PERM = 6
export const NUMBER = 7

export const PERM_MASK = 0xff
export const ROUND_SHIFT = 8

/** Most slots. */
const SLOTS_MAX = 1 << 21

/** A map of an IOTLB: bytes [start, last] are at `address` on. */
export interface IotlbMap {
  readonly mapNumber: number
  readonly start: bigint
  readonly last: bigint
  readonly address: bigint
  readonly perm: number
}

const NONE = -1
const FEW = 16

/**
 * Slots for the maps of an IOTLB, each with the words of one map, in a list from the oldest to the newest.
 *
 * A slot that is given back is the next one handed out, so that an undo log which goes back step by step finds each
 * map in the slot that it had.
 */
export class IotlbSlots {
  /** Word `lane` of a slot stands at `slot * SLOT_LANES + lane`. A free slot has number 0. */
  words = new Int32Array(FEW * SLOT_LANES)
  /** The oldest and the newest, or -1. */
  oldest = NONE
  newest = NONE
  count = 0
  // Neighbours of a slot in the list, older and newer; of a free slot the next free one.
  #links = new Int32Array(FEW * 2)
  #free = NONE
  #made = 0

  /** The slot before one in the order of age, -1 at the oldest. */
  olderThan(slot: number): number {
    return this.#links[slot * 2] as number
  }

  newerThan(slot: number): number {
    return this.#links[slot * 2 + 1] as number
  }

  /** A slot that comes into the list behind `older` (-1: as the oldest). Its words are the caller's to fill. */
  take(older: number): number {
    let slot = this.#free
    if (slot === NONE) slot = this.#make()
    else this.#free = this.#links[slot * 2] as number
    const links = this.#links
    const newer = older === NONE ? this.oldest : (links[older * 2 + 1] as number)
    links[slot * 2] = older
    links[slot * 2 + 1] = newer
    if (older === NONE) this.oldest = slot
    else links[older * 2 + 1] = slot
    if (newer === NONE) this.newest = slot
    else links[newer * 2] = slot
    this.count++
    return slot
  }

  release(slot: number): void {
    const links = this.#links
    const older = links[slot * 2] as number
    const newer = links[slot * 2 + 1] as number
    if (older === NONE) this.oldest = newer
    else links[older * 2 + 1] = newer
    if (newer === NONE) this.newest = older
    else links[newer * 2] = older
    links[slot * 2] = this.#free
    this.#free = slot
    this.#wipe(slot)
    this.count--
  }

  /** Gives all slots back. */
  clear(): void {
    for (let slot = this.oldest; slot !== NONE; slot = this.newerThan(slot)) this.#wipe(slot)
    this.oldest = NONE
    this.newest = NONE
    this.#free = NONE
    this.#made = 0
    this.count = 0
  }

  /** Number of the map in a slot, 0 where there is none. */
  numberOf(slot: number): number {
    return slot === NONE ? 0 : (this.words[slot * SLOT_LANES + NUMBER] as number) >>> 0
  }

  /** Whether the map of a slot starts at or below a word. */
  startsBy(slot: number, hi: number, lo: number): boolean {
    const at = slot * SLOT_LANES
    return !isBelow(hi, lo, this.words[at + START_HI] as number, this.words[at + START_LO] as number)
  }

  mapOf(slot: number): IotlbMap {
    const word = (lane: number) => this.words[slot * SLOT_LANES + lane] as number
    return {
      mapNumber: word(NUMBER) >>> 0,
      start: wordOf(word(START_HI), word(START_LO)),
      last: wordOf(word(LAST_HI), word(LAST_LO)),
      address: wordOf(word(ADDR_HI), word(ADDR_LO)),
      perm: word(PERM) & PERM_MASK,
    }
  }

  /** What stands for a map in the hash of an undo log: a key (from one of the container), and a value. */
  hashOf(slot: number, key: number): readonly [h: number, g: number] {
    let h = key
    let g = 0x2545_f491
    for (let lane = 0; lane < SLOT_LANES; lane++) {
      const lanes = this.words[slot * SLOT_LANES + lane] as number
      const word = lane === PERM ? lanes & PERM_MASK : lanes
      h = Math.imul(h ^ word, 0x85eb_ca6b)
      h ^= h >>> 15
      g = Math.imul(g ^ word, 0xc2b2_ae35)
      g ^= g >>> 13
    }
    return [h, g | 1]
  }

  #wipe(slot: number): void {
    this.words[slot * SLOT_LANES + NUMBER] = 0
    this.words[slot * SLOT_LANES + PERM] = 0
  }

  #make(): number {
    const slot = this.#made
    const slots = this.#links.length / 2
    if (slot === SLOTS_MAX) {
      throw new IommulatorError('ERR_STATE_LIMIT', `an IOTLB keeps ${SLOTS_MAX} maps at most`)
    }
    if (slot === slots) {
      const [words, links] = [this.words, this.#links]
      this.words = new Int32Array(words.length * 2)
      this.words.set(words)
      this.#links = new Int32Array(links.length * 2)
      this.#links.set(links)
    }
    this.#made++
    return slot
  }
}
