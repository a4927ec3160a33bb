import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { type BlockStore, SECTOR_BYTES } from '../../src/hw/virtio/block-store.ts'
import { QueueRun } from '../../src/hw/virtio/queue-run.ts'
import type { Segments } from '../../src/hw/virtio/segments.ts'
import { SplitRing } from '../../src/hw/virtio/split-ring.ts'
import { VirtioBlk } from '../../src/hw/virtio/virtio-blk.ts'
import { NetReceiver, NetTransmitter } from '../../src/hw/virtio/virtio-net.ts'
import { type Handing, TestMemory } from '../support/virtio.ts'

const IMAGES = 100_000
const MEMORY_BYTES = 2048
const BUDGET = 8
const STORE_SECTORS = 4

/** A store that is only asked for what it has. */
class StrictStore implements BlockStore {
  readonly sectors = STORE_SECTORS
  readonly #bytes = new Uint8Array(STORE_SECTORS * SECTOR_BYTES)
  requests = 0

  read(sector: number, sectors: number, segments: Segments): boolean {
    this.#check(sector, sectors)
    segments.write(0, this.#bytes, sector * SECTOR_BYTES, sectors * SECTOR_BYTES)
    return true
  }

  write(sector: number, sectors: number, segments: Segments): boolean {
    this.#check(sector, sectors)
    segments.read(0, this.#bytes, sector * SECTOR_BYTES, sectors * SECTOR_BYTES)
    return true
  }

  flush(): boolean {
    return true
  }

  discard(sector: number, sectors: number): boolean {
    return this.#check(sector, sectors)
  }

  writeZeroes(sector: number, sectors: number): boolean {
    return this.#check(sector, sectors)
  }

  #check(sector: number, sectors: number): boolean {
    this.requests++
    if (!(sector >= 0 && sectors >= 0 && sector + sectors <= STORE_SECTORS)) {
      throw new Error(`sectors ${sector} + ${sectors}`)
    }
    return true
  }
}

/** Memory whose driver writes while the device reads. */
class RestlessMemory extends TestMemory {
  reaches = 0
  restless: Prng | undefined

  override reach(...args: Parameters<TestMemory['reach']>): ReturnType<TestMemory['reach']> {
    this.reaches++
    return super.reach(...args)
  }

