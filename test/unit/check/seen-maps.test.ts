import { describe, expect, it } from 'vitest'
import { FindingList } from '../../../src/check/finding-list.ts'
import { SeenMaps } from '../../../src/check/seen-maps.ts'
import { WindowShadows } from '../../../src/check/window-shadow.ts'
import { NONE, FLUSH_SCOPE as SCOPE } from '../../../src/trace/event-codes.ts'
import { RecordLog } from '../../../src/trace/record-log.ts'

/** Records of one domain and its unit, and what is found in them. */
class Story {
  readonly log = new RecordLog()
  readonly list = new FindingList()

  constructor() {
    const maps = new SeenMaps(this.list, (log) => ({ log, windows: new WindowShadows() }))
    this.log.subscribe({ kinds: SeenMaps.KINDS, see: (log, seq) => maps.see(log, seq) })
  }

  map(iova: bigint, gpa: bigint, bytes = 0x1000n, perm = 3, how = 0, domain = 5): this {
    this.log.emit('domain.map', null, { domain, iova, bytes, gpa, perm, how })
    return this
  }

  unmap(iova: bigint, bytes = 0x1000n, domain = 5, how = 0): this {
    this.log.emit('domain.unmap', null, { domain, iova, bytes, how })
    return this
  }

  fill(iova: bigint, target: bigint, shift = 12, perm = 3): this {
    const entry = { unit: 'vtd', cache: 1, entry: 1, source: 0x20, domain: 5, pasid: NONE }
    this.log.emit('vtd.fill', null, { ...entry, iova, shift, target, perm })
    return this
  }

  flush(scope: number, iova = 0n, bytes = 0n, domain = 5): this {
    const rest = { unit: 'vtd', source: 0, pasid: NONE, hint: 0, line: 0 }
    this.log.emit('domain.flush', null, { ...rest, scope, domain, iova, bytes })
    return this
  }

  root(): this {
    this.log.emit('vtd.root', null, { unit: 'vtd', address: 0n, mode: 0, enabled: 1, line: 0 })
    return this
  }

  word(): this {
    this.log.emit('vtd.word', null, { unit: 'vtd', address: 0n, before: 1n, after: 0n, line: 0 })
    return this
  }
}

const A = 0x20_0000n
const B = 0x30_0000n
const story = () => new Story()

