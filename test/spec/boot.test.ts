import { describe, expect, it } from 'vitest'
import { BOOT } from '../../src/kernel/guest/calls.ts'
import { PROP, type Properties } from '../../src/kernel/guest/device-tree.ts'
import { bootedGuest, DEFAULT_LIOBN, GuestMachine, MASK_64, QEMU_PHB } from '../support/guest-machine.ts'
import { testRules } from '../support/rule-table.ts'

const LIOBN = BigInt(DEFAULT_LIOBN)

describe('boot', () => {
  testRules(BOOT, {
    'already-booted': () => [bootedGuest().call('boot')],
    done: () => [
      new GuestMachine().call('boot'),
      new GuestMachine({ defaultBytes: 0n, properties: {} }).call('boot'),
    ],
  })

  it('makes one table for the window of a PHB, and clears the window 512 entries at a time', () => {
    const guest = new GuestMachine()
    expect(guest.call('boot').outputs).toEqual({ tables: 1n })
    const stuffed = guest.hypervisor.seen('H_STUFF_TCE')
    expect(stuffed).toHaveLength(512)
    expect(stuffed[0]).toEqual([LIOBN, 0n, 0n, 512n])
    expect(stuffed[511]).toEqual([LIOBN, 511n << 21n, 0n, 512n])
  })

  it('a device whose node has a window of its own gets a table of its own', () => {
    const own = {
      name: 'nic',
      properties: { [PROP.DMA_WINDOW]: [0x8000_0100, 0, 0x1000_0000, 0, 0x1000_0000] },
    }
    const guest = new GuestMachine({
      devices: [
        { name: 'nic', devfn: 0, node: own },
        { name: 'disk', devfn: 8 },
      ],
    })
    expect(guest.call('boot').outputs).toEqual({ tables: 2n })
    expect(guest.device('nic').table).toMatchObject({
      liobn: 0x8000_0100,
      offset: 0x1_0000,
      entries: 0x1_0000,
    })
    expect(guest.device('disk').table?.liobn).toBe(DEFAULT_LIOBN)
  })

  it('cells of the default window are counted as the node says, or the nodes above it', () => {
    const own = (properties: Properties) => ({
      devices: [{ name: 'nic', devfn: 0, node: { name: 'nic', properties } }],
    })
    const three = [0x8000_0100, 0, 0, 0x2000_0000, 0, 0x1000_0000]
    const table = (properties: Properties, phb: Properties = QEMU_PHB) =>
      bootedGuest({ properties: phb, ...own(properties) }).device('nic').table
    const expected = { liobn: 0x8000_0100, offset: 0x2_0000, entries: 0x1_0000 }
    expect(table({ [PROP.DMA_WINDOW]: three, '#address-cells': [3] })).toMatchObject(expected)
    expect(table({ [PROP.DMA_WINDOW]: three }, { ...QEMU_PHB, '#address-cells': [3] })).toMatchObject(
      expected,
    )
    const one = [0x8000_0100, 0, 0x2000_0000, 0x1000_0000]
    expect(table({ [PROP.DMA_WINDOW]: one }, { ...QEMU_PHB, '#size-cells': [1] })).toMatchObject(expected)
    const two = [0x8000_0100, 0, 0x2000_0000, 0, 0x1000_0000]
    const says = { '#address-cells': [3], [PROP.DMA_ADDRESS_CELLS]: [2] }
    expect(table({ [PROP.DMA_WINDOW]: two, ...says })).toMatchObject(expected)
  })

  it('a window that is no power of two counts up to the next one', () => {
    const properties = { ...QEMU_PHB, [PROP.DMA_WINDOW]: [DEFAULT_LIOBN, 0, 0, 0, 0x3000_0000] }
    expect(bootedGuest({ properties }).device('nic').table?.entries).toBe(262_144)
  })

  it('without multi-TCE every entry is cleared by a call of its own', () => {
    const guest = bootedGuest({
      properties: { ...QEMU_PHB, [PROP.DMA_WINDOW]: [DEFAULT_LIOBN, 0, 0, 0, 0x10_0000] },
      bootOptions: ['multitce=off'],
    })
    expect(guest.hypervisor.calls.map((c) => c.call)).toEqual(new Array(256).fill('H_PUT_TCE'))
  })

  it('the kernel owns the first 32 MiB, the guest the rest', () => {
    const guest = bootedGuest()
    const owned = [...guest.log.records()].map((r) => r.event).filter((e) => e.kind === 'page.own')
    expect(owned.map((e) => [e.owner, e.first, e.count])).toEqual([
      ['kernel', 0, 512],
      ['guest', 512, 16_384 - 512],
    ])
  })
})

