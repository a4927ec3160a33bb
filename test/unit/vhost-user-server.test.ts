import { ftruncateSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Prng } from '../../src/bits/prng.ts'
import { Journal } from '../../src/bits/state.ts'
import { MemoryBlockStore } from '../../src/hw/virtio/block-store.ts'
import { blkDevice } from '../../src/peer/vhost-user/blk-device.ts'
import { messageOf, payloadOf, replyOf, wordPayload } from '../../src/peer/vhost-user/codec.ts'
import type { DescriptorKind } from '../../src/peer/vhost-user/descriptors.ts'
import type { Fault } from '../../src/peer/vhost-user/faults.ts'
import { C, type Libc, loadLibc } from '../../src/peer/vhost-user/libc.ts'
import { connectUnix } from '../../src/peer/vhost-user/listener.ts'
import { Recorder } from '../../src/peer/vhost-user/recorder.ts'
import { VhostUserServer } from '../../src/peer/vhost-user/server.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { DiskGuest, type DiskGuestOptions, UA } from '../support/vhost-disk-guest.ts'
import { FrontEnd, GuestRam, until } from '../support/vhost-front-end.ts'
import { fuzzMessage } from '../support/vhost-fuzz.ts'

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

describe('without koffi', () => {
  afterEach(() => {
    vi.doUnmock('koffi')
    vi.resetModules()
  })

  it('says how to get it', async () => {
    vi.resetModules()
    vi.doMock('koffi', () => {
      throw new Error('Cannot find the native Koffi module')
    })
    const fresh = await import('../../src/peer/vhost-user/libc.ts')
    const error = await fresh.loadLibc().then(
      () => undefined,
      (e: Error) => e,
    )
    const words =
      process.platform === 'linux' ? /^koffi cannot be loaded: install it with "npm install/ : /need Linux/
    expect(error).toMatchObject({ code: 'ERR_PEER', message: expect.stringMatching(words) })
  })
})

