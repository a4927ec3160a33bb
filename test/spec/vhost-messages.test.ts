import { describe, expect, it } from 'vitest'
import { bytesOf, bytesText, hexDigits } from '../../src/bits/byte-text.ts'
import { OPEN, RAW_IOCTL } from '../../src/kernel/vfio/calls.ts'
import { VHOST_SET_BACKEND_FEATURES, VHOST_SET_FEATURES } from '../../src/kernel/vhost/calls.ts'
import {
  EVENTFD,
  EVENTFD_READ,
  EVENTFD_WRITE,
  TAP_COLLECT,
  TAP_DELIVER,
  VHOST_KICK,
  VHOST_POLL,
  VHOST_READ,
  VHOST_WRITE,
} from '../../src/kernel/vhost/message-calls.ts'
import { decodeMessage, encodeMessage } from '../../src/kernel/vhost/messages.ts'
import { eventsOf } from '../support/host.ts'
import { testRules } from '../support/rule-table.ts'
import { UA } from '../support/vfio.ts'
import { fillFiles } from '../support/vfio-rows.ts'
import { BEHIND_IOTLB, IOVA, MODERN, makeVhost, owned, running, withRing } from '../support/vhost.ts'
import { asChild, fdRows } from '../support/vhost-rows.ts'

const FRAME = `hex:${'5a'.repeat(60)}`
const U64_END = 0xffff_ffff_ffff_ffffn
/** Spec vectors in hexadecimal digits: bytes without blanks. */
const digits = (text: string) => text.replaceAll(' ', '')

describe('messages, byte for byte', () => {
  // The IOTLB part is that of V32, behind 8 bytes of type and padding, and 32 bytes of what is left of the union.
  it.each([
    [
      'an UPDATE of v1',
      { version: 1, type: 2, iova: 0x1000n, bytes: 0x1000n, ua: 0x7f00_0000_1000n, perm: 3 },
      '0100000000000000 0010000000000000 0010000000000000 00100000007f0000 0302000000000000',
    ],
    [
      'a MISS of v2',
      { version: 2, type: 1, iova: 0x2000n, bytes: 0n, ua: 0n, perm: 2 },
      '0200000000000000 0020000000000000 0000000000000000 0000000000000000 0201000000000000',
    ],
    [
      'an INVALIDATE of v2 with all bits',
      { version: 2, type: 3, iova: U64_END, bytes: U64_END, ua: U64_END, perm: 255 },
      '0200000000000000 ffffffffffffffff ffffffffffffffff ffffffffffffffff ff03000000000000',
    ],
  ] as const)('%s', (_what, message, expected) => {
    const data = encodeMessage(message)
    expect(hexDigits(data)).toBe(digits(expected).padEnd(144, '0'))
    expect(decodeMessage(data)).toEqual(message)
    expect(decodeMessage(data.subarray(0, 40))).toEqual(message)
  })

  it('what is behind the members is not looked at', () => {
    const data = new Uint8Array(80).fill(0xff)
    data.set([1, 0, 0, 0], 0)
    expect(decodeMessage(data)).toMatchObject({ version: 1, iova: U64_END, perm: 255, type: 255 })
  })
})

