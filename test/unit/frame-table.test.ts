import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NO_FRAME } from '../../src/memory/frame-table.ts'
import { eventsOf, makeHost } from '../support/host.ts'

describe('FrameTable', () => {
  it('takes the lowest free frame', () => {
    const { frames } = makeHost({ frames: 4 }).host
    const me = frames.owner('me')
    expect([0, 1, 2, 3, 4].map(() => frames.allocate(me))).toEqual([0, 1, 2, 3, NO_FRAME])
    frames.put(2)
    frames.put(1)
    expect([frames.allocate(me), frames.allocate(me), frames.allocate(me)]).toEqual([1, 2, NO_FRAME])
  })

  it('takes frames in a row at a multiple of their number', () => {
    const { frames } = makeHost({ frames: 16 }).host
    const me = frames.owner('me')
    frames.allocate(me)
    expect([frames.allocate(me, 2), frames.allocate(me, 1), frames.allocate(me, 3)]).toEqual([4, 2, 8])
    expect(frames.allocate(me, 2)).toBe(NO_FRAME)
    expect([frames.allocate(me), frames.free]).toEqual([1, 0])
    frames.put(8, 8)
    expect([frames.free, frames.allocate(me, 3)]).toEqual([8, 8])
  })

  it('counts the lives of a frame, and zeroes it for the next', () => {
    const { frames, memory } = makeHost().host
    const frame = frames.allocate(frames.owner('a'))
    memory.storeU64be(frames.hostPage(frame), 0, 1, 2)
    frames.put(frame)
    // The bytes stay for whoever still comes too late.
    expect([memory.loadU64be(frames.hostPage(frame), 0), memory.wordHi]).toEqual([true, 1])
    expect([frames.ownerOf(frame), frames.generationOf(frame)]).toEqual(['', 1])
    expect(frames.allocate(frames.owner('b'))).toBe(frame)
    expect([memory.loadU64be(frames.hostPage(frame), 0), memory.wordHi]).toEqual([true, 0])
    expect([frames.ownerOf(frame), frames.generationOf(frame)]).toEqual(['b', 2])
  })

  it('frees a frame with its last user or its last pin, whichever comes later', () => {
    const { frames } = makeHost().host
    const frame = frames.allocate(frames.owner('a'))
    frames.get(frame)
    frames.pin(frame)
    frames.pin(frame)
    frames.put(frame)
    frames.put(frame)
    expect(frames.unpin(frame)).toBe(true)
    expect(frames.isTaken(frame)).toBe(true)
    expect(frames.unpin(frame)).toBe(true)
    expect([frames.isTaken(frame), frames.unpin(frame)]).toEqual([false, false])
    expect(() => frames.put(frame)).toThrow('model bug')
    expect(() => frames.pin(frame)).toThrow('model bug')
    expect(() => frames.get(frame)).toThrow('model bug')
  })

  it('records owners as ranges, one for each stretch of the same life', () => {
    const made = makeHost({ frames: 8, pageShift: 16 })
    const { frames } = made.host
    const [a, b] = [frames.owner('a'), frames.owner('b')]
    frames.put(frames.allocate(a))
    frames.allocate(b, 2)
    frames.pin(1)
    frames.put(0, 4)
    const own = { kind: 'page.own', space: 'hpa', pageShift: 16 }
    expect(eventsOf(made, 'page.own')).toEqual([
      { ...own, first: 0, count: 1, owner: 'a', generation: 1 },
      { ...own, first: 0, count: 1, owner: '', generation: 1 },
      { ...own, first: 0, count: 1, owner: 'b', generation: 2 },
      { ...own, first: 1, count: 3, owner: 'b', generation: 1 },
      { ...own, first: 0, count: 1, owner: '', generation: 2 },
      { ...own, first: 2, count: 2, owner: '', generation: 1 },
    ])
  })

  it('has as many frames as the memory has whole pages', () => {
    expect(makeHost({ frames: 3, pageShift: 16 }).host.frames.frames).toBe(3)
    expect(makeHost({ frames: 3 }).host.frames.isTaken(99)).toBe(false)
    expect(() => makeHost({ pageShift: 13 })).toThrow('model bug')
  })

  it('does not depend on the order in which owners appear', () => {
    const numbers = (...words: string[]) => {
      const { frames } = makeHost().host
      return new Map(words.map((w) => [w, frames.owner(w)]))
    }
    expect(numbers('b', 'a', 'b').get('b')).toBe(numbers('a', 'b').get('b'))
  })
})

