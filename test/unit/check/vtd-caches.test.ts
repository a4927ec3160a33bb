import { describe, expect, it } from 'vitest'
import { FLUSH_SCOPE, NONE, VTD_CACHE } from '../../../src/trace/event-codes.ts'
import { CONTEXT_AT, LEAF_TABLE, MIDDLE_TABLE, SOURCE, TOP_TABLE, VtdWorld } from './vtd-world.ts'

const IOVA = 0x4020_1000n
/** CAP of QEMU 7.2: page-selective, 2^18 pages at most, drains; bit 7 is caching mode. */
const CAP = 0x00d2_008c_2226_0206n
const CACHING = CAP | 0x80n
const LEAF = BigInt(LEAF_TABLE * 4096 + 8)
const MIDDLE = BigInt(MIDDLE_TABLE * 4096 + 8)

const entryOf = (target: bigint, perm = 3n): bigint => target | perm

describe('a second-level translation', () => {
  it('that changed and is used is stale, and the smallest invalidation is named', () => {
    const w = new VtdWorld()
    w.capabilities(CAP)
    const entry = w.cached(IOVA)
    const change = w.word(LEAF, entryOf(0x5000n), 0n)
    const use = w.translate(entry, IOVA)
    const [finding] = w.found()
    expect(w.rules()).toEqual(['stale-translation'])
    expect(finding?.message).toBe(
      '00:03.0 writes memory 0x5000 through 0x40201000 by what the IOTLB keeps for 0x40201000 of domain 5: ' +
        'the tables have changed since. Nothing was invalidated for it: it takes the invalidation of ' +
        'the IOTLB of domain 5 for 0x40201000 + 4 KiB (0x500f2 0x40201040)',
    )
    expect(finding?.because.map((e) => e.seq).slice(-2)).toEqual([change, use])
  })

  it.each([
    ['cleared', 0n, true],
    ['at another page', entryOf(0x6000n), true],
    ['with fewer rights', entryOf(0x5000n, 1n), true],
    ['as it was', entryOf(0x5000n), false],
    [
      'with what hardware ignores, and its accessed and dirty bits',
      entryOf(0x5000n) | (7n << 52n) | 0x300n,
      false,
    ],
  ])('whose entry is %s: %s', (_what, after, isStale) => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(LEAF, entryOf(0x5000n), 1n)
    w.word(LEAF, 1n, after)
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(isStale ? ['stale-translation'] : [])
  })

  it('that is given more rights need not be flushed', () => {
    const w = new VtdWorld()
    w.cached(IOVA)
    w.walk(0x4020_2000n)
    const entry = w.fill(0x4020_2000n, 0x7000n, { perm: 1 })
    w.translate(entry, 0x4020_2000n, { perm: 1, need: 1 })
    w.word(LEAF + 8n, entryOf(0x7000n, 1n), entryOf(0x7000n))
    w.translate(entry, 0x4020_2000n, { perm: 1, need: 1 })
    expect(w.rules()).toEqual([])
  })

  it('is taken by each invalidation that covers it, and nothing is judged before the wait', () => {
    const range = { iova: IOVA, bytes: 0x1000n }
    const covering = [
      [FLUSH_SCOPE.ALL, {}],
      [FLUSH_SCOPE.DOMAIN, {}],
      [FLUSH_SCOPE.PAGES, range],
      [FLUSH_SCOPE.PAGES, { ...range, hint: 1 }],
      [FLUSH_SCOPE.PAGES, { iova: 0x4000_0000n, bytes: 0x4000_0000n }],
    ] as const
    for (const [scope, options] of covering) {
      const w = new VtdWorld()
      const entry = w.cached(IOVA)
      w.word(LEAF, entryOf(0x5000n), 0n)
      w.flush(scope, options)
      w.translate(entry, IOVA)
      expect(w.rules()).toEqual([])
      w.wait()
      w.translate(entry, IOVA)
      expect([scope, w.rules()]).toEqual([scope, ['cache-survives']])
    }
  })

  it('is not taken by what is too narrow, and that shows beside it', () => {
    const range = { iova: IOVA, bytes: 0x1000n }
    const narrow = [
      [FLUSH_SCOPE.DOMAIN, { domain: 6 }, false],
      [FLUSH_SCOPE.PAGES, { ...range, iova: IOVA + 0x1000n }, true],
      [FLUSH_SCOPE.PAGES, { ...range, domain: 6 }, false],
      [FLUSH_SCOPE.CONTEXT, { domain: 6 }, false],
      [FLUSH_SCOPE.DEVICE_TLB, range, false],
      [FLUSH_SCOPE.PASID_PAGES, { ...range, pasid: 1 }, true],
    ] as const
    for (const [scope, options, isNear] of narrow) {
      const w = new VtdWorld()
      const entry = w.cached(IOVA)
      w.word(LEAF, entryOf(0x5000n), 0n)
      const flush = w.flush(scope, options)
      w.wait()
      w.translate(entry, IOVA)
      const [finding] = w.found()
      expect([scope, w.rules()]).toEqual([scope, ['stale-translation']])
      expect(finding?.because.some((e) => e.seq === flush)).toBe(isNear)
      expect(finding?.message.includes('What was invalidated since does not cover it')).toBe(isNear)
    }
  })

  it('of 2 MiB is taken by the flush of any page of it', () => {
    const w = new VtdWorld()
    w.root()
    w.context()
    w.walk(IOVA, { tables: { t2: MIDDLE_TABLE, t3: TOP_TABLE } })
    const entry = w.fill(0x4020_0000n, 0x8000_0000n, { shift: 21 })
    w.word(MIDDLE, 0x8000_0083n, 0n)
    w.flushPage(0x403f_f000n)
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(['cache-survives'])
  })

  it('by a register invalidation is done at once', () => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(LEAF, entryOf(0x5000n), 0n)
    const cause = w.register(0x108, 1n << 63n)
    w.flush(FLUSH_SCOPE.ALL, { cause })
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(['cache-survives'])
  })

  it('and by the queue when its wait is', () => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(LEAF, entryOf(0x5000n), 0n)
    const cause = w.register(0x88, 0x20n)
    w.flush(FLUSH_SCOPE.ALL, { cause })
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual([])
  })

  it('above a leaf takes a flush without the hint: a table that is remembered stays else', () => {
    const run = (hint: number) => {
      const w = new VtdWorld()
      w.capabilities(CAP)
      w.root()
      w.context()
      w.walk(IOVA)
      w.fill(0x4020_0000n, BigInt(LEAF_TABLE) << 12n, { cache: VTD_CACHE.PAGING_STRUCTURE, shift: 12 })
      const first = w.fill(IOVA, 0x5000n)
      w.translate(first, IOVA)
      w.word(MIDDLE, BigInt(LEAF_TABLE << 12) | 3n, 0x1_5003n)
      w.flush(FLUSH_SCOPE.PAGES, { iova: 0x4020_0000n, bytes: 0x20_0000n, hint })
      w.wait()
      // A unit that kept the table begins there.
      if (hint === 1) w.walk(IOVA + 0x1000n, { tables: { t1: LEAF_TABLE } })
      else w.walk(IOVA + 0x1000n, { tables: { t1: 0x15, t2: MIDDLE_TABLE, t3: TOP_TABLE } })
      w.translate(w.fill(IOVA + 0x1000n, 0x9000n), IOVA + 0x1000n)
      return w
    }
    expect(run(0).rules()).toEqual([])
    expect(run(1).rules()).toEqual(['stale-translation'])
    expect(run(1).found()[0]?.message).toContain(
      'the IOTLB of domain 5 for 0x40200000 + 2 MiB (0x500f2 0x40200009)',
    )
  })

  it('of a domain that has other tables by now is stale without a flush of the domain', () => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(CONTEXT_AT, 0x1_2001n, 0n)
    w.word(CONTEXT_AT, 0n, 0x9_2001n)
    w.flush(FLUSH_SCOPE.CONTEXT)
    w.wait()
    w.context({ lo: 0x9_2001n })
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(['stale-translation'])
    expect(w.found()[0]?.message).toContain('its domain has other tables by now')
    expect(w.found()[0]?.message).toContain('the IOTLB of domain 5 (0x50022 0x0)')
  })

  it('is found once, and counted', () => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(LEAF, entryOf(0x5000n), 0n)
    for (let i = 0; i < 3; i++) w.translate(entry, IOVA)
    expect(w.found().map((f) => f.times)).toEqual([3])
  })

  it('is not judged while translation is off', () => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(LEAF, entryOf(0x5000n), 0n)
    w.root({ enabled: 0 })
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual([])
  })
})

