import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { PE_STATE, STOP } from '../../src/hw/pe-firmware.ts'
import { EEH_CHECK_FAILURE, READ_EEH_PE_STATE } from '../../src/kernel/eeh/calls.ts'
import { eehHandlers } from '../../src/kernel/eeh/handlers.ts'
import { EEH_PE, IGNORED_READS_WARNING } from '../../src/kernel/eeh/states.ts'
import { type EehWorld, type EehWorldOptions, makeEeh } from '../support/eeh.ts'
import { eventsOf } from '../support/host.ts'
import { testRules } from '../support/rule-table.ts'

const call = (m: EehWorld, decl: CallDecl, device = 'edu0'): Answer => {
  const handler = eehHandlers(m.eeh, m.stage).find((h) => h.decl === decl)
  if (handler === undefined) throw new Error('no handler')
  return handler.run({ device })
}
const check = (m: EehWorld, device?: string) => call(m, EEH_CHECK_FAILURE, device)

/** A frozen PE whose device is passed through, and one that was given up. */
const frozen = (options: EehWorldOptions = {}) => {
  const m = makeEeh(options)
  m.freeze()
  return m
}
const given = () => {
  const m = frozen({ devices: [{ name: 'edu0', driver: { name: 'd', errorDetected: 'DISCONNECT' } }] })
  check(m)
  m.elapse()
  return m
}
const passed = () => {
  const m = makeEeh()
  m.eeh.opened(1)
  m.freeze()
  return m
}

