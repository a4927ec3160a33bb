import { describe, expect, it } from 'vitest'
import { ERRNO_CODES } from '../../src/bits/codes.ts'
import { Journal } from '../../src/bits/state.ts'
import { U64_MAX } from '../../src/bits/u64.ts'
import { VhostIotlb, type VhostIotlbOptions } from '../../src/table/vhost-iotlb.ts'

const { OK, EFAULT, EINVAL, ENOSPC } = ERRNO_CODES
const RW = 3
const HALF = 1n << 63n

const iotlb = (options: Partial<VhostIotlbOptions> = {}) =>
  new VhostIotlb({ limit: 2048, retire: true, ...options })

const ranges = (t: VhostIotlb) => [...t.entries()].map((m) => [m.start, m.last, m.address])
const numbers = (t: VhostIotlb) => [...t.entries()].map((m) => m.mapNumber)

/** Map numbers in the order in which `first` and `next` find them. */
function found(t: VhostIotlb, start: bigint, last: bigint): number[] {
  const all: number[] = []
  for (let more = t.first(start, last); more; more = t.next()) all.push(t.mapNumber)
  return all
}

describe('the IOTLB of vhost (V30)', () => {
  it('the oldest map makes room', () => {
    const t = iotlb({ limit: 2 })
    for (const page of [0n, 1n]) {
      expect(t.add(page << 12n, (page << 12n) + 0xfffn, 0n, RW)).toBe(OK)
      expect(t.evicted).toBe(-1)
    }
    expect(t.add(0x2000n, 0x2fffn, 0n, RW)).toBe(OK)
    expect([t.added, t.evicted, t.evictedStart, t.evictedLast]).toEqual([3, 1, 0n, 0xfffn])
    expect(t.count).toBe(2)
    expect(numbers(t)).toEqual([2, 3])
  })

  it('age counts from the insertion, not from the use', () => {
    const t = iotlb({ limit: 2 })
    t.add(0n, 0xfffn, 0n, RW)
    t.add(0x1000n, 0x1fffn, 0n, RW)
    expect(t.first(0n, 0n)).toBe(true)
    t.add(0x2000n, 0x2fffn, 0n, RW)
    expect(t.first(0n, 0n)).toBe(false)
  })

  it('the whole space is two maps', () => {
    const t = iotlb({ limit: 2 })
    expect(t.add(0n, U64_MAX, 0x1000n, RW)).toBe(OK)
    expect(ranges(t)).toEqual([
      [0n, HALF - 1n, 0x1000n],
      [HALF, U64_MAX, HALF + 0x1000n],
    ])
    expect([t.addedMaps, t.added]).toEqual([2, 2])
    expect(t.first(U64_MAX, U64_MAX)).toBe(true)
    expect(t.address).toBe(HALF + 0x1000n)
  })

  it('the address of the second half wraps', () => {
    const t = iotlb()
    t.add(0n, U64_MAX, HALF + 5n, RW)
    expect(ranges(t)[1]).toEqual([HALF, U64_MAX, 5n])
  })

  it('each half may put a map out', () => {
    const t = iotlb({ limit: 3 })
    for (let i = 0n; i < 3n; i++) t.add(i, i, 0n, RW)
    expect(t.add(0n, U64_MAX, 0n, RW)).toBe(OK)
    t.showAdd(0)
    expect([t.added, t.mapNumber, t.last, t.evicted, t.evictedStart]).toEqual([4, 4, HALF - 1n, 1, 0n])
    t.showAdd(1)
    expect([t.added, t.mapNumber, t.start, t.evicted, t.evictedStart]).toEqual([5, 5, HALF, 2, 1n])
    expect(numbers(t)).toEqual([3, 4, 5])
  })

  it('of equal maps the one that came first answers, and both go by their last byte', () => {
    const t = iotlb()
    t.add(0x1000n, 0x1fffn, 0xaaaa000n, RW)
    t.add(0x1000n, 0x1fffn, 0xbbbb000n, RW)
    expect(t.first(0x1000n, 0x1000n)).toBe(true)
    expect([t.mapNumber, t.address]).toEqual([1, 0xaaaa000n])
    expect(t.next()).toBe(true)
    expect([t.mapNumber, t.address]).toEqual([2, 0xbbbb000n])
    expect(t.next()).toBe(false)
    expect(t.delete(0x1fffn, 0x1fffn)).toBe(2)
    expect(t.count).toBe(0)
  })
})