describe('a unit in caching mode', () => {
  it('keeps what was not there: that takes a flush when it comes', () => {
    const w = new VtdWorld()
    w.capabilities(CACHING)
    w.root()
    w.context()
    w.walk(IOVA, { fault: 6 })
    const entry = w.fill(IOVA, 0n, { perm: 0 })
    w.translate(entry, IOVA, { perm: 0, fault: 6, need: 1 })
    w.translate(entry, IOVA, { perm: 0, fault: 6, need: 1 })
    expect(w.rules()).toEqual([])
    w.word(LEAF, 0n, entryOf(0x5000n))
    w.translate(entry, IOVA, { perm: 0, fault: 6, need: 1 })
    expect(w.rules()).toEqual(['stale-translation'])
    expect(w.found()[0]?.message).toMatch(
      /^a request of 00:03.0 at 0x40201000 is refused by what the IOTLB keeps/,
    )
    expect(w.found()[0]?.message).toContain('(0x500f2 0x40201040)')
  })

  it('keeps a context entry that was not there as one of domain 0', () => {
    const run = (domain: number) => {
      const w = new VtdWorld()
      w.capabilities(CACHING)
      w.root()
      w.context({ fault: 2, lo: 0n, domain: 0 })
      w.translate(0, IOVA, { fault: 2 })
      w.word(CONTEXT_AT + 8n, 0n, 0x701n)
      w.word(CONTEXT_AT, 0n, 0x1_2001n)
      w.flush(FLUSH_SCOPE.CONTEXT, { domain })
      w.wait()
      w.translate(0, IOVA, { fault: 2 })
      return w
    }
    const wrong = run(7)
    expect(wrong.rules()).toEqual(['stale-context'])
    expect(wrong.found()[0]?.message).toContain(
      'the context-cache of 00:03.0, domain 0 (0x1800000031 0x0), then of the IOTLB of domain 7 (0x700e2 0x0)',
    )
    // Named as domain 0 it is covered: what is refused then has survived.
    expect(run(0).rules()).toEqual(['cache-survives'])
  })
})

