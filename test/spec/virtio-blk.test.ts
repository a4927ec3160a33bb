import { describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { decode } from '../../src/bits/word.ts'
import {
  BLK_ANSWERS,
  BLK_CONFIG_BYTES,
  BLK_CONFIG_FIELDS,
  BLK_TYPE,
  blkConfigBytes,
} from '../../src/hw/virtio/blk-format.ts'
import { type BlockStore, MemoryBlockStore } from '../../src/hw/virtio/block-store.ts'
import { DEVICE_FAULTS } from '../../src/hw/virtio/device-faults.ts'
import { hasFeature, VIRTIO_BLK_F, VIRTIO_BLK_FEATURES } from '../../src/hw/virtio/features.ts'
import type { Handing } from '../support/virtio.ts'
import { type BlkAnswer, BlkRig, blkSegments } from '../support/virtio-blk.ts'

const { IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES } = BLK_TYPE
const pattern = (bytes: number, seed = 7) =>
  Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + seed) & 0xff)
const data = (bytes: number) => pattern(bytes)

/** A store that fails at one of its doors, and counts its flushes. */
class SpoiledStore implements BlockStore {
  readonly sectors = 16
  flushes = 0
  readonly #bad: string

  constructor(bad: string) {
    this.#bad = bad
  }

  read = () => this.#bad !== 'read'
  write = () => this.#bad !== 'write'
  discard = () => this.#bad !== 'discard'
  writeZeroes = () => this.#bad !== 'writeZeroes'
  flush = () => {
    this.flushes++
    return this.#bad !== 'flush'
  }
}

type BlkRule = (typeof BLK_ANSWERS)[number]['rule']
const rig = (options?: ConstructorParameters<typeof BlkRig>[0]) => new BlkRig(options)
const readOnly = () => rig({ isReadOnly: true })

// An input that breaks two rules is answered by the first.
const CASES: Record<BlkRule, () => BlkAnswer[]> = {
  unsupported: () => [
    rig().request({ type: 99 }),
    rig().request({ type: 10, room: 24 }),
    // SECURE_ERASE is not offered; a SCSI command is not either.
    rig().request({ type: 14, data: blkSegments([0, 1]) }),
    rig().request({ type: 2, data: data(7), room: 100 }),
    rig().request({ type: OUT | 0x8000_0000, sector: 99n, data: data(3) }),
    readOnly().request({ type: 3, data: data(512) }),
  ],
  'read-only': () => [
    readOnly().request({ type: OUT, data: data(512) }),
    readOnly().request({ type: OUT, data: data(100), sector: 99n }),
    readOnly().request({ type: DISCARD, data: data(15) }),
    readOnly().request({ type: WRITE_ZEROES, data: blkSegments([0, 1]) }),
  ],
  'data-unaligned': () => [
    rig().request({ type: IN, room: 511 }),
    rig().request({ type: IN, room: 513, sector: 99n }),
    rig().request({ type: OUT, data: data(1), sector: 1n << 63n }),
  ],
  outside: () => [
    rig().request({ type: IN, room: 512, sector: 16n }),
    rig().request({ type: IN, room: 1024, sector: 15n }),
    rig().request({ type: OUT, data: data(512), sector: (1n << 64n) - 1n }),
    rig().request({ type: OUT, data: data(512), sector: 1n << 55n }),
    rig().request({ type: IN, sector: 17n }),
  ],
  'segments-malformed': () => [
    rig().request({ type: DISCARD }),
    rig().request({ type: DISCARD, data: data(15) }),
    rig().request({ type: WRITE_ZEROES, data: data(17) }),
    rig({ discardSegmentsMax: 1 }).request({ type: DISCARD, data: blkSegments([99, 99, 9], [0, 1]) }),
  ],
  'segment-too-long': () => [
    rig({ discardSectorsMax: 4 }).request({ type: DISCARD, data: blkSegments([0, 5]) }),
    rig({ discardSectorsMax: 4 }).request({ type: WRITE_ZEROES, data: blkSegments([0, 1], [99, 5, 2]) }),
  ],
  'segment-outside': () => [
    rig().request({ type: DISCARD, data: blkSegments([15, 2]) }),
    rig().request({ type: WRITE_ZEROES, data: blkSegments([2 ** 63, 1, 2]) }),
    rig().request({ type: DISCARD, data: blkSegments([17, 0, 1]) }),
  ],
  'segment-flags': () => [
    rig().request({ type: DISCARD, data: blkSegments([0, 1, 1]) }),
    rig().request({ type: WRITE_ZEROES, data: blkSegments([0, 1, 2]) }),
    // The first segment that breaks a rule answers.
    rig().request({ type: WRITE_ZEROES, data: blkSegments([0, 1, 3], [99, 1]) }),
  ],
  'store-failed': () => [
    rig({ store: new SpoiledStore('read') }).request({ type: IN, room: 512 }),
    rig({ store: new SpoiledStore('write') }).request({ type: OUT, data: data(512) }),
    rig({ store: new SpoiledStore('flush') }).request({ type: FLUSH }),
    rig({ store: new SpoiledStore('discard') }).request({ type: DISCARD, data: blkSegments([0, 1]) }),
    rig({ store: new SpoiledStore('writeZeroes') }).request({
      type: WRITE_ZEROES,
      data: blkSegments([0, 1]),
    }),
  ],
  done: () => [
    rig().request({ type: IN, room: 512, sector: 15n }),
    rig().request({ type: IN, sector: 16n }),
    rig().request({ type: OUT, data: data(8192) }),
    rig().request({ type: FLUSH, sector: 99n }),
    readOnly().request({ type: FLUSH }),
    rig().request({ type: GET_ID, room: 20 }),
    rig().request({ type: DISCARD, data: blkSegments([0, 16], [16, 0]) }),
    rig().request({ type: WRITE_ZEROES, data: blkSegments([3, 1, 1], [5, 1]) }),
    // Limits are the most that is allowed.
    rig({ discardSectorsMax: 4, discardSegmentsMax: 2 }).request({
      type: DISCARD,
      data: blkSegments([0, 4], [12, 4]),
    }),
  ],
}

