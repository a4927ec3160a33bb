import { wordOf } from '../bits/u64.ts'
import { slotMap } from '../trace/event.ts'
import type { RecordLog } from '../trace/record-log.ts'
import { NO_RECORD } from './lives.ts'

const FILL = slotMap('iotlb.fill')
const NEW = slotMap('iotlb.new')
const MEMORY = slotMap('memory.slot')
const UNIT_SHIFT = 12n
/** Maps of more pages than this are not found by page, but by a look at each of them. */
const INDEXED_PAGES = 64

/** What is known of a map: as the IOMMU has it, changed there, flushed after that, or left behind by a change that is over. */
export const MAP = { FRESH: 0, CHANGED: 1, FLUSHED: 2, STALE: 3 } as const

/** A map of a vhost IOTLB as records tell it. */
export interface IotlbMap {
  readonly number: number
  readonly iova: bigint
  readonly last: bigint
  readonly ua: bigint
  /** Guest memory behind `ua`; undefined where no memory slot holds all of it. */
  readonly gpa: bigint | undefined
  readonly perm: number
  /** Record that made it. */
  readonly filled: number
  /** First and last 4 KiB page of bus addresses, and the page of memory behind the first; NaN where that is not known. */
  readonly firstPage: number
  readonly lastPage: number
  readonly memoryPage: number
  state: number
  /** Record that took the translation away, or gave it another meaning; and the flush or return that ended the change. */
  changed: number
  over: number
  /** What the IOMMU permitted when it came, and the record of that; as `perm` where nobody knows better. */
  granted: number
  grantedBy: number
  isGrantInferred: boolean
  /** The change rests on what a log does not show. */
  isInferred: boolean
}

/** A stretch of guest memory in QEMU's address space. */
interface Slot {
  readonly gpa: bigint
  readonly bytes: bigint
  readonly ua: bigint
}

/** Guest memory by user address, from `memory.slot` records. */
export class GuestSlots {
  readonly #slots: Slot[] = []

  see(log: RecordLog, seq: number): void {
    const word = (slot: number) => wordOf(log.slot(seq, slot + 1), log.slot(seq, slot))
    const [gpa, bytes, ua] = [word(MEMORY.gpa), word(MEMORY.bytes), word(MEMORY.ua)]
    const known = this.#slots.findIndex((slot) => slot.gpa === gpa)
    if (known >= 0) this.#slots.splice(known, 1)
    if (log.slot(seq, MEMORY.present) === 1) this.#slots.push({ gpa, bytes, ua })
  }

  /** Guest memory behind user addresses [ua, ua + bytes), where one slot holds them all. */
  gpaOf(ua: bigint, bytes: bigint): bigint | undefined {
    const slot = this.#slots.find((s) => ua >= s.ua && ua + bytes <= s.ua + s.bytes)
    return slot === undefined ? undefined : slot.gpa + (ua - slot.ua)
  }
}

/** One IOTLB of a vhost device: its maps, found by number and by bus page. */
export class IotlbShadow {
  readonly number: number
  /** Interned name of the device. */
  readonly device: number
  readonly maps = new Map<number, IotlbMap>()
  readonly #byPage = new Map<number, IotlbMap[]>()
  readonly #large = new Set<IotlbMap>()

  constructor(number: number, device: number) {
    this.number = number
    this.device = device
  }

  static begin(log: RecordLog, seq: number): IotlbShadow {
    return new IotlbShadow(log.slot(seq, NEW.iotlb) >>> 0, log.slot(seq, NEW.device))
  }

  fill(log: RecordLog, seq: number, slots: GuestSlots): IotlbMap {
    const word = (slot: number) => wordOf(log.slot(seq, slot + 1), log.slot(seq, slot))
    const [iova, last, ua] = [word(FILL.iova), word(FILL.last), word(FILL.ua)]
    const gpa = slots.gpaOf(ua, last - iova + 1n)
    const map: IotlbMap = {
      number: log.slot(seq, FILL.map) >>> 0,
      iova,
      last,
      ua,
      gpa,
      perm: log.slot(seq, FILL.perm) & 3,
      filled: seq,
      firstPage: Number(iova >> UNIT_SHIFT),
      lastPage: Number(last >> UNIT_SHIFT),
      memoryPage: gpa === undefined ? Number.NaN : Number(gpa >> UNIT_SHIFT),
      state: MAP.FRESH,
      changed: NO_RECORD,
      over: NO_RECORD,
      granted: log.slot(seq, FILL.perm) & 3,
      grantedBy: NO_RECORD,
      isGrantInferred: false,
      isInferred: false,
    }
    this.maps.set(map.number, map)
    if (map.lastPage - map.firstPage >= INDEXED_PAGES) this.#large.add(map)
    else {
      for (let page = map.firstPage; page <= map.lastPage; page++) {
        const there = this.#byPage.get(page)
        if (there === undefined) this.#byPage.set(page, [map])
        else there.push(map)
      }
    }
    return map
  }

  remove(map: IotlbMap): void {
    this.maps.delete(map.number)
    if (this.#large.delete(map)) return
    for (let page = map.firstPage; page <= map.lastPage; page++) {
      const there = this.#byPage.get(page)
      if (there === undefined) continue
      if (there.length === 1) this.#byPage.delete(page)
      else there.splice(there.indexOf(map), 1)
    }
  }

  /** The maps that touch 4 KiB pages [firstPage, lastPage] of bus addresses, each once. */
  touching(firstPage: number, lastPage: number): IotlbMap[] {
    const found = [...this.#large].filter((m) => m.firstPage <= lastPage && m.lastPage >= firstPage)
    if (lastPage - firstPage >= this.#byPage.size) {
      for (const map of this.maps.values()) {
        if (this.#large.has(map)) continue
        if (map.firstPage <= lastPage && map.lastPage >= firstPage) found.push(map)
      }
      return found
    }
    for (let page = firstPage; page <= lastPage; page++) {
      for (const map of this.#byPage.get(page) ?? []) {
        if (page === Math.max(firstPage, map.firstPage)) found.push(map)
      }
    }
    return found
  }

  /** The maps that Linux drops for [iova, last]: its overlap test as it stands, also where `last` lies before `iova`. */
  overlapping(iova: bigint, last: bigint): IotlbMap[] {
    const overlaps = (m: IotlbMap) => m.iova <= last && iova <= m.last
    const [first, end] = [Number(iova >> UNIT_SHIFT), Number(last >> UNIT_SHIFT)]
    const candidates = end < first ? [...this.maps.values()] : this.touching(first, end)
    return candidates.filter(overlaps)
  }
}
