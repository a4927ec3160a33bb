import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { numberOf } from '../../bits/u64.ts'
import {
  BLK,
  BLK_ANSWERS,
  BLK_CONFIG_FIELDS,
  BLK_HEADER_BYTES,
  BLK_ID_BYTES,
  BLK_SEGMENT_BYTES,
  BLK_SEGMENT_UNMAP,
  BLK_STATUS,
  BLK_TYPE,
  blkConfigBytes,
} from './blk-format.ts'
import { type BlockStore, SECTOR_BYTES } from './block-store.ts'
import type { Chain } from './chain.ts'
import { deviceFault } from './device-faults.ts'
import { featureBits, hasFeature, VIRTIO_BLK_F } from './features.ts'
import type { ChainServer } from './queue-run.ts'

const NO_HEADER = deviceFault('blk-header-short')
const NO_STATUS = deviceFault('blk-status-missing')
const UNKNOWN_FLAGS = ~BLK_SEGMENT_UNMAP
/** Offset of `writeback`: the one byte of the configuration that a driver may write. */
const WRITEBACK_OFFSET = BLK_CONFIG_FIELDS.find((f) => f.name === 'writeback')?.offset ?? 0

/** The write cache: switched by the driver, or off because the driver cannot ask for a flush. */
const CACHE = { OFF: 0, ON: 1, UNUSABLE: 2 } as const

export interface VirtioBlkOptions {
  readonly name: string
  readonly store: BlockStore
  readonly journal: Journal
  readonly isReadOnly?: boolean
  /** Serial number, up to 20 characters of ASCII. */
  readonly id?: string
  /** Block that the driver should work in, in bytes; 512. */
  readonly blockBytes?: number
  /** Most data segments of a request; 126. */
  readonly segmentsMax?: number
  /** Queues; 1. More offer MQ. */
  readonly queues?: number
  /** Most sectors of a segment of DISCARD and WRITE_ZEROES; 2^22 (2 GiB). */
  readonly discardSectorsMax?: number
  /** Most such segments of a request; 16. */
  readonly discardSegmentsMax?: number
}

/**
 * A virtio block device: answers requests of any of its queues (virtio 1.2, Block Device).
 *
 * A request is a header of 16 bytes to read, data, and a byte to write at the very end that takes the status; how
 * they are cut into descriptors does not matter. The used length is what was written: data and the status.
 *
 * @example
 * const disk = new VirtioBlk({ name: 'vda', store, journal })
 * const run = new QueueRun(ring, disk)
 */
export class VirtioBlk implements ChainServer {
  /** What the device offers, without the bits that belong to rings and transport. */
  readonly features: bigint
  readonly options: VirtioBlkOptions
  /** Of the last request: its type, its first sector, and the place of the rule that answered (`BLK_ANSWERS`). */
  lastType = 0
  lastSector = 0
  lastRule: number = BLK.done
  /** Requests by the rule that answered them. */
  readonly counts = new Float64Array(BLK_ANSWERS.length)
  readonly #store: BlockStore
  readonly #config: Uint8Array
  readonly #id: Uint8Array
  readonly #isReadOnly: boolean
  readonly #rangeSectorsMax: number
  readonly #rangesMax: number
  readonly #writeback: Cells
  /** A header, a segment, or a status. */
  readonly #scratch = new Uint8Array(BLK_HEADER_BYTES)
  readonly #words = new DataView(this.#scratch.buffer)
  // Segments of a DISCARD or WRITE_ZEROES.
  readonly #rangeStarts: Float64Array
  readonly #rangeSectors: Float64Array
  readonly #rangeFlags: Uint32Array
  /** Data bytes that the last request wrote to the driver. */
  #written = 0