describe('a context entry', () => {
  it('that changed is stale until it is invalidated with the domain that it had', () => {
    const run = (domain: number) => {
      const w = new VtdWorld()
      const entry = w.cached(IOVA)
      w.word(CONTEXT_AT, 0x1_2001n, 0n)
      w.flush(FLUSH_SCOPE.CONTEXT, { domain })
      w.wait()
      w.translate(entry, IOVA)
      return w
    }
    expect(run(5).rules()).toEqual([])
    expect(run(9).rules()).toEqual(['stale-context'])
    expect(run(9).found()[0]?.message).toBe(
      '00:03.0 writes memory 0x5000 through 0x40201000 by the context entry of 00:03.0 as vtd read it before it changed. ' +
        'What was invalidated since does not cover it: it takes the invalidation of ' +
        'the context-cache of 00:03.0, domain 5 (0x1800050031 0x0), then of the IOTLB of domain 5 (0x50022 0x0)',
    )
  })

  it.each([
    ['of its function', { source: SOURCE }, true],
    ['of the functions of its device', { source: 0x1d, hint: 3 }, true],
    ['of another function', { source: 0x19 }, false],
    ['of its domain', { source: NONE }, true],
    ['of all', { source: NONE, domain: NONE }, true],
  ])('is taken by the invalidation %s', (_what, options, isTaken) => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(CONTEXT_AT, 0x1_2001n, 0n)
    w.flush(FLUSH_SCOPE.CONTEXT, options)
    w.wait()
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(isTaken ? [] : ['stale-context'])
  })

  it('is as it was where only FPD of it changes, and stale where its second word does', () => {
    const w = new VtdWorld()
    const entry = w.cached(IOVA)
    w.word(CONTEXT_AT, 0x1_2001n, 0x1_2003n)
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual([])
    w.word(CONTEXT_AT + 8n, 0x501n, 0x601n)
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(['entry-order', 'stale-context'])
  })

  it('survived where a miss is answered by it, after its invalidation is complete', () => {
    const w = new VtdWorld()
    w.cached(IOVA)
    w.flush(FLUSH_SCOPE.CONTEXT)
    w.wait()
    w.walk(IOVA + 0x1000n, { tables: { t1: LEAF_TABLE } })
    w.translate(w.fill(IOVA + 0x1000n, 0x6000n), IOVA + 0x1000n)
    expect(w.rules()).toEqual(['cache-survives'])
  })

  it('below another root table is stale until all are invalidated', () => {
    const run = (isFlushed: boolean) => {
      const w = new VtdWorld()
      const entry = w.cached(IOVA)
      w.root({ address: 0x8_0000n })
      if (isFlushed) w.flush(FLUSH_SCOPE.CONTEXT, { source: NONE, domain: NONE })
      w.wait()
      w.translate(entry, IOVA)
      return w
    }
    expect(run(true).rules()).toEqual([])
    expect(run(false).rules()).toEqual(['stale-context'])
    expect(run(false).found()[0]?.message).toContain(
      'the whole context-cache (0x11 0x0), then of the whole IOTLB (0x12 0x0)',
    )
  })

  it('is not asked for interrupts', () => {
    const w = new VtdWorld()
    w.cached(IOVA)
    w.word(CONTEXT_AT, 0x1_2001n, 0n)
    w.translate(0, 0xfee0_1000n)
    expect(w.rules()).toEqual([])
  })
})

