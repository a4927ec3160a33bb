import type { CaseResult } from './harness.ts'

/** So much more than before, in units of the calibration loop, and a case counts as slower. */
export const SLOWER_MIN = 1.3

/**
 * The cases that cost more than they did, one sentence each. Costs are compared in units of the calibration
 * loop of the same process: nanoseconds of two machines, or of two days, say nothing about the code.
 */
export function slowerThan(before: readonly CaseResult[], now: readonly CaseResult[]): string[] {
  const old = new Map(before.map((r) => [r.id, r.calibrated]))
  const slower: string[] = []
  for (const { id, calibrated } of now) {
    const was = old.get(id)
    if (was === undefined || was === null || calibrated === null) continue
    const times = calibrated / was
    if (times > SLOWER_MIN) slower.push(`${id}: ${times.toFixed(2)} times its cost before`)
  }
  return slower
}