  constructor(options: VirtioBlkOptions) {
    const { store, isReadOnly = false, queues = 1 } = options
    const F = VIRTIO_BLK_F
    const changing = isReadOnly ? [F.RO] : [F.CONFIG_WCE, F.DISCARD, F.WRITE_ZEROES]
    this.options = options
    this.features = featureBits(F.SEG_MAX, F.BLK_SIZE, F.FLUSH, ...changing, ...(queues > 1 ? [F.MQ] : []))
    this.#store = store
    this.#isReadOnly = isReadOnly
    this.#rangeSectorsMax = options.discardSectorsMax ?? 2 ** 22
    this.#rangesMax = options.discardSegmentsMax ?? 16
    this.#rangeStarts = new Float64Array(this.#rangesMax)
    this.#rangeSectors = new Float64Array(this.#rangesMax)
    this.#rangeFlags = new Uint32Array(this.#rangesMax)
    this.#id = idBytes(options.id ?? '')
    this.#writeback = new Cells(options.journal, keyOf('virtio-blk', options.name), 1)
    this.#writeback.set(0, CACHE.ON)
    const range = isReadOnly ? 0 : this.#rangeSectorsMax
    const ranges = isReadOnly ? 0 : this.#rangesMax
    this.#config = blkConfigBytes({
      capacity: store.sectors,
      seg_max: options.segmentsMax ?? 126,
      blk_size: options.blockBytes ?? SECTOR_BYTES,
      num_queues: queues,
      max_discard_sectors: range,
      max_discard_seg: ranges,
      discard_sector_alignment: isReadOnly ? 0 : (options.blockBytes ?? SECTOR_BYTES) / SECTOR_BYTES,
      max_write_zeroes_sectors: range,
      max_write_zeroes_seg: ranges,
      write_zeroes_may_unmap: isReadOnly ? 0 : 1,
    })
  }

  /** A copy of the configuration space as it stands. */
  get config(): Uint8Array {
    const bytes = this.#config.slice()
    bytes[WRITEBACK_OFFSET] = this.#writeback.get(0) === CACHE.ON ? 1 : 0
    return bytes
  }

  /** The driver writes to the configuration space: the write cache goes on or off, other bytes stay. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    const value = bytes[WRITEBACK_OFFSET - offset]
    if (value !== undefined && hasFeature(this.features, VIRTIO_BLK_F.CONFIG_WCE)) {
      this.#writeback.set(0, value === 0 ? CACHE.OFF : CACHE.ON)
    }
  }

  /**
   * The driver has taken features. Without FLUSH among them it cannot ask for one, so nothing stays in a cache. The next
   * driver that can (an operating system behind firmware) finds the cache on again; what a driver switched off stays off.
   */
  negotiate(features: bigint): void {
    const canSwitch = hasFeature(features, VIRTIO_BLK_F.CONFIG_WCE)
    if (canSwitch && this.#writeback.get(0) !== CACHE.UNUSABLE) return
    const canFlush = canSwitch || hasFeature(features, VIRTIO_BLK_F.FLUSH)
    this.#writeback.set(0, canFlush ? CACHE.ON : CACHE.UNUSABLE)
  }

  serve(chain: Chain): number {
    const { readable, writable } = chain
    if (readable.bytes < BLK_HEADER_BYTES) return NO_HEADER
    if (writable.bytes < 1) return NO_STATUS
    readable.read(0, this.#scratch, 0, BLK_HEADER_BYTES)
    readable.drop(BLK_HEADER_BYTES)
    const type = this.#words.getUint32(0, true)
    const sector = this.#getNumber(8)
    this.#written = 0
    const rule = this.#answer(type, sector, chain)
    this.lastType = type
    this.lastSector = sector
    this.lastRule = rule
    this.counts[rule] = (this.counts[rule] as number) + 1
    this.#scratch[0] = BLK_ANSWERS[rule]?.status ?? BLK_STATUS.IOERR
    writable.write(writable.bytes - 1, this.#scratch, 0, 1)
    return rule === BLK.done ? this.#written + 1 : 1
  }

  #answer(type: number, sector: number, chain: Chain): number {
    const { readable, writable } = chain
    const room = writable.bytes - 1
    switch (type) {
      case BLK_TYPE.IN: {
        const refused = this.#checkRange(sector, room)
        if (refused !== BLK.done) return refused
        if (!this.#store.read(sector, room / SECTOR_BYTES, writable)) return BLK['store-failed']
        this.#written = room
        return BLK.done
      }
      case BLK_TYPE.OUT: {
        if (this.#isReadOnly) return BLK['read-only']
        const refused = this.#checkRange(sector, readable.bytes)
        if (refused !== BLK.done) return refused
        const isWritten = this.#store.write(sector, readable.bytes / SECTOR_BYTES, readable)
        return isWritten && this.#settle() ? BLK.done : BLK['store-failed']
      }
      case BLK_TYPE.FLUSH:
        return this.#store.flush() ? BLK.done : BLK['store-failed']
      case BLK_TYPE.GET_ID:
        this.#written = Math.min(room, BLK_ID_BYTES)
        writable.write(0, this.#id, 0, this.#written)
        return BLK.done
      case BLK_TYPE.DISCARD:
      case BLK_TYPE.WRITE_ZEROES:
        return this.#answerRanges(type, chain)
      default:
        return BLK.unsupported
    }
  }

  #checkRange(sector: number, bytes: number): number {
    if (bytes % SECTOR_BYTES !== 0) return BLK['data-unaligned']
    return sector + bytes / SECTOR_BYTES > this.#store.sectors ? BLK.outside : BLK.done
  }

  /** Segments are read once, and all are looked at before the first is carried out: the driver may write meanwhile. */
  #answerRanges(type: number, { readable }: Chain): number {
    const isDiscard = type === BLK_TYPE.DISCARD
    if (this.#isReadOnly) return BLK['read-only']
    const count = readable.bytes / BLK_SEGMENT_BYTES
    if (!Number.isInteger(count) || count === 0 || count > this.#rangesMax) return BLK['segments-malformed']
    const starts = this.#rangeStarts
    const lengths = this.#rangeSectors
    const allFlags = this.#rangeFlags
    for (let i = 0; i < count; i++) {
      readable.read(i * BLK_SEGMENT_BYTES, this.#scratch, 0, BLK_SEGMENT_BYTES)
      const start = this.#getNumber(0)
      const sectors = this.#words.getUint32(8, true)
      const flags = this.#words.getUint32(12, true)
      if (sectors > this.#rangeSectorsMax) return BLK['segment-too-long']
      if (start + sectors > this.#store.sectors) return BLK['segment-outside']
      if ((flags & UNKNOWN_FLAGS) !== 0 || (isDiscard && flags !== 0)) return BLK['segment-flags']
      starts[i] = start
      lengths[i] = sectors
      allFlags[i] = flags
    }
    for (let i = 0; i < count; i++) {
      const start = starts[i] as number
      const sectors = lengths[i] as number
      const isDone = isDiscard
        ? this.#store.discard(start, sectors)
        : this.#store.writeZeroes(start, sectors, allFlags[i] === BLK_SEGMENT_UNMAP)
      if (!isDone) return BLK['store-failed']
    }
    return this.#settle() ? BLK.done : BLK['store-failed']
  }

  /** Without a write cache, what changed is made safe before the answer. */
  #settle(): boolean {
    return this.#writeback.get(0) === CACHE.ON || this.#store.flush()
  }

  /** A number of 64 bits; inexact past 2^53, where it is outside of every store. */
  #getNumber(at: number): number {
    return numberOf(this.#words.getInt32(at + 4, true), this.#words.getInt32(at, true))
  }
}

function idBytes(id: string): Uint8Array {
  const bytes = new Uint8Array(BLK_ID_BYTES)
  for (let i = 0; i < Math.min(id.length, BLK_ID_BYTES); i++) bytes[i] = id.charCodeAt(i)
  return bytes
}