describe('a block request', () => {
  it.each(BLK_ANSWERS)('status $status by $rule: $when', ({ rule, status }) => {
    for (const got of CASES[rule]()) {
      expect(got).toMatchObject({ rule, status })
      if (rule !== 'done') {
        // The status alone was written, and says so.
        expect(got.written).toBe(1)
        expect(got.data.every((byte) => byte === 0xee)).toBe(true)
      }
    }
  })

  it.each<Handing>(['whole', 'pages', 'places'])('cut anywhere, reads what was written (%s)', (handing) => {
    const random = new Prng(5)
    const disk = rig({ handing })
    const naive = new Uint8Array(16 * 512)
    for (let i = 0; i < 200; i++) {
      const sector = random.below(16)
      const bytes = 512 * random.below(17 - sector)
      const cuts = Array.from({ length: 3 }, () => 200 + random.below(700))
      // A header in pieces, too.
      if (random.oneIn(2)) cuts[0] = 120 + random.below(12)
      if (random.oneIn(2)) {
        const written = pattern(bytes, i)
        naive.set(written, sector * 512)
        const got = disk.request({ type: OUT, sector: BigInt(sector), data: written, cuts })
        expect(got).toMatchObject({ status: 0, written: 1 })
      } else {
        const got = disk.request({ type: IN, sector: BigInt(sector), room: bytes, cuts })
        expect(got).toMatchObject({ status: 0, written: bytes + 1 })
        expect(got.data).toEqual(naive.slice(sector * 512, sector * 512 + bytes))
      }
    }
  })

  it('takes a header of single bytes, and a status of its own', () => {
    const got = rig({ id: 'abc' }).request({ type: GET_ID, room: 20, cuts: [1] })
    expect(got).toMatchObject({ status: 0, written: 21 })
    expect(String.fromCharCode(...got.data)).toBe(`abc${'\0'.repeat(17)}`)
  })

  it.each([
    [0, 1, ''],
    [3, 4, 'ser'],
    [20, 21, 'serial-number-of-20-'],
    [64, 21, 'serial-number-of-20-'],
  ])('GET_ID with room for %d bytes', (room, written, text) => {
    const got = rig({ id: 'serial-number-of-20-bytes' }).request({ type: GET_ID, room })
    expect(got.written).toBe(written)
    expect(String.fromCharCode(...got.data.subarray(0, written - 1))).toBe(text)
  })

  it('nothing is carried out where one segment of several is wrong', () => {
    const disk = rig()
    disk.request({ type: OUT, data: data(8192) })
    disk.request({ type: WRITE_ZEROES, data: blkSegments([0, 1], [99, 1]) })
    expect(disk.request({ type: IN, room: 512 }).data).toEqual(data(8192).slice(0, 512))
    disk.request({ type: WRITE_ZEROES, data: blkSegments([0, 1], [2, 1]) })
    const now = disk.request({ type: IN, room: 1536 }).data
    const right = data(1536)
    right.fill(0, 0, 512)
    right.fill(0, 1024)
    expect(now).toEqual(right)
  })

  it.each([
    ['blk-header-short', 15, 4],
    ['blk-header-short', 15, 0],
    ['blk-status-missing', 16, 0],
  ])('%s: %d bytes to read and %d to write stop the queue', (rule, readable, room) => {
    const disk = rig()
    disk.send(new Uint8Array(readable), room)
    expect(disk.go()).toBe('failed')
    expect(disk.run.fault).toBe(rule)
    expect(disk.run.errno).toBe(DEVICE_FAULTS.find((f) => f.rule === rule)?.errno)
    // And it is not taken: a second run meets it again.
    expect([disk.go(), disk.run.fault, disk.driver.reap()]).toEqual(['failed', rule, 'empty'])
  })
})

