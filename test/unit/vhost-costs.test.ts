import { describe, expect, it } from 'vitest'
import { VHOST_REMEDIES } from '../../src/kernel/vhost-remedy.ts'
import { type VhostCosts, vhostCosts } from '../../src/scripts/vhost-costs.ts'

describe('what the remedies against B8 cost in one workload', () => {
  const costs = new Map(VHOST_REMEDIES.map((remedy) => [remedy, vhostCosts(remedy)]))
  const of = (remedy: (typeof VHOST_REMEDIES)[number]) => costs.get(remedy) as VhostCosts
  /** 16 rounds of a list, a stuff, a page and its end, and the page of the other device. */
  const HCALLS = 16 * 4 + 1

  it('is the same number of hypercalls and frames for each', () => {
    for (const remedy of VHOST_REMEDIES) {
      const { inKernel, left, frames, misses, updates } = of(remedy)
      expect([remedy, inKernel + left, frames]).toEqual([remedy, HCALLS, 16 * 10])
      expect([remedy, updates]).toEqual([remedy, misses])
    }
  })

  it('nobody loses a frame where vhost is told before the call returns, or before the page is used again', () => {
    const losers = VHOST_REMEDIES.filter((remedy) => of(remedy).lost > 0)
    expect(losers).toEqual(['none', 'stuff-too-hard'])
    // All frames but those of the first round and of the other device; and the single pages alone.
    expect([of('none').lost, of('stuff-too-hard').lost]).toEqual([15 * 9, 15])
  })

  it('is exits for who leaves calls to QEMU, and one INVALIDATE for each entry', () => {
    expect([of('userspace').left, of('stuff-too-hard').left, of('h-too-hard').left]).toEqual([HCALLS, 16, 32])
    expect(VHOST_REMEDIES.map((remedy) => of(remedy).invalidates)).toEqual([
      0,
      16 * 9,
      16 * 8,
      16 * 9,
      0,
      // One for the window after each call that takes pages back, when the next miss has QEMU run.
      32,
      0,
    ])
  })

  it('is a broken promise wherever a page stays open when the call has returned', () => {
    expect(VHOST_REMEDIES.filter((remedy) => of(remedy).stale > 0)).toEqual([
      'none',
      'stuff-too-hard',
      'eventfd',
    ])
  })

  it('is misses of another device where all devices of the process forget', () => {
    expect(of('kill-hook').misses).toBe(16 * 9 + 1)
    expect(of('mm-list').misses).toBe(16 * 9 + 16)
  })

  it('is a range for each call that writes with the hook, for each that takes back with the list', () => {
    expect([of('kill-hook').forgotten, of('mm-list').forgotten]).toEqual([HCALLS, 2 * 16 * 2])
  })
})
