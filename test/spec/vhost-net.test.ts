import { describe, expect, it } from 'vitest'
import { ERRNO_CODES } from '../../src/bits/codes.ts'
import { ACCESS } from '../../src/hw/virtio/ring-memory.ts'
import { Segments } from '../../src/hw/virtio/segments.ts'
import * as calls from '../../src/kernel/vhost/calls.ts'
import * as messages from '../../src/kernel/vhost/message-calls.ts'
import { eventsOf } from '../support/host.ts'
import { UA } from '../support/vfio.ts'
import { BEHIND_IOTLB, IOVA, lanes, MODERN, owned, running, withRing } from '../support/vhost.ts'

const FRAME = Uint8Array.from({ length: 60 }, (_, i) => i)
const TEXT = `hex:${[...FRAME].map((b) => b.toString(16).padStart(2, '0')).join('')}`
const { EAGAIN, EPERM, ENOBUFS, EFAULT } = ERRNO_CODES
const BUFFER = 0x2_0000n

describe('a transmit queue behind an IOTLB', () => {
  it('stops with a miss, goes on when an UPDATE comes, and the frame leaves', () => {
    const world = running()
    const { send, kick, read, update, collect, queueOf, signals, callFd, ring } = world
    const head = send(FRAME, BUFFER)
    expect(kick().rule).toBe('done')
    expect(queueOf().states.value).toBe('waits')
    expect(read()).toMatchObject({ version: 1n, type: 1n, iova: IOVA + BUFFER, bytes: 0n, perm: 1n })
    expect(collect()).toBeUndefined()
    expect(update(IOVA + BUFFER, 0x1000n, UA + BUFFER).outputs['written']).toBe(72n)
    expect(collect()).toBe(TEXT)
    expect(ring.reap()).toEqual({ head, written: 0 })
    expect(signals(callFd)).toBe(1)
    expect(eventsOf(world, 'vhost.queue').map((e) => ('state' in e ? e.state : ''))).toEqual([
      'runs',
      'waits',
      'woken',
      'runs',
    ])
  })
})

describe('translate', () => {
  // V31.
  it('goes from map to map until one is missing, and asks for that one', () => {
    const world = withRing({ pages: 1n << 16n })
    const { update, device, read } = world
    update(0x1000n, 0x1000n, UA + 0x1000n, 1n)
    const { memory } = device.queues[1]!
    const into = new Segments(memory)
    expect(memory.translate(...lanes(0x1ff0n), 0x20, ACCESS.READ, into)).toBe(EAGAIN)
    expect([into.starts[0], into.lengths[0], into.count]).toEqual([Number(UA) + 0x1ff0, 0x10, 1])
    expect(read()).toMatchObject({ iova: 0x2000n, perm: 1n })
    into.clear()
    expect(memory.translate(...lanes(0x1ff0n), 0x20, ACCESS.WRITE, into)).toBe(EPERM)
    expect(device.messages.readable).toEqual([])
    expect([ENOBUFS, EFAULT, BEHIND_IOTLB, MODERN].length).toBe(4)
    expect([owned, calls, messages].length).toBe(3)
  })
})
