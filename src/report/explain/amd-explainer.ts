import { hex } from '../../bits/u64.ts'
import {
  AMD_COMMAND,
  AMD_ENTRY,
  AMD_EVENT,
  AMD_EVENT_OF,
  AMD_LINES,
  AMD_OVERFLOW,
  AMD_RESTART,
  AMD_SPLIT,
  AMD_SPLIT_OF,
  AMD_SUPPRESSED,
  AMD_TIMEOUT,
} from '../../reader/kernel-log/amd-lines.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import type { FamilyExplainer, FaultField, FaultGroup, FaultLog, FaultWords } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'
import { identified } from './vtd-fault-words.ts'

/** Bits of `flags` of an IO_PAGE_FAULT. (AMD 48882, IO_PAGE_FAULT Event; Linux amd_iommu_types.h EVENT_FLAG_*.) */
const FLAG = { GN: 0x1, NX: 0x2, US: 0x4, I: 0x8, PR: 0x10, RW: 0x20, PE: 0x40, RZ: 0x80, TR: 0x100 } as const
type Flag = keyof typeof FLAG
const FLAG_NAMES = Object.keys(FLAG) as Flag[]
const KNOWN = Object.values(FLAG).reduce((all, bit) => all | bit, 0)

/** Addresses that HyperTransport keeps for itself; drivers map nothing there (Linux drivers/iommu/amd/iommu.c). */
const HT_FIRST = 0xfd_0000_0000n
const HT_LAST = 0xff_ffff_ffffn
/** Addresses are printed with their upper bits as the unit extends them. */
const ADDRESS_MASK = 0xff_ffff_ffffn

const EVENTS: Readonly<Record<string, string>> = {
  ILLEGAL_DEV_TABLE_ENTRY: 'The device table entry of the device is not valid.',
  IO_PAGE_FAULT: '',
  DEV_TAB_HARDWARE_ERROR: 'The unit could not read the device table entry of the device.',
  PAGE_TAB_HARDWARE_ERROR: 'The unit could not read a page table of the device.',
  ILLEGAL_COMMAND_ERROR: 'The unit met a command that it does not know, and has stopped taking commands.',
  COMMAND_HARDWARE_ERROR: 'The unit could not read a command, and has stopped taking commands.',
  IOTLB_INV_TIMEOUT:
    'The device did not answer an invalidation of its own TLB (ATS) in time: it is gone, or hangs.',
  INVALID_DEVICE_REQUEST:
    'The device sent a request that the unit does not take from it: to addresses that are no memory, or of a kind that is not enabled.',
  INVALID_PPR_REQUEST: 'The device asked for a page in a way that the unit does not take.',
  RMP_PAGE_FAULT:
    'The device reached memory that the reverse map table (RMP, SEV-SNP) does not let it: private memory of a guest, or a page whose state or size differs there.',
  RMP_HW_ERROR:
    'The unit met an error of the hardware when it looked into the reverse map table (RMP, SEV-SNP).',
  'Device not attached to domain properly':
    'A device sent a request while the kernel had no page tables (domain) for it. The next line names the device.',
}

/** Events whose lines begin with the device that asked; all others begin with the unit. (Linux v6.1 iommu.c) */
const OF_DEVICE: ReadonlySet<string> = new Set(['IO_PAGE_FAULT', 'RMP_PAGE_FAULT', 'RMP_HW_ERROR'])
/** Events after which commands of the unit do not complete. */
const OF_COMMANDS: ReadonlySet<string> = new Set([
  'ILLEGAL_COMMAND_ERROR',
  'COMMAND_HARDWARE_ERROR',
  'IOTLB_INV_TIMEOUT',
])
const RMP = 'RMP_'

/** First word of what stands in the place of a name where the kernel says that a device has no domain. */
const NOT_A_NAME = 'Device'

