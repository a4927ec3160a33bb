import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import type { Machine } from '../../src/machine/machine.ts'
import type { Operation } from '../../src/machine/operation.ts'
import type { PowernvInput } from '../../src/machine/powernv/description.ts'
import { TimeTravel } from '../../src/machine/time-travel.ts'
import { CAN_RECOVER, NEED_RESET } from '../support/eeh.ts'

const WORD = 0xffff_ffff_ffff_ffffn
const ID = 0x0100_00edn
const ALL_ONES = 0xffff_ffffn

const edu = (name: string, driver?: typeof CAN_RECOVER | typeof NEED_RESET) => ({
  name,
  kind: 'edu' as const,
  dmaMask: WORD,
  ...(driver && { driver }),
})
/** PE 1 with edu0, of a driver that can go on; PE 2 with edu1, for processes. */
const hostOf = (input: Partial<PowernvInput> = {}) =>
  describeMachine({
    profile: 'intended',
    phbs: [{ pes: [{ devices: [edu('edu0', CAN_RECOVER)] }, { devices: [edu('edu1')] }] }],
    ...input,
    kind: 'powernv',
  })

const op = (verb: Verb, call: string, args: Record<string, Value> = {}): Operation => ({ verb, call, args })
const run = (m: Machine, verb: Verb, call: string, args: Record<string, Value> = {}) =>
  m.perform(op(verb, call, args))
const read = (m: Machine, device = 'edu0') => run(m, 'mmio', 'read', { device, offset: 0n }).outputs['value']
const badDma = (m: Machine, device = 'edu0') =>
  run(m, 'dma', 'read', { device, iova: 0x2_0000n, bytes: 4n }).rule
const tick = (m: Machine, ticks = 1n) => run(m, 'tick', 'advance', { ticks })
const state = (m: Machine, device = 'edu0') => run(m, 'proc', 'read_eeh_pe_state', { device }).outputs
const kinds = (m: Machine, kind: string) =>
  [...m.log.records()].map((r) => r.event).filter((e) => e.kind === kind)

/** Freezes the PE of edu0, reads all ones, and lets a second pass. */
const round = (m: Machine) => {
  badDma(m)
  read(m)
  tick(m)
}

/** Opens edu1 by VFIO, in a container. */
function openDevice(m: Machine): { container: bigint; device: bigint } {
  const fdOf = (verb: Verb, call: string, args: Record<string, Value>) =>
    run(m, verb, call, args).outputs['fd'] as bigint
  const container = fdOf('proc', 'open', { path: '/dev/vfio/vfio' })
  const group = fdOf('proc', 'open', { path: '/dev/vfio/1' })
  run(m, 'ioctl', 'VFIO_GROUP_SET_CONTAINER', { fd: group, container })
  run(m, 'ioctl', 'VFIO_SET_IOMMU', { fd: container, type: 7n })
  return {
    container,
    device: fdOf('ioctl', 'VFIO_GROUP_GET_DEVICE_FD', { fd: group, name: '0000:02:00.0' }),
  }
}

