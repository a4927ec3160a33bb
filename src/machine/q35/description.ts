import { put } from '../../bits/word.ts'
import { PRESETS, type VtdPresetName } from '../../hw/vtd/capabilities.ts'
import { CAP, ECAP } from '../../hw/vtd/register-format.ts'
import { Claims, type DescriptionConflict, type Loose } from '../description-parts.ts'

/** Who drives the unit: nobody but the steps, or Linux in one of its modes. */
export const VTD_DRIVERS = ['none', 'legacy', 'scalable'] as const
export type VtdDriverMode = (typeof VTD_DRIVERS)[number]

/** A VT-d unit: one that is known, or QEMU's with its options; `cap` and `ecap` stand above both. */
export interface VtdDescription {
  readonly name: string
  /** A unit of `PRESETS`, in place of the options. */
  readonly preset: VtdPresetName | undefined
  /** Option `aw-bits` of QEMU's `-device intel-iommu`: width of bus addresses, and of the host addresses in tables. */
  readonly awBits: 39 | 48
  /** `caching-mode` */
  readonly cachingMode: boolean
  /** `device-iotlb` */
  readonly deviceIotlb: boolean
  /** `snoop-control` */
  readonly snoopControl: boolean
  /** The capability registers, where they are other ones. */
  readonly cap: bigint | undefined
  readonly ecap: bigint | undefined
  /** Width of the addresses in its tables (HAW), where it is another one. */
  readonly hostAddressBits: number | undefined
  readonly driver: VtdDriverMode
}

/** A virtio network device of QEMU behind the vIOMMU (iommu_platform=on), with vhost of the kernel. */
export interface Q35DeviceDescription {
  /** How operations and reports call it; no two parts of a machine share a name. */
  readonly name: string
  readonly kind: 'net'
  /** PCI bus: 0 is the root complex, others are behind a root port. */
  readonly bus: number
  readonly slot: number
  readonly function: number
  /** `ats`: it has the ATS capability, which takes a PCI Express endpoint: one behind a root port. */
  readonly hasAts: boolean
}

/** Devices with an engine of their own: QEMU's teaching device, and a PCI Express function with ATS, PRI and PASIDs. */
export const VTD_DEVICE_KINDS = ['edu', 'endpoint'] as const
export type VtdDeviceKind = (typeof VTD_DEVICE_KINDS)[number]

/** A device with a DMA engine behind the unit. */
export interface VtdDeviceDescription {
  readonly name: string
  readonly kind: VtdDeviceKind
  readonly bus: number
  readonly slot: number
  readonly function: number
  /** Bus addresses that it can form (edu). */
  readonly dmaMask: bigint
  /** Of an endpoint: the ATS capability, and the translations that it has room for. */
  readonly hasAts: boolean
  readonly tlbEntries: number | undefined
  /** PRI: page requests that may wait for a response; 0 where it has none. */
  readonly pageRequests: number
  /** PASID: bits of them; 0 where it has none. */
  readonly pasidBits: number
  readonly canExecute: boolean
  readonly canBePrivileged: boolean
  /** Other devices are in its IOMMU group. */
  readonly sharesGroup: boolean
}

/** Where in guest memory the driver keeps its tables and the invalidation queue. */
export interface TableArea {
  readonly gpa: bigint
  readonly bytes: bigint
}

/** An x86 guest below QEMU, with one VT-d unit. Plain data, complete: defaults are applied. */
export interface Q35Description {
  readonly kind: 'q35'
  /** Which errata it has: see `resolveProfile`. */
  readonly profile: string
  readonly ramBytes: bigint
  readonly cpus: number
  readonly tables: TableArea
  /** Maps that an IOTLB of vhost keeps (module parameter max_iotlb_entries). */
  readonly iotlbEntries: number
  readonly iommu: VtdDescription
  readonly virtio: readonly Q35DeviceDescription[]
  readonly devices: readonly VtdDeviceDescription[]
}

type DeviceInput = Loose<Q35DeviceDescription> & { readonly name: string }
export type VtdDeviceInput = Loose<VtdDeviceDescription> & Pick<VtdDeviceDescription, 'name' | 'kind'>
/** A description as a person writes it: what is left out is the default. */
export type Q35Input = Omit<Loose<Q35Description>, 'kind' | 'iommu' | 'virtio' | 'devices'> & {
  readonly kind: 'q35'
  readonly iommu?: Loose<VtdDescription> | undefined
  readonly virtio?: readonly DeviceInput[] | undefined
  readonly devices?: readonly VtdDeviceInput[] | undefined
}

