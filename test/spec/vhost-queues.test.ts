import { describe, expect, it } from 'vitest'
import type { Answer } from '../../src/bits/answer.ts'
import type { CallDecl } from '../../src/bits/call.ts'
import { RAW_IOCTL } from '../../src/kernel/vfio/calls.ts'
import {
  VHOST_GET_VRING_BASE,
  VHOST_NET_SET_BACKEND,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_ERR,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_NUM,
} from '../../src/kernel/vhost/calls.ts'
import { VHOST_KICK } from '../../src/kernel/vhost/message-calls.ts'
import { testRules } from '../support/rule-table.ts'
import { UA } from '../support/vfio.ts'
import { NO_FD, NOWHERE } from '../support/vfio-rows.ts'
import { IOVA, MODERN, makeVhost, owned, running, withRing } from '../support/vhost.ts'
import { asChild, cutAt, fdRows, queueRows } from '../support/vhost-rows.ts'

const NONE = 0xffff_ffffn
const OUTSIDE = 1n << 52n

/** A structure in the last bytes that can be read, of which only the index is there; the queue is one that is. */
const cutBehindIndex = (decl: CallDecl): Answer[] =>
  [0, 1].map((queue) => {
    const world = owned()
    world.qemu.mm.write(cutAt(4n), Uint8Array.of(queue, 0, 0, 0))
    return world.call(decl, { fd: world.fd, arg: cutAt(4n) })
  })

describe('the size of a ring', () => {
  testRules(VHOST_SET_VRING_NUM, {
    ...queueRows(VHOST_SET_VRING_NUM),
    active: () => {
      const world = running()
      world.qemu.mm.write(cutAt(4n), Uint8Array.of(1, 0, 0, 0))
      return [
        world.call(VHOST_SET_VRING_NUM, { fd: world.fd, index: 1n, num: 3n }),
        world.call(VHOST_SET_VRING_NUM, { fd: world.fd, arg: cutAt(4n) }),
      ]
    },
    'bad-pointer': () => cutBehindIndex(VHOST_SET_VRING_NUM),
    'num-invalid': () =>
      [0n, 3n, 0x1_0000n, 0xffffn, 0x8000_0000n].map((num) => {
        const world = withRing()
        const answer = world.call(VHOST_SET_VRING_NUM, { fd: world.fd, index: 1n, num })
        expect(world.queueOf().ring.setup.entries).toBe(4)
        return answer
      }),
    done: () =>
      [1n, 0x8000n].map((num) => {
        const world = withRing()
        const answer = world.call(VHOST_SET_VRING_NUM, { fd: world.fd, index: 1n, num })
        expect(world.queueOf().ring.setup).toMatchObject({ entries: Number(num), used: world.addresses.used })
        return answer
      }),
  })
})

describe('the place of a ring', () => {
  const set = (world: ReturnType<typeof owned>, more: Record<string, bigint>) =>
    world.call(VHOST_SET_VRING_ADDR, { fd: world.fd, index: 1n, ...more })
  testRules(VHOST_SET_VRING_ADDR, {
    ...queueRows(VHOST_SET_VRING_ADDR),
    'bad-pointer': () => {
      const world = owned()
      return [...cutBehindIndex(VHOST_SET_VRING_ADDR), set(world, { arg: cutAt(39n) })]
    },
    'flags-unknown': () => [2n, 3n, 0x8000_0000n].map((flags) => set(owned(), { flags, avail: 1n })),
    unaligned: () =>
      [{ avail: 1n }, { used: 2n }, { log: 2n }, { used: 1n, flags: 1n }].map((more) =>
        set(running({ features: MODERN }), { desc: OUTSIDE, ...more }),
      ),
    'not-user-memory': () =>
      [{ desc: OUTSIDE }, { avail: OUTSIDE }, { used: OUTSIDE - 4n }, { desc: OUTSIDE - 16n, flags: 1n }].map(
        (more) => {
          const world = running({ features: MODERN })
          const answer = set(world, more)
          expect(world.queueOf().ring.setup.descriptors).toBe(UA)
          return answer
        },
      ),
    done: () => [
      // Without a backend, and in front of an IOTLB, nobody looks.
      set(owned(), { desc: 7n, avail: OUTSIDE, used: OUTSIDE }),
      set(running(), { desc: 7n, avail: OUTSIDE, used: OUTSIDE }),
      set(running({ features: MODERN }), { desc: OUTSIDE - 64n, avail: OUTSIDE - 12n, used: OUTSIDE - 36n }),
      set(owned(), { arg: UA }),
    ],
  })

  it('a log of the used ring is not modelled', () => {
    expect(set(owned(), { flags: 1n }).state).toBe('unmodelled')
  })
})