describe('an address that leads elsewhere', () => {
  it.each<[string, Story]>([
    ['mapped anew', story().map(0x1000n, A).map(0x1000n, B)],
    ['unmapped and mapped anew', story().map(0x1000n, A).unmap(0x1000n).map(0x1000n, B)],
    [
      'flushed before it was unmapped',
      story().map(0x1000n, A).flush(SCOPE.ALL).unmap(0x1000n).map(0x1000n, B),
    ],
    [
      'flushed before it was last seen',
      story().map(0x1000n, A).flush(SCOPE.DOMAIN).fill(0x1000n, A).map(0x1000n, B),
    ],
    [
      'another page flushed',
      story().map(0x1000n, A).unmap(0x1000n).flush(SCOPE.PAGES, 0x2000n, 0x1000n).map(0x1000n, B),
    ],
    [
      'another domain flushed',
      story().map(0x1000n, A).unmap(0x1000n).flush(SCOPE.DOMAIN, 0n, 0n, 6).map(0x1000n, B),
    ],
    [
      'only the TLB of the device flushed',
      story().map(0x1000n, A).unmap(0x1000n).flush(SCOPE.DEVICE_TLB).map(0x1000n, B),
    ],
    ['by what enters the IOTLB', story().fill(0x1000n, A).fill(0x1000n, B)],
    ['with fewer rights', story().map(0x1000n, A).map(0x1000n, A, 0x1000n, 1)],
    ['part of a range', story().map(0x1000n, A, 0x4000n).unmap(0x1000n, 0x4000n).map(0x3000n, B)],
    ['part of a large page', story().fill(0x20_0000n, A, 21).map(0x20_3000n, B)],
    ['a large page over a small one', story().map(0x20_3000n, B).fill(0x20_0000n, 0x4000_0000n, 21)],
  ])('is found where no flush covers it: %s', (_what, { list }) => {
    expect(list.found.map(({ rule }) => rule)).toEqual(['stale-translation'])
  })

  it.each<[string, Story]>([
    ['everything', story().map(0x1000n, A).unmap(0x1000n).flush(SCOPE.ALL).map(0x1000n, B)],
    ['its domain', story().map(0x1000n, A).unmap(0x1000n).flush(SCOPE.DOMAIN).map(0x1000n, B)],
    ['its page', story().map(0x1000n, A).unmap(0x1000n).flush(SCOPE.PAGES, 0x1000n, 0x1000n).map(0x1000n, B)],
    ['more pages', story().fill(0x1000n, A).flush(SCOPE.PAGES, 0n, 0x4000n).fill(0x1000n, B)],
    [
      'the page that was not seen unmapped',
      story().fill(0x1000n, A).flush(SCOPE.PAGES, 0x1000n, 0x1000n).fill(0x1000n, B),
    ],
    ['a PASID of its domain', story().fill(0x1000n, A).flush(SCOPE.PASID).fill(0x1000n, B)],
    [
      'pages of a PASID',
      story().fill(0x1000n, A).flush(SCOPE.PASID_PAGES, 0x1000n, 0x1000n).fill(0x1000n, B),
    ],
    [
      'a page of the large one',
      story().fill(0x20_0000n, A, 21).flush(SCOPE.PAGES, 0x20_5000n, 0x1000n).fill(0x20_3000n, B),
    ],
  ])('is right where a flush covers it: %s', (_what, { list }) => {
    expect(list.found).toEqual([])
  })

  it.each<[string, Story]>([
    ['it leads to the same memory', story().map(0x1000n, A).unmap(0x1000n).map(0x1000n, A)],
    [
      'no line says what it allows',
      story().map(0x1000n, A, 0x1000n, 0).fill(0x1000n, A, 12, 1).map(0x1000n, A, 0x1000n, 0),
    ],
    ['it allows more', story().map(0x1000n, A, 0x1000n, 1).map(0x1000n, A)],
    [
      'a large page leads to the same',
      story().fill(0x20_0000n, 0x4000_0000n, 21).fill(0x20_3000n, 0x4000_3000n),
    ],
    ['lines are lost in between', story().map(0x1000n, A).unmap(0n, 0n, 5, 2).map(0x1000n, B)],
    ['it is of another domain', story().map(0x1000n, A).map(0x1000n, B, 0x1000n, 3, 0, 6)],
    ['the unit has other tables', story().map(0x1000n, A).root().map(0x1000n, B)],
    ['the log shows tables in memory', story().word().map(0x1000n, A).map(0x1000n, B)],
  ])('is right where %s', (_what, { list }) => {
    expect(list.found).toEqual([])
  })

  it('names what led to it, and the smallest invalidation that covers it', () => {
    const { list } = story().map(0x1000n, A).unmap(0x1000n).fill(0x1000n, B)
    const [finding] = list.found
    expect(finding).toMatchObject({ inferred: true, times: 1 })
    expect(finding?.message).toBe(
      'bus address 0x1000 of domain 5 leads to 0x300000 now, and no invalidation has covered it since it led to 0x200000: ' +
        'the IOTLB may still have that; enough is the IOTLB invalidation with low word 0x50032 and high word 0x1000',
    )
    expect(finding?.because.map(({ seq }) => seq)).toEqual([0, 1, 2])
  })

  it('is of ranges that are too large to be kept: that is said', () => {
    const { list } = story().map(0n, 0n, 0x1000_1000n)
    expect([list.found.length, list.skipped]).toEqual([0, 1])
  })
})
