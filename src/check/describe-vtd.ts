import { hex } from '../bits/u64.ts'
import type { EventFields, EventKind } from '../trace/event.ts'
import { FLUSH_SCOPE, NONE, PAGE_REQUEST, PAGE_RESPONSE, VTD_CACHE } from '../trace/event-codes.ts'
import { bytesText, directionText } from './words.ts'

type VtdKind = Extract<EventKind, `vtd.${string}`>

const MODES = ['legacy', 'scalable', 'extended', 'abort'] as const
const ACCESSES = ['write', 'page request', 'read', 'atomic'] as const
const CODES: Readonly<Record<number, string>> = {
  [PAGE_RESPONSE.SUCCESS]: 'success',
  [PAGE_RESPONSE.INVALID]: 'invalid request',
  [PAGE_RESPONSE.FAILURE]: 'failure',
}
const CACHES: Readonly<Record<number, string>> = {
  [VTD_CACHE.IOTLB]: 'the IOTLB',
  [VTD_CACHE.DEVICE_TLB]: 'the TLB of the device',
  [VTD_CACHE.PAGING_STRUCTURE]: 'a paging-structure cache',
}
/** IQERCD.IQEI. */
const REFUSALS: Readonly<Record<number, string>> = {
  1: 'a bad tail',
  2: 'a descriptor that cannot be read',
  3: 'a descriptor of a bad type',
  4: 'a descriptor with a reserved field',
  5: 'a descriptor of the wrong width',
  6: 'a tail that is not aligned',
  7: 'tables of a bad kind',
}

/** A source-id as bus, device and function. */
export const sourceText = (source: number): string => {
  const part = (n: number) => n.toString(16).padStart(2, '0')
  return `${part(source >>> 8)}:${part((source >>> 3) & 31)}.${source & 7}`
}
const pasidText = (pasid: number): string => (pasid === NONE ? '' : ` with PASID ${hex(pasid)}`)
const faultText = (fault: number): string => (fault === 0 ? '' : `: fault ${hex(fault)}`)
const unitText = (unit: string): string => unit || 'the unit'
const tablesOf = (e: EventFields<'vtd.walk'>): string =>
  [e.t5, e.t4, e.t3, e.t2, e.t1]
    .flatMap((page, at) => (page === 0 ? [] : [`${5 - at} at ${hex(page * 4096)}`]))
    .join(', ')

function requestText({ flags }: EventFields<'vtd.page-request'>): string {
  const names = [
    [PAGE_REQUEST.READ, 'read'],
    [PAGE_REQUEST.WRITE, 'write'],
    [PAGE_REQUEST.EXECUTE, 'execute'],
    [PAGE_REQUEST.PRIVILEGED, 'privileged'],
    [PAGE_REQUEST.LAST, 'last of its group'],
  ] as const
  return names.flatMap(([bit, name]) => ((flags & bit) === 0 ? [] : [name])).join(', ')
}

/** What a flush of PASIDs and interrupts names; undefined for the others. */
export function pasidFlushText(e: EventFields<'domain.flush'>): string | undefined {
  const who = unitText(e.unit)
  const domain = e.domain === NONE ? 'every domain' : `domain ${e.domain}`
  const pages =
    e.bytes === 0n ? 'every bus address' : `bus address ${hex(e.iova)} + ${bytesText(Number(e.bytes))}`
  switch (e.scope) {
    case FLUSH_SCOPE.PASID_CACHE: {
      const pasid = e.pasid === NONE ? 'every PASID entry' : `the entry of PASID ${hex(e.pasid)}`
      return `${who} is told to forget ${pasid} of ${domain}`
    }
    case FLUSH_SCOPE.PASID_PAGES:
      return `${who} is told to forget ${pages}${pasidText(e.pasid)} of ${domain}`
    case FLUSH_SCOPE.PASID:
      return `${who} is told to forget PASID ${hex(e.pasid)} of ${domain}`
    case FLUSH_SCOPE.PASID_DEVICE_TLB:
      return `the device ${sourceText(e.source)} is told to forget ${pages}${pasidText(e.pasid)}`
    case FLUSH_SCOPE.INTERRUPT_ENTRY:
      return `${who} is told to forget interrupt entries`
    default:
      return undefined
  }
}

