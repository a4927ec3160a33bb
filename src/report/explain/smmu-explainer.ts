import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  SMMU_ACCESS,
  SMMU_CLIENT,
  SMMU_EVENT,
  SMMU_LINES,
  SMMU_OVERFLOW,
  SMMU_SKIPPED,
  SMMU_SUPPRESSED,
  SMMU_WORD,
} from '../../reader/kernel-log/smmu-lines.ts'
import type { FamilyExplainer, FaultLog, FaultWords } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'
import { unitFault } from './smmu-unit-words.ts'

/** Words of an event record. */
const WORDS = 4
/** Lines that may stand between the words of an event: other processors print as well. */
const GAP_MAX = 40

/** Names of events, and what each means. (Arm IHI 0070, Event queue; Linux arm-smmu-v3.h EVT_ID_*.) */
const EVENTS: Readonly<Record<number, readonly [name: string, means: string]>> = {
  1: ['F_UUT', 'The unit does not support this transaction.'],
  2: [
    'C_BAD_STREAMID',
    'The stream table has nothing for this stream: it is beyond the table or, where the table has two levels, Linux met no device of the part that it is in (one bus).',
  ],
  3: ['F_STE_FETCH', 'The unit could not read the stream table entry.'],
  4: [
    'C_BAD_STE',
    'The stream table entry is not valid, or contradicts itself. Linux fills the entries of devices without a driver: those abort without an event, or let all pass.',
  ],
  5: ['F_BAD_ATS_TREQ', 'The device asked for a translation (ATS), and the stream table does not allow it.'],
  6: ['F_STREAM_DISABLED', 'The stream is switched off for requests without a substream.'],
  7: ['F_TRANSL_FORBIDDEN', 'The device sent an address as translated, and may not.'],
  8: [
    'C_BAD_SUBSTREAMID',
    'The stream has no context descriptor for this substream id (PASID): it takes none, the id is beyond the table, or nothing near it was ever bound.',
  ],
  9: ['F_CD_FETCH', 'The unit could not read the context descriptor.'],
  10: ['C_BAD_CD', 'The context descriptor is not valid: for a substream, nothing is bound to that PASID.'],
  11: ['F_WALK_EABT', 'The unit could not read a page table.'],
  16: ['F_TRANSLATION', 'No page is mapped at the address.'],
  17: ['F_ADDR_SIZE', 'A page table leads to an address with too many bits.'],
  18: ['F_ACCESS', 'The page has its access flag clear, and the unit does not set it.'],
  19: ['F_PERMISSION', 'The page is mapped, but not for this access.'],
  32: ['F_TLB_CONFLICT', 'Two entries of the TLB cover one address.'],
  33: ['F_CFG_CONFLICT', 'Cached configuration contradicts itself.'],
  36: ['E_PAGE_REQUEST', 'A hint that a page will be wanted.'],
  37: ['F_VMS_FETCH', 'The unit could not read the structure of a virtual machine.'],
}

/** Its record has a substream always, and no bit that says so. */
const BAD_SUBSTREAM = 8
/** Events that tell of one access: the words behind the first hold its address and its kind. */
const HAS_ACCESS: ReadonlySet<number> = new Set([16, 17, 18, 19])
const CLASSES = [
  'the context descriptor was to be read',
  'a table of stage 1 was to be read',
  'the address itself',
  'reserved',
] as const

/** What to look at next of an event that is about tables of streams, not about pages. */
const CHECKS: Readonly<Record<number, readonly string[]>> = {
  2: [
    'does the kernel know a device of that id? One that it did not find, or that sends with the id of another (a bridge, a DMA alias), has no table',
    'does it come once at boot, or after a hot-unplug? Then the device was left running while Linux does not know it',
  ],
  4: [
    'who writes the stream table: another kernel before this one (kexec), a hypervisor, or a stray write?',
    'dmesg | grep arm-smmu-v3: an invalidation of the entry that did not complete leaves old words in the unit',
  ],
  8: ['was the PASID unbound, or did its process end, while the device still worked with it?'],
  10: ['was the PASID unbound, or did its process end, while the device still worked with it?'],
}
const PAGE_CHECKS = [
  'record iommu:map and iommu:unmap (/sys/kernel/tracing/events/iommu): was the address ever mapped, and was it unmapped before?',
  'does it come while a driver is unloaded or the machine shuts down? Then the device was not stopped before its buffers were unmapped',
] as const

const SSV = 1n << 11n
const STALL = 1n << 31n
const PRIVILEGED = 1n << 33n
const INSTRUCTION = 1n << 34n
const READ = 1n << 35n
const STAGE_2 = 1n << 39n

