import { assert } from './errors.ts'

/**
 * Seeded generator (xoshiro128**, seeded by splitmix32): the only source of chance in the project.
 * The same seed gives the same numbers on every machine and in every version.
 */
export class Prng {
  #a: number
  #b: number
  #c: number
  #d: number

  constructor(seed: number) {
    let s = seed | 0
    const next = () => {
      s = (s + 0x9e37_79b9) | 0
      let z = s
      z = Math.imul(z ^ (z >>> 16), 0x21f0_aaad)
      z = Math.imul(z ^ (z >>> 15), 0x735a_2d97)
      return z ^ (z >>> 15)
    }
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next()
  }

  /** 32 random bits as an int32. */
  int32(): number {
    const m = Math.imul(this.#b, 5)
    const result = Math.imul((m << 7) | (m >>> 25), 9)
    const t = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= t
    this.#d = (this.#d << 11) | (this.#d >>> 21)
    return result | 0
  }

  /** A whole number in [0, end), for 0 < end <= 2^32. */
  below(end: number): number {
    assert(end > 0 && end <= 0x1_0000_0000, 'the bound is 1 to 2^32')
    return Math.floor(((this.int32() >>> 0) / 0x1_0000_0000) * end)
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0
  }

  u64(): bigint {
    return (BigInt(this.int32() >>> 0) << 32n) | BigInt(this.int32() >>> 0)
  }

  pick<T>(items: readonly T[]): T {
    assert(items.length > 0, 'there is something to pick')
    return items[this.below(items.length)] as T
  }
}
