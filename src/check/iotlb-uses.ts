import { NO_VALUE } from '../bits/range-map.ts'
import { hex } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { callsAbove, isFree, type Scene } from './describe.ts'
import { because } from './evidence.ts'
import type { FindingList } from './finding-list.ts'
import { type IotlbMap, type IotlbShadow, MAP } from './iotlb-shadow.ts'
import { NO_RECORD } from './lives.ts'
import type { StaleRanges } from './stale-ranges.ts'
import { type VhostShadow, wordAt } from './vhost-shadow.ts'
import type { WindowShadows } from './window-shadow.ts'
import { counted, directionText } from './words.ts'

const STALE = 'stale-iotlb'
const MISMATCH = 'iotlb-mismatch'
const METADATA = 'stale-metadata'
const USE = slotMap('iotlb.use')
const ENTER = slotMap('call.enter')
const USED = 1
const READ = 1
const WRITE = 2

/** What uses are judged with. */
interface UseParts {
  readonly list: FindingList
  readonly vhost: VhostShadow
  readonly held: StaleRanges
  readonly windows: WindowShadows
}

/** Judges each use of a map: one that is stale, one beyond its range or of a map that is gone, one that the IOMMU forbids. */
export class IotlbUses {
  readonly #list: FindingList
  readonly #vhost: VhostShadow
  readonly #held: StaleRanges
  readonly #windows: WindowShadows

  constructor({ list, vhost, held, windows }: UseParts) {
    this.#list = list
    this.#vhost = vhost
    this.#held = held
    this.#windows = windows
  }

  see(log: RecordLog, seq: number, iotlb: IotlbShadow): void {
    const map = iotlb.maps.get(log.slot(seq, USE.map) >>> 0)
    const iova = wordAt(log, seq, USE.iova)
    const bytes = log.slot(seq, USE.bytes) >>> 0
    if (map === undefined || iova < map.iova || iova + BigInt(bytes) - 1n > map.last) {
      this.#astray(log, seq, iotlb, map)
    }
    if (map === undefined) return
    if (map.state === MAP.STALE) this.#usedStale(log, seq, iotlb, map)
    const needed = log.slot(seq, USE.write) === 1 ? WRITE : READ
    if ((map.granted & needed) === 0) this.#notGranted(log, seq, iotlb, map)
  }

  #astray(log: RecordLog, seq: number, iotlb: IotlbShadow, map: IotlbMap | undefined): void {
    const number = log.slot(seq, USE.map) >>> 0
    const by = map?.filled ?? NO_RECORD
    const key = {
      rule: METADATA,
      window: iotlb.number,
      entry: number,
      by,
      ended: NO_RECORD,
      outcome: log.slot(seq, USE.part),
    }
    if (this.#list.again(key)) return
    const where = hex(wordAt(log, seq, USE.iova))
    const why =
      map === undefined
        ? `map ${number}, which its IOTLB does not have any more`
        : `map ${number}, which ends at ${hex(map.last)} and begins at ${hex(map.iova)}`
    const does = log.slot(seq, USE.write) === 1 ? 'writes' : 'reads'
    const message =
      `${log.names.word(iotlb.device) || 'a vhost device'} ${does} ${counted(log.slot(seq, USE.bytes) >>> 0, 'byte')} ` +
      `at bus address ${where} through a pointer of ${why}`
    this.#list.add({ rule: METADATA, message, because: because(this.#scene(log), by, seq), inferred: false })
  }

  #notGranted(log: RecordLog, seq: number, iotlb: IotlbShadow, map: IotlbMap): void {
    const isWrite = log.slot(seq, USE.write) === 1
    const outcome = isWrite ? WRITE : READ
    const by = map.grantedBy
    const key = {
      rule: MISMATCH,
      window: iotlb.number,
      entry: NO_RECORD,
      by: map.perm,
      ended: NO_RECORD,
      outcome,
    }
    if (this.#list.again(key)) return
    const iova = wordAt(log, seq, USE.iova)
    const bytes = counted(log.slot(seq, USE.bytes) >>> 0, 'byte')
    const message =
      `${log.names.word(iotlb.device) || 'a vhost device'} ${isWrite ? 'wrote' : 'read'} ${bytes} ${isWrite ? 'to' : 'of'} ` +
      `${memoryText(map, iova)} through bus address ${hex(iova)}, where the IOMMU lets it ${directionText(map.granted)}: ` +
      `its IOTLB lets it ${directionText(map.perm)}`
    const chain = because(this.#scene(log), by, map.filled, seq)
    this.#list.add({ rule: MISMATCH, message, because: chain, inferred: map.isGrantInferred })
  }

  #usedStale(log: RecordLog, seq: number, iotlb: IotlbShadow, map: IotlbMap): void {
    this.#held.used(map)
    const key = {
      rule: STALE,
      window: iotlb.number,
      entry: map.number,
      by: map.filled,
      ended: map.changed,
      outcome: USED,
    }
    if (this.#list.again(key)) return
    const iova = wordAt(log, seq, USE.iova)
    const isWrite = log.slot(seq, USE.write) === 1
    const memory = memoryText(map, iova)
    const owners = [...this.#vhost.ownersOf(map).keys()]
      .filter((owner) => owner !== NO_VALUE)
      .map((owner) => log.names.word(owner))
      .filter((owner) => !isFree(owner))
    const whose = owners.length === 0 ? '' : ` of ${owners.join(' and ')}`
    const bytes = counted(log.slot(seq, USE.bytes) >>> 0, 'byte')
    const again = this.#held.heirOf(iotlb, map)
    const message =
      `${log.names.word(iotlb.device) || 'a vhost device'} ${isWrite ? 'wrote' : 'read'} ${bytes} ${isWrite ? 'to' : 'of'} ` +
      `${memory}${whose} through bus address ${hex(iova)}, which ${whoChanged(log, map.changed)} ` +
      `${this.#held.agoText(log, map.changed, seq)} before` +
      (again === undefined ? '' : `; the same memory is bus address ${hex(again.iova)} by now`)
    const chain = because(
      this.#scene(log),
      map.filled,
      map.changed,
      map.over,
      again?.filled ?? NO_RECORD,
      seq,
    )
    this.#list.add({ rule: STALE, message, because: chain, inferred: map.isInferred })
  }

  #scene(log: RecordLog): Scene {
    return { log, windows: this.#windows }
  }
}

/** Memory behind a bus address of a map. */
function memoryText(map: IotlbMap, iova: bigint): string {
  const offset = iova - map.iova
  return map.gpa === undefined ? `user address ${hex(map.ua + offset)}` : `memory ${hex(map.gpa + offset)}`
}

/** `H_STUFF_TCE took away`, or what else the record of a change says. */
function whoChanged(log: RecordLog, changed: number): string {
  if (!log.has(changed)) return 'was taken away'
  const [call] = callsAbove(log, changed)
  const who = call === undefined ? undefined : log.names.word(log.slot(call, ENTER.call))
  return who === undefined ? 'was taken away' : `${who} took away`
}
