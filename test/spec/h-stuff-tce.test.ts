import { beforeEach, describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { H_STUFF_TCE } from '../../src/kernel/qemu/calls.ts'
import { calls, LIOBN, type Pseries, pseries } from '../support/pseries.ts'

const END = 1n << 30n
const ENTRIES = END >> 12n

describe('H_STUFF_TCE, default window of 262144 entries', () => {
  let qemu: Pseries
  let intended: Pseries
  beforeEach(() => {
    qemu = pseries()
    intended = pseries({ profile: 'intended' })
  })

  const cases: Record<RuleOf<typeof H_STUFF_TCE>, () => Answer[]> = {
    'liobn-unknown': () => [
      calls(qemu).stuff(0n, 0n, 1n, 7n),
      calls(qemu).stuff(0n, 0n, 1n, LIOBN | (1n << 32n)),
      calls(intended).stuff(0x800n, 3n, ENTRIES + 1n, 7n),
    ],
    'too-many': () => {
      const open = [
        calls(qemu).stuff(0n, 0n, ENTRIES + 1n),
        calls(qemu).stuff(0n, 0n, 1n << 31n),
        calls(qemu).stuff(END, 0n, 1n << 32n),
        calls(intended).stuff(0x800n, 3n, ENTRIES + 1n),
      ]
      calls(qemu).remove(LIOBN)
      return [...open, calls(qemu).stuff(0n, 0n, 1n)]
    },
    'zero-pages': () => {
      const open = [calls(qemu).stuff(0n, 0n, 0n), calls(qemu).stuff(END, 0n, 0n)]
      calls(qemu).remove(LIOBN)
      return [...open, calls(qemu).stuff(0n, 0n, 0n)]
    },
    'window-closed': () => {
      calls(intended).remove(LIOBN)
      return [calls(intended).stuff(0n, 0n, 0n), calls(intended).stuff(END + 1n, 0n, 0n)]
    },
    'ioba-unaligned': () => [
      calls(intended).stuff(0x800n, 0n, 1n),
      calls(intended).stuff(0x800n, 0n, 0n),
      calls(intended).stuff(END + 0x800n, 3n, 1n),
    ],
    'ioba-outside': () => [
      calls(qemu).stuff(END, 0n, 1n),
      calls(qemu).stuff(END - 0x1000n, 0n, 2n),
      calls(qemu).stuff((1n << 64n) - 0x1000n, 0n, 2n),
      calls(intended).stuff(END - 0x1000n, 0n, 2n),
      calls(intended).stuff(END + 0x1000n, 0n, 0n),
      calls(intended).stuff(END, 3n, 1n),
    ],
    'value-grants-access': () => [
      calls(intended).stuff(0n, 1n, 1n),
      calls(intended).stuff(0n, 2n, 1n),
      calls(intended).stuff(END, 3n, 0n),
    ],
    done: () => [
      calls(qemu).stuff(0n, 0n, ENTRIES),
      calls(qemu).stuff(0xfffn, 0x30_0003n, 513n),
      calls(intended).stuff(0n, 0xdead_0000n, ENTRIES),
      // Nothing to do, up to the very end of the window.
      calls(intended).stuff(END, 0n, 0n),
    ],
  }
  it.each(H_STUFF_TCE.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code, layer: 'qemu' })
  })

  it('writes one value to all entries, told by one record', () => {
    const from = qemu.log.length
    calls(qemu).stuff(0x1_0fffn, 0x30_0003n, 4n)
    expect([15, 16, 19, 20].map((entry) => qemu.tce(LIOBN, entry))).toEqual([0n, 0x30_0003n, 0x30_0003n, 0n])
    expect(qemu.effects(from)).toEqual([
      { kind: 'tce.set', window: 1, first: 16, count: 4, tce: 0x30_0003n, step: -1, how: 0 },
    ])
  })

  it('QEMU keeps what it wrote before the end of the window, though it refuses', () => {
    const from = qemu.log.length
    expect(calls(qemu).stuff(END - 0x2000n, 0x77_7003n, 4n).rule).toBe('ioba-outside')
    expect(qemu.tce(LIOBN, 262143)).toBe(0x77_7003n)
    expect(qemu.effects(from)).toMatchObject([{ kind: 'tce.set', first: 262142, count: 2 }])
  })

  it('changes nothing when it refuses, without that defect', () => {
    const from = intended.log.length
    calls(intended).stuff(END - 0x2000n, 0x77_7000n, 4n)
    calls(intended).stuff(0n, 3n, 4n)
    expect(intended.effects(from)).toEqual([])
    expect(intended.tce(LIOBN, 262143)).toBe(0n)
  })
})
