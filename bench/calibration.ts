import type { SetUp } from './case.ts'
import { Xorshift } from './patterns.ts'

const CHASE_CELLS = 1 << 15
const ARRAY_CELLS = 1 << 14

/** One cycle through all cells, in random order. */
export function chain(cells: number): Int32Array {
  const links = Int32Array.from({ length: cells }, (_, i) => i)
  const random = new Xorshift(1)
  for (let i = cells - 1; i > 0; i--) {
    const j = random.next() % i
    const keep = links[i] as number
    links[i] = links[j] as number
    links[j] = keep
  }
  return links
}

/**
 * What a machine and its Node can do at the moment: loads that wait for each other, and a loop over a typed
 * array. A regression gate compares costs in units of this loop, never in nanoseconds.
 */
export const calibration: SetUp = (operations) => {
  const links = chain(CHASE_CELLS)
  const numbers = Int32Array.from({ length: ARRAY_CELLS }, (_, i) => i)
  return {
    operations,
    pass(): number {
      let at = 0
      let sum = 0
      for (let i = 0; i < operations; i++) {
        at = links[at] as number
        const cell = i & (ARRAY_CELLS - 1)
        sum = (sum + (numbers[cell] as number)) | 0
        numbers[cell] = sum
      }
      return (sum + at) | 0
    },
  }
}
