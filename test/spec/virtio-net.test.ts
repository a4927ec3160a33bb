import { describe, expect, it } from 'vitest'
import { DEVICE_FAULTS } from '../../src/hw/virtio/device-faults.ts'
import { QueueRun } from '../../src/hw/virtio/queue-run.ts'
import { NetReceiver, NetTransmitter } from '../../src/hw/virtio/virtio-net.ts'
import { type Handing, ringPair, TestMemory } from '../support/virtio.ts'

const HANDINGS: readonly Handing[] = ['whole', 'pages', 'places']
const frameOf = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => i + 1)

/** A driver with a receive queue. */
function receiving(handing: Handing = 'places') {
  const memory = new TestMemory(8192, handing)
  const { driver, ring, free } = ringPair(memory, { hasEventIndex: true })
  ring.start()
  const offer = (...lengths: readonly number[]) => {
    memory.bytes.fill(0xee, free, free + 4096)
    const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, bytes) => sum + bytes, free))
    driver.add(lengths.map((bytes, i) => ({ address: BigInt(starts[i] ?? 0), bytes, isWritten: true })))
    driver.publish()
  }
  return { memory, driver, ring, free, offer, receiver: new NetReceiver(ring) }
}

/** A driver with a transmit queue, and the frames that came out. */
function transmitting(handing: Handing = 'places') {
  const memory = new TestMemory(8192, handing)
  const { driver, ring, free } = ringPair(memory, { hasEventIndex: true })
  const frames: Uint8Array[] = []
  const port = new NetTransmitter({
    transmit: (frame, bytes) => {
      const copy = new Uint8Array(bytes)
      frame.read(0, copy, 0, bytes)
      frames.push(copy)
    },
  })
  ring.start()
  return { memory, driver, free, frames, run: new QueueRun(ring, port) }
}

describe('a network device receives', () => {
  it.each(HANDINGS)('a header of 12 bytes with one buffer, and the frame (%s)', (handing) => {
    const { memory, driver, free, offer, receiver } = receiving(handing)
    offer(5, 7, 40, 20)
    expect([receiver.receive(frameOf(50)), receiver.wantsCall]).toEqual(['delivered', true])
    expect(driver.reap()).toEqual({ head: 0, written: 62 })
    const header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    expect([...memory.bytes.subarray(free, free + 64)]).toEqual([...header, ...frameOf(50), 0xee, 0xee])
  })

  it('a frame that fits exactly; a longer one leaves the buffer where it is', () => {
    const { driver, offer, receiver } = receiving()
    offer(72)
    expect(receiver.receive(frameOf(61))).toBe('too-long')
    expect([receiver.receive(frameOf(60)), driver.reap()]).toEqual(['delivered', { head: 0, written: 72 }])
  })

  it('nothing without a buffer, and asks to be told of one', () => {
    const { driver, receiver, offer } = receiving()
    expect(receiver.receive(frameOf(9))).toBe('no-buffer')
    offer(72)
    expect([receiver.receive(frameOf(9)), driver.reap()]).toMatchObject(['delivered', { written: 21 }])
    expect(receiver.receive(frameOf(9))).toBe('no-buffer')
    // It sleeps from index 1 on, so the second buffer is worth a notification.
    driver.add([{ address: 4096n, bytes: 72, isWritten: true }])
    expect(driver.publish()).toBe(true)
  })

  it('waits for a translation, and tries the frame again', () => {
    const { memory, free, offer, receiver } = receiving()
    offer(200)
    memory.missing.add(Math.floor((free + 130) / 64))
    expect([receiver.receive(frameOf(9)), memory.bytes[free]]).toEqual(['pending', 0xee])
    memory.missing.clear()
    expect(receiver.receive(frameOf(9))).toBe('delivered')
  })

  it.each([
    ['net-receive-readable', [false, true], [20, 72]],
    ['net-receive-readable', [false], [5]],
    ['net-header-short', [true], [11]],
    ['order', [true, false], [20, 20]],
  ])('%s: the queue stops', (rule, isWritten, lengths) => {
    const { driver, free, receiver } = receiving()
    driver.add(
      lengths.map((bytes, i) => ({ address: BigInt(free), bytes, isWritten: isWritten[i] === true })),
    )
    driver.publish()
    expect([receiver.receive(frameOf(9)), receiver.fault, driver.reap()]).toEqual(['failed', rule, 'empty'])
    expect(receiver.errno).toBe(rule === 'net-header-short' ? -14 : -22)
    expect(receiver.wantsCall).toBe(false)
  })
})

describe('a network device transmits', () => {
  it.each(HANDINGS)('frames without their headers, wherever they are cut (%s)', (handing) => {
    const { memory, driver, free, frames, run } = transmitting(handing)
    memory.bytes.set(frameOf(112), free)
    const buffer = (at: number, bytes: number) => ({ address: BigInt(free + at), bytes, isWritten: false })
    driver.add([buffer(0, 12), buffer(12, 100)])
    driver.add([buffer(0, 3), buffer(3, 10), buffer(13, 1)])
    expect(driver.publish()).toBe(true)
    expect([run.go(8), run.served, run.wantsCall]).toEqual(['idle', 2, true])
    expect(frames).toEqual([frameOf(112).slice(12), Uint8Array.of(13, 14)])
    expect([driver.reap(), driver.reap()]).toEqual([
      { head: 0, written: 0 },
      { head: 2, written: 0 },
    ])
  })

  it.each([
    ['net-transmit-writable', 5, 5, -14],
    ['net-transmit-writable', 60, 1, -14],
    ['net-header-short', 12, 0, -14],
  ])('%s: %d bytes to read and %d to write stop the queue', (rule, readable, writable, errno) => {
    const { driver, free, frames, run } = transmitting()
    const buffers = [
      { address: BigInt(free), bytes: readable, isWritten: false },
      { address: BigInt(free), bytes: writable, isWritten: true },
    ]
    driver.add(buffers.filter(({ bytes }) => bytes > 0))
    driver.publish()
    expect([run.go(8), run.fault, run.errno, frames.length]).toEqual(['failed', rule, errno, 0])
  })
})

describe('chains that no device can answer', () => {
  it('each has a test', () => {
    const tested = ['blk-header-short', 'blk-status-missing', 'net-receive-readable']
    expect(DEVICE_FAULTS.map(({ rule }) => rule)).toEqual([
      ...tested,
      'net-transmit-writable',
      'net-header-short',
    ])
  })
})
