import { describe, expect, it } from 'vitest'
import { describeMachine } from '../../src/machine/description.ts'
import { Claims } from '../../src/machine/description-parts.ts'
import { type PowernvInput, pciAddress } from '../../src/machine/powernv/description.ts'
import { completeGuest, guestConflicts } from '../../src/machine/powernv/guest-description.ts'

const edu = (name: string, slot?: number) => ({ name, kind: 'edu' as const, slot })
type Phbs = NonNullable<PowernvInput['phbs']>
const describeHost = (phbs: Phbs, more: Partial<PowernvInput> = {}) =>
  describeMachine({ ...more, kind: 'powernv', phbs })

describe('the description of a POWER host', () => {
  it('is a POWER9 with one group where nothing is said', () => {
    expect(describeMachine({ kind: 'powernv' })).toEqual({
      kind: 'powernv',
      profile: 'linux-6.12.95',
      ramBytes: 0x1_0000_0000n,
      hostPageShift: 16,
      cpus: 1,
      hasEeh: true,
      tickMs: 1000,
      iotlbEntries: 2048,
      processes: [{ name: 'qemu', memlockBytes: 0xffff_ffff_ffff_ffffn, hasIpcLock: false }],
      phbs: [
        {
          name: 'phb0',
          platform: 'PHB4',
          domain: 0,
          freeze: 'pe',
          errorInterrupt: true,
          m32Base: 0x8000_0000,
          pes: [
            { pe: 1, group: 0, bus: 1, firstSegment: 0, segments: 0, hasKernelDriver: false, devices: [] },
          ],
        },
      ],
    })
  })

  it('counts groups through all PHBs, and PEs, buses and slots by their place', () => {
    const { phbs } = describeHost([{ pes: [{}, { devices: [edu('a'), edu('b')] }] }, { pes: [{}] }])
    expect(phbs.flatMap((p) => p.pes.map((pe) => [p.domain, pe.pe, pe.bus, pe.group]))).toEqual([
      [0, 1, 1, 0],
      [0, 2, 2, 1],
      [1, 1, 1, 2],
    ])
    const [phb] = phbs
    const pe = phb!.pes[1]!
    expect(pe.devices.map((d) => pciAddress(phb!, pe, d))).toEqual(['0000:02:00.0', '0000:02:01.0'])
  })

  it('gives PEs of P7IOC a segment each', () => {
    const { phbs } = describeHost([{ platform: 'P7IOC', pes: [{}, {}] }])
    expect(phbs[0]?.pes.map((p) => [p.firstSegment, p.segments])).toEqual([
      [0, 1],
      [1, 1],
    ])
  })

  it.each<[string, Phbs, string]>([
    ['two groups of one number', [{ pes: [{ group: 1 }, {}] }], 'group 1 is taken by PE 1 of phb0'],
    ['two PEs of one number', [{ pes: [{ pe: 2 }, {}] }], 'PE 2 of phb0 is taken by entry 1'],
    ['two PEs on one bus', [{ pes: [{ bus: 2 }, {}] }], 'bus 2 of phb0 is taken by PE 1'],
    ['two PHBs of one name', [{ name: 'phb1' }, {}], 'name phb1 is taken'],
    ['two PHBs of one domain', [{ domain: 1 }, {}], 'PCI domain 1 is taken by PHB phb0'],
    ['two devices of one name', [{ pes: [{ devices: [edu('a'), edu('a')] }] }], 'name a is taken'],
    [
      'two devices in one slot',
      [{ pes: [{ devices: [edu('a', 1), edu('b')] }] }],
      'PCI address 0000:01:01.0 is taken by device a',
    ],
    ['segments where there are none', [{ pes: [{ segments: 1 }] }], 'PHB4 has no segments'],
    ['no segments on a P7IOC', [{ platform: 'P7IOC', pes: [{ segments: 0 }] }], 'one segment or more'],
    [
      'tables of a P7IOC with pages too large for a segment',
      [{ platform: 'P7IOC', pageShifts: [21, 24] }],
      '64 KiB at most',
    ],
    ['too many segments', [{ platform: 'P7IOC', pes: [{ segments: 9 }] }], 'behind the 8 of a P7IOC'],
    [
      'segments that two PEs have',
      [{ platform: 'P7IOC', pes: [{ segments: 2 }, {}] }],
      'segment 1 of phb0 is taken by PE 1',
    ],
  ])('refuses %s', (_what, phbs, message) => {
    expect(() => describeHost(phbs)).toThrow(message)
  })

  it('refuses memory that ends in a page', () => {
    const ramBytes = (1n << 26n) + 4096n
    expect(() => describeHost([], { ramBytes })).toThrow('memory must be whole pages of 65536 bytes')
    expect(() => describeHost([], { ramBytes, hostPageShift: 12 })).not.toThrow()
  })

  it('refuses two processes of one name', () => {
    const processes = [{ name: 'a' }, { name: 'a' }]
    expect(() => describeHost([], { processes })).toThrow('process a is taken')
  })

  describe('with a guest', () => {
    const withGuest = (guest: NonNullable<PowernvInput['guest']>) =>
      describeHost([{ pes: [{}, {}] }], { guest })

    it('has one PHB with a window of 1 GiB and no device of the host, where nothing is said', () => {
      expect(withGuest({}).guest).toEqual({
        process: 'qemu',
        profile: 'qemu-7.2',
        hasKvm: true,
        hasMultiTce: true,
        ramBytes: 1n << 28n,
        ua: 0x7f00_0000_0000n,
        hugeShift: 0,
        phbs: [
          {
            name: 'pci0',
            index: 0,
            buid: 0x0800_0000_2000_0000n,
            pageShifts: [12, 16, 21, 24],
            ddw: true,
            windowBytes: 1n << 30n,
            groups: [],
            virtio: [],
          },
        ],
      })
    })

    it.each<[string, NonNullable<PowernvInput['guest']>, string]>([
      ['memory that ends in a page', { ramBytes: 0x1_8000n }, 'must be whole pages of 65536 bytes'],
      [
        'memory that ends in a huge page',
        { ramBytes: 1n << 22n, hugeShift: 24 },
        'whole pages of 16777216 bytes',
      ],
      ['memory that begins in a page', { ua: 0x1000n }, 'must begin at a multiple of 65536 bytes'],
      ['a process that is not there', { process: 'kvmtool' }, 'the host has no process kvmtool'],
      ['a group that is not there', { phbs: [{ groups: [2] }] }, 'the host has no group 2'],
      [
        'a group below two PHBs',
        { phbs: [{ groups: [1] }, { groups: [1] }] },
        'group 1 of the guest is taken by guest PHB pci0',
      ],
      ['a name that a PHB of the host has', { phbs: [{ name: 'phb0' }] }, 'name phb0 is taken by PHB phb0'],
      [
        'two PHBs of one index',
        { phbs: [{}, { index: 0, name: 'b' }] },
        'index 0 is taken by guest PHB pci0',
      ],
      ['two PHBs of one bus unit id', { phbs: [{ buid: 1n }, { buid: 1n }] }, 'buid 0x1 is taken'],
    ])('refuses %s', (_what, guest, message) => {
      expect(() => withGuest(guest)).toThrow(message)
    })

    it.each<[string, NonNullable<PowernvInput['guest']>, string[]]>([
      ['ram', { ramBytes: 0x1_8000n }, ['ram']],
      ['ua', { ua: 0x1_0000_0001n }, ['ua']],
      ['both', { ramBytes: 0x1_8000n, ua: 0x1_0000_0001n }, ['ram', 'ua']],
    ])('says which key is not whole pages: %s', (_what, guest, keys) => {
      const host = { pageShift: 16, processes: ['qemu'], groups: [], claims: new Claims() }
      const found = guestConflicts(completeGuest(guest, 'qemu'), host)
      expect(found.map(({ path }) => path)).toEqual(keys.map((key) => ['guest', key]))
    })
  })
})
