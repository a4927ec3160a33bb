import { describe, expect, it } from 'vitest'
import { Journal } from '../../../src/bits/state.ts'
import { DriverRing, ringPlaces } from '../../../src/hw/virtio/driver-ring.ts'
import { ringPair, TestMemory } from '../../support/virtio.ts'

const buffer = (address: number, bytes = 16, isWritten = false) => ({
  address: BigInt(address),
  bytes,
  isWritten,
})

describe('the driver’s side of a ring', () => {
  it('lays a ring out as Linux does', () => {
    expect(ringPlaces(256, 0x1000, false)).toEqual({
      descriptors: 0x1000,
      available: 0x2000,
      used: 0x3000,
      bytes: 0x2000 + 4 + 8 * 256,
    })
    // One entry more of the available ring would pass the page: the event index does.
    expect(ringPlaces(1, 0, false, 16)).toMatchObject({ available: 16, used: 32, bytes: 44 })
    expect(ringPlaces(4, 0, true, 16)).toMatchObject({ available: 64, used: 80, bytes: 80 + 4 + 32 + 2 })
  })

  it('writes descriptors, a table and the available ring as the standard says', () => {
    const memory = new TestMemory(2048)
    const { driver } = ringPair(memory, { entries: 4 })
    expect(driver.add([buffer(0x1_0000_0010, 3), buffer(0x20, 5, true)])).toBe(0)
    expect(driver.addIndirect([buffer(0x30, 7), buffer(0x40, 9, true)], 1024, 0xfff0n)).toBe(2)
    expect(driver.publish()).toBe(true)
    const words = (at: number, count: number) => [...new Uint32Array(memory.bytes.buffer, at, count)]
    expect(words(0, 8)).toEqual([0x10, 1, 3, 0x0001_0001, 0x20, 0, 5, 2])
    expect(words(32, 4)).toEqual([0xfff0, 0, 32, 4])
    expect(words(1024, 8)).toEqual([0x30, 0, 7, 0x0001_0001, 0x40, 0, 9, 2])
    expect([...new Uint16Array(memory.bytes.buffer, 64, 4)]).toEqual([0, 2, 0, 2])
  })

  it('has as many descriptors as entries, and gets them back', () => {
    const { driver, ring } = ringPair(new TestMemory(2048), { entries: 4 })
    expect([driver.add([buffer(0)]), driver.add([buffer(0), buffer(0)]), driver.freeCount]).toEqual([0, 1, 1])
    expect([driver.add([buffer(0), buffer(0)]), driver.addIndirect([buffer(0)], 1024, 0n)]).toEqual([-1, 3])
    expect([driver.add([buffer(0)]), driver.addIndirect([buffer(0)], 1024, 0n)]).toEqual([-1, -1])
    driver.publish()
    ring.start()
    ring.begin()
    for (const head of [1, 0]) ring.use(head, 0)
    expect(driver.reap()).toBe('empty')
    ring.publish()
    expect([driver.reap(), driver.freeCount]).toEqual([{ head: 1, written: 0 }, 2])
    expect([driver.reap(), driver.freeCount]).toEqual([{ head: 0, written: 0 }, 3])
    expect(driver.add([buffer(0), buffer(0), buffer(0)])).toBe(0)
  })

  it.each([
    ['a head that the ring does not have', 4],
    ['far more', 0xffff_ffff],
    ['a descriptor in the middle of a chain', 1],
    ['a free descriptor', 3],
  ])('does not believe a device that gives back %s', (_what, head) => {
    const { driver, ring } = ringPair(new TestMemory(2048), { entries: 4 })
    driver.add([buffer(0), buffer(0)])
    driver.publish()
    ring.start()
    ring.begin()
    ring.use(head, 9)
    ring.publish()
    expect([driver.reap(), driver.reap(), driver.freeCount]).toEqual(['unknown-head', 'unknown-head', 2])
  })

  it('publishes nothing twice, and does not notify for nothing', () => {
    for (const hasEventIndex of [false, true]) {
      const { driver } = ringPair(new TestMemory(2048), { hasEventIndex })
      driver.add([buffer(0)])
      expect([driver.publish(), driver.publish()]).toEqual([true, false])
    }
  })

  it('goes back with its machine', () => {
    const journal = new Journal()
    journal.on = true
    const memory = new Uint8Array(2048)
    const driver = new DriverRing({
      memory: {
        load: () => undefined,
        store: (at, from, skip, n) => memory.set(from.subarray(skip, skip + n), at),
      },
      journal,
      name: 'q',
      entries: 4,
      places: ringPlaces(4, 0, false, 16),
      hasEventIndex: false,
    })
    driver.reset()
    const [mark, hash] = [journal.mark(), journal.hash]
    driver.add([buffer(0), buffer(0)])
    expect(journal.hash).not.toBe(hash)
    journal.rollback(mark)
    expect([journal.hash, driver.freeCount, driver.availableIndex]).toEqual([hash, 4, 0])
  })
})
