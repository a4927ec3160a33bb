import { beforeEach, describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { H_PUT_TCE } from '../../src/kernel/qemu/calls.ts'
import {
  BUID,
  calls,
  LIOBN,
  LIOBN_64,
  type Pseries,
  pseries,
  RAM,
  VIO_REG,
  WINDOW_64,
} from '../support/pseries.ts'

const END = 1n << 30n
const TCE = 0x5000n

describe('H_PUT_TCE, default window of 1 GiB and a 64-bit window of 64 KiB pages', () => {
  let qemu: Pseries
  let intended: Pseries
  beforeEach(() => {
    qemu = pseries()
    intended = pseries({ profile: 'intended' })
    for (const m of [qemu, intended]) calls(m).create(16n, 24n)
  })

  // The last input of a row breaks a later rule as well: the earlier rule must answer.
  const cases: Record<RuleOf<typeof H_PUT_TCE>, () => Answer[]> = {
    'liobn-unknown': () => [
      calls(qemu).put(0n, 3n, 0x8000_0002n),
      calls(qemu).put(0n, 3n, (1n << 40n) | LIOBN),
      calls(intended).put(0x800n, RAM | 3n, 7n),
    ],
    'window-closed': () => {
      for (const m of [qemu, intended]) calls(m).remove(LIOBN)
      return [calls(qemu).put(0n, 3n), calls(intended).put(0n, 3n), calls(intended).put(0x800n, RAM | 3n)]
    },
    'ioba-unaligned': () => [
      calls(intended).put(0x800n, TCE | 3n),
      calls(intended).put(WINDOW_64 + 0x1000n, 3n, LIOBN_64),
      calls(intended).put(END + 0x800n, RAM | 3n),
    ],
    'ioba-outside': () => [
      calls(qemu).put(END, 3n),
      calls(qemu).put((1n << 64n) - 0x1000n, 0n),
      calls(qemu).put(WINDOW_64 - 1n, 3n, LIOBN_64),
      calls(qemu).put(WINDOW_64 + (1n << 24n), 3n, LIOBN_64),
      calls(intended).put(END, TCE | 0x807n),
    ],
    'tce-unaligned': () => [
      calls(intended).put(0n, TCE | 0x803n),
      calls(intended).put(0n, TCE | 4n | 1n),
      calls(intended).put(WINDOW_64, 0x1_1003n, LIOBN_64),
      calls(intended).put(0n, RAM | 0x803n),
    ],
    'tce-outside-ram': () => [
      calls(intended).put(0n, RAM | 1n),
      calls(intended).put(0n, (1n << 63n) | 2n),
      calls(intended).put(0n, (1n << 64n) - 0x1000n + 3n),
    ],
    done: () => [
      calls(qemu).put(0n, TCE | 3n),
      calls(qemu).put(END - 0x1000n, 0n),
      calls(qemu).put(0n, TCE | 3n, BigInt(VIO_REG)),
      calls(qemu).put(WINDOW_64 + 0x1_2345n, TCE | 3n, LIOBN_64),
      calls(qemu).put(0x1000n, RAM | 0xfffn),
      calls(intended).put(0x1000n, (RAM - 0x1000n) | 3n),
      // Without permissions any value may stand there.
      calls(intended).put(0x2000n, RAM | 0x804n),
    ],
  }
  it.each(H_PUT_TCE.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code, state: 'done', layer: 'qemu' })
  })

  it('writes the entry that the IOBA lies in, as it is given', () => {
    calls(qemu).put(0x2abcn, 0xff00_0000_0fffn)
    calls(qemu).put(WINDOW_64 + 0x2_8000n, 0x2_1003n, LIOBN_64)
    expect(qemu.tce(LIOBN, 2)).toBe(0xff00_0000_0fffn)
    expect(qemu.tce(LIOBN_64, 2)).toBe(0x2_1003n)
  })

  it('leaves the LIOBN in r4, also when it refuses', () => {
    expect(calls(qemu).put(0n, 3n).outputs).toEqual({ r4: LIOBN })
    expect(calls(qemu).put(END, 3n).outputs).toEqual({ r4: LIOBN })
    expect(calls(qemu).put(0n, 3n, 0x100_8000_0000n).outputs).toEqual({ r4: 0x100_8000_0000n })
  })

  it('changes nothing when it refuses', () => {
    for (const m of [qemu, intended]) {
      const from = m.log.length
      calls(m).put(END, 3n)
      calls(m).put(0n, 3n, 7n)
      if (m === intended) calls(m).put(0x800n, TCE | 3n)
      if (m === intended) calls(m).put(0n, RAM | 3n)
      expect(m.effects(from)).toEqual([])
      expect(m.tce(LIOBN, 0)).toBe(0n)
    }
  })

  it('records the call, the entry and the answer, each caused by the call', () => {
    const from = qemu.log.length
    calls(qemu).put(0x3000n, TCE | 1n)
    const [enter, set, ret] = [...qemu.log.records(from)]
    expect(enter?.event).toMatchObject({
      kind: 'call.enter',
      call: 'H_PUT_TCE',
      a0: LIOBN,
      a1: 0x3000n,
      a2: TCE | 1n,
    })
    expect(set).toMatchObject({
      cause: from,
      event: { kind: 'tce.set', window: 1, first: 3, count: 1, tce: TCE | 1n, step: -1, how: 0 },
    })
    expect(ret).toMatchObject({
      cause: from,
      event: { kind: 'call.return', code: 0, rule: 'done', layer: 'qemu', out: LIOBN },
    })
  })

  it('needs all of a 16 MiB page to be memory where it looks', () => {
    const ram = 24 << 20
    const m = pseries({ profile: 'intended', ramBytes: ram })
    m.run('rtas', 'ibm,create-pe-dma-window', { buid: BUID, page_shift: 24n, window_shift: 28n })
    expect(calls(m).put(WINDOW_64, 3n, LIOBN_64).rule).toBe('done')
    expect(calls(m).put(WINDOW_64, (1n << 24n) | 3n, LIOBN_64).rule).toBe('tce-outside-ram')
    m.memory.holes.add(7)
    expect(calls(m).put(WINDOW_64, 3n, LIOBN_64).rule).toBe('tce-outside-ram')
  })
})
