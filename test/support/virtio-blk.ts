import { Journal } from '../../src/bits/state.ts'
import { BLK_ANSWERS } from '../../src/hw/virtio/blk-format.ts'
import { type BlockStore, MemoryBlockStore } from '../../src/hw/virtio/block-store.ts'
import type { DriverBuffer, DriverRing } from '../../src/hw/virtio/driver-ring.ts'
import { QueueRun, type RunEnd } from '../../src/hw/virtio/queue-run.ts'
import { VirtioBlk, type VirtioBlkOptions } from '../../src/hw/virtio/virtio-blk.ts'
import { type Handing, ringPair, TestMemory } from './virtio.ts'

export interface BlkRequest {
  readonly type: number
  readonly sector?: bigint
  /** Data for the device to read. */
  readonly data?: Uint8Array
  /** Bytes that the device may write, without the status. */
  readonly room?: number
  /** Where the bytes to read, and those to write, are cut into buffers: lengths, in turn; whole unless said. */
  readonly cuts?: readonly number[]
}

export interface BlkAnswer {
  readonly rule: string | undefined
  readonly status: number
  readonly written: number
  readonly data: Uint8Array
}

const UNWRITTEN = 0xee

/** A driver with a disk: requests go over a ring as a guest sends them. */
export class BlkRig {
  readonly memory: TestMemory
  readonly driver: DriverRing
  readonly disk: VirtioBlk
  readonly run: QueueRun
  readonly store: BlockStore
  readonly #free: number

  constructor(
    options: Partial<Omit<VirtioBlkOptions, 'journal' | 'name'>> & {
      handing?: Handing
      sectors?: number
    } = {},
  ) {
    const { handing, sectors, store, ...rest } = options
    this.memory = new TestMemory(65_536, handing ?? 'places')
    const { driver, ring, free } = ringPair(this.memory, { entries: 128, hasEventIndex: true })
    this.driver = driver
    this.#free = free
    this.store = store ?? new MemoryBlockStore('disk', sectors ?? 16, new Journal())
    this.disk = new VirtioBlk({ name: 'vda', store: this.store, journal: new Journal(), ...rest })
    this.run = new QueueRun(ring, this.disk)
    ring.start()
  }

  /** Puts bytes to read and bytes to write into a chain. Answers where the latter begin. */
  send(readable: Uint8Array, room: number, cuts: readonly number[] = []): number {
    const start = this.#free
    const roomStart = start + readable.length
    this.memory.bytes.set(readable, start)
    this.memory.bytes.fill(UNWRITTEN, roomStart, roomStart + room)
    const buffers = [...pieces(start, readable.length, cuts, false), ...pieces(roomStart, room, cuts, true)]
    this.driver.add(buffers)
    this.driver.publish()
    return roomStart
  }

  go(): RunEnd {
    return this.run.go(16)
  }

  request({ type, sector = 0n, data = new Uint8Array(0), room = 0, cuts = [] }: BlkRequest): BlkAnswer {
    const readable = new Uint8Array(16 + data.length)
    const words = new DataView(readable.buffer)
    words.setUint32(0, type, true)
    words.setBigUint64(8, sector, true)
    readable.set(data, 16)
    const roomStart = this.send(readable, room + 1, cuts)
    const end = this.go()
    const reaped = this.driver.reap()
    if (end !== 'idle' || typeof reaped === 'string') throw new Error(`${end}: ${this.run.fault}`)
    return {
      rule: BLK_ANSWERS[this.disk.lastRule]?.rule,
      status: this.memory.bytes[roomStart + room] as number,
      written: reaped.written,
      data: this.memory.bytes.slice(roomStart, roomStart + room),
    }
  }
}

function pieces(start: number, bytes: number, cuts: readonly number[], isWritten: boolean): DriverBuffer[] {
  const out: DriverBuffer[] = []
  let at = start
  for (let i = 0; at < start + bytes; i++) {
    const part = cuts.length === 0 ? bytes : Math.min(cuts[i % cuts.length] as number, start + bytes - at)
    out.push({ address: BigInt(at), bytes: part, isWritten })
    at += part
  }
  return out
}

/** Segments of DISCARD and WRITE_ZEROES. */
export function blkSegments(
  ...list: readonly (readonly [sector: number, sectors: number, flags?: number])[]
) {
  const out = new Uint8Array(16 * list.length)
  const words = new DataView(out.buffer)
  list.forEach(([sector, sectors, flags = 0], i) => {
    words.setBigUint64(16 * i, BigInt(sector), true)
    words.setUint32(16 * i + 8, sectors, true)
    words.setUint32(16 * i + 12, flags, true)
  })
  return out
}
