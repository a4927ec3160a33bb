import { beforeEach, describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { RuleOf } from '../../src/bits/call.ts'
import { NO_ANSWER } from '../../src/kernel/ports.ts'
import {
  CREATE_PE_DMA_WINDOW,
  QUERY_PE_DMA_WINDOW,
  REMOVE_PE_DMA_WINDOW,
  RESET_PE_DMA_WINDOW,
  RTAS_UNKNOWN,
} from '../../src/kernel/qemu/calls.ts'
import {
  BUID,
  BUID_WITHOUT_DDW,
  calls,
  LIOBN,
  LIOBN_64,
  type Pseries,
  pseries,
  VIO_REG,
  WINDOW_64,
} from '../support/pseries.ts'

const NO_BUID = 0x1_0000_0002n
const WITHOUT_DDW = BUID_WITHOUT_DDW
const LIOBN_WITHOUT_DDW = 0x8000_0100n

let qemu: Pseries
let intended: Pseries
beforeEach(() => {
  qemu = pseries()
  intended = pseries({ profile: 'intended' })
})

describe('ibm,query-pe-dma-window', () => {
  const cases: Record<RuleOf<typeof QUERY_PE_DMA_WINDOW>, () => Answer[]> = {
    'count-wrong': () => [
      calls(qemu).query(4n),
      calls(qemu).query(7n),
      calls(qemu).query(6n, BUID, 2n),
      calls(intended).query(4n, NO_BUID),
    ],
    'buid-unknown': () => [calls(qemu).query(5n, NO_BUID), calls(intended).query(6n, 0n)],
    'ddw-off': () => [calls(qemu).query(6n, WITHOUT_DDW)],
    done: () => [calls(qemu).query(5n), calls(qemu).query(6n), calls(intended).query()],
  }
  it.each(QUERY_PE_DMA_WINDOW.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('tells windows left and page sizes; QEMU claims a size that cannot be had', () => {
    const rest = { page_sizes: 0x107n, migration: 0n }
    expect(calls(qemu).query(6n).outputs).toEqual({ windows: 1n, largest: 1n << 37n, ...rest })
    expect(calls(qemu).query(5n).outputs).toEqual({ windows: 1n, largest: 1n << 31n, ...rest })
    calls(qemu).create(16n, 20n)
    expect(calls(qemu).query(5n).outputs).toEqual({ windows: 0n, largest: 1n << 31n, ...rest })
  })

  it('tells the size that can be had in both forms, without that quirk', () => {
    for (const nret of [5n, 6n]) expect(calls(intended).query(nret).outputs['largest']).toBe(1n << 31n)
    calls(intended).create(16n, 20n)
    for (const nret of [5n, 6n]) expect(calls(intended).query(nret).outputs['largest']).toBe(0n)
  })

  it('writes its status only when it refuses', () => {
    expect(calls(qemu).query(4n).outputs).toEqual({})
    expect(qemu.rtas.call(0x2026, [0, 0, 1], 5)).toEqual([-3])
    expect(qemu.rtas.call(0x2026, [0x2000, 0x800_0000, 0x2000_0000], 5)).toEqual([
      0, 1, 0x8000_0000, 0x107, 0,
    ])
  })

  it('has a bit for every page size', () => {
    const m = pseries({ pageShifts: [12, 16, 21, 24, 25, 26, 27, 28, 34] })
    expect(calls(m).query().outputs['page_sizes']).toBe(0x1ffn)
  })
})

describe('ibm,create-pe-dma-window', () => {
  const cases: Record<RuleOf<typeof CREATE_PE_DMA_WINDOW>, () => Answer[]> = {
    'count-wrong': () => [
      calls(qemu).create(24n, 32n, { nret: 3n }),
      calls(qemu).create(24n, 32n, { nargs: 4n }),
      calls(intended).create(13n, 32n, { nret: 5n, buid: NO_BUID }),
    ],
    'buid-unknown': () => [
      calls(qemu).create(24n, 32n, { buid: NO_BUID }),
      calls(intended).create(13n, 1n, { buid: 0n }),
    ],
    'ddw-off': () => [
      calls(qemu).create(24n, 32n, { buid: WITHOUT_DDW }),
      calls(intended).create(13n, 1n, { buid: WITHOUT_DDW }),
    ],
    'page-size-refused': () => {
      const first = [
        calls(qemu).create(25n, 32n),
        calls(qemu).create(13n, 12n),
        calls(intended).create(34n, 35n),
        calls(intended).create(76n, 80n),
      ]
      calls(qemu).create(24n, 32n)
      return [...first, calls(qemu).create(13n, 32n)]
    },
    'window-below-page': () => {
      const first = [calls(qemu).create(24n, 23n), calls(intended).create(16n, 15n)]
      calls(qemu).create(24n, 32n)
      return [...first, calls(qemu).create(24n, 23n)]
    },
    'windows-exhausted': () => {
      for (const m of [qemu, intended]) calls(m).create(24n, 32n)
      return [calls(qemu).create(24n, 32n), calls(intended).create(12n, 63n)]
    },
    'too-large': () => [
      calls(qemu).create(12n, 44n),
      calls(intended).create(12n, 63n),
      calls(intended).create(16n, 0xffff_ffffn),
      calls(pseries({ profile: 'intended', pageShifts: [12, 34] })).create(34n, 64n),
    ],
    'bus-address-taken': () => {
      const m = pseries({ profile: 'intended', pageShifts: [12, 34] })
      calls(m).remove(LIOBN)
      calls(m).create(34n, 60n)
      return [calls(m).create(12n, 20n)]
    },
    done: () => [
      calls(qemu).create(24n, 32n),
      calls(intended).create(12n, 43n),
      calls(pseries()).create(16n, 16n),
    ],
  }
  it.each(CREATE_PE_DMA_WINDOW.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code, state: 'done' })
  })

  it('opens an empty window at the 64-bit address, beside the default one', () => {
    const from = qemu.log.length
    const { outputs } = calls(qemu).create(24n, 32n)
    expect(outputs).toEqual({ liobn: LIOBN_64, addr_hi: 0x800_0000n, addr_lo: 0n })
    expect(qemu.effects(from)).toMatchObject([
      {
        kind: 'window.open',
        liobn: 0x8000_0001,
        pageShift: 24,
        busOffset: WINDOW_64,
        entries: 256,
        unit: 'pci0',
      },
    ])
  })

  it('opens the first window of a PHB at the default address', () => {
    calls(qemu).remove(LIOBN)
    expect(calls(qemu).create(16n, 31n).outputs).toEqual({ liobn: LIOBN, addr_hi: 0n, addr_lo: 0n })
  })

  it('a LIOBN that is used again is another window, and holds nothing of the old one', () => {
    calls(qemu).create(24n, 32n)
    calls(qemu).put(WINDOW_64, 3n, LIOBN_64)
    const before = qemu.table(LIOBN_64).window!.number
    calls(qemu).remove(LIOBN_64)
    calls(qemu).create(24n, 32n)
    expect(qemu.table(LIOBN_64).window!.number).toBeGreaterThan(before)
    expect(qemu.tce(LIOBN_64, 0)).toBe(0n)
  })

  it('QEMU opens a window where the other one is already (Q8); the intended path goes elsewhere', () => {
    for (const m of [qemu, intended]) {
      calls(m).create(16n, 29n)
      calls(m).remove(LIOBN)
    }
    expect(calls(qemu).create(12n, 28n).outputs).toEqual({ liobn: LIOBN, addr_hi: 0x800_0000n, addr_lo: 0n })
    expect(calls(intended).create(12n, 28n).outputs).toEqual({ liobn: LIOBN, addr_hi: 0n, addr_lo: 0n })
  })

  it('changes nothing when it refuses', () => {
    for (const m of [qemu, intended]) {
      const from = m.log.length
      calls(m).create(25n, 32n)
      calls(m).create(24n, 23n)
      calls(m).create(24n, 32n, { nret: 3n })
      expect(m.effects(from)).toEqual([])
    }
  })

  it('a window of 2^32 entries loses the table: the next window kills QEMU (Q9)', () => {
    expect(calls(qemu).create(12n, 63n)).toMatchObject({ code: 'RTAS_OUT_HW_ERROR', rule: 'too-large' })
    const from = qemu.log.length
    expect(calls(qemu).create(12n, 29n)).toMatchObject({ state: 'dead', code: 'DEAD' })
    expect(qemu.effects(from)).toEqual([{ kind: 'dead', layer: 'qemu', why: 'memory-region-added-twice' }])
    expect(calls(qemu).create(12n, 29n).state).toBe('dead')
  })

  it('another such window, and the reset of a lost default table, kill QEMU too', () => {
    const twice = pseries()
    calls(twice).create(12n, 63n)
    expect(calls(twice).create(12n, 63n).state).toBe('dead')
    const first = pseries()
    calls(first).remove(LIOBN)
    calls(first).create(12n, 44n)
    expect(calls(first).reset().state).toBe('dead')
  })

  it('without that defect the next window opens', () => {
    calls(intended).create(12n, 63n)
    expect(calls(intended).create(12n, 29n).code).toBe('RTAS_OUT_SUCCESS')
  })

  it('does not guess what C makes of a shift by 64 or more', () => {
    for (const [page, window] of [
      [76n, 80n],
      [12n, 76n],
    ] as const) {
      const from = qemu.log.length
      expect(calls(qemu).create(page, window).state).toBe('unmodelled')
      expect(qemu.effects(from)).toMatchObject([{ kind: 'unmodelled' }])
    }
    // What is refused before the shift is not shifted.
    expect(calls(qemu).create(13n, 200n).rule).toBe('page-size-refused')
    const full = pseries()
    calls(full).create(16n, 30n)
    expect(calls(full).create(12n, 200n).rule).toBe('windows-exhausted')
    const huge = pseries({ pageShifts: [12, 34] })
    expect(calls(huge).create(34n, 64n).state).toBe('unmodelled')
    expect(qemu.rtas.call(0x2027, [0, 0x800_0000, 0x2000_0000, 76, 80], 4)).toEqual([NO_ANSWER])
  })
})

