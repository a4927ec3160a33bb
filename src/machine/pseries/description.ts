import {
  Claims,
  DEVICE_KINDS,
  type DescriptionConflict,
  type DeviceKind,
  type Loose,
} from '../description-parts.ts'
import { claimVirtio, type VirtioDescription, type VirtioInput, virtioOf } from '../virtio-description.ts'

/** Guest memory at a guest physical address; `owner` is whom the isolation rules take its pages to belong to. */
export interface RamRange {
  readonly gpa: bigint
  readonly bytes: bigint
  readonly owner: string
}

/** A device in a slot of a PHB. */
interface DeviceDescription {
  /** How operations and reports call it; no two devices of a machine share a name. */
  readonly name: string
  readonly kind: DeviceKind
  /** PCI device number, 0 to 31. */
  readonly slot: number
  /** PCI function number, 0 to 7. */
  readonly function: number
  /** The bus addresses that the hardware can form. */
  readonly dmaMask: bigint
}

/** Which changes behind the windows of a PHB somebody hears of. */
export const LISTENERS = Object.freeze(['none', 'map', 'unmap', 'both'] as const)
type ListenerKind = (typeof LISTENERS)[number]

/** Where firmware laid the TCEs of a PHB out, on a machine without a hypervisor. */
interface BareArea {
  readonly gpa: bigint
  readonly bytes: bigint
}

/** A PCI host bridge with its one or two DMA windows. */
export interface PhbDescription {
  readonly name: string
  /** Number in the LIOBNs of its windows: 0x80000000 | index << 8 | window. */
  readonly index: number
  /** Bus unit id: names the PHB to RTAS. */
  readonly buid: bigint
  /** Page sizes that its windows may have, as shifts, ascending. */
  readonly pageShifts: readonly number[]
  /** Whether the guest may ask for a second window (dynamic DMA windows). */
  readonly ddw: boolean
  /** Entries of the largest window that firmware gives; QEMU gives 2^31, other hypervisors less. */
  readonly maxWindowEntries: number
  /** Who hears of changes behind its windows: `unmap` as vhost does, `both` as VFIO does. */
  readonly listener: ListenerKind
  /** Its TCEs lie in guest memory and the kernel writes them itself; left out where a hypervisor holds them. */
  readonly bare?: BareArea
  readonly devices: readonly DeviceDescription[]
  readonly virtio: readonly VirtioDescription[]
}

/** A virtual I/O device: one DMA window whose LIOBN is its `reg`. */
interface VioDescription {
  readonly name: string
  readonly reg: number
  readonly windowBytes: bigint
}

/** Everything that is fixed about a pseries machine before its first operation. Plain data, complete: defaults are applied. */
export interface PseriesDescription {
  readonly kind: 'pseries'
  /** Which errata it has: see `resolveProfile`. */
  readonly profile: string
  readonly ram: readonly RamRange[]
  /** First address past all memory that can ever be plugged in; at least the end of `ram`. */
  readonly maxRamBytes: bigint
  /** Whether the device tree has an ibm,pmemory node: sizes the 64-bit window of the guest. */
  readonly hasPmemory: boolean
  /** PAGE_SHIFT of the guest kernel. */
  readonly pageShift: 12 | 16
  /** PAGE_SHIFT of the host kernel. */
  readonly hostPageShift: 12 | 16
  readonly cpus: number
  /** Strings of ibm,hypertas-functions that the firmware offers. */
  readonly hypertas: readonly string[]
  /** Options on the guest kernel's command line. */
  readonly bootOptions: readonly string[]
  readonly phbs: readonly PhbDescription[]
  readonly vio: readonly VioDescription[]
}

type DeviceInput = Loose<DeviceDescription> & { readonly name: string; readonly kind: DeviceKind }
type PhbInput = Omit<Loose<PhbDescription>, 'devices' | 'virtio'> & {
  readonly devices?: readonly DeviceInput[] | undefined
  readonly virtio?: readonly VirtioInput[] | undefined
}
type VioInput = Loose<VioDescription> & { readonly name: string; readonly reg: number }

