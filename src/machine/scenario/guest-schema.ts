import type { Erratum } from '../../bits/errata.ts'
import { floorLog2 } from '../../bits/u64.ts'
import { VHOST_REMEDIES } from '../../kernel/vhost-remedy.ts'
import type { GuestInput } from '../powernv/guest-description.ts'
import {
  bytes,
  bytesAmong,
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
import { pageSizeAmong, profileSchema, RAM_MOST } from './machine-schema-parts.ts'
import { virtioInput, virtioSchema } from './virtio-schema.ts'

/** Shifts of the page sizes that a DMA window of a guest can have (LoPAR, ibm,query-pe-dma-window). */
const PAGE_SHIFTS = [12, 16, 21, 24, 25, 26, 27, 28, 34]
const HUGE_SHIFTS = [21, 24, 30, 34]

const phb = map('a PHB of the guest', {
  name: optional(nameText('name'), 'How steps and reports call it; pci and its index if left out.'),
  index: optional(count('index', 0, 255), 'Its number in LIOBNs; its place in the list if left out.'),
  buid: optional(word('buid'), 'Bus unit id.'),
  pageSizes: optional(
    list('pageSizes', pageSizeAmong(PAGE_SHIFTS), { minItems: 1, maxItems: 16 }),
    'IOMMU page sizes that its windows may have.',
  ),
  ddw: optional(flag('ddw'), 'Whether the guest may ask for a second window; so if left out.'),
  window: optional(
    bytes('window', { min: 1n << 16n, max: 1n << 40n }),
    'Bytes of the default window; 1 GiB if left out.',
  ),
  groups: optional(
    list('groups', count('group', 0, 0xffff), { maxItems: 16 }),
    'IOMMU groups of the host whose devices are below it.',
  ),
  virtio: virtioSchema,
})

const vhost = map('vhost', {
  remedy: required(
    choice('remedy', VHOST_REMEDIES),
    'How vhost hears of what KVM writes into tables: designs that never shipped, or none, as kernels have it.',
  ),
})

/** A guest on a POWER host. */
export const guestSchema = (errata: readonly Erratum[]) =>
  map('the guest', {
    process: optional(nameText('process'), 'The process that becomes QEMU; the first one if left out.'),
    profile: optional(profileSchema(errata), 'Whose deviations QEMU has; qemu-7.2 if left out.'),
    kvm: optional(flag('kvm'), 'Whether KVM runs it; else QEMU answers every hypercall. So if left out.'),
    multitce: optional(
      flag('multitce'),
      'Whether QEMU has KVM answer H_PUT_TCE_INDIRECT and H_STUFF_TCE; so if left out.',
    ),
    ram: optional(bytes('ram', { min: 1n << 16n, max: RAM_MOST }), 'Its memory; 256 MiB if left out.'),
    ua: optional(word('ua'), 'User address of its memory in QEMU; 0x7f0000000000 if left out.'),
    hugePages: optional(
      bytesAmong(
        'hugePages',
        HUGE_SHIFTS.map((shift) => 1n << BigInt(shift)),
      ),
      'Huge pages behind its memory; ordinary pages if left out.',
    ),
    vhost: optional(
      vhost,
      'How KVM and vhost are kept in step; as the errata of the kernel have it if left out.',
    ),
    phbs: optional(
      list('phbs', phb, { minItems: 1, maxItems: 31 }),
      'Its PCI host bridges; one if left out.',
    ),
  })

type GuestDocument = Infer<ReturnType<typeof guestSchema>>

/** The description that a checked document of a guest stands for. */
export const guestInput = ({
  kvm,
  multitce,
  ram,
  hugePages,
  vhost: keeping,
  phbs,
  ...rest
}: GuestDocument): GuestInput => ({
  ...rest,
  hasKvm: kvm,
  hasMultiTce: multitce,
  ramBytes: ram,
  hugeShift: hugePages === undefined ? undefined : floorLog2(hugePages),
  vhostRemedy: keeping?.remedy,
  phbs: phbs?.map(({ pageSizes, window, virtio, ...p }) => ({
    ...p,
    pageShifts: pageSizes?.map((s) => floorLog2(s)),
    windowBytes: window,
    virtio: virtioInput(virtio),
  })),
})
