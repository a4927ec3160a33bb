import { hex } from '../bits/u64.ts'
import type { RecordLog } from '../trace/record-log.ts'
import type { Scene } from './describe.ts'
import { because } from './evidence.ts'
import type { FindingList } from './finding-list.ts'
import type { IotlbMap, IotlbShadow } from './iotlb-shadow.ts'
import { NO_RECORD } from './lives.ts'
import { ownersText } from './page-owners.ts'
import type { VhostShadow } from './vhost-shadow.ts'
import { bytesText, counted } from './words.ts'

const RULE = 'stale-iotlb'
const HELD = 0

/** Maps of one IOTLB that outlived the same change. */
interface Left {
  readonly iotlb: IotlbShadow
  readonly maps: readonly IotlbMap[]
  /** The return or the wait that ended the change; NO_RECORD at the end of the run. */
  readonly seq: number
  readonly when: string
}

/** What is still there of such maps, and the finding that speaks of them. */
interface Open {
  readonly finding: { message: string }
  readonly text: string
  readonly since: number
  count: number
  uses: number
}

/** Findings of maps that stay behind, which say in the end for how long memory could be reached through them. */
export class StaleRanges {
  readonly #list: FindingList
  readonly #vhost: VhostShadow
  readonly #open = new Map<IotlbMap, Open>()

  constructor(list: FindingList, vhost: VhostShadow) {
    this.#list = list
    this.#vhost = vhost
  }

  add(scene: Scene, { iotlb, maps, seq, when }: Left): void {
    const { log } = scene
    const [first] = maps as readonly [IotlbMap]
    const key = {
      rule: RULE,
      window: iotlb.number,
      entry: first.number,
      by: first.filled,
      ended: first.changed,
      outcome: HELD,
    }
    if (this.#list.again(key)) return
    const bytes = maps.reduce((n, map) => n + (map.last - map.iova + 1n), 0n)
    const owners = new Map<number, number>()
    for (const map of maps) {
      for (const [owner, n] of this.#vhost.ownersOf(map)) owners.set(owner, (owners.get(owner) ?? 0) + n)
    }
    const whose = owners.size === 0 ? '' : ` (${ownersText(log, owners)})`
    const memory =
      first.gpa === undefined ? '' : ` at ${hex(first.gpa)}${maps.length > 1 ? ' and elsewhere' : ''}`
    const text =
      `${log.names.word(iotlb.device) || 'a vhost device'} still reaches ${bytesText(Number(bytes))} of memory${memory}${whose} ` +
      `${when}: ${counted(maps.length, 'map')} of its IOTLB, from bus address ${hex(first.iova)} on`
    const chain = because(scene, first.filled, first.changed, first.over, seq)
    this.#list.add({ rule: RULE, message: text, because: chain, inferred: maps.some((m) => m.isInferred) })
    const finding = this.#list.found.at(-1) as { message: string }
    const open: Open = { finding, text, since: first.changed, count: maps.length, uses: 0 }
    for (const map of maps) this.#open.set(map, open)
  }

  used(map: IotlbMap): void {
    const open = this.#open.get(map)
    if (open !== undefined) open.uses++
  }

  /** A map that stayed behind goes at last, or the IOMMU says again what it says: `how`. */
  dropped(log: RecordLog, seq: number, map: IotlbMap, how: string): void {
    const open = this.#open.get(map)
    if (open === undefined) return
    this.#open.delete(map)
    open.count--
    if (open.count > 0) return
    open.finding.message = `${open.text}; ${how} ${this.agoText(log, open.since, seq)} after the change, ${usesText(open)}`
  }

  /** The run ends: what is still there says so. */
  finish(log: RecordLog): void {
    for (const open of new Set(this.#open.values())) {
      const since = this.agoText(log, open.since, log.length - 1)
      open.finding.message = `${open.text}; still there at the end, ${since} after the change, ${usesText(open)}`
    }
  }

  /** A younger map of the same memory at another bus address: whoever uses it has the memory now. */
  heirOf(iotlb: IotlbShadow, map: IotlbMap): IotlbMap | undefined {
    if (map.gpa === undefined) return undefined
    for (const other of iotlb.maps.values()) {
      if (other.filled > map.changed && other.memoryPage === map.memoryPage && other.iova !== map.iova)
        return other
    }
    return undefined
  }

  /** Time between two records: in ticks where the clock ran, else in records. */
  agoText(log: RecordLog, from: number, to: number): string {
    const ticks = log.has(from) && log.has(to) && to !== NO_RECORD ? log.tickOf(to) - log.tickOf(from) : 0
    return ticks > 0 ? counted(ticks, 'tick') : counted(Math.max(0, to - from), 'record')
  }
}

const usesText = ({ uses }: Open): string => (uses === 0 ? 'never used' : `used ${counted(uses, 'time')}`)