  override load(place: number, into: Uint8Array, at: number, bytes: number): void {
    super.load(place, into, at, bytes)
    const { restless } = this
    if (restless?.oneIn(2)) {
      const changed = restless.below(16)
      this.bytes[place + changed] = restless.pick([0, 1, 3, 4, 7, 16, 64, 255])
    }
  }
}

/** An image that is nearly a ring: wrong in a few places, or in all. */
function spoiledImage(random: Prng, entries: number): Uint8Array {
  const bytes = new Uint8Array(MEMORY_BYTES)
  const words = new DataView(bytes.buffer)
  const isNoise = random.oneIn(8)
  for (let i = 0; i < MEMORY_BYTES; i += 4) words.setInt32(i, random.oneIn(3) || isNoise ? random.int32() : 0)
  if (isNoise) return bytes
  const address = () => (random.oneIn(16) ? random.u64() : BigInt(random.below(MEMORY_BYTES)))
  const length = () =>
    random.oneIn(12) ? random.int32() >>> 0 : random.pick([0, 1, 12, 16, 17, 32, 48, 64, 512, 513, 1024])
  // Tables lie where buffers lie, so every 16 bytes are a descriptor.
  for (let at = 0; at < MEMORY_BYTES; at += 16) {
    words.setBigUint64(at, address(), true)
    words.setUint32(at + 8, length(), true)
    words.setUint16(at + 12, random.pick([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7]), true)
    words.setUint16(
      at + 14,
      random.oneIn(12) ? random.int32() & 0xffff : random.below(random.oneIn(6) ? 32 : entries),
      true,
    )
  }
  words.setUint16(512 + 2, random.oneIn(8) ? random.int32() & 0xffff : random.below(entries + 1), true)
  for (let i = 0; i < entries; i++) {
    words.setUint16(512 + 4 + 2 * i, random.oneIn(12) ? random.int32() & 0xffff : random.below(entries), true)
  }
  // Some buffers begin with the header of a block request.
  for (let i = 0; i < 24; i++) {
    const at = 16 * random.below(MEMORY_BYTES / 16)
    words.setUint32(at, random.pick([0, 1, 4, 8, 11, 13]), true)
    words.setBigUint64(at + 8, random.oneIn(8) ? random.u64() : BigInt(random.below(STORE_SECTORS + 1)), true)
  }
  return bytes
}

interface Outcome {
  readonly end: string
  readonly fault: string
  readonly served: number
  readonly image: Uint8Array
}

interface Image {
  readonly bytes: Uint8Array
  readonly entries: number
  readonly hasEventIndex: boolean
  readonly asLinuxVhost: boolean
  readonly device: 'blk' | 'transmit' | 'receive'
}

const REACHED = [
  'idle',
  'delivered',
  'no-buffer',
  'too-long',
  'avail-jump',
  'head-outside',
  'next-outside',
  'loop',
  'indirect-with-next',
  'indirect-length',
  'indirect-refused',
  'indirect-loop',
  'indirect-outside',
  'indirect-nested',
  'buffer-refused',
  'order',
  'blk-header-short',
  'blk-status-missing',
  'net-receive-readable',
  'net-transmit-writable',
  'net-header-short',
]

/** Has a device run over an image. Answers what came of it, or the sentence of what it must not do. */
function runOver(image: Image, handing: Handing, restless?: Prng): Outcome | string {
  const memory = new RestlessMemory(image.bytes.slice(), handing)
  memory.restless = restless
  const ring = new SplitRing({
    memory,
    queue: 0,
    journal: new Journal(),
    name: 'hostile',
    asLinuxVhost: image.asLinuxVhost,
  })
  const { entries, hasEventIndex } = image
  ring.setUp({ entries, descriptors: 0n, available: 512n, used: 640n, hasEventIndex })
  const store = new StrictStore()
  const journal = new Journal()
  const server =
    image.device === 'blk'
      ? new VirtioBlk({ name: 'vda', store, journal })
      : new NetTransmitter({ transmit: (frame) => frame.read(0, new Uint8Array(1), 0, 1) })
  const run = new QueueRun(ring, server)
  const receiver = new NetReceiver(ring)
  let end = ''
  try {
    ring.start()
    // As a new device: the index of the image is not this ring's past.
    end = image.device === 'receive' ? receiver.receive(new Uint8Array(40)) : run.go(BUDGET)
  } catch (error) {
    return String(error)
  }
  // A chain has at most the ring's descriptors, and those of tables that lie in this memory.
  const tables = image.asLinuxVhost ? entries : 1
  const most = 8 + (BUDGET + 1) * (entries + tables * (MEMORY_BYTES / 16 + 1))
  if (memory.reaches > most) return `${memory.reaches} translations`
  if (handing === 'places' && restless === undefined) {
    for (let i = 0; i < MEMORY_BYTES; i++) {
      const isChanged = memory.bytes[i] !== image.bytes[i]
      if (isChanged && ((memory.allowed[i] ?? 0) & 2) === 0) return `byte ${i} was written`
    }
  }
  const fault = image.device === 'receive' ? receiver.fault : run.fault
  return { end, fault, served: run.served, image: memory.bytes }
}

function imageOf(random: Prng): Image {
  const entries = random.pick([1, 2, 4, 8])
  return {
    entries,
    bytes: spoiledImage(random, entries),
    hasEventIndex: random.oneIn(2),
    asLinuxVhost: random.oneIn(3),
    device: random.pick(['blk', 'blk', 'transmit', 'receive']),
  }
}

/** All images of a seed: the first thing that must not be, else undefined. */
function firstHarm(seed: number, images: number, ends = new Map<string, number>()): string | undefined {
  const random = new Prng(seed)
  for (let i = 0; i < images; i++) {
    const image = imageOf(random)
    const got = runOver(image, 'places')
    if (typeof got === 'string') return `image ${i}: ${got}`
    const key = got.fault === '' ? got.end : got.fault
    ends.set(key, (ends.get(key) ?? 0) + 1)
    if (i % 2 === 0) {
      const other = runOver(image, i % 4 === 0 ? 'whole' : 'pages')
      if (typeof other === 'string') return `image ${i}, views: ${other}`
      if (other.end !== got.end || other.fault !== got.fault || other.served !== got.served) {
        return `image ${i}: ${other.end} ${other.fault} in views, ${got.end} ${got.fault} else`
      }
      if (other.image.some((byte, at) => byte !== got.image[at])) return `image ${i}: other bytes in views`
    }
    if (i % 2 === 1) {
      const moved = runOver(image, 'places', new Prng(i))
      if (typeof moved === 'string') return `image ${i}, written meanwhile: ${moved}`
    }
  }
  return undefined
}

describe('rings of a driver that means harm', () => {
  it(`${IMAGES} images: no exception, no byte outside of what was reached, bounded work`, () => {
    const ends = new Map<string, number>()
    expect(firstHarm(1, IMAGES, ends)).toBeUndefined()
    // And they are no noise: what a ring and its devices can answer is reached.
    for (const answer of REACHED) expect(ends.get(answer) ?? 0, answer).toBeGreaterThan(10)
  }, 120_000)

  it.each([
    [
      'a device that writes past its buffers',
      () => {
        const serve = VirtioBlk.prototype.serve
        VirtioBlk.prototype.serve = function (chain) {
          chain.writable.addPlace(640 + 64, 1)
          return serve.call(this, chain)
        }
        return () => {
          VirtioBlk.prototype.serve = serve
        }
      },
    ],
    [
      'a ring that looks at no head',
      () => {
        const { next } = SplitRing.prototype
        SplitRing.prototype.next = function (chain) {
          this.memory.load(2000, new Uint8Array(1), 0, 1)
          return next.call(this, chain)
        }
        return () => {
          SplitRing.prototype.next = next
        }
      },
    ],
  ])('the test sees %s', (_what, plant) => {
    const repair = plant()
    const harm = firstHarm(2, 2_000)
    repair()
    expect(harm).toBeDefined()
  })
})
