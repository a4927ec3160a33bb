import type { Erratum } from '../../bits/errata.ts'
import { bytes, choice, count, type Infer, list, map, optional, required, word } from '../schema/schema.ts'
import { X86_DRIVERS, type X86Input } from '../x86/description.ts'
import { nameText } from './call-schema.ts'
import { PROFILE_DOC, profileSchema, RAM_MOST } from './machine-schema-parts.ts'
import { busDevice, busDeviceInput, PRESET_NAMES, tableArea } from './vtd-schema-parts.ts'

const iommu = map('iommu', {
  name: optional(nameText('name'), 'How steps and reports call the unit; vtd0 if left out.'),
  preset: optional(choice('unit', PRESET_NAMES), 'A unit that is known; skylake-graphics if left out.'),
  cap: optional(word('cap'), 'What CAP says, whatever the unit is.'),
  ecap: optional(word('ecap'), 'What ECAP says, whatever the unit is.'),
  hostAddressBits: optional(count('hostAddressBits', 32, 52), 'Width of the addresses in its tables (HAW).'),
  driver: optional(
    choice('driver', X86_DRIVERS),
    'Who drives the unit: none (only steps do), or Linux in legacy, extended (4.x) or scalable mode; extended if left out.',
  ),
})

const process = map('a process', {
  name: required(nameText('name'), 'How steps and reports call it.'),
})

/** An x86 machine without a hypervisor of a scenario file; everything but the kind has a default. */
export const x86Schema = (errata: readonly Erratum[]) =>
  map(
    'the machine',
    {
      kind: required(
        choice('kind of machine', ['x86']),
        'An x86 machine without a hypervisor: Linux, its processes, and one VT-d unit.',
      ),
      profile: optional(profileSchema(errata), PROFILE_DOC),
      ram: optional(bytes('ram', { min: 1n << 24n, max: RAM_MOST }), 'Memory.'),
      cpus: optional(count('cpus', 1, 2048), 'CPUs.'),
      tables: optional(tableArea, 'Memory that the driver has for tables; the end of it if left out.'),
      iommu: optional(iommu, 'The VT-d unit.'),
      devices: optional(list('devices', busDevice, { maxItems: 64 }), 'Devices behind the unit.'),
      processes: optional(
        list('processes', process, { maxItems: 64 }),
        'Processes that are there before the first step, each with an empty address space.',
      ),
    },
    {
      phbs: 'PHBs belong to kinds pseries and powernv: devices of an x86 machine stand below devices',
      virtio: 'virtio devices belong to kind q35',
    },
  )

type X86Document = Infer<ReturnType<typeof x86Schema>>

/** The description that a checked document stands for. */
export const x86Input = ({ ram, devices, ...rest }: X86Document): X86Input => ({
  ...rest,
  ramBytes: ram,
  devices: devices?.map(busDeviceInput),
})
