import { describe, expect, it } from 'vitest'
import {
  VIRTIO_OFFER,
  VIRTIO_QUEUE,
  VIRTIO_READY,
  VIRTIO_REAP,
  VIRTIO_RESET,
  VIRTIO_SEND,
} from '../../src/kernel/guest/virtio-calls.ts'
import { testRules } from '../support/rule-table.ts'
import { vhostGuest } from '../support/vhost-guest.ts'
import { GUEST_BYTES, GUEST_UA, makeVmm } from '../support/vmm.ts'

const RECEIVE = 0n
const TRANSMIT = 1n
/** Rings lie at these guest addresses, two pages each, and at the same bus addresses. */
const RINGS = [0x10_0000n, 0x10_2000n] as const
const READ_WRITE = 3n
/** Descriptor of the tap in QEMU, behind those of KVM. */
const TAP = 5n

type World = ReturnType<typeof vhostGuest>

/** With rings of 16 descriptors for both queues, mapped for the device. */
function laidOut(): World {
  const world = vhostGuest()
  for (const at of RINGS) {
    for (const page of [at, at + 0x1000n]) world.put(page, page | READ_WRITE)
  }
  world.virtio('queue', { queue: RECEIVE, gpa: RINGS[0], iova: RINGS[0] })
  world.virtio('queue', { queue: TRANSMIT, gpa: RINGS[1], iova: RINGS[1] })
  return world
}
/** And started. */
function ready(): World {
  const world = laidOut()
  world.virtio('ready')
  return world
}
/** A device of QEMU's own: a block device. */
const own = () => {
  const { perform, vmm } = makeVmm({ phbs: [{ virtio: [{ name: 'net0', kind: 'blk' }] }] })
  vmm('start')
  return (call: string, args = {}) => perform('virtio', call, { device: 'net0', ...args })
}
const buffer = { iova: 0n, bytes: 64n }

describe('virtio queue', () => {
  const good = { queue: 0n, gpa: 0n, iova: 0n }
  testRules(VIRTIO_QUEUE, {
    'no-rings': () => [own()('queue', { ...good, queue: 2n })],
    'no-such-queue': () => [ready().virtio('queue', { ...good, queue: 2n })],
    running: () => [ready().virtio('queue', { ...good, entries: 3n })],
    'entries-invalid': () =>
      [0n, 3n, 512n].map((entries) => vhostGuest().virtio('queue', { ...good, entries, gpa: 1n })),
    unaligned: () => [
      vhostGuest().virtio('queue', { ...good, gpa: GUEST_BYTES + 0x800n }),
      vhostGuest().virtio('queue', { ...good, iova: 0x10n }),
    ],
    'outside-memory': () =>
      [GUEST_BYTES - 0x1000n, GUEST_BYTES, 1n << 60n].map((gpa) =>
        vhostGuest().virtio('queue', { ...good, gpa }),
      ),
    done: () => [
      vhostGuest().virtio('queue', good),
      vhostGuest().virtio('queue', { ...good, queue: 1n, entries: 256n, gpa: GUEST_BYTES - 0x3000n }),
    ],
  })

  it('answers where the device finds the used ring', () => {
    const { outputs } = vhostGuest().virtio('queue', { queue: 0n, gpa: 0x5000n, iova: 0x800_0000n })
    expect(outputs).toEqual({ used: 0x800_1000n, ring_bytes: 0x1000n + 4n + 8n * 16n })
  })
})

describe('virtio ready', () => {
  testRules(VIRTIO_READY, {
    'no-rings': () => [own()('ready')],
    running: () => [ready().virtio('ready')],
    done: () => [vhostGuest().virtio('ready'), laidOut().virtio('ready')],
  })

  it('makes the system calls of QEMU, in its order', () => {
    const { callsOf, virtio } = laidOut()
    expect(callsOf(() => virtio('ready'))).toEqual([
      'VHOST_SET_FEATURES iotlb',
      'VHOST_GET_BACKEND_FEATURES done',
      'VHOST_SET_BACKEND_FEATURES done',
      'VHOST_SET_MEM_TABLE done',
      ...[0, 1].flatMap(() => [
        'VHOST_SET_VRING_NUM done',
        'VHOST_SET_VRING_BASE done',
        'VHOST_SET_VRING_ADDR done',
        'VHOST_SET_VRING_KICK done',
        'VHOST_SET_VRING_CALL done',
      ]),
      // The used rings, before vhost looks.
      'vhost write done',
      'vhost write done',
      'VHOST_NET_SET_BACKEND done',
      // The transmit queue runs at once, and misses its other rings.
      'vhost read done',
      'vhost write done',
      'vhost read nothing',
      'VHOST_NET_SET_BACKEND done',
      'virtio ready done',
    ])
  })

  it('sends vhost the pages of the used rings', () => {
    const { messagesOf, virtio } = laidOut()
    expect(messagesOf(() => virtio('ready')).filter((m) => m.startsWith('UPDATE'))).toEqual(
      expect.arrayContaining([
        'UPDATE 0x101000 0x1000 0x100101000 3',
        'UPDATE 0x103000 0x1000 0x100103000 3',
      ]),
    )
  })
})

