/**
 * What a front end can do wrong, by rule. Whoever breaks one loses the connection; those that `refuses` names are
 * answered by a word that is not 0 where the front end asks for an answer, and the connection stays.
 */
export const FAULTS = {
  'ends-in-message': 'The connection ends in the middle of a message.',
  'message-version': 'The header is of no version 1 of the protocol.',
  'message-is-reply': 'The header says that it is a reply; the back end asked for nothing on this channel.',
  'payload-too-long': 'The header announces more bytes than any request has.',
  'request-unknown': 'There is no request of that number.',
  'request-unserved': 'The request belongs to a feature that the back end never offered.',
  'feature-missing': 'The request belongs to a protocol feature that was not agreed on.',
  'payload-bytes': 'The payload has too many or too few bytes for the request.',
  'descriptors-lost': 'The kernel could not deliver all descriptors.',
  'descriptors-count': 'The message has too many or too few descriptors.',
  'features-not-offered': 'The front end takes features that the back end does not offer.',
  'queue-unknown': 'The device has no queue of that number.',
  'queue-runs': 'The ring is served: its place and its entries stay as they are until GET_VRING_BASE.',
  'ring-entries': 'A ring has a power of two of entries, from 1 to 32768.',
  'ring-base': 'The next entry of a ring is below 65536.',
  'ring-flags': 'The ring shall be logged, which the back end does not offer.',
  'ring-unaligned': 'Descriptors stand at multiples of 16, the available ring of 2, the used ring of 4.',
  'ring-outside-memory': 'A part of the ring is in no region of the memory table.',
  'kick-by-polling': 'The ring shall be polled; the back end waits for events.',
  'not-an-event': 'The descriptor is not what it should be: an event, or a connected socket.',
  'region-count': 'The memory table has more regions than a message can have descriptors.',
  'region-slots': 'The back end takes no more regions.',
  'region-empty': 'A region has no bytes, or ends behind the end of the address space.',
  'region-overlap': 'Two regions have a guest address, or an address of the front end, in common.',
  'region-unknown': 'There is no such region.',
  'region-not-a-file': 'The descriptor of a region is no file that can be mapped.',
  'region-behind-file': 'The region ends behind the end of its file.',
  'region-not-mapped': 'The kernel refuses to map the file.',
  'iotlb-off': 'There is no IOTLB: VIRTIO_F_ACCESS_PLATFORM was not taken.',
  'iotlb-type': 'A front end sends UPDATE and INVALIDATE only.',
  'iotlb-range': 'The map has no bytes, or ends behind the end of the address space.',
  'config-range': 'The configuration space has no such bytes.',
  'queue-broken': 'A ring, or a request in it, is not what a driver may write.',
  'back-end-answer': 'The front end answers what the back end did not ask, or in a form that is no answer.',
  'back-end-silent': 'The front end reads nothing of what the back end sends.',
} as const

export type FaultRule = keyof typeof FAULTS

/** Those that are answered, where an answer is owed. */
const REFUSED: ReadonlySet<FaultRule> = new Set<FaultRule>([
  'region-slots',
  'region-unknown',
  'iotlb-off',
  'iotlb-type',
  'iotlb-range',
])

/** A rule that a front end broke, and how. */
export class Fault {
  readonly rule: FaultRule
  /** What was seen, for the message; empty where the rule says it all. */
  readonly seen: string

  constructor(rule: FaultRule, seen = '') {
    this.rule = rule
    this.seen = seen
  }

  /** Whether an answer that is not 0 does, where the front end waits for one. */
  get isRefusal(): boolean {
    return REFUSED.has(this.rule)
  }

  get text(): string {
    const { rule, seen } = this
    return `${rule}: ${FAULTS[rule]}${seen === '' ? '' : ` (${seen})`}`
  }
}
