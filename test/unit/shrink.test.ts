import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shrink } from '../../src/machine/lockstep/shrink.ts'

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

describe('shrink', () => {
  it('leaves exactly what is needed, wherever it stands', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc
          .integer({ min: 1, max: 60 })
          .chain((n) =>
            fc.tuple(fc.constant(n), fc.uniqueArray(fc.nat(n - 1), { minLength: 1, maxLength: 6 })),
          ),
        async ([n, needed]) => {
          const fails = async (items: readonly number[]) => needed.every((x) => items.includes(x))
          const { items, isMinimal } = await shrink(upTo(n), fails, 10_000)
          expect(items).toEqual([...needed].sort((a, b) => a - b))
          expect(isMinimal).toBe(true)
        },
      ),
    )
  })

  it('is 1-minimal also where less is not always less failing', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 3, max: 40 }), fc.integer({ min: 2, max: 7 }), async (n, k) => {
        // Fails while the sum is a multiple of k, and something is there.
        const fails = async (items: readonly number[]) =>
          items.length > 0 && items.reduce((a, b) => a + b, 0) % k === 0
        const whole = upTo(n * k).filter((x) => x % k !== 0)
        if (!(await fails(whole))) return
        const { items, isMinimal } = await shrink(whole, fails, 100_000)
        expect(isMinimal).toBe(true)
        expect(await fails(items)).toBe(true)
        for (const i of items.keys()) expect(await fails(items.toSpliced(i, 1))).toBe(false)
      }),
    )
  })

  it('ends when its tries are used up, and says so', async () => {
    let asked = 0
    const fails = async (items: readonly number[]) => {
      asked++
      return [3, 40, 70].every((x) => items.includes(x))
    }
    const { items, tries, isMinimal } = await shrink(upTo(100), fails, 5)
    expect([asked, tries, isMinimal]).toEqual([5, 5, false])
    expect(await fails(items)).toBe(true)
  })

  it('of one item there is nothing to leave out', async () => {
    const never = async () => {
      throw new Error('asked')
    }
    expect(await shrink([1], never, 5)).toEqual({ items: [1], tries: 0, isMinimal: true })
  })
})
