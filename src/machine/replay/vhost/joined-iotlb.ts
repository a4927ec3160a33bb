import type { VhostRegion } from '../../../reader/vhost-log-format.ts'
import { VhostIotlb } from '../../../table/vhost-iotlb.ts'
import { IOTLB_MESSAGE } from '../../../trace/event-codes.ts'
import type { RecordLog } from '../../../trace/record-log.ts'

/** How many maps a back end keeps its messages do not tell: so many are believed where nobody else does. */
const LIMIT = 1 << 20
const OWNER = 'guest'

/** Bytes that a device reached. */
export interface Reach {
  readonly iova: bigint
  readonly bytes: number
  readonly write: boolean
  /** 0 a buffer, 1 descriptors, 2 available ring, 3 used ring; 4 more where a remembered pointer was used. */
  readonly part: number
  readonly line: number
  /** User address that the back end says it used; left out where it does not say. */
  readonly uaddr?: bigint
  /** Queue whose request is over; left out where it is known that the bytes were reached just now. */
  readonly requestOf?: number
}

/** A range that no map of the IOTLB held. */
export interface Astray {
  readonly iova: bigint
  /** `no map` holds it; a flush took its map while the request was under way; or its map leads elsewhere. */
  readonly why: 'no map' | 'overtaken' | 'elsewhere'
}

/** A map that went, and how many ranges went before it. */
interface GoneMap {
  readonly number: number
  readonly start: bigint
  readonly last: bigint
  readonly place: number
}

/** Maps that went, which are remembered at most for the requests that are under way. */
const GONE_MAX = 4096
const REMEMBERED = 4

/**
 * The IOTLB and the memory of a back end as its messages tell them, and their records. A new life of the IOTLB begins
 * where a driver acknowledges VIRTIO_F_ACCESS_PLATFORM, as in Linux.
 */
export class JoinedIotlb {
  readonly device: string
  readonly #log: RecordLog
  readonly #limit: number
  #number = 0
  #maps: VhostIotlb | undefined
  /** Maps of the lives before: numbers go on. */
  #madeBefore = 0
  #made = 0
  #isFresh = false
  #regions: readonly VhostRegion[] = []
  /** Invalidations so far; of each queue, how many there were when its last request was over. */
  #invalidations = 0
  readonly #before = new Map<number, number>()
  #gone: GoneMap[] = []

  /** @param limit maps that the back end keeps */
  constructor(log: RecordLog, device: string, limit = LIMIT) {
    this.#log = log
    this.#limit = limit
    this.device = device
  }

  /** Maps that it holds; none where addresses are not translated. */
  get count(): number {
    return this.#maps?.count ?? 0
  }

  get isOn(): boolean {
    return this.#maps !== undefined
  }

