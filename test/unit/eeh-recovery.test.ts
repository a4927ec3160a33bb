import { describe, expect, it } from 'vitest'
import { ERRNO_CODES } from '../../src/bits/codes.ts'
import { PE_STATE, STOP } from '../../src/hw/pe-firmware.ts'
import { CHANNEL, EEH_PE, EEH_TYPE } from '../../src/kernel/eeh/states.ts'
import { CAN_RECOVER, type EehWorld, type EehWorldOptions, makeEeh, NEED_RESET } from '../support/eeh.ts'

const { EIO } = ERRNO_CODES
const { ISOLATED, RECOVERING, CFG_BLOCKED, RESET, KEEP, REMOVED } = EEH_PE

/** A frozen PE that a driver has noticed. */
const noticed = (options: EehWorldOptions = {}) => {
  const m = makeEeh(options)
  m.freeze()
  m.eeh.readAllOnes('edu0')
  return m
}
const withDriver = (driver: NonNullable<EehWorldOptions['devices']>[number]['driver']) =>
  noticed({ devices: [driver === undefined ? { name: 'edu0' } : { name: 'edu0', driver }] })
const device = (m: EehWorld, name = 'edu0') => m.eeh.device(name)

describe('recovery of a PE', () => {
  it('thaws it, MMIO first, where its drivers can go on', () => {
    const m = noticed()
    m.elapse()
    expect(m.steps()).toEqual(['report-error', 'wait-for-state', 'thaw-mmio', 'thaw-dma', 'resume'])
    expect(m.firmware.calls).toEqual(['clear 1', 'clear 2'])
    expect(m.answers()).toEqual(['edu0 error_detected CAN_RECOVER', 'edu0 resume NONE'])
    expect([m.pe.state, m.pe.freezes, device(m)?.channel]).toEqual([0, 1, CHANNEL.NORMAL])
    expect([m.eeh.recovery.queue, m.eeh.recovery.step]).toEqual([[], 'idle'])
  })

  it('resets it where a driver wants that, and leaves it frozen until its devices are restored', () => {
    const m = withDriver(NEED_RESET)
    m.elapse()
    expect([m.eeh.recovery.step, m.pe.state, m.firmware.resetKind]).toEqual([
      'end-reset',
      ISOLATED | RECOVERING | CFG_BLOCKED | RESET | KEEP,
      1,
    ])
    m.elapse()
    // Ended, but not thawed: the kernel takes the state of a PE in reset for good.
    expect([m.eeh.recovery.step, m.firmware.resetKind, m.firmware.stops]).toEqual([
      'wait-after-reset',
      0,
      STOP.BOTH,
    ])
    m.elapse(2)
    expect([m.eeh.recovery.step, m.firmware.stops, m.pe.state]).toEqual(['idle', 0, 0])
    expect(m.steps()).toEqual([
      'report-error',
      'wait-for-state',
      'assert-reset',
      'end-reset',
      'wait-after-reset',
      'clear-frozen',
      'replug',
      'report-reset',
      'resume',
    ])
    expect(m.answers()).toEqual([
      'edu0 error_detected NEED_RESET',
      'edu0 slot_reset RECOVERED',
      'edu0 resume NONE',
    ])
  })

  it('unplugs devices of drivers that know nothing of it, resets, and plugs them in five seconds later', () => {
    const m = withDriver(undefined)
    m.elapse()
    expect(device(m)?.isPresent).toBe(false)
    m.elapse(3)
    expect([m.eeh.recovery.step, m.firmware.stops]).toEqual(['replug', 0])
    m.elapse(4)
    expect(device(m)?.isPresent).toBe(false)
    m.elapse()
    expect([device(m)?.isPresent, m.pe.state, m.answers()]).toEqual([true, 0, []])
  })

  it('unplugs only those that cannot be reset below their driver, and calls them back no more', () => {
    const m = noticed({
      devices: [
        { name: 'edu0', driver: NEED_RESET },
        { name: 'half', driver: { name: 'half', errorDetected: 'CAN_RECOVER', hasResume: true } },
      ],
    })
    m.elapse()
    expect([device(m)?.isPresent, device(m, 'half')?.isPresent]).toEqual([true, false])
    m.elapse(20)
    expect([device(m, 'half')?.isPresent, m.pe.state]).toEqual([true, 0])
    expect(m.answers().filter((a) => a.startsWith('half'))).toEqual(['half error_detected CAN_RECOVER'])
  })

  it.each([
    ['the heavier answer counts', ['CAN_RECOVER', 'NEED_RESET'], 'assert-reset'],
    ['a reset outweighs a refusal', ['DISCONNECT', 'NEED_RESET'], 'assert-reset'],
    ['a refusal outweighs all else', ['CAN_RECOVER', 'DISCONNECT'], 'give-up'],
    ['one that claims to be well is believed', ['RECOVERED', 'NONE'], 'resume'],
  ] as const)('%s', (_what, answers, step) => {
    const m = noticed({
      devices: answers.map((errorDetected, i) => ({
        name: `edu${i}`,
        driver: { name: 'd', errorDetected },
      })),
    })
    m.elapse()
    expect(m.steps()).toContain(step)
  })

  it('goes over to a reset where a driver asks for it once MMIO goes again', () => {
    const m = withDriver({ ...CAN_RECOVER, mmioEnabled: 'NEED_RESET' })
    m.elapse(4)
    expect(m.steps()).toEqual(expect.arrayContaining(['thaw-mmio', 'assert-reset', 'resume']))
    expect(m.steps()).not.toContain('thaw-dma')
    expect(m.pe.state).toBe(0)
  })

  it.each([
    ['mmio_enabled', { ...CAN_RECOVER, mmioEnabled: 'DISCONNECT' }],
    ['slot_reset', { ...NEED_RESET, slotReset: 'DISCONNECT' }],
    ['error_detected', { name: 'd', errorDetected: 'DISCONNECT' }],
  ] as const)('gives up where a driver refuses in %s', (call, driver) => {
    const m = withDriver(driver)
    m.elapse(20)
    expect(m.answers()).toContain(`edu0 ${call} DISCONNECT`)
    expect(m.answers().at(-1)).toContain('error_detected(permanent failure)')
    expect([m.pe.is(REMOVED), device(m)?.isPresent, m.pe.type & EEH_TYPE.INVALID]).toEqual([true, false, 1])
  })

  it('gives up a PE that stays stopped, with MMIO thawed for its drivers', () => {
    const m = withDriver({ name: 'd', errorDetected: 'DISCONNECT' })
    m.elapse()
    expect([m.firmware.stops, m.steps()]).toEqual([STOP.DMA, ['report-error', 'give-up']])
    const stuck = noticed()
    stuck.firmware.refuses.clear = EIO
    stuck.elapse()
    expect(stuck.steps()).toEqual(['report-error', 'wait-for-state', 'thaw-mmio', 'give-up'])
  })

  it('tries a reset three times', () => {
    const m = withDriver(NEED_RESET)
    m.firmware.refuses.reset = EIO
    m.elapse(10)
    expect(m.steps().filter((s) => s === 'assert-reset')).toHaveLength(3)
    expect(m.steps().at(-1)).toBe('give-up')
  })

  it('ignores a PE without devices', () => {
    const m = noticed()
    device(m)?.unplug()
    m.elapse()
    expect([m.pe.state, m.pe.freezes, m.eeh.recovery.queue]).toEqual([ISOLATED, 0, []])
  })

  it('takes one PE after the other', () => {
    const m = withDriver(NEED_RESET)
    const other = m.add(m.phb, 6, [{ name: 'edu6', driver: CAN_RECOVER }])
    other.firmware.stops = STOP.BOTH
    m.eeh.readAllOnes('edu6')
    m.elapse()
    expect([m.eeh.recovery.queue, other.pe.is(RECOVERING)]).toEqual([[m.pe, other.pe], true])
    m.elapse(4)
    expect([m.eeh.recovery.queue, other.pe.state]).toEqual([[], 0])
  })
})

