import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { ERRNO_CODES } from '../../src/bits/codes.ts'
import { NO_ANSWER } from '../../src/kernel/ports.ts'
import {
  CONFIGURE_PE,
  EEH_RTAS_CALLS,
  GET_CONFIG_ADDR_INFO2,
  READ_SLOT_RESET_STATE2,
  SET_EEH_OPTION,
  SET_SLOT_RESET,
  SLOT_ERROR_DETAIL,
} from '../../src/kernel/qemu/eeh-calls.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { BUID, BUID_WITHOUT_DDW, pseries } from '../support/pseries.ts'
import { testRules } from '../support/rule-table.ts'

const NO_BUID = 0x1_0000_0002n
/** A PHB that has emulated devices only. */
const EMULATED = BUID_WITHOUT_DDW
const { EIO } = ERRNO_CODES
/** Bus 1, device 2, function 3. */
const DEVICE = 0x1_1300n

/** A machine whose PHB pci0 has one VFIO group with a device on bus 1, and an emulated one at 00:01.0. */
function world(answer: number | ((op: number) => number) = 0) {
  const ops: number[] = []
  const m = pseries({
    eeh: {
      operate(op) {
        ops.push(op)
        return typeof answer === 'number' ? answer : answer(op)
      },
      hasVfioDevice: (bus) => bus === 1,
      hasDevice: (bus, devfn) => (bus === 1 && devfn === 0x13) || (bus === 0 && devfn === 8),
    },
  })
  const call = (name: string, args: Record<string, Value> = {}) =>
    m.run('rtas', name, { buid: BUID, ...args })
  return { m, ops, call }
}
const at = (name: string, answer?: Parameters<typeof world>[0]) => (args: Record<string, Value>) =>
  world(answer).call(name, args)

/** Inputs of the rules that all six calls begin with; an unknown option breaks a later rule. */
const common = (name: string, nargs: bigint, nret: bigint, bad: Record<string, Value>) => ({
  'count-wrong': () =>
    [
      { nargs: nargs + 1n },
      { nargs: nargs - 1n, buid: NO_BUID },
      { nret: nret + 2n, buid: EMULATED },
      { nret: nret - 1n, ...bad },
    ].map((args) => at(name)({ ...bad, ...args })),
  'buid-unknown': () => [at(name)({ ...bad, buid: NO_BUID }), at(name)({ ...bad, buid: 0n })],
  'eeh-unavailable': () => [at(name)({ ...bad, buid: EMULATED })],
})

describe('ibm,set-eeh-option', () => {
  const set = at('ibm,set-eeh-option')
  testRules(SET_EEH_OPTION, {
    ...common('ibm,set-eeh-option', 4n, 1n, { option: 9n }),
    'no-device-on-bus': () => [
      set({ option: 1n, cfg_addr: 0x800n }),
      at('ibm,set-eeh-option', EIO)({ option: 1n, cfg_addr: 0x2_0000n }),
    ],
    'option-unknown': () => [set({ option: 4n }), at('ibm,set-eeh-option', EIO)({ option: 0xffff_ffffn })],
    'host-refused': () =>
      [0n, 1n, 2n, 3n].map((option) => at('ibm,set-eeh-option', EIO)({ option, cfg_addr: DEVICE })),
    done: () => [0n, 1n, 2n, 3n].map((option) => set({ option, cfg_addr: 0x1_0000n })),
  })

  it('hands the option on to the host', () => {
    const { call, ops } = world()
    for (const option of [0n, 1n, 2n, 3n]) call('ibm,set-eeh-option', { option, cfg_addr: DEVICE })
    expect(ops).toEqual([0, 1, 2, 3])
  })
})

describe('ibm,get-config-addr-info2', () => {
  const get = at('ibm,get-config-addr-info2', EIO)
  testRules(GET_CONFIG_ADDR_INFO2, {
    ...common('ibm,get-config-addr-info2', 4n, 2n, { option: 9n }),
    'no-device': () => [get({ option: 0n, cfg_addr: 0n }), get({ option: 0n, cfg_addr: 0x1_1400n })],
    'option-unknown': () => [get({ option: 2n, cfg_addr: 0n })],
    done: () => [get({ option: 0n, cfg_addr: DEVICE }), get({ option: 1n, cfg_addr: 0n })],
  })

  it('names the PE by its bus, emulated devices too, and asks nobody', () => {
    const { call, ops } = world()
    const info = (option: bigint, cfg_addr: bigint) =>
      call('ibm,get-config-addr-info2', { option, cfg_addr }).outputs['info']
    expect([info(0n, DEVICE), info(0n, 0x800n), info(1n, DEVICE), ops]).toEqual([0x1_0001n, 1n, 2n, []])
  })
})

