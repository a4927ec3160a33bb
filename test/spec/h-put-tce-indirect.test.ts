import { beforeEach, describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { H_PUT_TCE_INDIRECT } from '../../src/kernel/qemu/calls.ts'
import { calls, LIOBN, LIOBN_64, type Pseries, pseries, RAM, WINDOW_64 } from '../support/pseries.ts'

const END = 1n << 30n
const LIST = 0x9_0000n
/** Lists whose second value cannot be stored where that is looked at. */
const CROOKED = 0x9_1000n
const FAR = 0x9_2000n

const row = (count: number, first: bigint, step: bigint) =>
  Array.from({ length: count }, (_, i) => first + BigInt(i) * step)

describe('H_PUT_TCE_INDIRECT', () => {
  let qemu: Pseries
  let intended: Pseries
  beforeEach(() => {
    qemu = pseries()
    intended = pseries({ profile: 'intended' })
    for (const m of [qemu, intended]) {
      m.memory.list(Number(LIST), row(512, 0x40_0003n, 0x1000n))
      m.memory.list(Number(CROOKED), [0x40_0003n, 0x40_1803n, RAM | 3n])
      m.memory.list(Number(FAR), [0x40_0003n, RAM | 3n, 0x40_1803n])
    }
  })

  const cases: Record<RuleOf<typeof H_PUT_TCE_INDIRECT>, () => Answer[]> = {
    'liobn-unknown': () => [
      calls(qemu).indirect(0n, LIST, 1n, 7n),
      calls(qemu).indirect(0n, LIST, 1n, LIOBN | (1n << 63n)),
      calls(intended).indirect(0x800n, LIST + 8n, 513n, 7n),
    ],
    'too-many': () => {
      const open = [
        calls(qemu).indirect(0n, LIST, 513n),
        calls(qemu).indirect(0n, LIST, 1n << 31n),
        calls(qemu).indirect(0n, LIST, 1n << 32n),
        calls(intended).indirect(0x800n, LIST + 8n, 513n),
      ]
      calls(qemu).remove(LIOBN)
      return [...open, calls(qemu).indirect(0n, LIST + 8n, 513n)]
    },
    'list-unaligned': () => {
      const open = [calls(qemu).indirect(0n, LIST + 8n, 4n), calls(qemu).indirect(0n, LIST + 8n, 0n)]
      calls(qemu).remove(LIOBN)
      return [...open, calls(qemu).indirect(END, LIST + 0x800n, 4n)]
    },
    'zero-pages': () => [calls(qemu).indirect(0n, LIST, 0n), calls(qemu).indirect(END, LIST, 0n)],
    'window-closed': () => {
      for (const m of [qemu, intended]) calls(m).remove(LIOBN)
      return [
        calls(qemu).indirect(0n, LIST, 4n),
        calls(intended).indirect(0n, LIST, 0n),
        calls(intended).indirect(END + 8n, RAM, 4n),
      ]
    },
    'ioba-unaligned': () => [
      calls(intended).indirect(0x800n, LIST, 4n),
      calls(intended).indirect(END + 0x800n, RAM, 4n),
    ],
    'ioba-outside': () => [
      calls(qemu).indirect(END, LIST, 1n),
      calls(qemu).indirect(END - 0x2000n, LIST, 4n),
      calls(intended).indirect(END - 0x2000n, LIST, 4n),
      calls(intended).indirect(END, RAM, 1n),
    ],
    'list-outside-ram': () => [
      calls(intended).indirect(0n, RAM, 1n),
      calls(intended).indirect(0n, 1n << 63n, 512n),
      calls(intended).indirect(0n, 0xf0_0000_0000n, 2n),
    ],
    'tce-unaligned': () => [
      calls(intended).indirect(0n, CROOKED, 2n),
      calls(intended).indirect(0n, CROOKED, 3n),
    ],
    'tce-outside-ram': () => [calls(intended).indirect(0n, FAR, 2n), calls(intended).indirect(0n, FAR, 3n)],
    done: () => [
      calls(qemu).indirect(0x2_0000n, LIST, 4n),
      calls(qemu).indirect(0x3_0abcn, LIST, 512n),
      calls(qemu).indirect(0n, RAM, 2n),
      calls(qemu).indirect(0n, CROOKED, 3n),
      calls(intended).indirect(END - 0x20_0000n, LIST, 512n),
      calls(intended).indirect(END, LIST, 0n),
    ],
  }
  it.each(H_PUT_TCE_INDIRECT.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('tells a row of neighbouring pages in one record', () => {
    const from = qemu.log.length
    calls(qemu).indirect(0x3_0000n, LIST, 512n)
    expect(qemu.effects(from)).toEqual([
      { kind: 'tce.set', window: 1, first: 48, count: 512, tce: 0x40_0003n, step: 12, how: 0 },
    ])
    expect([47, 48, 559, 560].map((e) => qemu.tce(LIOBN, e))).toEqual([0n, 0x40_0003n, 0x5f_f003n, 0n])
  })

  it('tells rows by the page size of the window, equal values, and what stands alone', () => {
    calls(qemu).create(16n, 28n)
    qemu.memory.list(Number(LIST), [
      3n,
      0x1_0003n,
      0x2_0003n,
      0x2_0003n,
      0x2_0003n,
      0n,
      0n,
      5n,
      0xffff_ffff_0003n,
      0x1_0000_0000_0003n,
    ])
    const from = qemu.log.length
    calls(qemu).indirect(WINDOW_64, LIST, 10n, LIOBN_64)
    expect(qemu.effects(from)).toMatchObject([
      { first: 0, count: 3, tce: 3n, step: 16 },
      { first: 3, count: 2, tce: 0x2_0003n, step: -1 },
      { first: 5, count: 2, tce: 0n, step: -1 },
      { first: 7, count: 1, tce: 5n, step: -1 },
      { first: 8, count: 2, tce: 0xffff_ffff_0003n, step: 16 },
    ])
  })

  it('a value that a log shows only at the end of a list is recorded apart from those inferred', () => {
    qemu.stage.how = 1
    const from = qemu.log.length
    calls(qemu).indirect(0n, LIST, 4n)
    calls(qemu).indirect(END - 0x2000n, LIST, 4n)
    expect(qemu.effects(from)).toMatchObject([
      { first: 0, count: 3, tce: 0x40_0003n, step: 12, how: 1 },
      { first: 3, count: 1, tce: 0x40_3003n, step: -1, how: 0 },
      { first: 262142, count: 2, how: 1 },
    ])
  })

  it('QEMU reads zeros from a list that is not there, and unmaps', () => {
    calls(qemu).put(0x1000n, 0x40_0003n)
    expect(calls(qemu).indirect(0n, RAM, 2n).code).toBe('H_SUCCESS')
    expect(qemu.tce(LIOBN, 1)).toBe(0n)
  })

  it('QEMU keeps what it wrote before the end of the window, though it refuses', () => {
    calls(qemu).indirect(END - 0x2000n, LIST, 4n)
    expect(qemu.tce(LIOBN, 262143)).toBe(0x40_1003n)
  })

  it('changes nothing when it refuses, without those defects', () => {
    const from = intended.log.length
    calls(intended).indirect(END - 0x2000n, LIST, 4n)
    calls(intended).indirect(0n, CROOKED, 2n)
    calls(intended).indirect(0n, FAR, 2n)
    calls(intended).indirect(0n, RAM, 2n)
    expect(intended.effects(from)).toEqual([])
  })
})
