import { describe, expect, it } from 'vitest'
import type { Value } from '../../src/bits/answer.ts'
import type { Verb } from '../../src/bits/call.ts'
import { VIRTIO_OFFER, VIRTIO_REQUEST, VIRTIO_SEND } from '../../src/kernel/guest/virtio-calls.ts'
import { VHOST_REMEDIES, type VhostRemedy } from '../../src/kernel/vhost-remedy.ts'
import { createMachine } from '../../src/machine/create-machine.ts'
import { describeMachine } from '../../src/machine/description.ts'
import { testRules } from '../support/rule-table.ts'
import { GUEST_UA, vhostGuest } from '../support/vhost-guest.ts'
import { GUEST_BYTES, makeVmm } from '../support/vmm.ts'

const READ = 1n
const READ_WRITE = 3n
/** Guest addresses of a ring of two pages, of a page of headers, and of pages for data; the first three at the same bus addresses. */
const RING = 0x10_0000n
const HEADER = 0x20_0000n
const DATA = 0x10000n
const [FIRST_PAGE, SECOND_PAGE] = [0x70_0000n, 0x80_0000n]
const SECTOR = 512n

const phbs = [
  {
    ddw: false,
    virtio: [
      { name: 'vda', kind: 'blk', hasVhost: true },
      { name: 'own', kind: 'blk' },
      { name: 'net0', kind: 'net' },
    ],
  },
] as const

/** A guest with a disk of vhost-user, one of QEMU's own, and a network device; everything that the first needs is mapped. */
function world(remedy: VhostRemedy = 'none', profile = 'qemu-7.2') {
  const guest = vhostGuest({ remedy, guest: { phbs, profile } })
  const { perform, put, during } = guest
  for (const page of [RING, RING + 0x1000n, HEADER]) put(page, page | READ_WRITE)
  put(DATA, FIRST_PAGE | READ_WRITE)
  const disk = (call: string, args = {}, device = 'vda') => perform('virtio', call, { device, ...args })
  return {
    ...guest,
    disk,
    layOut: (entries = 16n) => disk('queue', { queue: 0n, entries, gpa: RING, iova: RING }),
    request: (type: string, args = {}, device = 'vda') =>
      disk(
        'request',
        { type, sector: 3n, gpa: HEADER, header: HEADER, iova: DATA, bytes: SECTOR, ...args },
        device,
      ),
    reap: () => disk('reap', { queue: 0n }),
    write: (gpa: bigint, data: string) =>
      perform('mem', 'write', { space: 'ua', address: GUEST_UA + gpa, data }),
    status: () => guest.memoryAt(HEADER + 16n, 1n),
    states: (step: () => unknown) =>
      during(['vhost.queue'], step).map((e) => (e.kind === 'vhost.queue' ? e.state : '')),
  }
}
/** With its ring laid out, and started. */
function ready(remedy?: VhostRemedy, profile?: string) {
  const made = world(remedy, profile)
  made.layOut()
  expect(made.disk('ready').code).toBe('OK')
  return made
}

describe('virtio request', () => {
  testRules(VIRTIO_REQUEST, {
    'no-rings': () => [ready().request('read', { gpa: GUEST_BYTES }, 'own')],
    'no-such-queue': () => [
      world().request('read', { gpa: GUEST_BYTES }),
      ready().request('read', {}, 'net0'),
    ],
    'outside-memory': () => {
      const small = world()
      small.layOut(2n)
      return [small.request('read', { gpa: GUEST_BYTES - 16n }), ready().request('read', { gpa: 1n << 63n })]
    },
    full: () => {
      const small = world()
      small.layOut(2n)
      return [small.request('read')]
    },
    done: () => [ready().request('read'), ready().request('flush', { bytes: 0n })],
  })

  it('a disk sends no frames, and offers no buffers', () => {
    const { disk } = ready()
    for (const { name } of [VIRTIO_SEND, VIRTIO_OFFER]) {
      expect(disk(name, { iova: DATA, bytes: 64n }).rule).toBe('no-such-queue')
    }
  })

  it('a disk has one queue', () => {
    expect(world().disk('queue', { queue: 1n, gpa: RING, iova: RING }).rule).toBe('no-such-queue')
  })
})