describe('a run over a queue', () => {
  it('ends with its budget, goes on, and says once that it wants to interrupt', () => {
    const disk = rig()
    for (let i = 0; i < 3; i++) disk.send(new Uint8Array(16), 513)
    expect([disk.run.go(2), disk.run.served, disk.run.wantsCall]).toEqual(['more', 2, true])
    expect([disk.run.go(2), disk.run.served, disk.run.wantsCall]).toEqual(['idle', 1, false])
    expect([disk.run.go(2), disk.run.served, disk.run.wantsCall]).toEqual(['idle', 0, false])
  })

  it('stops at a missing translation without a trace, and what came before it is given back', () => {
    const disk = rig()
    const room = disk.send(new Uint8Array(16), 513)
    expect(disk.go()).toBe('idle')
    disk.memory.missing.add(Math.floor((room + 300) / 64))
    disk.send(new Uint8Array(16), 513)
    expect([disk.go(), disk.run.served, disk.run.fault]).toEqual(['pending', 0, ''])
    expect(disk.memory.bytes[room + 512]).toBe(0xee)
    disk.memory.missing.clear()
    expect([disk.go(), disk.run.served, disk.memory.bytes[room + 512]]).toEqual(['idle', 1, 0])
  })
})

describe('the disk', () => {
  it('lays out its configuration as the standard does', () => {
    const config = new DataView(rig({ sectors: 0x1234, queues: 4, segmentsMax: 62 }).disk.config.buffer)
    expect(config.byteLength).toBe(60)
    expect(config.getBigUint64(0, true)).toBe(0x1234n)
    expect(config.getUint32(8, true)).toBe(0)
    expect(config.getUint32(12, true)).toBe(62)
    expect(config.getUint32(20, true)).toBe(512)
    expect(config.getUint8(32)).toBe(1)
    expect(config.getUint16(34, true)).toBe(4)
    expect(config.getUint32(36, true)).toBe(2 ** 22)
    expect(config.getUint32(40, true)).toBe(16)
    expect(config.getUint32(44, true)).toBe(1)
    expect(config.getUint32(48, true)).toBe(2 ** 22)
    expect(config.getUint32(52, true)).toBe(16)
    expect(config.getUint8(56)).toBe(1)
  })

  it('each field of the configuration has bytes of its own', () => {
    const seen = new Set<number>()
    for (const { name, offset, bytes } of BLK_CONFIG_FIELDS) {
      const all = blkConfigBytes({ [name]: (1n << BigInt(8 * bytes)) - 1n })
      for (let i = 0; i < BLK_CONFIG_BYTES; i++) {
        const isIn = i >= offset && i < offset + bytes
        expect(all[i], name).toBe(isIn ? 255 : 0)
        if (isIn) expect(seen.has(i)).toBe(false)
        if (isIn) seen.add(i)
      }
    }
  })

  it('offers what it does', () => {
    const names = (features: bigint) =>
      Object.entries(decode(VIRTIO_BLK_FEATURES, features)).flatMap(([name, on]) => (on === 1n ? [name] : []))
    const changing = ['CONFIG_WCE', 'DISCARD', 'WRITE_ZEROES']
    expect(names(rig().disk.features).sort()).toEqual(['BLK_SIZE', 'FLUSH', 'SEG_MAX', ...changing].sort())
    expect(names(rig({ isReadOnly: true, queues: 2 }).disk.features).sort()).toEqual(
      ['BLK_SIZE', 'FLUSH', 'MQ', 'RO', 'SEG_MAX'].sort(),
    )
    expect(hasFeature(rig().disk.features, VIRTIO_BLK_F.DISCARD)).toBe(true)
  })

  it.each([
    ['FLUSH and CONFIG_WCE taken', 0x0a00n, 0],
    ['FLUSH taken', 0x0200n, 0],
    ['nothing taken: the driver cannot ask for a flush', 0n, 3],
  ])('%s: %s, flushes %d', (_what, features, flushes) => {
    const store = new SpoiledStore('')
    const disk = rig({ store })
    disk.disk.negotiate(features)
    disk.request({ type: OUT, data: data(512) })
    disk.request({ type: DISCARD, data: blkSegments([0, 1], [2, 1]) })
    disk.request({ type: WRITE_ZEROES, data: blkSegments([0, 1]) })
    expect(store.flushes).toBe(flushes)
  })

  it.each([
    ['firmware that cannot flush, then a driver that can', [0n, 0x0a00n], 1],
    ['the other way round', [0x0a00n, 0n], 0],
    ['a driver that takes FLUSH alone, after firmware', [0n, 0x0200n], 1],
    ['the same driver again, which had switched it off', [0x0a00n, 'off', 0x0a00n], 0],
    ['after firmware, switched off', [0n, 0x0a00n, 'off', 0x0a00n], 0],
  ] as const)('the write cache of %s', (_what, steps, on) => {
    const { disk } = rig()
    for (const step of steps) {
      if (step === 'off') disk.writeConfig(32, Uint8Array.of(0))
      else disk.negotiate(step)
    }
    expect(disk.config[32]).toBe(on)
  })

  it('the driver switches the write cache, and nothing else of the configuration', () => {
    const store = new SpoiledStore('')
    const { disk } = rig({ store })
    const before = disk.config
    disk.writeConfig(31, Uint8Array.of(0xff, 0, 0xff))
    expect(disk.config.filter((byte, i) => byte !== before[i])).toEqual(Uint8Array.of(0))
    expect(disk.config[32]).toBe(0)
    disk.writeConfig(0, Uint8Array.of(1, 2, 3))
    disk.writeConfig(32, Uint8Array.of(9))
    expect(disk.config).toEqual(before)
    const fixed = rig({ isReadOnly: true }).disk
    fixed.writeConfig(32, Uint8Array.of(0))
    expect(fixed.config[32]).toBe(1)
  })

  it('goes back with its machine: bytes of the disk and its write cache', () => {
    const journal = new Journal()
    journal.on = true
    const store = new MemoryBlockStore('disk', 4, journal)
    const disk = new BlkRig({ store })
    disk.request({ type: OUT, data: data(1024) })
    const [mark, hash] = [journal.mark(), journal.hash]
    disk.request({ type: OUT, data: pattern(2048, 99) })
    disk.request({ type: DISCARD, data: blkSegments([0, 1]) })
    expect(journal.hash).not.toBe(hash)
    journal.rollback(mark)
    expect(journal.hash).toBe(hash)
    expect(store.bytesAt(0, 2048)).toEqual(Uint8Array.of(...data(1024), ...new Uint8Array(1024)))
  })
})
