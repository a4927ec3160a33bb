import { choice, count, flag, type Infer, list, map, optional, required } from '../schema/schema.ts'
import { VIRTIO_KINDS, type VirtioDescription, type VirtioInput } from '../virtio-description.ts'
import { nameText } from './call-schema.ts'
import { type DocumentMap, present, unless } from './document-value.ts'

const device = map('a virtio device', {
  name: required(nameText('name'), 'How steps and reports call it.'),
  kind: required(choice('kind of virtio device', VIRTIO_KINDS), 'What it is to the guest.'),
  slot: optional(count('slot', 0, 31), 'PCI device number; the next one of the PHB if left out.'),
  function: optional(count('function', 0, 7), 'PCI function number.'),
  vhost: optional(
    flag('vhost'),
    'Whether vhost moves its bytes, with a TLB of its own: the kernel for net, a process (vhost-user) for blk; else QEMU does. So for net if left out.',
  ),
})

/** The virtio devices below a PHB. */
export const virtioSchema = optional(
  list('virtio', device, { maxItems: 32 }),
  'Virtio devices of QEMU below it, behind its IOMMU.',
)

type VirtioDocument = Infer<typeof device>

/** The devices that a checked document stands for. */
export const virtioInput = (devices: readonly VirtioDocument[] | undefined): VirtioInput[] | undefined =>
  devices?.map(({ vhost, ...rest }) => ({ ...rest, hasVhost: vhost }))

/** Devices as the plain value that a scenario file holds. */
export const virtioDocument = (devices: readonly VirtioDescription[]): DocumentMap[] | undefined =>
  devices.length === 0
    ? undefined
    : devices.map((d) =>
        present({
          name: d.name,
          kind: d.kind,
          slot: d.slot,
          function: unless(d.function, 0),
          vhost: unless(d.hasVhost, d.kind === 'net'),
        }),
      )
