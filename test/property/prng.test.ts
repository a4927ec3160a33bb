import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'

const M32 = (1n << 32n) - 1n
const rotl = (x: bigint, k: bigint) => ((x << k) | (x >> (32n - k))) & M32

/** The published algorithms, word for word in bigint: splitmix32 fills the state, xoshiro128** steps it. */
function* published(seed: number): Generator<bigint> {
  let s = BigInt.asUintN(32, BigInt(seed))
  const state = Array.from({ length: 4 }, () => {
    s = (s + 0x9e3779b9n) & M32
    let z = s
    z = ((z ^ (z >> 16n)) * 0x21f0aaadn) & M32
    z = ((z ^ (z >> 15n)) * 0x735a2d97n) & M32
    return z ^ (z >> 15n)
  }) as [bigint, bigint, bigint, bigint]
  for (;;) {
    yield (rotl((state[1] * 5n) & M32, 7n) * 9n) & M32
    const t = (state[1] << 9n) & M32
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= t
    state[3] = rotl(state[3], 11n)
  }
}

describe('the seeded generator', () => {
  it('gives the numbers of the published algorithms', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const prng = new Prng(seed)
        const numbers = published(seed)
        for (let i = 0; i < 20; i++) expect(BigInt(prng.int32() >>> 0)).toBe(numbers.next().value)
      }),
    )
  })

  it('gives the same numbers for ever', () => {
    const prng = new Prng(1)
    expect([prng.int32(), prng.below(1000), prng.u64(), prng.pick(['a', 'b', 'c'])]).toMatchInlineSnapshot(`
      [
        393288148,
        506,
        16384265540056433018n,
        "b",
      ]
    `)
  })

  it('stays below its bound, reaches all of it, and favours nothing', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 12 }), (seed, end) => {
        const prng = new Prng(seed)
        const seen = new Array<number>(end).fill(0)
        for (let i = 0; i < 400 * end; i++) seen[prng.below(end)]!++
        expect(seen.length).toBe(end)
        for (const times of seen) expect(Math.abs(times - 400)).toBeLessThan(160)
      }),
      { numRuns: 50 },
    )
    const prng = new Prng(3)
    for (let i = 0; i < 100; i++) expect(prng.below(2 ** 32)).toBeLessThan(2 ** 32)
    for (const end of [0, -1, 2 ** 32 + 1]) expect(() => prng.below(end)).toThrow('model bug')
    expect(() => prng.pick([])).toThrow('model bug')
  })

  it('is true once in so many times', () => {
    const prng = new Prng(9)
    let times = 0
    for (let i = 0; i < 10_000; i++) if (prng.oneIn(10)) times++
    expect(Math.abs(times - 1000)).toBeLessThan(150)
    expect(prng.oneIn(1)).toBe(true)
  })
})