describe('write', () => {
  const write = (world: ReturnType<typeof owned>, more: Record<string, bigint | string>) =>
    world.call(VHOST_WRITE, { fd: world.fd, ...more })
  const behind = (profile?: string) => withRing(profile === undefined ? {} : { profile })
  const UPDATE = { type: 2n, iova: IOVA, bytes: 0x1000n, ua: UA, perm: 3n }
  const raw = (bytes: number, version: number) => {
    const data = new Uint8Array(bytes)
    data[0] = version
    return bytesText(data)
  }
  testRules(VHOST_WRITE, {
    ...fdRows(VHOST_WRITE, { data: '' }),
    'type-short': () => ['', 'hex:03', 'hex:030000'].map((data) => write(owned(), { data })),
    'version-unknown': () =>
      [0, 3, 255].flatMap((version) => [4, 39, 72].map((n) => write(behind(), { data: raw(n, version) }))),
    short: () =>
      [1, 2].flatMap((version) => [4, 8, 39].map((n) => write(owned(), { data: raw(n, version) }))),
    empty: () => [
      write(owned(), { ...UPDATE, bytes: 0n, ua: U64_END }),
      write(behind(), { ...UPDATE, bytes: 0n, iova: 0n }),
      write(withRing({ features: MODERN, profile: 'linux-6.1' }), { type: 3n, bytes: 0n }),
      write(behind('linux-6.5.9'), { type: 3n, iova: IOVA }),
    ],
    'no-iotlb': () => {
      const world = owned({ profile: 'linux-5.16' })
      return [
        write(world, { ...UPDATE, ua: U64_END }),
        write(world, { type: 3n, bytes: 1n }),
        write(world, { type: 3n }),
        write(world, { type: 2n }),
      ]
    },
    'not-user-memory': () =>
      [
        { ua: (1n << 52n) - 0xfffn },
        { ua: U64_END - 0xffen, perm: 0n },
        { ua: U64_END - 0xffen },
        { ua: 1n << 52n, iova: U64_END, perm: 1n },
        { ua: 1n << 52n, perm: 2n },
      ].map((more) => write(behind(), { ...UPDATE, ...more })),
    wraps: () =>
      [
        { iova: U64_END },
        { iova: U64_END - 0xffen },
        // Without a permission nobody asks what the user address is.
        { iova: U64_END, perm: 0n, ua: 1n << 60n },
      ].map((more) => {
        const world = running()
        const answer = write(world, { ...UPDATE, ...more })
        expect(world.device.tables.iotlb?.count).toBe(1)
        return answer
      }),
    'message-unknown': () =>
      [0n, 1n, 4n, 5n, 6n, 255n].flatMap((type) => [write(behind(), { type }), write(owned(), { type })]),
    done: () => {
      const world = behind()
      const other = asChild(behind())
      const answers = [
        write(world, UPDATE),
        write(world, { ...UPDATE, version: 1n, iova: U64_END - 0xfffn }),
        write(world, { ...UPDATE, perm: 0n, ua: U64_END - 0xfffn }),
        write(world, { type: 3n, iova: IOVA, bytes: 1n }),
        write(world, { type: 3n }),
        write(other, UPDATE),
      ]
      expect(answers.map((a) => a.outputs['written'])).toEqual(answers.map(() => 72n))
      expect(world.device.tables.iotlb?.count).toBe(0)
      return answers
    },
  })

  it('an INVALIDATE of nothing at an address drops the maps that reach from before it to behind it', () => {
    const world = behind()
    for (const iova of [0n, 0x1000n, 0x2000n]) write(world, { ...UPDATE, iova })
    write(world, { type: 3n, iova: 0x1000n })
    expect([...world.device.tables.iotlb!.entries()].map((m) => m.start)).toEqual([0n, 0x1000n, 0x2000n])
    write(world, { type: 3n, iova: 0x1800n })
    expect([...world.device.tables.iotlb!.entries()].map((m) => m.start)).toEqual([0n, 0x2000n])
    expect(eventsOf(world, 'iotlb.drop')).toMatchObject([
      { maps: 0, why: 'invalidate' },
      { maps: 1, iova: 0x1800n, last: 0x17ffn },
    ])
  })

  it('what is written is recorded with who wrote it and what came of it', () => {
    const world = asChild(behind())
    write(world, UPDATE)
    write(world, { type: 4n, perm: 1n })
    expect(eventsOf(world, 'vhost.message')).toMatchObject([
      { device: 'vhost-net0', from: 'child', type: 2, iova: IOVA, bytes: 0x1000n, ua: UA, perm: 3, code: 0 },
      { from: 'child', type: 4, perm: 1, code: -14 },
    ])
    expect(eventsOf(world, 'iotlb.fill')).toMatchObject([
      { iotlb: 1, map: 1, iova: IOVA, last: IOVA + 0xfffn, ua: UA, perm: 3 },
    ])
  })

  it('the oldest map makes room, and the numbers of maps go on in a new IOTLB', () => {
    const world = withRing({ iotlbEntries: 2 })
    for (const iova of [0n, 0x1000n, 0x2000n]) write(world, { ...UPDATE, iova })
    expect(eventsOf(world, 'iotlb.evict')).toEqual([
      { kind: 'iotlb.evict', iotlb: 1, map: 1, iova: 0n, last: 0xfffn },
    ])
    world.call(VHOST_SET_FEATURES, { fd: world.fd, features: BEHIND_IOTLB })
    write(world, UPDATE)
    expect(eventsOf(world, 'iotlb.fill').at(-1)).toMatchObject({ iotlb: 2, map: 2 ** 22 + 1 })
  })
})