/** Scalable mode: PASID 1 of 00:03.0 is of domain 5, first-level (PGTT 1) or second-level (2). */
function scalable(pgtt: 1 | 2) {
  const w = new VtdWorld()
  w.root({ mode: 1 })
  w.context({ lo: 0x2_000dn, domain: 0 })
  const lo = pgtt === 1 ? 0x45n : 0x3_0085n
  w.pasidEntry(1, lo)
  w.walk(IOVA, { stage: pgtt, pasid: 1 })
  const entry = w.fill(IOVA, 0x5000n, { pasid: 1 })
  w.translate(entry, IOVA, { pasid: 1 })
  const at = 0x2_1040n
  return { w, entry, at, lo }
}

describe('a PASID', () => {
  it.each([1, 2] as const)(
    'whose entry (PGTT %i) changed is stale until the PASID-cache is invalidated',
    (pgtt) => {
      const run = (pasid: number) => {
        const { w, entry, at, lo } = scalable(pgtt)
        w.word(at, lo, 0n)
        w.flush(FLUSH_SCOPE.PASID_CACHE, { pasid })
        w.wait()
        w.translate(entry, IOVA, { pasid: 1 })
        return w
      }
      expect(run(1).rules()).toEqual([])
      expect(run(2).rules()).toEqual(['stale-context'])
      const last =
        pgtt === 1
          ? 'the IOTLB of PASID 0x1, domain 5 (0x100050026 0x0)'
          : 'the IOTLB of domain 5 (0x50022 0x0)'
      expect(run(2).found()[0]?.message).toContain(
        `the PASID-cache of PASID 0x1, domain 5 (0x100050017 0x0), then of ${last}`,
      )
    },
  )

  it.each([
    ['that of its PASIDs', { domain: 5 }, true],
    ['any', { domain: 0 }, true],
    ['that of its PASIDs, for another device', { domain: 5, source: 0x19 }, false],
  ])('has a context entry of no domain: it is forgotten by %s', (_what, options, isTaken) => {
    const { w, entry } = scalable(1)
    w.word(CONTEXT_AT, 0x2_000dn, 0n)
    w.flush(FLUSH_SCOPE.CONTEXT, options)
    w.wait()
    w.translate(entry, IOVA, { pasid: 1 })
    expect(w.rules()).toEqual(isTaken ? [] : ['stale-context'])
    if (isTaken) return
    expect(w.found()[0]?.message).toContain(
      'the context-cache of 00:03.0, domain 5 (0x1800050031 0x0), then of the PASID-cache of domain 5 (0x50007 0x0), ' +
        'then of the IOTLB of domain 5 (0x50022 0x0)',
    )
  })

  it('has its first-level translations taken by flushes of it, and of its domain', () => {
    const range = { iova: IOVA, bytes: 0x1000n }
    const flushes = [
      [FLUSH_SCOPE.PASID_PAGES, { ...range, pasid: 1 }, true],
      [FLUSH_SCOPE.PASID_PAGES, { ...range, pasid: 2 }, false],
      [FLUSH_SCOPE.PASID_PAGES, { ...range, pasid: 1, iova: IOVA + 0x1000n }, false],
      [FLUSH_SCOPE.PASID_PAGES, { bytes: 0n, pasid: 1 }, true],
      [FLUSH_SCOPE.PASID, { pasid: 1 }, true],
      [FLUSH_SCOPE.PASID, { pasid: 1, domain: 6 }, false],
      [FLUSH_SCOPE.DOMAIN, {}, true],
      // The manual: every first-level translation of the domain goes with any page.
      [FLUSH_SCOPE.PAGES, { ...range, iova: 0n }, true],
      [FLUSH_SCOPE.ALL, {}, true],
    ] as const
    for (const [scope, options, isTaken] of flushes) {
      const { w, entry } = scalable(1)
      w.word(LEAF, entryOf(0x5000n), 0n)
      w.flush(scope, options)
      w.wait()
      w.translate(entry, IOVA, { pasid: 1 })
      expect([scope, options, w.rules()]).toEqual([
        scope,
        options,
        [isTaken ? 'cache-survives' : 'stale-translation'],
      ])
    }
  })

  it('has its second-level translations taken by flushes of its domain, not of the PASID', () => {
    const { w, entry } = scalable(2)
    w.word(LEAF, entryOf(0x5000n), 0n)
    w.flush(FLUSH_SCOPE.PASID, { pasid: 1 })
    w.wait()
    w.translate(entry, IOVA, { pasid: 1 })
    expect(w.rules()).toEqual(['stale-translation'])
    expect(w.found()[0]?.message).toContain('the IOTLB of domain 5 for 0x40201000 + 4 KiB')
  })

  it.each([
    ['P', 0x5067n, 0x5066n, true],
    ['R/W', 0x5067n, 0x5065n, true],
    ['U/S', 0x5067n, 0x5063n, true],
    ['the address', 0x5067n, 0x7067n, true],
    ['execution', 0x5067n, 0x5067n | (1n << 63n), true],
    ['accessed and dirty', 0x5067n, 0x5007n, false],
    ['the global bit', 0x5067n, 0x5167n, false],
    ['rights it did not have', 0x5065n, 0x5067n, false],
  ])('is stale where the first-level entry loses %s', (_what, before, after, isStale) => {
    const { w, entry } = scalable(1)
    w.word(LEAF, before, after)
    w.translate(entry, IOVA, { pasid: 1 })
    expect(w.rules()).toEqual(isStale ? ['stale-translation'] : [])
    if (isStale) expect(w.found()[0]?.message).toContain('(0x100050036 0x40201040)')
  })
})

