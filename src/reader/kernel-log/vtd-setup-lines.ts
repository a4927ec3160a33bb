import { kernelLine } from './line-format.ts'

const DMAR = ['DMAR: ', 'dmar: ', '']

/** What a unit is. */
export const UNIT = kernelLine(
  'vtd-unit',
  '{unit:word}: reg_base_addr {base:x} ver {major:d}:{minor:d} cap {cap:x} ecap {ecap:x}',
  {
    heads: ['DMAR: ', 'dmar: '],
    era: 'Linux',
    doc: 'A unit was found, with its capability registers.',
    example: '[    0.004000] DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c22260206 ecap f00f4e',
  },
)
/** Xen's and very old kernels' form. */
export const UNIT_OLD = kernelLine(
  'vtd-unit-old',
  'IOMMU {unit:d}: reg_base_addr {base:x} ver {major:d}:{minor:d} cap {cap:x} ecap {ecap:x}',
  {
    heads: DMAR,
    era: 'Linux to 4.2',
    doc: 'A unit was found, with its capability registers.',
    example: '[    0.031180] dmar: IOMMU 0: reg_base_addr fed90000 ver 1:0 cap c0000020e60262 ecap f0101a',
  },
)

/** The mapping of a page met an entry that is there already. */
export const ALREADY_SET = kernelLine(
  'vtd-already-set',
  'ERROR: DMA PTE for vPFN 0x{page:x} already set (to {old:x} not {value:x})',
  {
    heads: DMAR,
    era: 'Linux',
    doc: 'The driver maps a page where an entry stands already: mapped twice, or not unmapped before. Page and entries are hexadecimal.',
    example: '[   17.488272] DMAR: ERROR: DMA PTE for vPFN 0xf1f80 already set (to f1f80003 not 12bea5803)',
  },
)

/** A mapping beyond what the domain can translate. */
export const WIDTH = kernelLine(
  'vtd-width',
  '{who:text}: iommu width ({width:d}) is not sufficient for the mapped address ({address:x})',
  {
    heads: DMAR,
    era: 'Linux',
    doc: 'A mapping beyond the width of the unit was refused.',
    example:
      '[  880.100000] DMAR: intel_iommu_map: iommu width (39) is not sufficient for the mapped address (7fc800000000)',
  },
)

/** Units of one machine that are not alike. */
export const INCONSISTENT = kernelLine('vtd-inconsistent', 'IOMMU feature {feature:word} inconsistent', {
  heads: DMAR,
  era: 'Linux 5.12 on',
  doc: 'The units of the machine do not all have this feature, so that it is used nowhere.',
  example: '[    0.610000] DMAR: IOMMU feature pgsel_inv inconsistent',
})

export const ENABLED = kernelLine('vtd-enabled', 'IOMMU enabled', {
  heads: ['DMAR: ', 'Intel-IOMMU: '],
  era: 'Linux',
  doc: 'DMA remapping was asked for on the command line.',
  example: '[    0.000000] DMAR: IOMMU enabled',
})
export const RESERVED_MEMORY = kernelLine('vtd-rmrr', 'RMRR base: 0x{first:x} end: 0x{last:x}', {
  heads: DMAR,
  era: 'Linux',
  doc: 'Memory that the firmware says a device goes on using.',
  example: '[    0.004000] DMAR: RMRR base: 0x0000009d800000 end: 0x0000009fffffff',
})
export const IDENTITY_MAP = kernelLine(
  'vtd-identity-map',
  'Setting identity map for device {device:sbdf} [0x{first:x} - 0x{last:x}]',
  {
    heads: ['DMAR: ', 'IOMMU: ', 'dmar: '],
    era: 'Linux to 5.x',
    doc: 'Memory that the kernel maps one to one for a device at its start: what an RMRR names, and the first 16 MiB for the LPC bridge.',
    example: '[    0.537530] DMAR: Setting identity map for device 0000:00:1d.0 [0xbdea8000 - 0xbdeb6fff]',
  },
)
export const QUEUED = kernelLine('vtd-queued', '{unit:word}: Using Queued invalidation', {
  heads: ['DMAR: ', 'dmar: '],
  era: 'Linux',
  doc: 'The driver invalidates by the queue of the unit.',
  example: '[    0.761928] DMAR: dmar0: Using Queued invalidation',
})
export const POLICY = kernelLine(
  'iommu-policy',
  'iommu: DMA domain TLB invalidation policy: {policy:word} mode{more:text}',
  {
    era: 'Linux 5.15 on',
    doc: 'Whether IOTLBs are invalidated when a page is unmapped (strict), or later (lazy).',
    example:
      '[    0.746379] iommu: DMA domain TLB invalidation policy: strict mode (set via kernel command line)',
  },
)
export const DEFAULT_DOMAIN = kernelLine('iommu-default-domain', 'iommu: Default domain type: {type:text}', {
  era: 'Linux 5.9 on',
  doc: 'Whether devices are translated or passed through, where nothing else is said.',
  example: '[    0.746349] iommu: Default domain type: Translated ',
})

