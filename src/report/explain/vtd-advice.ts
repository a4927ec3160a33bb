import type { VtdReason } from './vtd-knowledge.ts'

/** What is asked about. */
export interface AdviceFor {
  readonly device: string
  readonly address: string
  readonly pasid: number | undefined
  /** Where x86 has its interrupts, the address lies. */
  readonly isInterruptRange: boolean
}

const INTERRUPTS_FIRST = 0xfee0_0000n
const INTERRUPTS_LAST = 0xfeef_ffffn
/** A write of four bytes there that has no PASID is an interrupt request. (VT-d manual, Interrupt Address Range.) */
export const isInterruptAddress = (address: bigint): boolean =>
  address >= INTERRUPTS_FIRST && address <= INTERRUPTS_LAST
/** What is said of a DMA request to that range, whatever the reason. */
export const INTERRUPT_RANGE =
  'the address lies in 0xfee00000-0xfeefffff, where x86 has its interrupts: a write of four bytes without PASID is an interrupt there and is not translated. This request was taken for DMA, and drivers map nothing there'

type Check = (about: AdviceFor) => string

const WHO: Check = ({ device }) => `lspci -nnks ${device}: what the device is, and which driver has it`
const MAPPED: Check = ({ address }) =>
  `record iommu:map and iommu:unmap (/sys/kernel/tracing/events/iommu) around the fault: was ${address} ever mapped, and was it unmapped before the fault came?`
const WRITE_DIRECTION: Check = () =>
  'is the buffer mapped with DMA_TO_DEVICE? Then the device may only read it'
const READ_DIRECTION: Check = () =>
  'is the buffer mapped with DMA_FROM_DEVICE? Then the device may only write it'
const LENGTH: Check = ({ address }) =>
  `does a mapping end just below ${address}? Then the device runs past the end of its buffer`
const MESSAGE: Check = ({ device }) =>
  `lspci -vvs ${device}: the address and data of its MSI or MSI-X. Does the device, or what emulates it, write the message with another size, or with a PASID?`
const DUMP: Check = () =>
  'a kernel of 5.16 or later with CONFIG_DMAR_DEBUG prints the tables of the address after each fault'
const BOOT_ONLY: Check = () =>
  'does it come only once, before the driver has the device? Then the firmware, or the kernel before (kexec, crash), left the device running'
const RESERVED: Check = () =>
  'dmesg | grep RMRR: a region that the firmware uses by this device, and does not declare, is missing there'
const ALIAS: Check = ({ device }) =>
  `does lspci list ${device}? Some devices send requests as a function that they do not have (drivers/pci/quirks.c, DMA aliases)`
const OWNER: Check = ({ device }) =>
  `who had ${device} last: a driver that was unbound, VFIO, a virtual machine? Was the device reset before it was handed on?`
const WIDTH: Check = () =>
  'compare the address with the width that the unit line of the log gives (39, 48 or 57 bits), and with the DMA mask of the driver'
const SVA: Check = () =>
  'was the PASID unbound, or did its process end, while the device still worked with it?'
const ENABLED: Check = () =>
  'did the driver enable what it uses: iommu_dev_enable_feature() for SVA and page requests, pci_enable_ats(), PASID?'
const MEMORY: Check = () =>
  'the unit read a table that is wrong, or not there: suspect memory corruption, or a table that was freed while it was in use'
const WRITER: Check = () =>
  'who writes these tables: the kernel never sets such bits. Another kernel before this one, a hypervisor with another idea of the unit, or a stray write'
const LEVELS: Check = () =>
  'compare with the capability registers in the unit line of the log: iommulator decode VTD_CAP 0x<cap>, iommulator decode VTD_ECAP 0x<ecap>'
const IR_BOOT: Check = () =>
  'does it come once at boot? Then an interrupt of the kernel or the firmware before was still on its way'
const IR_RESET: Check = ({ device }) =>
  `was ${device} reset, or its MSI rewritten behind the kernel's back (firmware, VFIO user)?`
const IR_OFF: Check = () =>
  'is it an IOAPIC or HPET (ACPI table DMAR)? Then the firmware may name its source wrongly'