describe('a device with a TLB of its own', () => {
  function withAtc(pasid: number = NONE) {
    const w = new VtdWorld()
    w.root()
    w.context({ lo: 0x1_2005n })
    w.walk(IOVA)
    const iotlb = w.fill(IOVA, 0x5000n)
    w.translate(iotlb, IOVA, { need: 1 })
    const entry = w.fill(IOVA, 0x5000n, { cache: VTD_CACHE.DEVICE_TLB, pasid })
    w.translate(entry, IOVA, { pasid })
    return { w, entry }
  }
  const PAGE = { iova: IOVA, bytes: 0x1000n }

  it('uses what was taken back until its TLB is invalidated', () => {
    const { w, entry } = withAtc()
    w.word(LEAF, entryOf(0x5000n), 0n)
    w.flushPage(IOVA)
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(['stale-device-tlb'])
    expect(w.found()[0]?.message).toBe(
      '00:03.0 writes memory 0x5000 through 0x40201000 by what its own TLB keeps for 0x40201000 of domain 5: ' +
        'the tables have changed since. Nothing was invalidated for it: it takes the invalidation of ' +
        'the TLB of 00:03.0, 0x40201000 + 4 KiB (0x1800000003 0x40201000)',
    )
  })

  it.each([
    ['its page', FLUSH_SCOPE.DEVICE_TLB, PAGE, true],
    ['the whole space', FLUSH_SCOPE.DEVICE_TLB, {}, true],
    ['another page', FLUSH_SCOPE.DEVICE_TLB, { ...PAGE, iova: 0n }, false],
    ['another device', FLUSH_SCOPE.DEVICE_TLB, { ...PAGE, source: 0x20 }, false],
    ['a PASID', FLUSH_SCOPE.PASID_DEVICE_TLB, { ...PAGE, pasid: 1 }, false],
  ])('is told of %s', (_what, scope, options, isTold) => {
    const { w, entry } = withAtc()
    w.word(LEAF, entryOf(0x5000n), 0n)
    w.flushPage(IOVA)
    w.flush(scope, options)
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(isTold ? [] : ['stale-device-tlb'])
    w.wait()
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual([isTold ? 'cache-survives' : 'stale-device-tlb'])
  })

  it('with a PASID is told with that, or with all', () => {
    for (const [pasid, isTold] of [
      [1, true],
      [2, false],
      [NONE, true],
    ] as const) {
      const { w, entry } = withAtc(1)
      w.word(LEAF, entryOf(0x5000n), 0n)
      w.flushPage(IOVA)
      w.flush(FLUSH_SCOPE.PASID_DEVICE_TLB, { ...PAGE, pasid })
      w.translate(entry, IOVA, { pasid: 1 })
      expect(w.rules()).toEqual(isTold ? [] : ['stale-device-tlb'])
    }
  })

  it('is told of everything when its context entry changes', () => {
    const { w, entry } = withAtc()
    w.word(CONTEXT_AT, 0x1_2005n, 0n)
    w.flush(FLUSH_SCOPE.CONTEXT)
    w.flush(FLUSH_SCOPE.DOMAIN)
    w.wait()
    w.translate(entry, IOVA)
    expect(w.rules()).toEqual(['stale-device-tlb'])
    expect(w.found()[0]?.message).toContain('the TLB of 00:03.0 (0x1800000003 0x7ffffffffffff001)')
  })

  it('is flushed behind the IOTLB, never before', () => {
    const run = (...order: readonly number[]) => {
      const { w } = withAtc()
      w.word(LEAF, entryOf(0x5000n), 0n)
      for (const scope of order) w.flush(scope, PAGE)
      w.wait()
      return w
    }
    const [iotlb, device] = [FLUSH_SCOPE.PAGES, FLUSH_SCOPE.DEVICE_TLB]
    expect(run(iotlb, device).rules()).toEqual([])
    expect(run(device, iotlb, device).rules()).toEqual([])
    expect(run(iotlb, device, iotlb).rules()).toEqual([])
    const wrong = run(device, iotlb)
    expect(wrong.rules()).toEqual(['flush-order'])
    expect(wrong.found()[0]?.message).toContain('behind that it takes the invalidation of the TLB of 00:03.0')
    // Without the IOTLB's there is no order yet.
    expect(run(device).rules()).toEqual([])
  })
})

