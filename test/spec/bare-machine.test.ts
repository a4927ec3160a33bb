import { describe, expect, it } from 'vitest'
import type { GuestPhb } from '../../src/kernel/guest/guest-options.ts'
import { bootedGuest, GuestMachine, MASK_32, MASK_64 } from '../support/guest-machine.ts'

const MIB = 2 ** 20
const DEVICES = [
  { name: 'nic', devfn: 0 },
  { name: 'disk', devfn: 8 },
  { name: 'sound', devfn: 16 },
]

/** A machine without a hypervisor whose TCEs lie at 16 MiB; 4 MiB of them cover all 2 GiB of bus addresses. */
const machine = (bare: Partial<NonNullable<GuestPhb['bare']>> = {}, devices = DEVICES) =>
  bootedGuest({ devices, phb: { bare: { window: 1, gpa: 16 * MIB, bytes: 4 * MIB, ...bare } } })

const map = (guest: GuestMachine, device: string, gpa = 0x400_0000n, bytes = 0x1000n) =>
  guest.call('dma_map_page', { device, gpa, bytes })

const sets = (guest: GuestMachine, from = 0) =>
  [...guest.log.records(from)].map((r) => r.event).filter((e) => e.kind === 'tce.set')

describe('a guest without a hypervisor', () => {
  it('empties the area, then gives every child of the PHB an equal part of 2 GiB', () => {
    const guest = machine()
    expect(sets(guest).map((e) => [e.first, e.count, e.tce])).toEqual([
      [0, 524_288, 0n],
      [0, 131_072, 0n],
      [131_072, 131_072, 0n],
      [262_144, 131_072, 0n],
    ])
    expect(guest.device('disk').table).toMatchObject({ offset: 131_072, entries: 131_072, poolCount: 1 })
    expect(guest.hypervisor.calls).toEqual([])
  })

  it('beside an ISA bus 1.75 GiB are shared, behind a table of the bus itself', () => {
    const guest = machine({ hasIsa: true })
    expect(guest.kernel.tables.map((t) => [t.offset, t.entries])).toEqual([
      [0x8000, 0x8000],
      [0x1_0000, 0x2_0000],
      [0x3_0000, 0x2_0000],
      [0x5_0000, 0x2_0000],
    ])
  })

  it('writes its entries itself, at the place of their absolute number', () => {
    const guest = machine()
    const at = guest.log.length
    expect(map(guest, 'disk', 0x400_0000n, 0x2000n).outputs['handle']).toBe(0x2000_0000n)
    expect(guest.hypervisor.memory.get(16 * MIB + 131_072 * 8)).toBe(0x400_0003n)
    expect(guest.hypervisor.memory.get(16 * MIB + 131_073 * 8)).toBe(0x400_1003n)
    expect(sets(guest, at)).toMatchObject([
      { window: 1, first: 131_072, count: 2, tce: 0x400_0003n, step: 12 },
    ])
    const taken = [...guest.log.records(at)].map((r) => r.event).find((e) => e.kind === 'alloc.take')
    expect(taken).toMatchObject({ window: 1, first: 131_072, count: 2 })
    guest.call('dma_unmap_page', { device: 'disk', handle: 0x2000_0000n, bytes: 0x2000n })
    expect(guest.hypervisor.memory.has(16 * MIB + 131_073 * 8)).toBe(false)
    expect(sets(guest, at).at(-1)).toMatchObject({ first: 131_072, count: 2, tce: 0n, step: -1 })
  })

  it('a mask of 64 bits changes nothing: there are no other windows', () => {
    const guest = machine()
    expect(guest.call('probe', { device: 'nic', mask: MASK_64 }).rule).toBe('done-table')
    expect(guest.call('dma_set_mask', { device: 'sound', mask: MASK_32 >> 4n }).rule).toBe(
      'window-above-mask',
    )
  })

  it('an area that is too small: entries behind it are recorded as what they are, and nothing there is written', () => {
    const guest = machine({ bytes: MIB })
    const at = guest.log.length
    expect(map(guest, 'disk').rule).toBe('done')
    expect(sets(guest, at)).toMatchObject([{ window: 1, first: 131_072, count: 1, tce: 0x400_0003n }])
    expect([...guest.hypervisor.memory.keys()].every((gpa) => gpa >= 16 * MIB && gpa < 17 * MIB)).toBe(true)
  })

  it('a kdump kernel there is not modelled', () => {
    const phb = { bare: { window: 1, gpa: 16 * MIB, bytes: 4 * MIB } }
    const guest = new GuestMachine({ isKdump: true, phb })
    expect(guest.call('boot')).toMatchObject({ state: 'unmodelled' })
  })
})