/** What is asked of buffers: no buffer is mapped where interrupts are. */
const OF_BUFFERS: readonly Check[] = [MAPPED, WRITE_DIRECTION, READ_DIRECTION, LENGTH]

interface Advice {
  readonly means: string
  readonly checks: readonly Check[]
}

const advice = (means: string, ...checks: readonly Check[]): Advice => ({ means, checks })

const READ_MEANS =
  'A read met page tables that do not allow it: nothing is mapped there, or only for writing.'
const WRITE_MEANS =
  'A write met page tables that do not allow it: nothing is mapped there, or only for reading.'
const UNREADABLE = 'The unit could not read it from memory.'
const RESERVED_BITS = 'A bit is set in it that must be 0 on this unit.'

const NO_FAULT: Check = () =>
  'look at other lines of the same time: a unit that is switched off or reset, or a second reader of its records (a debugger, a crash kernel)'

/** Of each reason: what it means for who meets it, and what to look at next, the likeliest first. */
const ADVICE: Readonly<Record<number, Advice>> = {
  0: advice(
    'No unit gives this number of its own; "Software" is only what Linux prints for it. Device and address of such a record may be of no fault.',
    NO_FAULT,
    WHO,
  ),
  1: advice(
    'The unit has no tables for any device of this bus: no driver has set one up, or it came before that.',
    BOOT_ONLY,
    RESERVED,
    WHO,
  ),
  2: advice(
    'The unit has no tables for this device: none were set up, or they were taken away.',
    OWNER,
    ALIAS,
    WHO,
  ),
  3: advice(
    'The context entry asks for what the unit has not, or its first page table cannot be read.',
    LEVELS,
    WRITER,
    WHO,
  ),
  4: advice(
    'The address is beyond what the page tables of the device, or the unit, can translate.',
    WIDTH,
    WHO,
    MAPPED,
  ),
  5: advice(WRITE_MEANS, WHO, MAPPED, WRITE_DIRECTION, LENGTH),
  6: advice(READ_MEANS, WHO, MAPPED, READ_DIRECTION, LENGTH),
  7: advice('An entry points to a page table that the unit could not read.', MEMORY, DUMP, WHO),
  8: advice(
    'The unit could not read the root entry: the root table address is wrong.',
    WRITER,
    MEMORY,
    BOOT_ONLY,
  ),
  9: advice(
    'The root entry points to a context table that the unit could not read.',
    WRITER,
    MEMORY,
    BOOT_ONLY,
  ),
  10: advice(RESERVED_BITS, WRITER, LEVELS, MEMORY),
  11: advice(RESERVED_BITS, WRITER, LEVELS, MEMORY),
  12: advice(RESERVED_BITS, LEVELS, DUMP, WRITER),
  13: advice(
    'The device asked for a translation (ATS), or sent an address as translated, and its context entry allows neither.',
    ENABLED,
    WHO,
    OWNER,
  ),
  14: advice(
    'The address is translated to the range of interrupts, 0xfee00000-0xfeefffff: DMA must not reach it.',
    MAPPED,
    WHO,
    DUMP,
  ),
  32: advice('The interrupt request has a reserved bit set.', IR_RESET, WHO, IR_OFF),
  33: advice('The interrupt index is beyond the interrupt remapping table.', IR_RESET, IR_BOOT, WHO),
  34: advice(
    'The interrupt remapping entry of this index is not present: it was freed, or never set up.',
    IR_BOOT,
    IR_RESET,
    WHO,
  ),
  35: advice('The unit could not read the interrupt remapping entry.', MEMORY, WRITER, WHO),
  36: advice('A reserved bit of the interrupt remapping entry is set.', WRITER, MEMORY, WHO),
  37: advice(
    'An interrupt in the old format came, which is blocked where interrupts are remapped.',
    IR_RESET,
    IR_BOOT,
    WHO,
  ),
  38: advice(
    'The interrupt remapping entry is for another source: the device is not the one that the entry was made for.',
    IR_OFF,
    ALIAS,
    IR_RESET,
  ),
  48: advice(
    'The root table address names a mode that the unit has not, or that aborts all DMA.',
    WRITER,
    LEVELS,
    BOOT_ONLY,
  ),
  49: advice(
    'A request with a PASID, and the unit is in legacy mode: PASIDs need scalable mode (intel_iommu=sm_on).',
    ENABLED,
    WHO,
    LEVELS,
  ),
  50: advice(
    'A page request, and the unit is in legacy mode: page requests need scalable mode (intel_iommu=sm_on).',
    ENABLED,
    WHO,
    LEVELS,
  ),
  56: advice(UNREADABLE, WRITER, MEMORY, BOOT_ONLY),
  57: advice(
    'The unit has no tables for this half of the bus: no driver has set a device of it up, or it came before that.',
    BOOT_ONLY,
    RESERVED,
    WHO,
  ),
  58: advice(RESERVED_BITS, WRITER, LEVELS, MEMORY),
  64: advice(UNREADABLE, WRITER, MEMORY, BOOT_ONLY),
  65: advice(
    'The unit has no tables for this device: none were set up, or they were taken away.',
    OWNER,
    ALIAS,
    WHO,
  ),
  66: advice(RESERVED_BITS, WRITER, LEVELS, MEMORY),
  67: advice(
    'The context entry contradicts itself, or the unit: its PASID directory may be larger than the unit takes (PDTS).',
    WRITER,
    LEVELS,
    MEMORY,
  ),
  68: advice(
    'The device asked for a translation (ATS), or sent an address as translated, and its context entry allows neither (DTE is 0).',
    ENABLED,
    WHO,
    OWNER,
  ),
  69: advice(
    'The device sent a PASID, and its context entry does not allow PASIDs (PASIDE is 0).',
    ENABLED,
    WHO,
    OWNER,
  ),
  70: advice('The PASID is beyond the PASID directory of the device.', SVA, ENABLED, WHO),
  71: advice(
    'The device sent a page request, and its context entry allows none (PRE is 0).',
    ENABLED,
    WHO,
    OWNER,
  ),
  72: advice('The PASID that stands for requests without one (RID_PASID) is wrong.', WRITER, LEVELS, MEMORY),
  80: advice(UNREADABLE, MEMORY, WRITER, DUMP),
  81: advice(
    'No PASID table covers this PASID: nothing near it was ever bound for this device.',
    SVA,
    ENABLED,
    DUMP,
  ),
  82: advice(RESERVED_BITS, WRITER, LEVELS, DUMP),
  88: advice(UNREADABLE, MEMORY, WRITER, DUMP),
  89: advice(
    'Nothing is bound to this PASID for this device: it was never bound, or is unbound already.',
    SVA,
    ENABLED,
    DUMP,
  ),
  90: advice(RESERVED_BITS, WRITER, LEVELS, DUMP),
  91: advice('The PASID table entry asks for a translation that the unit has not.', LEVELS, WRITER, DUMP),
  92: advice('The device asked to execute, and the PASID does not allow it (ERE is 0).', ENABLED, WHO),
  93: advice('The device asked with privilege, and the PASID does not allow it (SRE is 0).', ENABLED, WHO),
  112: advice('An entry points to a first-level table that the unit could not read.', MEMORY, DUMP, WHO),
  113: advice(
    'No page is present at the address, and the device did not ask for it by a page request: not touched yet, swapped out, unmapped, or the process is gone.',
    SVA,
    ENABLED,
    MAPPED,
    DUMP,
  ),
  114: advice(RESERVED_BITS, LEVELS, DUMP, WRITER),
  115: advice(
    'The unit could not read the top of the first-level tables: the PASID table entry points to no memory, or to freed memory.',
    SVA,
    MEMORY,
    DUMP,
  ),
  116: advice('A first-level table lies beyond what the second level translates.', WIDTH, DUMP, WHO),
  117: advice(
    'The second level does not let the unit read the top of the first-level tables.',
    MAPPED,
    DUMP,
    WHO,
  ),
  118: advice('The second level does not let the unit read a first-level table.', MAPPED, DUMP, WHO),
  119: advice(
    'The second level does not let the unit set the accessed or dirty bit of a first-level entry.',
    MAPPED,
    DUMP,
    WHO,
  ),
  120: advice('An entry points to a second-level table that the unit could not read.', MEMORY, DUMP, WHO),
  121: advice(
    'Nothing is mapped at the address: its second-level entries allow neither to read nor to write.',
    WHO,
    MAPPED,
    LENGTH,
    DUMP,
  ),
  122: advice(RESERVED_BITS, LEVELS, DUMP, WRITER),
  123: advice(
    'The unit could not read the top of the second-level tables: the PASID table entry points to no memory, or to freed memory.',
    MEMORY,
    WRITER,
    DUMP,
  ),
  124: advice(
    'The unit had to set the accessed or dirty bit of a second-level entry, and may not: its walks do not snoop the caches of the processor.',
    LEVELS,
    DUMP,
  ),
  128: advice('The address is not canonical: its upper bits are not all alike.', WIDTH, SVA, WHO),
  129: advice('The page belongs to the kernel, and the device asked as a user.', SVA, WHO, DUMP),
  130: advice('The device asked to execute, and the page forbids it.', ENABLED, DUMP, WHO),
  131: advice(
    'The address is passed through without translation, and is beyond physical memory addresses.',
    WIDTH,
    WHO,
  ),
  132: advice(
    'The address is beyond what the second-level tables, or the unit, can translate.',
    WIDTH,
    WHO,
    MAPPED,
  ),
  133: advice(WRITE_MEANS, WHO, MAPPED, WRITE_DIRECTION, LENGTH),
  134: advice(READ_MEANS, WHO, MAPPED, READ_DIRECTION, LENGTH),
  135: advice(
    'The address is translated to the range of interrupts, 0xfee00000-0xfeefffff: DMA must not reach it.',
    MAPPED,
    WHO,
    DUMP,
  ),
  144: advice(
    'The unit had to set the accessed or dirty bit of a first-level entry, and may not: its walks do not snoop the caches of the processor.',
    LEVELS,
    DUMP,
  ),
}

