import { hex } from '../../bits/u64.ts'
import { counted } from '../../check/words.ts'
import type { FoundLine } from '../../reader/kernel-log/kernel-log-reader.ts'
import type { Because, FaultLog, FaultReport, FaultWords } from './fault-log.ts'
import { shortDevice } from './machine-facts.ts'
import { checksOf, INTERRUPT_RANGE, isInterruptAddress, meansOf } from './vtd-advice.ts'
import { tableOf, type VtdKnowledge, whereText } from './vtd-knowledge.ts'

/** A DMA fault as a line tells it, whatever its era. */
export interface VtdFault {
  readonly device: string
  readonly access: 'read' | 'write'
  readonly pasid: number | undefined
  readonly address: bigint
  /** Undefined where the line that tells it is missing. */
  readonly code: number | undefined
  /** What the kernel prints behind the reason. */
  readonly text: string
  /** The versions that print such a line. */
  readonly era: string
}

/** Lines that name a mapping of a page, for faults at that page. */
export const pageTopic = (address: bigint): string => `vtd-page ${hex(address >> 12n)}`

const CAUSES_MAX = 4

const reasonText = (code: number, text: string, knowledge: VtdKnowledge): string => {
  const number = `0x${code.toString(16).padStart(2, '0')}`
  const words = text.trim()
  const known = knowledge.reason(code)
  if (words === '' || words === 'Unknown') return known === undefined ? number : `${number} ${known.doc}`
  return `${number} ${words}`
}

/** Lines before that may have made it so: of the page, and of the device. */
const becauseOf = ({ device, address }: VtdFault, log: FaultLog): Because[] => [
  ...log.earlier(pageTopic(address)),
  ...log.machine.pages.storyOf(address),
  ...log.earlier('cause', shortDevice(device)).slice(0, CAUSES_MAX),
]

const REGIONS_SHOWN = 1

/** What the device is, and where its addresses lie, by the whole log. */
export function identified(device: string, addresses: readonly bigint[], log: FaultLog): Because[] {
  const { machine } = log
  const lies = addresses.flatMap((address): Because[] => {
    const regions = machine.regionsAt(address).map(({ line, text }) => ({
      line,
      text: `as a physical address, ${hex(address)} lies in memory that is ${text}`,
    }))
    const behind = regions.length === 0 ? machine.behindKernel(address) : undefined
    return behind === undefined ? regions : [behind]
  })
  const lines = machine.linesOf(device)
  if (lines.length > 0 || machine.devices === 0) return [...lies.slice(0, REGIONS_SHOWN), ...lines]
  const text = `the log names ${counted(machine.devices, 'device')} of the machine, and ${device} is none of them`
  return [...lies.slice(0, REGIONS_SHOWN), { line: 0, text }]
}

/** Graphics and USB devices may go to a virtual machine though they have an RMRR: Linux calls those relaxable. */
const RESERVED_CHECK =
  'an RMRR is mapped one to one for the devices that it names, and for no other; a graphics or USB device that is given to a virtual machine loses it'

/** What is said of a DMA fault. */
export function faultWords(fault: VtdFault, log: FaultLog, knowledge: VtdKnowledge): FaultWords {
  const { device, access, pasid, address, code, text, era } = fault
  const name = shortDevice(device)
  const reason = code === undefined ? undefined : knowledge.reason(code)
  const table = tableOf(reason)
  const withPasid = pasid === undefined ? '' : ` with PASID 0x${pasid.toString(16)}`
  const isInterruptRange = isInterruptAddress(address)
  const about = { device: name, address: hex(address), pasid, isInterruptRange }
  return {
    kind: 'dma',
    title: `DMA ${access} by ${name}${withPasid} was blocked`,
    device: name,
    fields: {
      access,
      pasid: pasid ?? null,
      reason: code ?? null,
      reasonName: reason?.name ?? null,
      condition: reason?.condition ?? null,
      table: table ?? null,
      era,
    },
    rows:
      code === undefined
        ? [['reason', 'not in the log: the line that tells it is missing']]
        : [
            ['reason', reasonText(code, text, knowledge)],
            ['means', meansOf(code, reason, pasid)],
            ...(table === undefined ? [] : [['failed at', whereText(table, name, pasid)] as const]),
            ...(isInterruptRange ? [['reserved', INTERRUPT_RANGE] as const] : []),
          ],
    because: becauseOf(fault, log),
    checks:
      code === undefined
        ? [
            `find the whole log (journalctl -k, the serial console): the line behind "fault addr" names the reason`,
          ]
        : [
            ...(log.machine.regionsAt(address).some((r) => r.isOfDevice === true) ? [RESERVED_CHECK] : []),
            ...checksOf(code, about),
          ],
  }
}

/** What is said of a blocked interrupt. */
export function interruptWords(
  {
    device,
    index,
    code,
    text,
    era,
  }: {
    readonly device: string
    readonly index: bigint
    readonly code: number | undefined
    readonly text: string
    readonly era: string
  },
  log: FaultLog,
  knowledge: VtdKnowledge,
): FaultWords {
  const name = shortDevice(device)
  const reason = code === undefined ? undefined : knowledge.reason(code)
  return {
    kind: 'interrupt',
    title: `interrupt of ${name}, index ${hex(index)}, was blocked`,
    device: name,
    fields: {
      index: Number(index),
      reason: code ?? null,
      reasonName: reason?.name ?? null,
      condition: reason?.condition ?? null,
      table: 'interrupt-entry',
      era,
    },
    rows:
      code === undefined
        ? [['reason', 'not in the log: the line that tells it is missing']]
        : [
            ['reason', reasonText(code, text, knowledge)],
            ['means', meansOf(code, reason, undefined)],
            ['failed at', `entry ${hex(index)} of the interrupt remapping table`],
          ],
    because: log.earlier('cause', name).slice(0, CAUSES_MAX),
    checks: checksOf(code ?? -1, {
      device: name,
      address: hex(index),
      pasid: undefined,
      isInterruptRange: false,
    }),
  }
}

/** The interrupt of faults came, and no line of the log names one. */
export const lostFault = (line: FoundLine): FaultReport => ({
  key: 'lost',
  line,
  describe: () => ({
    kind: 'record',
    title: 'requests were blocked; no line of the log says of which device',
    fields: {},
    rows: [
      [
        'means',
        'The unit told of faults. The lines with device, address and reason were suppressed, cut off, or filtered out of this log: how many they were it does not say.',
      ],
    ],
    because: [],
    checks: [
      'find the whole log (journalctl -k, the serial console): the first faults of a storm are printed',
      'unbind the drivers of devices one by one: the storm ends with the one that causes it',
    ],
  }),
})
