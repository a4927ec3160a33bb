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
