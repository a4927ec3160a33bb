import { DESCRIPTOR, DESCRIPTOR_BYTES } from './ring-layout.ts'
import { ACCESS, type AccessNumber, RING_PART, type RingMemory } from './ring-memory.ts'
import { RingPart } from './ring-part.ts'
import { RING } from './ring-rules.ts'
import { Segments } from './segments.ts'

/** Buffers are chained by 16 bits, so no chain in a table is longer. */
const TABLE_DESCRIPTORS_MAX = 65_536
/** Most bytes of a chain (virtio 1.2, The Virtqueue Descriptor Table). */
const CHAIN_BYTES_MAX = 2 ** 32
/** Descriptors of all tables of a chain together, where a chain can have more than one table. */
const TABLES_DESCRIPTORS_MAX = 4 * TABLE_DESCRIPTORS_MAX

/** A chain of buffers that a device has taken: what it reads, and what it writes. Filled anew by `SplitRing.next`. */
export class Chain {
  /** Its first descriptor: what the driver knows it by. */
  head = 0
  readonly readable: Segments
  readonly writable: Segments

  constructor(memory: RingMemory) {
    this.readable = new Segments(memory)
    this.writable = new Segments(memory)
  }
}

export interface ChainReaderOptions {
  readonly memory: RingMemory
  readonly queue: number
  readonly segmentsMax: number
  readonly asLinuxVhost: boolean
}

/** Follows chains through descriptors and tables. Each word of the driver is read once. */
export class ChainReader {
  readonly #options: ChainReaderOptions
  readonly #ring: RingPart
  readonly #table: RingPart
  // The descriptor that was read last.
  #hi = 0
  #lo = 0
  #bytes = 0
  #flags = 0
  #next = 0
  /** Descriptors of tables that this chain had. */
  #tabled = 0

  constructor(ring: RingPart, options: ChainReaderOptions) {
    this.#ring = ring
    this.#options = options
    this.#table = new RingPart(options.memory)
  }

  /** Fills `chain` from descriptor `head` on; a place in `RING_ANSWERS`. */
  read(head: number, entries: number, chain: Chain): number {
    const { asLinuxVhost } = this.#options
    chain.head = head
    chain.readable.clear()
    chain.writable.clear()
    this.#tabled = 0
    let at = head
    for (let found = 1; ; found++) {
      if (at >= entries) return RING['next-outside']
      if (found > entries) return RING.loop
      this.#fetch(this.#ring, at)
      const flags = this.#flags
      const next = this.#next
      if ((flags & DESCRIPTOR.INDIRECT) !== 0) {
        if ((flags & DESCRIPTOR.NEXT) !== 0 && !asLinuxVhost) return RING['indirect-with-next']
        const answer = this.#readTable(chain)
        if (answer !== RING.taken) return answer
      } else {
        const answer = this.#addBuffer(chain)
        if (answer !== RING.taken) return answer
      }
      if ((flags & DESCRIPTOR.NEXT) === 0) return RING.taken
      at = next
    }
  }

  /** Buffers of the table that the descriptor read last leads to. */
  #readTable(chain: Chain): number {
    const { memory, queue, asLinuxVhost } = this.#options
    const table = this.#table
    const bytes = this.#bytes
    if (bytes % DESCRIPTOR_BYTES !== 0) return RING['indirect-length']
    table.segments.clear()
    const reach = memory.reach(
      queue,
      this.#hi,
      this.#lo,
      bytes,
      ACCESS.READ,
      RING_PART.BUFFER,
      table.segments,
    )
    if (reach === 'pending') return RING.pending
    if (reach === 'refused' || table.segments.bytes !== bytes) return RING['indirect-refused']
    const count = bytes / DESCRIPTOR_BYTES
    if (count > TABLE_DESCRIPTORS_MAX) return RING['indirect-too-long']
    table.settle()
    let at = 0
    for (let found = 1; ; found++) {
      if (found > count || ++this.#tabled > TABLES_DESCRIPTORS_MAX) return RING['indirect-loop']
      if (at >= count) return RING['indirect-outside']
      this.#fetch(table, at)
      if ((this.#flags & DESCRIPTOR.INDIRECT) !== 0) return RING['indirect-nested']
      const answer = this.#addBuffer(chain)
      if (answer !== RING.taken) return answer
      if ((this.#flags & DESCRIPTOR.NEXT) === 0) return RING.taken
      at = asLinuxVhost ? found : this.#next
    }
  }

  /** The buffer of the descriptor read last joins the chain. */
  #addBuffer(chain: Chain): number {
    const { memory, queue, segmentsMax, asLinuxVhost } = this.#options
    const isWrite = (this.#flags & DESCRIPTOR.WRITE) !== 0
    const into = isWrite ? chain.writable : chain.readable
    const access: AccessNumber = isWrite ? ACCESS.WRITE : ACCESS.READ
    const bytes = this.#bytes
    const before = into.bytes
    const reach = memory.reach(queue, this.#hi, this.#lo, bytes, access, RING_PART.BUFFER, into)
    if (reach === 'pending') return RING.pending
    if (reach === 'refused' || into.bytes !== before + bytes) return RING['buffer-refused']
    const { readable, writable } = chain
    if (readable.added + writable.added > segmentsMax) return RING['too-many-segments']
    if (!isWrite && writable.added > 0) return RING.order
    if (!asLinuxVhost && readable.bytes + writable.bytes > CHAIN_BYTES_MAX) return RING['length-overflow']
    return RING.taken
  }

  #fetch(part: RingPart, index: number): void {
    const at = index * DESCRIPTOR_BYTES
    this.#lo = part.get32(at)
    this.#hi = part.get32(at + 4)
    this.#bytes = part.get32(at + 8) >>> 0
    const word = part.get32(at + 12)
    this.#flags = word & 0xffff
    this.#next = word >>> 16
  }
}
