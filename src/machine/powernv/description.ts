import { U64_MAX } from '../../bits/u64.ts'
import type { IodaPlatformName } from '../../hw/ioda-platform.ts'
import type { EehDriver } from '../../kernel/eeh/eeh-device.ts'
import {
  Claims,
  DEVICE_KINDS,
  type DescriptionConflict,
  type DeviceKind,
  type Loose,
} from '../description-parts.ts'
import { completeGuest, type GuestDescription, type GuestInput, guestConflicts } from './guest-description.ts'

/** A process of the host that is there from the start; `proc fork` makes others. */
interface ProcessDescription {
  readonly name: string
  /** RLIMIT_MEMLOCK. */
  readonly memlockBytes: bigint
  /** CAP_IPC_LOCK: no limit counts. */
  readonly hasIpcLock: boolean
}

/** A device below a PE. */
export interface PeDeviceDescription {
  /** How operations and reports call it; no two devices of a machine share a name. */
  readonly name: string
  readonly kind: DeviceKind
  /** PCI device number, 0 to 31. */
  readonly slot: number
  /** PCI function number, 0 to 7. */
  readonly function: number
  /** The bus addresses that the hardware can form. */
  readonly dmaMask: bigint
  /** PCI vendor << 16 | device: error handling treats some in a way of their own. */
  readonly pciId: number
  /** The driver of the host that is bound to it; left out, VFIO hands the device to processes. */
  readonly driver?: EehDriver
}

/** A partitionable endpoint: one PCI bus, and one IOMMU group. */
export interface PeDescription {
  /** PE number, as the kernel and the TCE cache know it. */
  readonly pe: number
  /** Number of the IOMMU group: /dev/vfio/N. */
  readonly group: number
  /** Number of its PCI bus. */
  readonly bus: number
  /** P7IOC: segments of 256 MiB that it has, from `firstSegment` on; 0 elsewhere. */
  readonly firstSegment: number
  readonly segments: number
  /** A driver of the host kernel that uses the DMA API is bound to another device of the group. */
  readonly hasKernelDriver: boolean
  readonly devices: readonly PeDeviceDescription[]
}

/** A PCI host bridge of a bare-metal POWER host. */
export interface IodaPhbDescription {
  readonly name: string
  readonly platform: IodaPlatformName
  /** PCI domain: the first number of its devices' addresses. */
  readonly domain: number
  /** A DMA that cannot be carried out freezes its PE, as software can (`pe`), or nothing does (`none`). */
  readonly freeze: 'pe' | 'none'
  /**
   * A freeze or fence interrupts the kernel; else it is noticed by reads only. (skiboot hw/phb3.c, phb4.c; earlier
   * versions for PHB4 switch it off: DISABLE_ERR_INTS)
   */
  readonly errorInterrupt: boolean
  /** Entries of the TCE cache; no bound where it is left out. */
  readonly cacheEntries?: number
  /**
   * IOMMU page sizes that firmware lists, as shifts; those of the platform where it is left out. On P7IOC the
   * smallest is that of the kernel's tables, 4 KiB on Linux; with 64 KiB a container borrows tables such as the
   * kernel of a pseries host has.
   */
  readonly pageShifts?: readonly number[]
  /** Firmware turns kills of pages into kills of the PE; what the platform's firmware does where it is left out. */
  readonly killsWholePe?: boolean
  /** Bus address of the 32-bit MMIO region: DMA window 0 may be so large. */
  readonly m32Base: number
  readonly pes: readonly PeDescription[]
}

/** What goes wrong in the host kernel, once each; counted from the start of the machine's first operation. */
interface Injections {
  /** Which allocation fails, from 1 on. */
  readonly alloc?: number
  /**
   * Which first mapping of a region, from 1 on, meets another CPU that is giving the region back: the mapping is
   * refused. The call of that CPU comes after this one, as an operation of its own. Stands for a race, because
   * operations run one after the other.
   */
  readonly regionGoing?: number
}

/** Everything that is fixed about a bare-metal POWER host before its first operation. Plain data, complete. */
export interface PowernvDescription {
  readonly kind: 'powernv'
  /** Which errata it has: see `resolveProfile`. */
  readonly profile: string
  /** Physical memory; what is never written costs nothing. */
  readonly ramBytes: bigint
  /** PAGE_SHIFT of the kernel. */
  readonly hostPageShift: 12 | 16
  readonly cpus: number
  /** Whether the platform has EEH switched on. */
  readonly hasEeh: boolean
  /** Milliseconds of a tick: time-outs of error handling are in real time. */
  readonly tickMs: number
  /** Maps that an IOTLB of vhost keeps (module parameter max_iotlb_entries). */
  readonly iotlbEntries: number
  readonly processes: readonly ProcessDescription[]
  readonly phbs: readonly IodaPhbDescription[]
  /** A guest that QEMU runs in one of the processes. */
  readonly guest?: GuestDescription
  readonly inject?: Injections
}