/** The firmware's tables contradict themselves, or the machine. */
export const FIRMWARE_BUG = kernelLine('vtd-firmware-bug', '[Firmware Bug]: {text:text}', {
  heads: ['DMAR: ', 'dmar: '],
  era: 'Linux',
  doc: 'The kernel found the ACPI table DMAR wrong.',
  example:
    '[    0.004000] DMAR: [Firmware Bug]: RMRR entry for device 02:00.0 is broken - applying workaround',
})

/** What each start says, and no fault depends on. */
const ROUTINE = [
  ['host-width', 'Host address width {bits:d}', 'Host address width 39'],
  ['drhd', 'DRHD base: 0x{base:x} flags: 0x{flags:x}', 'DRHD base: 0x000000fed90000 flags: 0x0'],
  ['atsr', 'ATSR flags: 0x{flags:x}', 'ATSR flags: 0x1'],
  ['absent', 'No {what:word} found', 'No RMRR found'],
  ['setting-rmrr', 'Setting RMRR:', undefined],
  ['lpc', 'Prepare 0-16MiB unity mapping for LPC', undefined],
  ['started', 'Intel(R) Virtualization Technology for Directed I/O', undefined],
  ['no-scalable', 'VT-d Scalable Mode not enabled, no PASID allocation', undefined],
  ['scalable', 'Enable scalable mode if hardware supports', undefined],
  ['no-batching', 'IOMMU batching disallowed due to virtualization', undefined],
  ['registers', '{unit:word}: Using Register based invalidation', 'dmar0: Using Register based invalidation'],
] as const

const ROUTINE_LINES = ROUTINE.map(([id, template, example]) =>
  kernelLine(`vtd-${id}`, template, {
    heads: ['DMAR: ', 'dmar: ', 'IOMMU: '],
    era: 'Linux',
    doc: 'A step of the start of the driver.',
    example: `[    0.871761] DMAR: ${example ?? template}`,
  }),
)

const IR_LINES = [
  kernelLine('vtd-ir-ioapic', 'IOAPIC id {id:d} under DRHD base  0x{base:x} IOMMU {unit:d}', {
    heads: ['DMAR-IR: '],
    era: 'Linux',
    doc: 'The unit that remaps the interrupts of an IOAPIC.',
    example: '[    0.004000] DMAR-IR: IOAPIC id 0 under DRHD base  0xfed90000 IOMMU 0',
  }),
  kernelLine('vtd-ir-enabled', 'Enabled IRQ remapping in {mode:word} mode', {
    heads: ['DMAR-IR: '],
    era: 'Linux',
    doc: 'Interrupts are remapped.',
    example: '[    0.008000] DMAR-IR: Enabled IRQ remapping in xapic mode',
  }),
] as const

export const VTD_SETUP_LINES = [
  UNIT,
  UNIT_OLD,
  ALREADY_SET,
  WIDTH,
  INCONSISTENT,
  ENABLED,
  RESERVED_MEMORY,
  IDENTITY_MAP,
  QUEUED,
  POLICY,
  DEFAULT_DOMAIN,
  FIRMWARE_BUG,
  ...ROUTINE_LINES,
  ...IR_LINES,
] as const
