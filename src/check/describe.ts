import { hex } from '../bits/u64.ts'
import type { EventFields, EventKind, TraceRecord } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { IOTLB_DESCRIBERS } from './describe-iotlb.ts'
import { SVM_DESCRIBERS } from './describe-svm.ts'
import { VTD_DESCRIBERS } from './describe-vtd.ts'
import { bytesText, counted, directionText } from './words.ts'

/** What words for a record need to know of a window. */
export interface WindowFacts {
  readonly liobn: number
  readonly pageShift: number
  readonly busOffset: bigint
  /** What stands for the LIOBN in words, where there is none. */
  readonly place?: string | undefined
  /** Addresses go through it as they are. */
  readonly isBypass?: boolean
}

/** Where the records that are described stand: their log, and the windows they speak of. */
export interface Scene {
  readonly log: RecordLog
  readonly windows: { find(number: number): WindowFacts | undefined }
}

const NO_CAUSE = -1
/** Stop states of a PE, by their bits. */
const STOPPED: readonly (string | undefined)[] = [undefined, 'MMIO', 'DMA', 'MMIO and DMA']
const peText = (e: { readonly unit: string; readonly pe: number; readonly phb: number }): string =>
  e.phb === 1 ? e.unit : `PE ${e.pe} of ${e.unit}`
/** Causes are followed this far up, so that a damaged log cannot hold anybody up. */
const CAUSES_MAX = 64

/** Bus address of the first byte of an entry. */
export const busAddress = (
  window: { readonly busOffset: bigint; readonly pageShift: number },
  entry: number,
): bigint => BigInt.asUintN(64, window.busOffset + (BigInt(entry) << BigInt(window.pageShift)))

/** Entries of a window as people look for them: by bus address, LIOBN and index. */
export function placeText(scene: Scene, number: number, first: number, count: number): string {
  const window = scene.windows.find(number)
  const index = count === 1 ? `entry ${first}` : `entries ${first} to ${first + count - 1}`
  if (window === undefined) return `${index} of window ${number}`
  const bus = hex(busAddress(window, first))
  const from = count === 1 ? bus : `${bus} + ${bytesText(count * 2 ** window.pageShift)}`
  return `bus address ${from} (${window.place ?? `LIOBN ${hex(window.liobn)}`}, ${index})`
}

/** Calls above a record, innermost first: seq of each kept `call.enter`. */
export function callsAbove(log: RecordLog, seq: number): number[] {
  const calls: number[] = []
  let at = log.has(seq) ? log.causeOf(seq) : NO_CAUSE
  for (let n = 0; n < CAUSES_MAX && at !== NO_CAUSE && log.has(at); n++) {
    if (log.kindOf(at) === 'call.enter') calls.push(at)
    at = log.causeOf(at)
  }
  return calls
}

const callName = (log: RecordLog, seq: number): string => log.names.word(log.slot(seq, 0))

/** Who did it: the call around a record, and the call around all, `H_PUT_TCE in dma_map_page`. */
function doer(log: RecordLog, seq: number, otherwise: string): string {
  const calls = callsAbove(log, seq)
  const [inner] = calls
  if (inner === undefined) return otherwise
  const outer = calls[calls.length - 1] as number
  const [name, root] = [callName(log, inner), callName(log, outer)]
  return name === root ? name : `${name} in ${root}`
}

/** The `dma.request` that a translation serves, or undefined. */
export function requestOf(log: RecordLog, seq: number): EventFields<'dma.request'> | undefined {
  const cause = log.causeOf(seq)
  if (cause === NO_CAUSE || !log.has(cause)) return undefined
  const { event } = log.read(cause)
  return event.kind === 'dma.request' ? event : undefined
}

const inferredText = (how: number): string =>
  ['', ' (inferred: the log does not show it)', ' (the log does not show what)'][how] ?? ''

type Describer<K extends EventKind> = (e: EventFields<K>, scene: Scene, seq: number) => string

const stepText = (count: number, step: number): string =>
  count === 1 ? '' : step < 0 ? ', all the same' : ` and on, ${bytesText(2 ** step)} apart`

type RegionEvent = EventFields<'region.get'>

const regionText = (e: RegionEvent): string =>
  `region ${e.region}, ${counted(e.pages, 'page')} of ${e.process} at ${hex(e.ua)},`
