import { isBelow } from '../bits/u64.ts'
import {
  type IotlbSlots,
  LAST_HI,
  LAST_LO,
  PERM,
  PERM_MASK,
  ROUND_SHIFT,
  SLOT_LANES,
  START_HI,
  START_LO,
} from './iotlb-slots.ts'

const PLACES_MIN = 64
const PLACES_MAX = 1 << 20
/** Places for each map: a map of a few pages has one for each of them. */
const PLACES_A_MAP = 4
const PAGE_SHIFT = 12
const ROUND_MAX = 0xff_ffff

/**
 * Remembers for pages of 4 KiB the slot of the map that answered last. Direct-mapped.
 *
 * A map is clear if none that comes before it in the order of starts reaches its first byte: then it answers for all of
 * its bytes, and a slot that holds a clear map with the address in it is the answer, whatever was there when the page was
 * remembered. Maps that go leave others clear. One that comes may not: where it reaches a map behind it, a new round
 * begins, in which no map is known to be clear until it is seen again.
 */
export class IotlbPageCache {
  readonly #slots: IotlbSlots
  #places = new Int32Array(PLACES_MIN)
  #mask = PLACES_MIN - 1
  #shift = Math.log2(PLACES_MIN)
  #round = 1

  constructor(slots: IotlbSlots) {
    this.#slots = slots
  }

  /** The slot that answers for an address, or -1 where that is not known. */
  find(hi: number, lo: number): number {
    const slot = this.#places[this.#placeOf(lo)] as number
    const { words } = this.#slots
    const at = slot * SLOT_LANES
    // A slot that is free has no round.
    if ((words[at + PERM] as number) >>> ROUND_SHIFT !== this.#round) return -1
    if (isBelow(hi, lo, words[at + START_HI] as number, words[at + START_LO] as number)) return -1
    return isBelow(words[at + LAST_HI] as number, words[at + LAST_LO] as number, hi, lo) ? -1 : slot
  }

  /** A slot has answered for an address. */
  keep(lo: number, slot: number): void {
    this.#places[this.#placeOf(lo)] = slot
  }

  /** Whether the map of a slot is known to be clear. */
  isClear(slot: number): boolean {
    return (this.#slots.words[slot * SLOT_LANES + PERM] as number) >>> ROUND_SHIFT === this.#round
  }

  /** The map of a slot is clear. */
  setClear(slot: number): void {
    const { words } = this.#slots
    const at = slot * SLOT_LANES + PERM
    words[at] = (this.#round << ROUND_SHIFT) | ((words[at] as number) & PERM_MASK)
  }

  /** A map came that reaches one behind it. */
  nextRound(): void {
    if (this.#round < ROUND_MAX) {
      this.#round++
      return
    }
    this.#round = 1
    const { words } = this.#slots
    for (let at = PERM; at < words.length; at += SLOT_LANES) words[at] = (words[at] as number) & PERM_MASK
  }

  /** Has places enough for so many maps, within bounds; forgets everything where it grows. */
  fit(maps: number): void {
    let places = this.#places.length
    if (maps * PLACES_A_MAP <= places || places === PLACES_MAX) return
    while (places < maps * PLACES_A_MAP && places < PLACES_MAX) places *= 2
    this.#places = new Int32Array(places)
    this.#mask = places - 1
    this.#shift = Math.log2(places)
  }

  /** Neighbours have neighbouring places; maps that leave gaps between them still use all. */
  #placeOf(lo: number): number {
    const page = lo >>> PAGE_SHIFT
    return (page ^ (page >>> this.#shift)) & this.#mask
  }
}
