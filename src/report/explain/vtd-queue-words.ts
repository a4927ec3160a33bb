import { hex } from '../../bits/u64.ts'
import { type FoundLine, valuesOf } from '../../reader/kernel-log/kernel-log-reader.ts'
import {
  PRQ_EXECUTE,
  PRQ_EXECUTE_OLD,
  PRQ_INVALID,
  PRQ_INVALID_PASID,
  PRQ_NO_PASID,
  PRQ_NO_PASID_WORDS,
  PRQ_NOT_CANONICAL,
  PRQ_OVERFLOW,
  PRQ_PRIVILEGED,
  PRQ_PRIVILEGED_OLD,
  QUEUE_COMPLETION,
  QUEUE_ERROR,
  QUEUE_TIMEOUT,
} from '../../reader/kernel-log/vtd-queue-lines.ts'
import type { FaultField, FaultWords } from './fault-log.ts'

/** What stopped an invalidation queue. (VT-d manual, Invalidation Queue Error Record, IQEI) */
const QUEUE_REASONS: readonly string[] = [
  'no information',
  'the tail is beyond the queue',
  'the descriptor could not be read from memory',
  'the type of the descriptor is unknown to the unit',
  'a reserved field of the descriptor is set',
  'the width of descriptors does not fit the type',
  'the tail is not aligned to the width of descriptors',
  'the descriptor is not for the mode of the root table',
]

/** All ones: what a read of a register gives that nothing answers. */
const NO_REASON = 0xf
const NO_SOURCE = 0xffffn
const ALL_ONES =
  'The record of the error is all ones, which is no reason and no device: a read that the unit does not answer gives that. A unit that is switched off, or not there any more, looks like this.'
const ONES_CHECKS = [
  'is the unit there? Look for what switched it off: suspend, hot-unplug, a host bridge or VMD that was reset',
]

const FUNCTION_BITS = 3n
const two = (value: bigint): string => value.toString(16).padStart(2, '0')

/** A requester as the kernel names devices. */
export const requesterText = (source: bigint): string =>
  `${two((source >> 8n) & 0xffn)}:${two((source >> FUNCTION_BITS) & 0x1fn)}.${source & 7n}`

interface QueueFault {
  readonly key: string
  readonly address?: bigint
  readonly words: FaultWords
}

interface Said {
  readonly kind: 'queue' | 'page-request'
  readonly title: string
  readonly device?: string
  readonly fields: Readonly<Record<string, FaultField>>
  readonly means: string
  readonly more?: readonly (readonly [label: string, text: string])[]
  readonly checks: readonly string[]
}

const wordsOf = ({ kind, title, device, fields, means, more = [], checks }: Said): FaultWords => ({
  kind,
  title,
  ...(device !== undefined && { device }),
  fields,
  rows: [['means', means], ...more],
  because: [],
  checks,
})

const DEVICE_GONE = (device: string): string =>
  `is ${device} still there, powered and on its bus? Hot-unplug, D3cold and a link that is down look like this`
const ATS_OFF = 'boot with pci=noats: without device-TLBs there is nothing to wait for'
/** The register has 0 where the unit is too old to say which device it was; Linux reads it so as well. */
const deviceOf = (source: bigint): string | undefined => (source === 0n ? undefined : requesterText(source))
const WHICH_DEVICE =
  'the unit is too old to name the device (SID 0): iommulator decode VTD_DEV_TLB_INV_DSC_QW0 0x<qw0> shows it, for each line QI HEAD or QI PRIOR with a Device-TLB Invalidation'
/** What a descriptor of an invalidation queue holds. */
export const DECODE_DESCRIPTOR =
  'iommulator decode VTD_IOTLB_INV_DSC_QW0 0x<qw0>: the fields of its first word; other types have VTD_DEV_TLB_INV_DSC_QW0, VTD_IEC_INV_DSC_QW0, VTD_INV_WAIT_DSC_QW0, ...'
const DRIVER_TASK = 'which invalidation was it? The lines QI HEAD and QI PRIOR name the descriptors'

/** An error of the queue whose record is all ones: no reason and no device stand in it. */
const noAnswer = (error: string, key: string): QueueFault => ({
  key,
  words: wordsOf({
    kind: 'queue',
    title: `an error of the invalidation queue (${error}) with a record of all ones`,
    fields: { error, reason: null },
    means: ALL_ONES,
    checks: ONES_CHECKS,
  }),
})