describe('the place in a ring', () => {
  testRules(VHOST_SET_VRING_BASE, {
    ...queueRows(VHOST_SET_VRING_BASE),
    active: () => {
      const world = running()
      world.qemu.mm.write(cutAt(4n), Uint8Array.of(1, 0, 0, 0))
      return [
        world.call(VHOST_SET_VRING_BASE, { fd: world.fd, index: 1n, num: 0x1_0000n }),
        world.call(VHOST_SET_VRING_BASE, { fd: world.fd, arg: cutAt(4n) }),
      ]
    },
    'bad-pointer': () => cutBehindIndex(VHOST_SET_VRING_BASE),
    'num-too-large': () =>
      [0x1_0000n, 0xffff_ffffn].map((num) => {
        const world = owned()
        return world.call(VHOST_SET_VRING_BASE, { fd: world.fd, index: 1n, num })
      }),
    done: () => {
      const world = owned()
      const answer = world.call(VHOST_SET_VRING_BASE, { fd: world.fd, index: 1n, num: 0xffffn })
      expect(world.device.queues.map((q) => q.ring.base)).toEqual([0, 0xffff])
      return [answer]
    },
  })

  testRules(VHOST_GET_VRING_BASE, {
    ...queueRows(VHOST_GET_VRING_BASE),
    'pointer-not-writable': () => {
      const world = owned()
      world.qemu.mm.mprotect(UA, 0x1_0000n, { read: true, write: false })
      return [UA, cutAt(4n)].map((arg) => world.call(VHOST_GET_VRING_BASE, { fd: world.fd, arg }))
    },
    done: () => {
      const world = running({ features: MODERN })
      world.send(Uint8Array.from({ length: 14 }), 0x2_0000n)
      world.kick()
      const answers = [
        world.call(VHOST_GET_VRING_BASE, { fd: world.fd, index: 1n }),
        world.call(VHOST_GET_VRING_BASE, { fd: world.fd, index: 0n }),
      ]
      expect(answers.map((a) => a.outputs['num'])).toEqual([1n, 0n])
      return answers
    },
  })
})

const eventfdRows = (decl: CallDecl) => ({
  ...queueRows(decl),
  'bad-pointer': () => cutBehindIndex(decl),
  'no-such-file': () =>
    [NO_FD, 0n, 0xffff_fffen].map((file) => {
      const world = owned()
      return world.call(decl, { fd: world.fd, index: 1n, file })
    }),
  'not-eventfd': () => {
    const world = withRing()
    return [world.fd, world.tap].map((file) => world.call(decl, { fd: world.fd, index: 1n, file }))
  },
})

describe('eventfds of a queue', () => {
  testRules(VHOST_SET_VRING_KICK, {
    ...eventfdRows(VHOST_SET_VRING_KICK),
    done: () => {
      const world = running({ features: MODERN })
      const { call, fd, kickFd, eventfd, queueOf } = world
      const set = (file: bigint) => call(VHOST_SET_VRING_KICK, { fd, index: 1n, file })
      const same = set(kickFd)
      const other = set(eventfd())
      world.send(Uint8Array.from({ length: 14 }), 0x2_0000n)
      // The old one starts nothing any more, and a signalled one does when it comes.
      const before = call(VHOST_KICK, { fd, queue: 1n })
      expect([before.rule, queueOf().ring.base]).toEqual(['done', 1])
      const gone = set(NONE)
      expect([queueOf().kick, call(VHOST_KICK, { fd, queue: 1n }).rule]).toEqual([null, 'no-eventfd'])
      return [same, other, gone]
    },
  })

  it('one that was signalled before starts its queue at once', () => {
    const world = running({ features: MODERN })
    const { call, fd, eventfd, queueOf, send } = world
    call(VHOST_SET_VRING_KICK, { fd, index: 1n })
    send(Uint8Array.from({ length: 14 }), 0x2_0000n)
    call(VHOST_SET_VRING_KICK, { fd, index: 1n, file: eventfd(1n) })
    expect(queueOf().ring.base).toBe(1)
    send(Uint8Array.from({ length: 14 }), 0x2_0000n)
    call(VHOST_SET_VRING_KICK, { fd, index: 1n, file: eventfd() })
    expect(queueOf().ring.base).toBe(1)
  })

  for (const decl of [VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR]) {
    const rows = {
      ...eventfdRows(decl),
      done: () => {
        const world = running({ features: MODERN })
        return [world.callFd, NONE].map((file) => world.call(decl, { fd: world.fd, index: 1n, file }))
      },
    }
    if (decl === VHOST_SET_VRING_CALL) testRules(VHOST_SET_VRING_CALL, rows)
    else testRules(VHOST_SET_VRING_ERR, rows)
  }
})

