import { ERRNO_CODES } from '../src/bits/codes.ts'

/** What a naive list does wrong when it is told to: each must show. */
export const FAULTS = [
  'of equal starts the newest answers',
  'of overlapping maps the first that came answers',
  'a deletion takes only what it covers',
  'an invalid range overlaps nothing',
  'a look-up makes a map young',
  'the map with the smallest start makes room',
  'a map replaces an equal one',
  'the whole space is one map',
  'the second half has the address of the first',
  'a limit of 0 is none',
] as const

export type Fault = (typeof FAULTS)[number]

/** Words as two unsigned halves each. */
export interface NaiveMap {
  readonly mapNumber: number
  readonly startHi: number
  readonly startLo: number
  readonly lastHi: number
  readonly lastLo: number
  readonly addrHi: number
  readonly addrLo: number
  readonly perm: number
}

export interface NaiveOptions {
  readonly limit: number
  readonly retire: boolean
  readonly splitsFullRange?: boolean
  readonly enforcesLimit?: boolean
  readonly fault?: Fault
}

const MAX = 0xffff_ffff
const HALF = 0x8000_0000

const below = (aHi: number, aLo: number, bHi: number, bLo: number): boolean =>
  aHi < bHi || (aHi === bHi && aLo < bLo)

/** Linux's rules for vhost's IOTLB, on an array in the order of insertion: no tree, no cache, no care for speed. */
export class NaiveIotlb {
  maps: NaiveMap[] = []
  made = 0
  /** Maps that the last `add` made, and what made room for each. */
  parts: { readonly map: NaiveMap; readonly evicted: NaiveMap | undefined }[] = []
  readonly #options: NaiveOptions

  constructor(options: NaiveOptions) {
    this.#options = options
  }

  add(map: Omit<NaiveMap, 'mapNumber'>): number {
    const { limit, retire, splitsFullRange = true, enforcesLimit = true, fault } = this.#options
    const enforces = enforcesLimit && !(limit === 0 && fault === 'a limit of 0 is none')
    this.parts = []
    if (below(map.lastHi, map.lastLo, map.startHi, map.startLo)) return ERRNO_CODES.EFAULT
    if (enforces && limit === 0) return ERRNO_CODES.EINVAL
    const splits = splitsFullRange && fault !== 'the whole space is one map'
    const isFull = map.startHi === 0 && map.startLo === 0 && map.lastHi === MAX && map.lastLo === MAX
    if (splits && isFull) {
      if (enforces && limit < 2) return ERRNO_CODES.ENOSPC
      if (enforces && !retire && this.maps.length > limit - 2) return ERRNO_CODES.ENOSPC
      this.#push({ ...map, lastHi: HALF - 1 })
      const addrHi =
        fault === 'the second half has the address of the first' ? map.addrHi : (map.addrHi ^ HALF) >>> 0
      this.#push({ ...map, startHi: HALF, addrHi })
      return 0
    }
    if (enforces && !retire && this.maps.length >= limit) return ERRNO_CODES.ENOSPC
    this.#push(map)
    return 0
  }

  delete(fromHi: number, fromLo: number, toHi: number, toLo: number): number {
    const before = this.maps.length
    const onlyCovered = this.#options.fault === 'a deletion takes only what it covers'
    this.maps = this.maps.filter((m) => {
      if (!this.overlaps(m, fromHi, fromLo, toHi, toLo)) return true
      return (
        onlyCovered && (below(m.startHi, m.startLo, fromHi, fromLo) || below(toHi, toLo, m.lastHi, m.lastLo))
      )
    })
    return before - this.maps.length
  }

  /** The overlapping map that comes next in the order of starts behind one; the first, where there is none. */
  find(fromHi: number, fromLo: number, toHi: number, toLo: number, behind?: NaiveMap): NaiveMap | undefined {
    const { fault } = this.#options
    let found: NaiveMap | undefined
    for (const m of this.maps) {
      if (!this.overlaps(m, fromHi, fromLo, toHi, toLo)) continue
      if (behind !== undefined && !isAfter(m, behind)) continue
      if (fault === 'of overlapping maps the first that came answers') {
        found ??= m
        continue
      }
      const wins = fault === 'of equal starts the newest answers' ? !isAfter(m, found, 0) : !isAfter(m, found)
      if (found === undefined || wins) found = m
    }
    if (fault === 'a look-up makes a map young' && found !== undefined) {
      this.maps = [...this.maps.filter((m) => m !== found), found]
    }
    return found
  }

  overlaps(m: NaiveMap, fromHi: number, fromLo: number, toHi: number, toLo: number): boolean {
    if (this.#options.fault === 'an invalid range overlaps nothing' && below(toHi, toLo, fromHi, fromLo)) {
      return false
    }
    return !below(toHi, toLo, m.startHi, m.startLo) && !below(m.lastHi, m.lastLo, fromHi, fromLo)
  }

  #push(map: Omit<NaiveMap, 'mapNumber'>): void {
    const { limit, retire, fault } = this.#options
    let evicted: NaiveMap | undefined
    if (retire && limit > 0 && this.maps.length >= limit) {
      evicted =
        fault === 'the map with the smallest start makes room' ? this.find(0, 0, MAX, MAX) : this.maps[0]
      this.maps = this.maps.filter((m) => m !== evicted)
    }
    if (fault === 'a map replaces an equal one') {
      this.maps = this.maps.filter((m) => isAfter(m, map, 0) || isAfter(map, m, 0))
    }
    const made = { mapNumber: ++this.made, ...map }
    this.maps.push(made)
    this.parts.push({ map: made, evicted })
  }
}

type Place = Pick<NaiveMap, 'startHi' | 'startLo'> & { readonly mapNumber?: number }

/** Whether a map comes after another in the order of starts; of equal starts, in the order of their numbers. */
function isAfter(a: Place, b: Place | undefined, tie?: 0): boolean {
  if (b === undefined) return false
  if (a.startHi !== b.startHi) return a.startHi > b.startHi
  if (a.startLo !== b.startLo) return a.startLo > b.startLo
  return tie === undefined && (a.mapNumber ?? 0) > (b.mapNumber ?? 0)
}