const SUBSTREAM_SHIFT = 12n
const STREAM_SHIFT = 32n
const CLASS_SHIFT = 40n
/** Where the kernel says in words what an access was for, in the order of CLASSES. (arm-smmu-v3.c event_class_str) */
const CLASS_TEXTS: readonly string[] = [
  'CD fetch',
  'Stage 1 translation table fetch',
  'Input address caused fault',
]
/** What stands behind the word ssid. */
const REST = /^(?:0x)?([0-9a-f]{1,8})(?: iova: (?:0x)?([0-9a-f]{1,16}) ipa: (?:0x)?([0-9a-f]{1,16}))?/

interface Pending {
  readonly line: FoundLine
  readonly unit: string
  readonly event: number
  /** The name, where the kernel says it. */
  readonly name?: string
  readonly words: bigint[]
  client: string | undefined
  /** Addresses of an event that the log has in words only. */
  readonly said?: { readonly iova: bigint | undefined; readonly ipa: bigint }
}

/** An event of which the log has no record, but what the kernel says of it. */
function saidOnly(line: FoundLine, client: NonNullable<ReturnType<typeof clientOf>>): Pending {
  const name = client.event
  const event = Number(Object.entries(EVENTS).find(([, [known]]) => known === name)?.[0] ?? 0)
  const [, ssid = '0', iova, ipa = '0'] = REST.exec(client.more) ?? []
  const substream = BigInt(`0x${ssid}`)
  // The kernel says 0 where there is none.
  const valid = substream === 0n ? 0n : SSV
  const first = (client.stream << STREAM_SHIFT) | (substream << SUBSTREAM_SHIFT) | valid | BigInt(event)
  return {
    line,
    unit: client.unit,
    event,
    name,
    words: [first],
    client: client.client,
    said: { iova: iova === undefined ? undefined : BigInt(`0x${iova}`), ipa: BigInt(`0x${ipa}`) },
  }
}

const clientOf = (line: FoundLine) => valuesOf(SMMU_CLIENT, line)

/** The second word of a record, from what the kernel says of the access. */
function accessWord(access: NonNullable<ReturnType<typeof accessOf>>): bigint {
  const known = CLASS_TEXTS.indexOf(access.class)
  return (
    (access.mode === 'priv' ? PRIVILEGED : 0n) |
    (access.kind === 'inst' ? INSTRUCTION : 0n) |
    (access.access === 'read' ? READ : 0n) |
    (access.stage === 's2' ? STAGE_2 : 0n) |
    (access.more.includes(' stall') ? STALL : 0n) |
    (BigInt(known < 0 ? CLASS_TEXTS.length : known) << CLASS_SHIFT)
  )
}

const accessOf = (line: FoundLine) => valuesOf(SMMU_ACCESS, line)

/** Decodes events of Arm's SMMUv3. There is no model of it. */
export class SmmuExplainer implements FamilyExplainer {
  readonly family = SMMU_LINES.id
  #pending: Pending | undefined

  take(line: FoundLine, log: FaultLog): void {
    const suppressed = valuesOf(SMMU_SUPPRESSED, line)
    if (suppressed !== undefined) log.suppress(line, suppressed.lines)
    const word = valuesOf(SMMU_WORD, line)
    const client = clientOf(line)
    const access = accessOf(line)
    const event = valuesOf(SMMU_EVENT, line)
    const pending = this.#pending
    if (pending !== undefined && line.line - pending.line.line > GAP_MAX) this.end(log)
    if (event !== undefined) {
      this.end(log)
      this.#pending = { line, unit: event.unit, event: Number(event.event), words: [], client: undefined }
    } else if (word !== undefined) {
      if (pending?.unit === word.unit && pending.words.length < WORDS) pending.words.push(word.word)
    } else if (client !== undefined) {
      // A record comes before its words; otherwise the words are all there is.
      if (pending?.unit === client.unit && pending.client === undefined) pending.client = client.client
      else {
        this.end(log)
        this.#pending = saidOnly(line, client)
      }
    } else if (access !== undefined) {
      if (pending?.unit === access.unit && pending.said?.iova !== undefined && pending.words.length === 1)
        pending.words.push(accessWord(access), pending.said.iova, pending.said.ipa)
    } else if (valuesOf(SMMU_OVERFLOW, line) !== undefined) this.#overflow(line, log)
    else if (valuesOf(SMMU_SKIPPED, line) !== undefined) this.end(log)
    else {
      const fault = unitFault(line)
      if (fault !== undefined) log.fault(fault)
    }
  }

