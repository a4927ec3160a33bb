import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import { DMA_MAP_SG, DMA_UNMAP_SG } from '../../src/kernel/guest/calls.ts'
import {
  bootedGuest,
  GuestMachine,
  type GuestMachineOptions,
  MASK_32,
  MASK_64,
} from '../support/guest-machine.ts'
import { testRules } from '../support/rule-table.ts'

const NO_WINDOW = { properties: {}, defaultBytes: 0n }
const TABLE = { bootOptions: ['disable_ddw'] }

const item = (address: bigint, bytes: bigint): Value => ({ address, bytes })
const ONE = [item(0x400_0000n, 0x1000n)]
const TWO = [item(0x400_0000n, 0x1_0000n), item(0x402_0000n, 0x2000n)]

function guest(given: GuestMachineOptions = TABLE) {
  const machine = bootedGuest(given)
  machine.call('probe', { device: 'nic', mask: MASK_64 })
  machine.call('alloc_pages', { owner: 'nic', order: 2n, as: 'buf' })
  return machine
}

const map = (machine: GuestMachine, segments: Value, args = {}) =>
  machine.call('dma_map_sg', { device: 'nic', segments, as: 'list', ...args })

/** A guest whose hypervisor refuses the calls from the given one on. */
function refusing(from: number, code = -4, given: GuestMachineOptions = TABLE) {
  const machine = guest(given)
  let left = from
  machine.hypervisor.refuse = (call) => (call.startsWith('H_PUT') && left-- <= 0 ? code : undefined)
  return machine
}

function crowded() {
  const machine = refusing(0)
  machine.device('nic').table?.markUsed(1, 262_144)
  return machine
}

/** A device that went direct up to a limit, and whose driver has lowered its mask since. */
function narrowed() {
  const machine = bootedGuest({ hasPmemory: true })
  machine.hypervisor.firmware.largest = 64n
  machine.call('probe', { device: 'nic', mask: MASK_64 })
  machine.call('dma_set_mask', { device: 'nic', mask: MASK_32 })
  return machine
}

describe('dma_map_sg', () => {
  testRules(DMA_MAP_SG, {
    'kernel-not-booted': () => [map(new GuestMachine(), [], { device: 'none' })],
    'device-unknown': () => [map(guest(), [], { device: 'none', buffer: 'none' })],
    'buffer-unknown': () => [
      map(guest(), ONE, { buffer: 'none' }),
      map(guest(NO_WINDOW), [], { buffer: 'none' }),
    ],
    'outside-buffer': () => [
      map(guest(), [item(0x3_ffffn, 2n)], { buffer: 'buf' }),
      map(guest(NO_WINDOW), [item(0x4_0000n, 1n)], { buffer: 'buf' }),
      map(guest(), [item(1n << 52n, 1n)]),
      map(narrowed(), [item(1n << 52n, 1n)]),
    ],
    empty: () => [map(guest(), []), map(guest(NO_WINDOW), []), map(narrowed(), [])],
    'direct-beyond-mask': () => [map(narrowed(), ONE), map(narrowed(), TWO)],
    'no-table': () => [map(guest(NO_WINDOW), ONE)],
    'no-entries': () => [map(crowded(), ONE), map(guest(), [item(0n, 0x4000_0000n)])],
    'set-failed': () => [map(refusing(0), ONE), map(refusing(1, -44), TWO)],
    'done-direct': () => [map(guest({}), TWO), map(guest({}), [item(0n, 0n)])],
    done: () => [
      map(guest(), ONE),
      map(guest(), TWO),
      map(guest(), [item(0x800n, 0x800n)], { buffer: 'buf' }),
    ],
  })

  it('neighbours on the bus become one segment as long as the device allows', () => {
    const pages = [item(0x400_0000n, 0x1000n), item(0x500_0000n, 0x1000n), item(0x600_0800n, 0x100n)]
    expect(map(guest(), pages).outputs).toEqual({
      count: 2n,
      segments: [item(0x1000n, 0x2000n), item(0x3800n, 0x100n), item(0n, 0n)],
    })
    const machine = guest()
    const large = Array.from({ length: 3 }, (_, i) => item(0x400_0000n + BigInt(i) * 0x20_0000n, 0x8000n))
    const segments = map(machine, large).outputs['segments']
    expect(segments).toEqual([item(0x1000n, 0x1_0000n), item(0x1_1000n, 0x8000n), item(0n, 0n)])
  })

  it('an empty element ends a segment', () => {
    const list = [item(0x400_0000n, 0x1000n), item(0n, 0n), item(0x400_1000n, 0x1000n)]
    expect(map(guest(), list).outputs).toEqual({
      count: 2n,
      segments: [item(0x1000n, 0x1000n), item(0x2000n, 0x1000n), item(0n, 0n)],
    })
  })

  it('a list of nothing is one segment of nothing', () => {
    const machine = guest()
    expect(map(machine, [item(0n, 0n), item(1n, 0n)]).outputs).toEqual({
      count: 1n,
      segments: [item(0n, 0n), item(0n, 0n)],
    })
    expect(machine.hypervisor.live().size).toBe(0)
  })

  it('records what the driver was granted, element by element, when the whole list is mapped', () => {
    const machine = guest()
    const at = machine.log.length
    map(machine, TWO, { dir: 'to-device' })
    const events = [...machine.log.records(at)].map((r) => r.event)
    expect(events.map((e) => e.kind).slice(-3)).toEqual(['dma.grant', 'dma.grant', 'call.return'])
    expect(events.filter((e) => e.kind === 'dma.grant')).toMatchObject([
      { first: 196_608, count: 16, gpa: 0x400_0000n, bytes: 0x1_0000, dir: 1, owner: 'nic', device: 'nic' },
      { first: 1, count: 2, gpa: 0x402_0000n, bytes: 0x2000, dir: 1, owner: 'nic', device: 'nic' },
    ])
  })
})

describe('dma_unmap_sg', () => {
  const withList = (given: GuestMachineOptions = TABLE) => {
    const machine = guest(given)
    map(machine, TWO)
    return machine
  }
  const unmap = (machine: GuestMachine, args: Record<string, Value> = { buffer: 'list' }) =>
    machine.call('dma_unmap_sg', { device: 'nic', ...args })

  testRules(DMA_UNMAP_SG, {
    'kernel-not-booted': () => [unmap(new GuestMachine(), { device: 'none' })],
    'device-unknown': () => [unmap(guest(), { device: 'none', buffer: 'none' })],
    'buffer-unknown': () => [unmap(guest()), unmap(guest(NO_WINDOW)), unmap(guest(), { buffer: 'buf' })],
    'no-table': () => [unmap(guest(NO_WINDOW), { segments: ONE }), unmap(guest(NO_WINDOW), { segments: [] })],
    'outside-table': () => [unmap(withList(), { segments: [item(0x4000_0000n, 1n)] })],
    'done-direct': () => [unmap(withList({})), unmap(withList({}), { segments: ONE })],
    done: () => [
      unmap(withList()),
      unmap(withList(), { segments: [] }),
      unmap(withList(), { segments: [item(1n << 60n, 0n)] }),
    ],
  })

  it('goes on after a segment outside the table, and stops at one of 0 bytes', () => {
    const machine = withList()
    const [first, second] = [item(0x3000_0000n, 0x1_0000n), item(0x1000n, 0x2000n)]
    unmap(machine, { segments: [item(0x4000_0000n, 1n), first, item(0n, 0n), second] })
    expect([...machine.hypervisor.live().keys()]).toEqual([0x1000n, 0x2000n])
  })
})