/** An invalidation queue that stopped; nothing for other lines. */
export function queueFault(line: FoundLine): QueueFault | undefined {
  const error = valuesOf(QUEUE_ERROR, line)
  if (error !== undefined) {
    const reason = Number(error.reason)
    if (reason === NO_REASON) return noAnswer('IQE', 'queue error 15')
    return {
      key: `queue error ${reason}`,
      words: wordsOf({
        kind: 'queue',
        title: `the invalidation queue stopped, reason ${reason}`,
        fields: { error: 'IQE', reason },
        means: `The unit does not take the descriptor at the head of its queue: ${QUEUE_REASONS[reason] ?? 'a reason that the manual does not list'}. Until the driver clears that, nothing is invalidated.`,
        checks: [DRIVER_TASK, DECODE_DESCRIPTOR],
      }),
    }
  }
  const timeout = valuesOf(QUEUE_TIMEOUT, line)
  if (timeout?.source === NO_SOURCE) return noAnswer('ITE', 'queue timeout ones')
  if (timeout !== undefined) {
    const device = deviceOf(timeout.source)
    return {
      key: `queue timeout ${device}`,
      words: wordsOf({
        kind: 'queue',
        title: `${device ?? 'a device'} did not complete an invalidation in time`,
        ...(device !== undefined && { device }),
        fields: { error: 'ITE' },
        // Linux v6.1 and v6.9 drivers/iommu/intel/dmar.c qi_check_fault(), qi_submit_sync()
        means:
          'The unit told the device to drop translations from its own TLB (ATS) and got no answer; waits in the queue were aborted. The driver submits them again; since Linux 6.9 it gives up (ETIMEDOUT) where the device is gone.',
        checks: [device === undefined ? WHICH_DEVICE : DEVICE_GONE(device), ATS_OFF, DRIVER_TASK],
      }),
    }
  }
  const completion = valuesOf(QUEUE_COMPLETION, line)
  if (completion === undefined) return undefined
  if (completion.source === NO_SOURCE) return noAnswer('ICE', 'queue completion ones')
  const device = deviceOf(completion.source)
  return {
    key: `queue completion ${device}`,
    words: wordsOf({
      kind: 'queue',
      title: `${device ?? 'a device'} completed an invalidation that nobody waits for`,
      ...(device !== undefined && { device }),
      fields: { error: 'ICE' },
      means: 'An answer of a device-TLB came twice, too late, or for nothing.',
      checks: [device === undefined ? WHICH_DEVICE : DEVICE_GONE(device), ATS_OFF],
    }),
  }
}

/** Of kernels that still print the descriptor with a request without a PASID. (Linux 19ed3e2dd854, v4.20) */
const NULL_POINTER =
  'Before Linux 4.20, and in stable kernels without its fix, the thread that prints this may use a null pointer next: an oops of irq/..-dmar0-prq.'
const NOT_HERE =
  'is the PASID bound at that time? An unbind must drain page requests before the PASID is free'

/** Lines of Linux 5.13 do not say whose queue it was. */
const NO_UNIT = 'a VT-d unit'