/** What a machine is where its description says nothing: Debian's QEMU 7.2, with one network device behind a root port. */
export const Q35_DEFAULTS = Object.freeze({
  profile: 'qemu-7.2.22+linux-6.1',
  ramBytes: 1n << 30n,
  cpus: 1,
  owner: 'guest',
  iotlbEntries: 2048,
  iommu: {
    name: 'vtd0',
    awBits: 39,
    cachingMode: false,
    deviceIotlb: false,
    snoopControl: false,
    driver: 'legacy',
  },
  bus: 1,
  /** Slot of the first device on the root complex, as QEMU gives it behind its own. */
  slot: 3,
  device: {
    dmaMask: 0xffff_ffff_ffff_ffffn,
    pageRequests: 32,
    pasidBits: 20,
  },
} as const)

const PAGE = 4096n
/** Of memory the driver keeps this part for tables, and no more than the most. */
const TABLES_PART = 8n
const TABLES_MOST = 16n << 20n
/** Memory from here on is above 4 GiB where there is as much or more. (QEMU 7.2 hw/i386/pc_q35.c, pc_q35_init) */
const SPLIT_AT = 0xb000_0000n
const LOW_BYTES_SPLIT = 0x8000_0000n
const FOUR_GIB = 1n << 32n
/** Guest memory at a guest physical address; `offset` counts in QEMU's block of memory. */
export interface RamSlot {
  readonly gpa: bigint
  readonly bytes: bigint
  readonly offset: bigint
}

/** Where the memory of a guest is, once it has booted: QEMU tells vhost the same ranges. (Run) */
export function ramSlots(ramBytes: bigint): readonly RamSlot[] {
  const low = lowBytes(ramBytes)
  const slot = { gpa: 0n, bytes: low, offset: 0n }
  return ramBytes > low ? [slot, { gpa: FOUR_GIB, bytes: ramBytes - low, offset: low }] : [slot]
}

const lowBytes = (ramBytes: bigint): bigint => (ramBytes >= SPLIT_AT ? LOW_BYTES_SPLIT : ramBytes)

function tablesOf(ramBytes: bigint): TableArea {
  const part = ramBytes / TABLES_PART
  const bytes = ((part < TABLES_MOST ? part : TABLES_MOST) / PAGE) * PAGE
  return { gpa: lowBytes(ramBytes) - bytes, bytes }
}

/** A description with its defaults, not yet checked for conflicts. */
export function completeQ35(given: Q35Input): Q35Description {
  const ramBytes = given.ramBytes ?? Q35_DEFAULTS.ramBytes
  const { iommu } = Q35_DEFAULTS
  return {
    kind: 'q35',
    profile: given.profile ?? Q35_DEFAULTS.profile,
    ramBytes,
    cpus: given.cpus ?? Q35_DEFAULTS.cpus,
    tables: given.tables ?? tablesOf(ramBytes),
    iotlbEntries: given.iotlbEntries ?? Q35_DEFAULTS.iotlbEntries,
    iommu: {
      name: given.iommu?.name ?? iommu.name,
      preset: given.iommu?.preset,
      awBits: given.iommu?.awBits ?? iommu.awBits,
      cachingMode: given.iommu?.cachingMode ?? iommu.cachingMode,
      deviceIotlb: given.iommu?.deviceIotlb ?? iommu.deviceIotlb,
      snoopControl: given.iommu?.snoopControl ?? iommu.snoopControl,
      cap: given.iommu?.cap,
      ecap: given.iommu?.ecap,
      hostAddressBits: given.iommu?.hostAddressBits,
      driver: given.iommu?.driver ?? iommu.driver,
    },
    virtio: (given.virtio ?? (given.devices === undefined ? [{ name: 'net0' }] : [])).map((device, at) => ({
      name: device.name,
      kind: device.kind ?? 'net',
      bus: device.bus ?? Q35_DEFAULTS.bus + at,
      slot: device.slot ?? 0,
      function: device.function ?? 0,
      hasAts: device.hasAts ?? false,
    })),
    devices: (given.devices ?? []).map(completeDevice),
  }
}

/** A device with its defaults. @param at its place in the list */
export function completeDevice(given: VtdDeviceInput, at: number): VtdDeviceDescription {
  const { device } = Q35_DEFAULTS
  const isEndpoint = given.kind === 'endpoint'
  return {
    name: given.name,
    kind: given.kind,
    bus: given.bus ?? 0,
    slot: given.slot ?? Q35_DEFAULTS.slot + at,
    function: given.function ?? 0,
    dmaMask: given.dmaMask ?? device.dmaMask,
    hasAts: given.hasAts ?? isEndpoint,
    tlbEntries: given.tlbEntries,
    pageRequests: given.pageRequests ?? (isEndpoint ? device.pageRequests : 0),
    pasidBits: given.pasidBits ?? (isEndpoint ? device.pasidBits : 0),
    canExecute: given.canExecute ?? isEndpoint,
    canBePrivileged: given.canBePrivileged ?? isEndpoint,
    sharesGroup: given.sharesGroup ?? false,
  }
}