/** A description as a person writes it: what is left out is the default. `ram` may be the number of bytes from 0 on. */
export type PseriesInput = Omit<Loose<PseriesDescription>, 'phbs' | 'vio' | 'ram'> & {
  readonly ram?: bigint | readonly RamRange[] | undefined
  readonly phbs?: readonly PhbInput[] | undefined
  readonly vio?: readonly VioInput[] | undefined
}

/** Strings of ibm,hypertas-functions that a description may name (QEMU 7.2 hw/ppc/spapr.c; Linux v6.1 pseries/firmware.c). */
export const HYPERTAS_FUNCTIONS = Object.freeze([
  'hcall-multi-tce',
  'hcall-tce',
  'hcall-vio',
  'hcall-pft',
  'hcall-term',
  'hcall-dabr',
  'hcall-interrupt',
  'hcall-splpar',
  'hcall-join',
  'hcall-bulk',
  'hcall-set-mode',
  'hcall-sprg0',
  'hcall-copy',
  'hcall-debug',
  'hcall-vphn',
] as const)

/** Kernel options that a description may name (Linux v6.1 pseries/iommu.c, pseries/firmware.c). */
export const BOOT_OPTIONS = Object.freeze(['disable_ddw', 'multitce=off'] as const)

/** What a machine is where its description says nothing: QEMU 7.2's pseries with a 64 KiB guest kernel. */
export const PSERIES_DEFAULTS = Object.freeze({
  kind: 'pseries',
  profile: 'qemu-7.2+linux-6.1',
  ramBytes: 1n << 30n,
  owner: 'guest',
  pageShift: 16,
  hostPageShift: 16,
  cpus: 1,
  hypertas: ['hcall-multi-tce'],
  /** Bus unit id of PHB 0; each next index has one more (QEMU 7.2 hw/ppc/spapr_pci.c). */
  buid: 0x0800_0000_2000_0000n,
  pageShifts: [12, 16, 21, 24],
  ddw: true,
  /** Largest window of QEMU: its count of entries has 32 bits, and windows are powers of two. */
  maxWindowEntries: 2 ** 31,
  listener: 'none',
  /** DMA window of a VIO network or SCSI adapter (QEMU 7.2 hw/net/spapr_llan.c, hw/scsi/spapr_vscsi.c). */
  vioWindowBytes: 0x1000_0000n,
} as const)

/** Firmware lays TCEs out in whole 4 KiB pages. */
const TCE_AREA_UNIT = 4096n

const phbOf = (given: PhbInput, at: number): PhbDescription => {
  const index = given.index ?? at
  return {
    name: given.name ?? `pci${index}`,
    index,
    buid: given.buid ?? PSERIES_DEFAULTS.buid + BigInt(index),
    pageShifts: [...new Set(given.pageShifts ?? PSERIES_DEFAULTS.pageShifts)].sort((a, b) => a - b),
    ddw: given.ddw ?? (given.bare === undefined && PSERIES_DEFAULTS.ddw),
    maxWindowEntries: given.maxWindowEntries ?? PSERIES_DEFAULTS.maxWindowEntries,
    listener: given.listener ?? PSERIES_DEFAULTS.listener,
    ...(given.bare && { bare: given.bare }),
    devices: (given.devices ?? []).map((device, slot) => ({
      name: device.name,
      kind: device.kind,
      slot: device.slot ?? slot,
      function: device.function ?? 0,
      dmaMask: device.dmaMask ?? DEVICE_KINDS[device.kind].dmaMask,
    })),
    virtio: virtioOf(given.virtio, given.devices?.length ?? 0),
  }
}

const ramOf = (given: PseriesInput['ram']): readonly RamRange[] =>
  typeof given === 'object'
    ? given
    : [{ gpa: 0n, bytes: given ?? PSERIES_DEFAULTS.ramBytes, owner: PSERIES_DEFAULTS.owner }]

/** First address past all memory. */
export function ramEnd(ram: readonly RamRange[]): bigint {
  let end = 0n
  for (const { gpa, bytes } of ram) if (gpa + bytes > end) end = gpa + bytes
  return end
}

