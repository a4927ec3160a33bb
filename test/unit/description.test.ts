import { describe, expect, it } from 'vitest'
import { describeMachine, type MachineInput } from '../../src/machine/description.ts'
import { ramEnd } from '../../src/machine/pseries/description.ts'

const edu = (name: string, slot?: number) => ({ name, kind: 'edu' as const, slot })

describe('a machine description', () => {
  it('is QEMU 7.2 pseries where nothing is said', () => {
    expect(describeMachine()).toEqual({
      kind: 'pseries',
      profile: 'qemu-7.2+linux-6.1',
      ram: [{ gpa: 0n, bytes: 0x4000_0000n, owner: 'guest' }],
      maxRamBytes: 0x4000_0000n,
      hasPmemory: false,
      pageShift: 16,
      hostPageShift: 16,
      cpus: 1,
      hypertas: ['hcall-multi-tce'],
      bootOptions: [],
      phbs: [
        {
          name: 'pci0',
          index: 0,
          buid: 0x0800_0000_2000_0000n,
          pageShifts: [12, 16, 21, 24],
          ddw: true,
          maxWindowEntries: 2 ** 31,
          listener: 'none',
          devices: [],
          virtio: [],
        },
      ],
      vio: [],
    })
  })

  it('numbers PHBs and slots by their place, names and bus unit ids by the index', () => {
    const { phbs } = describeMachine({
      phbs: [{ devices: [edu('a'), edu('b')] }, { index: 7 }, { name: 'last', pageShifts: [24, 12, 24] }],
    })
    expect(phbs.map((p) => [p.name, p.index, p.buid])).toEqual([
      ['pci0', 0, 0x800000020000000n],
      ['pci7', 7, 0x800000020000007n],
      ['last', 2, 0x800000020000002n],
    ])
    expect(phbs[0]?.devices.map((d) => [d.slot, d.function, d.dmaMask])).toEqual([
      [0, 0, 0x0fff_ffffn],
      [1, 0, 0x0fff_ffffn],
    ])
    expect(phbs[2]?.pageShifts).toEqual([12, 24])
  })

  it('ends its memory where the last range ends', () => {
    const ram = [
      { gpa: 1n << 32n, bytes: 1n << 20n, owner: 'guest' },
      { gpa: 0n, bytes: 1n << 30n, owner: 'guest' },
    ]
    expect(ramEnd(ram)).toBe((1n << 32n) + (1n << 20n))
    expect(describeMachine({ ram }).maxRamBytes).toBe((1n << 32n) + (1n << 20n))
  })

  const GIB = 1n << 30n
  const AREA = { gpa: 0x1000n, bytes: 0x2000n }
  const range = (gpa: bigint, bytes: bigint) => ({ gpa, bytes, owner: 'guest' })
  it.each<[string, MachineInput, string]>([
    ['two devices of one name', { phbs: [{ devices: [edu('a'), edu('a')] }] }, 'name a is taken by device a'],
    [
      'a device and a PHB of one name',
      { phbs: [{ devices: [edu('pci0')] }] },
      'name pci0 is taken by PHB pci0',
    ],
    ['two devices in one slot', { phbs: [{ devices: [edu('a', 1), edu('b')] }] }, 'slot 1.0 of pci0'],
    ['two PHBs of one index', { phbs: [{}, { index: 0, name: 'x' }] }, 'PHB index 0 is taken by PHB pci0'],
    ['two PHBs of one bus unit id', { phbs: [{ buid: 5n }, { buid: 5n }] }, 'buid 0x5 is taken by PHB pci0'],
    [
      'two VIO devices of one reg',
      {
        vio: [
          { name: 'a', reg: 9 },
          { name: 'b', reg: 9 },
        ],
      },
      'reg 0x9 is taken by VIO device a',
    ],
    ['memory twice', { ram: [range(0n, GIB), range(GIB - 0x10000n, GIB)] }, 'overlaps entry 1'],
    ['half a page of memory', { ram: 0x18000n }, '65536-byte page'],
    ['TCEs without a hypervisor beside dynamic windows', { phbs: [{ bare: AREA, ddw: true }] }, '(ddw)'],
    ['TCEs outside memory', { ram: GIB, phbs: [{ bare: { ...AREA, gpa: GIB } }] }, 'must lie in memory'],
    ['half a page of TCEs', { phbs: [{ bare: { ...AREA, bytes: 0x800n } }] }, '4096-byte boundary'],
    ['memory past what can be plugged in', { ram: GIB, maxRamBytes: GIB - 1n }, 'ends before'],
  ])('refuses %s', (_what, input, message) => {
    expect(() => describeMachine(input)).toThrow(message)
  })

  it('takes what comes near', () => {
    const near: MachineInput[] = [
      { phbs: [{ devices: [edu('a', 1)] }, { devices: [edu('b', 1)] }] },
      { phbs: [{ devices: [edu('a', 1), { ...edu('b', 1), function: 1 }] }] },
      { ram: [range(GIB, GIB), range(0n, GIB)] },
      { ram: 0x18000n, pageShift: 12 },
      { ram: GIB, phbs: [{ bare: { gpa: GIB - 0x1000n, bytes: 0x1000n } }] },
    ]
    for (const input of near) expect(() => describeMachine(input)).not.toThrow()
  })
})