/** A page request that the driver refused, or a queue of them that was full; nothing for other lines. */
export function pageRequestFault(line: FoundLine): QueueFault | undefined {
  const refused = (
    unit: string,
    id: string,
    what: string,
    means: string,
    ...checks: string[]
  ): QueueFault => ({
    key: `prq ${id} ${unit}`,
    words: wordsOf({
      kind: 'page-request',
      title: `${unit}: a page request ${what}`,
      fields: { unit, refused: id },
      means,
      checks,
    }),
  })
  const early = valuesOf(PRQ_NO_PASID_WORDS, line)
  const none = valuesOf(PRQ_NO_PASID, line) ?? early
  if (none !== undefined)
    return refused(
      none.unit,
      'no-pasid',
      'without a PASID was refused',
      `A device asked for a page outside of any process. Kernels before 6.13 take page requests with a PASID only.${early === undefined ? '' : ` ${NULL_POINTER}`}`,
      'does the device use PRI on its own, without the driver asking for SVA?',
    )
  const canonical = valuesOf(PRQ_NOT_CANONICAL, line)
  if (canonical !== undefined)
    return refused(
      canonical.unit,
      'not-canonical',
      'for no canonical address was refused',
      'The upper bits of the address are not all alike: no process has such a page.',
      'which address was the device given? Was a pointer cut, or sign-extended?',
    )
  const privileged = valuesOf(PRQ_PRIVILEGED, line)
  if (privileged !== undefined || valuesOf(PRQ_PRIVILEGED_OLD, line) !== undefined)
    return refused(
      privileged?.unit ?? NO_UNIT,
      'privileged',
      'with privilege was refused',
      'The device asked with privilege (PM); the driver serves processes only.',
      'is the work queue of the device set up with privilege?',
    )
  const execute = valuesOf(PRQ_EXECUTE, line)
  if (execute !== undefined || valuesOf(PRQ_EXECUTE_OLD, line) !== undefined)
    return refused(
      execute?.unit ?? NO_UNIT,
      'execute',
      'to execute was refused',
      'The device asked for a page to execute from; the driver does not support that.',
      'does the device mark its reads as fetches of code?',
    )
  const overflow = valuesOf(PRQ_OVERFLOW, line)
  if (overflow !== undefined)
    return {
      key: `prq overflow ${overflow.unit}`,
      words: wordsOf({
        kind: 'page-request',
        title: `${overflow.unit}: the page request queue overflowed`,
        fields: { unit: overflow.unit, refused: 'overflow' },
        means:
          'Requests came faster than the driver took them. Those beyond the queue are lost; devices get an answer for them, but no page.',
        checks: [
          'how many requests may the device have under way (PRI capability), and how many devices share the unit?',
          'what kept the thread of the driver from running?',
        ],
      }),
    }
  const unbound = valuesOf(PRQ_INVALID_PASID, line)
  if (unbound !== undefined)
    return {
      key: `prq pasid ${unbound.unit} ${unbound.pasid}`,
      words: wordsOf({
        kind: 'page-request',
        title: `${unbound.unit}: a page request for PASID ${unbound.pasid}, which nothing is bound to`,
        fields: { unit: unbound.unit, refused: 'invalid-pasid', pasid: unbound.pasid },
        means: 'A device worked for a process that is not bound any more, or never was.',
        checks: [NOT_HERE],
      }),
    }
  const invalid = valuesOf(PRQ_INVALID, line)
  return invalid === undefined ? undefined : refusedRequest(invalid)
}

/** A request descriptor of revisions 3.x. (VT-d manual, Page Request Descriptor; Linux v6.1 struct page_req_dsc) */
function refusedRequest({
  unit,
  qw0,
  qw1,
}: {
  readonly unit: string
  readonly qw0: bigint
  readonly qw1: bigint
}): QueueFault {
  const device = requesterText((qw0 >> 16n) & 0xffffn)
  const pasid = ((qw0 >> 8n) & 1n) === 1n ? Number((qw0 >> 32n) & 0xfffffn) : undefined
  const address = qw1 & ~0xfffn
  const wants = [
    ...((qw1 & 1n) !== 0n ? ['read'] : []),
    ...((qw1 & 2n) !== 0n ? ['write'] : []),
    ...(((qw0 >> 52n) & 1n) !== 0n ? ['execute'] : []),
    ...(((qw0 >> 53n) & 1n) !== 0n ? ['with privilege'] : []),
  ].join(', ')
  const group = Number((qw1 >> 3n) & 0x1ffn)
  const ofPasid = pasid === undefined ? 'without PASID' : `of PASID 0x${pasid.toString(16)}`
  return {
    key: `prq invalid ${unit} ${device} ${pasid}`,
    address,
    words: wordsOf({
      kind: 'page-request',
      title: `${unit}: page requests of ${device} ${ofPasid} were refused`,
      device,
      fields: { unit, refused: 'invalid', pasid: pasid ?? null },
      means: 'The driver answered that the request is invalid; a line before it may say why.',
      more: [
        [
          'first',
          `${hex(address)}, for ${wants === '' ? 'nothing' : wants}, group ${group}${(qw1 & 4n) !== 0n ? ', last of it' : ''}`,
        ],
      ],
      checks: [NOT_HERE, `lspci -nnks ${device}: what the device is, and which driver has it`],
    }),
  }
}