describe('a POWER host with EEH', () => {
  it('freezes after a bad DMA, notices with all ones, recovers with time, and goes on', () => {
    const m = createMachine(hostOf())
    expect([read(m), badDma(m), read(m)]).toEqual([ID, 'refused', ALL_ONES])
    expect(state(m)).toEqual({ firmware: 0n, kernel: 3n })
    tick(m)
    expect([read(m), state(m)]).toEqual([ID, { firmware: 0x78n, kernel: 0n }])
    // Bypass: the kernel lets the device reach memory at 1 << 59, before as after.
    expect(run(m, 'dma', 'read', { device: 'edu0', iova: 1n << 59n, bytes: 4n }).rule).toBe('done')
    expect(kinds(m, 'eeh.step').map((e) => (e as { step?: string }).step)).toEqual([
      'report-error',
      'wait-for-state',
      'thaw-mmio',
      'thaw-dma',
      'resume',
    ])
  })

  it('is interrupted by the freeze, without a read', () => {
    const m = createMachine(hostOf())
    badDma(m)
    expect(state(m)).toMatchObject({ firmware: 0n })
    const other = createMachine(hostOf())
    badDma(other)
    tick(other)
    expect(kinds(other, 'eeh.interrupt')).toMatchObject([{ unit: 'phb0', pe: 1, phb: 0, handled: 1 }])
    expect([read(other), state(other)]).toEqual([ID, { firmware: 0x78n, kernel: 0n }])
  })

  it('lets a PE be that is isolated or passed through when the interrupt is handled', () => {
    const m = createMachine(hostOf())
    openDevice(m)
    badDma(m, 'edu1')
    badDma(m)
    state(m)
    tick(m, 10n)
    expect(kinds(m, 'eeh.interrupt')).toMatchObject([
      { pe: 2, handled: 0 },
      { pe: 1, handled: 0 },
    ])
    // Who only asked for the state of a frozen PE has isolated it: nobody recovers it.
    expect([read(m), read(m, 'edu1')]).toEqual([ALL_ONES, ALL_ONES])
  })

  it('does not notice without a read where firmware gives no interrupt, however long it takes', () => {
    const m = createMachine(
      hostOf({ phbs: [{ errorInterrupt: false, pes: [{ devices: [edu('edu0', CAN_RECOVER)] }] }] }),
    )
    badDma(m)
    tick(m, 1000n)
    expect([kinds(m, 'eeh.check'), read(m)]).toEqual([[], ALL_ONES])
    tick(m)
    expect(read(m)).toBe(ID)
  })

  it('takes a register that is all ones for what it is', () => {
    const m = createMachine(hostOf())
    expect(run(m, 'mmio', 'read', { device: 'edu0', offset: 0x60n }).outputs['value']).toBe(ALL_ONES)
    expect(kinds(m, 'eeh.check')).toMatchObject([{ rule: 'false-positive' }])
    expect(state(m)).toEqual({ firmware: 0x78n, kernel: 0n })
  })

  it('gives a PE up that freezes six times within an hour', () => {
    const m = createMachine(hostOf())
    for (let i = 0; i < 5; i++) {
      round(m)
      expect(read(m)).toBe(ID)
    }
    round(m)
    expect(run(m, 'proc', 'read_eeh_pe_state', { device: 'edu0' }).rule).toBe('no-device')
    expect(run(m, 'driver', 'eeh_check_failure', { device: 'edu0' }).rule).toBe('no-device')
    // MMIO was thawed for the driver to come to rest; DMA stays stopped.
    expect([read(m), badDma(m)]).toEqual([ID, 'pe-frozen'])
  })

  it('counts anew when the first of the freezes is older than an hour', () => {
    const m = createMachine(hostOf())
    for (let i = 0; i < 5; i++) round(m)
    tick(m, 3600n)
    round(m)
    expect(read(m)).toBe(ID)
    const freezes = kinds(m, 'eeh.step').map((e) => (e as { freezes?: number }).freezes)
    expect(freezes.at(-1)).toBe(1)
  })

  it('has ticks as long as it is told', () => {
    const m = createMachine(
      hostOf({ tickMs: 100, phbs: [{ pes: [{ devices: [edu('edu0', NEED_RESET)] }] }] }),
    )
    round(m)
    // 250 ms of reset, then 1800 ms to settle.
    tick(m, 20n)
    expect(read(m)).toBe(ALL_ONES)
    tick(m, 1n)
    expect(read(m)).toBe(ID)
  })

  it('leaves a passed-through PE to whoever has it', () => {
    const m = createMachine(hostOf())
    const { container: fd, device } = openDevice(m)
    const peOp = (number: bigint) => run(m, 'ioctl', 'VFIO_EEH_PE_OP', { fd, op: number }).code
    expect(peOp(4n)).toBe('OK')
    badDma(m, 'edu1')
    expect(read(m, 'edu1')).toBe(ALL_ONES)
    tick(m, 400n)
    expect([kinds(m, 'eeh.step'), read(m, 'edu1')]).toEqual([[], ALL_ONES])
    expect([4n, 6n, 4n, 5n, 8n, 4n].map(peOp)).toEqual(['RETURN_2', 'OK', 'RETURN_2', 'OK', 'OK', 'OK'])
    expect(read(m, 'edu1')).toBe(ID)
    badDma(m, 'edu1')
    run(m, 'proc', 'close', { fd: device })
    expect(read(m, 'edu1')).toBe(ID)
  })

  it('hands a device of a driver of its own to nobody, and takes its group for one in use', () => {
    const m = createMachine(hostOf())
    const fd = run(m, 'proc', 'open', { path: '/dev/vfio/0' }).outputs['fd'] as bigint
    expect(run(m, 'ioctl', 'VFIO_GROUP_GET_DEVICE_FD', { fd, name: '0000:01:00.0' }).rule).toBe(
      'no-such-device',
    )
    const container = run(m, 'proc', 'open', { path: '/dev/vfio/vfio' }).outputs['fd'] as bigint
    expect(run(m, 'ioctl', 'VFIO_GROUP_SET_CONTAINER', { fd, container }).rule).toBe('dma-owned')
  })

  it('does nothing where it is switched off', () => {
    const m = createMachine(hostOf({ hasEeh: false }))
    round(m)
    tick(m, 10n)
    expect([read(m), kinds(m, 'eeh.check')]).toEqual([ALL_ONES, []])
    const { container: fd } = openDevice(m)
    expect(run(m, 'ioctl', 'VFIO_EEH_PE_OP', { fd, op: 1n }).rule).toBe('eeh-off')
    expect(run(m, 'ioctl', 'VFIO_CHECK_EXTENSION', { fd, extension: 5n }).rule).toBe('unsupported')
  })

  it('can be travelled in time, through the middle of a recovery too', () => {
    const description = hostOf({ phbs: [{ pes: [{ devices: [edu('edu0', NEED_RESET)] }] }] })
    const operations = [
      op('dma', 'read', { device: 'edu0', iova: 0n, bytes: 4n }),
      op('mmio', 'read', { device: 'edu0', offset: 0n }),
      ...[1, 2, 3, 4].map(() => op('tick', 'advance', { ticks: 1n })),
    ]
    const make = () => createMachine(description, { journal: true })
    const m = make()
    const states = operations.map((o) => {
      m.perform(o)
      return { at: m.log.length - 1, hash: m.journal.hash, step: kinds(m, 'eeh.step').length }
    })
    expect(new Set(states.map((s) => s.hash)).size).toBe(states.length)
    const travel = new TimeTravel(make, operations)
    for (const { at, hash } of [...states].reverse()) expect(travel.goTo(at).journal.hash).toBe(hash)
  })
})