describe('ibm,remove-pe-dma-window', () => {
  const cases: Record<RuleOf<typeof REMOVE_PE_DMA_WINDOW>, () => Answer[]> = {
    'count-wrong': () => [
      calls(qemu).remove(LIOBN, { nret: 2n }),
      calls(qemu).remove(LIOBN, { nargs: 2n }),
      calls(intended).remove(7n, { nret: 0n }),
    ],
    'liobn-unknown': () => [calls(qemu).remove(0x1_2345n), calls(intended).remove(0x8000_0002n)],
    'not-a-phb': () => [calls(qemu).remove(BigInt(VIO_REG))],
    'ddw-off': () => [calls(qemu).remove(LIOBN_WITHOUT_DDW)],
    'window-closed': () => [calls(qemu).remove(LIOBN_64), calls(intended).remove(LIOBN_64)],
    'default-restored': () => {
      for (const m of [qemu, intended]) {
        calls(m).create(24n, 32n)
        calls(m).remove(LIOBN)
      }
      return [calls(qemu).remove(LIOBN_64), calls(intended).remove(LIOBN_64)]
    },
    done: () => {
      calls(qemu).create(24n, 32n)
      return [calls(qemu).remove(LIOBN_64), calls(qemu).remove(LIOBN), calls(intended).remove(LIOBN)]
    },
  }
  it.each(REMOVE_PE_DMA_WINDOW.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code, outputs: {} })
  })

  it('closes the window, and the default one comes back after the last', () => {
    calls(qemu).create(24n, 32n)
    calls(qemu).remove(LIOBN)
    const from = qemu.log.length
    calls(qemu).remove(LIOBN_64)
    expect(qemu.effects(from)).toMatchObject([
      { kind: 'window.close', liobn: 0x8000_0001, why: 'ibm,remove-pe-dma-window' },
      { kind: 'window.open', liobn: 0x8000_0000, pageShift: 12, busOffset: 0n, entries: 262144 },
    ])
  })

  it('a dynamic window in the first table counts as the default one (Q7): none is left', () => {
    for (const m of [qemu, intended]) {
      calls(m).remove(LIOBN)
      calls(m).create(16n, 31n)
      calls(m).remove(LIOBN)
    }
    expect(qemu.phb.openWindows).toBe(0)
    expect(intended.phb.openWindows).toBe(1)
  })
})