describe('waiting for firmware', () => {
  it('asks each second while the state is not known, five minutes in all', () => {
    const m = noticed()
    m.firmware.says = PE_STATE.UNAVAILABLE
    m.elapse(299)
    expect([m.eeh.recovery.step, m.pe.is(REMOVED)]).toEqual(['wait-for-state', false])
    m.elapse(2)
    expect(m.pe.is(REMOVED)).toBe(true)
  })

  it('goes on as soon as it is', () => {
    const m = noticed()
    m.firmware.says = PE_STATE.UNAVAILABLE
    m.elapse(100)
    m.firmware.says = null
    m.elapse()
    expect(m.pe.state).toBe(0)
  })

  it('gives up at once what firmware has given up', () => {
    const m = noticed()
    m.firmware.says = PE_STATE.NOT_SUPPORT
    m.elapse()
    expect(m.steps()).toEqual(['report-error', 'wait-for-state', 'give-up'])
  })

  it('counts in milliseconds: with ticks of a millisecond a reset is held for 250 and settles for 1800', () => {
    const m = noticed({ devices: [{ name: 'edu0', driver: NEED_RESET }], tickMs: 1 })
    m.elapse(250)
    expect(m.eeh.recovery.step).toBe('end-reset')
    m.elapse()
    expect(m.eeh.recovery.step).toBe('wait-after-reset')
    m.elapse(1799)
    expect(m.eeh.recovery.step).toBe('wait-after-reset')
    m.elapse()
    expect(m.eeh.recovery.step).toBe('idle')
  })
})

