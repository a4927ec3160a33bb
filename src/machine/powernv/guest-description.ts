import type { VhostRemedy } from '../../kernel/vhost-remedy.ts'
import type { Claims, DescriptionConflict, Loose } from '../description-parts.ts'
import { claimVirtio, type VirtioDescription, type VirtioInput, virtioOf } from '../virtio-description.ts'

/** A PCI host bridge that QEMU gives its guest. */
export interface GuestPhbDescription {
  /** How steps and reports call it. */
  readonly name: string
  /** Its number in LIOBNs. */
  readonly index: number
  readonly buid: bigint
  /** IOMMU page sizes that its windows may have, as shifts. */
  readonly pageShifts: readonly number[]
  /** Whether the guest may ask for a second window. */
  readonly ddw: boolean
  /** Bytes of the default window. */
  readonly windowBytes: bigint
  /** IOMMU groups of the host whose devices are below it. */
  readonly groups: readonly number[]
  readonly virtio: readonly VirtioDescription[]
}

/** A pseries guest that QEMU runs in a process of the host. Nothing of it is there before the step `vmm: start`. */
export interface GuestDescription {
  /** The process that is, or becomes, QEMU. */
  readonly process: string
  /** Errata of QEMU: see `resolveProfile`. Those of the host's machine are in the machine's own profile. */
  readonly profile: string
  /** Whether KVM runs it; else QEMU translates its instructions, and answers every hypercall. */
  readonly hasKvm: boolean
  /** Whether QEMU has KVM answer H_PUT_TCE_INDIRECT and H_STUFF_TCE. */
  readonly hasMultiTce: boolean
  /** Its memory, from guest address 0 on. */
  readonly ramBytes: bigint
  /** Where QEMU maps that memory in its own address space. */
  readonly ua: bigint
  /** log2 of the huge pages behind it; 0 for ordinary pages. */
  readonly hugeShift: number
  /** How KVM and QEMU keep vhost in step with tables in KVM; left out, as the kernel's errata have it (B8). */
  readonly vhostRemedy?: VhostRemedy
  readonly phbs: readonly GuestPhbDescription[]
}

type GuestPhbInput = Omit<Loose<GuestPhbDescription>, 'virtio'> & {
  readonly virtio?: readonly VirtioInput[] | undefined
}
export type GuestInput = Omit<Loose<GuestDescription>, 'phbs'> & {
  readonly phbs?: readonly GuestPhbInput[] | undefined
}

/** What a guest is where its description says nothing: QEMU's pseries with one PHB, and no device of the host. */
export const GUEST_DEFAULTS = Object.freeze({
  profile: 'qemu-7.2',
  hasKvm: true,
  hasMultiTce: true,
  ramBytes: 1n << 28n,
  ua: 0x7f00_0000_0000n,
  hugeShift: 0,
  /** Bus unit id of PHB 0; each next index has one more (QEMU 7.2 hw/ppc/spapr_pci.c). */
  buid: 0x0800_0000_2000_0000n,
  pageShifts: [12, 16, 21, 24],
  ddw: true,
  windowBytes: 1n << 30n,
} as const)

const phbOf = (given: GuestPhbInput, at: number): GuestPhbDescription => {
  const index = given.index ?? at
  return {
    name: given.name ?? `pci${index}`,
    index,
    buid: given.buid ?? GUEST_DEFAULTS.buid + BigInt(index),
    pageShifts: [...new Set(given.pageShifts ?? GUEST_DEFAULTS.pageShifts)].sort((a, b) => a - b),
    ddw: given.ddw ?? GUEST_DEFAULTS.ddw,
    windowBytes: given.windowBytes ?? GUEST_DEFAULTS.windowBytes,
    groups: given.groups ?? [],
    virtio: virtioOf(given.virtio, 0),
  }
}

/** A guest with its defaults, not yet checked for conflicts; `process` is the first process of the host. */
export const completeGuest = (given: GuestInput, process: string): GuestDescription => ({
  process: given.process ?? process,
  profile: given.profile ?? GUEST_DEFAULTS.profile,
  hasKvm: given.hasKvm ?? GUEST_DEFAULTS.hasKvm,
  hasMultiTce: given.hasMultiTce ?? GUEST_DEFAULTS.hasMultiTce,
  ramBytes: given.ramBytes ?? GUEST_DEFAULTS.ramBytes,
  ua: given.ua ?? GUEST_DEFAULTS.ua,
  hugeShift: given.hugeShift ?? GUEST_DEFAULTS.hugeShift,
  ...(given.vhostRemedy !== undefined && { vhostRemedy: given.vhostRemedy }),
  phbs: (given.phbs ?? [{}]).map(phbOf),
})

/** What of the host a guest is held against. */
interface HostFacts {
  readonly pageShift: number
  readonly processes: readonly string[]
  readonly groups: readonly number[]
  /** Names that PHBs of the host have. */
  readonly claims: Claims
}

/** Conflicts of a complete guest with itself and with its host. */
export function guestConflicts(guest: GuestDescription, host: HostFacts): DescriptionConflict[] {
  const out: DescriptionConflict[] = []
  const page = 1n << BigInt(Math.max(host.pageShift, guest.hugeShift))
  if (guest.ramBytes % page !== 0n) {
    out.push({ path: ['guest', 'ram'], message: `memory of the guest must be whole pages of ${page} bytes` })
  }
  if (guest.ua % page !== 0n) {
    const message = `memory of the guest must begin at a multiple of ${page} bytes`
    out.push({ path: ['guest', 'ua'], message })
  }
  if (!host.processes.includes(guest.process)) {
    out.push({ path: ['guest', 'process'], message: `the host has no process ${guest.process}` })
  }
  guest.phbs.forEach((phb, i) => {
    const at = ['guest', 'phbs', i]
    const who = `guest PHB ${phb.name}`
    host.claims.claim(`name ${phb.name}`, who, [...at, 'name'])
    host.claims.claim(`index ${phb.index}`, who, [...at, 'index'])
    host.claims.claim(`buid 0x${phb.buid.toString(16)}`, who, [...at, 'buid'])
    phb.groups.forEach((group, j) => {
      const path = [...at, 'groups', j]
      if (!host.groups.includes(group)) out.push({ path, message: `the host has no group ${group}` })
      host.claims.claim(`group ${group} of the guest`, who, path)
    })
    claimVirtio(host.claims, phb, at)
  })
  return out
}