describe('a page that was mapped', () => {
  const run = (between: (w: VtdWorld) => void, owner = 'disk') => {
    const w = new VtdWorld()
    w.cached(IOVA, 0x5000n)
    w.word(LEAF, entryOf(0x5000n), 0n)
    between(w)
    w.own(5, 1, 'free')
    w.own(5, 1, owner)
    return w
  }

  it('goes to another owner only behind the wait', () => {
    expect(run((w) => w.flushPage(IOVA)).rules()).toEqual([])
    const none = run(() => {})
    expect(none.rules()).toEqual(['early-reuse'])
    expect(none.found()[0]?.message).toBe(
      'memory 0x5000 goes to disk while vtd may still reach it through 0x40201000 of domain 5: ' +
        'nothing was invalidated since, and it takes the invalidation of the IOTLB of domain 5 for 0x40201000 + 4 KiB (0x50032 0x40201040)',
    )
    const early = run((w) => {
      w.flush(FLUSH_SCOPE.DOMAIN)
    })
    expect(early.rules()).toEqual(['early-reuse'])
    expect(early.found()[0]?.message).toContain('not complete yet is the invalidation of')
  })

  it('may be freed, and may stay with whom it was mapped for while it is mapped', () => {
    expect(run(() => {}, 'free').rules()).toEqual([])
    const w = new VtdWorld()
    w.cached(IOVA, 0x5000n)
    w.own(5, 1, 'disk')
    expect(w.rules()).toEqual([])
  })

  it('is free to go when the mapping has come back', () => {
    expect(run((w) => w.word(LEAF, 0n, entryOf(0x5000n))).rules()).toEqual([])
  })

  it('as part of many is found as well', () => {
    const w = new VtdWorld()
    w.cached(IOVA, 0x5000n)
    w.word(LEAF, entryOf(0x5000n), 0n)
    w.own(0, 64, 'disk')
    expect(w.rules()).toEqual(['early-reuse'])
  })

  it('of 2 MiB is found by any of its pages', () => {
    const w = new VtdWorld()
    w.root()
    w.context()
    w.walk(IOVA, { tables: { t2: MIDDLE_TABLE, t3: TOP_TABLE } })
    w.translate(w.fill(0x4020_0000n, 0x8000_0000n, { shift: 21 }), IOVA)
    w.word(MIDDLE, 0x8000_0083n, 0n)
    w.own(0x8_0111, 1, 'disk')
    expect(w.rules()).toEqual(['early-reuse'])
  })

  it('that a device keeps goes only when its TLB is invalidated as well', () => {
    const run = (isTold: boolean) => {
      const w = new VtdWorld()
      const entry = w.cached(IOVA, 0x5000n)
      w.translate(entry, IOVA)
      w.fill(IOVA, 0x5000n, { cache: VTD_CACHE.DEVICE_TLB })
      w.word(LEAF, entryOf(0x5000n), 0n)
      w.flushPage(IOVA)
      if (isTold) w.flush(FLUSH_SCOPE.DEVICE_TLB, { iova: IOVA, bytes: 0x1000n })
      w.wait()
      w.own(5, 1, 'disk')
      return w
    }
    expect(run(true).rules()).toEqual([])
    expect(run(false).rules()).toEqual(['early-reuse'])
    expect(run(false).found()[0]?.message).toContain('while 00:03.0 may still reach it')
  })
})