type DeviceInput = Loose<PeDeviceDescription> & { readonly name: string; readonly kind: DeviceKind }
type PeInput = Omit<Loose<PeDescription>, 'devices'> & {
  readonly devices?: readonly DeviceInput[] | undefined
}
type PhbInput = Omit<Loose<IodaPhbDescription>, 'pes'> & { readonly pes?: readonly PeInput[] | undefined }
type ProcessInput = Loose<ProcessDescription> & { readonly name: string }

/** A description as a person writes it: what is left out is the default. */
export type PowernvInput = Omit<
  Loose<PowernvDescription>,
  'kind' | 'phbs' | 'processes' | 'guest' | 'inject'
> & {
  readonly kind: 'powernv'
  readonly processes?: readonly ProcessInput[] | undefined
  readonly phbs?: readonly PhbInput[] | undefined
  readonly guest?: GuestInput | undefined
  readonly inject?: Loose<Injections> | undefined
}

/** What a POWER host is where its description says nothing: a POWER9 with one group, and a VMM that may lock all. */
export const POWERNV_DEFAULTS = Object.freeze({
  profile: 'linux-6.12.95',
  ramBytes: 1n << 32n,
  hostPageShift: 16,
  cpus: 1,
  hasEeh: true,
  tickMs: 1000,
  iotlbEntries: 2048,
  process: 'qemu',
  memlockBytes: U64_MAX,
  hasIpcLock: false,
  platform: 'PHB4',
  freeze: 'pe',
  errorInterrupt: true,
  m32Base: 0x8000_0000,
  /** Segments of 256 MiB that a PE of P7IOC gets. */
  segments: 1,
} as const)

/** log2 of the largest IOMMU page with which the table of a segment fills a page of its own. */
const SEGMENT_PAGE_SHIFT_MAX = 16
/** Segments of 256 MiB below the 32-bit MMIO of a P7IOC. */
const SEGMENTS = 8

const peOf = (given: PeInput, at: number, group: number, isP7: boolean): PeDescription => ({
  pe: given.pe ?? at + 1,
  group: given.group ?? group,
  bus: given.bus ?? at + 1,
  firstSegment: given.firstSegment ?? (isP7 ? at : 0),
  segments: given.segments ?? (isP7 ? POWERNV_DEFAULTS.segments : 0),
  hasKernelDriver: given.hasKernelDriver ?? false,
  devices: (given.devices ?? []).map((d, slot) => ({
    name: d.name,
    kind: d.kind,
    slot: d.slot ?? slot,
    function: d.function ?? 0,
    dmaMask: d.dmaMask ?? DEVICE_KINDS[d.kind].dmaMask,
    pciId: d.pciId ?? DEVICE_KINDS[d.kind].pciId,
    ...(d.driver && { driver: d.driver }),
  })),
})

function phbsOf(given: readonly PhbInput[]): IodaPhbDescription[] {
  let groups = 0
  return given.map((p, at) => {
    const platform = p.platform ?? POWERNV_DEFAULTS.platform
    return {
      name: p.name ?? `phb${at}`,
      platform,
      domain: p.domain ?? at,
      freeze: p.freeze ?? POWERNV_DEFAULTS.freeze,
      errorInterrupt: p.errorInterrupt ?? POWERNV_DEFAULTS.errorInterrupt,
      ...(p.cacheEntries !== undefined && { cacheEntries: p.cacheEntries }),
      ...(p.pageShifts !== undefined && { pageShifts: [...new Set(p.pageShifts)].sort((a, b) => a - b) }),
      ...(p.killsWholePe !== undefined && { killsWholePe: p.killsWholePe }),
      m32Base: p.m32Base ?? POWERNV_DEFAULTS.m32Base,
      pes: (p.pes ?? [{}]).map((pe, i) => peOf(pe, i, groups++, platform === 'P7IOC')),
    }
  })
}

/** A description with its defaults, not yet checked for conflicts. */
export function completePowernv(given: PowernvInput): PowernvDescription {
  const processes = given.processes ?? [{ name: POWERNV_DEFAULTS.process }]
  return {
    kind: 'powernv',
    profile: given.profile ?? POWERNV_DEFAULTS.profile,
    ramBytes: given.ramBytes ?? POWERNV_DEFAULTS.ramBytes,
    hostPageShift: given.hostPageShift ?? POWERNV_DEFAULTS.hostPageShift,
    cpus: given.cpus ?? POWERNV_DEFAULTS.cpus,
    hasEeh: given.hasEeh ?? POWERNV_DEFAULTS.hasEeh,
    tickMs: given.tickMs ?? POWERNV_DEFAULTS.tickMs,
    iotlbEntries: given.iotlbEntries ?? POWERNV_DEFAULTS.iotlbEntries,
    processes: processes.map((p) => ({
      name: p.name,
      memlockBytes: p.memlockBytes ?? POWERNV_DEFAULTS.memlockBytes,
      hasIpcLock: p.hasIpcLock ?? POWERNV_DEFAULTS.hasIpcLock,
    })),
    phbs: phbsOf(given.phbs ?? [{}]),
    ...(given.guest && { guest: completeGuest(given.guest, processes[0]?.name ?? '') }),
    ...(given.inject && { inject: injectionsOf(given.inject) }),
  }
}