describe('a vhost-user disk', () => {
  it('reads what was written', () => {
    const { request, reap, write, status, memoryAt, found, put } = ready()
    write(FIRST_PAGE, 'sector three')
    request('write')
    expect(reap().outputs).toMatchObject({ written: 1n })
    put(DATA + 0x1000n, SECOND_PAGE | READ_WRITE)
    request('flush', { bytes: 0n })
    expect(reap().outputs).toMatchObject({ written: 1n })
    expect(request('read', { iova: DATA + 0x1000n }).code).toBe('OK')
    expect(reap().outputs).toMatchObject({ written: SECTOR + 1n })
    expect([status(), memoryAt(SECOND_PAGE, 12n)]).toEqual(['hex:00', 'sector three'])
    expect(found()).toEqual([])
  })

  it('answers an error behind its 128 sectors', () => {
    const { request, status, reap } = ready()
    request('read', { sector: 128n })
    expect([reap().outputs['written'], status()]).toEqual([1n, 'hex:01'])
    request('read', { sector: 127n })
    expect([reap().outputs['written'], status()]).toEqual([SECTOR + 1n, 'hex:00'])
  })

  it('misses one page after another, and is answered', () => {
    const { messagesOf, disk, layOut, request } = world()
    layOut()
    const ua = (gpa: bigint) => `0x${(GUEST_UA + gpa).toString(16)}`
    const mapped = (iova: bigint, gpa: bigint) => `UPDATE 0x${iova.toString(16)} 0x1000 ${ua(gpa)} 3`
    expect(messagesOf(() => disk('ready'))).toEqual([
      // QEMU sends the page of the used ring unasked.
      mapped(RING + 0x1000n, RING + 0x1000n),
      `MISS 0x${RING.toString(16)} 1`,
      mapped(RING, RING),
    ])
    expect(messagesOf(() => request('read'))).toEqual([
      `MISS 0x${HEADER.toString(16)} 1`,
      mapped(HEADER, HEADER),
      'MISS 0x10000 2',
      mapped(DATA, FIRST_PAGE),
    ])
    expect(messagesOf(() => request('read'))).toEqual([])
  })

  it('waits where nobody has an answer, and tries again with a kick', () => {
    const { request, reap, put, states } = ready()
    expect(states(() => request('read', { iova: 0x50000n }))).toEqual([
      // For the header, which comes, and for the data.
      'waits',
      'woken',
      'runs',
      'waits',
    ])
    expect(reap().rule).toBe('empty')
    put(0x50000n, FIRST_PAGE | READ_WRITE)
    expect(states(() => request('flush', { bytes: 0n, gpa: HEADER + 32n, header: HEADER + 32n }))).toEqual([
      'runs',
      'waits',
      'woken',
      'runs',
    ])
    expect([reap().rule, reap().rule, reap().rule]).toEqual(['done', 'done', 'empty'])
  })

  it('fails where a map does not allow what it wants, until it is set up anew', () => {
    const { request, reap, put, states, disk, layOut, during } = ready('none', 'intended')
    put(0x50000n, FIRST_PAGE | READ)
    // A map to read from comes with a request that writes to the disk.
    request('write', { iova: 0x50000n })
    expect(reap().rule).toBe('done')
    const refused = during(['iotlb.refuse'], () =>
      expect(states(() => request('read', { iova: 0x50000n }))).toEqual(['failed']),
    )
    expect(refused).toMatchObject([{ iova: 0x50000n, access: 2, code: -1 }])
    expect(states(() => request('flush', { bytes: 0n }))).toEqual([])
    expect(reap().rule).toBe('empty')
    expect(states(() => disk('reset'))).toEqual(['stopped'])
    layOut()
    disk('ready')
    request('flush', { bytes: 0n })
    expect(reap().rule).toBe('done')
  })

  it('a header that is too short breaks the queue', () => {
    const { put, write, states, disk, layOut } = world()
    layOut()
    // One descriptor of 8 bytes to read, made available by hand.
    put(0x30000n, 0x30_0003n)
    write(RING, 'hex:00000300000000000800000000000000')
    write(RING + 256n, 'hex:000001000000')
    expect(states(() => disk('ready')).at(-1)).toBe('failed')
  })

  it('has an IOTLB of its own, whose number no other has, below the same PHB', () => {
    const { during, disk, virtio, layOut, put } = world()
    layOut()
    put(0n, RING | READ_WRITE)
    const made = during(['iotlb.new'], () => {
      disk('ready')
      virtio('ready')
    })
    expect(made).toMatchObject([
      { iotlb: 1, device: 'vhost-user-vda', limit: 2048 },
      { iotlb: 2, device: 'vhost-net0' },
    ])
  })

  it('moves the bytes of steps without a ring as well', () => {
    const { deviceWrites, deviceReads, memoryAt } = ready()
    expect(deviceWrites(DATA + 16n, 'bytes', 'vda').code).toBe('MEMTX_OK')
    expect(memoryAt(FIRST_PAGE + 16n, 5n)).toBe('bytes')
    expect(deviceReads(DATA + 16n, 5n, 'vda').outputs['data']).toBe('bytes')
    expect(deviceReads(0x60000n, 5n, 'vda').rule).toBe('iotlb-miss')
    expect(world().deviceReads(DATA, 5n, 'vda').rule).toBe('not-started')
  })

  it('is set up anew after a reset, with an empty IOTLB', () => {
    const { disk, layOut, request, reap, messagesOf, during } = ready()
    request('flush', { bytes: 0n })
    expect(disk('reset').code).toBe('OK')
    layOut()
    expect(during(['iotlb.new'], () => disk('ready'))).toMatchObject([{ iotlb: 2 }])
    expect(messagesOf(() => request('flush', { bytes: 0n }))[0]).toBe(`MISS 0x${HEADER.toString(16)} 1`)
    expect(reap().rule).toBe('done')
  })

  it('drops its maps when QEMU has gone', () => {
    const { proc, during } = ready()
    expect(during(['iotlb.drop'], () => proc('exit'))).toMatchObject([
      { iotlb: 1, last: 2n ** 64n - 1n, maps: 2, why: 'reset' },
    ])
  })

  it('on pseries QEMU has the table itself, and takes every map back', () => {
    const machine = createMachine(
      describeMachine({ phbs: [{ virtio: [{ name: 'vda', kind: 'blk', hasVhost: true }] }] }),
    )
    const run = (verb: Verb, call: string, args: Readonly<Record<string, Value>>) =>
      machine.perform({ verb, call, args })
    const put = (ioba: bigint, tce: bigint) => run('hcall', 'H_PUT_TCE', { liobn: 0x8000_0000n, ioba, tce })
    run('virtio', 'ready', { device: 'vda' })
    put(DATA, FIRST_PAGE | READ_WRITE)
    expect(run('dma', 'write', { device: 'vda', iova: DATA, data: 'x' }).code).toBe('MEMTX_OK')
    put(DATA, 0n)
    expect(run('dma', 'write', { device: 'vda', iova: DATA, data: 'y' }).rule).toBe('iotlb-miss')
    const messages = [...machine.log.records()].flatMap(({ event: e }) =>
      e.kind === 'vhost.message' ? [`${e.from} ${e.type}`] : [],
    )
    expect(messages).toEqual(['vhost-user-vda 1', 'qemu 2', 'qemu 3', 'vhost-user-vda 1'])
  })

  it('a device of QEMU itself stands beside it', () => {
    const { perform, vmm } = makeVmm({ phbs: [{ virtio: [{ name: 'own', kind: 'blk' }] }] })
    vmm('start')
    expect(perform('virtio', 'ready', { device: 'own' }).rule).toBe('no-rings')
  })
})

