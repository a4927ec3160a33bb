import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { MemoryBlockStore } from '../../src/hw/virtio/block-store.ts'
import { blkDevice } from '../../src/peer/vhost-user/blk-device.ts'
import type { Fault } from '../../src/peer/vhost-user/faults.ts'
import { type Libc, loadLibc } from '../../src/peer/vhost-user/libc.ts'
import { Recorder } from '../../src/peer/vhost-user/recorder.ts'
import { VhostUserServer } from '../../src/peer/vhost-user/server.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { DiskGuest, type DiskGuestOptions } from '../support/vhost-disk-guest.ts'
import { FrontEnd, GuestRam, until } from '../support/vhost-front-end.ts'

let why = ''
const libc = await loadLibc().catch((error: Error) => {
  why = ` (skipped: ${error.message})`
  return undefined
})

const SECTORS = 4096
const RAM_BYTES = 4 << 20

const randomBytes = (seed: number, bytes: number): Uint8Array => {
  const prng = new Prng(seed)
  return Uint8Array.from({ length: bytes }, () => prng.int32())
}

describe.skipIf(libc === undefined)(`a vhost-user back end and a front end, over a socket${why}`, () => {
  let folder = ''
  let path = ''
  let server: VhostUserServer
  let running: Promise<void>
  let store: MemoryBlockStore
  let log: RecordLog
  let recorder: Recorder
  let ends: (Fault | undefined)[]
  const c = libc as Libc

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'iommulator-test-'))
    path = join(folder, 'disk.sock')
    store = new MemoryBlockStore('disk', SECTORS, new Journal())
    log = new RecordLog()
    recorder = new Recorder({ log, device: 'disk', owner: 'guest' })
    ends = []
    server = await VhostUserServer.listen({
      socket: path,
      makeDevice: () =>
        blkDevice({ store, queues: 2, onRequest: (blk, bytes) => recorder.onDiskRequest(blk, bytes) }),
      watcher: {
        onConnect: () => recorder,
        onEnd: (fault) => {
          ends.push(fault)
          recorder.end()
        },
      },
    })
    running = server.run()
  })
  afterEach(async () => {
    server.stop()
    await running
    expect(readdirSync(folder)).toEqual([])
    rmSync(folder, { recursive: true })
  })

  const withGuest = async (
    options: DiskGuestOptions,
    act: (guest: DiskGuest) => Promise<void>,
  ): Promise<void> => {
    const front = FrontEnd.connect(c, path)
    const ram = new GuestRam(c, RAM_BYTES)
    try {
      const guest = new DiskGuest(front, ram, options)
      await guest.negotiate()
      await guest.start()
      await act(guest)
    } finally {
      await front.close()
      ram.close()
    }
    await until('the server saw the end', () => ends.length > 0)
  }

  it.each([
    ['without an IOMMU', { hasIommu: false }],
    ['with event indices', { hasIommu: false, hasEventIndex: true }],
    ['behind an IOMMU', { hasIommu: true }],
    ['behind an IOMMU, with event indices', { hasIommu: true, hasEventIndex: true }],
    ['with memory slots, on the second queue', { hasIommu: true, usesSlots: true, queue: 1 }],
  ])('%s, what is written is read back', async (_, options) => {
    await withGuest(options, async (guest) => {
      const data = randomBytes(1, 20_480)
      expect(await guest.write(8, data)).toBe(0)
      expect(store.bytesAt(8 * 512, data.length)).toEqual(data)
      expect(await guest.read(8, data.length)).toEqual(data)
      expect(await guest.read(8, 4096, true)).toEqual(data.subarray(0, 4096))
      expect(guest.front.count(guest.call)).toBeGreaterThan(0)
    })
    expect(ends).toEqual([undefined])
    expect(recorder.counts).toMatchObject({ requests: 3, unanswered: 0, refusals: 0 })
    expect(recorder.counts.misses > 0).toBe(options.hasIommu)
  })

  it('asks for each page once, and again after INVALIDATE', async () => {
    await withGuest({ hasIommu: true }, async (guest) => {
      const data = randomBytes(2, 512)
      await guest.write(0, data)
      const { misses } = recorder.counts
      await guest.write(0, data)
      expect(recorder.counts.misses).toBe(misses)
      await guest.unmap(guest.map(0x100_000))
      guest.map(0x100_000)
      await guest.write(0, data)
      expect(recorder.counts).toMatchObject({ misses: misses + 1, invalidations: 1 })
    })
  })
})