describe('adding to the IOTLB', () => {
  const full = (limit: number, retire: boolean, maps = limit) => {
    const t = iotlb({ limit, retire })
    for (let i = 0; i < maps; i++) expect(t.add(BigInt(i), BigInt(i), 0n, RW)).toBe(OK)
    return t
  }

  it.each([
    ['last below start', full(4, true), 5n, 4n, EFAULT],
    ['last below start, and no map allowed', full(0, true), 5n, 4n, EFAULT],
    ['no map allowed', full(0, true), 4n, 5n, EINVAL],
    ['no map allowed, and the whole space', full(0, true), 0n, U64_MAX, EINVAL],
    ['the whole space needs two', full(1, true, 0), 0n, U64_MAX, ENOSPC],
    ['the whole space needs two that are free', full(4, false, 3), 0n, U64_MAX, ENOSPC],
    ['two are free', full(4, false, 2), 0n, U64_MAX, OK],
    ['full', full(4, false), 4n, 5n, ENOSPC],
    ['one is free', full(4, false, 3), 4n, 5n, OK],
    ['full, but the oldest retires', full(4, true), 4n, 5n, OK],
    ['full, but the two oldest retire', full(4, true), 0n, U64_MAX, OK],
    ['nearly the whole space is one map', full(1, true, 0), 0n, U64_MAX - 1n, OK],
    ['nearly the whole space from the other end', full(1, true, 0), 1n, U64_MAX, OK],
  ])('%s', (_what, t, start, last, code) => {
    const before = ranges(t)
    expect(t.add(start, last, 0n, RW)).toBe(code)
    if (code !== OK) expect([ranges(t), t.addedMaps, t.evicted]).toEqual([before, 0, -1])
    else expect(ranges(t)).not.toEqual(before)
  })

  it('replaces and merges nothing: an older map of the same bytes goes on answering', () => {
    const t = iotlb()
    t.add(0x1000n, 0x2fffn, 0x10000n, 1)
    t.add(0x2000n, 0x2fffn, 0x20000n, RW)
    t.add(0x3000n, 0x3fffn, 0x12000n, 1)
    expect(t.count).toBe(3)
    expect(t.first(0x2000n, 0x2000n)).toBe(true)
    expect([t.mapNumber, t.perm]).toEqual([1, 1])
  })

  it('a later map with a smaller start wins', () => {
    const t = iotlb()
    t.add(0x2000n, 0x2fffn, 0x20000n, RW)
    expect(t.first(0x2800n, 0x2800n) && t.mapNumber).toBe(1)
    t.add(0x1000n, 0x2fffn, 0x10000n, RW)
    expect(t.first(0x2800n, 0x2800n) && t.mapNumber).toBe(2)
    expect(t.delete(0x1000n, 0x1000n)).toBe(1)
    expect(t.first(0x2800n, 0x2800n) && t.mapNumber).toBe(1)
  })
})

describe('ranges of the IOTLB', () => {
  const three = () => {
    const t = iotlb()
    t.add(0x1000n, 0x1fffn, 0n, RW)
    t.add(0x3000n, 0x3fffn, 0n, RW)
    t.add(0x0n, U64_MAX - 1n, 0n, RW)
    return t
  }

  it('are found by their start', () => {
    expect(found(three(), 0n, U64_MAX)).toEqual([3, 1, 2])
    expect(found(three(), 0x2000n, 0x2fffn)).toEqual([3])
    expect(found(three(), 0x1fffn, 0x3000n)).toEqual([3, 1, 2])
    expect(found(three(), U64_MAX, U64_MAX)).toEqual([])
  })

  it('a part of a map takes it whole', () => {
    const t = three()
    expect(t.delete(0x1800n, 0x1800n)).toBe(2)
    expect(numbers(t)).toEqual([2])
  })

  it('reset drops all, and numbers go on', () => {
    const t = three()
    expect(t.reset()).toBe(3)
    expect([t.count, t.reset()]).toEqual([0, 0])
    t.add(0n, 0n, 0n, RW)
    expect(t.added).toBe(4)
  })

  // CQ11: with last below start the test for overlap is applied as it stands.
  it('that end before they start overlap a map that holds both ends and what is between', () => {
    const t = three()
    expect(found(t, 0x1900n, 0x1800n)).toEqual([3, 1])
    expect(found(t, 0x3000n, 0x1fffn)).toEqual([3])
    expect(t.delete(0x1900n, 0x1800n)).toBe(2)
    expect(numbers(t)).toEqual([2])
  })
})

describe('kernels of another age', () => {
  it('before 5.17 keep the whole space as one map', () => {
    const t = iotlb({ splitsFullRange: false, limit: 1 })
    expect(t.add(0n, U64_MAX, 0x1000n, RW)).toBe(OK)
    expect(ranges(t)).toEqual([[0n, U64_MAX, 0x1000n]])
    expect(t.addedMaps).toBe(1)
  })

  it('without a check of the limit: 0 is no limit, and only a container that retires has one', () => {
    const t = iotlb({ enforcesLimit: false, limit: 0 })
    for (let i = 0n; i < 5n; i++) expect(t.add(i, i, 0n, RW)).toBe(OK)
    expect([t.count, t.evicted]).toEqual([5, -1])
    const keeps = iotlb({ enforcesLimit: false, limit: 2, retire: false })
    for (let i = 0n; i < 5n; i++) expect(keeps.add(i, i, 0n, RW)).toBe(OK)
    expect(keeps.count).toBe(5)
  })

  it('without it and with a limit of 1, the second half puts out the first', () => {
    const t = iotlb({ enforcesLimit: false, limit: 1 })
    expect(t.add(0n, U64_MAX, 0n, RW)).toBe(OK)
    expect(ranges(t)).toEqual([[HALF, U64_MAX, HALF]])
    t.showAdd(0)
    expect([t.added, t.last, t.evicted]).toEqual([1, HALF - 1n, -1])
    t.showAdd(1)
    expect([t.added, t.start, t.evicted, t.evictedStart, t.evictedLast]).toEqual([2, HALF, 1, 0n, HALF - 1n])
  })
})

describe('with an undo log', () => {
  it('goes back over adds, retirements and deletions', () => {
    const journal = new Journal()
    journal.on = true
    const t = iotlb({ limit: 3, journal, key: 7 })
    for (let i = 0n; i < 3n; i++) t.add(i, i + 1n, i << 12n, RW)
    const [mark, hash, before] = [journal.mark(), journal.hash, [...t.entries()]]
    t.add(0n, U64_MAX, 0n, 1)
    t.delete(2n, 2n)
    t.add(9n, 9n, 0n, 2)
    expect(journal.hash).not.toBe(hash)
    journal.rollback(mark)
    expect([...t.entries()]).toEqual(before)
    expect(journal.hash).toBe(hash)
    expect(found(t, 1n, 1n)).toEqual([1, 2])
    t.add(9n, 9n, 0n, 2)
    expect([t.added, t.evicted]).toEqual([4, 1])
  })
})
