import { describe, expect, it } from 'vitest'
import { Journal } from '../../../src/bits/state.ts'
import { MemoryBlockStore } from '../../../src/hw/virtio/block-store.ts'
import { QueueRun } from '../../../src/hw/virtio/queue-run.ts'
import { VirtioBlk } from '../../../src/hw/virtio/virtio-blk.ts'
import { type Handing, ringPair, TestMemory } from '../../support/virtio.ts'

describe('a disk over a ring', () => {
  it.each<Handing>(['whole', 'pages', 'places'])('writes and reads back (%s)', (handing) => {
    const memory = new TestMemory(16_384, handing)
    const { driver, ring, free } = ringPair(memory, { hasEventIndex: true })
    const store = new MemoryBlockStore('disk', 16, new Journal())
    const run = new QueueRun(ring, new VirtioBlk({ name: 'vda', store, journal: new Journal() }))
    ring.start()
    const header = new DataView(memory.bytes.buffer)
    header.setUint32(free, 1, true)
    header.setUint32(free + 8, 3, true)
    memory.bytes.fill(0xa5, free + 100, free + 612)
    const head = driver.add([
      { address: BigInt(free), bytes: 16, isWritten: false },
      { address: BigInt(free + 100), bytes: 512, isWritten: false },
      { address: BigInt(free + 20), bytes: 1, isWritten: true },
    ])
    memory.bytes[free + 20] = 0xff
    expect(driver.publish()).toBe(true)
    expect(run.go(16)).toBe('idle')
    expect(driver.reap()).toEqual({ head, written: 1 })
    expect(run.wantsCall).toBe(true)
    expect(memory.bytes[free + 20]).toBe(0)
    expect(store.bytesAt(3 * 512, 512).every((b) => b === 0xa5)).toBe(true)
  })
})