/** What the capability registers of a described unit say, and the width of the addresses in its tables. */
export function vtdShapeOf(iommu: VtdDescription): VtdShape {
  const { preset, awBits, cachingMode, deviceIotlb, snoopControl } = iommu
  const base: VtdShape = PRESETS[preset ?? (awBits === 48 ? 'qemu-48' : 'qemu')]
  const cap = preset === undefined ? put(CAP, base.cap, 'CM', cachingMode ? 1n : 0n) : base.cap
  const withDt = put(ECAP, base.ecap, 'DT', deviceIotlb ? 1n : 0n)
  const ecap = preset === undefined ? put(ECAP, withDt, 'SC', snoopControl ? 1n : 0n) : base.ecap
  return {
    version: base.version,
    cap: iommu.cap ?? cap,
    ecap: iommu.ecap ?? ecap,
    hostAddressBits: iommu.hostAddressBits ?? base.hostAddressBits,
  }
}

/** A unit as its registers show it. */
export interface VtdShape {
  /** VER: major version << 4 | minor version. */
  readonly version: number
  readonly cap: bigint
  readonly ecap: bigint
  readonly hostAddressBits: number
}

type PciPlace = Pick<Q35DeviceDescription, 'bus' | 'slot' | 'function'>

/** Bus, device and function as hardware names a requester. */
export const sourceOf = ({ bus, slot, function: fn }: PciPlace): number => (bus << 8) | (slot << 3) | fn

/** What a guest has for tables must be memory, and two parts may not have the same name or place. */
export function q35Conflicts(machine: Q35Description): DescriptionConflict[] {
  const { ramBytes, tables, iommu, virtio, devices } = machine
  const claims = new Claims()
  const { conflicts } = claims
  if (ramBytes % PAGE !== 0n) conflicts.push({ path: ['ram'], message: 'memory must end on a 4 KiB page' })
  const isRam = ramSlots(ramBytes).some(
    (s) => s.gpa <= tables.gpa && tables.gpa + tables.bytes <= s.gpa + s.bytes,
  )
  if (!isRam) conflicts.push({ path: ['tables'], message: 'tables must lie in one range of guest memory' })
  if (tables.gpa % PAGE !== 0n || tables.bytes % PAGE !== 0n) {
    conflicts.push({ path: ['tables'], message: 'tables must start and end on a 4 KiB page' })
  }
  claims.claim(`name ${iommu.name}`, `the IOMMU ${iommu.name}`, ['iommu', 'name'])
  virtio.forEach((device, i) => {
    const { name, bus, slot, function: fn, hasAts } = device
    const who = `device ${name}`
    claims.claim(`name ${name}`, who, ['virtio', i, 'name'])
    claims.claim(`place ${bus}:${slot}.${fn}`, who, ['virtio', i, 'slot'])
    if (hasAts && bus === 0) {
      const message = 'ATS takes a PCI Express endpoint, which a device on bus 0 is not'
      conflicts.push({ path: ['virtio', i, 'ats'], message })
    }
  })
  deviceConflicts(devices, claims)
  if (iommu.preset !== undefined && hasOptions(iommu)) {
    const message = 'a unit is either a known one or QEMU`s with its options'
    conflicts.push({ path: ['iommu', 'preset'], message })
  }
  return conflicts
}

/** Claims what devices with engines of their own claim, and tells what of them cannot be. */
export function deviceConflicts(devices: readonly VtdDeviceDescription[], claims: Claims): void {
  devices.forEach((device, i) => {
    const { name, kind, bus, slot, function: fn } = device
    const who = `device ${name}`
    const path = ['devices', i] as const
    claims.claim(`name ${name}`, who, [...path, 'name'])
    claims.claim(`place ${bus}:${slot}.${fn}`, who, [...path, 'slot'])
    const { hasAts, pageRequests, pasidBits, canExecute, canBePrivileged, tlbEntries } = device
    const isBare = !hasAts && pageRequests === 0 && pasidBits === 0 && tlbEntries === undefined
    if (kind === 'edu' && !(isBare && !canExecute && !canBePrivileged)) {
      claims.conflicts.push({
        path: [...path, 'kind'],
        message: 'edu has no ATS, PRI or PASID: an endpoint has',
      })
    }
  })
}

/** Whether an option of QEMU is not as it is unless said. */
const hasOptions = ({ awBits, cachingMode, deviceIotlb, snoopControl }: VtdDescription): boolean =>
  awBits !== Q35_DEFAULTS.iommu.awBits || cachingMode || deviceIotlb || snoopControl
