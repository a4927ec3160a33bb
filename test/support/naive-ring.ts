import { Prng } from '../../src/bits/prng.ts'
import type { Chain } from '../../src/hw/virtio/chain.ts'
import type { DriverBuffer, DriverRing } from '../../src/hw/virtio/driver-ring.ts'
import { RING, RING_ANSWERS } from '../../src/hw/virtio/ring-rules.ts'
import type { SplitRing } from '../../src/hw/virtio/split-ring.ts'
import { type Handing, ringPair, TestMemory } from './virtio.ts'

/** A chain as the naive model remembers it. */
interface Sent {
  readonly head: number
  readonly slot: number
  readonly readable: readonly number[]
  /** Bus addresses of the bytes that the device may write. */
  readonly room: readonly number[]
}

interface Taken {
  readonly sent: Sent
  readonly chain: Chain
}

interface Given {
  readonly sent: Sent
  readonly written: readonly number[]
}

export interface PairOptions {
  readonly seed: number
  readonly entries: number
  readonly hasEventIndex: boolean
  readonly handing: Handing
  readonly chains: number
  /** Where in its buffer the memory starts: views are aligned to no more than this; 0. */
  readonly skewBytes?: number
}

const SLOT_BYTES = 512
const TABLE_BYTES = 256
const UNWRITTEN = 0xee

/**
 * A driver and a device at one ring, with everything they say held against plain queues: what is offered is
 * taken in order with its bytes, what is used is reaped in order with its bytes, and each side is told of what it
 * asked for, no more and no less. Answers a sentence for the first difference, else undefined.
 */
export class NaivePair {
  readonly memory: TestMemory
  readonly driver: DriverRing
  readonly ring: SplitRing
  done = 0
  readonly #options: PairOptions
  readonly #random: Prng
  readonly #free: number[] = []
  readonly #base: number
  // Chains by where they are: added, published, taken, used, and visible to the driver again.
  #added: Sent[] = []
  readonly #offered: Sent[] = []
  readonly #taken: Taken[] = []
  #used: Given[] = []
  readonly #given: Given[] = []
  // Counted from the start, without end: what each side has shown, and from where on it wants to hear.
  #published = 0
  #addedCount = 0
  #seen = 0
  #takenCount = 0
  #usedCount = 0
  #shown = 0
  #reaped = 0
  #signalled = -1
  #deviceSleeps = false
  #deviceEvent = 0
  #driverListens = true
  #driverEvent = 0
  #difference: string | undefined

  constructor(options: PairOptions) {
    const { entries, hasEventIndex, handing, skewBytes = 0 } = options
    this.#options = options
    this.#random = new Prng(options.seed)
    const memoryBytes = 4096 + 16 * entries * 4 + entries * SLOT_BYTES
    this.memory = new TestMemory(new Uint8Array(memoryBytes + skewBytes).subarray(skewBytes), handing)
    const { driver, ring, free } = ringPair(this.memory, { entries, hasEventIndex })
    this.driver = driver
    this.ring = ring
    this.#base = free
    for (let slot = 0; slot < entries; slot++) this.#free.push(slot)
  }

  run(): string | undefined {
    const { ring } = this
    if (ring.start() !== RING.taken || ring.begin() !== RING.taken) return 'the ring does not start'
    this.#deviceSleeps = true
    while (this.#difference === undefined && this.done < this.#options.chains) this.#step()
    return this.#difference
  }

  #step(): void {
    const what = this.#random.below(12)
    if (what < 3) this.#add()
    else if (what < 5) this.#publish()
    else if (what < 7) this.#take()
    else if (what < 8) this.#use()
    else if (what < 9) this.#show()
    else if (what < 11) this.#reap()
    else this.#listen()
  }

