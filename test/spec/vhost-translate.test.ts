import { describe, expect, it } from 'vitest'
import { ERRNO_CODES } from '../../src/bits/codes.ts'
import { ACCESS } from '../../src/hw/virtio/ring-memory.ts'
import { Segments } from '../../src/hw/virtio/segments.ts'
import { UA } from '../support/vfio.ts'
import { GUEST_BYTES, IOVA, lanes, MODERN, owned, withRing } from '../support/vhost.ts'

const { EAGAIN, EPERM, EFAULT, ENOBUFS } = ERRNO_CODES
const TOP = 0xffff_ffff_ffff_f000n

type World = ReturnType<typeof withRing>

/** A device behind an empty IOTLB, and a way to ask its queue 1. */
function asking(world: World = withRing()) {
  const { memory } = world.device.queues[1]!
  const ask = (iova: bigint, bytes: number, access: 1 | 2 = ACCESS.READ, limit?: number) => {
    const into = new Segments(memory, limit)
    const answer = memory.translate(...lanes(iova), bytes, access, into)
    const pieces = into.starts.slice(0, into.count).map((at, i) => [BigInt(at), into.lengths[i]])
    return { answer, pieces }
  }
  const missed = () => world.device.messages.readable.map((n) => [n.message.iova, n.message.perm])
  return { ...world, memory, ask, missed }
}

describe('translating a buffer', () => {
  // V31, at addresses that the process has.
  it('goes from map to map, until one is missing: that one is asked for', () => {
    const { update, ask, missed } = asking()
    update(0x1000n, 0x1000n, UA, 1n)
    expect(ask(0x1ff0n, 0x20)).toEqual({ answer: EAGAIN, pieces: [[UA + 0xff0n, 0x10]] })
    expect(missed()).toEqual([[0x2000n, 1]])
    update(0x2000n, 0x1000n, UA + 0x8000n)
    expect(ask(0x1ff0n, 0x20)).toEqual({
      answer: 2,
      pieces: [
        [UA + 0xff0n, 0x10],
        [UA + 0x8000n, 0x10],
      ],
    })
    expect(missed()).toHaveLength(1)
  })

  it('is refused by a map that does not allow it, and nothing is asked', () => {
    const { update, ask, missed } = asking()
    update(0x1000n, 0x1000n, UA, 1n)
    expect(ask(0x1ff0n, 0x20, ACCESS.WRITE).answer).toBe(EPERM)
    update(0x2000n, 0x1000n, UA, 2n)
    expect(ask(0x1ff0n, 0x20).answer).toBe(EPERM)
    update(0x3000n, 0x1000n, UA, 0n)
    for (const access of [ACCESS.READ, ACCESS.WRITE]) expect(ask(0x3000n, 1, access).answer).toBe(EPERM)
    expect(missed()).toEqual([])
  })

  it('stops where the list of pieces is full, before it looks for the next one', () => {
    const { update, ask, missed } = asking()
    update(0x1000n, 0x1000n, UA)
    expect(ask(0x1ff0n, 0x20, ACCESS.READ, 1)).toEqual({ answer: ENOBUFS, pieces: [[UA + 0xff0n, 0x10]] })
    expect(ask(0x1ff0n, 0x10, ACCESS.READ, 1).answer).toBe(1)
    expect(ask(0x1ff0n, 0x20, ACCESS.READ, 0).answer).toBe(ENOBUFS)
    expect(missed()).toEqual([])
  })

  it('needs nothing for no bytes', () => {
    const { ask, missed } = asking()
    expect([ask(0x1000n, 0), missed()]).toEqual([{ answer: 0, pieces: [] }, []])
  })

  it('takes the map with the smallest start, the older of two, and never looks at one that ends before', () => {
    const { update, ask, missed } = asking()
    update(0x1000n, 0x1000n, UA, 1n)
    update(0x1000n, 0x3000n, UA + 0x1_0000n, 3n)
    update(0n, 0x1800n, UA + 0x2_0000n, 2n)
    expect(ask(0x1900n, 0x10).pieces).toEqual([[UA + 0x900n, 0x10]])
    expect(ask(0x1900n, 0x10, ACCESS.WRITE).answer).toBe(EPERM)
    expect(ask(0x1700n, 0x10).answer).toBe(EPERM)
    // Behind the first map the second one goes on, with what is its own there.
    expect(ask(0x1f00n, 0x200).pieces).toEqual([
      [UA + 0xf00n, 0x100],
      [UA + 0x1_1000n, 0x100],
    ])
    // A map above the address hides nothing, and helps nobody.
    expect(ask(0x4ff0n, 0x20).answer).toBe(EAGAIN)
    expect(missed()).toEqual([[0x4ff0n, 1]])
  })

  it('works at the end of the space, and misses what passes it', () => {
    const { update, ask, missed } = asking()
    update(TOP, 0x1000n, UA)
    expect(ask(TOP + 0xff0n, 0x10).pieces).toEqual([[UA + 0xff0n, 0x10]])
    expect(ask(TOP + 0xff0n, 0x20).answer).toBe(EAGAIN)
    expect(missed()).toHaveLength(1)
  })

  it('takes 4 GiB less a byte from one map', () => {
    const { update, ask } = asking()
    update(1n, 1n << 33n, 1n, 1n)
    // Memory of the process begins at 4 GiB.
    expect(ask(UA, 0x100_0000).pieces).toEqual([[UA, 0x100_0000]])
    expect(ask(1n, 0xffff_ffff).answer).toBe(EFAULT)
  })
})

describe('translating without an IOTLB', () => {
  it('goes through the memory table, and asks nobody', () => {
    const world = withRing({ features: MODERN })
    const { ask, missed } = asking(world)
    expect(ask(GUEST_BYTES - 0x10n, 0x10).pieces).toEqual([[UA + GUEST_BYTES - 0x10n, 0x10]])
    expect(ask(GUEST_BYTES - 0x10n, 0x20).answer).toBe(EFAULT)
    expect([ask(IOVA, 1).answer, missed()]).toEqual([EFAULT, []])
  })

  it('finds nothing where there is no table', () => {
    const { device } = owned()
    device.tables.clear(null)
    const { memory } = device.queues[0]!
    expect(memory.translate(0, 0, 1, ACCESS.READ, new Segments(memory))).toBe(EFAULT)
  })
})