/** Words for the records of a VT-d unit. */
export const VTD_DESCRIBERS: { readonly [K in VtdKind]: (e: EventFields<K>) => string } = {
  'vtd.register': (e) =>
    `software ${e.write === 1 ? 'writes' : 'reads'} ${hex(e.value)} ${e.write === 1 ? 'to' : 'from'} register ${hex(e.offset)} of ${unitText(e.unit)}`,
  'vtd.root': (e) =>
    `${unitText(e.unit)} has its root table at ${hex(e.address)} (${MODES[e.mode] ?? e.mode}), translation is ${e.enabled === 1 ? 'on' : 'off'}`,
  'vtd.context': (e) =>
    `${unitText(e.unit)} reads the context entry of ${sourceText(e.source)} at ${hex(e.address)}: ${hex(e.lo)}, domain ${e.domain}${faultText(e.fault)}`,
  'vtd.pasid': (e) =>
    `${unitText(e.unit)} reads the entry of PASID ${hex(e.pasid)} of ${sourceText(e.source)} at ${hex(e.address)}: ${hex(e.lo)}, domain ${e.domain}${faultText(e.fault)}`,
  'vtd.walk': (e) =>
    `${unitText(e.unit)} walks the ${e.stage === 1 ? 'first' : 'second'}-level tables for ${hex(e.iova)} of ${sourceText(e.source)}${pasidText(e.pasid)}: levels ${tablesOf(e)}${faultText(e.fault)}`,
  'vtd.fill': (e) =>
    `${CACHES[e.cache] ?? 'a cache'} keeps ${hex(e.iova)} + ${bytesText(2 ** e.shift)} of domain ${e.domain}${pasidText(e.pasid)} as ${hex(e.target)} (entry ${e.entry})`,
  'vtd.translate': (e) => {
    const from = `${sourceText(e.source)}${pasidText(e.pasid)} at ${hex(e.iova)}, to ${directionText(e.need & 3)},`
    return e.fault === 0
      ? `a request of ${from} reaches memory ${hex(e.target)}${e.entry === 0 ? '' : ` (entry ${e.entry})`}`
      : `a request of ${from} is blocked${faultText(e.fault)}`
  },
  'vtd.fault': (e) => {
    const where = e.record === NONE ? `not recorded (${e.why})` : `recorded in register ${e.record}`
    return `fault ${hex(e.reason)} of ${sourceText(e.source)}${pasidText(e.pasid)}, ${ACCESSES[e.access] ?? ''} at ${hex(e.iova)}, is ${where}`
  },
  'vtd.event': (e) =>
    `${unitText(e.unit)} ${e.sent === 1 ? `sends the ${e.event} interrupt (${hex(e.data)} to ${hex(e.address)})` : `keeps the ${e.event} interrupt pending`}`,
  'vtd.page-request': (e) =>
    `${sourceText(e.source)} requests the page of ${hex(e.iova)}${pasidText(e.pasid)} (${requestText(e)}; group ${e.group}): ${e.result}`,
  'vtd.response': (e) =>
    `software answers group ${e.group} of ${sourceText(e.source)}${pasidText(e.pasid)}: ${CODES[e.code] ?? e.code}`,
  'vtd.refuse': (e) =>
    `the invalidation queue of ${unitText(e.unit)} stops at ${hex(e.offset)}: ${REFUSALS[e.reason] ?? `error ${e.reason}`}` +
    (e.lo === 0n && e.hi === 0n ? '' : ` (${hex(e.lo)} ${hex(e.hi)})`),
  'vtd.word': (e) =>
    `the word at ${hex(e.address)}, which ${unitText(e.unit)} has read, changes from ${hex(e.before)} to ${hex(e.after)}`,
  'vtd.table': (e) =>
    e.state === 1
      ? `the page at ${hex(e.page * 4096)} becomes a table of domain ${e.domain}`
      : `the page at ${hex(e.page * 4096)} is no table of domain ${e.domain} any more`,
}
