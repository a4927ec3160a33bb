import { describe, expect, it } from 'vitest'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { CATALOGUE } from '../../src/machine/registry.ts'
import { readScenario } from '../../src/machine/scenario/scenario.ts'
import { scenarioDocument } from '../../src/machine/scenario/scenario-document.ts'
import { type X86Input, x86Shape } from '../../src/machine/x86/description.ts'

const describeX86 = (more: Omit<X86Input, 'kind'> = {}) => describeMachine({ ...more, kind: 'x86' })

describe('the description of an x86 machine without a hypervisor', () => {
  it('is Skylake graphics with a kernel that does all right where nothing is said', () => {
    expect(describeX86()).toEqual({
      kind: 'x86',
      profile: 'intended',
      ramBytes: 256n << 20n,
      cpus: 4,
      tables: { gpa: 0xf00_0000n, bytes: 16n << 20n },
      iommu: { name: 'vtd0', preset: 'skylake-graphics', driver: 'extended' },
      devices: [],
      processes: [],
    })
  })

  it('tables take an eighth of little memory', () => {
    expect(describeX86({ ramBytes: 32n << 20n }).tables).toEqual({ gpa: 28n << 20n, bytes: 4n << 20n })
  })

  it.each<[X86Input['iommu'], cap: bigint, ecap: bigint, hostAddressBits: number]>([
    [{}, 0x1c0_000c_4066_0462n, 0x19e_2ff0_505en, 39],
    [{ preset: 'sapphire-rapids', ecap: 5n }, 0x19ed_008c_4078_0c66n, 5n, 52],
    [{ cap: 7n, hostAddressBits: 46 }, 7n, 0x19e_2ff0_505en, 46],
  ])('a unit with %o', (iommu, cap, ecap, hostAddressBits) => {
    expect(x86Shape(describeX86({ iommu }).iommu)).toMatchObject({ cap, ecap, hostAddressBits })
  })

  it.each<[Omit<X86Input, 'kind'>, message: string]>([
    [{ ramBytes: (256n << 20n) + 1n }, 'memory must end on a 4 KiB page'],
    [{ tables: { gpa: 0x8_0000n, bytes: 1n << 20n } }, 'tables must lie in memory, behind the first MiB'],
    [{ tables: { gpa: 0xfff_0000n, bytes: 1n << 20n } }, 'tables must lie in memory, behind the first MiB'],
    [{ tables: { gpa: 0x20_0800n, bytes: 1n << 20n } }, 'tables must start and end on a 4 KiB page'],
    [
      {
        devices: [
          { name: 'a', kind: 'edu', slot: 3 },
          { name: 'b', kind: 'edu', slot: 3 },
        ],
      },
      'place 0:3.0 is taken by device a',
    ],
    [{ devices: [{ name: 'vtd0', kind: 'edu' }] }, 'name vtd0 is taken by the IOMMU vtd0'],
    [
      { devices: [{ name: 'a', kind: 'edu', hasAts: true }] },
      'edu has no ATS, PRI or PASID: an endpoint has',
    ],
    [{ processes: [{ name: 'P' }, { name: 'P' }] }, 'process P is taken by process P'],
  ])('%o cannot be', (more, message) => {
    expect(() => describeX86(more)).toThrow(message)
  })

  it('a file says all of it, and the file of a file is the same', () => {
    const given = describeX86({
      ramBytes: 64n << 20n,
      cpus: 2,
      tables: { gpa: 0x200_0000n, bytes: 1n << 20n },
      iommu: { name: 'u', preset: 'skylake', cap: 0xd2_008c_4066_0462n, hostAddressBits: 46, driver: 'none' },
      devices: [{ name: 'a', kind: 'endpoint', bus: 3, slot: 2, pasidBits: 8, tlbEntries: 4 }],
      processes: [{ name: 'P' }, { name: 'Q' }],
    })
    const scenario = {
      version: 1,
      title: 't',
      machine: given,
      steps: [],
      findings: [],
      settled: false,
    } as const
    const read = readScenario(scenarioDocument(scenario), CATALOGUE)
    expect(read.issues).toEqual([])
    expect(read.value?.machine).toEqual(given)
  })

  it('memory is that of the bus, and ends where it is said to', () => {
    const machine = createMachine(describeX86({ ramBytes: 16n << 20n, iommu: { driver: 'none' } }))
    const write = (address: bigint) =>
      machine.perform({ verb: 'mem', call: 'write', args: { address, data: 'text' } }).rule
    expect([write(0x1000n), write((16n << 20n) - 4n), write(16n << 20n)]).toEqual([
      'done',
      'done',
      'no-memory',
    ])
  })
})
