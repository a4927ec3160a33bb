import { type IotlbSlots, NUMBER, SLOT_LANES } from './iotlb-slots.ts'

const PLACES_MIN = 64
const PLACES_MAX = 1 << 16
/** Places for each map: a map of a few pages has one for each of them. */
const PLACES_A_MAP = 4

const PAGE_SHIFT = 12
const NO_PAGE = -1
const LANES = 4

/**
 * Remembers for pages of 4 KiB which map of an IOTLB answers for each byte of them. Direct-mapped.
 *
 * What it remembers holds as long as that map is there, unless another comes in before it that reaches the page: then
 * `drop` is due. A slot that has another map by now has another number, so that maps that go need no word.
 */
export class IotlbPageCache {
  readonly #slots: IotlbSlots
  #pages = new Float64Array(PLACES_MIN).fill(NO_PAGE)
  // Slot, number of its map, and what `#round` was.
  #answers = new Int32Array(PLACES_MIN * LANES)
  #mask = PLACES_MIN - 1
  #shift = Math.log2(PLACES_MIN)
  #round = 1

  constructor(slots: IotlbSlots) {
    this.#slots = slots
  }

  /** The slot that answers for an address, or -1 where that is not known. */
  find(hi: number, lo: number): number {
    const page = (hi >>> 0) * 0x10_0000 + (lo >>> PAGE_SHIFT)
    const place = this.#placeOf(lo)
    if (this.#pages[place] !== page) return -1
    const answers = this.#answers
    const slot = answers[place * LANES] as number
    const number = answers[place * LANES + 1] as number
    const isFresh = answers[place * LANES + 2] === this.#round
    return isFresh && this.#slots.words[slot * SLOT_LANES + NUMBER] === number ? slot : -1
  }

  /** A slot answers for every byte of the page of an address. */
  keep(hi: number, lo: number, slot: number): void {
    const place = this.#placeOf(lo)
    this.#pages[place] = (hi >>> 0) * 0x10_0000 + (lo >>> PAGE_SHIFT)
    this.#answers[place * LANES] = slot
    this.#answers[place * LANES + 1] = this.#slots.words[slot * SLOT_LANES + NUMBER] as number
    this.#answers[place * LANES + 2] = this.#round
  }

  /** Forgets everything. */
  drop(): void {
    this.#round = (this.#round + 1) | 0
    // All rounds have been there: what a place has from the first may not come back.
    if (this.#round === 0) this.#pages.fill(NO_PAGE)
  }

  /** Has places enough for so many maps, within bounds; forgets everything where it grows. */
  fit(maps: number): void {
    let places = this.#pages.length
    if (maps * PLACES_A_MAP <= places || places === PLACES_MAX) return
    while (places < maps * PLACES_A_MAP && places < PLACES_MAX) places *= 2
    this.#pages = new Float64Array(places).fill(NO_PAGE)
    this.#answers = new Int32Array(places * LANES)
    this.#mask = places - 1
    this.#shift = Math.log2(places)
  }

  /** Neighbours have neighbouring places; maps that leave gaps between them still use all. */
  #placeOf(lo: number): number {
    const page = lo >>> PAGE_SHIFT
    return (page ^ (page >>> this.#shift)) & this.#mask
  }
}
