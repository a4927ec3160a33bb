import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BuddyAllocator } from '../../src/kernel/process/buddy-allocator.ts'
import { PhysicalMemory } from '../../src/memory/physical-memory.ts'
import { makeHost } from '../support/host.ts'

const make = ({ first = 256, pages = 4096, journal = false } = {}) => {
  const made = makeHost({ frames: first + pages, journal })
  const memory = new PhysicalMemory(made.host.memory)
  const { stage } = made
  return {
    ...made,
    memory,
    buddy: new BuddyAllocator({ stage, journal: made.journal, memory, first, pages }),
  }
}

describe('BuddyAllocator', () => {
  it('hands out the lowest memory first, and what was freed last before anything else', () => {
    const { buddy } = make()
    const taken = [0, 1, 2, 3].map(() => buddy.allocate(0, 'me'))
    expect(taken).toEqual([256, 257, 258, 259])
    buddy.free(257, 0)
    buddy.free(259, 0)
    expect([0, 1, 2].map(() => buddy.allocate(0, 'me'))).toEqual([259, 257, 260])
  })

  it('aligns a block to its size', () => {
    const { buddy } = make({ first: 257 })
    for (const order of [3, 8, 5, 10, 1]) expect(buddy.allocate(order, 'me') % 2 ** order).toBe(0)
  })

  // PSS 19 wants order 8 as it should be, 11 without the bound of 0x20000 entries, and 14 by the old computation.
  it.each([
    [8, true],
    [10, true],
    [11, false],
    [14, false],
  ])('has a block of order %d: %s', (order, has) => {
    expect(make().buddy.allocate(order, 'me') >= 0).toBe(has)
  })

  it('a block that is freed becomes one with its buddies; single pages do so once somebody needs it', () => {
    const { buddy } = make({ first: 1024, pages: 1024 })
    const singles = Array.from({ length: 1024 }, () => buddy.allocate(0, 'me'))
    expect(buddy.allocate(0, 'me')).toBe(-1)
    for (const page of singles) buddy.free(page, 0)
    expect(buddy.freePages).toBe(1024)
    expect(buddy.allocate(10, 'me')).toBe(1024)
  })

  it('zeroes what it hands out, and leaves the bytes of what is freed', () => {
    const { buddy, memory } = make()
    const page = buddy.allocate(0, 'me')
    const bytes = new Uint8Array([1, 2, 3])
    memory.writePage(page, 8, bytes, 0, 3)
    buddy.free(page, 0)
    const found = new Uint8Array(3)
    memory.readPage(page, 8, found, 0, 3)
    expect([...found]).toEqual([1, 2, 3])
    expect(buddy.allocate(0, 'me')).toBe(page)
    memory.readPage(page, 8, found, 0, 3)
    expect([...found]).toEqual([0, 0, 0])
  })

  it('a page is free with its last user, and counts its lives', () => {
    const { buddy } = make()
    const page = buddy.allocate(0, 'me')
    buddy.get(page)
    buddy.put(page)
    expect([buddy.usersOf(page), buddy.generationOf(page)]).toEqual([1, 1])
    buddy.put(page)
    expect(buddy.usersOf(page)).toBe(0)
    expect([buddy.allocate(0, 'you'), buddy.generationOf(page)]).toEqual([page, 2])
  })

  it.each([
    ['twice', 0],
    ['in another size', 1],
  ])('sees a block that is freed %s', (_how, order) => {
    const { buddy } = make()
    const page = buddy.allocate(0, 'me')
    if (order === 0) buddy.free(page, 0)
    expect(() => buddy.free(page, order)).toThrow('is taken')
  })

  it('blocks never overlap, all is free again in the end, and it goes back', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ order: fc.integer({ min: 0, max: 11 }) }) },
      { weight: 2, arbitrary: fc.record({ which: fc.nat() }) },
    )
    const shape = fc.record({
      first: fc.integer({ min: 1, max: 1500 }),
      pages: fc.integer({ min: 1, max: 3000 }),
    })
    fc.assert(
      fc.property(shape, fc.array(step, { maxLength: 80, size: 'max' }), ({ first, pages }, steps) => {
        const { buddy, journal } = make({ first, pages, journal: true })
        const start = { mark: journal.mark(), hash: journal.hash }
        const owner = new Map<number, number>()
        const blocks: [page: number, order: number][] = []
        let free = pages
        for (const s of steps) {
          if ('which' in s) {
            const [block] = blocks.splice(blocks.length === 0 ? 0 : s.which % blocks.length, 1)
            if (block === undefined) continue
            const [page, order] = block
            buddy.free(page, order)
            for (let at = page; at < page + 2 ** order; at++) owner.delete(at)
            free += 2 ** order
          } else {
            const page = buddy.allocate(s.order, 'me')
            if (page < 0) {
              expect(s.order > 0 || free === 0).toBe(true)
              continue
            }
            expect(page % 2 ** s.order).toBe(0)
            expect(page >= first && page + 2 ** s.order <= first + pages).toBe(true)
            for (let at = page; at < page + 2 ** s.order; at++) {
              expect(owner.has(at)).toBe(false)
              owner.set(at, page)
            }
            blocks.push([page, s.order])
            free -= 2 ** s.order
          }
          expect(buddy.freePages).toBe(free)
        }
        for (const [page, order] of blocks) buddy.free(page, order)
        expect(buddy.freePages).toBe(pages)
        // Nothing is lost: the largest block that was there at first can be had again.
        let most = 10
        const holds = (order: number) => {
          const at = Math.ceil(first / 2 ** order) * 2 ** order
          return at + 2 ** order <= first + pages
        }
        while (!holds(most)) most--
        expect(buddy.allocate(most, 'me')).toBeGreaterThanOrEqual(0)
        journal.rollback(start.mark)
        expect([journal.hash, buddy.freePages]).toEqual([start.hash, pages])
      }),
      { numRuns: 60 },
    )
  })
})