describe('eeh_check_failure', () => {
  // The last input of a row breaks a later rule as well: the earlier rule must answer.
  testRules(EEH_CHECK_FAILURE, {
    'no-device': () => [check(given())],
    'eeh-off': () => {
      const m = frozen({ isEnabled: false })
      m.eeh.addLooseDevice({ name: 'loose' })
      return [check(m), check(m, 'loose')]
    },
    'no-pe': () => {
      const m = frozen()
      m.eeh.addLooseDevice({ name: 'loose' })
      m.fence.says = 0
      return [check(m, 'loose')]
    },
    'phb-fenced': () => {
      const [m, taken] = [frozen(), passed()]
      for (const one of [m, taken]) one.fence.says = 0
      return [check(m), check(taken)]
    },
    'passed-through': () => {
      const m = passed()
      const later = passed()
      later.pe.isolate()
      return [check(m), check(later)]
    },
    'isolated-before': () => {
      const m = frozen()
      check(m)
      const back = frozen()
      back.pe.isolate()
      back.firmware.stops = 0
      return [check(m), check(m), check(back)]
    },
    'false-positive': () => {
      const lost = frozen()
      lost.firmware.says = PE_STATE.NOT_SUPPORT
      const below = makeEeh()
      const child = below.add(below.pe, 6, [{ name: 'child' }])
      below.firmware.stops = STOP.DMA
      expect(child.firmware.stops).toBe(0)
      return [check(makeEeh()), check(lost), check(below, 'child')]
    },
    'parent-isolated': () => {
      const m = makeEeh()
      const child = m.add(m.pe, 6, [{ name: 'child' }])
      child.firmware.stops = STOP.BOTH
      m.firmware.stops = STOP.DMA
      const answer = check(m, 'child')
      expect([m.eeh.recovery.queue, m.pe.state, child.pe.state]).toEqual([[m.pe], 3, 3])
      return [answer]
    },
    isolated: () => {
      // A parent that is stopped altogether has the state 0, which the kernel does not take for a frozen one.
      const m = frozen()
      const child = m.add(m.pe, 6, [{ name: 'child' }])
      child.firmware.stops = STOP.BOTH
      const half = makeEeh()
      half.firmware.stops = STOP.MMIO
      return [check(frozen()), check(m, 'child'), check(half)]
    },
  })

  it('isolates the PE, tells the devices, and sends it to recovery once', () => {
    const m = frozen()
    check(m)
    check(m)
    expect([m.pe.state, m.pe.ignoredReads, m.eeh.recovery.queue]).toEqual([
      EEH_PE.ISOLATED | EEH_PE.RECOVERING,
      1,
      [m.pe],
    ])
    expect(eventsOf(m, 'eeh.check')).toMatchObject([
      { device: 'edu0', rule: 'isolated', ignored: 0 },
      { device: 'edu0', rule: 'isolated-before', ignored: 1 },
    ])
  })

  it('counts what was no freeze', () => {
    const m = makeEeh()
    check(m)
    check(m)
    expect([m.pe.falsePositives, m.pe.state]).toEqual([2, 0])
  })

  it('isolates all of a fenced PHB, but knows of it once', () => {
    const m = frozen()
    const other = m.add(m.phb, 6, [{ name: 'other' }])
    m.fence.says = 0
    expect([check(m).rule, check(m, 'other').rule]).toEqual(['phb-fenced', 'isolated-before'])
    expect([m.phb.state, other.pe.state, m.eeh.recovery.queue]).toEqual([3, 3, [m.phb]])
  })

  it('blocks the configuration space of a device that asks for it', () => {
    const m = frozen({ devices: [{ name: 'edu0', pciId: 0x14e4_168e }] })
    check(m)
    expect(m.pe.is(EEH_PE.CFG_BLOCKED)).toBe(true)
    m.pe.clear(EEH_PE.ISOLATED)
    expect(m.pe.state).toBe(EEH_PE.CFG_RESTRICTED | EEH_PE.RECOVERING)
  })

  it(`warns once, at read ${IGNORED_READS_WARNING}, of a driver that loops`, () => {
    const m = frozen()
    m.log.on = false
    m.eeh.readAllOnes('edu0')
    for (let i = 1; i < IGNORED_READS_WARNING; i++) m.eeh.readAllOnes('edu0')
    m.log.on = true
    m.eeh.readAllOnes('edu0')
    m.eeh.readAllOnes('edu0')
    expect(eventsOf(m, 'warning')).toMatchObject([{ layer: 'kernel' }])
    expect(m.pe.ignoredReads).toBe(IGNORED_READS_WARNING + 1)
  })

  it('reads of registers do not ask while EEH is off', () => {
    const m = frozen({ isEnabled: false })
    m.eeh.readAllOnes('edu0')
    expect(eventsOf(m, 'eeh.check')).toEqual([])
  })

  it('takes no name that is nobody’s', () => {
    expect(() => check(makeEeh(), 'edu7')).toThrow('no device is called "edu7"')
  })
})

describe('eeh_pe_state', () => {
  const read = (m: EehWorld, device?: string) => call(m, READ_EEH_PE_STATE, device)
  testRules(READ_EEH_PE_STATE, {
    'no-device': () => [read(given())],
    'eeh-off': () => {
      const m = makeEeh({ isEnabled: false })
      m.eeh.addLooseDevice({ name: 'loose' })
      return [read(m), read(m, 'loose')]
    },
    'no-pe': () => {
      const m = makeEeh()
      m.eeh.addLooseDevice({ name: 'loose' })
      return [read(m, 'loose')]
    },
    done: () => [read(makeEeh()), read(frozen())],
  })

  it('shows both states', () => {
    expect(read(makeEeh()).outputs).toEqual({ firmware: 0x78n, kernel: 0n })
  })

  it('isolates a frozen PE without having it recovered, so that nobody recovers it afterwards', () => {
    const m = frozen()
    expect(read(m).outputs).toEqual({ firmware: 0n, kernel: 1n })
    expect([check(m).rule, m.eeh.recovery.queue]).toEqual(['isolated-before', []])
  })

  it('leaves a PE alone that is stopped in part', () => {
    const m = makeEeh()
    m.firmware.stops = STOP.DMA
    expect(read(m).outputs).toEqual({ firmware: 0x28n, kernel: 0n })
  })
})
