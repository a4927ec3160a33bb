import { describe, expect, it } from 'vitest'
import { CLOSE, OPEN } from '../../src/kernel/vfio/calls.ts'
import {
  VHOST_GET_BACKEND_FEATURES,
  VHOST_GET_FEATURES,
  VHOST_RESET_OWNER,
  VHOST_SET_BACKEND_FEATURES,
  VHOST_SET_FEATURES,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
} from '../../src/kernel/vhost/calls.ts'
import { eventsOf } from '../support/host.ts'
import { testRules } from '../support/rule-table.ts'
import { UA } from '../support/vfio.ts'
import { NOWHERE } from '../support/vfio-rows.ts'
import { BEHIND_IOTLB, GUEST_BYTES, MODERN, makeVhost, owned, running, withRing } from '../support/vhost.ts'
import { asChild, cutAt, fdRows, ownerRows } from '../support/vhost-rows.ts'

const OFFERED = 0x103_3d00_8000n
const readOnly = (world: ReturnType<typeof makeVhost>) => {
  world.qemu.mm.mprotect(UA, 0x1_0000n, { read: true, write: false })
  return UA
}

describe('features', () => {
  testRules(VHOST_GET_FEATURES, {
    ...fdRows(VHOST_GET_FEATURES),
    'pointer-not-writable': () => {
      const world = makeVhost()
      return [NOWHERE, readOnly(world), cutAt(7n)].map((arg) =>
        world.call(VHOST_GET_FEATURES, { fd: world.fd, arg }),
      )
    },
    done: () => {
      const world = asChild(makeVhost())
      const answers = [world.call(VHOST_GET_FEATURES, { fd: world.fd })]
      answers.push(world.call(VHOST_GET_FEATURES, { fd: world.fd, arg: UA }))
      expect(answers.map((a) => a.outputs['features'])).toEqual([OFFERED, OFFERED])
      return answers
    },
  })

  testRules(VHOST_SET_FEATURES, {
    ...fdRows(VHOST_SET_FEATURES),
    'bad-pointer': () => {
      const world = makeVhost()
      return [NOWHERE, cutAt(7n)].map((arg) => world.call(VHOST_SET_FEATURES, { fd: world.fd, arg }))
    },
    // Bits that are not offered, beside one that is not modelled and one for which there is no memory.
    'features-unknown': () =>
      [0n, 14n, 30n, 34n, 63n].map((bit) => {
        const world = makeVhost({ iotlbEntries: 0 })
        return world.call(VHOST_SET_FEATURES, {
          fd: world.fd,
          features: (1n << bit) | BEHIND_IOTLB | (1n << 26n),
        })
      }),
    'no-iotlb-memory': () => {
      const world = makeVhost()
      world.failAt(1)
      const none = makeVhost({ iotlbEntries: 0 })
      return [world, none].map(({ call, fd, device }) => {
        const answer = call(VHOST_SET_FEATURES, { fd, features: BEHIND_IOTLB })
        expect([device.features, device.tables.iotlb]).toEqual([0n, null])
        return answer
      })
    },
    iotlb: () => {
      const world = asChild(makeVhost())
      const answers = [0, 1].map(() =>
        world.call(VHOST_SET_FEATURES, { fd: world.fd, features: BEHIND_IOTLB }),
      )
      expect(eventsOf(world, 'iotlb.new')).toEqual([
        { kind: 'iotlb.new', iotlb: 1, device: 'vhost-net0', limit: 2048 },
        { kind: 'iotlb.new', iotlb: 2, device: 'vhost-net0', limit: 2048 },
      ])
      return answers
    },
    done: () => {
      const world = makeVhost()
      const set = (features: bigint) => world.call(VHOST_SET_FEATURES, { fd: world.fd, features })
      const first = set(MODERN)
      expect(world.device.tables.iotlb).toBeNull()
      set(BEHIND_IOTLB)
      const { iotlb } = world.device.tables
      const again = set(MODERN)
      expect(world.device.tables.iotlb).toBe(iotlb)
      return [first, again]
    },
  })

  it('those that the model does not follow are not taken', () => {
    for (const bit of [24n, 26n]) {
      const world = makeVhost()
      const features = (1n << bit) | MODERN
      expect(world.call(VHOST_SET_FEATURES, { fd: world.fd, features }).state).toBe('unmodelled')
      expect(world.device.features).toBe(0n)
    }
  })

  testRules(VHOST_GET_BACKEND_FEATURES, {
    ...fdRows(VHOST_GET_BACKEND_FEATURES),
    'pointer-not-writable': () => {
      const world = makeVhost()
      return [world.call(VHOST_GET_BACKEND_FEATURES, { fd: world.fd, arg: NOWHERE })]
    },
    done: () => {
      const world = asChild(makeVhost())
      const answer = world.call(VHOST_GET_BACKEND_FEATURES, { fd: world.fd })
      expect(answer.outputs['features']).toBe(2n)
      return [answer]
    },
  })

  testRules(VHOST_SET_BACKEND_FEATURES, {
    ...fdRows(VHOST_SET_BACKEND_FEATURES),
    'bad-pointer': () => {
      const world = makeVhost()
      return [world.call(VHOST_SET_BACKEND_FEATURES, { fd: world.fd, arg: NOWHERE })]
    },
    'features-unknown': () =>
      [1n, 4n, 8n, 3n].map((features) => {
        const world = makeVhost()
        return world.call(VHOST_SET_BACKEND_FEATURES, { fd: world.fd, features })
      }),
    done: () => {
      const world = asChild(makeVhost())
      return [2n, 0n].map((features) => world.call(VHOST_SET_BACKEND_FEATURES, { fd: world.fd, features }))
    },
  })
})