const injectionsOf = ({ alloc, regionGoing }: Loose<Injections>): Injections => ({
  ...(alloc !== undefined && { alloc }),
  ...(regionGoing !== undefined && { regionGoing }),
})

const hex = (n: number, digits: number): string => n.toString(16).padStart(digits, '0')

/** PCI address of a device, as VFIO and sysfs write it. */
export const pciAddress = (phb: IodaPhbDescription, pe: PeDescription, d: PeDeviceDescription): string =>
  `${hex(phb.domain, 4)}:${hex(pe.bus, 2)}:${hex(d.slot, 2)}.${d.function}`

type Path = readonly (string | number)[]

function segmentConflicts(phb: IodaPhbDescription, claims: Claims, at: Path): void {
  if (phb.platform === 'P7IOC' && (phb.pageShifts?.[0] ?? 0) > SEGMENT_PAGE_SHIFT_MAX) {
    const message = 'the kernel makes tables for P7IOC with the smallest page: 64 KiB at most'
    claims.conflicts.push({ path: [...at, 'pageSizes'], message })
  }
  phb.pes.forEach((pe, j) => {
    const path = [...at, 'pes', j]
    if (phb.platform !== 'P7IOC') {
      if (pe.segments > 0) {
        claims.conflicts.push({ path, message: `${phb.platform} has no segments: only P7IOC has` })
      }
      return
    }
    if (pe.segments === 0) claims.conflicts.push({ path, message: 'a PE of P7IOC has one segment or more' })
    if (pe.firstSegment + pe.segments > SEGMENTS) {
      claims.conflicts.push({ path, message: `segments end behind the ${SEGMENTS} of a P7IOC` })
    }
    for (let s = pe.firstSegment; s < pe.firstSegment + pe.segments; s++) {
      claims.claim(`segment ${s} of ${phb.name}`, `PE ${pe.pe}`, path)
    }
  })
}

/** All conflicts of a complete description: names, groups, PE numbers, PCI addresses and segments that two parts claim. */
export function powernvConflicts(machine: PowernvDescription): DescriptionConflict[] {
  const claims = new Claims()
  const page = 1n << BigInt(machine.hostPageShift)
  if (machine.ramBytes % page !== 0n) {
    claims.conflicts.push({ path: ['ram'], message: `memory must be whole pages of ${page} bytes` })
  }
  machine.processes.forEach(({ name }, i) => {
    claims.claim(`process ${name}`, 'the process before it', ['processes', i, 'name'])
  })
  machine.phbs.forEach((phb, i) => {
    const at = ['phbs', i]
    if (!claims.claim(`name ${phb.name}`, `PHB ${phb.name}`, [...at, 'name'])) return
    claims.claim(`PCI domain ${phb.domain}`, `PHB ${phb.name}`, [...at, 'domain'])
    phb.pes.forEach((pe, j) => {
      const path = [...at, 'pes', j]
      if (!claims.claim(`PE ${pe.pe} of ${phb.name}`, `entry ${j + 1} of the list`, [...path, 'pe'])) return
      claims.claim(`group ${pe.group}`, `PE ${pe.pe} of ${phb.name}`, [...path, 'group'])
      claims.claim(`bus ${pe.bus} of ${phb.name}`, `PE ${pe.pe}`, [...path, 'bus'])
      pe.devices.forEach((device, k) => {
        const who = `device ${device.name}`
        claims.claim(`name ${device.name}`, who, [...path, 'devices', k, 'name'])
        const address = pciAddress(phb, pe, device)
        claims.claim(`PCI address ${address}`, who, [...path, 'devices', k, 'slot'])
      })
    })
    segmentConflicts(phb, claims, at)
  })
  const { guest } = machine
  if (guest !== undefined) {
    const facts = {
      pageShift: machine.hostPageShift,
      processes: machine.processes.map(({ name }) => name),
      groups: machine.phbs.flatMap(({ pes }) => pes.map(({ group }) => group)),
      claims,
    }
    claims.conflicts.push(...guestConflicts(guest, facts))
  }
  return claims.conflicts
}
