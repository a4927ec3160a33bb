import type { Journal } from '../../../bits/state.ts'
import { ADDRESS_TYPE, PERM, type Translation, type VtdRequest } from '../ports.ts'
import { pageHiOf, pageLoOf } from './page-rows.ts'

/** Lanes of a place: one line of a processor's cache. */
const GENERATION = 0
const PAGE_LO = 1
/** Upper 20 bits of the page, and whether the request is privileged. */
const PAGE_HI = 2
const SOURCE = 3
const PASID = 4
const TARGET = 5
/** Permissions, flags, log2 of the bytes of the page. */
const META = 6
const DOMAIN = 7
const USED_PASID = 8
const NUMBER = 9
const PLACE_SHIFT = 4

const PLACES_SHIFT = 10
const PLACES_MASK = (1 << PLACES_SHIFT) - 1

const IS_PRIVILEGED = 1 << 20
const PERM_MASK = 7
const IS_DIRTY = 1 << 3
const IS_GLOBAL = 1 << 4
const SHIFT_SHIFT = 8
const GENERATION_MAX = 0x7fff_ffff

/**
 * The answers that the caches of a unit gave last, by request: a short way to the same answer while nothing is forgotten. It is
 * no cache of the unit: what it says follows from those, so it is not part of the state.
 */
export class Front {
  readonly #places = new Int32Array(1 << (PLACES_SHIFT + PLACE_SHIFT))
  readonly #journal: Journal
  #generation = 1
  #rollbacks = 0

  constructor(journal: Journal) {
    this.#journal = journal
  }

  /** Another number when something was forgotten since. */
  get generation(): number {
    this.#look()
    return this.#generation
  }

  /** Whatever a cache forgets, or may answer otherwise from now on: no answer before this counts. */
  clear(): void {
    if (this.#generation === GENERATION_MAX) {
      this.#places.fill(0)
      this.#generation = 0
    }
    this.#generation++
  }

  /**
   * Whether the answer to a request is here: it is in `into` then. Answers the number of its entry, 0 where it is not. A
   * request that is allowed less than it needs, or that would have a dirty bit set, has none.
   */
  find(request: VtdRequest, into: Translation): number {
    const { hi, lo, source, need } = request
    this.#look()
    const pageLo = pageLoOf(hi, lo)
    const places = this.#places
    const at = placeOf(pageLo, source)
    if (
      places[at + PAGE_LO] !== pageLo ||
      places[at + GENERATION] !== this.#generation ||
      places[at + SOURCE] !== source ||
      places[at + PASID] !== (request.pasid | 0) ||
      places[at + PAGE_HI] !== (pageHiOf(hi) | (request.isPrivileged ? IS_PRIVILEGED : 0)) ||
      request.addressType !== ADDRESS_TYPE.UNTRANSLATED
    )
      return 0
    const meta = places[at + META] as number
    if ((need & ~meta & PERM_MASK) !== 0) return 0
    if ((need & PERM.WRITE) !== 0 && (meta & IS_DIRTY) === 0) return 0
    into.fault = 0
    into.isSilent = false
    into.page = places[at + TARGET] as number
    into.shift = meta >>> SHIFT_SHIFT
    into.perm = meta & PERM_MASK
    into.domain = places[at + DOMAIN] as number
    into.pasid = (places[at + USED_PASID] as number) >>> 0
    into.isGlobal = (meta & IS_GLOBAL) !== 0
    into.isDirect = false
    into.isInterrupt = false
    return places[at + NUMBER] as number
  }

  /** A machine that goes back forgets as well. */
  #look(): void {
    if (this.#journal.rollbacks === this.#rollbacks) return
    this.#rollbacks = this.#journal.rollbacks
    this.clear()
  }

  /** Keeps the answer to an ordinary request, which an entry of the IOTLB gave. */
  keep(request: VtdRequest, to: Translation, isDirty: boolean, number: number): void {
    const { hi, lo, source } = request
    // Memory above 8 TiB does not fit a lane.
    if (to.isDirect || to.page > 0x7fff_ffff || request.addressType !== ADDRESS_TYPE.UNTRANSLATED) return
    const pageLo = pageLoOf(hi, lo)
    const places = this.#places
    const at = placeOf(pageLo, source)
    places[at + GENERATION] = this.#generation
    places[at + PAGE_LO] = pageLo
    places[at + PAGE_HI] = pageHiOf(hi) | (request.isPrivileged ? IS_PRIVILEGED : 0)
    places[at + SOURCE] = source
    places[at + PASID] = request.pasid
    places[at + TARGET] = to.page
    places[at + META] =
      to.perm | (isDirty ? IS_DIRTY : 0) | (to.isGlobal ? IS_GLOBAL : 0) | (to.shift << SHIFT_SHIFT)
    places[at + DOMAIN] = to.domain
    places[at + USED_PASID] = to.pasid
    places[at + NUMBER] = number
  }
}

const placeOf = (pageLo: number, source: number): number =>
  ((pageLo ^ (pageLo >>> PLACES_SHIFT) ^ Math.imul(source, 0x9d)) & PLACES_MASK) << PLACE_SHIFT