describe('the owner', () => {
  testRules(VHOST_SET_OWNER, {
    ...fdRows(VHOST_SET_OWNER),
    owned: () => {
      const own = owned()
      const others = asChild(owned())
      for (const world of [own, others]) world.failAt(1)
      return [own, others].map((world) => world.call(VHOST_SET_OWNER, { fd: world.fd }))
    },
    'no-memory': () =>
      [1, 2].map((n) => {
        const world = makeVhost()
        world.failAt(n)
        const answer = world.call(VHOST_SET_OWNER, { fd: world.fd })
        expect(world.device.owner).toBeNull()
        return answer
      }),
    done: () => {
      const world = asChild(makeVhost())
      const answer = world.call(VHOST_SET_OWNER, { fd: world.fd })
      expect(world.device.owner?.name).toBe('child')
      return [answer]
    },
  })

  testRules(VHOST_RESET_OWNER, {
    ...fdRows(VHOST_RESET_OWNER),
    ...ownerRows(VHOST_RESET_OWNER),
    'no-memory': () => {
      const world = owned()
      world.failAt(1)
      return [world.call(VHOST_RESET_OWNER, { fd: world.fd })]
    },
    done: () => {
      const world = running()
      const { call, fd, device, qemu } = world
      const { holders } = qemu.mm
      const answer = call(VHOST_RESET_OWNER, { fd })
      expect(qemu.mm.holders).toBe(holders - 1)
      expect([device.owner, device.features, device.tables.iotlb, device.tables.memory?.count]).toEqual([
        null,
        0n,
        null,
        0,
      ])
      expect(device.queues.map((q) => [q.isActive, q.kick, q.ring.setup.entries])).toEqual([
        [false, null, 1],
        [false, null, 1],
      ])
      expect(eventsOf(world, 'iotlb.drop')).toMatchObject([{ maps: 1, why: 'reset', iova: 0n }])
      expect(eventsOf(world, 'vhost.queue').at(-1)).toMatchObject({ queue: 1, state: 'stopped' })
      return [answer]
    },
  })

  it('has its address space held until the last holder of the file is gone', () => {
    const world = running()
    const { call, fd, qemu, vhost } = world
    const { holders } = qemu.mm
    expect(vhost.devices).toHaveLength(1)
    call(CLOSE, { fd })
    expect([qemu.mm.holders, vhost.devices]).toEqual([holders - 1, []])
    const again = call(OPEN, { path: '/dev/vhost-net' })
    expect(again.outputs['fd']).toBe(fd)
    expect(vhost.devices[0]?.name).toBe('vhost-net1')
  })
})

