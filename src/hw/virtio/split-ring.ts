import { Cells, type Journal, keyOf } from '../../bits/state.ts'
import { hiOf, loOf, wordOf } from '../../bits/u64.ts'
import { Chain, ChainReader } from './chain.ts'
import {
  availableBytes,
  availEventOffset,
  descriptorsBytes,
  isRingEntries,
  NO_INTERRUPT,
  NO_NOTIFY,
  needsEvent,
  RING_ENTRIES_OFFSET,
  RING_FLAGS_OFFSET,
  RING_INDEX_OFFSET,
  USED_ENTRY_BYTES,
  usedBytes,
  usedEventOffset,
} from './ring-layout.ts'
import { ACCESS, type AccessNumber, RING_PART, type RingMemory, type RingPartNumber } from './ring-memory.ts'
import { RingPart } from './ring-part.ts'
import { RING } from './ring-rules.ts'

/** Where a ring lies and what was negotiated for it. */
export interface RingSetup {
  /** Entries: a power of two up to 32,768. */
  readonly entries: number
  /** Addresses as the device sees them. */
  readonly descriptors: bigint
  readonly available: bigint
  readonly used: bigint
  /** VIRTIO_RING_F_EVENT_IDX was negotiated. */
  readonly hasEventIndex: boolean
}

export interface SplitRingOptions {
  readonly memory: RingMemory
  /** Number of the queue in its device: what the memory is told. */
  readonly queue: number
  readonly journal: Journal
  /** Name of the queue, for the hash of the state. */
  readonly name: string
  /** Pieces that the buffers of a chain may lie in; 1,024 (UIO_MAXIOV). */
  readonly segmentsMax?: number
  /**
   * As vhost inside Linux reads chains: a table may be followed by `next` of its descriptor, tables are read in
   * order whatever their `next` says, buffers may be longer than 2^32 bytes together, and an available index that
   * jumped is believed from the second look on.
   */
  readonly asLinuxVhost?: boolean
  /** VIRTIO_F_NOTIFY_ON_EMPTY (legacy): a call for each run that leaves nothing available. */
  readonly notifiesOnEmpty?: boolean
}

const AVAIL = 0
const LAST_AVAIL = 1
const LAST_USED = 2
const USED_FLAGS = 3
const SIGNALLED = 4
const IS_SIGNALLED = 5
const ENTRIES = 6
const EVENT_INDEX = 7
const DESCRIPTORS = 8
const AVAILABLE = 10
const USED = 12
const CELLS = 14

/**
 * The device's side of a split virtqueue (virtio 1.2, Split Virtqueues), as vhost inside Linux keeps it
 * (Linux v6.1 drivers/vhost/vhost.c).
 *
 * A run goes: `begin`, `disableNotify`, `next` until it does not answer `RING.taken`, for each chain the work,
 * `use` and `publish`; then `enableNotify` where the ring was empty, and `wantsCall`. Answers are places in
 * `RING_ANSWERS`. A ring that answers `pending` or a fault is where it was before.
 *
 * Chains may be used in any order. Nothing that a driver writes makes this throw, read or write outside of
 * what `RingMemory.reach` allowed, or work longer than 98,304 descriptors a chain (294,912 as Linux's vhost).
 *
 * @example
 * ring.setUp({ entries: 256, descriptors, available, used, hasEventIndex: true })
 * if (ring.begin() === RING.taken) {
 *   ring.disableNotify()
 *   while (ring.next(chain) === RING.taken) { ring.use(chain.head, work(chain)); ring.publish() }
 * }
 */
export class SplitRing {
  readonly queue: number
  readonly memory: RingMemory
  readonly #cells: Cells
  readonly #descriptors: RingPart
  readonly #available: RingPart
  readonly #used: RingPart
  readonly #chains: ChainReader
  readonly #notifiesOnEmpty: boolean
  readonly #asLinuxVhost: boolean