describe('freezes within an hour', () => {
  /** Freezes, is noticed, and is recovered. */
  const again = (m: EehWorld) => {
    m.freeze()
    m.eeh.readAllOnes('edu0')
    m.elapse()
  }

  it('five are survived, the sixth is the last', () => {
    const m = makeEeh()
    for (let i = 1; i <= 5; i++) {
      again(m)
      expect([m.pe.freezes, m.pe.state]).toEqual([i, 0])
    }
    again(m)
    expect([m.pe.freezes, m.pe.state & REMOVED]).toEqual([6, REMOVED])
    expect(m.steps().at(-1)).toBe('give-up')
    expect(device(m)?.channel).toBe(CHANNEL.PERM_FAILURE)
  })

  it('count anew more than 3600 seconds after the first of them', () => {
    const m = makeEeh()
    for (let i = 0; i < 5; i++) again(m)
    // The first was at second 1: at 3601 it still counts, at 3602 it does not.
    const late = makeEeh()
    for (let i = 0; i < 5; i++) again(late)
    m.skip(3601 - 6)
    again(m)
    late.skip(3602 - 6)
    again(late)
    expect([m.pe.is(REMOVED), late.pe.is(REMOVED), late.pe.freezes]).toEqual([true, false, 1])
  })

  it('count in real time', () => {
    const m = makeEeh({ tickMs: 60_000 })
    for (let i = 0; i < 5; i++) again(m)
    m.skip(60)
    again(m)
    expect(m.pe.freezes).toBe(1)
  })
})

describe('a fenced PHB', () => {
  const fenced = (isPassed = false) => {
    const m = makeEeh()
    const other = m.add(m.phb, 6, [{ name: 'edu6', driver: CAN_RECOVER }])
    if (isPassed) m.eeh.opened(6)
    m.fence.stops = STOP.BOTH
    m.firmware.stops = STOP.BOTH
    other.firmware.stops = STOP.BOTH
    m.eeh.readAllOnes('edu0')
    return { m, other }
  }

  it('is reset, whatever drivers can do without', () => {
    const { m, other } = fenced()
    m.elapse()
    expect([m.fence.calls, m.firmware.calls]).toEqual([['freeze', 'reset 1'], []])
    m.fence.stops = 0
    m.elapse(10)
    expect([m.phb.state, m.pe.state, other.pe.state]).toEqual([0, 0, 0])
    expect([m.firmware.stops, other.firmware.stops, m.phb.freezes, m.pe.freezes]).toEqual([0, 0, 1, 0])
  })

  it('freezes again what the reset has thawed of others, and tells them that the state is unavailable', () => {
    const { m, other } = fenced(true)
    expect(m.eeh.stateOf(6)).toBe(5)
    m.elapse()
    m.fence.stops = 0
    other.firmware.stops = 0
    m.elapse(10)
    expect([other.firmware.stops, m.firmware.stops, m.phb.state]).toEqual([STOP.BOTH, 0, 0])
    expect(m.answers().filter((a) => a.startsWith('edu6'))).toEqual([])
    expect(m.eeh.stateOf(6)).toBe(2)
  })
})

describe('the error interrupt', () => {
  it('has a PE recovered once, whoever noticed first', () => {
    const m = makeEeh()
    m.freeze()
    m.eeh.interrupt(m.firmware)
    m.eeh.readAllOnes('edu0')
    m.elapse()
    expect([m.pe.freezes, m.pe.state]).toEqual([1, 0])
    m.freeze()
    m.eeh.interrupt(m.firmware)
    m.eeh.interrupt(m.firmware)
    m.elapse()
    expect([m.pe.freezes, m.firmware.stops]).toEqual([2, 0])
  })

  it('of a fence comes before those of its PEs', () => {
    const m = makeEeh()
    m.fence.stops = STOP.BOTH
    m.eeh.interrupt(m.fence)
    m.eeh.interrupt(m.firmware)
    m.elapse()
    expect(m.eeh.recovery.queue).toEqual([m.phb])
  })

  it('is nothing to a kernel without EEH, nor from a PE that it does not know', () => {
    const off = makeEeh({ isEnabled: false })
    off.freeze()
    off.eeh.interrupt(off.firmware)
    off.elapse()
    expect(off.pe.state).toBe(0)
    const m = makeEeh()
    off.eeh.interrupt(m.firmware)
    off.elapse()
    expect(m.pe.state).toBe(0)
  })
})

describe('what is undone', () => {
  it('leaves the state as it was, at every tick of a recovery', () => {
    const m = makeEeh({ devices: [{ name: 'edu0', driver: NEED_RESET }], journal: true })
    const shown = () => [m.journal.hash, m.pe.state, m.pe.freezes, m.eeh.recovery.step, device(m)?.channel]
    const stops: { mark: number; shown: unknown }[] = []
    const note = () => stops.push({ mark: m.journal.mark(), shown: shown() })
    note()
    m.freeze()
    m.eeh.interrupt(m.firmware)
    note()
    for (let i = 0; i < 4; i++) {
      m.elapse()
      note()
    }
    // In one of the ticks the PE only settles.
    expect(new Set(stops.map((s) => JSON.stringify(s.shown))).size).toBe(stops.length - 1)
    for (const { mark, shown: then } of stops.reverse()) {
      m.journal.rollback(mark)
      expect(shown()).toEqual(then)
    }
  })
})
