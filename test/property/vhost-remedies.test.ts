import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { Prng } from '../../src/bits/prng.ts'
import { Judge } from '../../src/check/judge.ts'
import type { VhostRemedy } from '../../src/kernel/vhost-remedy.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'

const LIOBN = 0x8000_0000n
const UA = 0x1_0000_0000n
const PAGE = 0x1000n
const LIST = 0xf0_0000n
const STEPS = 400

/** A guest whose bus has a device of vhost and one of QEMU's own, which asks the IOMMU each time. */
function makeGuest(remedy: VhostRemedy) {
  const judge = new Judge()
  const machine = createMachine(
    describeMachine({
      kind: 'powernv',
      guest: {
        profile: 'intended',
        ramBytes: 1n << 24n,
        ua: UA,
        vhostRemedy: remedy,
        phbs: [
          {
            virtio: [
              { name: 'net0', kind: 'net' },
              { name: 'vda', kind: 'blk' },
            ],
          },
        ],
      },
    }),
    { watch: (log) => judge.attach(log) },
  )
  const run = (verb: Verb, call: string, args: Readonly<Record<string, Value>> = {}) =>
    machine.perform({ verb, call, args })
  run('vmm', 'start')
  run('virtio', 'ready', { device: 'net0' })
  // Every page of memory begins with its own number.
  for (let page = 0n; page < 32n; page++) {
    run('mem', 'write', { space: 'ua', address: UA + page * PAGE, words: [page + 1n] })
  }
  return { run, judge }
}

/** What a device finds at a bus address: 8 bytes of a page, or nothing. */
const seenBy = (run: ReturnType<typeof makeGuest>['run'], device: string, iova: bigint) => {
  const { code, outputs } = run('dma', 'read', { device, iova, bytes: 8n })
  return code === 'MEMTX_OK' ? outputs['data'] : 'nothing'
}

/** Remedies that tell vhost before a call returns, and whether they do so where a live entry is overwritten. */
const RIGHT: readonly (readonly [VhostRemedy, boolean])[] = [
  ['kill-hook', true],
  // With a QEMU that announces the old page first.
  ['userspace', true],
  ['h-too-hard', false],
  ['mm-list', false],
]

describe.each(RIGHT)('remedy %s', (remedy, overwrites) => {
  it.each([1, 2, 3])('seed %i: vhost sees what the IOMMU has, after any calls', (seed) => {
    const chance = new Prng(seed)
    const { run, judge } = makeGuest(remedy)
    const live = new Set<bigint>()
    const entries = 24n
    let compared = 0
    for (let step = 0; step < STEPS; step++) {
      const entry = BigInt(chance.below(Number(entries)))
      const ioba = entry * PAGE
      const tce = (BigInt(chance.below(32)) * PAGE) | BigInt(1 + chance.below(3))
      const count = BigInt(1 + chance.below(4))
      const range = Array.from({ length: Number(count) }, (_, i) => entry + BigInt(i))
      const isFree = !range.some((e) => live.has(e))
      const kind = chance.below(6)
      if (kind === 0) {
        run('hcall', 'H_STUFF_TCE', { liobn: LIOBN, ioba, value: 0n, npages: count })
        for (const e of range) live.delete(e)
      } else if (kind === 1) {
        run('hcall', 'H_PUT_TCE', { liobn: LIOBN, ioba, tce: 0n })
        live.delete(entry)
      } else if (kind === 2 && (overwrites || !live.has(entry))) {
        run('hcall', 'H_PUT_TCE', { liobn: LIOBN, ioba, tce })
        live.add(entry)
      } else if (kind === 3 && (overwrites || isFree)) {
        // A list may take entries back as well.
        const words = range.map((_, i) => (i % 2 === 0 ? tce : 0n))
        run('mem', 'write', { space: 'ua', address: UA + LIST, words })
        run('hcall', 'H_PUT_TCE_INDIRECT', { liobn: LIOBN, ioba, list: LIST, npages: count })
        for (const [i, e] of range.entries()) {
          if (i % 2 === 0) live.add(e)
          else live.delete(e)
        }
      }
      const iova = BigInt(chance.below(Number(entries))) * PAGE
      const [vhost, own] = [seenBy(run, 'net0', iova), seenBy(run, 'vda', iova)]
      expect([step, vhost]).toEqual([step, own])
      if (own !== 'nothing') compared++
    }
    expect(compared).toBeGreaterThan(STEPS / 12)
    judge.finish()
    const rules = new Set(judge.findings.map(({ rule }) => rule))
    expect([rules.has('stale-iotlb'), rules.has('iotlb-mismatch')]).toEqual([false, false])
  })
})

describe('what kernels do', () => {
  it('is seen to differ by the same comparison', () => {
    const { run } = makeGuest('none')
    run('hcall', 'H_PUT_TCE', { liobn: LIOBN, ioba: 0n, tce: PAGE | 3n })
    expect(seenBy(run, 'net0', 0n)).toBe(seenBy(run, 'vda', 0n))
    run('hcall', 'H_PUT_TCE', { liobn: LIOBN, ioba: 0n, tce: 0n })
    expect(seenBy(run, 'net0', 0n)).not.toBe(seenBy(run, 'vda', 0n))
  })
})