  constructor(options: SplitRingOptions) {
    const { memory, queue } = options
    this.memory = memory
    this.queue = queue
    this.#cells = new Cells(options.journal, keyOf('split ring', options.name), CELLS)
    this.#descriptors = new RingPart(memory)
    this.#available = new RingPart(memory)
    this.#used = new RingPart(memory)
    this.#asLinuxVhost = options.asLinuxVhost ?? false
    this.#chains = new ChainReader(this.#descriptors, {
      memory,
      queue,
      segmentsMax: options.segmentsMax ?? 1024,
      asLinuxVhost: this.#asLinuxVhost,
    })
    this.#notifiesOnEmpty = options.notifiesOnEmpty ?? false
  }

  /**
   * Where the ring lies; indices stay. False, and nothing changes, for a number of entries that no ring has,
   * and for an available ring that is not aligned to 2 bytes or a used ring to 4 (Linux: -EINVAL).
   */
  setUp({ entries, descriptors, available, used, hasEventIndex }: RingSetup): boolean {
    if (!isRingEntries(entries) || (available & 1n) !== 0n || (used & 3n) !== 0n) return false
    this.#cells.set(ENTRIES, entries)
    this.#cells.set(EVENT_INDEX, hasEventIndex ? 1 : 0)
    this.#setAddress(DESCRIPTORS, descriptors)
    this.#setAddress(AVAILABLE, available)
    this.#setAddress(USED, used)
    return true
  }

  get setup(): RingSetup {
    return {
      entries: this.#cells.get(ENTRIES),
      descriptors: this.#address(DESCRIPTORS),
      available: this.#address(AVAILABLE),
      used: this.#address(USED),
      hasEventIndex: this.#cells.get(EVENT_INDEX) === 1,
    }
  }

  /** Index of the next chain to take: what SET_VRING_BASE sets and GET_VRING_BASE asks for. */
  get base(): number {
    return this.#cells.get(LAST_AVAIL)
  }

  set base(index: number) {
    this.#cells.set(LAST_AVAIL, index & 0xffff)
    this.#cells.set(AVAIL, index & 0xffff)
  }

  /** Index of the next entry in the used ring. */
  get usedIndex(): number {
    return this.#cells.get(LAST_USED)
  }

  /** Whether the chain that `next` refused last was refused within an indirect table. */
  get endsInTable(): boolean {
    return this.#chains.endsInTable
  }

  /** Available index as it was seen last. */
  get seenAvailable(): number {
    return this.#cells.get(AVAIL)
  }

  /**
   * The device begins with the ring: goes on in the used ring where its index stands, and says that it wants
   * notifications. Answers `RING.taken`, `pending` or `ring-refused`; `begin` comes before the first run all the same.
   */
  start(): number {
    const used = this.#used
    const { READ, WRITE } = ACCESS
    let answer = this.#reach(used, USED, RING_ENTRIES_OFFSET, READ, RING_PART.USED)
    if (answer !== RING.taken) return answer
    const index = used.fetch16(RING_INDEX_OFFSET)
    answer = this.#reach(used, USED, RING_ENTRIES_OFFSET, WRITE, RING_PART.USED)
    if (answer !== RING.taken) return answer
    this.#cells.set(LAST_USED, index)
    this.#cells.set(USED_FLAGS, 0)
    this.#cells.set(IS_SIGNALLED, 0)
    used.publish16(RING_FLAGS_OFFSET, 0)
    return RING.taken
  }

  /**
   * Before each run: the three parts of the ring are reached, in the order descriptors, available, used.
   * Answers `RING.taken`, `pending` or `ring-refused`.
   */
  begin(): number {
    this.#chains.endsInTable = false
    const entries = this.#cells.get(ENTRIES)
    if (entries === 0) return RING['ring-refused']
    const hasEventIndex = this.#cells.get(EVENT_INDEX) === 1
    const { READ, WRITE } = ACCESS
    let answer = this.#reach(
      this.#descriptors,
      DESCRIPTORS,
      descriptorsBytes(entries),
      READ,
      RING_PART.DESCRIPTORS,
    )
    if (answer !== RING.taken) return answer
    answer = this.#reach(
      this.#available,
      AVAILABLE,
      availableBytes(entries, hasEventIndex),
      READ,
      RING_PART.AVAILABLE,
    )
    if (answer !== RING.taken) return answer
    return this.#reach(this.#used, USED, usedBytes(entries, hasEventIndex), WRITE, RING_PART.USED)
  }

  /** A place for chains of this ring. */
  newChain(): Chain {
    return new Chain(this.memory)
  }

  /** The next chain, in `chain`. Any answer but `RING.taken` leaves the ring where it was. */
  next(chain: Chain): number {
    this.#chains.endsInTable = false
    const cells = this.#cells
    const entries = cells.get(ENTRIES)
    const last = cells.get(LAST_AVAIL)
    if (cells.get(AVAIL) === last) {
      const index = this.#available.fetch16(RING_INDEX_OFFSET)
      if (((index - last) & 0xffff) > entries) {
        if (this.#asLinuxVhost) cells.set(AVAIL, index)
        return RING['avail-jump']
      }
      if (index === last) return RING.empty
      cells.set(AVAIL, index)
    }
    const head = this.#available.get16(RING_ENTRIES_OFFSET + 2 * (last & (entries - 1)))
    if (head >= entries) return RING['head-outside']
    const answer = this.#chains.read(head, entries, chain)
    if (answer === RING.taken) cells.set(LAST_AVAIL, (last + 1) & 0xffff)
    return answer
  }

  /** Gives the last `chains` chains back, as if they had not been taken. None of them may have been used. */
  giveBack(chains: number): void {
    this.#cells.set(LAST_AVAIL, (this.base - chains) & 0xffff)
  }

  /**
   * A chain goes into the used ring; the driver sees it after `publish`.
   *
   * @param written bytes that the device wrote, from the start of the chain's writable part
   */
  use(head: number, written: number): void {
    const cells = this.#cells
    const before = cells.get(LAST_USED)
    const at = RING_ENTRIES_OFFSET + USED_ENTRY_BYTES * (before & (cells.get(ENTRIES) - 1))
    this.#used.put64(at, head, written | 0)
    const now = (before + 1) & 0xffff
    cells.set(LAST_USED, now)
    // A driver that was told nothing for 2^16 chains is told then, whatever it asked for.
    if (now === cells.get(SIGNALLED)) cells.set(IS_SIGNALLED, 0)
  }

  /** The driver sees all used chains from now on. */
  publish(): void {
    this.#used.publish16(RING_INDEX_OFFSET, this.#cells.get(LAST_USED))
  }

  /** Whether the driver wants an interrupt for what was published since the last call of this. */
  wantsCall(): boolean {
    const cells = this.#cells
    if (this.#notifiesOnEmpty && cells.get(AVAIL) === cells.get(LAST_AVAIL)) return true
    if (cells.get(EVENT_INDEX) === 0) {
      return (this.#available.fetch16(RING_FLAGS_OFFSET) & NO_INTERRUPT) === 0
    }
    const before = cells.get(SIGNALLED)
    const isKnown = cells.get(IS_SIGNALLED) === 1
    const now = cells.get(LAST_USED)
    cells.set(SIGNALLED, now)
    cells.set(IS_SIGNALLED, 1)
    if (!isKnown) return true
    return needsEvent(this.#available.fetch16(usedEventOffset(cells.get(ENTRIES))), now, before)
  }

  /** The device wants no notifications. With event indices it writes nothing: it leaves its index where it is. */
  disableNotify(): void {
    if (this.#cells.get(USED_FLAGS) === NO_NOTIFY) return
    this.#cells.set(USED_FLAGS, NO_NOTIFY)
    if (this.#cells.get(EVENT_INDEX) === 0) this.#used.publish16(RING_FLAGS_OFFSET, NO_NOTIFY)
  }

  /** The device wants notifications again. True: something came meanwhile, look again. */
  enableNotify(): boolean {
    const cells = this.#cells
    if (cells.get(USED_FLAGS) !== NO_NOTIFY) return false
    cells.set(USED_FLAGS, 0)
    if (cells.get(EVENT_INDEX) === 0) this.#used.publish16(RING_FLAGS_OFFSET, 0)
    else this.#used.publish16(availEventOffset(cells.get(ENTRIES)), cells.get(AVAIL))
    return this.#available.fetch16(RING_INDEX_OFFSET) !== cells.get(AVAIL)
  }

  /** One part, or its first bytes, reached anew. */
  #reach(part: RingPart, cell: number, bytes: number, access: AccessNumber, number: RingPartNumber): number {
    const { segments } = part
    segments.clear()
    const hi = this.#cells.get(cell)
    const lo = this.#cells.get(cell + 1)
    const reach = this.memory.reach(this.queue, hi, lo, bytes, access, number, segments)
    if (reach === 'pending') return RING.pending
    if (reach === 'refused' || segments.bytes !== bytes) return RING['ring-refused']
    part.settle()
    return RING.taken
  }

  #setAddress(cell: number, address: bigint): void {
    this.#cells.set(cell, hiOf(address))
    this.#cells.set(cell + 1, loOf(address))
  }

  #address(cell: number): bigint {
    return wordOf(this.#cells.get(cell), this.#cells.get(cell + 1))
  }
}