describe('ibm,reset-pe-dma-window', () => {
  const cases: Record<RuleOf<typeof RESET_PE_DMA_WINDOW>, () => Answer[]> = {
    'count-wrong': () => [calls(qemu).reset(BUID, { nret: 2n }), calls(qemu).reset(NO_BUID, { nargs: 4n })],
    'buid-unknown': () => [calls(qemu).reset(NO_BUID)],
    'ddw-off': () => [calls(intended).reset(WITHOUT_DDW)],
    done: () => [calls(qemu).reset(), calls(intended).reset()],
  }
  it.each(RESET_PE_DMA_WINDOW.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code, outputs: {} })
  })

  it('leaves the default window alone, empty, as another one', () => {
    calls(qemu).create(24n, 32n)
    calls(qemu).put(0x1000n, 3n)
    const from = qemu.log.length
    calls(qemu).reset()
    expect(qemu.effects(from).map((e) => e.kind)).toEqual(['window.close', 'window.close', 'window.open'])
    expect(qemu.tce(LIOBN, 1)).toBe(0n)
    expect(calls(qemu).remove(LIOBN).rule).toBe('done')
  })
})

describe('an RTAS call that nobody handles', () => {
  const cases: Record<RuleOf<typeof RTAS_UNKNOWN>, () => Answer[]> = {
    'token-unknown': () => [qemu.run('rtas', 'unknown', { token: 0x2fffn })],
  }
  it.each(RTAS_UNKNOWN.answers)('$code by $rule: $when', ({ rule, code }) => {
    for (const got of cases[rule]()) expect(got).toMatchObject({ rule, code })
  })

  it('is not the way to one that has a handler', () => {
    expect(() => qemu.run('rtas', 'unknown', { token: 0x2026n })).toThrow('ibm,query-pe-dma-window')
  })
})

describe('a dead QEMU', () => {
  it('answers nothing any more', () => {
    calls(qemu).create(12n, 63n)
    calls(qemu).create(12n, 63n)
    const from = qemu.log.length
    for (const { state } of [
      calls(qemu).put(0n, 3n),
      calls(qemu).get(0n),
      calls(qemu).stuff(0n, 0n, 1n),
      calls(qemu).indirect(0n, 0n, 1n),
      qemu.run('hcall', 'unknown', { opcode: 1n }),
      calls(qemu).query(),
      calls(qemu).remove(LIOBN),
      calls(qemu).reset(),
      calls(qemu).dmaRead(0n, 8n),
      qemu.run('mmio', 'read', { device: 'edu0', offset: 0n }),
    ]) {
      expect(state).toBe('dead')
    }
    expect(qemu.hcalls.putTce(0, 0, 0, 0, 0, 0)).toBe(NO_ANSWER)
    expect(qemu.log.length).toBe(from)
  })
})