/** Remedies that go through QEMU, and reach a process; those inside the kernel do not. */
const REACHES: Readonly<Record<VhostRemedy, boolean>> = {
  none: false,
  userspace: true,
  'stuff-too-hard': true,
  'h-too-hard': true,
  'kill-hook': false,
  // QEMU hears of it, but the hypercall has returned by then.
  eventfd: false,
  'mm-list': false,
}

describe.each(VHOST_REMEDIES)('remedy %s and a vhost-user disk', (remedy) => {
  it('H_STUFF_TCE, and a sector that is read at the same bus address', () => {
    const { write, request, stuff, put, memoryAt, found } = ready(remedy)
    write(FIRST_PAGE, 'disk')
    request('write')
    expect(stuff(DATA, 0n, 1n).code).toBe('H_SUCCESS')
    write(FIRST_PAGE, 'mine')
    put(DATA, SECOND_PAGE | READ_WRITE)
    request('read')
    const isKept = REACHES[remedy]
    expect([memoryAt(FIRST_PAGE, 4n), memoryAt(SECOND_PAGE, 4n)]).toEqual(
      isKept ? ['mine', 'disk'] : ['disk', 'hex:00000000'],
    )
    expect(found()).toEqual(isKept ? [] : ['stale-iotlb', 'stale-iotlb'])
  })

  it('a tick between: an eventfd is read, and nothing else changes', () => {
    const { request, stuff, perform, messagesOf } = ready(remedy)
    request('read')
    stuff(DATA, 0n, 1n)
    const messages = messagesOf(() => perform('tick', 'advance', { ticks: 1n }))
    expect(messages.map((m) => m.split(' ')[0])).toEqual(remedy === 'eventfd' ? ['INVALIDATE'] : [])
  })
})
