import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AllocRequest, NO_HANDLE } from '../../src/kernel/guest/alloc-request.ts'
import { FAIL, LARGE_POOL } from '../../src/kernel/guest/iommu-table.ts'
import { testTable } from '../support/test-table.ts'

/**
 * The allocator once more, as its description reads: a list of booleans, searched place by place. Numbers are
 * bigint and wrap at 64 bits where the description says so.
 */
class NaiveTable {
  readonly used: boolean[]
  readonly hints: number[] = []
  readonly pools: { start: number; end: number }[] = []
  readonly large: { start: number; end: number }
  readonly poolCount: number
  readonly offset: bigint
  readonly entries: number
  /** The limit of a search wraps at 64 bits. */
  readonly wraps: boolean
  largeHint: number

  constructor(
    entries: number,
    offset: bigint,
    pageShift: number,
    { reserved, wraps }: { reserved: { start: number; end: number }; wraps: boolean },
  ) {
    this.entries = entries
    this.wraps = wraps
    this.offset = offset
    this.used = new Array(entries).fill(false)
    if (offset === 0n) this.used[0] = true
    for (let e = 0; e < entries; e++) {
      const absolute = Number(offset) + e
      if (absolute >= reserved.start && absolute < reserved.end) this.used[e] = true
    }
    this.poolCount = entries * 2 ** pageShift >= 2 ** 30 ? 4 : 1
    const poolsize = Math.floor(Math.floor((entries * 3) / 4) / this.poolCount)
    for (let i = 0; i < this.poolCount; i++) {
      this.pools.push({ start: i * poolsize, end: (i + 1) * poolsize })
      this.hints.push(i * poolsize)
    }
    this.large = { start: this.poolCount * poolsize, end: entries }
    this.largeHint = this.large.start
  }

  rangeAlloc(
    npages: number,
    request: { handle: number; mask: bigint; alignOrder: number; boundary: bigint; cpu: number },
  ): { slot: number; handle: number; isLost?: boolean } {
    const failed = { slot: -1, handle: request.handle }
    if (npages === 0) return failed
    if (this.offset > request.mask && !this.wraps) return failed
    let poolNr = [0, 1, 3, 0, 2, 3, 1, 2][request.cpu & 7]! & (this.poolCount - 1)
    const isLarge = npages > 15
    let pool = isLarge ? -1 : poolNr
    for (let pass = 0; pass <= this.poolCount + 2; pass++) {
      const { start: first, end } = pool === -1 ? this.large : this.pools[pool]!
      let start = pool === -1 ? this.largeHint : this.hints[pool]!
      if (pass === 0 && request.handle > 0 && request.handle >= first && request.handle < end)
        start = request.handle
      let limit = BigInt(end)
      if (start >= end) start = first
      if (limit + this.offset > request.mask) {
        limit = BigInt.asUintN(64, request.mask - this.offset + 1n)
        const masked = BigInt(start) & request.mask
        if (masked >= limit || pass > 0) {
          pool = 0
          start = this.pools[0]!.start
        } else start = Number(masked)
      }
      const slot = this.#search(start, limit, npages, request)
      // The search goes on behind the bitmap.
      if (slot === -1 && this.wraps && (limit === 0n || this.offset > request.mask))
        return { ...failed, isLost: true }
      if (slot !== -1) {
        for (let i = slot; i < slot + npages; i++) this.used[i] = true
        const next = isLarge ? slot + npages : Math.ceil((slot + npages) / 16) * 16
        if (pool === -1) this.largeHint = next
        else this.hints[pool] = next
        return { slot, handle: request.handle >= 0 ? slot + npages : request.handle }
      }
      if (pass === 0) {
        if (pool === -1) this.largeHint = this.large.start
        else this.hints[pool] = this.pools[pool]!.start
      } else if (pass <= this.poolCount) {
        poolNr = (poolNr + 1) % this.poolCount
        pool = poolNr
        this.hints[pool] = this.pools[pool]!.start
      } else if (pass === this.poolCount + 1) {
        pool = -1
        this.largeHint = this.large.start
      }
    }
    return failed
  }