describe('huge pages', () => {
  it('are free as a whole, with the last user or pin of any of their frames', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('take', 'put', 'pin', 'unpin'), fc.nat(63))), (steps) => {
        const { host } = makeHost({ frames: 64 })
        const { frames } = host
        const owner = frames.owner('a')
        /** Of each frame: users, pins, and the first frame of its huge page. */
        const naive = Array.from({ length: 64 }, () => ({ users: 0, pins: 0, head: -1 }))
        const held = (head: number) =>
          naive.filter((f) => f.head === head).reduce((n, f) => n + f.users + f.pins, 0)
        const settle = (head: number) => {
          if (held(head) === 0) for (const f of naive) if (f.head === head) f.head = -1
        }
        for (const [step, at] of steps) {
          const f = naive[at]!
          if (step === 'take') {
            const order = 1 + (at % 3)
            const has = frames.hasHuge(order, 1)
            const first = frames.allocateHuge(owner, order)
            expect(first >= 0).toBe(has)
            if (!has) continue
            expect(first % 2 ** order).toBe(0)
            for (let i = first; i < first + 2 ** order; i++) {
              expect(naive[i]).toMatchObject({ head: -1 })
              naive[i] = { users: 1, pins: 0, head: first }
            }
          } else if (step === 'put' && f.users > 0) {
            frames.put(at)
            f.users--
            settle(f.head)
          } else if (step === 'pin' && f.head >= 0) {
            frames.pin(at)
            f.pins++
          } else if (step === 'unpin') {
            expect(frames.unpin(at)).toBe(f.pins > 0)
            if (f.pins === 0) continue
            f.pins--
            settle(f.head)
          }
          expect(naive.map((n) => n.head >= 0)).toEqual(naive.map((_, i) => frames.isTaken(i)))
          expect(frames.free).toBe(naive.filter((n) => n.head < 0).length)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('ordinary and huge frames that go back in one stretch', () => {
    const { host } = makeHost({ frames: 16 })
    const { frames } = host
    const owner = frames.owner('a')
    for (let i = 0; i < 4; i++) frames.allocate(owner)
    expect([frames.allocateHuge(owner, 2), frames.allocate(owner)]).toEqual([4, 8])
    frames.pin(5)
    frames.put(0, 9)
    expect(Array.from({ length: 9 }, (_, i) => frames.isTaken(i))).toEqual([
      ...[false, false, false, false],
      ...[true, true, true, true],
      false,
    ])
    expect(frames.unpin(5)).toBe(true)
    expect(frames.free).toBe(16)
  })

  it('are the compound page of each 4 KiB page in them', () => {
    const { host } = makeHost({ frames: 8, pageShift: 16 })
    const { frames } = host
    frames.allocate(frames.owner('a'))
    expect(frames.allocateHuge(frames.owner('a'), 2)).toBe(4)
    expect([0, 15, 63, 64, 127, 128].map((page) => frames.compoundShift(page))).toEqual([
      16, 16, 16, 18, 18, 16,
    ])
  })

  it('counts those that are free in their places only', () => {
    const { host } = makeHost({ frames: 16 })
    const { frames } = host
    const owner = frames.owner('a')
    for (let i = 0; i < 5; i++) frames.allocate(owner)
    expect([frames.hasHuge(2, 2), frames.hasHuge(2, 3), frames.hasHuge(3, 1), frames.hasHuge(4, 1)]).toEqual([
      true,
      false,
      true,
      false,
    ])
  })
})
