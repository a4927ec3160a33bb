import { Journal } from '../../src/bits/state.ts'
import { numberOf } from '../../src/bits/u64.ts'
import { BLK_TYPE } from '../../src/hw/virtio/blk-format.ts'
import { MemoryBlockStore, SECTOR_BYTES } from '../../src/hw/virtio/block-store.ts'
import { type DriverBuffer, DriverRing, ringPlaces } from '../../src/hw/virtio/driver-ring.ts'
import { QueueRun } from '../../src/hw/virtio/queue-run.ts'
import type { RingMemory } from '../../src/hw/virtio/ring-memory.ts'
import { Segments } from '../../src/hw/virtio/segments.ts'
import { SplitRing } from '../../src/hw/virtio/split-ring.ts'
import { VirtioBlk } from '../../src/hw/virtio/virtio-blk.ts'
import { type CaseGroup, check, type LoopCase, type SetUp } from '../case.ts'

const ENTRIES = 256
/** Chains in flight; the ring is a multiple of it, so the available ring never changes. */
const CHAINS = 64
const MEMORY_BYTES = 1 << 23
const HEADERS = 0x1_0000
const TABLES = 0x2_0000
const DATA = 0x10_0000
const DATA_STRIDE = 0x1_0000
const STORE_SECTORS = 1 << 14

/** Memory in one view, without a translation. */
function flatMemory(bytes: Uint8Array): RingMemory {
  return {
    reach(_queue, hi, lo, length, _access, _part, into) {
      const at = numberOf(hi, lo)
      if (at + length > bytes.length) return 'refused'
      into.addView(bytes, at, length)
      return 'ok'
    },
    load: () => check(false, 'mapped memory is read in place'),
    store: () => check(false, 'mapped memory is written in place'),
  }
}

/** A disk of which each sector holds its number. */
function numberedStore(): MemoryBlockStore {
  const store = new MemoryBlockStore('bench', STORE_SECTORS, new Journal())
  const sector = new Uint8Array(SECTOR_BYTES)
  const segments = new Segments(flatMemory(sector))
  segments.addView(sector, 0, SECTOR_BYTES)
  for (let i = 0; i < STORE_SECTORS; i++) {
    new DataView(sector.buffer).setUint32(0, i, true)
    store.write(i, 1, segments)
  }
  return store
}

/** The sector that chain `i` reads. */
const sectorOf = (i: number): number => (Math.imul(i, 40503) >>> 3) & (STORE_SECTORS / 2 - 1)

/** Requests to read, offered 64 at a time to a device in a ring of 256 entries. */
const reads =
  (dataBytes: number, isIndirect: boolean): SetUp =>
  (operations) => {
    const bytes = new Uint8Array(MEMORY_BYTES)
    const words = new DataView(bytes.buffer)
    const places = ringPlaces(ENTRIES, 0, true)
    const driver = new DriverRing({
      memory: {
        load: (at, into, to, length) => into.set(bytes.subarray(at, at + length), to),
        store: (at, from, skip, length) => bytes.set(from.subarray(skip, skip + length), at),
      },
      journal: new Journal(),
      name: 'bench',
      entries: ENTRIES,
      places,
      hasEventIndex: true,
    })
    driver.reset()
    const heads = Array.from({ length: CHAINS }, (_, i) => {
      const [header, data] = [HEADERS + 32 * i, DATA + DATA_STRIDE * i]
      words.setUint32(header, BLK_TYPE.IN, true)
      words.setUint32(header + 8, sectorOf(i), true)
      const buffers: DriverBuffer[] = [
        { address: BigInt(header), bytes: 16, isWritten: false },
        { address: BigInt(data), bytes: dataBytes, isWritten: true },
        { address: BigInt(header + 16), bytes: 1, isWritten: true },
      ]
      const table = TABLES + 64 * i
      return isIndirect ? driver.addIndirect(buffers, table, BigInt(table)) : driver.add(buffers)
    })
    for (let i = 0; i < ENTRIES; i++) {
      words.setUint16(places.available + 4 + 2 * i, heads[i % CHAINS] as number, true)
    }
    const ring = new SplitRing({ memory: flatMemory(bytes), queue: 0, journal: new Journal(), name: 'bench' })
    const [descriptors, available, used] = [places.descriptors, places.available, places.used].map(BigInt)
    check(
      descriptors !== undefined && available !== undefined && used !== undefined,
      'a ring has three parts',
    )
    ring.setUp({
      entries: ENTRIES,
      descriptors: descriptors as bigint,
      available: available as bigint,
      used: used as bigint,
      hasEventIndex: true,
    })
    const disk = new VirtioBlk({ name: 'bench', store: numberedStore(), journal: new Journal() })
    const run = new QueueRun(ring, disk)
    ring.start()
    let index = 0
    const pass = (): number => {
      let sum = 0
      for (let done = 0; done < operations; done += CHAINS) {
        index = (index + CHAINS) & 0xffff
        words.setUint16(places.available + 2, index, true)
        run.go(CHAINS + 1)
        sum = (sum + run.served + words.getUint32(DATA, true)) | 0
      }
      return sum
    }
    pass()
    for (let i = 0; i < Math.min(CHAINS, operations); i++) {
      check(words.getUint32(DATA + DATA_STRIDE * i, true) === sectorOf(i), 'each buffer has its sector')
      check(bytes[HEADERS + 32 * i + 16] === 0, 'each request has its status')
    }
    return { operations, pass }
  }

/** The same bytes copied, and nothing else. */
const copies =
  (dataBytes: number): SetUp =>
  (operations) => {
    const bytes = new Uint8Array(MEMORY_BYTES)
    const store = numberedStore()
    const segments = new Segments(flatMemory(bytes))
    const pass = (): number => {
      for (let i = 0; i < operations; i++) {
        segments.clear()
        segments.addView(bytes, DATA + DATA_STRIDE * (i % CHAINS), dataBytes)
        store.read(sectorOf(i % CHAINS), dataBytes / SECTOR_BYTES, segments)
      }
      return bytes[DATA] as number
    }
    return { operations, pass }
  }

const caseOf = (dataBytes: number, isIndirect: boolean): LoopCase => ({
  id: `virtio/${dataBytes}${isIndirect ? '/table' : ''}`,
  operation: 'read',
  operations: 1 << 17,
  setUp: reads(dataBytes, isIndirect),
  peer: { label: 'copy', setUp: copies(dataBytes) },
  goal: { operationsPerSecondMin: 1_000_000 },
})

export const VIRTIO: CaseGroup = {
  title: 'Block requests over a ring',
  note:
    'Ours: a device takes 64 requests to read a disk in memory from a split ring of 256 entries with event indices, ' +
    'three buffers each (in a table: /table), reads, writes status and used entry, and publishes; memory is mapped, ' +
    'without a translation. The driver does nothing but move its index. Peer: the same bytes copied.',
  cases: [caseOf(512, false), caseOf(4096, false), caseOf(4096, true)],
}