  #search(
    start: number,
    limit: bigint,
    npages: number,
    { alignOrder, boundary }: { alignOrder: number; boundary: bigint },
  ): number {
    const most = this.wraps ? BigInt.asUintN(64, limit - 1n) : limit - 1n
    for (let n = start; BigInt(n + npages) <= most && n + npages <= this.entries; n++) {
      if (n % 2 ** alignOrder !== 0) continue
      if (this.used.slice(n, n + npages).some((u) => u)) continue
      if (((this.offset + BigInt(n)) & (boundary - 1n)) + BigInt(npages) > boundary) continue
      return n
    }
    return -1
  }
}

const shapes = fc.record({
  pageShift: fc.constantFrom(12, 16, 24, 28, 34),
  entries: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 700 })),
  window: fc.constantFrom(0n, 0n, 1n << 59n, 0x4000_0000n),
  hole: fc.record({ start: fc.integer({ min: 0, max: 800 }), length: fc.integer({ min: 0, max: 60 }) }),
  wraps: fc.boolean(),
})

const op = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('alloc' as const),
      count: fc.oneof(
        { weight: 3, arbitrary: fc.integer({ min: 0, max: 4 }) },
        fc.integer({ min: 0, max: 40 }),
      ),
      cpu: fc.integer({ min: 0, max: 7 }),
      alignOrder: fc.constantFrom(0, 0, 0, 1, 4),
      chained: fc.boolean(),
      maskBits: fc.constantFrom(64, 64, 64, 32, 30, 24, 60, 28),
      maskLow: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 2 ** 20 })),
      boundaryOrder: fc.constantFrom(20, 52, 3, 5, 6),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('free' as const), which: fc.nat(1000) }) },
)

describe('the table allocator and a linear search', () => {
  it('agree on every slot, hint and bit, whatever is asked', () => {
    fc.assert(
      fc.property(shapes, fc.array(op, { minLength: 1, maxLength: 60 }), (shape, ops) => {
        const { pageShift, entries, window, hole, wraps } = shape
        const offset = window >> BigInt(pageShift)
        const start = Number(offset) + hole.start
        const reserved = { start, end: start + hole.length }
        const table = testTable({ entries, busOffset: window, pageShift, reserved, maskWraps: wraps })
        const naive = new NaiveTable(entries, offset, pageShift, { reserved, wraps })
        const live: { slot: number; count: number }[] = []
        let handle = 0
        for (const o of ops) {
          if (o.kind === 'free') {
            const [gone] = live.length === 0 ? [] : live.splice(o.which % live.length, 1)
            if (gone === undefined) continue
            table.free(gone.slot, gone.count)
            naive.used.fill(false, gone.slot, gone.slot + gone.count)
            continue
          }
          const mask =
            o.maskBits === 60
              ? BigInt.asUintN(64, window + BigInt(o.maskLow - 4) * 4096n - 1n)
              : (1n << BigInt(o.maskBits)) - 1n
          const request = new AllocRequest().reach(
            Number(BigInt.asIntN(32, mask >> 32n)),
            Number(BigInt.asIntN(32, mask)),
            pageShift,
          )
          Object.assign(request, { cpu: o.cpu, alignOrder: o.alignOrder, boundary: 2 ** o.boundaryOrder })
          request.handle = o.chained ? handle : NO_HANDLE
          const { isLost = false, ...expected } = naive.rangeAlloc(o.count, {
            handle: request.handle,
            mask: mask >> BigInt(pageShift),
            alignOrder: o.alignOrder,
            boundary: 1n << BigInt(o.boundaryOrder),
            cpu: o.cpu,
          })
          const slot = table.rangeAlloc(o.count, request)
          expect({ slot, handle: request.handle }).toEqual(expected)
          if (isLost) return
          if (slot !== FAIL) {
            live.push({ slot, count: o.count })
            if (o.chained) handle = request.handle
          }
        }
        expect(Array.from({ length: entries }, (_, i) => table.isUsed(i))).toEqual(naive.used)
        expect(naive.hints.map((_, i) => table.hintOf(i))).toEqual(naive.hints)
        expect(table.hintOf(LARGE_POOL)).toBe(naive.largeHint)
      }),
      { numRuns: 1500 },
    )
  })
})