describe('boot of a kdump kernel', () => {
  const crashed = (live: readonly (readonly [entry: bigint, tce: bigint])[]) => {
    const guest = new GuestMachine({ isKdump: true })
    for (const [entry, tce] of live) guest.hypervisor.windows.get(DEFAULT_LIOBN)?.tces.set(entry, tce)
    return guest
  }

  it('keeps entries that the crashed kernel left, whatever their permissions, and clears nothing', () => {
    const guest = crashed([
      [5n, 0x5003n],
      [6n, 0x6003n],
      [9n, 0x1000n],
      [10n, 0x7fff_ffff_ffff_ffffn],
    ])
    guest.call('boot')
    const table = guest.device('nic').table
    expect([5, 6, 9, 10].map((slot) => table?.isUsed(slot))).toEqual([true, true, true, false])
    expect(guest.hypervisor.seen('H_STUFF_TCE')).toEqual([])
    expect(table?.isInUse).toBe(true)
  })

  it('makes room for 2048 entries at the end of a full table', () => {
    const guest = crashed(Array.from({ length: 262_144 }, (_, i) => [BigInt(i), 0x3n] as const))
    expect(guest.call('boot').warnings).toHaveLength(1)
    expect(guest.device('nic').table?.usedCount).toBe(262_144 - 2048)
  })

  it('takes an entry that it cannot read for a live one: the register still holds the LIOBN', () => {
    const guest = crashed([])
    guest.hypervisor.refuse = (call, ioba) => (call === 'H_GET_TCE' && ioba === 0x5000n ? -4 : undefined)
    expect(guest.call('boot').warnings).toEqual(['H_GET_TCE answered H_PARAMETER'])
    const table = guest.device('nic').table
    expect([4, 5, 6].map((slot) => table?.isUsed(slot))).toEqual([false, true, false])
  })

  it('takes a window of the crashed kernel for the table where the default one is gone', () => {
    const ddw = [0x8000_0001, 0, 0x0800_0000, 0, 24, 30]
    const { [PROP.DMA_WINDOW]: _gone, ...properties } = QEMU_PHB
    const guest = new GuestMachine({
      isKdump: true,
      defaultBytes: 0n,
      properties: { ...properties, [PROP.DMA64]: ddw },
    })
    guest.hypervisor.open(0x8000_0001, 24, 1n << 59n, 1n << 30n)
    guest.call('boot')
    expect(guest.device('nic').table).toMatchObject({ liobn: 0x8000_0001, entries: 64, pageShift: 24 })
    expect(guest.kernel.ddw.windows).toMatchObject([{ isDirect: false, property: { liobn: 0x8000_0001 } }])
  })

  describe('the default window comes first where both are there', () => {
    const both = (profile: string) => {
      const ddw = [0x8000_0001, 0, 0x0800_0000, 0, 24, 30]
      const properties = { ...QEMU_PHB, [PROP.DIRECT64]: ddw }
      const guest = new GuestMachine({ isKdump: true, properties, profile })
      guest.hypervisor.open(0x8000_0001, 24, 1n << 59n, 1n << 30n)
      guest.call('boot')
      return guest
    }

    it.each([
      ['intended', 'done-table'],
      ['ddw-known-direct', 'done-direct'],
    ])('%s: the other one stays known, and nothing is asked of firmware: %s', (profile, rule) => {
      const guest = both(profile)
      expect(guest.device('nic').table?.liobn).toBe(DEFAULT_LIOBN)
      expect(guest.call('probe', { device: 'nic', mask: MASK_64 })).toMatchObject({ rule })
      expect(guest.hypervisor.calls.filter((c) => c.call.startsWith('rtas'))).toEqual([])
    })

    it('it does not follow memory, whoever filled it', () => {
      const guest = both('intended')
      const { length } = guest.hypervisor.calls
      guest.call('memory_offline', { gpa: 0x3000_0000n, bytes: 0x1000_0000n })
      expect(guest.hypervisor.calls).toHaveLength(length)
    })
  })

  it('a property of 20 bytes is thrown away', () => {
    const guest = bootedGuest({ properties: { ...QEMU_PHB, [PROP.DIRECT64]: [1, 0, 0, 24, 30] } })
    expect(guest.kernel.node('pci0')?.cells(PROP.DIRECT64)).toBeUndefined()
    expect(guest.kernel.ddw.windows).toEqual([])
  })
})
