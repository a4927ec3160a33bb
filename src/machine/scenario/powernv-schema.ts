import type { Erratum } from '../../bits/errata.ts'
import { floorLog2 } from '../../bits/u64.ts'
import { IODA_PLATFORMS, type IodaPlatformName } from '../../hw/ioda-platform.ts'
import type { EehDriver } from '../../kernel/eeh/eeh-device.ts'
import type { PowernvInput } from '../powernv/description.ts'
import { bytes, choice, count, flag, type Infer, list, map, optional, required } from '../schema/schema.ts'
import { nameText } from './call-schema.ts'
import { guestInput, guestSchema } from './guest-schema.ts'
import {
  hostDeviceSchema,
  PROFILE_DOC,
  pageSizeAmong,
  profileSchema,
  RAM_MOST,
} from './machine-schema-parts.ts'

const PLATFORMS = Object.keys(IODA_PLATFORMS) as IodaPlatformName[]

/** Shifts of the IOMMU pages that a TVE can name and some PHB takes. */
const PAGE_SHIFTS = [12, 16, 21, 24, 28, 30, 34]

const process = map('a process', {
  name: required(nameText('name'), 'How steps call it.'),
  memlock: optional(bytes('memlock'), 'RLIMIT_MEMLOCK; no limit if left out.'),
  ipcLock: optional(flag('ipcLock'), 'CAP_IPC_LOCK: no limit counts.'),
})

const pe = map('a PE', {
  pe: optional(count('pe', 0, 0xffff), 'PE number; its place in the list, from 1 on, if left out.'),
  group: optional(count('group', 0, 0xffff), 'IOMMU group; groups count through all PHBs if left out.'),
  bus: optional(count('bus', 0, 255), 'PCI bus; its place in the list, from 1 on, if left out.'),
  firstSegment: optional(count('firstSegment', 0, 7), 'P7IOC: its first segment of 256 MiB.'),
  segments: optional(count('segments', 0, 8), 'P7IOC: how many segments; 1 if left out.'),
  kernelDriver: optional(flag('kernelDriver'), 'A driver of the host uses another device of the group.'),
  devices: optional(list('devices', hostDeviceSchema, { maxItems: 256 }), 'Bus masters of the PE.'),
})

const phb = map('a PHB', {
  name: optional(nameText('name'), 'How reports call it; phb and its place in the list if left out.'),
  platform: optional(choice('platform', PLATFORMS), 'What chip it is; PHB4 if left out.'),
  domain: optional(count('domain', 0, 0xffff), 'PCI domain; its place in the list if left out.'),
  freeze: optional(
    choice('freeze', ['pe', 'none']),
    'What a DMA that cannot be carried out freezes: its PE, as hardware does, or nothing.',
  ),
  errorInterrupt: optional(
    flag('errorInterrupt'),
    'A freeze interrupts the kernel; so if left out, else it is noticed by reads of all ones only.',
  ),
  cacheEntries: optional(
    count('cacheEntries', 1, 1 << 20),
    'Entries of the TCE cache; no bound if left out.',
  ),
  pageSizes: optional(
    list('pageSizes', pageSizeAmong(PAGE_SHIFTS), { minItems: 1, maxItems: 16 }),
    'IOMMU page sizes that firmware lists; those of the platform if left out. P7IOC: the smallest is that of the tables of the kernel.',
  ),
  killsWholePe: optional(
    flag('killsWholePe'),
    'Firmware turns kills of pages into kills of the PE; as the firmware of the platform does if left out.',
  ),
  m32Base: optional(
    count('m32Base', 0x1000_0000, 0xffff_0000),
    'Bus address of the 32-bit MMIO region: window 0 may be so large.',
  ),
  pes: optional(
    list('pes', pe, { maxItems: 256 }),
    'Partitionable endpoints; one without devices if left out.',
  ),
})

/** A bare-metal POWER host of a scenario file; everything but the kind has a default. */
export const powernvSchema = (errata: readonly Erratum[]) =>
  map(
    'the machine',
    {
      kind: required(choice('kind of machine', ['powernv']), 'A bare-metal POWER host.'),
      profile: optional(profileSchema(errata), PROFILE_DOC),
      ram: optional(bytes('ram', { min: 1n << 26n, max: RAM_MOST }), 'Physical memory of the host.'),
      hostPageShift: optional(choice('hostPageShift', [12, 16]), 'PAGE_SHIFT of the kernel.'),
      cpus: optional(count('cpus', 1, 2048), 'CPUs.'),
      eeh: optional(flag('eeh'), 'Whether the platform has EEH switched on; so if left out.'),
      tickMs: optional(
        count('tickMs', 1, 3_600_000),
        'Milliseconds of a tick, for the time-outs of EEH; 1000 if left out.',
      ),
      iotlbEntries: optional(
        count('iotlbEntries', 1, 1 << 20),
        'Maps that an IOTLB of vhost keeps (module parameter max_iotlb_entries); 2048 if left out.',
      ),
      processes: optional(
        list('processes', process, { minItems: 1, maxItems: 64 }),
        'Processes that are there from the start; the first one acts where a step names none. qemu if left out.',
      ),
      phbs: optional(list('phbs', phb, { maxItems: 31 }), 'PCI host bridges; one PHB4 if left out.'),
      guest: optional(
        guestSchema(errata),
        'A guest that QEMU runs in one of the processes: vmm start starts it.',
      ),
      inject: optional(
        map('inject', {
          alloc: optional(count('alloc', 1, 1e9), 'Which allocation of the kernel fails, from 1 on.'),
          regionGoing: optional(
            count('regionGoing', 1, 1e9),
            'Which first mapping of a region, from 1 on, finds that another CPU is giving the region back.',
          ),
        }),
        'What goes wrong in the kernel, once each; counted from the first step on.',
      ),
    },
    {
      vio: 'VIO devices belong to kind pseries',
      maxRam: 'memory is plugged in with kind pseries only',
      pageShift: 'a machine of kind powernv has no guest kernel: the page of the host is hostPageShift',
      hypertas: 'a machine of kind powernv has no hypervisor',
    },
  )

type DriverDocument = NonNullable<Infer<typeof hostDeviceSchema>['driver']>

const driverOf = ({ resume, ...driver }: DriverDocument): EehDriver => ({
  ...driver,
  ...(resume !== undefined && { hasResume: resume }),
})

type PowernvDocument = Infer<ReturnType<typeof powernvSchema>>

/** The description that a checked document of a POWER host stands for. */
export function powernvInput(doc: PowernvDocument): PowernvInput {
  const { ram, eeh, processes, phbs, guest, ...rest } = doc
  return {
    ...rest,
    ramBytes: ram,
    hasEeh: eeh,
    guest: guest && guestInput(guest),
    processes: processes?.map(({ name, memlock, ipcLock }) => ({
      name,
      memlockBytes: memlock,
      hasIpcLock: ipcLock,
    })),
    phbs: phbs?.map(({ pageSizes, pes, ...p }) => ({
      ...p,
      pageShifts: pageSizes?.map((s) => floorLog2(s)),
      pes: pes?.map(({ kernelDriver, devices, ...one }) => ({
        ...one,
        hasKernelDriver: kernelDriver,
        devices: devices?.map(({ driver, ...d }) => ({ ...d, driver: driver && driverOf(driver) })),
      })),
    })),
  }
}