describe('the memory table', () => {
  const table = (world: ReturnType<typeof makeVhost>, more: Record<string, bigint | bigint[]>) =>
    world.call(VHOST_SET_MEM_TABLE, { fd: world.fd, ...more })
  /** A table in memory of the process: its head, and regions. */
  const poke = (
    world: ReturnType<typeof makeVhost>,
    at: bigint,
    head: readonly number[],
    words: readonly bigint[],
  ) => {
    const data = new DataView(new ArrayBuffer(8 + 8 * words.length))
    for (const [i, word] of head.entries()) data.setUint32(4 * i, word, true)
    for (const [i, word] of words.entries()) data.setBigUint64(8 + 8 * i, word, true)
    world.qemu.mm.write(at, new Uint8Array(data.buffer))
    return at
  }
  testRules(VHOST_SET_MEM_TABLE, {
    ...fdRows(VHOST_SET_MEM_TABLE),
    ...ownerRows(VHOST_SET_MEM_TABLE),
    'bad-pointer': () => [NOWHERE, cutAt(7n)].map((arg) => table(owned(), { arg })),
    padding: () => [
      table(owned(), { padding: 1n, nregions: 65n }),
      (() => {
        const world = owned()
        return table(world, { arg: poke(world, UA, [65, 1], []) })
      })(),
    ],
    'too-many-regions': () => [table(owned({ iotlbEntries: 0 }), { nregions: 65n })],
    'no-entries': () => {
      const world = owned({ iotlbEntries: 0 })
      world.failAt(1)
      return [table(world, { nregions: 64n })]
    },
    'no-memory': () => {
      const world = owned()
      world.failAt(1)
      return [table(world, { nregions: 64n })]
    },
    'regions-unreadable': () => {
      const world = owned()
      world.failAt(2)
      const cut = makeVhost()
      cut.call(VHOST_SET_OWNER, { fd: cut.fd })
      return [
        table(world, { nregions: 2n, regions: [0n, GUEST_BYTES, UA] }),
        table(cut, { arg: poke(cut, cutAt(39n), [1, 0], []) }),
      ]
    },
    'no-table-memory': () => {
      const world = owned()
      world.failAt(2)
      return [table(world, { regions: [1n, 0n, UA] })]
    },
    // An empty region, one that passes 2^64, each beside one that is no user memory; the queue has a backend.
    'region-refused': () =>
      [
        [1n, 0n],
        [1n << 63n, (1n << 63n) | 1n],
      ].map(([gpa, bytes]) => table(running(), { regions: [0n, 0x1000n, 1n << 60n, gpa!, bytes!, UA] })),
    'not-user-memory': () =>
      [
        [1n << 52n, 1n],
        [(1n << 52n) - 0x1000n, 0x1001n],
        // The whole space becomes two halves; the upper one is far outside.
        [0n, 0n],
      ].map(([ua, bytes]) => {
        const world = running()
        const before = world.device.tables.memory
        const answer = table(world, { regions: [0n, bytes!, ua!] })
        expect(world.device.tables.memory).toBe(before)
        return answer
      }),
    done: () => {
      const world = owned()
      const overlapping = table(world, { regions: [0n, 0x2000n, UA, 0x1000n, 0x1000n, 1n << 60n] })
      expect(
        [...world.device.tables.memory!.entries()].map((m) => [m.start, m.last, m.address, m.perm]),
      ).toEqual([
        [0n, 0x1fffn, UA, 3],
        [0x1000n, 0x1fffn, 1n << 60n, 3],
      ])
      const all = table(world, { regions: [0n, 0n, UA] })
      expect(world.device.tables.memory!.count).toBe(2)
      const inMemory = table(world, { arg: poke(world, UA, [1, 0], [0x5000n, 0x1000n, UA, 9n]) })
      expect([...world.device.tables.memory!.entries()][0]).toMatchObject({ start: 0x5000n, address: UA })
      return [
        overlapping,
        all,
        inMemory,
        table(world, {}),
        table(running(), { regions: [0n, GUEST_BYTES, UA] }),
      ]
    },
  })

  it('is no part of the IOTLB: what it has is not recorded there', () => {
    const world = withRing()
    expect(eventsOf(world, 'iotlb.fill')).toEqual([])
  })
})
