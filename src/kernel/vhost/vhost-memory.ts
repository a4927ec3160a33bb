import { ERRNO_CODES } from '../../bits/codes.ts'
import { Held } from '../../bits/held.ts'
import { keyOf } from '../../bits/state.ts'
import { numberOf } from '../../bits/u64.ts'
import {
  ACCESS,
  type AccessNumber,
  type Reach,
  RING_PART,
  type RingMemory,
  type RingPartNumber,
} from '../../hw/virtio/ring-memory.ts'
import type { Segments } from '../../hw/virtio/segments.ts'
import type { AddressSpace } from '../../memory/address-space.ts'
import { IotlbPiece } from '../../table/iotlb-piece.ts'
import { REMEMBERED } from '../../trace/event-codes.ts'
import type { Stage } from '../../trace/stage.ts'
import type { DeviceTables } from './device-tables.ts'
import { IotlbRecords } from './iotlb-records.ts'

const { EAGAIN, EFAULT, EPERM, ENOBUFS } = ERRNO_CODES
const TWO_32 = 2 ** 32
/** User addresses are exact numbers below this. */
const PLACE_END_HI = 2 ** 21
/** Bytes of a ring that are looked at when a queue gets a backend; no whole ring is so short. */
const START_BYTES = 4

/** The map that a queue remembers for one of its rings: where addresses of it are, with no end. */
interface RememberedMap {
  readonly map: number
  readonly startHi: number
  readonly startLo: number
  readonly addrHi: number
  readonly addrLo: number
}

type Remembered = readonly [RememberedMap | null, RememberedMap | null, RememberedMap | null]
const NOTHING: Remembered = [null, null, null]

const hashOf = (remembered: Remembered): number =>
  remembered.reduce((n, m) => keyOf(n, m === null ? 0 : m.map + 1), 0)

export interface VhostMemoryParts {
  readonly stage: Stage
  /** Name of the queue in the state. */
  readonly name: string
  readonly queue: number
  readonly tables: DeviceTables
  /** Address space of the owner; null where there is none. */
  readonly owner: () => AddressSpace | null
  /** Asks user space for an address. */
  readonly miss: (hi: number, lo: number, access: AccessNumber) => void
  /** The model does not know what comes of an access. */
  readonly onUnknown: (why: string) => void
  /** The worker of the device never comes back. */
  readonly onSpin: () => void
}

/**
 * The memory of a driver as one queue of a vhost device sees it: through the IOTLB of the device where it has one, else
 * buffers through its memory table, and rings at user addresses.
 *
 * Rings are looked up as a whole before each run, and remembered where one map holds them. Every use, miss and refusal
 * is recorded. (Linux v6.1 drivers/vhost/vhost.c, translate_desc, iotlb_access_ok, vhost_vq_meta_fetch)
 */
export class VhostMemory implements RingMemory {
  /** What was looked up last, and why it was refused (0: it was not). */
  lastPart: RingPartNumber = RING_PART.BUFFER
  lastErrno = 0
  /** Lanes of the address that `#reachable` and `#locate` have found. */
  readonly #piece = new IotlbPiece()
  readonly #parts: VhostMemoryParts
  readonly #records: IotlbRecords
  readonly #remembered: Held<Remembered>

  constructor(parts: VhostMemoryParts) {
    this.#parts = parts
    this.#records = new IotlbRecords(parts.stage)
    this.#remembered = new Held(parts.tables.journal, `${parts.name} rings`, NOTHING, hashOf)
  }

  get hasIotlb(): boolean {
    return this.#parts.tables.iotlb !== null
  }