describe('virtio reset', () => {
  testRules(VIRTIO_RESET, {
    'no-rings': () => [own()('reset')],
    done: () => [vhostGuest().virtio('reset'), ready().virtio('reset')],
  })

  it('takes the rings with it, and vhost hears of nothing any more', () => {
    const { virtio, put, messagesOf, deviceReads } = ready()
    virtio('reset')
    expect(virtio('send', buffer).rule).toBe('no-such-queue')
    expect(deviceReads(RINGS[0], 4n).rule).toBe('not-started')
    expect(messagesOf(() => put(RINGS[0], 0n))).toEqual([])
    expect([virtio('queue', { queue: 0n, gpa: 0n, iova: 0n }).rule, virtio('ready').rule]).toEqual([
      'done',
      'done',
    ])
  })

  it('happens with the guest: the IOTLB of the next start is a new one', () => {
    const { virtio, vmm, during, deviceReads } = ready()
    expect(vmm('system_reset').rule).toBe('done')
    expect(deviceReads(RINGS[0], 4n).rule).toBe('not-started')
    expect(during(['iotlb.new'], () => virtio('ready'))).toMatchObject([{ iotlb: 2, device: 'vhost-net0' }])
  })
})

const addingRows = (call: 'send' | 'offer') => ({
  'no-rings': () => [own()(call, buffer)],
  'no-such-queue': () => [vhostGuest().virtio(call, buffer)],
  full: () => {
    const { virtio } = laidOut()
    for (let i = 0; i < 16; i++) virtio(call, buffer)
    return [virtio(call, buffer)]
  },
  done: () => [laidOut().virtio(call, buffer), ready().virtio(call, { iova: 1n << 63n, bytes: 1n })],
})
describe('virtio send', () => testRules(VIRTIO_SEND, addingRows('send')))
describe('virtio offer', () => testRules(VIRTIO_OFFER, addingRows('offer')))

/** The header of a frame, and the frame. */
const HEADER = 12n
const FRAME = 'to the network'

describe('virtio reap', () => {
  testRules(VIRTIO_REAP, {
    'no-rings': () => [own()('reap', { queue: 7n })],
    'no-such-queue': () => [
      vhostGuest().virtio('reap', { queue: 0n }),
      ready().virtio('reap', { queue: 2n }),
    ],
    empty: () => [laidOut().virtio('reap', { queue: 0n }), ready().virtio('reap', { queue: 1n })],
    'unknown-head': () => {
      // The used ring says that a chain came back which was never given.
      const { virtio, perform } = ready()
      const used = GUEST_UA + RINGS[1] + 0x1000n
      perform('mem', 'write', { space: 'ua', address: used + 2n, data: 'hex:0100' })
      perform('mem', 'write', { space: 'ua', address: used + 4n, data: 'hex:0500000000000000' })
      return [virtio('reap', { queue: 1n })]
    },
    done: () => {
      const { virtio, put } = ready()
      put(0x50_0000n, 0x50_0000n | 1n)
      virtio('send', { iova: 0x50_0000n, bytes: 64n })
      return [virtio('reap', { queue: 1n })]
    },
  })

  it('a frame goes out through the IOTLB: rings and buffer are missed once each', () => {
    const { virtio, put, write, messagesOf, perform } = ready()
    put(0x50_0000n, 0x60_0000n | 1n)
    write(0x60_0000n + HEADER, FRAME)
    const bytes = HEADER + BigInt(FRAME.length)
    const messages = messagesOf(() => expect(virtio('send', { iova: 0x50_0000n, bytes }).rule).toBe('done'))
    expect(messages.filter((m) => m.startsWith('MISS'))).toEqual(['MISS 0x500000 1'])
    expect(virtio('reap', { queue: TRANSMIT }).outputs).toEqual({ head: 0n, written: 0n })
    const tap = perform('vhost', 'collect', { process: 'qemu', fd: TAP })
    expect(tap).toMatchObject({ code: 'OK', outputs: { data: FRAME, left: 0n } })
  })

  it('a frame comes in behind a header, and the driver finds its length', () => {
    const { virtio, put, perform, memoryAt } = ready()
    put(0x50_0000n, 0x60_0000n | 2n)
    virtio('offer', { iova: 0x50_0000n, bytes: 1526n })
    expect(perform('vhost', 'deliver', { process: 'qemu', fd: TAP, data: 'from the network' }).code).toBe(
      'OK',
    )
    expect(virtio('reap', { queue: RECEIVE }).outputs).toEqual({ head: 0n, written: 28n })
    expect(memoryAt(0x60_0000n + HEADER, 16n)).toBe('from the network')
  })

  it('seed 001 with rings: the frame lands in the page that was taken back', () => {
    const { virtio, put, stuff, perform, memoryAt, found } = ready()
    const receive = (frame: string) => {
      virtio('offer', { iova: 0x50_0000n, bytes: 1526n })
      perform('vhost', 'deliver', { process: 'qemu', fd: TAP, data: frame })
      return virtio('reap', { queue: RECEIVE }).rule
    }
    put(0x50_0000n, 0x60_0000n | 2n)
    expect(receive('the first frame')).toBe('done')
    stuff(0x50_0000n, 0n, 1n)
    put(0x50_0000n, 0x70_0000n | 2n)
    expect(receive('the other frame')).toBe('done')
    expect(memoryAt(0x60_0000n + HEADER, 15n)).toBe('the other frame')
    expect(found()).toContain('stale-iotlb')
  })
})

describe('a guest that does not run', () => {
  it('has no driver, and a name is a name of a virtio device', () => {
    const world = makeVmm({ phbs: [{ virtio: [{ name: 'net0', kind: 'net' }] }] })
    const run = (device: string) => world.perform('virtio', 'ready', { device })
    expect(run('net0').state).toBe('unmodelled')
    world.vmm('start')
    expect(() => run('net1')).toThrow('no virtio device is called "net1" (did you mean "net0"?)')
    world.proc('exit')
    expect(run('net0').state).toBe('dead')
  })
})