describe('read', () => {
  const missed = (options = {}) => {
    const world = running(options)
    world.send(Uint8Array.from({ length: 60 }), 0x2_0000n)
    world.kick()
    return world
  }
  testRules(VHOST_READ, {
    ...fdRows(VHOST_READ, { bytes: 0n }),
    small: () =>
      [0n, 71n].map((bytes) => {
        const world = missed()
        const answer = world.call(VHOST_READ, { fd: world.fd, bytes })
        expect(world.device.messages.readable).toHaveLength(1)
        return answer
      }),
    nothing: () => [owned(), running()].map((world) => world.call(VHOST_READ, { fd: world.fd })),
    'no-iotlb': () => {
      const world = owned()
      return [world.call(VHOST_READ, { fd: world.fd, nonblock: false })]
    },
    done: () => {
      const world = asChild(missed())
      const answer = world.call(VHOST_READ, { fd: world.fd, nonblock: false, bytes: 4096n })
      const data = bytesOf(answer.outputs['data'] as string)
      expect(decodeMessage(data)).toEqual({
        version: 1,
        type: 1,
        iova: IOVA + 0x2_0000n,
        bytes: 0n,
        ua: 0n,
        perm: 1,
      })
      expect([data.length, world.device.messages.readable, world.device.messages.pending.length]).toEqual([
        72,
        [],
        1,
      ])
      return [answer]
    },
  })

  it('is of v2 where that was acknowledged', () => {
    const world = running()
    world.call(VHOST_SET_BACKEND_FEATURES, { fd: world.fd, features: 2n })
    world.send(Uint8Array.from({ length: 60 }), 0x2_0000n)
    world.kick()
    expect(world.read()).toMatchObject({ version: 2n })
  })

  it('that waits is not modelled', () => {
    const world = running()
    expect(world.call(VHOST_READ, { fd: world.fd, nonblock: false }).state).toBe('unmodelled')
  })

  testRules(VHOST_POLL, {
    ...fdRows(VHOST_POLL),
    done: () => {
      const world = missed()
      const poll = () => world.call(VHOST_POLL, { fd: world.fd })
      const before = poll()
      world.read()
      const after = poll()
      expect([before, after].map((a) => a.outputs['events'])).toEqual([0x41n, 0n])
      return [before, after]
    },
  })
})