describe('the backend', () => {
  const set = (world: ReturnType<typeof owned>, more: Record<string, bigint>) =>
    world.call(VHOST_NET_SET_BACKEND, { fd: world.fd, index: 1n, ...more })
  testRules(VHOST_NET_SET_BACKEND, {
    ...fdRows(VHOST_NET_SET_BACKEND),
    // The whole structure is read before anybody asks whose the device is.
    'bad-pointer': () => [NOWHERE, cutAt(7n)].map((arg) => set(makeVhost(), { arg })),
    'not-owner': () => [makeVhost(), asChild(owned())].map((world) => set(world, { index: 2n, file: NO_FD })),
    'no-such-queue': () => [2n, NONE].map((index) => set(owned(), { index, file: NO_FD })),
    'not-ready': () => {
      const noTable = makeVhost()
      noTable.call(VHOST_SET_OWNER, { fd: noTable.fd })
      const outside = owned()
      outside.call(VHOST_SET_MEM_TABLE, { fd: outside.fd, regions: [0n, 1n, OUTSIDE] })
      const ring = withRing({ features: MODERN })
      ring.call(VHOST_SET_VRING_ADDR, { fd: ring.fd, index: 1n, desc: OUTSIDE })
      return [noTable, outside, ring].flatMap((world) => [
        set(world, { file: NO_FD }),
        set(world, { file: NONE }),
      ])
    },
    'not-a-tap': () => {
      const world = withRing()
      return [NO_FD, world.fd, world.kickFd].map((file) => set(world, { file }))
    },
    'used-ring-unreachable': () => {
      const missing = withRing()
      const unmapped = withRing({ features: MODERN })
      unmapped.call(VHOST_SET_VRING_ADDR, { fd: unmapped.fd, index: 1n, desc: UA, avail: UA, used: NOWHERE })
      const forbidden = withRing()
      forbidden.update(IOVA, 0x1_0000n, UA, 2n)
      const nowhere = withRing()
      nowhere.update(IOVA, 0x1_0000n, NOWHERE)
      // Memory that is not mapped is no error of the driver's (run on 6.12.95).
      return [missing, forbidden, unmapped, nowhere].map((world, i) => {
        const answer = world.setBackend()
        expect([world.queueOf().isActive, world.signals(world.errFd)]).toEqual([false, i < 2 ? 1 : 0])
        return answer
      })
    },
    done: () => {
      const world = running()
      const first = world.queueOf().states.value
      const same = world.setBackend()
      const gone = world.setBackend(NONE)
      expect([first, world.queueOf().states.value]).toEqual(['runs', 'stopped'])
      return [same, gone, world.setBackend(NONE), world.setBackend()]
    },
  })

  it('a miss for the used ring is sent, to read, also where a map allows the device to write only', () => {
    const world = withRing()
    const { device, addresses, update, setBackend, queueOf } = world
    setBackend()
    expect(device.messages.readable.map((n) => n.message)).toMatchObject([{ iova: addresses.used, perm: 1 }])
    update(IOVA, 0x1_0000n, UA, 1n)
    // The kernel writes the flags of a used ring that it may only read, and finds out when the queue runs.
    expect(setBackend().rule).toBe('done')
    expect(queueOf().states.value).toBe('failed')
    expect(world.signals(world.errFd)).toBe(1)
  })

  it('goes on in the used ring where the ring stands', () => {
    const world = withRing({ features: MODERN })
    world.qemu.mm.write(UA + world.addresses.used - UA + 2n, Uint8Array.of(0x34, 0x12))
    world.setBackend()
    expect(world.queueOf().ring.usedIndex).toBe(0x1234)
  })
})