const countsText = (e: RegionEvent): string => ` (used ${e.used}, mapped ${e.mapped})`

function killedText(e: EventFields<'hw.kill'>): string {
  if (e.scope === 1) return `all of PE ${e.pe}`
  if (e.scope === 2) return 'everything'
  const what = `${counted(e.count, 'page')} of PE ${e.pe} from bus address ${hex(e.address)} on`
  return e.scope === 3 ? `${what}, for want of room` : what
}

/** One describer a kind: a kind without words does not compile. */
const DESCRIBERS: { readonly [K in EventKind]: Describer<K> } = {
  ...SVM_DESCRIBERS,
  'run.begin': (e) => `the run of ${e.source || 'a machine'} begins, profile ${e.profile || 'intended'}`,
  'run.end': (e) => (e.settled === 1 ? 'the run ends; every driver has ended' : 'the run ends'),
  'call.enter': (e) =>
    `${e.by === '' ? '' : `${e.by} calls `}${e.call}(${[e.a0, e.a1, e.a2, e.a3].map((a) => hex(a)).join(', ')})`,
  'call.return': (e) => `${e.layer} answers ${e.call} with ${e.code}${e.rule === '' ? '' : ` (${e.rule})`}`,
  'window.open': (e) =>
    `LIOBN ${hex(e.liobn)} opens at bus address ${hex(e.busOffset)}: ` +
    `${counted(e.entries, 'entry', 'entries')} of ${bytesText(2 ** e.pageShift)}${e.unit === '' ? '' : `, ${e.unit}`}`,
  'window.close': (e) => `LIOBN ${hex(e.liobn)} closes${e.why === '' ? '' : ` (${e.why})`}`,
  'window.move': (e) =>
    `the table of LIOBN ${hex(e.liobn)} moves and keeps its contents${inferredText(e.how)}`,
  'tce.set': (e, scene, seq) => {
    const place = placeText(scene, e.window, e.first, e.count)
    const who = doer(scene.log, seq, 'a table update')
    if (e.how === 2) return `${who} wrote ${place}${inferredText(2)}`
    const perm = Number(e.tce & 3n)
    if (perm === 0) return `${who} cleared ${place}${inferredText(e.how)}`
    const memory = `${hex(e.tce & ~0xfffn)}${stepText(e.count, e.step)}`
    return `${who} mapped ${place} to memory ${memory}: the device may ${directionText(perm)}${inferredText(e.how)}`
  },
  'tce.seen': (e, scene) =>
    `the log shows ${placeText(scene, e.window, e.entry, 1)} holding ${hex(e.tce)}` +
    (['', ', as inferred', ', not as inferred', '', ', not as it was known'][e.verdict] ?? ''),
  'iommu.notify': (e, scene) =>
    `listeners are told to ${e.map === 1 ? 'map' : 'unmap'} ${placeText(scene, e.window, e.first, e.count)}`,
  'dma.request': (e) =>
    `${e.device || 'a device'} ${e.write === 1 ? 'writes' : 'reads'} ${counted(e.bytes, 'byte')} at bus address ${hex(e.iova)}`,
  'dma.translate': (e, scene, seq) => {
    const request = requestOf(scene.log, seq)
    const who = request?.device || 'a device'
    const does = e.need === 0 ? 'used' : (['used', 'read at', 'wrote to', 'updated'][e.need & 3] as string)
    const tried = e.need === 0 ? 'tried' : `tried to ${directionText(e.need)} at`
    const place = placeText(scene, e.window, e.entry, 1)
    if (scene.windows.find(e.window)?.isBypass === true)
      return `${who} ${does} bus address ${hex(e.address)} and reached memory ${hex(e.gpa)} without a table`
    if (e.allowed !== 1) return `${who} ${tried} ${place} and was refused`
    return `${who} ${does} ${place} and reached memory ${hex(e.gpa)}`
  },
  'dma.miss': (e, scene, seq) => {
    const who = requestOf(scene.log, seq)?.device || 'a device'
    return `${who} tried to ${e.write === 1 ? 'write' : 'read'} bus address ${hex(e.iova)}, which is in no window of ${e.unit || 'its bus'}`
  },
  'dma.done': (e) => `${e.device || 'a device'} is done: ${counted(e.moved, 'byte')} moved, code ${e.code}`,
  'dma.grant': (e, scene, seq) =>
    `${doer(scene.log, seq, 'the DMA API')} granted ${e.device || 'a device'} ${placeText(scene, e.window, e.first, e.count)}: ` +
    `${bytesText(e.bytes)} of memory at ${hex(e.gpa)}${e.owner === '' ? '' : ` of ${e.owner}`}, to ${directionText(e.dir)}`,
  'dma.revoke': (e, scene, seq) =>
    `${doer(scene.log, seq, 'the DMA API')} took ${placeText(scene, e.window, e.first, e.count)} back from ${e.device || 'a device'}`,
  'dma.direct': (e) =>
    `the DMA API gave ${e.device || 'a device'} direct access: bus address = ${hex(e.offset)} + physical address`,
  'alloc.take': (e, scene) =>
    `the allocator marked ${placeText(scene, e.window, e.first, e.count)} as ${e.pool === 5 ? 'reserved' : 'used'}`,
  'alloc.free': (e, scene) => `the allocator marked ${placeText(scene, e.window, e.first, e.count)} as free`,
  'page.own': (e) =>
    `${e.space} ${hex(e.first * 2 ** e.pageShift)} + ${bytesText(e.count * 2 ** e.pageShift)} ` +
    (isFree(e.owner) ? 'is free' : `belongs to ${e.owner}`),
  'memory.slot': (e) =>
    `memory ${hex(e.gpa)} + ${bytesText(Number(e.bytes))}${e.owner === '' ? '' : ` of ${e.owner}`} ${e.present === 1 ? 'appears' : 'goes'}`,
  'memory.write': (e) => `software wrote ${counted(e.bytes, 'byte')} at ${e.space} ${hex(e.address)}`,
  'memory.corrupt': (e) =>
    `${e.what} ${e.table === 0 ? '' : `of entry ${BigInt.asIntN(64, e.entry)} of hardware table ${e.table} `}` +
    `went astray: ${counted(e.bytes, 'byte')} at ${e.space} ${hex(e.address)} are undefined from now on`,
  'hw.table': (e) =>
    `hardware table ${e.table} is made for bus address ${hex(e.busOffset)}: ` +
    `${counted(e.entries, 'entry', 'entries')} of ${bytesText(2 ** e.pageShift)} in ${counted(e.levels, 'level')}` +
    (e.charged === 0 ? '' : `, ${bytesText(e.charged)} charged`),
  'hw.ref': (e) =>
    `${e.holder || 'somebody'} ${e.delta > 0 ? 'holds' : 'lets go of'} hardware table ${e.table}: ` +
    (e.references === 0 ? 'it is freed' : counted(e.references, 'reference')),
  'hw.set': (e, scene, seq) => {
    const who = doer(scene.log, seq, 'the kernel')
    const { table, entry, count } = e
    const index = count === 1 ? `entry ${entry}` : `entries ${entry} to ${entry + count - 1}`
    const what = `${index} of hardware table ${table}`
    const before = `${hex(e.before)}${stepText(count, e.beforeStep)}`
    const perm = Number(e.tce & 3n)
    if (perm === 0) return `${who} cleared ${what}; before: ${before}`
    const memory = `${hex(e.tce & ~3n)}${stepText(count, e.step)}`
    const over = (e.before & 3n) === 0n ? '' : `; before: ${before}`
    return `${who} set ${what} to memory ${memory}: devices may ${directionText(perm)}${over}`
  },
  'hw.window': (e) =>
    `window ${e.index} of PE ${e.pe} of ${e.unit} ${e.tve === 0n ? 'goes' : `is set to ${hex(e.tve)}`}${e.table === 0 ? '' : `, hardware table ${e.table}`}`,
  'hw.fill': (e) =>
    `${e.unit} remembers for PE ${e.pe} that bus address ${hex(e.address)} + ${bytesText(2 ** e.pageShift)} has ${hex(e.tce)}`,
  'hw.store': (e) =>
    `${counted(e.count, 'store')} to register ${hex(e.offset)} of ${e.unit}, from ${hex(e.value)} on`,
  'hw.firmware': (e) =>
    `firmware call ${e.call} (${e.unit}, ${e.scope}, PE ${e.pe}, ${hex(e.pageBytes)}, ${hex(e.address)}, ${e.count})${e.calls > 1 ? `, and ${e.calls - 1} more for the pages behind,` : ''} answers ${e.code}`,
  'hw.kill': (e) => `${e.unit} forgets ${killedText(e)}`,
  'pe.freeze': (e) =>
    `${e.unit} freezes PE ${e.pe}: a ${e.write === 1 ? 'write' : 'read'} at bus address ${hex(e.address)}, ${e.why}`,
  'pe.thaw': (e) => `${STOPPED[e.stops] ?? 'nothing'} of PE ${e.pe} of ${e.unit} goes again`,
  'pe.stop': (e) => `software freezes PE ${e.pe} of ${e.unit}`,
  'pe.reset': (e) =>
    e.reset === 0
      ? `the reset of PE ${e.pe} of ${e.unit} ends`
      : `${e.reset === 1 ? 'hot' : 'fundamental'} reset of PE ${e.pe} of ${e.unit}`,
  'phb.fence': (e) => (e.up === 1 ? `${e.unit} is fenced` : `${e.unit} was reset and is not fenced any more`),
  'eeh.check': (e) =>
    `EEH checks ${e.device}: ${e.rule}${e.ignored === 0 ? '' : `, ${counted(e.ignored, 'read')} ignored`}`,
  'eeh.interrupt': (e) =>
    `an error interrupt tells of ${peText(e)}: ${e.handled === 1 ? 'it is isolated' : 'the kernel lets it be'}`,
  'eeh.state': (e) => `EEH state of ${peText(e)} is ${hex(e.state)}`,
  'eeh.step': (e) =>
    `EEH recovers ${peText(e)}: ${e.step}, drivers say ${e.result}, ${counted(e.freezes, 'freeze')} within an hour`,
  'eeh.driver': (e) => `${e.driver} of ${e.device} answers ${e.call} with ${e.answer}`,
  'mm.map': (e) =>
    `${e.process} ${e.present === 1 ? 'maps' : 'unmaps'} ${hex(e.ua)} + ${bytesText(Number(e.bytes))}`,
  'mm.pin': (e) =>
    `${counted(Math.abs(e.delta) * e.count, 'page')} of ${e.process} at ${hex(e.ua)} ${e.delta > 0 ? 'pinned' : 'unpinned'}`,
  'mm.locked': (e) =>
    `locked_vm of ${e.process} ${e.delta < 0 ? '-' : '+'} ${Math.abs(e.delta)} = ${e.total} pages`,
  'mm.exit': (e) => `${e.process} ended`,
  'mm.free': (e) => `nobody holds the address space of ${e.process} any more`,
  'region.new': (e) =>
    `${regionText(e)} is registered${e.device === 1 ? ' as device memory' : ''}${countsText(e)}`,
  'region.get': (e) => `${regionText(e)} is registered once more${countsText(e)}`,
  'region.put': (e) =>
    e.code < 0
      ? `${regionText(e)} is not given up: ${e.code}${countsText(e)}`
      : `${regionText(e)} is ${e.used === 0 ? 'gone' : 'registered once less'}${countsText(e)}`,
  'region.map': (e) => {
    const count = Math.abs(e.delta)
    const [what, end] = count === 1 ? ['a mapping', 'es'] : [`${count} mappings`, '']
    return `${what} of ${regionText(e)} ${e.delta > 0 ? `come${end.slice(1)}` : `go${end}`}${countsText(e)}`
  },
  ...IOTLB_DESCRIBERS,
  ...VTD_DESCRIBERS,
  'device.add': (e) => `${e.device} appears below ${e.unit}, DMA mask ${hex(e.mask)}`,
  'device.remove': (e) => `the driver of ${e.device} ended`,
  warning: (e) => `${e.layer} warns: ${e.text}`,
  dead: (e) => `${e.layer} stopped for good: ${e.why}`,
  unmodelled: (e) => `not modelled: ${e.what}`,
}

/** Whether an owner's name in a `page.own` record means that nobody owns the page. */
export const isFree = (owner: string): boolean => owner === '' || owner === 'free'

/**
 * One line of words for a record.
 *
 * @example describe(scene, 12) // 'H_PUT_TCE mapped bus address 0x1000 (LIOBN 0x80000000, entry 1) to ...'
 */
export function describe(scene: Scene, seq: number): string {
  if (!scene.log.has(seq)) return `record ${seq}, which is no longer kept (about this line)`
  const { event }: TraceRecord = scene.log.read(seq)
  return (DESCRIBERS[event.kind] as Describer<EventKind>)(event as never, scene, seq)
}
