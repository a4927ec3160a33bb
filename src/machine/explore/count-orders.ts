import type { OrderRuns } from './order-runs.ts'

/** States that are gone through, at most: past it nobody knows. */
const STATES_MOST = 30_000

/**
 * How many orders the lanes have from here on, none left out, as if each were run: what comes behind a state is counted
 * once, whichever way leads there. Undefined where there are too many states.
 *
 * @example countOrders(new OrderRuns(scenario, machine)) // 210n
 */
export function countOrders(runs: OrderRuns, statesMost = STATES_MOST): bigint | undefined {
  const known = new Map<string, bigint>()
  const fromHere = (): bigint => {
    const { hash } = runs.machine.journal
    const before = known.get(hash)
    if (before !== undefined) return before
    const ready = runs.ready()
    let orders = ready.length === 0 ? 1n : 0n
    for (const lane of ready) {
      if (known.size > statesMost) break
      runs.tried(lane, () => {
        orders += fromHere()
      })
    }
    known.set(hash, orders)
    return orders
  }
  const orders = fromHere()
  return known.size > statesMost ? undefined : orders
}