const NO_DOMAIN =
  'Requests without PASID use PASID 0, and nothing stands there: no tables were set up for the device, or they were taken away.'

/**
 * The same for requests without PASID, of which Linux keeps the tables at PASID 0: those of the DMA API, or of VFIO. No
 * process stands behind them.
 */
const ADVICE_WITHOUT_PASID: Readonly<Record<number, Advice>> = {
  67: advice(
    'The context entry contradicts itself, or the unit: its PASID directory may be larger than the unit takes (PDTS), or the PASID that stands for requests without one (RID_PASID) lies beyond the directory.',
    WRITER,
    LEVELS,
    MEMORY,
  ),
  81: advice(NO_DOMAIN, OWNER, WHO, DUMP),
  89: advice(NO_DOMAIN, OWNER, WHO, DUMP),
  113: advice(
    'Nothing is mapped at the address: the tables of the device have no page there.',
    WHO,
    MAPPED,
    LENGTH,
    DUMP,
  ),
  115: advice(
    'The unit could not read the top of the first-level tables of the device: the entry points to no memory, or to freed memory.',
    MEMORY,
    OWNER,
    DUMP,
  ),
  128: advice(
    'The address is not canonical: no mapping of the kernel has such an address.',
    WIDTH,
    WHO,
    MAPPED,
  ),
  129: advice("The page is marked as the kernel's, and the device asked as a user.", WHO, MAPPED, DUMP),
}

const adviceOf = (code: number, pasid: number | undefined): Advice | undefined =>
  (pasid === undefined || pasid === 0 ? ADVICE_WITHOUT_PASID[code] : undefined) ?? ADVICE[code]

/** Whether there are words for a reason of its own. */
export const hasAdvice = (code: number): boolean => ADVICE[code] !== undefined

/** What a reason means; what the model says of it where there are no words for people. */
export const meansOf = (code: number, reason: VtdReason | undefined, pasid: number | undefined): string =>
  adviceOf(code, pasid)?.means ??
  reason?.doc ??
  'The number is no reason that the manual, or a Linux kernel, has a text for.'

export const checksOf = (code: number, about: AdviceFor): string[] =>
  [
    ...(about.isInterruptRange ? [MESSAGE] : []),
    ...(adviceOf(code, about.pasid)?.checks ?? [WHO, DUMP]).filter(
      (check) => !about.isInterruptRange || !OF_BUFFERS.includes(check),
    ),
  ].map((check) => check(about))
