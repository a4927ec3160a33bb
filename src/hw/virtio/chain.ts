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
  /** Whether the chain that was read last ended within an indirect table. */
  endsInTable = false
  /** Descriptors of tables that this chain had. */
  #tabled = 0

  constructor(ring: RingPart, options: ChainReaderOptions) {
    this.#ring = ring
    this.#options = options
    this.#table = new RingPart(options.memory, options.segmentsMax)
  }

  /** Fills `chain` from descriptor `head` on; a place in `RING_ANSWERS`. */
  read(head: number, entries: number, chain: Chain): number {
    const { asLinuxVhost } = this.#options
    chain.head = head
    chain.readable.clear()
    chain.writable.clear()
    this.#tabled = 0
    this.endsInTable = false
    let at = head
    for (let found = 1; ; found++) {
      if (at >= entries) return RING['next-outside']
      if (found > entries) return RING.loop
      const ring = this.#ring
      ring.readDescriptor(at)
      const { flags, next } = ring
      const isTable = (flags & DESCRIPTOR.INDIRECT) !== 0
      if (isTable && (flags & DESCRIPTOR.NEXT) !== 0 && !asLinuxVhost) return RING['indirect-with-next']
      const answer = isTable ? this.#readTable(chain) : this.#addBuffer(ring, chain)
      if (answer !== RING.taken) {
        this.endsInTable = isTable
        return answer
      }
      if ((flags & DESCRIPTOR.NEXT) === 0) return RING.taken
      at = next
    }
  }

  /** Buffers of the table that the descriptor of the ring leads to. */
  #readTable(chain: Chain): number {
    const { memory, queue, asLinuxVhost } = this.#options
    const { segments } = this.#table
    const { hi, lo, bytes } = this.#ring
    if (bytes % DESCRIPTOR_BYTES !== 0) return RING['indirect-length']
    segments.clear()
    const reach = memory.reach(queue, hi, lo, bytes, ACCESS.READ, RING_PART.BUFFER, segments)
    if (reach === 'pending') return RING.pending
    if (reach === 'refused') return RING['indirect-refused']
    if (segments.bytes !== bytes)
      return segments.isFull ? RING['too-many-segments'] : RING['indirect-refused']
    const count = bytes / DESCRIPTOR_BYTES
    if (count > TABLE_DESCRIPTORS_MAX) return RING['indirect-too-long']
    const table = this.#table
    table.settle()
    let at = 0
    for (let found = 1; ; found++) {
      if (found > count || ++this.#tabled > TABLES_DESCRIPTORS_MAX) return RING['indirect-loop']
      if (at >= count) return RING['indirect-outside']
      table.readDescriptor(at)
      const { flags, next } = table
      if ((flags & DESCRIPTOR.INDIRECT) !== 0) return RING['indirect-nested']
      const answer = this.#addBuffer(table, chain)
      if (answer !== RING.taken) return answer
      if ((flags & DESCRIPTOR.NEXT) === 0) return RING.taken
      at = asLinuxVhost ? found : next
    }
  }

  /** The buffer of the descriptor that was read last joins the chain. */
  #addBuffer({ hi, lo, bytes, flags }: RingPart, { readable, writable }: Chain): number {
    const { memory, queue, segmentsMax, asLinuxVhost } = this.#options
    const isWrite = (flags & DESCRIPTOR.WRITE) !== 0
    const into = isWrite ? writable : readable
    const access: AccessNumber = isWrite ? ACCESS.WRITE : ACCESS.READ
    const before = into.bytes
    into.limit = segmentsMax - (isWrite ? readable.added : writable.added)
    const reach = memory.reach(queue, hi, lo, bytes, access, RING_PART.BUFFER, into)
    if (reach === 'pending') return RING.pending
    if (reach === 'refused') return RING['buffer-refused']
    if (into.bytes !== before + bytes) {
      return into.isFull ? RING['too-many-segments'] : RING['buffer-refused']
    }
    if (!isWrite && writable.added > 0) return RING.order
    if (!asLinuxVhost && readable.bytes + writable.bytes > CHAIN_BYTES_MAX) return RING['length-overflow']
    return RING.taken
  }
}
