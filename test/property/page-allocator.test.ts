import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Journal } from '../../src/bits/state.ts'
import { FREED, NO_PAGES, PageAllocator } from '../../src/kernel/guest/page-allocator.ts'
import { RecordLog } from '../../src/trace/record-log.ts'
import { Stage } from '../../src/trace/stage.ts'

const PAGES = 512

function allocator(journal = new Journal()) {
  const stage = new Stage(new RecordLog())
  const pages = new PageAllocator({ stage, journal, pageShift: 16, spanBytes: PAGES * 65_536 })
  return { pages, log: stage.log }
}

const op = fc.oneof(
  fc.record({ kind: fc.constant('alloc' as const), order: fc.integer({ min: 0, max: 8 }) }),
  fc.record({
    kind: fc.constant('free' as const),
    which: fc.nat(200),
    smaller: fc.integer({ min: 0, max: 2 }),
  }),
)

/** Which of `PAGES` pages are taken: the whole truth of a naive allocator. */
class Taken {
  readonly by: (number | undefined)[] = new Array(PAGES).fill(undefined)

  /** The lowest aligned place for a block. */
  place(order: number): number {
    const count = 2 ** order
    for (let page = 0; page + count <= PAGES; page += count) {
      if (this.by.slice(page, page + count).every((b) => b === undefined)) return page
    }
    return -1
  }
}

describe('the page allocator and a map of taken pages', () => {
  it('blocks are aligned, never shared, and there is one wherever there is room', () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 80 }), (ops) => {
        const { pages } = allocator()
        pages.addRange(0, PAGES)
        const taken = new Taken()
        const live: { page: number; order: number }[] = []
        for (const o of ops) {
          if (o.kind === 'alloc') {
            const page = pages.alloc(o.order, 7)
            expect(page === NO_PAGES).toBe(taken.place(o.order) === -1)
            if (page === NO_PAGES) continue
            const count = 2 ** o.order
            expect(page % count).toBe(0)
            expect(taken.by.slice(page, page + count)).toEqual(new Array(count).fill(undefined))
            taken.by.fill(page, page, page + count)
            live.push({ page, order: o.order })
          } else {
            const at = live.length === 0 ? -1 : o.which % live.length
            const block = live[at]
            if (block === undefined) continue
            const order = Math.max(0, block.order - o.smaller)
            expect(pages.free(block.page, order)).toBe(FREED.DONE)
            taken.by.fill(undefined, block.page, block.page + 2 ** order)
            live.splice(at, 1)
            for (let rest = block.order - 1; rest >= order; rest--) {
              live.push({ page: block.page + 2 ** rest, order: rest })
            }
          }
          expect(pages.freeCount).toBe(taken.by.filter((b) => b === undefined).length)
        }
        for (const { page, order } of live) expect(pages.free(page, order)).toBe(FREED.DONE)
        expect(pages.isFree(0, PAGES)).toBe(true)
        expect(pages.alloc(8, 7)).toBe(0)
      }),
      { numRuns: 300 },
    )
  })

  it('a range leaves only when all of it is free, and what lay around it stays', () => {
    fc.assert(
      fc.property(fc.nat(PAGES - 1), fc.nat(PAGES - 1), fc.nat(PAGES - 1), (a, b, held) => {
        const { pages } = allocator()
        const [first, end] = [Math.min(a, b), Math.max(a, b) + 1]
        pages.addRange(0, held)
        pages.addRange(held + 1, PAGES)
        const isFree = held < first || held >= end
        expect(pages.removeRange(first, end)).toBe(isFree)
        expect(pages.freeCount).toBe(PAGES - 1 - (isFree ? end - first : 0))
        if (!isFree) return
        pages.addRange(first, end)
        expect(pages.freeCount).toBe(PAGES - 1)
      }),
      { numRuns: 300 },
    )
  })

  it('says whose a page is, in which life, and goes back in time', () => {
    const journal = new Journal()
    journal.on = true
    const { pages, log } = allocator(journal)
    pages.addRange(0, PAGES)
    const nic = log.names.intern('nic')
    const page = pages.alloc(1, nic)
    const [mark, hash] = [journal.mark(), journal.hash]
    pages.free(page, 1)
    expect(pages.alloc(0, nic)).toBe(page)
    expect(pages.generationOf(page)).toBe(2)
    expect(log.read(log.length - 1).event).toEqual({
      kind: 'page.own',
      space: 'gpa',
      pageShift: 16,
      first: page,
      count: 1,
      owner: 'nic',
      generation: 2,
    })
    journal.rollback(mark)
    expect(journal.hash).toBe(hash)
    expect([pages.generationOf(page), pages.orderOf(page), pages.ownerOf(page)]).toEqual([1, 1, nic])
    expect(pages.free(page, 1)).toBe(FREED.DONE)
    expect(pages.free(page, 1)).toBe(FREED.NOT_ALLOCATED)
  })
})
