import type { Erratum } from '../../bits/errata.ts'
import { floorLog2 } from '../../bits/u64.ts'
import {
  BOOT_OPTIONS,
  DEVICE_KINDS,
  type DeviceKind,
  HYPERTAS_FUNCTIONS,
  LISTENERS,
  MACHINE_DEFAULTS,
  type MachineInput,
} from '../description.ts'
import {
  bytes,
  bytesAmong,
  choice,
  count,
  flag,
  forms,
  type Infer,
  list,
  map,
  optional,
  required,
  text,
  word,
} from '../schema/schema.ts'
import { nameText } from './call-schema.ts'

const KINDS = Object.keys(DEVICE_KINDS) as DeviceKind[]

const device = map('a device', {
  name: required(nameText('name'), 'How steps and reports call it.'),
  kind: required(choice('kind of device', KINDS), 'What it is.'),
  slot: optional(count('slot', 0, 31), 'PCI device number; its place in the list if left out.'),
  function: optional(count('function', 0, 7), 'PCI function number.'),
  dmaMask: optional(word('dmaMask'), 'Bus addresses that the hardware can form.'),
})

/** Shifts of the page sizes that a DMA window can have (LoPAR, ibm,query-pe-dma-window). */
const PAGE_SHIFTS = [12, 16, 21, 24, 25, 26, 27, 28, 34]
const pageSize = bytesAmong(
  'IOMMU page size',
  PAGE_SHIFTS.map((shift) => 1n << BigInt(shift)),
)

const bareArea = map('bare', {
  gpa: required(bytes('gpa', { max: (1n << 46n) - 1n }), 'Guest physical address of the first TCE.'),
  bytes: required(bytes('bytes', { min: 4096n, max: 1n << 30n }), 'Length: 8 bytes a TCE.'),
})

const phb = map('a PHB', {
  name: optional(nameText('name'), 'How steps and reports call it; pci and its index if left out.'),
  index: optional(count('index', 0, 255), 'Its number in LIOBNs; its place in the list if left out.'),
  buid: optional(word('buid'), 'Bus unit id.'),
  pageSizes: optional(
    list('pageSizes', pageSize, {
      minItems: 1,
      maxItems: 16,
    }),
    'IOMMU page sizes that its windows may have.',
  ),
  ddw: optional(flag('ddw'), 'Whether the guest may ask for a second window.'),
  maxWindowEntries: optional(
    count('maxWindowEntries', 1, 2 ** 31),
    'IOMMU pages of the largest window that firmware gives; 2^31, as QEMU, if left out.',
  ),
  listener: optional(
    choice('listener', LISTENERS),
    'Who hears of changes behind its windows: unmap as vhost does, both as VFIO does; none if left out.',
  ),
  bare: optional(
    bareArea,
    'Without a hypervisor: where in guest memory its TCEs lie, which the kernel then writes itself.',
  ),
  devices: optional(list('devices', device, { maxItems: 256 }), 'Bus masters below it.'),
})

const vio = map('a VIO device', {
  name: required(nameText('name'), 'How steps and reports call it.'),
  reg: required(count('reg', 0, 0xffff_ffff), 'Its unit address, which is its LIOBN.'),
  window: optional(bytes('window', { min: 4096n, max: 1n << 40n }), 'Size of its DMA window.'),
})

const RAM_MOST = 1n << 46n
const range = map('a range of memory', {
  gpa: required(bytes('gpa', { max: RAM_MOST - 1n }), 'Guest physical address of the first byte.'),
  bytes: required(bytes('bytes', { min: 4096n, max: RAM_MOST }), 'How many bytes.'),
  owner: optional(nameText('owner'), 'Whom its pages belong to; guest if left out.'),
})

const ram = forms('ram', {
  scalar: bytes('ram', { min: 1n << 16n, max: RAM_MOST }),
  list: list('ram', range, { minItems: 1, maxItems: 64 }),
})

/** Exactly the texts that `resolveProfile` takes with these errata. */
function profilePattern(errata: readonly Erratum[]): string {
  const anyCase = (id: string) =>
    [...id]
      .map((c) =>
        /[a-z]/i.test(c)
          ? `[${c.toLowerCase()}${c.toUpperCase()}]`
          : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
      )
      .join('')
  const ids = errata.length > 0 ? [`-?(?:${errata.map((e) => anyCase(e.id)).join('|')})`] : []
  const part = `(?:${['intended', '(?:linux|qemu)-[0-9]+(?:\\.[0-9]+){0,3}', ...ids].join('|')})`
  return `^${part}(?:[+, ]+${part})*$`
}

/** The machine of a scenario file; everything has a default. */
export const machineSchema = (errata: readonly Erratum[]) =>
  map('the machine', {
    kind: optional(choice('kind of machine', ['pseries']), 'What it is.'),
    profile: optional(
      text('profile', {
        maxChars: 400,
        pattern: profilePattern(errata),
        form: 'intended, qemu-VERSION, linux-VERSION, or some of them and errata joined with +',
      }),
      'Whose deviations it has: intended, qemu-7.2, linux-6.1, several joined with +, single errata on (X11) or off (-X11).',
    ),
    ram: optional(ram, 'Guest memory: a size from address 0 on, or a list of ranges.'),
    maxRam: optional(
      bytes('maxRam', { max: RAM_MOST }),
      'First address past all memory that can be plugged in.',
    ),
    pmemory: optional(flag('pmemory'), 'Whether there is persistent memory (ibm,pmemory).'),
    pageShift: optional(choice('pageShift', [12, 16]), 'PAGE_SHIFT of the guest kernel.'),
    hostPageShift: optional(choice('hostPageShift', [12, 16]), 'PAGE_SHIFT of the host kernel.'),
    cpus: optional(count('cpus', 1, 2048), 'Virtual CPUs.'),
    hypertas: optional(
      list('hypertas', choice('firmware feature', HYPERTAS_FUNCTIONS), { maxItems: 64 }),
      'Strings of ibm,hypertas-functions.',
    ),
    bootOptions: optional(
      list('bootOptions', choice('boot option', BOOT_OPTIONS), { maxItems: 16 }),
      'Options on the guest kernel command line.',
    ),
    phbs: optional(list('phbs', phb, { maxItems: 31 }), 'PCI host bridges; one without devices if left out.'),
    vio: optional(list('vio', vio, { maxItems: 256 }), 'Virtual I/O devices.'),
  })

export type MachineDocument = Infer<ReturnType<typeof machineSchema>>

/** The description that a checked machine document stands for. */
export function machineInput(doc: MachineDocument): MachineInput {
  const { ram: memory, maxRam, pmemory, phbs, vio: vioDevices, ...rest } = doc
  return {
    ...rest,
    ram:
      typeof memory === 'object'
        ? memory.map((r) => ({ ...r, owner: r.owner ?? MACHINE_DEFAULTS.owner }))
        : memory,
    maxRamBytes: maxRam,
    hasPmemory: pmemory,
    phbs: phbs?.map(({ pageSizes, ...p }) => ({ ...p, pageShifts: pageSizes?.map((s) => floorLog2(s)) })),
    vio: vioDevices?.map(({ window, ...v }) => ({ ...v, windowBytes: window })),
  }
}