describe('ioctls by number', () => {
  it.each([
    [0x4008_af00n, VHOST_NET_SET_BACKEND.nr, 0x8008_af30],
    [0x2000_af01n, VHOST_SET_OWNER.nr, 0x2000_af01],
    [0x8028_af11n, VHOST_SET_VRING_ADDR.nr, 0x8028_af11],
    [0xc008_af12n, VHOST_GET_VRING_BASE.nr, 0xc008_af12],
  ])('%x is known', (cmd, nr, expected) => {
    expect(nr).toBe(expected)
    const world = owned()
    expect(world.call(RAW_IOCTL, { fd: world.fd, cmd, arg: UA }).layer).toBe('kernel')
  })

  it('structures are read as they lie in memory', () => {
    const world = owned()
    const { device, fd, qemu } = world
    const poke = (words: readonly bigint[]) => {
      const view = new DataView(new ArrayBuffer(8 * words.length))
      for (const [i, word] of words.entries()) view.setBigUint64(8 * i, word, true)
      qemu.mm.write(UA, new Uint8Array(view.buffer))
    }
    const ask = (cmd: bigint) => world.call(RAW_IOCTL, { fd, cmd, arg: UA })
    // vhost_vring_state: index, num.
    poke([(8n << 32n) | 1n])
    expect(ask(0x8008_af10n).rule).toBe('done')
    // vhost_vring_addr: index and flags, descriptors, used, available, log.
    poke([1n, 0x10n, 0x24n, 0x32n, 0x40n])
    expect(ask(0x8028_af11n).rule).toBe('done')
    expect(device.queues[1]?.ring.setup).toMatchObject({
      entries: 8,
      descriptors: 0x10n,
      used: 0x24n,
      available: 0x32n,
    })
    // vhost_vring_state, both ways.
    poke([(7n << 32n) | 1n])
    expect(ask(0x8008_af12n).rule).toBe('done')
    poke([1n])
    expect(ask(0xc008_af12n).outputs['num']).toBe(7n)
    const state = new Uint8Array(8)
    qemu.mm.read(UA, state)
    expect([...state]).toEqual([1, 0, 0, 0, 7, 0, 0, 0])
    // vhost_vring_file: index, descriptor.
    poke([(BigInt(0xffff_fffe) << 32n) | 1n])
    expect(ask(0x8008_af20n).rule).toBe('no-such-file')
    poke([(BigInt(0xffff_ffff) << 32n) | 1n])
    expect(ask(0x8008_af20n).rule).toBe('done')
    // vhost_memory: number of regions, padding, and of each gpa, bytes, user address, flags.
    poke([1n, 0x1000n, 0x2000n, UA, 0n])
    expect(ask(0x8008_af03n).rule).toBe('done')
    expect([...device.tables.memory!.entries()]).toMatchObject([
      { start: 0x1000n, last: 0x2fffn, address: UA },
    ])
    poke([1n << 33n])
    expect(ask(0x4008_af00n).outputs['features']).toBe(0x103_3d00_8000n)
    poke([1n << 32n])
    expect(ask(0x8008_af00n).rule).toBe('done')
    expect(device.features).toBe(1n << 32n)
  })

  it('those that nobody knows are asked for a queue first', () => {
    const world = owned()
    const ask = (cmd: bigint, arg = UA) => world.call(RAW_IOCTL, { fd: world.fd, cmd, arg })
    world.qemu.mm.write(UA + 8n, Uint8Array.of(2, 0, 0, 0))
    expect(ask(0x8008_af99n).rule).toBe('unknown')
    expect(ask(0x8008_af99n, NOWHERE).rule).toBe('bad-pointer')
    expect(ask(0x8008_af99n, UA + 8n).rule).toBe('no-such-queue')
    // Of KVM, of VFIO, and one of vhost that is not modelled.
    expect(ask(0x2000_ae01n).rule).toBe('unknown')
    expect(ask(0x2000_3b64n, UA + 8n).rule).toBe('no-such-queue')
    expect(ask(0x8008_af04n).state).toBe('unmodelled')
    asChild(world)
    expect([ask(0x8008_af99n, NOWHERE).rule, ask(0x8008_af04n).rule]).toEqual([
      'other-process',
      'other-process',
    ])
    // Of other files vhost's numbers are none.
    expect(world.call(RAW_IOCTL, { fd: world.container(), cmd: 0x2000_af01n }).rule).toBe('no-driver')
  })
})
