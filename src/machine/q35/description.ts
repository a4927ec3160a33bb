import { Claims, type DescriptionConflict, type Loose } from '../description-parts.ts'

/** Options of QEMU's `-device intel-iommu`. */
interface VtdDescription {
  readonly name: string
  /** `aw-bits`: width of bus addresses, and of the host addresses in tables. */
  readonly awBits: 39 | 48
  /** `caching-mode` */
  readonly cachingMode: boolean
  /** `device-iotlb` */
  readonly deviceIotlb: boolean
  /** `snoop-control` */
  readonly snoopControl: boolean
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

/** Where in guest memory the driver keeps its tables and the invalidation queue. */
interface TableArea {
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
}

type DeviceInput = Loose<Q35DeviceDescription> & { readonly name: string }
/** A description as a person writes it: what is left out is the default. */
export type Q35Input = Omit<Loose<Q35Description>, 'kind' | 'iommu' | 'virtio'> & {
  readonly kind: 'q35'
  readonly iommu?: Loose<VtdDescription> | undefined
  readonly virtio?: readonly DeviceInput[] | undefined
}

/** What a machine is where its description says nothing: Debian's QEMU 7.2, with one network device behind a root port. */
export const Q35_DEFAULTS = Object.freeze({
  profile: 'qemu-7.2.22+linux-6.1',
  ramBytes: 1n << 30n,
  cpus: 1,
  owner: 'guest',
  iotlbEntries: 2048,
  iommu: { name: 'vtd0', awBits: 39, cachingMode: false, deviceIotlb: false, snoopControl: false },
  bus: 1,
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
      awBits: given.iommu?.awBits ?? iommu.awBits,
      cachingMode: given.iommu?.cachingMode ?? iommu.cachingMode,
      deviceIotlb: given.iommu?.deviceIotlb ?? iommu.deviceIotlb,
      snoopControl: given.iommu?.snoopControl ?? iommu.snoopControl,
    },
    virtio: (given.virtio ?? [{ name: 'net0' }]).map((device, at) => ({
      name: device.name,
      kind: device.kind ?? 'net',
      bus: device.bus ?? Q35_DEFAULTS.bus + at,
      slot: device.slot ?? 0,
      function: device.function ?? 0,
      hasAts: device.hasAts ?? false,
    })),
  }
}

/** Bus, device and function as hardware names a requester. */
export const sourceOf = ({ bus, slot, function: fn }: Q35DeviceDescription): number =>
  (bus << 8) | (slot << 3) | fn

/** What a guest has for tables must be memory, and two parts may not have the same name or place. */
export function q35Conflicts(machine: Q35Description): DescriptionConflict[] {
  const { ramBytes, tables, iommu, virtio } = machine
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
  return conflicts
}
