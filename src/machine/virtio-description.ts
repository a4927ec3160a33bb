import type { Claims, Loose } from './description-parts.ts'

/** What a virtio device is to its guest. */
export const VIRTIO_KINDS = Object.freeze(['net', 'blk'] as const)
type VirtioKind = (typeof VIRTIO_KINDS)[number]

/** A virtio device that QEMU gives its guest, behind the IOMMU of a PHB (iommu_platform=on). */
export interface VirtioDescription {
  /** How operations and reports call it; no two devices of a machine share a name. */
  readonly name: string
  readonly kind: VirtioKind
  /** PCI device number, 0 to 31. */
  readonly slot: number
  /** PCI function number, 0 to 7. */
  readonly function: number
  /**
   * Whether vhost moves its bytes: that of the kernel for net, a process beside QEMU (vhost-user) for blk. Else QEMU itself
   * does, and asks the IOMMU each time.
   */
  readonly hasVhost: boolean
}

export type VirtioInput = Loose<VirtioDescription> & { readonly name: string; readonly kind: VirtioKind }

/** Devices with their defaults; the first gets the slot `firstSlot`. */
export const virtioOf = (
  given: readonly VirtioInput[] | undefined,
  firstSlot: number,
): readonly VirtioDescription[] =>
  (given ?? []).map(({ name, kind, slot, function: fn, hasVhost }, at) => ({
    name,
    kind,
    slot: slot ?? firstSlot + at,
    function: fn ?? 0,
    hasVhost: hasVhost ?? kind === 'net',
  }))

/** Names and slots that devices of a PHB claim; `at` leads to the PHB. */
export function claimVirtio(
  claims: Claims,
  phb: { readonly name: string; readonly virtio: readonly VirtioDescription[] },
  at: readonly (string | number)[],
): void {
  phb.virtio.forEach(({ name, slot, function: fn }, i) => {
    const who = `device ${name}`
    const path = [...at, 'virtio', i]
    claims.claim(`name ${name}`, who, [...path, 'name'])
    claims.claim(`slot ${slot}.${fn} of ${phb.name}`, who, [...path, 'slot'])
  })
}