  #differ(what: string): void {
    this.#difference ??= `${what} (chain ${this.done}, seed ${this.#options.seed})`
  }

  #add(): void {
    const random = this.#random
    const slot = this.#free.at(-1)
    const isIndirect = random.oneIn(2)
    const count = 1 + random.below(isIndirect ? 16 : 4)
    if (slot === undefined) return
    const start = this.#base + slot * SLOT_BYTES
    const buffers: DriverBuffer[] = []
    const readable: number[] = []
    const room: number[] = []
    let at = start + TABLE_BYTES
    const firstWritten = random.below(count + 1)
    for (let i = 0; i < count; i++) {
      const bytes = random.below(SLOT_BYTES / 32)
      const isWritten = i >= firstWritten
      buffers.push({ address: BigInt(at), bytes, isWritten })
      for (let end = at + bytes; at < end; at++) {
        this.memory.bytes[at] = isWritten ? UNWRITTEN : random.int32()
        if (isWritten) room.push(at)
        else readable.push(this.memory.bytes[at] as number)
      }
    }
    const before = this.driver.freeCount
    const head = isIndirect
      ? this.driver.addIndirect(buffers, start, BigInt(start))
      : this.driver.add(buffers)
    const needed = isIndirect ? 1 : count
    if (head < 0 !== needed > before) this.#differ(`add answers ${head} with ${before} free of ${needed}`)
    if (head < 0) return
    this.#free.pop()
    this.#added.push({ head, slot, readable, room })
    this.#addedCount++
  }

  #publish(): void {
    const before = this.#published
    const told = this.driver.publish()
    this.#published = this.#addedCount
    this.#offered.push(...this.#added)
    this.#added = []
    const isNew = this.#published > before
    const wanted = this.#options.hasEventIndex
      ? includesEvent(before, this.#published, this.#deviceEvent)
      : isNew && this.#deviceSleeps
    if (told !== wanted) this.#differ(`publish says ${told}`)
    if (this.#deviceSleeps && isNew && !told) this.#differ('the device is left asleep')
    if (told) this.#wake()
  }

  #wake(): void {
    this.#deviceSleeps = false
    this.ring.disableNotify()
  }

  /** The device looks, as a worker that was woken does; one that sleeps does not. */
  #take(): void {
    if (this.#deviceSleeps) return
    const { ring, memory } = this
    if (this.#random.oneIn(4)) memory.missing.add(this.#random.below(memory.bytes.length / 64))
    const began = ring.begin()
    const chain = ring.newChain()
    const before = ring.base
    const answer = began === RING.taken ? ring.next(chain) : began
    if (memory.missing.size > 0) {
      memory.missing.clear()
      if (ring.begin() !== RING.taken) this.#differ('the ring is not there again')
      if (answer === RING.pending) {
        if (began === RING.taken && this.#seen === this.#takenCount) this.#seen = this.#published
        if (ring.base !== before) this.#differ('a pending chain counts')
        return
      }
    }
    if (this.#seen === this.#takenCount) this.#seen = this.#published
    const sent = this.#offered.shift()
    if (sent === undefined) {
      if (answer !== RING.empty) this.#differ(`nothing is offered, but the ring says ${nameOf(answer)}`)
      this.#sleep()
      return
    }
    if (answer !== RING.taken) {
      this.#differ(`the ring says ${nameOf(answer)}`)
      return
    }
    this.#takenCount++
    this.#taken.push({ sent, chain })
    const { readable, writable } = chain
    const bytes = new Uint8Array(readable.bytes)
    readable.read(0, bytes, 0, bytes.length)
    if (chain.head !== sent.head) this.#differ(`head ${chain.head} is not ${sent.head}`)
    if (String([...bytes]) !== String(sent.readable)) this.#differ('other bytes are read than were sent')
    if (writable.bytes !== sent.room.length) this.#differ('there is not the room that was given')
  }

  #sleep(): void {
    const more = this.ring.enableNotify()
    this.#deviceEvent = this.#seen
    if (more !== this.#published > this.#seen) this.#differ(`there is more: ${more}`)
    if (more) this.ring.disableNotify()
    else this.#deviceSleeps = true
  }

  /** In any order. */
  #use(): void {
    const at = this.#taken.length === 0 ? -1 : this.#random.below(this.#taken.length)
    const [one] = at < 0 ? [] : this.#taken.splice(at, 1)
    if (one === undefined) return
    const { sent, chain } = one
    const written = Uint8Array.from({ length: this.#random.below(sent.room.length + 1) }, () =>
      this.#random.int32(),
    )
    const cut = this.#random.below(written.length + 1)
    chain.writable.write(cut, written, cut, written.length - cut)
    chain.writable.write(0, written, 0, cut)
    this.ring.use(sent.head, written.length)
    this.#used.push({ sent, written: [...written] })
    this.#usedCount++
  }

  #show(): void {
    this.ring.publish()
    this.#given.push(...this.#used)
    this.#used = []
    this.#shown = this.#usedCount
    const told = this.ring.wantsCall()
    const before = this.#signalled
    this.#signalled = this.#shown
    const wanted = this.#options.hasEventIndex
      ? before < 0 || includesEvent(before, this.#shown, this.#driverEvent)
      : this.#driverListens
    if (told !== wanted) this.#differ(`the driver is called: ${told}`)
  }

  #reap(): void {
    const got = this.driver.reap()
    const one = this.#given.shift()
    if (one === undefined) {
      if (got !== 'empty') this.#differ('a chain is reaped that was not given back')
      return
    }
    const { sent, written } = one
    if (typeof got === 'string') {
      this.#differ(`reap says ${got}`)
      return
    }
    if (got.head !== sent.head || got.written !== written.length) this.#differ('another chain is reaped')
    const now = sent.room.map((at) => this.memory.bytes[at])
    const right = sent.room.map((_, i) => written[i] ?? UNWRITTEN)
    if (String(now) !== String(right)) this.#differ('other bytes were written than the device says')
    this.#free.unshift(sent.slot)
    this.#reaped++
    if (this.#driverListens) this.#driverEvent = this.#reaped
    this.done++
  }

  #listen(): void {
    if (this.#driverListens && this.#random.oneIn(2)) {
      this.driver.disableCalls()
      this.#driverListens = false
      return
    }
    const more = this.driver.enableCalls()
    this.#driverListens = true
    this.#driverEvent = this.#reaped
    if (more !== this.#shown > this.#reaped) this.#differ(`there is more to reap: ${more}`)
  }
}

const nameOf = (answer: number): string | undefined => RING_ANSWERS[answer]?.rule

/** Whether one of the entries from `before` to `now` is the one that the other side wants to hear of. */
function includesEvent(before: number, now: number, event: number): boolean {
  for (let i = before; i < now; i++) if (i === event) return true
  return false
}
