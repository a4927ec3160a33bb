/**
 * Access patterns and table contents, made before anything is timed. `floors.c` makes the same ones.
 */

/** Most places of a pattern; a longer pass goes through it again. */
export const PATTERN_PLACES = 1 << 20
export const PATTERN_SEED = 0x2545_f491
export const PAGE_SHIFT = 16
/** Upper lane of the bus address of a dynamic window, 2^59. */
export const BUS_HI = 0x0800_0000

/** xorshift32; the state must not be 0. */
export class Xorshift {
  #state: number

  constructor(seed = PATTERN_SEED) {
    this.#state = seed | 0
  }

  /** 32 bits, unsigned. */
  next(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x
    return x >>> 0
  }
}

/** The page (of 64 KiB) that entry `index` of a table maps. */
export const pageOfEntry = (index: number): number => (Math.imul(index, 40503) + 11) & 0xf_ffff

/** Permissions read and write. */
export const PERM = 3
/** The lower lane of the TCE of entry `index`. */
export const tceLo = (index: number): number => (pageOfEntry(index) << PAGE_SHIFT) | PERM
/** The upper lane. */
export const tceHi = (index: number): number => pageOfEntry(index) >>> (32 - PAGE_SHIFT)

export interface Addresses {
  readonly hi: Int32Array
  readonly lo: Int32Array
  /** Places - 1: `i & mask` goes round and round. */
  readonly mask: number
}

/** Bus addresses in a window of 64K pages at 2^59 with 2^log2Entries entries; `within` is what varies inside a page. */
export function busAddresses(
  operations: number,
  log2Entries: number,
  order: 'seq' | 'random',
  within = 0xfff8,
): Addresses {
  const places = Math.min(operations, PATTERN_PLACES)
  const hi = new Int32Array(places)
  const lo = new Int32Array(places)
  const random = new Xorshift()
  const mask = 2 ** log2Entries - 1
  for (let i = 0; i < places; i++) {
    const entry = ((order === 'random' ? random.next() : i) & mask) >>> 0
    hi[i] = BUS_HI + (entry >>> (32 - PAGE_SHIFT))
    lo[i] = (entry << PAGE_SHIFT) + (random.next() & within)
  }
  return { hi, lo, mask: places - 1 }
}

/** A place in the page of 4 KiB, another for each page: at one place in all pages the data would fight for a few cache lines. */
export const placeIn = (page: number): number => (page * 0x48) & 0xff8

/** Numbers below `end` in random order, and the mask to go round in them. */
export function randomIndices(operations: number, end: number): { at: Uint32Array; mask: number } {
  const places = Math.min(operations, PATTERN_PLACES)
  const random = new Xorshift()
  const at = Uint32Array.from({ length: places }, () => random.next() % end)
  return { at, mask: places - 1 }
}

/** The numbers below `end`, each once, in random order. */
export function shuffled(end: number): Uint32Array {
  const random = new Xorshift()
  const at = Uint32Array.from({ length: end }, (_, i) => i)
  for (let i = end - 1; i > 0; i--) {
    const other = random.next() % (i + 1)
    const was = at[i] as number
    at[i] = at[other] as number
    at[other] = was
  }
  return at
}

const ZIPF_EXPONENT = 0.99

/**
 * Numbers below `end`: the one of rank r comes up 1 / r^0.99 times as often as the first, and ranks are spread over all
 * numbers at random.
 */
export function zipfIndices(operations: number, end: number): { at: Uint32Array; mask: number } {
  const places = Math.min(operations, PATTERN_PLACES)
  const sums = new Float64Array(end)
  let sum = 0
  for (let rank = 0; rank < end; rank++) {
    sum += 1 / (rank + 1) ** ZIPF_EXPONENT
    sums[rank] = sum
  }
  const numbers = shuffled(end)
  const random = new Xorshift()
  const at = Uint32Array.from({ length: places }, () => {
    const wanted = (random.next() / 2 ** 32) * sum
    let low = 0
    let high = end - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((sums[middle] as number) > wanted) high = middle
      else low = middle + 1
    }
    return numbers[low] as number
  })
  return { at, mask: places - 1 }
}