const PAIRS = /(\w{1,16})=0x([0-9a-f]{1,16})/g
const DEVICE = /(?:^|\s)device=((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/

/** What the kernel prints in the place of a driver where none is bound: the bus. (Linux dev_driver_string) */
const BUS = 'pci'

/** An event, whatever its line was. */
interface AmdEvent {
  readonly event: string
  readonly device: string | undefined
  /** The unit, where the line names it. */
  readonly unit: string | undefined
  readonly driver: string | undefined
  readonly numbers: ReadonlyMap<string, bigint>
}

function eventOf(event: string, details: string, driver?: string, own?: string): AmdEvent {
  const numbers = new Map<string, bigint>()
  for (const [, name = '', digits] of details.matchAll(PAIRS)) numbers.set(name, BigInt(`0x${digits}`))
  const named = DEVICE.exec(details)?.[1]
  return {
    event: event === NOT_A_NAME ? `${event} ${details}` : event,
    device: named ?? (OF_DEVICE.has(event) ? own : undefined),
    unit: OF_DEVICE.has(event) ? undefined : own,
    // The driver of a page fault is that of the device; of any other event the unit prints.
    driver: named === undefined && OF_DEVICE.has(event) && driver !== BUS ? driver : undefined,
    numbers,
  }
}

/** What the flags of a blocked interrupt say: PR is that its remapping entry lets it pass. */
function blockedText(has: (flag: Flag) => boolean): string {
  if (!has('PR')) return 'the interrupt remapping entry is not set up, or blocks the interrupt'
  if (has('RZ')) return 'the interrupt remapping entry has reserved bits set'
  return 'the interrupt remapping entry is there; the flags do not say what was wrong'
}

/** What the flags of a page fault say. */
function flagsText(flags: number): { what: string; why: string; set: string } {
  const has = (flag: Flag): boolean => (flags & FLAG[flag]) !== 0
  const set = FLAG_NAMES.filter(has).join(' ') || 'none'
  const rest = flags & ~KNOWN
  const isPresent = has('PR')
  const kind = has('I') ? 'interrupt' : has('TR') ? 'translation request' : has('RW') ? 'write' : 'read'
  const what = kind === 'read' && !isPresent ? 'read, or a write that the unit does not tell apart' : kind
  const why = has('I')
    ? blockedText(has)
    : !isPresent
      ? 'no page is mapped at the address'
      : has('RZ')
        ? 'an entry has reserved bits set, or a level that cannot be'
        : has('PE')
          ? 'the page is mapped, but not for this'
          : 'the page is mapped; the flags do not say what was wrong'
  return { what, why, set: rest === 0 ? set : `${set}, and bits that are not known: ${hex(rest)}` }
}

/** Decodes events of AMD's units. There is no model of them. */
export class AmdExplainer implements FamilyExplainer {
  readonly family = AMD_LINES.id
  /** What the words of a command or an entry belong to. */
  #last: FaultGroup | undefined

  take(line: FoundLine, log: FaultLog): void {
    const suppressed = valuesOf(AMD_SUPPRESSED, line)
    if (suppressed !== undefined) log.suppress(line, suppressed.lines)
    const plain = valuesOf(AMD_EVENT, line)
    if (plain !== undefined) this.#event(eventOf(plain.event, plain.details), line, log)
    const own = valuesOf(AMD_EVENT_OF, line)
    if (own !== undefined) this.#event(eventOf(own.event, own.details, own.driver, own.device), line, log)
    const split = valuesOf(AMD_SPLIT, line)
    if (split !== undefined) {
      const event = line.text.slice(0, line.text.indexOf(' '))
      this.#event(eventOf(event, `device=${split.details}`), line, log)
    }
    for (const template of AMD_SPLIT_OF) {
      const of = valuesOf(template, line)
      if (of === undefined) continue
      const event = line.text.slice(line.text.indexOf(': ') + 2).split(' ')[0] ?? ''
      this.#event(eventOf(event, of.details, of.driver, of.device), line, log)
    }
    const command = valuesOf(AMD_COMMAND, line)
    const word = command ?? valuesOf(AMD_ENTRY, line)
    if (word !== undefined && this.#last?.times === 1) {
      const of = command === undefined ? 'the device table entry' : 'the command'
      log.explain(this.#last, { line: line.line, text: `word ${word.index} of ${of} is ${hex(word.value)}` })
    }
    if (valuesOf(AMD_OVERFLOW, line) !== undefined || valuesOf(AMD_RESTART, line) !== undefined)
      this.#state('overflow', line, log)
    if (valuesOf(AMD_TIMEOUT, line) !== undefined) this.#state('timeout', line, log)
  }

  #event(event: AmdEvent, line: FoundLine, log: FaultLog): void {
    const { numbers } = event
    const device = event.device === undefined ? undefined : shortDevice(event.device)
    const of = device ?? event.unit
    const name = of === undefined ? event.event : `${event.event} of ${of}`
    const address = numbers.get('address') ?? numbers.get('gpa') ?? numbers.get('spa')
    const flags = Number(numbers.get('flags') ?? 0n)
    const domain = numbers.get('domain')
    log.remember('amd-event', line, name)
    if (OF_COMMANDS.has(event.event)) log.remember('amd-commands', line, name)
    this.#last = log.fault({
      key: `${event.event} ${of ?? ''} ${domain ?? ''} ${flags}`,
      line,
      ...(address !== undefined && { address }),
      ...(device !== undefined && {
        identify: () => identified(device, address === undefined ? [] : [address], log),
      }),
      describe: () => (event.event === 'IO_PAGE_FAULT' ? pageFault(event, log) : otherEvent(event, log)),
    })
  }

  #state(what: 'overflow' | 'timeout', line: FoundLine, log: FaultLog): void {
    const isOverflow = what === 'overflow'
    log.fault({
      key: what,
      line,
      describe: () => ({
        kind: 'queue',
        title: isOverflow ? 'a log of an AMD unit was full' : 'an AMD unit did not complete its commands',
        fields: {},
        rows: [
          [
            'means',
            isOverflow
              ? 'More entries came than the log of the unit holds: the lines here are not all that happened.'
              : 'Invalidations are late or do not come to an end: devices may go on using what is unmapped.',
          ],
        ],
        // A page fault keeps no command from its end.
        because: log.earlier(isOverflow ? 'amd-event' : 'amd-commands').slice(0, 3),
        checks: [
          isOverflow
            ? 'look at the first events before this line: the storm begins there'
            : 'is a device gone, or hung, that has a TLB of its own (ATS)? The unit waits for its answer',
        ],
      }),
    })
  }
}

