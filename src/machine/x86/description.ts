import { PRESETS, type VtdPresetName } from '../../hw/vtd/capabilities.ts'
import { Claims, type DescriptionConflict, type Loose } from '../description-parts.ts'
import {
  completeDevice,
  deviceConflicts,
  type TableArea,
  type VtdDescription,
  type VtdDeviceDescription,
  type VtdDeviceInput,
  type VtdShape,
} from '../q35/description.ts'

/** Who drives the unit: nobody but the steps, or Linux in legacy, extended (shared virtual memory of 4.x) or scalable mode. */
export const X86_DRIVERS = ['none', 'legacy', 'extended', 'scalable'] as const
export type X86DriverMode = (typeof X86_DRIVERS)[number]

/** A VT-d unit of a known kind; `cap` and `ecap` stand above it. */
export interface X86UnitDescription
  extends Pick<VtdDescription, 'name' | 'cap' | 'ecap' | 'hostAddressBits'> {
  readonly preset: VtdPresetName
  readonly driver: X86DriverMode
}

/** A process that is there before the first operation. */
export interface X86ProcessDescription {
  readonly name: string
}

/**
 * An x86 machine without a hypervisor: Linux with its processes, one VT-d unit, devices behind it. Plain data,
 * complete: defaults are applied.
 */
export interface X86Description {
  readonly kind: 'x86'
  /** Which errata it has: see `resolveProfile`. */
  readonly profile: string
  readonly ramBytes: bigint
  readonly cpus: number
  /** Memory that the driver of the unit has for its tables and queues. The rest is the kernel's page allocator's. */
  readonly tables: TableArea
  readonly iommu: X86UnitDescription
  readonly devices: readonly VtdDeviceDescription[]
  readonly processes: readonly X86ProcessDescription[]
}

/** A description as a person writes it: what is left out is the default. */
export type X86Input = Omit<Loose<X86Description>, 'kind' | 'iommu' | 'devices' | 'processes'> & {
  readonly kind: 'x86'
  readonly iommu?: Loose<X86UnitDescription> | undefined
  readonly devices?: readonly VtdDeviceInput[] | undefined
  readonly processes?: readonly X86ProcessDescription[] | undefined
}

/** What a machine is where its description says nothing: Skylake graphics with its PASIDs, right in all. */
export const X86_DEFAULTS = Object.freeze({
  profile: 'intended',
  ramBytes: 256n << 20n,
  cpus: 4,
  iommu: { name: 'vtd0', preset: 'skylake-graphics', driver: 'extended' },
} as const)

const PAGE = 4096n
/** The first MiB is the firmware's. */
export const LOW_BYTES = 1n << 20n
/** Of memory the driver keeps this part for tables, and no more than the most. */
const TABLES_PART = 8n
const TABLES_MOST = 16n << 20n

function tablesOf(ramBytes: bigint): TableArea {
  const part = ramBytes / TABLES_PART
  const bytes = ((part < TABLES_MOST ? part : TABLES_MOST) / PAGE) * PAGE
  return { gpa: ramBytes - bytes, bytes }
}

/** A description with its defaults, not yet checked for conflicts. */
export function completeX86(given: X86Input): X86Description {
  const ramBytes = given.ramBytes ?? X86_DEFAULTS.ramBytes
  const { iommu } = X86_DEFAULTS
  return {
    kind: 'x86',
    profile: given.profile ?? X86_DEFAULTS.profile,
    ramBytes,
    cpus: given.cpus ?? X86_DEFAULTS.cpus,
    tables: given.tables ?? tablesOf(ramBytes),
    iommu: {
      name: given.iommu?.name ?? iommu.name,
      preset: given.iommu?.preset ?? iommu.preset,
      cap: given.iommu?.cap,
      ecap: given.iommu?.ecap,
      hostAddressBits: given.iommu?.hostAddressBits,
      driver: given.iommu?.driver ?? iommu.driver,
    },
    devices: (given.devices ?? []).map(completeDevice),
    processes: given.processes ?? [],
  }
}

/** The unit of a description as its registers show it. */
export const x86Shape = (iommu: X86UnitDescription): VtdShape => {
  const base: VtdShape = PRESETS[iommu.preset]
  return {
    version: base.version,
    cap: iommu.cap ?? base.cap,
    ecap: iommu.ecap ?? base.ecap,
    hostAddressBits: iommu.hostAddressBits ?? base.hostAddressBits,
  }
}

/** Memory below and above 4 GiB is one range here; tables must lie in it, behind the first MiB. */
export function x86Conflicts(machine: X86Description): DescriptionConflict[] {
  const { ramBytes, tables, iommu, devices, processes } = machine
  const claims = new Claims()
  const { conflicts } = claims
  if (ramBytes % PAGE !== 0n) conflicts.push({ path: ['ram'], message: 'memory must end on a 4 KiB page' })
  if (tables.gpa < LOW_BYTES || tables.gpa + tables.bytes > ramBytes) {
    conflicts.push({ path: ['tables'], message: 'tables must lie in memory, behind the first MiB' })
  }
  if (tables.gpa % PAGE !== 0n || tables.bytes % PAGE !== 0n) {
    conflicts.push({ path: ['tables'], message: 'tables must start and end on a 4 KiB page' })
  }
  claims.claim(`name ${iommu.name}`, `the IOMMU ${iommu.name}`, ['iommu', 'name'])
  deviceConflicts(devices, claims)
  processes.forEach(({ name }, i) => {
    claims.claim(`process ${name}`, `process ${name}`, ['processes', i, 'name'])
  })
  return conflicts
}
