import { beforeEach, describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { H_GET_TCE, H_UNKNOWN } from '../../src/kernel/qemu/calls.ts'
import { calls, LIOBN, type Pseries, pseries, VIO_REG } from '../support/pseries.ts'

const END = 1n << 30n

describe('H_GET_TCE', () => {
  let qemu: Pseries
  let intended: Pseries
  beforeEach(() => {
    qemu = pseries()
    intended = pseries({ profile: 'intended' })
    for (const m of [qemu, intended]) calls(m).put(0x1000n, 0x20_0003n)
  })

  const cases: Record<RuleOf<typeof H_GET_TCE>, () => Answer[]> = {
    'liobn-unknown': () => [
      calls(qemu).get(0n, 0x9999n),
      calls(qemu).get(0n, (1n << 32n) | LIOBN),
      calls(intended).get(END + 1n, 0x9999n),
    ],
    'window-closed': () => {
      for (const m of [qemu, intended]) calls(m).remove(LIOBN)
      return [calls(qemu).get(0n), calls(intended).get(END + 1n)]
    },
    'ioba-unaligned': () => [calls(intended).get(0x1abcn), calls(intended).get(END + 1n)],
    'ioba-outside': () => [calls(qemu).get(END), calls(qemu).get(END + 1n), calls(intended).get(END)],
    done: () => [
      calls(qemu).get(0x1000n),
      calls(qemu).get(0x1abcn),
      calls(qemu).get(END - 1n),
      calls(qemu).get(0n, BigInt(VIO_REG)),
      calls(intended).get(0x1000n),
    ],
  }
  it.each(H_GET_TCE.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('leaves the entry in r4, and the LIOBN there when it refuses', () => {
    expect(calls(qemu).get(0x1abcn).outputs).toEqual({ r4: 0x20_0003n, tce: 0x20_0003n })
    expect(calls(qemu).get(END).outputs).toEqual({ r4: LIOBN })
    expect(calls(qemu).get(0n, 0x9999n).outputs).toEqual({ r4: 0x9999n })
  })

  it('changes nothing', () => {
    const from = qemu.log.length
    calls(qemu).get(0x1000n)
    expect(qemu.effects(from)).toEqual([])
  })
})

describe('a hypercall that nobody handles', () => {
  const cases: Record<RuleOf<typeof H_UNKNOWN>, () => Answer[]> = {
    'opcode-unknown': () => [pseries().run('hcall', 'unknown', { opcode: 0x3f4n, r4: 5n })],
  }
  it.each(H_UNKNOWN.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code, outputs: { r4: 5n } })
  })

  it('is not the way to one that has a handler', () => {
    expect(() => pseries().run('hcall', 'unknown', { opcode: 0x20n })).toThrow('H_PUT_TCE')
  })
})