describe('ibm,read-slot-reset-state2', () => {
  const read = at('ibm,read-slot-reset-state2')
  testRules(READ_SLOT_RESET_STATE2, {
    'count-wrong': () => [
      read({ nargs: 4n }),
      read({ nargs: 2n, buid: NO_BUID }),
      read({ nret: 3n, buid: EMULATED }),
      read({ nret: 6n }),
    ],
    'buid-unknown': () => [read({ buid: NO_BUID })],
    'eeh-unavailable': () => [read({ buid: EMULATED })],
    'host-refused': () => [
      at('ibm,read-slot-reset-state2', EIO)({}),
      at('ibm,read-slot-reset-state2', -1)({}),
    ],
    done: () => [read({}), read({ nret: 5n }), at('ibm,read-slot-reset-state2', 5)({})],
  })

  it('hands the state of the host on, with two or three cells of its own', () => {
    const { call, ops } = world(4)
    const rest = { state: 4n, support: 1n, unavailable_ms: 1000n }
    expect(call('ibm,read-slot-reset-state2').outputs).toEqual(rest)
    expect(call('ibm,read-slot-reset-state2', { nret: 5n }).outputs).toEqual({ ...rest, recovery: 0n })
    expect(ops).toEqual([4, 4])
  })

  it('has no answer where the host has none', () => {
    const { m, call } = world(NO_ANSWER)
    expect(call('ibm,read-slot-reset-state2').state).toBe('unmodelled')
    expect(call('ibm,configure-pe').state).toBe('unmodelled')
    expect(m.rtas.call(0x2022, [0, 0x800_0000, 0x2000_0000], 4)).toEqual([NO_ANSWER])
  })
})

describe('ibm,set-slot-reset', () => {
  const set = at('ibm,set-slot-reset')
  testRules(SET_SLOT_RESET, {
    ...common('ibm,set-slot-reset', 4n, 1n, { option: 9n }),
    'option-unknown': () => [set({ option: 2n }), at('ibm,set-slot-reset', EIO)({ option: 4n })],
    'host-refused': () => [0n, 1n, 3n].map((option) => at('ibm,set-slot-reset', EIO)({ option })),
    done: () => [0n, 1n, 3n].map((option) => set({ option })),
  })

  it('hands the reset on to the host', () => {
    const { call, ops } = world()
    for (const option of [1n, 3n, 0n]) call('ibm,set-slot-reset', { option })
    expect(ops).toEqual([6, 7, 5])
  })
})

describe('ibm,configure-pe', () => {
  testRules(CONFIGURE_PE, {
    ...common('ibm,configure-pe', 3n, 1n, {}),
    'host-refused': () => [at('ibm,configure-pe', EIO)({})],
    done: () => [at('ibm,configure-pe')({})],
  })

  it('is operation 8 of the host', () => {
    const { call, ops } = world()
    call('ibm,configure-pe')
    expect(ops).toEqual([8])
  })
})

describe('ibm,slot-error-detail', () => {
  const detail = at('ibm,slot-error-detail', EIO)
  testRules(SLOT_ERROR_DETAIL, {
    ...common('ibm,slot-error-detail', 8n, 1n, { option: 9n }),
    'option-unknown': () => [detail({ option: 0n }), detail({ option: 3n })],
    none: () => [detail({ option: 1n }), detail({ option: 2n, error_log: 0x1000n, error_log_bytes: 1024n })],
  })

  it('has its option in the eighth cell', () => {
    const { m } = world()
    const cells = [0, 0x800_0000, 0x2000_0000, 1, 1, 1, 1]
    expect(m.rtas.call(0x2025, [...cells, 2], 1)).toEqual([1])
    expect(m.rtas.call(0x2025, [...cells, 0], 1)).toEqual([-3])
  })
})

describe('EEH of a pseries machine with emulated devices', () => {
  it('is not there: every call answers -3 for a PHB that it has and for one that it has not', () => {
    const m = createMachine(
      describeMachine({ phbs: [{ devices: [{ name: 'edu0', kind: 'edu', slot: 4 }] }] }),
    )
    const buid = describeMachine().phbs[0]?.buid ?? 0n
    for (const [i, { name, nr, args }] of EEH_RTAS_CALLS.entries()) {
      expect(nr).toBe(0x2020 + i)
      const option = 'option' in args ? { option: 1n } : {}
      const rule = (b: bigint) => m.perform({ verb: 'rtas', call: name, args: { buid: b, ...option } })
      expect(rule(buid)).toMatchObject({ rule: 'eeh-unavailable', code: 'RTAS_OUT_PARAM_ERROR' })
      expect(rule(1n)).toMatchObject({ rule: 'buid-unknown', code: 'RTAS_OUT_PARAM_ERROR' })
    }
  })
})
