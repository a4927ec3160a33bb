import type { Iova } from '../../bits/brand.ts'
import { rulesOf } from '../../bits/call.ts'
import { DMA_CODES } from '../../bits/codes.ts'
import { IommulatorError } from '../../bits/errors.ts'
import { hiOf, loOf } from '../../bits/u64.ts'
import type { BusMaster } from '../../hw/bus-master.ts'
import type { DmaPort } from '../../hw/dma-port.ts'
import { recordDone, recordRequest } from '../../hw/dma-request.ts'
import { DMA_RULE_OF_FAULT } from '../../hw/edu.ts'
import { DMA_READ } from '../../hw/edu-calls.ts'
import { ACCESS, type Reach, RING_PART, type RingMemory } from '../../hw/virtio/ring-memory.ts'
import { Segments } from '../../hw/virtio/segments.ts'
import type { Stage } from '../../trace/stage.ts'

const DMA = rulesOf(DMA_READ)
const RULE_OF_REACH: Readonly<Record<Reach, number>> = {
  ok: DMA.done,
  pending: DMA['iotlb-miss'],
  refused: DMA['iotlb-refused'],
}
/** Bytes of one request: as many as the largest packet of a network device without offloads, and more than a page. */
const REQUEST_BYTES_MAX = 0x1_0000
/** How often a request of so many bytes can miss and be helped: once a page of 4 KiB, and at both ends. */
const TRIES_MAX = REQUEST_BYTES_MAX / 0x1000 + 2
/** Buffers of a step belong to no queue: they go through the first. */
const QUEUE = 0

/** Who moves the bytes of a virtio device, and how a request went. */
interface Mover {
  moved: number
  /** Answers the place of the rule in `DMA_READ`. */
  move(iova: Iova, buffer: Uint8Array, isWrite: boolean): number
}

/** QEMU itself: it asks the IOMMU each time. (QEMU 7.2 hw/virtio/virtio.c, virtqueue_map_desc) */
export class QemuMover implements Mover {
  moved = 0
  readonly #space: DmaPort
  readonly #device: number

  /** @param device its interned name */
  constructor(space: DmaPort, device: number) {
    this.#space = space
    this.#device = device
  }

  move(iova: Iova, buffer: Uint8Array, isWrite: boolean): number {
    const space = this.#space
    const at = { device: this.#device, hi: hiOf(iova), lo: loOf(iova) }
    space.request({ ...at, buffer, at: 0, bytes: buffer.length, isWrite })
    this.moved = space.moved
    return DMA_RULE_OF_FAULT[space.fault] as number
  }
}

export interface VhostMoverParts {
  readonly stage: Stage
  /** Interned name of the device. */
  readonly device: number
  /** Counts the UPDATEs that it has taken. */
  readonly vhost: { readonly updates: number; readonly isStarted: boolean }
  /** Memory of the guest as the vhost device reaches it. */
  readonly memory: () => RingMemory | undefined
  /** QEMU's main loop comes to run: the device waits. */
  readonly wait: () => void
}

/** vhost: it looks into its IOTLB, and waits for QEMU where it misses. */
export class VhostMover implements Mover {
  moved = 0
  readonly #parts: VhostMoverParts

  constructor(parts: VhostMoverParts) {
    this.#parts = parts
  }

  move(iova: Iova, buffer: Uint8Array, isWrite: boolean): number {
    const { stage, device } = this.#parts
    const before = stage.cause
    this.moved = 0
    recordRequest(stage, device, hiOf(iova), loOf(iova), buffer.length, isWrite)
    const rule = this.#run(iova, buffer, isWrite)
    const { MEMTX_OK, MEMTX_DECODE_ERROR } = DMA_CODES
    recordDone(stage, device, this.moved, rule === DMA.done ? MEMTX_OK : MEMTX_DECODE_ERROR)
    stage.cause = before
    return rule
  }

  #run(iova: Iova, buffer: Uint8Array, isWrite: boolean): number {
    const { vhost, memory: find } = this.#parts
    const memory = vhost.isStarted ? find() : undefined
    if (memory === undefined) return DMA['not-started']
    const segments = new Segments(memory)
    const reach = this.#reach(memory, segments, iova, buffer.length, isWrite)
    if (reach !== 'ok') return RULE_OF_REACH[reach]
    if (isWrite) segments.write(0, buffer, 0, buffer.length)
    else segments.read(0, buffer, 0, buffer.length)
    this.moved = buffer.length
    return DMA.done
  }

  /** Tries again as long as QEMU has an answer to what was missed. */
  #reach(memory: RingMemory, into: Segments, iova: Iova, bytes: number, isWrite: boolean): Reach {
    const { vhost, wait } = this.#parts
    const access = isWrite ? ACCESS.WRITE : ACCESS.READ
    for (let tries = 0; ; tries++) {
      into.clear()
      const reach = memory.reach(QUEUE, hiOf(iova), loOf(iova), bytes, access, RING_PART.BUFFER, into)
      if (reach !== 'pending' || tries === TRIES_MAX) return reach
      const { updates } = vhost
      wait()
      if (vhost.updates === updates) return reach
    }
  }
}

/** A virtio device as steps use it that name bus addresses themselves, without a ring (`dma`). */
export class VirtioEngine implements BusMaster {
  readonly name: string
  warnings: string[] = []
  readonly #mover: Mover
  readonly #takePrinted: () => readonly string[]
  #buffer = new Uint8Array(0)

  /** @param takePrinted what QEMU has printed on the way */
  constructor(name: string, mover: Mover, takePrinted: () => readonly string[]) {
    this.name = name
    this.#mover = mover
    this.#takePrinted = takePrinted
  }

  get moved(): number {
    return this.#mover.moved
  }

  transfer(iova: Iova, bytes: number, isWrite: boolean, at: number, data?: Uint8Array): number {
    if (at !== 0) {
      const what = `${this.name} has no buffer of its own: at has to be 0`
      throw new IommulatorError('ERR_OPERATION', what, { field: 'at' })
    }
    this.#mover.moved = 0
    this.#buffer = new Uint8Array(0)
    if (bytes > REQUEST_BYTES_MAX) return DMA['buffer-overrun']
    const buffer = new Uint8Array(bytes)
    if (data !== undefined) buffer.set(data.subarray(0, bytes))
    const rule = this.#mover.move(iova, buffer, isWrite)
    this.warnings.push(...this.#takePrinted())
    this.#buffer = buffer
    return rule
  }

  bufferAt(at: number, bytes: number): Uint8Array {
    return this.#buffer.slice(at, at + bytes)
  }
}
