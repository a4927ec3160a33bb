import type { Erratum } from '../../bits/errata.ts'
import { type Q35Input, VTD_DRIVERS } from '../q35/description.ts'
import {
  bytes,
  choice,
  count,
  flag,
  type Infer,
  list,
  map,
  optional,
  required,
  word,
} from '../schema/schema.ts'
import { nameText } from './call-schema.ts'
import { PROFILE_DOC, profileSchema, RAM_MOST } from './machine-schema-parts.ts'
import { busDevice, busDeviceInput, PRESET_NAMES, tableArea } from './vtd-schema-parts.ts'

const iommu = map('iommu', {
  name: optional(nameText('name'), 'How steps and reports call the unit; vtd0 if left out.'),
  preset: optional(
    choice('unit', PRESET_NAMES),
    'A unit that is known, in place of the four options of QEMU that follow.',
  ),
  awBits: optional(choice('awBits', [39, 48]), 'Width of bus addresses (aw-bits): 39 or 48.'),
  cachingMode: optional(flag('cachingMode'), 'caching-mode: what is not present may be cached too.'),
  deviceIotlb: optional(flag('deviceIotlb'), 'device-iotlb: the guest may use ATS.'),
  snoopControl: optional(flag('snoopControl'), 'snoop-control: with it QEMU takes no vhost.'),
  cap: optional(word('cap'), 'What CAP says, whatever the unit is.'),
  ecap: optional(word('ecap'), 'What ECAP says, whatever the unit is.'),
  hostAddressBits: optional(count('hostAddressBits', 32, 52), 'Width of the addresses in its tables (HAW).'),
  driver: optional(
    choice('driver', VTD_DRIVERS),
    'Who drives the unit: none (only steps do), or Linux in legacy or scalable mode; legacy if left out.',
  ),
})

const device = map('a virtio device', {
  name: required(nameText('name'), 'How steps and reports call it.'),
  kind: optional(choice('kind of virtio device', ['net']), 'What it is to the guest: net.'),
  bus: optional(count('bus', 0, 255), 'PCI bus; 0 is the root complex, others are behind root ports.'),
  slot: optional(count('slot', 0, 31), 'PCI device number; 0 if left out.'),
  function: optional(count('function', 0, 7), 'PCI function number; 0 if left out.'),
  ats: optional(flag('ats'), 'Whether it has the ATS capability; not so if left out.'),
})

/** An x86 guest with a VT-d unit of a scenario file; everything but the kind has a default. */
export const q35Schema = (errata: readonly Erratum[]) =>
  map(
    'the machine',
    {
      kind: required(choice('kind of machine', ['q35']), 'An x86 guest below QEMU, with one VT-d unit.'),
      profile: optional(profileSchema(errata), PROFILE_DOC),
      ram: optional(bytes('ram', { min: 1n << 22n, max: RAM_MOST }), 'Guest memory.'),
      cpus: optional(count('cpus', 1, 2048), 'Virtual CPUs.'),
      tables: optional(tableArea, 'Guest memory that the driver has for tables; the end of it if left out.'),
      iotlbEntries: optional(
        count('iotlbEntries', 1, 1 << 20),
        'Maps that an IOTLB of vhost keeps (max_iotlb_entries); 2048 if left out.',
      ),
      iommu: optional(iommu, 'The VT-d unit.'),
      virtio: optional(
        list('virtio', device, { maxItems: 32 }),
        'Virtio devices with vhost, behind the vIOMMU; net0 on bus 1 if left out, with devices none.',
      ),
      devices: optional(
        list('devices', busDevice, { maxItems: 64 }),
        'Devices with a DMA engine of their own, behind the unit.',
      ),
    },
    {
      phbs: 'PHBs belong to kinds pseries and powernv: devices of a q35 stand below virtio and devices',
      processes: 'a machine of kind q35 has the process qemu only; processes belong to kind powernv',
    },
  )

type Q35Document = Infer<ReturnType<typeof q35Schema>>

/** The description that a checked document stands for. */
export const q35Input = ({ ram, virtio, devices, ...rest }: Q35Document): Q35Input => ({
  ...rest,
  ramBytes: ram,
  virtio: virtio?.map(({ ats, ...d }) => ({ ...d, hasAts: ats })),
  devices: devices?.map(busDeviceInput),
})