const fieldsOf = ({ event, numbers }: AmdEvent): Record<string, FaultField> => {
  const fields: Record<string, FaultField> = { event }
  for (const [name, value] of numbers) {
    if (name === 'address' || name === 'gpa' || name === 'spa') continue
    fields[name] = value <= 0xffff_ffffn ? Number(value) : hex(value)
  }
  return fields
}

function pageFault(event: AmdEvent, log: FaultLog): FaultWords {
  const device = shortDevice(event.device ?? '')
  const flags = Number(event.numbers.get('flags') ?? 0n)
  const { what, why, set } = flagsText(flags)
  const domain = event.numbers.get('domain')
  const isInterrupt = (flags & FLAG.I) !== 0
  return {
    kind: isInterrupt ? 'interrupt' : 'dma',
    title: `${isInterrupt ? 'interrupt' : 'DMA'} of ${device || 'a device'} was blocked`,
    ...(device !== '' && { device }),
    fields: { ...fieldsOf(event), driver: event.driver ?? null },
    rows: [
      ['flags', `${hex(flags)}: ${set}`],
      ['access', what],
      ['means', `${why[0]?.toUpperCase()}${why.slice(1)}.`],
      ...(domain === undefined ? [] : [['domain', `${hex(domain)}`] as const]),
      ...(event.driver === undefined ? [] : [['driver', event.driver] as const]),
    ],
    because: log.earlier('cause', device).slice(0, 4),
    checks: [
      `lspci -nnks ${device}: what the device is, and which driver has it`,
      ...(isInterrupt
        ? [
            'does it come once at boot? Then an interrupt of the kernel or the firmware before was still on its way',
            'is it an IOAPIC or HPET (ACPI table IVRS; often 00:14.0)? Then the firmware may name its source wrongly: ivrs_ioapic= and ivrs_hpet= put it right',
            `was ${device || 'the device'} reset, or its MSI rewritten behind the kernel's back (firmware, VFIO user)?`,
          ]
        : [
            'does it come once at boot, before the driver has the device? Then the firmware, or the kernel before (kexec), left it running',
            'record iommu:map, iommu:unmap and iommu:io_page_fault (/sys/kernel/tracing/events/iommu): was the address ever mapped, and was it unmapped before?',
          ]),
    ],
  }
}

function otherEvent(event: AmdEvent, log: FaultLog): FaultWords {
  const device = event.device === undefined ? undefined : shortDevice(event.device)
  const of = device ?? event.unit
  const address = event.numbers.get('address')
  const low = address === undefined ? undefined : address & ADDRESS_MASK
  const isReserved = low !== undefined && low >= HT_FIRST && low <= HT_LAST
  const means = EVENTS[event.event]
  return {
    kind: 'event',
    title: `${event.event}${of === undefined ? '' : ` of ${of}`}`,
    ...(device !== undefined && { device }),
    fields: { ...fieldsOf(event), unit: event.unit ?? null, driver: event.driver ?? null },
    rows: [
      ['means', means ?? 'An event that this decoder does not know.'],
      ...(event.numbers.has('gpa') ? [['which', 'the address is one of the guest (gpa)'] as const] : []),
      ...(event.unit === undefined ? [] : [['unit', event.unit] as const]),
      ...(event.driver === undefined ? [] : [['driver', event.driver] as const]),
      ...(isReserved
        ? [
            [
              'reserved',
              `${hex(low)} (40 bits) lies in ${hex(HT_FIRST)}-${hex(HT_LAST)}, which is kept for HyperTransport: interrupts, configuration, and no memory`,
            ] as const,
          ]
        : []),
    ],
    because: log.earlier('cause', device).slice(0, 4),
    checks: [
      ...(device === undefined ? [] : [`lspci -nnks ${device}: what the device is, and which driver has it`]),
      ...(event.event.startsWith(RMP)
        ? [
            'is the device given to a guest of SEV-SNP? It may only reach memory that the guest shares (bounce buffers, swiotlb)',
          ]
        : []),
      ...(event.event === 'ILLEGAL_COMMAND_ERROR'
        ? ['the lines AMD-Vi: CMD[0] to CMD[3] behind it are the command, as the kernel reads it']
        : []),
      'read the event in the manual of the unit (AMD 48882, "Event Logging"): the bits of flags differ from event to event',
    ],
  }
}
