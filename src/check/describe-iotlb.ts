import { hex } from '../bits/u64.ts'
import type { EventFields, EventKind } from '../trace/event.ts'
import { FLUSH_SCOPE, IOTLB_MESSAGE, NOTIFIER, REMEMBERED } from '../trace/event-codes.ts'
import { pasidFlushText } from './describe-vtd.ts'
import { bytesText, counted, directionText } from './words.ts'

/** `how` of a change that no line shows. */
const UNKNOWN = 2

type IotlbKind = Extract<EventKind, `iotlb.${string}` | `vhost.${string}` | `domain.${string}`>

const QUEUE_PARTS = ['its buffer', 'descriptors', 'the available ring', 'the used ring'] as const
/** The name of a number of a table. */
const nameOf = (table: Readonly<Record<string, number>>, number: number): string | undefined =>
  Object.keys(table).find((name) => table[name] === number)

/** A message of the IOTLB protocol by its number. */
export const messageText = (type: number): string => nameOf(IOTLB_MESSAGE, type) ?? `message ${type}`

const rangeText = (iova: bigint, last: bigint): string => `[${hex(iova)}, ${hex(last)}]`
const spanText = (iova: bigint, bytes: bigint): string =>
  bytes === 0n ? `${hex(iova)} and all behind it` : `${hex(iova)} + ${bytesText(Number(bytes))}`
const guessText = (how: number): string => (how === 1 ? ' (seen by a translation)' : '')

function flushText(e: EventFields<'domain.flush'>): string {
  const who = e.unit || 'the unit'
  if (e.scope === FLUSH_SCOPE.ALL) return `${who} is told to forget all translations`
  if (e.scope === FLUSH_SCOPE.DOMAIN) return `${who} is told to forget domain ${e.domain}`
  const pages = spanText(e.iova, e.bytes)
  if (e.scope === FLUSH_SCOPE.PAGES)
    return `${who} is told to forget bus address ${pages} of domain ${e.domain}`
  if (e.scope === FLUSH_SCOPE.DEVICE_TLB)
    return `the device ${hex(e.source)} is told to forget bus address ${pages}`
  return pasidFlushText(e) ?? `${who} is told to forget the context entry of ${hex(e.source)}`
}

/** Words for the records of vhost and of what QEMU's vIOMMU tells it. */
export const IOTLB_DESCRIBERS: { readonly [K in IotlbKind]: (e: EventFields<K>) => string } = {
  'iotlb.new': (e) => `${e.device || 'a vhost device'} begins with an empty IOTLB (number ${e.iotlb})`,
  'iotlb.fill': (e) =>
    `map ${e.map} enters IOTLB ${e.iotlb}: ${rangeText(e.iova, e.last)} is user address ${hex(e.ua)}, ` +
    `for the device to ${directionText(e.perm)}`,
  'iotlb.drop': (e) =>
    `IOTLB ${e.iotlb} drops what overlaps ${rangeText(e.iova, e.last)}: ${counted(e.maps, 'map')} (${e.why})`,
  'iotlb.evict': (e) =>
    `IOTLB ${e.iotlb} is full: its oldest map, ${e.map} of ${rangeText(e.iova, e.last)}, makes room`,
  'iotlb.miss': (e) =>
    `queue ${e.queue} of IOTLB ${e.iotlb} asks for bus address ${hex(e.iova)}, to ${directionText(e.access)}`,
  'iotlb.refuse': (e) =>
    `queue ${e.queue} of IOTLB ${e.iotlb} may not ${directionText(e.access)} bus address ${hex(e.iova)}: ${e.code}`,
  'iotlb.use': (e) => {
    const how = e.part >= REMEMBERED ? 'a remembered pointer' : `map ${e.map}`
    const part = QUEUE_PARTS[e.part % REMEMBERED] as string
    return (
      `the vhost device of IOTLB ${e.iotlb} ${e.write === 1 ? 'writes' : 'reads'} ${counted(e.bytes, 'byte')} of ` +
      `${part} at bus address ${hex(e.iova)} through ${how}, at user address ${hex(e.ua)}`
    )
  },
  'vhost.message': (e) => {
    const what = messageText(e.type)
    const range = e.bytes === 0n ? hex(e.iova) : spanText(e.iova, e.bytes)
    const to = e.type === IOTLB_MESSAGE.UPDATE ? ` is user address ${hex(e.ua)}` : ''
    const outcome = e.code === 0 ? '' : `: refused with ${e.code}`
    return `${e.from || 'somebody'} sends ${what} ${range}${to} (${e.device || 'a vhost device'})${outcome}`
  },
  'vhost.queue': (e) =>
    `queue ${e.queue} of ${e.device || 'a vhost device'}: ${e.state}${e.code === 0 ? '' : ` (${e.code})`}`,
  'domain.attach': (e) =>
    `${e.device} (${hex(e.source)}) is in domain ${e.domain}${e.ats === 1 ? ', with a TLB of its own (ATS)' : ''}`,
  'domain.map': (e) =>
    `domain ${e.domain} maps bus address ${spanText(e.iova, e.bytes)} to memory ${hex(e.gpa)}` +
    `${e.perm === 0 ? '' : `, to ${directionText(e.perm)}`}${guessText(e.how)}`,
  'domain.unmap': (e) =>
    e.how === UNKNOWN
      ? `what domain ${e.domain} maps is not known any more`
      : `domain ${e.domain} unmaps bus address ${spanText(e.iova, e.bytes)}${guessText(e.how)}`,
  'domain.flush': flushText,
  'domain.wait': (e) => `${e.unit || 'the unit'} says that all flushes before are done`,
  'domain.notify': (e) =>
    `QEMU tells the listener of ${e.device || 'a device'}: ${nameOf(NOTIFIER, e.flag) ?? `flag ${e.flag}`} ${rangeText(e.iova, e.last)}`,
}
