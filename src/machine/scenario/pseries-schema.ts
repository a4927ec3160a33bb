import type { Erratum } from '../../bits/errata.ts'
import { floorLog2 } from '../../bits/u64.ts'
import {
  BOOT_OPTIONS,
  HYPERTAS_FUNCTIONS,
  LISTENERS,
  PSERIES_DEFAULTS,
  type PseriesInput,
} from '../pseries/description.ts'
import {
  bytes,
  choice,
  count,
  flag,
  forms,
  type Infer,
  list,
  map,
  optional,
  required,
  word,
} from '../schema/schema.ts'
import { nameText } from './call-schema.ts'
import { deviceSchema, PROFILE_DOC, pageSizeAmong, profileSchema, RAM_MOST } from './machine-schema-parts.ts'
import { virtioInput, virtioSchema } from './virtio-schema.ts'

/** Shifts of the page sizes that a DMA window can have (LoPAR, ibm,query-pe-dma-window). */
const PAGE_SHIFTS = [12, 16, 21, 24, 25, 26, 27, 28, 34]
const pageSize = pageSizeAmong(PAGE_SHIFTS)

const bareArea = map('bare', {
  gpa: required(bytes('gpa', { max: (1n << 46n) - 1n }), 'Guest physical address of the first TCE.'),
  bytes: required(bytes('bytes', { min: 4096n, max: 1n << 30n }), 'Length: 8 bytes a TCE.'),
})

const phb = map('a PHB', {
  name: optional(nameText('name'), 'How steps and reports call it; pci and its index if left out.'),
  index: optional(count('index', 0, 255), 'Its number in LIOBNs; its place in the list if left out.'),
  buid: optional(word('buid'), 'Bus unit id.'),
  pageSizes: optional(
    list('pageSizes', pageSize, {
      minItems: 1,
      maxItems: 16,
    }),
    'IOMMU page sizes that its windows may have.',
  ),
  ddw: optional(flag('ddw'), 'Whether the guest may ask for a second window.'),
  maxWindowEntries: optional(
    count('maxWindowEntries', 1, 2 ** 31),
    'IOMMU pages of the largest window that firmware gives; 2^31, as QEMU, if left out.',
  ),
  listener: optional(
    choice('listener', LISTENERS),
    'Who hears of changes behind its windows: unmap as vhost does, both as VFIO does; none if left out.',
  ),
  bare: optional(
    bareArea,
    'Without a hypervisor: where in guest memory its TCEs lie, which the kernel then writes itself.',
  ),
  devices: optional(list('devices', deviceSchema, { maxItems: 256 }), 'Bus masters below it.'),
  virtio: virtioSchema,
})

const vio = map('a VIO device', {
  name: required(nameText('name'), 'How steps and reports call it.'),
  reg: required(count('reg', 0, 0xffff_ffff), 'Its unit address, which is its LIOBN.'),
  window: optional(bytes('window', { min: 4096n, max: 1n << 40n }), 'Size of its DMA window.'),
})

const range = map('a range of memory', {
  gpa: required(bytes('gpa', { max: RAM_MOST - 1n }), 'Guest physical address of the first byte.'),
  bytes: required(bytes('bytes', { min: 4096n, max: RAM_MOST }), 'How many bytes.'),
  owner: optional(nameText('owner'), 'Whom its pages belong to; guest if left out.'),
})

const ram = forms('ram', {
  scalar: bytes('ram', { min: 1n << 16n, max: RAM_MOST }),
  list: list('ram', range, { minItems: 1, maxItems: 64 }),
})

/** A pseries machine of a scenario file; everything has a default. */
export const pseriesSchema = (errata: readonly Erratum[]) =>
  map(
    'the machine',
    {
      kind: optional(choice('kind of machine', ['pseries']), 'A guest below QEMU; so too if left out.'),
      profile: optional(profileSchema(errata), PROFILE_DOC),
      ram: optional(ram, 'Guest memory: a size from address 0 on, or a list of ranges.'),
      maxRam: optional(
        bytes('maxRam', { max: RAM_MOST }),
        'First address past all memory that can be plugged in.',
      ),
      pmemory: optional(flag('pmemory'), 'Whether there is persistent memory (ibm,pmemory).'),
      pageShift: optional(choice('pageShift', [12, 16]), 'PAGE_SHIFT of the guest kernel.'),
      hostPageShift: optional(choice('hostPageShift', [12, 16]), 'PAGE_SHIFT of the host kernel.'),
      cpus: optional(count('cpus', 1, 2048), 'Virtual CPUs.'),
      hypertas: optional(
        list('hypertas', choice('firmware feature', HYPERTAS_FUNCTIONS), { maxItems: 64 }),
        'Strings of ibm,hypertas-functions.',
      ),
      bootOptions: optional(
        list('bootOptions', choice('boot option', BOOT_OPTIONS), { maxItems: 16 }),
        'Options on the guest kernel command line.',
      ),
      phbs: optional(
        list('phbs', phb, { maxItems: 31 }),
        'PCI host bridges; one without devices if left out.',
      ),
      vio: optional(list('vio', vio, { maxItems: 256 }), 'Virtual I/O devices.'),
    },
    {
      processes: 'a machine of kind pseries has the process qemu only; processes belong to kind powernv',
      guest: 'a machine of kind pseries is the guest; a guest on a POWER host belongs to kind powernv',
    },
  )

type PseriesDocument = Infer<ReturnType<typeof pseriesSchema>>

/** The description that a checked machine document stands for. */
export function pseriesInput(doc: PseriesDocument): PseriesInput {
  const { ram: memory, maxRam, pmemory, phbs, vio: vioDevices, ...rest } = doc
  return {
    ...rest,
    ram:
      typeof memory === 'object'
        ? memory.map((r) => ({ ...r, owner: r.owner ?? PSERIES_DEFAULTS.owner }))
        : memory,
    maxRamBytes: maxRam,
    hasPmemory: pmemory,
    phbs: phbs?.map(({ pageSizes, virtio, ...p }) => ({
      ...p,
      pageShifts: pageSizes?.map((s) => floorLog2(s)),
      virtio: virtioInput(virtio),
    })),
    vio: vioDevices?.map(({ window, ...v }) => ({ ...v, windowBytes: window })),
  }
}