  /** What is remembered of the rings goes. */
  forget(): void {
    if (this.#remembered.value !== NOTHING) this.#remembered.set(NOTHING)
  }

  reach(
    _queue: number,
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
    into: Segments,
  ): Reach {
    this.lastPart = part
    this.lastErrno = 0
    const errno = this.#reach(hi, lo, bytes, access, part, into)
    if (errno === EAGAIN) return 'pending'
    // A list that is full is the business of who made it.
    if (errno >= 0 || into.isFull) return 'ok'
    this.lastErrno = errno
    return 'refused'
  }

  load(place: number, into: Uint8Array, at: number, bytes: number): void {
    this.#move(false, place, into, at, bytes)
  }

  store(place: number, from: Uint8Array, at: number, bytes: number): void {
    this.#move(true, place, from, at, bytes)
  }

  /**
   * Looks a buffer up: how many pieces of it were added to `into`, or -EAGAIN (a miss was sent), -EFAULT (the memory
   * table has no such address), -EPERM, -ENOBUFS (`into` is full).
   */
  translate(hi: number, lo: number, bytes: number, access: AccessNumber, into: Segments): number {
    return this.#translate(hi, lo, bytes, access, RING_PART.BUFFER, into)
  }

  #reach(
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
    into: Segments,
  ): number {
    const { tables } = this.#parts
    if (part === RING_PART.BUFFER) return this.#translate(hi, lo, bytes, access, part, into)
    if (tables.iotlb === null) return this.#take(hi, lo, bytes, access, part, into)
    const remembered = this.#remembered.value[part - 1] ?? null
    if (remembered !== null) {
      this.#piece.locate(hi, lo, remembered.startHi, remembered.startLo, remembered.addrHi, remembered.addrLo)
      const { map } = remembered
      const { uaHi, uaLo } = this.#piece
      this.#records.use(tables.number, map, hi, lo, uaHi, uaLo, bytes, access, part + REMEMBERED)
      return this.#take(uaHi, uaLo, bytes, access, part, into)
    }
    // The kernel looks for a map to read from, also where it is about to write.
    const isStart = part === RING_PART.USED && bytes === START_BYTES
    const errno = this.#translate(hi, lo, bytes, isStart ? ACCESS.READ : access, part, into)
    return Math.min(errno, 0)
  }