describe('kicks and eventfds', () => {
  testRules(VHOST_KICK, {
    ...fdRows(VHOST_KICK, { queue: 2n }),
    'no-such-queue': () => {
      const world = owned()
      return [world.call(VHOST_KICK, { fd: world.fd, queue: 2n })]
    },
    'no-eventfd': () => {
      const world = owned()
      return [world.call(VHOST_KICK, { fd: world.fd, queue: 1n })]
    },
    done: () => {
      const world = asChild(withRing())
      const answer = world.call(VHOST_KICK, { fd: world.fd, queue: 1n })
      expect(world.signals(world.kickFd)).toBe(1)
      return [answer]
    },
  })

  testRules(EVENTFD, {
    'no-such-process': () => [makeVhost().call(EVENTFD, { process: 'nobody' })],
    'too-many-files': () => {
      const world = makeVhost()
      fillFiles(world)
      world.failAt(1)
      return [world.call(EVENTFD, {})]
    },
    'no-memory': () => {
      const world = makeVhost()
      world.failAt(1)
      return [world.call(EVENTFD, {})]
    },
    done: () => {
      const world = makeVhost()
      const answer = world.call(EVENTFD, { count: 7n })
      const read = world.call(EVENTFD_READ, { fd: answer.outputs['fd'] as bigint })
      expect(read.outputs['count']).toBe(7n)
      return [answer]
    },
  })

  const notEventFd = (decl: typeof EVENTFD_READ | typeof EVENTFD_WRITE) => () => {
    const world = withRing()
    return [world.fd, world.tap].map((fd) => world.call(decl, { fd }))
  }
  testRules(EVENTFD_WRITE, {
    ...fdRows(EVENTFD_WRITE),
    'not-eventfd': notEventFd(EVENTFD_WRITE),
    done: () => {
      const world = running({ features: MODERN })
      world.send(Uint8Array.from({ length: 60 }), 0x2_0000n)
      const answer = world.call(EVENTFD_WRITE, { fd: world.kickFd })
      expect(world.queueOf().ring.base).toBe(1)
      return [answer]
    },
  })
  testRules(EVENTFD_READ, {
    ...fdRows(EVENTFD_READ),
    'not-eventfd': notEventFd(EVENTFD_READ),
    nothing: () => {
      const world = withRing()
      world.kick()
      world.signals(world.kickFd)
      return [world.kickFd, world.callFd].map((fd) => world.call(EVENTFD_READ, { fd }))
    },
    done: () => {
      const world = withRing()
      world.kick()
      world.kick()
      const answer = world.call(EVENTFD_READ, { fd: world.kickFd })
      expect(answer.outputs['count']).toBe(2n)
      return [answer]
    },
  })

  it('files around vhost have ioctls of their own', () => {
    const world = withRing()
    expect(world.call(RAW_IOCTL, { fd: world.kickFd, cmd: 0x2000_af01n }).code).toBe('ENOTTY')
    expect(world.call(RAW_IOCTL, { fd: world.tap, cmd: 0x2000_af01n }).state).toBe('unmodelled')
    expect(world.call(VHOST_POLL, { fd: world.tap }).state).toBe('unmodelled')
  })
})

describe('a tap', () => {
  const notTap = (decl: typeof TAP_COLLECT | typeof TAP_DELIVER) => () => {
    const world = withRing()
    return [world.fd, world.kickFd].map((fd) => world.call(decl, { fd, data: FRAME }))
  }
  testRules(TAP_DELIVER, {
    ...fdRows(TAP_DELIVER, { data: FRAME }),
    'not-a-tap': notTap(TAP_DELIVER),
    full: () => {
      const world = withRing()
      const deliver = () => world.call(TAP_DELIVER, { fd: world.tap, data: FRAME })
      for (let i = 0; i < 500; i++) expect(deliver().rule).toBe('done')
      return [deliver()]
    },
    done: () => {
      const world = withRing()
      return [world.call(TAP_DELIVER, { fd: world.tap, data: FRAME })]
    },
  })
  testRules(TAP_COLLECT, {
    ...fdRows(TAP_COLLECT),
    'not-a-tap': () => {
      const world = withRing()
      return [world.fd, world.kickFd].map((fd) => world.call(TAP_COLLECT, { fd }))
    },
    nothing: () => {
      const world = withRing()
      world.call(TAP_DELIVER, { fd: world.tap, data: FRAME })
      const other = world.fdOf(world.call(OPEN, { path: '/dev/tap1' }))
      return [world.tap, other].map((fd) => world.call(TAP_COLLECT, { fd }))
    },
    done: () => {
      const world = running({ features: MODERN })
      for (const byte of [1, 2]) world.send(new Uint8Array(60).fill(byte), BigInt(byte) << 17n)
      world.kick()
      const answers = [0, 1].map(() => world.call(TAP_COLLECT, { fd: world.tap }))
      expect(answers.map((a) => [a.outputs['data'], a.outputs['left']])).toEqual([
        [`hex:${'01'.repeat(60)}`, 1n],
        [`hex:${'02'.repeat(60)}`, 0n],
      ])
      return answers
    },
  })
})
