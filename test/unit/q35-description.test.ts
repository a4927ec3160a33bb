import { describe, expect, it } from 'vitest'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { type Q35Input, ramSlots, sourceOf, vtdShapeOf } from '../../src/machine/q35/description.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { readScenario } from '../../src/machine/scenario/scenario.ts'
import { scenarioDocument } from '../../src/machine/scenario/scenario-document.ts'
import { eventsOfLog } from '../support/events.ts'

const describeQ35 = (more: Omit<Q35Input, 'kind'> = {}) => describeMachine({ ...more, kind: 'q35' })

describe('the description of an x86 guest', () => {
  it('is QEMU 7.2 with one network device behind a root port where nothing is said', () => {
    expect(describeQ35()).toEqual({
      kind: 'q35',
      profile: 'qemu-7.2.22+linux-6.1',
      ramBytes: 1n << 30n,
      cpus: 1,
      tables: { gpa: 0x3f00_0000n, bytes: 16n << 20n },
      iotlbEntries: 2048,
      iommu: {
        ...{ name: 'vtd0', awBits: 39, cachingMode: false, deviceIotlb: false, snoopControl: false },
        driver: 'legacy',
      },
      virtio: [{ name: 'net0', kind: 'net', bus: 1, slot: 0, function: 0, hasAts: false }],
      devices: [],
    })
  })

  it('gives each device a bus of its own', () => {
    const { virtio } = describeQ35({ virtio: [{ name: 'a' }, { name: 'b', slot: 3, function: 1 }] })
    expect(virtio.map(sourceOf)).toEqual([0x100, 0x219])
  })

  it('has devices of its own where they are said, and no network device then', () => {
    const { virtio, devices } = describeQ35({
      devices: [
        { name: 'a', kind: 'edu' },
        { name: 'b', kind: 'endpoint', bus: 3, slot: 0 },
        { name: 'c', kind: 'edu' },
      ],
    })
    expect([virtio, devices.map(sourceOf)]).toEqual([[], [0x18, 0x300, 0x28]])
    expect(devices[0]).toMatchObject({ hasAts: false, pageRequests: 0, pasidBits: 0, canExecute: false })
    expect(devices[1]).toMatchObject({ hasAts: true, pageRequests: 32, pasidBits: 20, canBePrivileged: true })
  })

  it.each<[Q35Input['iommu'], version: number, cap: bigint, ecap: bigint, hostAddressBits: number]>([
    [{}, 0x10, 0x00d2_008c_2226_0206n, 0xf0_0f4an, 39],
    [{ cachingMode: true }, 0x10, 0x00d2_008c_2226_0286n, 0xf0_0f4an, 39],
    [{ awBits: 48 }, 0x10, 0x00d2_008c_222f_0606n, 0xf0_0f4an, 48],
    [{ awBits: 48, cachingMode: true }, 0x10, 0x00d2_008c_222f_0686n, 0xf0_0f4an, 48],
    [{ deviceIotlb: true }, 0x10, 0x00d2_008c_2226_0206n, 0xf0_0f4en, 39],
    [{ snoopControl: true }, 0x10, 0x00d2_008c_2226_0206n, 0xf0_0fcan, 39],
    [{ preset: 'sapphire-rapids' }, 0x60, 0x19ed_008c_4078_0c66n, 0x3_ee9e_86f0_50dfn, 52],
    [{ preset: 'qemu', cap: 5n, ecap: 7n, hostAddressBits: 40 }, 0x10, 5n, 7n, 40],
    [{ cachingMode: true, cap: 5n }, 0x10, 5n, 0xf0_0f4an, 39],
  ])('a unit with %o', (iommu, version, cap, ecap, hostAddressBits) => {
    expect(vtdShapeOf(describeQ35({ iommu }).iommu)).toEqual({ version, cap, ecap, hostAddressBits })
  })

  it.each([
    [1n << 26n, [1n << 26n]],
    [0xafff_f000n, [0xafff_f000n]],
    [0xb000_0000n, [0x8000_0000n, 0x3000_0000n]],
  ])('%s bytes of memory', (ramBytes, [low = 0n, high]) => {
    expect(ramSlots(ramBytes)).toEqual([
      { gpa: 0n, bytes: low, offset: 0n },
      ...(high === undefined ? [] : [{ gpa: 1n << 32n, bytes: high, offset: 0x8000_0000n }]),
    ])
  })

  it('its memory is there, and its device', () => {
    const { log } = createMachine(describeQ35({ ramBytes: 1n << 32n }))
    expect(eventsOfLog(log, 'memory.slot')).toMatchObject([
      { gpa: 0n, bytes: 0x8000_0000n, ua: 0x7f00_0000_0000n, owner: 'qemu', present: 1 },
      { gpa: 1n << 32n, bytes: 0x8000_0000n, ua: 0x7f00_8000_0000n },
    ])
    expect(eventsOfLog(log, 'device.add')).toMatchObject([
      { device: 'net0', unit: 'vtd0' },
      { device: 'vhost-net0', unit: 'vtd0' },
    ])
  })

  it.each<[string, Omit<Q35Input, 'kind'>, string]>([
    [
      'memory that ends inside of a page',
      { ramBytes: (1n << 26n) + 512n },
      'memory must end on a 4 KiB page',
    ],
    [
      'tables outside of memory',
      { tables: { gpa: 0x4000_0000n, bytes: 0x1_0000n } },
      'tables must lie in one range of guest memory',
    ],
    [
      'tables that end in the hole below 4 GiB',
      { ramBytes: 1n << 33n, tables: { gpa: 0x7fff_0000n, bytes: 0x2_0000n } },
      'tables must lie in one range of guest memory',
    ],
    [
      'tables inside of pages',
      { tables: { gpa: 0x20_0800n, bytes: 0x1_0000n } },
      'tables must start and end on a 4 KiB page',
    ],
    ['two devices of one name', { virtio: [{ name: 'a' }, { name: 'a' }] }, 'name a is taken by device a'],
    ['a device called as the unit', { virtio: [{ name: 'vtd0' }] }, 'name vtd0 is taken by the IOMMU vtd0'],
    [
      'two devices in one place',
      {
        virtio: [
          { name: 'a', bus: 2 },
          { name: 'b', bus: 2 },
        ],
      },
      'place 2:0.0 is taken by device a',
    ],
    [
      'a device of its own in a taken place',
      { virtio: [{ name: 'a', bus: 2 }], devices: [{ name: 'b', kind: 'edu', bus: 2, slot: 0 }] },
      'place 2:0.0 is taken by device a',
    ],
    [
      'a device of its own with a taken name',
      { devices: [{ name: 'vtd0', kind: 'edu' }] },
      'name vtd0 is taken by the IOMMU vtd0',
    ],
    ...[{ hasAts: true }, { pageRequests: 1 }, { pasidBits: 1 }, { canExecute: true }, { tlbEntries: 4 }].map(
      (more): [string, Omit<Q35Input, 'kind'>, string] => [
        `edu with ${Object.keys(more)}`,
        { devices: [{ name: 'e', kind: 'edu', ...more }] },
        'edu has no ATS, PRI or PASID: an endpoint has',
      ],
    ),
    ...[{ awBits: 48 as const }, { cachingMode: true }, { deviceIotlb: true }, { snoopControl: true }].map(
      (more): [string, Omit<Q35Input, 'kind'>, string] => [
        `a known unit with ${Object.keys(more)}`,
        { iommu: { preset: 'skylake', ...more } },
        'a unit is either a known one or QEMU`s with its options',
      ],
    ),
    [
      'ATS on the root bus',
      { virtio: [{ name: 'a', bus: 0, hasAts: true }] },
      'ATS takes a PCI Express endpoint, which a device on bus 0 is not',
    ],
  ])('refuses %s', (_what, more, message) => {
    expect(() => describeQ35(more)).toThrow(message)
  })
})

