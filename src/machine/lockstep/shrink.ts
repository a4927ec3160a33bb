import { assert } from '../../bits/errors.ts'

/** What is left of a list, and how it was found. */
export interface Shrunk<T> {
  readonly items: readonly T[]
  /** Lists that were tried. */
  readonly tries: number
  /** Nothing can be left out any more; false where the tries were used up. */
  readonly isMinimal: boolean
}

/**
 * Leaves items out of a list as long as it still fails (delta debugging, ddmin: Zeller and Hildebrandt, Simplifying
 * and Isolating Failure-Inducing Input, 2002). The result is 1-minimal: without any one of its items it does not fail.
 *
 * @param fails whether a list still shows the failure; asked one after another
 * @param triesMax how often `fails` may be asked
 * @example
 * await shrink([1, 2, 3, 4], async (l) => l.includes(2) && l.includes(4), 100) // items: [2, 4]
 */
export async function shrink<T>(
  given: readonly T[],
  fails: (items: readonly T[]) => Promise<boolean>,
  triesMax: number,
): Promise<Shrunk<T>> {
  assert(triesMax > 0, 'there is a try')
  let items = given
  let tries = 0
  let parts = 2
  while (items.length > 1 && tries < triesMax) {
    const step = Math.ceil(items.length / parts)
    let shorter: readonly T[] | undefined
    for (let at = 0; at < items.length && tries < triesMax; at += step) {
      const rest = [...items.slice(0, at), ...items.slice(at + step)]
      tries++
      if (await fails(rest)) {
        shorter = rest
        break
      }
    }
    if (shorter !== undefined) {
      items = shorter
      parts = Math.max(2, parts - 1)
    } else if (step === 1) {
      // A loop that the tries cut short has not tried all.
      return { items, tries, isMinimal: tries < triesMax || items.length <= 1 }
    } else parts = Math.min(items.length, parts * 2)
  }
  return { items, tries, isMinimal: items.length <= 1 }
}
