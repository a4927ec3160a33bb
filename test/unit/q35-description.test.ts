import { describe, expect, it } from 'vitest'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { type Q35Input, ramSlots, sourceOf } from '../../src/machine/q35/description.ts'
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
      iommu: { name: 'vtd0', awBits: 39, cachingMode: false, deviceIotlb: false, snoopControl: false },
      virtio: [{ name: 'net0', kind: 'net', bus: 1, slot: 0, function: 0, hasAts: false }],
    })
  })

  it('gives each device a bus of its own', () => {
    const { virtio } = describeQ35({ virtio: [{ name: 'a' }, { name: 'b', slot: 3, function: 1 }] })
    expect(virtio.map(sourceOf)).toEqual([0x100, 0x219])
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

  it.each([
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