const read = (machine: unknown) =>
  readScenario(
    { version: 1, title: 'x', machine, steps: [{ iommu: 'attach', args: { device: 'net0', domain: 5 } }] },
    CATALOGUE,
  )

describe('an x86 guest in a scenario', () => {
  it('is read and written', () => {
    const machine = {
      kind: 'q35',
      profile: 'qemu-7.2.4',
      ram: '512 MiB',
      cpus: 2,
      tables: { gpa: 0x100_0000n, bytes: '1 MiB' },
      iotlbEntries: 16,
      iommu: { awBits: 48, cachingMode: true, deviceIotlb: true },
      virtio: [{ name: 'eth', bus: 3, slot: 2, function: 1, ats: true }],
    }
    const { value } = read(machine)
    expect(value?.machine).toMatchObject({ ramBytes: 1n << 29n, iommu: { awBits: 48, snoopControl: false } })
    expect(scenarioDocument(value!)).toMatchObject({ machine })
  })

  it('with a known unit and devices of its own is read and written', () => {
    const machine = {
      kind: 'q35',
      profile: 'intended',
      ram: '64 MiB',
      iommu: {
        preset: 'every-feature',
        cap: 0x19ed078c40780c66n,
        ecap: 5,
        hostAddressBits: 46,
        driver: 'none',
      },
      virtio: [],
      devices: [
        { name: 'edu0', kind: 'edu', slot: 3, dmaMask: 0xffff_ffff },
        {
          ...{ name: 'ep0', kind: 'endpoint', bus: 3, slot: 2, ats: false, tlbEntries: 4 },
          ...{ pageRequests: 0, pasidBits: 8, execute: false, privileged: false },
        },
        { name: 'ep1', kind: 'endpoint', slot: 5, function: 1 },
      ],
    }
    const { value, issues } = read(machine)
    expect(issues).toEqual([])
    expect(value?.machine).toMatchObject({ iommu: { ecap: 5n, driver: 'none' } })
    const document = scenarioDocument(value!)
    expect(read(document['machine']).value?.machine).toEqual(value?.machine)
    expect(document).toMatchObject({
      machine: { devices: [{ name: 'edu0' }, machine.devices[1], machine.devices[2]] },
    })
  })

  it.each([
    [{ kind: 'q35', iommu: { driver: 'windows' } }, 'machine.iommu.driver'],
    [{ kind: 'q35', iommu: { preset: 'power9' } }, 'machine.iommu.preset'],
    [{ kind: 'q35', iommu: { cap: -1 } }, 'machine.iommu.cap'],
    [{ kind: 'q35', devices: [{ name: 'a' }] }, 'machine.devices.0'],
    [{ kind: 'q35', devices: [{ name: 'a', kind: 'net' }] }, 'machine.devices.0.kind'],
    [{ kind: 'q35', devices: [{ name: 'a', kind: 'edu', ats: true }] }, 'machine.devices.0.kind'],
    [
      { kind: 'q35', devices: [{ name: 'a', kind: 'endpoint', pasidBits: 21 }] },
      'machine.devices.0.pasidBits',
    ],
    [{ kind: 'q35', iommu: { awBits: 52 } }, 'machine.iommu.awBits'],
    [{ kind: 'q35', iommu: { ats: true } }, 'machine.iommu.ats'],
    [{ kind: 'q35', phbs: [] }, 'machine.phbs'],
    [{ kind: 'q35', virtio: [{ name: 'a', kind: 'blk' }] }, 'machine.virtio.0.kind'],
    [{ kind: 'q35', virtio: [{ bus: 1 }] }, 'machine.virtio.0'],
    [{ kind: 'q35', ram: '1 MiB' }, 'machine.ram'],
    [{ kind: 'q35', virtio: [{ name: 'a', bus: 0, ats: true }] }, 'machine.virtio.0.ats'],
  ])('%o is wrong at %s', (machine, path) => {
    const { value, issues } = read(machine)
    expect(value).toBeUndefined()
    expect(issues.map((i) => i.path.join('.'))).toContain(path)
  })
})