  /** A driver took features. @param isOn with VIRTIO_F_ACCESS_PLATFORM */
  begin(isOn: boolean): void {
    if (!isOn) {
      this.#maps = undefined
      return
    }
    if (this.#isFresh && this.#maps !== undefined) return
    this.#madeBefore += this.#made
    this.#made = 0
    this.#maps = new VhostIotlb({ limit: this.#limit, retire: true })
    this.#isFresh = true
    this.#number++
    this.#log.emit('iotlb.new', null, { iotlb: this.#number, device: this.device, limit: this.#limit })
  }

  /** Guest memory, instead of all that was there before. */
  setMemory(regions: readonly VhostRegion[]): void {
    const isSame = (a: VhostRegion, b: VhostRegion) =>
      a.gpa === b.gpa && a.bytes === b.bytes && a.uaddr === b.uaddr
    for (const old of this.#regions) if (!regions.some((r) => isSame(r, old))) this.#slot(old, 0)
    for (const region of regions) if (!this.#regions.some((r) => isSame(r, region))) this.#slot(region, 1)
    this.#regions = regions
  }

  addMemory(regions: readonly VhostRegion[]): void {
    this.setMemory([...this.#regions, ...regions])
  }

  removeMemory(regions: readonly VhostRegion[]): void {
    this.setMemory(this.#regions.filter((r) => !regions.some((gone) => gone.gpa === r.gpa)))
  }

  /** Guest memory behind a user address, if the back end was told of it. */
  gpaOf(uaddr: bigint): bigint | undefined {
    const region = this.#regions.find((r) => uaddr >= r.uaddr && uaddr < r.uaddr + r.bytes)
    return region === undefined ? undefined : region.gpa + (uaddr - region.uaddr)
  }

  /** The user address of guest memory, and the bytes from there to the end of its region. */
  userOf(gpa: bigint): { readonly uaddr: bigint; readonly bytes: bigint } | undefined {
    const region = this.#regions.find((r) => gpa >= r.gpa && gpa < r.gpa + r.bytes)
    if (region === undefined) return undefined
    return { uaddr: region.uaddr + (gpa - region.gpa), bytes: region.bytes - (gpa - region.gpa) }
  }

  /** A message went by. @param isOfQemu who sent it @param code 0 where it was taken */
  message(m: {
    type: keyof typeof IOTLB_MESSAGE
    iova: bigint
    bytes: bigint
    uaddr: bigint
    perm: number
    isOfQemu: boolean
    code: number
  }): void {
    this.#log.emit('vhost.message', null, {
      device: this.device,
      from: m.isOfQemu ? 'QEMU' : this.device,
      type: IOTLB_MESSAGE[m.type],
      iova: m.iova,
      bytes: m.bytes,
      ua: m.uaddr,
      perm: m.perm,
      code: m.code,
    })
  }

  miss(m: { iova: bigint; access: number; queue: number; line: number }): void {
    if (this.#maps !== undefined) this.#log.emit('iotlb.miss', null, { iotlb: this.#number, ...m })
  }

  /** QEMU gave a translation. Answers why not, where it cannot be one. */
  update(iova: bigint, bytes: bigint, uaddr: bigint, perm: number): string | undefined {
    const maps = this.#maps
    if (maps === undefined) return 'no IOTLB is in use'
    const last = iova + bytes - 1n
    if (bytes === 0n || last >> 64n !== 0n) return 'the range is empty or goes past the end'
    if (perm < 1 || perm > 3) return `permissions are ${perm}`
    const error = maps.add(iova, last, uaddr, perm)
    if (error !== 0) return `the map is refused (${error})`
    this.#isFresh = false
    for (let part = 0; part < maps.addedMaps; part++) {
      maps.showAdd(part)
      if (maps.evicted >= 0) {
        const map = this.#numberOf(maps.evicted)
        const evicted = { iotlb: this.#number, map, iova: maps.evictedStart, last: maps.evictedLast }
        this.#log.emit('iotlb.evict', null, evicted)
      }
      this.#log.emit('iotlb.fill', null, {
        iotlb: this.#number,
        map: this.#numberOf(maps.mapNumber),
        iova: maps.start,
        last: maps.last,
        ua: maps.address,
        perm,
      })
    }
    this.#made = Math.max(this.#made, maps.mapNumber)
    return undefined
  }

  /** QEMU took translations back. */
  invalidate(iova: bigint, bytes: bigint): void {
    if (this.#maps === undefined) return
    // No bytes from 0 on are all there are, as in Linux.
    const last = BigInt.asUintN(64, iova + bytes - 1n)
    this.#remember(this.#maps, iova, last)
    const maps = this.#maps.delete(iova, last)
    const dropped = { iotlb: this.#number, iova, last, maps, why: 'invalidate' }
    this.#log.emit('iotlb.drop', null, dropped)
  }

  /** Maps that go: a request that is under way may have used them before. */
  #remember(maps: VhostIotlb, iova: bigint, last: bigint): void {
    const place = ++this.#invalidations
    for (let found = maps.first(iova, last); found; found = maps.next())
      this.#gone.push({ number: this.#numberOf(maps.mapNumber), start: maps.start, last: maps.last, place })
    if (this.#gone.length > GONE_MAX) this.#gone = this.#gone.slice(-GONE_MAX / 2)
  }

  /** The device reached bytes. Answers what no map holds, up to the first that one does. */
  use(reach: Reach): Astray | undefined {
    const maps = this.#maps
    const { iova, bytes, part } = reach
    if (maps === undefined || bytes === 0) return undefined
    const end = iova + BigInt(bytes)
    let astray: Astray | undefined
    for (let at = iova; at < end; ) {
      let stop = end
      if (maps.first(at, at)) {
        if (maps.last < end) stop = maps.last + 1n
        const ua = maps.address + (at - maps.start)
        const said = reach.uaddr === undefined ? ua : reach.uaddr + (at - iova)
        this.#used(reach, at, { bytes: Number(stop - at), map: this.#numberOf(maps.mapNumber), ua: said })
        if (said !== ua && part < REMEMBERED) astray ??= { iova: at, why: 'elsewhere' }
      } else {
        const gone = this.#goneAt(at, reach)
        if (gone === undefined && part < REMEMBERED) return { iova: at, why: 'no map' }
        if (gone !== undefined && gone.last < end) stop = gone.last + 1n
        if (part < REMEMBERED) astray ??= { iova: at, why: 'overtaken' }
        else {
          const ua = (reach.uaddr ?? 0n) + (at - iova)
          this.#used(reach, at, { bytes: Number(stop - at), map: gone?.number ?? 0, ua })
        }
      }
      at = stop
    }
    return astray
  }

  /** A request of a queue is over. */
  requestDone(queue: number): void {
    this.#before.set(queue, this.#invalidations)
  }

  /** A map that held an address, and may have been used: when a request of its queue was under way, or by a remembered pointer. */
  #goneAt(iova: bigint, { requestOf, part }: Reach): GoneMap | undefined {
    if (requestOf === undefined && part < REMEMBERED) return undefined
    const before = requestOf === undefined ? 0 : (this.#before.get(requestOf) ?? 0)
    return this.#gone.findLast((map) => map.place > before && map.start <= iova && iova <= map.last)
  }

  #used(
    { write, part, line }: Reach,
    iova: bigint,
    by: { readonly bytes: number; readonly map: number; readonly ua: bigint },
  ): void {
    const fields = { iotlb: this.#number, iova, ...by, write: write ? 1 : 0, part, line }
    this.#log.emit('iotlb.use', null, fields)
  }

  #numberOf(map: number): number {
    return this.#madeBefore + map
  }

  #slot({ gpa, bytes, uaddr: ua }: VhostRegion, present: 0 | 1): void {
    this.#log.emit('memory.slot', null, { gpa, bytes, ua, owner: OWNER, present })
  }
}