const tableOf = (given: { readonly regionBytes: number }): Uint8Array =>
  payloadOf('memTable', { regions: 1 }, payloadOf('region', { ...given, gpa: 0, ua: UA }))

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
        blkDevice({
          store,
          queues: 2,
          watcher: recorder,
        }),
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
    const seen = ends.length
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
    await until('the server saw the end', () => ends.length > seen)
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
  it('answers requests while it waits for a translation', async () => {
    await withGuest({ hasIommu: true }, async (guest) => {
      const { front } = guest
      front.answersMisses = false
      guest.add(4, 0, [])
      guest.publish()
      await until('a miss is asked', () => front.asked.length > 0)
      // QEMU from 7.2.3 on reads no misses while it waits for a reply.
      expect(await front.word('GET_FEATURES')).not.toBe(0n)
      expect(await front.invalidate(0n, 4096n)).toBe(0n)
      expect(guest.ring.reap()).toBe('empty')
      front.answersMisses = true
      for (const message of front.asked) await front.answer(message)
      await until('the request is served', () => guest.ring.reap() !== 'empty')
    })
  })

  it('asks again where the translation went before the queue had its turn', async () => {
    await withGuest({ hasIommu: true }, async (guest) => {
      const { front } = guest
      expect(await guest.write(0, randomBytes(7, 512))).toBe(0)
      const ring = guest.map(guest.ring.places.descriptors)
      await front.invalidate(ring, 4096n)
      front.answersMisses = false
      front.asked.length = 0
      guest.add(4, 0, [])
      guest.publish()
      await until('a miss is asked', () => front.asked.length === 1)
      // A flush of the whole domain comes between the UPDATE and the answer that says that it came.
      const update = front.update(ring, 4096n, UA + BigInt(guest.ring.places.descriptors))
      expect(await Promise.all([update, front.invalidate(0n, 1n << 40n)])).toEqual([0n, 0n])
      front.answersMisses = true
      front.answerRaw(replyOf(1, wordPayload(0)))
      await until('the request is served', () => recorder.counts.requests === 2)
      expect(guest.status()).toBe(0)
    })
  })

  it('asks again where the guest kicked after it was asked', async () => {
    await withGuest({ hasIommu: true }, async (guest) => {
      const { front } = guest
      const page = guest.map(0x100_000)
      guest.pages.delete(page / 4096n)
      expect(await guest.write(0, randomBytes(8, 512), true)).toBe(0)
      await guest.unmap(page)
      front.answersMisses = false
      guest.add(0, 0, [{ address: page, bytes: 512, isWritten: true }])
      guest.publish()
      await until('a miss is asked', () => front.asked.length > 0 && recorder.queueStates[0] === 'waits')
      // Mapped and kicked while the answer is under way that there is no translation.
      guest.map(0x100_000)
      front.signal(guest.kick)
      await front.word('GET_FEATURES')
      front.answersMisses = true
      front.answerRaw(replyOf(1, wordPayload(1)))
      await until('the request is served', () => recorder.counts.requests === 2)
    })
  })

  it.each([
    ['with event indices', true],
    ['without', false],
  ])(
    'a miss that has no translation starves the queue until the next kick (%s)',
    async (_, hasEventIndex) => {
      await withGuest({ hasIommu: true, hasEventIndex }, async (guest) => {
        expect(await guest.write(0, randomBytes(3, 512))).toBe(0)
        const page = guest.map(0x100_000)
        await guest.unmap(page)
        guest.add(0, 0, [{ address: page, bytes: 512, isWritten: true }])
        guest.publish()
        await until('the miss is refused', () => recorder.counts.unanswered === 1)
        guest.map(0x100_000)
        guest.add(4, 0, [])
        guest.publish()
        await until('both requests are served', () => recorder.counts.requests === 3)
        expect(guest.status(2)).toBe(0)
      })
    },
  )

  it('a queue that starves goes on with an UPDATE', async () => {
    await withGuest({ hasIommu: true }, async (guest) => {
      const page = guest.map(0x100_000)
      guest.pages.delete(page / 4096n)
      guest.add(0, 0, [{ address: page, bytes: 512, isWritten: true }])
      guest.publish()
      await until('the miss is refused', () => recorder.counts.unanswered === 1)
      expect(await guest.front.update(page, 4096n, UA + 0x100_000n)).toBe(0n)
      await until('the request is served', () => recorder.counts.requests === 1)
    })
  })

  it('stops with GET_VRING_BASE, and goes on where it was', async () => {
    await withGuest({ hasIommu: true }, async (guest) => {
      const data = randomBytes(4, 1024)
      await guest.write(2, data)
      expect(await guest.stop()).toBe(1)
      guest.add(4, 0, [])
      guest.ring.publish()
      guest.front.signal(guest.kick)
      // The ring stays stopped: enabling it changes nothing, and the old kick is not looked at.
      guest.front.send('SET_VRING_ENABLE', payloadOf('vringState', { index: 0, num: 1 }))
      await guest.front.word('GET_FEATURES')
      expect(recorder.counts.requests).toBe(1)
      await guest.start()
      expect(await guest.finish()).toBe(0)
      expect(await guest.read(2, 1024)).toEqual(data)
      expect(await guest.stop()).toBe(3)
    })
  })

  it('serves the next front end when one is gone, and gives all descriptors back', async () => {
    const before = readdirSync('/proc/self/fd').length
    const data = randomBytes(5, 4096)
    await withGuest({ hasIommu: true }, async (guest) => {
      await guest.write(1, data)
    })
    await withGuest({ hasIommu: false }, async (guest) => {
      expect(await guest.read(1, 4096)).toEqual(data)
    })
    expect(ends).toEqual([undefined, undefined])
    await until('descriptors are closed', () => readdirSync('/proc/self/fd').length === before)
  })

  const hostile: readonly (readonly [rule: string, act: (front: FrontEnd) => void])[] = [
    ['ends-in-message', (front) => front.sendRaw(messageOf(1, 1, new Uint8Array(0)).subarray(0, 7))],
    ['ends-in-message', (front) => front.sendRaw(messageOf(2, 1, new Uint8Array(8)).subarray(0, 15))],
    ['message-version', (front) => front.sendRaw(messageOf(1, 2, new Uint8Array(0)))],
    ['message-is-reply', (front) => front.sendRaw(messageOf(1, 5, new Uint8Array(8)))],
    ['payload-too-long', (front) => front.sendRaw(Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255))],
    ['request-unknown', (front) => front.sendRaw(messageOf(77, 1, new Uint8Array(8)))],
    ['descriptors-count', (front) => front.send('GET_FEATURES', undefined, [front.event()])],
    [
      'descriptors-count',
      (front) =>
        front.send(
          'SET_OWNER',
          undefined,
          Array.from({ length: 253 }, () => 0),
        ),
    ],
    ['not-an-event', (front) => front.send('SET_VRING_KICK', payloadOf('notifier', { value: 0 }), [0])],
    [
      'region-not-a-file',
      (front) => front.send('SET_MEM_TABLE', tableOf({ regionBytes: 4096 }), [front.event()]),
    ],
    [
      'region-behind-file',
      (front) => {
        const fd = front.libc.memfd('short', 1)
        front.send('SET_MEM_TABLE', tableOf({ regionBytes: 4096 }), [fd])
        front.libc.close(fd)
      },
    ],
  ]
  it.each(hostile)('closes the connection: %s', async (rule, act) => {
    const before = readdirSync('/proc/self/fd').length
    const front = FrontEnd.connect(c, path)
    act(front)
    if (rule === 'ends-in-message') await front.close()
    else {
      await until('the connection is closed', () => front.isClosed)
      await front.close()
    }
    await until('the server saw it', () => ends.length > 0)
    expect(ends.map((fault) => fault?.rule)).toEqual([rule])
    await until('descriptors are closed', () => readdirSync('/proc/self/fd').length === before)
  })

  it('closes the connection: back-end-silent', async () => {
    const fd = connectUnix(c, path)
    const request = messageOf(1, 1, new Uint8Array(0))
    // Nobody reads the replies.
    for (let n = 0; n < 100 && ends.length === 0; n++) {
      for (let m = 0; m < 50; m++) c.send(fd, request, C.MSG_NOSIGNAL)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    expect(ends.map((fault) => fault?.rule)).toEqual(['back-end-silent'])
    c.close(fd)
  })

  it('a front end whose region is larger than a view, and sparse, is served', async () => {
    const bytes = 6 * 2 ** 30
    const fd = c.memfd('large', 1)
    ftruncateSync(fd, bytes)
    const front = FrontEnd.connect(c, path)
    await front.word('GET_FEATURES')
    front.send('SET_PROTOCOL_FEATURES', payloadOf('word', { value: 8 }))
    expect(await front.done('SET_MEM_TABLE', tableOf({ regionBytes: bytes }), [fd])).toBe(0n)
    await front.close()
    c.close(fd)
    await until('the server saw it', () => ends.length > 0)
    expect(ends).toEqual([undefined])
  })

  it('mutated messages over the socket do no harm', async () => {
    const before = readdirSync('/proc/self/fd').length
    const prng = new Prng(6)
    const ram = new GuestRam(c, RAM_BYTES)
    for (let session = 1; session <= 100; session++) {
      const front = FrontEnd.connect(c, path)
      const made: number[] = []
      const descriptorOf = (kind: DescriptorKind): number => {
        if (kind === 'file') return ram.fd
        if (kind === 'event') return front.event()
        if (kind === 'other') return 0
        const fds = new Int32Array(2)
        c.socketpair(1, 1, fds)
        made.push(...fds)
        return fds[0] as number
      }
      front.send('SET_PROTOCOL_FEATURES', payloadOf('word', { value: 0x1a229 }))
      for (let n = 0; n < 30 && !front.isClosed; n++) {
        const { request, flags, payload, fds } = fuzzMessage(prng, prng.oneIn(2))
        front.sendRaw(messageOf(request, flags, payload), fds.map(descriptorOf))
        if (prng.oneIn(4)) await new Promise((resolve) => setImmediate(resolve))
      }
      await front.close()
      for (const fd of made) c.close(fd)
      await until('the server saw the end', () => ends.length === session)
    }
    ram.close()
    expect(new Set(ends.map((fault) => fault?.rule)).size).toBeGreaterThan(8)
    await until('descriptors are closed', () => readdirSync('/proc/self/fd').length === before)
  })
})