  /** An event that still waits for its words has no more. */
  end(log: FaultLog): void {
    const pending = this.#pending
    this.#pending = undefined
    if (pending === undefined) return
    const { line, event, words, said, name } = pending
    const stream = words[0] === undefined ? undefined : Number(words[0] >> 32n)
    const address = HAS_ACCESS.has(event) ? (words[2] ?? said?.iova) : undefined
    log.fault({
      key: `${event === 0 ? name : event} ${stream ?? ''} ${(words[1] ?? 0n) & ~0xffffn}`,
      line,
      ...(address !== undefined && { address }),
      describe: () => eventWords(pending, log),
    })
  }

  #overflow(line: FoundLine, log: FaultLog): void {
    log.fault({
      key: 'overflow',
      line,
      describe: () => ({
        kind: 'queue',
        title: 'the event queue of an SMMU was full',
        fields: {},
        rows: [['means', 'More events came than the queue holds: the lines of this log are not all.']],
        because: [],
        checks: ['look at the first events before this line: the storm begins there'],
      }),
    })
  }
}

/** How a stream is called: where firmware maps requester ids one to one, its low bits are bus, slot and function. */
function streamText(stream: number): string {
  const [bus, slot, fn] = [(stream >>> 8) & 0xff, (stream >>> 3) & 31, stream & 7]
  const two = (n: number): string => n.toString(16).padStart(2, '0')
  return `${hex(stream)}: ${two(bus)}:${two(slot)}.${fn} if the firmware numbers streams as PCI does`
}

function eventWords(pending: Pending, log: FaultLog): FaultWords {
  const { event, words, client, said } = pending
  const [name, means] = EVENTS[event] ?? [
    pending.name ?? 'an event',
    'An event that this decoder does not know.',
  ]
  const [first, second = 0n, , fourth = 0n] = words
  const device = client !== undefined && client !== '(unassigned sid)' ? shortDevice(client) : undefined
  const stream = first === undefined ? undefined : Number(first >> 32n)
  const hasSubstream = first !== undefined && ((first & SSV) !== 0n || event === BAD_SUBSTREAM)
  const substream = hasSubstream ? Number((first >> 12n) & 0xf_ffffn) : undefined
  const hasAccess = HAS_ACCESS.has(event) && words.length > 1
  const isRead = (second & READ) !== 0n
  const stage = (second & STAGE_2) !== 0n ? 2 : 1
  const access = [
    (second & PRIVILEGED) !== 0n ? 'privileged' : 'unprivileged',
    (second & INSTRUCTION) !== 0n ? 'instruction' : 'data',
    isRead ? 'read' : 'write',
    ...((second & STALL) !== 0n ? ['that waits for an answer (stalled)'] : []),
  ].join(' ')
  const where = CLASSES[Number((second >> 40n) & 3n)] as string
  const ipa = fourth & 0xf_ffff_ffff_f000n
  return {
    kind: hasAccess ? 'dma' : 'event',
    title: `${name}${device === undefined ? '' : ` of ${device}`}`,
    ...(device !== undefined && { device }),
    fields: {
      event,
      eventName: name,
      stream: stream ?? null,
      substream: substream ?? null,
      ...(hasAccess && { access: isRead ? 'read' : 'write', stage }),
    },
    rows: [
      ['event', event === 0 ? name : `${hex(event)} ${name}`],
      ['means', means],
      ...(stream === undefined ? [] : [['stream', streamText(stream)] as const]),
      ...(substream === undefined ? [] : [['substream', `${hex(substream)} (PASID)`] as const]),
      ...(hasAccess
        ? ([
            ['access', access],
            ['failed at', `stage ${stage}: ${where}`],
          ] as const)
        : []),
      ...(hasAccess && stage === 2 ? [['IPA', hex(ipa)] as const] : []),
      ...(words.length < WORDS && said === undefined
        ? [['words', `only ${words.length} of 4 stand in the log`] as const]
        : []),
      ...(said === undefined
        ? []
        : [['record', 'not in the log: this is what the kernel says of it'] as const]),
    ],
    because: device === undefined ? [] : log.earlier('cause', device).slice(0, 4),
    checks: [
      device === undefined
        ? 'find the device of the stream: iommu-map of the device tree, or the IORT table (acpidump -n IORT), says how streams are numbered'
        : `lspci -nnks ${device}: what the device is, and which driver has it`,
      ...(HAS_ACCESS.has(event) ? PAGE_CHECKS : (CHECKS[event] ?? [])),
    ],
  }
}