describe('a page table', () => {
  const given = (between: (w: VtdWorld) => void) => {
    const w = new VtdWorld()
    w.table(LEAF_TABLE, 1)
    w.cached(IOVA)
    w.word(MIDDLE, BigInt(LEAF_TABLE << 12) | 3n, 0n)
    between(w)
    w.table(LEAF_TABLE, 0)
    return w
  }

  it('is given back only behind the wait of a flush without the hint', () => {
    expect(given((w) => w.flushPage(IOVA)).rules()).toEqual([])
    expect(given(() => {}).rules()).toEqual(['early-reuse'])
    expect(given((w) => w.flushPage(IOVA, 1)).rules()).toEqual(['early-reuse'])
    expect(given((w) => w.flushPage(IOVA, 1)).found()[0]?.message).toContain(
      'the page table at 0x14000 of domain 5 is given back while vtd may still walk it',
    )
  })

  it('that nobody walked may go at once', () => {
    const w = new VtdWorld()
    w.cached(IOVA)
    w.table(0x77, 1)
    w.table(0x77, 0)
    expect(w.rules()).toEqual([])
  })

  it('at the top goes when the context entry that led there is gone', () => {
    const run = (isFlushed: boolean) => {
      const w = new VtdWorld()
      w.cached(IOVA)
      w.word(CONTEXT_AT, 0x1_2001n, 0n)
      if (isFlushed) w.flush(FLUSH_SCOPE.CONTEXT)
      w.flush(FLUSH_SCOPE.DOMAIN)
      w.wait()
      w.table(TOP_TABLE, 0)
      return w
    }
    expect(run(true).rules()).toEqual([])
    expect(run(false).rules()).toEqual(['early-reuse'])
  })

  it('that was given back is walked no more, unless it is one again', () => {
    const run = (isAgain: boolean) => {
      const w = given((v) => v.flushPage(IOVA))
      if (isAgain) w.table(LEAF_TABLE, 1)
      w.walk(IOVA, { tables: { t1: LEAF_TABLE } })
      return w
    }
    expect(run(true).rules()).toEqual([])
    expect(run(false).rules()).toEqual(['freed-table-walked'])
    expect(run(false).found()[0]?.message).toBe(
      'vtd walks the page at 0x14000 for 00:03.0 at 0x40201000, which is no page table any more: it was given back',
    )
  })
})