  /** Pieces of [hi:lo, + bytes), each from the map with the smallest start that reaches into what is left. */
  #translate(
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
    into: Segments,
  ): number {
    const { tables } = this.#parts
    const isIotlb = tables.iotlb !== null
    const maps = tables.iotlb ?? tables.memory
    let [atHi, atLo] = [hi, lo]
    const lastLo = (lo + (bytes - 1)) | 0
    const carry = Math.floor(((lo >>> 0) + bytes - 1) / TWO_32)
    const lastHi = (hi + carry) | 0
    let pieces = 0
    for (let done = 0; done < bytes; pieces++) {
      if (into.isFull) return ENOBUFS
      if (
        maps === null ||
        !maps.firstLanes(atHi, atLo, lastHi, lastLo) ||
        isAbove(maps.startHi, maps.startLo, atHi, atLo)
      ) {
        if (!isIotlb) return EFAULT
        this.#parts.miss(atHi, atLo, access)
        return EAGAIN
      }
      if ((maps.perm & access) === 0) {
        if (isIotlb) this.#records.refuse(tables.number, this.#parts.queue, atHi, atLo, access, EPERM)
        return EPERM
      }
      const left = bytes - done
      const room = bytesToEnd(maps.lastHi, maps.lastLo, atHi, atLo)
      if (room === 0) return this.#endless(part)
      const piece = Math.min(left, room)
      this.#piece.locate(atHi, atLo, maps.startHi, maps.startLo, maps.addrHi, maps.addrLo)
      const [uaHi, uaLo] = [this.#piece.uaHi, this.#piece.uaLo]
      if (isIotlb) {
        const map = tables.mapNumber(maps.mapNumber)
        this.#records.use(tables.number, map, atHi, atLo, uaHi, uaLo, piece, access, part)
        const holdsAll = done === 0 && room >= bytes
        const isStart = part === RING_PART.USED && bytes === START_BYTES
        if (part !== RING_PART.BUFFER && holdsAll && !isStart) {
          const { startHi, startLo, addrHi, addrLo } = maps
          this.#remember(part, { map, startHi, startLo, addrHi, addrLo })
        }
      }
      const errno = this.#take(uaHi, uaLo, piece, access, part, into)
      if (errno < 0) return errno
      done += piece
      atHi = (atHi + Math.floor(((atLo >>> 0) + piece) / TWO_32)) | 0
      atLo = (atLo + piece) | 0
    }
    return pieces
  }

  #remember(part: RingPartNumber, map: RememberedMap): void {
    const [desc, avail, used] = this.#remembered.value
    if (part === RING_PART.DESCRIPTORS) this.#remembered.set([map, avail, used])
    else if (part === RING_PART.AVAILABLE) this.#remembered.set([desc, map, used])
    else this.#remembered.set([desc, avail, map])
  }

  /**
   * A map of all addresses has a size of 0 (erratum `vhost-empty-update`): at address 0 nothing comes nearer to the end.
   * A buffer fills the list of pieces with nothing; a ring is looked at for ever.
   */
  #endless(part: RingPartNumber): number {
    if (part === RING_PART.BUFFER) return ENOBUFS
    this.#parts.onSpin()
    return EFAULT
  }

  /** User memory [hi:lo, + bytes) joins the list: 0, or -EFAULT where the owner has not mapped it so. */
  #take(
    hi: number,
    lo: number,
    bytes: number,
    access: AccessNumber,
    part: RingPartNumber,
    into: Segments,
  ): number {
    const mm = this.#parts.owner()
    if (mm === null || mm.isDead) {
      this.#parts.onUnknown('vhost reaches for memory of a process that has ended')
      return EFAULT
    }
    if (!isMapped(mm, hi, lo, bytes, access)) {
      // Rings are read and written at once: the queue fails. What a tap does with half a frame is another matter.
      if (part === RING_PART.BUFFER)
        this.#parts.onUnknown('vhost is given a buffer that its owner has not mapped')
      return EFAULT
    }
    into.addPlace(numberOf(hi, lo), bytes)
    return 0
  }

  #move(write: boolean, place: number, data: Uint8Array, at: number, bytes: number): void {
    const mm = this.#parts.owner()
    const part = data.subarray(at, at + bytes)
    const moved = write ? mm?.write(BigInt(place), part) : mm?.read(BigInt(place), part)
    if (moved?.code !== 0) this.#parts.onUnknown('the host has no memory left for a page that vhost reaches')
  }
}

/** Whether start is above the address. */
const isAbove = (startHi: number, startLo: number, hi: number, lo: number): boolean =>
  startHi >>> 0 > hi >>> 0 || (startHi === hi && startLo >>> 0 > lo >>> 0)

/** last - at + 1: 2^32 where it is no less, 0 where it is 2^64, which the kernel counts as 0. */
function bytesToEnd(lastHi: number, lastLo: number, atHi: number, atLo: number): number {
  const low = (lastLo >>> 0) - (atLo >>> 0)
  const high = (lastHi - atHi + (low < 0 ? -1 : 0)) | 0
  const lowWord = low >>> 0
  if (high === 0) return lowWord + 1
  return high === -1 && lowWord === TWO_32 - 1 ? 0 : TWO_32
}

/** Whether a process can access its bytes so. */
function isMapped(mm: AddressSpace, hi: number, lo: number, bytes: number, access: AccessNumber): boolean {
  if (bytes === 0) return true
  if (hi >>> 0 >= PLACE_END_HI) return false
  const { pageBytes } = mm.host
  const place = numberOf(hi, lo)
  const last = Math.floor((place + bytes - 1) / pageBytes)
  for (let page = Math.floor(place / pageBytes); page <= last; page++) {
    if (!mm.ranges.permits(page, access === ACCESS.WRITE)) return false
  }
  return true
}
