import { assert } from './errors.ts'
import type { Cells } from './state.ts'

/** Bits that one bitmap may have: indices stay small integers. */
export const BITMAP_BITS_MAX = 2 ** 31 - 32

const WORD_BITS = 32

/** Bits `from & 31` and up. */
const headMask = (from: number): number => -1 << (from & 31)
/** Bits below `end & 31`; all 32 for a multiple of 32. */
const tailMask = (end: number): number => (-1 >>> (-end & 31)) | 0

function onesIn(word: number): number {
  let n = word - ((word >>> 1) & 0x5555_5555)
  n = (n & 0x3333_3333) + ((n >>> 2) & 0x3333_3333)
  return Math.imul((n + (n >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24
}

/**
 * A bitmap in int32 cells, so that an undo log covers it. All bits are clear at first.
 *
 * Ranges are half-open, [from, end), and must lie inside the bitmap; an empty one (from >= end) does nothing.
 * Searches take whole words at a time and answer `end` where there is no such bit. Nothing here allocates.
 *
 * @example
 * const map = new Bitmap(new Cells(journal, keyOf('pool', 0)), 128)
 * map.setRange(0, 5)
 * map.nextZero(0, 128) // 5
 */
export class Bitmap {
  readonly bits: number
  readonly #cells: Cells

  /** @param cells holds nothing but this bitmap; grown here to one cell for 32 bits */
  constructor(cells: Cells, bits: number) {
    assert(Number.isInteger(bits) && bits >= 0 && bits <= BITMAP_BITS_MAX, 'a bitmap has 0 to 2^31 - 32 bits')
    this.bits = bits
    this.#cells = cells
    cells.ensure((bits + 31) >>> 5)
  }

  has(index: number): boolean {
    return (((this.#cells.data[index >>> 5] as number) >>> (index & 31)) & 1) !== 0
  }

  setRange(from: number, end: number): void {
    if (from >= end) return
    assert(from >= 0 && end <= this.bits, 'the range lies in the bitmap')
    const cells = this.#cells
    const first = from >>> 5
    const last = (end - 1) >>> 5
    if (first === last) {
      cells.set(first, cells.get(first) | (headMask(from) & tailMask(end)))
      return
    }
    cells.set(first, cells.get(first) | headMask(from))
    cells.fill(-1, first + 1, last)
    cells.set(last, cells.get(last) | tailMask(end))
  }

  clearRange(from: number, end: number): void {
    if (from >= end) return
    assert(from >= 0 && end <= this.bits, 'the range lies in the bitmap')
    const cells = this.#cells
    const first = from >>> 5
    const last = (end - 1) >>> 5
    if (first === last) {
      cells.set(first, cells.get(first) & ~(headMask(from) & tailMask(end)))
      return
    }
    cells.set(first, cells.get(first) & ~headMask(from))
    cells.fill(0, first + 1, last)
    cells.set(last, cells.get(last) & ~tailMask(end))
  }

  /** The first clear bit of [from, end), or `end`. */
  nextZero(from: number, end: number): number {
    return this.#scan(from, end, -1)
  }

  /** The first set bit of [from, end), or `end`. */
  nextSet(from: number, end: number): number {
    return this.#scan(from, end, 0)
  }

  /**
   * The first `count` (1 or more) clear bits of [from, end) in a row whose first index plus `alignOffset` is a
   * multiple of `alignMask` + 1 (a power of two); `end` where there are none.
   */
  nextZeroArea(from: number, end: number, count: number, alignMask = 0, alignOffset = 0): number {
    if (from >= end) return end
    assert(from >= 0 && end <= this.bits, 'the range lies in the bitmap')
    if (count > 1 && count <= WORD_BITS && alignMask < WORD_BITS)
      return this.#smallArea(from | 0, end | 0, count, alignMask, alignOffset)
    // Small integers from here on, whatever the caller's numbers were made of: `| 0` says so to the engine.
    const behind = end | 0
    let at = from | 0
    for (;;) {
      at = this.#scan(at, behind, -1)
      const over = (at + alignOffset) & alignMask
      if (over !== 0) at = (at + alignMask + 1 - over) | 0
      const stop = at + count
      if (at >= behind || stop > behind) return behind
      const used = this.#scan(at, stop | 0, 0)
      if (used === stop) return at
      at = (used + 1) | 0
    }
  }

  /** Set bits in [from, end). */
  count(from = 0, end = this.bits): number {
    if (from >= end) return 0
    assert(from >= 0 && end <= this.bits, 'the range lies in the bitmap')
    const { data } = this.#cells
    const first = from >>> 5
    const last = (end - 1) >>> 5
    if (first === last) return onesIn((data[first] as number) & headMask(from) & tailMask(end))
    let n = onesIn((data[first] as number) & headMask(from))
    for (let w = first + 1; w < last; w++) n += onesIn(data[w] as number)
    return n + onesIn((data[last] as number) & tailMask(end))
  }

  /**
   * `nextZeroArea` for what two words can hold: whole words at a time instead of hole by hole, which a branch
   * predictor cannot follow in a bitmap that is used in pieces.
   */
  #smallArea(from: number, end: number, count: number, alignMask: number, alignOffset: number): number {
    const { data } = this.#cells
    const last = (end - 1) >>> 5
    let w = from >>> 5
    let free = ~(data[w] as number) & headMask(from)
    if (w === last) free &= tailMask(end)
    for (;;) {
      let behind = w < last ? ~(data[w + 1] as number) : 0
      if (w + 1 === last) behind &= tailMask(end)
      let next = behind
      // A bit stays while `wide` bits from it on are free.
      for (let wide = 1; wide < count && free !== 0; ) {
        const step = Math.min(wide, count - wide)
        free &= (free >>> step) | (next << (WORD_BITS - step))
        next &= next >>> step
        wide += step
      }
      for (; free !== 0; free &= free - 1) {
        const at = (w << 5) + 31 - Math.clz32(free & -free)
        if (((at + alignOffset) & alignMask) === 0) return at
      }
      if (w >= last) return end
      w++
      free = behind
    }
  }

  /** The first bit of [from, end) that differs from those of `flip` (0 finds set bits, -1 clear ones). */
  #scan(from: number, end: number, flip: number): number {
    if (from >= end) return end
    assert(from >= 0 && end <= this.bits, 'the range lies in the bitmap')
    const { data } = this.#cells
    const behind = end | 0
    const last = (behind - 1) >>> 5
    let w = from >>> 5
    let word = ((data[w] as number) ^ flip) & headMask(from)
    while (word === 0 && w < last) word = (data[++w] as number) ^ flip
    if (word === 0) return behind
    const at = (w << 5) + 31 - Math.clz32(word & -word)
    return Math.min(at, behind)
  }
}