/** A description with its defaults, not yet checked for conflicts. */
export function completePseries(given: PseriesInput = {}): PseriesDescription {
  const ram = ramOf(given.ram)
  return {
    kind: given.kind ?? PSERIES_DEFAULTS.kind,
    profile: given.profile ?? PSERIES_DEFAULTS.profile,
    ram,
    maxRamBytes: given.maxRamBytes ?? ramEnd(ram),
    hasPmemory: given.hasPmemory ?? false,
    pageShift: given.pageShift ?? PSERIES_DEFAULTS.pageShift,
    hostPageShift: given.hostPageShift ?? PSERIES_DEFAULTS.hostPageShift,
    cpus: given.cpus ?? PSERIES_DEFAULTS.cpus,
    hypertas: given.hypertas ?? PSERIES_DEFAULTS.hypertas,
    bootOptions: given.bootOptions ?? [],
    phbs: (given.phbs ?? [{}]).map(phbOf),
    vio: (given.vio ?? []).map((v) => ({
      name: v.name,
      reg: v.reg,
      windowBytes: v.windowBytes ?? PSERIES_DEFAULTS.vioWindowBytes,
    })),
  }
}

function ramConflicts({ ram, maxRamBytes, pageShift }: PseriesDescription): DescriptionConflict[] {
  const out: DescriptionConflict[] = []
  const page = 1n << BigInt(pageShift)
  ram.forEach(({ gpa, bytes }, i) => {
    if (gpa % page !== 0n || bytes % page !== 0n) {
      out.push({ path: ['ram', i], message: `memory must start and end on a ${page}-byte page of the guest` })
    }
    const other = ram.findIndex((r, j) => j < i && r.gpa < gpa + bytes && gpa < r.gpa + r.bytes)
    if (other !== -1)
      out.push({ path: ['ram', i], message: `memory overlaps entry ${other + 1} of the list` })
  })
  if (maxRamBytes < ramEnd(ram)) {
    out.push({
      path: ['maxRam'],
      message: 'memory that can be plugged in ends before the memory that is there',
    })
  }
  return out
}

/** A PHB without a hypervisor has no windows to ask for, and its TCEs lie in memory. */
function bareConflicts({ phbs, ram }: PseriesDescription): DescriptionConflict[] {
  const out: DescriptionConflict[] = []
  phbs.forEach(({ bare, ddw }, i) => {
    if (bare === undefined) return
    const path = ['phbs', i, 'bare']
    if (ddw) out.push({ path, message: 'a PHB without a hypervisor has no dynamic windows (ddw)' })
    if (bare.gpa % TCE_AREA_UNIT !== 0n || bare.bytes % TCE_AREA_UNIT !== 0n || bare.bytes === 0n) {
      out.push({ path, message: `the TCEs must start and end on a ${TCE_AREA_UNIT}-byte boundary` })
    }
    const isIn = ram.some((r) => r.gpa <= bare.gpa && bare.gpa + bare.bytes <= r.gpa + r.bytes)
    if (!isIn) out.push({ path, message: 'the TCEs must lie in memory' })
  })
  return out
}

/** All conflicts of a complete description: names, slots, LIOBNs, bus unit ids and memory that two parts claim. */
export function pseriesConflicts(machine: PseriesDescription): DescriptionConflict[] {
  const claims = new Claims()
  machine.phbs.forEach((phb, i) => {
    const at = ['phbs', i]
    // Name and bus unit id follow from the index unless they are given.
    if (claims.claim(`PHB index ${phb.index}`, `PHB ${phb.name}`, [...at, 'index'])) {
      claims.claim(`name ${phb.name}`, `PHB ${phb.name}`, [...at, 'name'])
      claims.claim(`buid 0x${phb.buid.toString(16)}`, `PHB ${phb.name}`, [...at, 'buid'])
    }
    phb.devices.forEach((device, j) => {
      const who = `device ${device.name}`
      claims.claim(`name ${device.name}`, who, [...at, 'devices', j, 'name'])
      claims.claim(`slot ${device.slot}.${device.function} of ${phb.name}`, who, [
        ...at,
        'devices',
        j,
        'slot',
      ])
    })
    claimVirtio(claims, phb, at)
  })
  machine.vio.forEach((vio, i) => {
    claims.claim(`name ${vio.name}`, `VIO device ${vio.name}`, ['vio', i, 'name'])
    claims.claim(`reg 0x${vio.reg.toString(16)}`, `VIO device ${vio.name}`, ['vio', i, 'reg'])
  })
  return [...claims.conflicts, ...ramConflicts(machine), ...bareConflicts(machine)]
}
