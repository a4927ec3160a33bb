import { describe, expect, it } from 'vitest'
import { UA, VhostWorld } from './vhost-world.ts'

const STALE = 'stale-iotlb'
const PAGE = 0x1_0000n
/** Entry of a window of 4 KiB pages at bus address 0. */
const ENTRY = 16

/** The window of net's PHB maps PAGE to memory 0x7000000, and net has it in its IOTLB. */
function sharing() {
  const w = new VhostWorld()
  w.open({ entries: 1024 })
  w.device()
  w.own(0x7000, 1, 'guest:rx')
  w.own(0x8000, 1, 'guest:page-cache')
  w.map(ENTRY, 0x700_0003n)
  const map = w.fill(PAGE, 0x700_0000n)
  return { w, map }
}

describe('stale-iotlb behind a TCE window', () => {
  it('a whole life keeps it: map, miss, use, unmap with an invalidation inside the call', () => {
    const { w, map } = sharing()
    w.reach(map, PAGE + 0x10n)
    w.call('H_STUFF_TCE', (c) => {
      w.set({ first: ENTRY, tce: 0n }, c)
      w.drop(PAGE, PAGE + 0xfffn, { cause: c })
    })
    w.map(ENTRY, 0x800_0003n)
    w.reach(w.fill(PAGE, 0x800_0000n), PAGE)
    expect(w.rules()).toEqual([])
  })

  it('an entry that a call cleared and nobody invalidated, at the return and at its use', () => {
    const { w, map } = sharing()
    w.clear(ENTRY)
    w.map(ENTRY, 0x800_0003n)
    w.reach(map, PAGE + 0x10n)
    w.reach(map, PAGE + 0x20n)
    const [held, used] = w.found()
    expect(held?.message).toBe(
      'net still reaches 4 KiB of memory at 0x7000000 (guest:rx 4 KiB) after H_STUFF_TCE returned: ' +
        '1 map of its IOTLB, from bus address 0x10000 on; still there at the end, 6 records after the change, used 2 times',
    )
    expect(used?.message).toBe(
      'net wrote 64 bytes to memory 0x7000010 of guest:rx through bus address 0x10010, which H_STUFF_TCE took away 5 records before',
    )
    expect([held?.rule, held?.times, used?.rule, used?.times]).toEqual([STALE, 1, STALE, 2])
    const kinds = (at: number) => w.found()[at]?.because.map(({ seq }) => w.log.kindOf(seq))
    expect(kinds(0)).toEqual(['iotlb.fill', 'tce.set', 'call.return'])
    expect(kinds(1)).toEqual(['iotlb.fill', 'tce.set', 'call.return', 'iotlb.use'])
  })

  it('an entry that is overwritten', () => {
    const { w, map } = sharing()
    w.map(ENTRY, 0x800_0003n)
    w.reach(map, PAGE)
    expect(w.found().filter((f) => f.rule === STALE)).toHaveLength(2)
  })

  it('an entry that is written as it was is none', () => {
    const { w, map } = sharing()
    w.map(ENTRY, 0x700_0003n)
    w.reach(map, PAGE)
    expect(w.messages(STALE)).toEqual([])
  })

  it('an entry that loses a right', () => {
    const { w } = sharing()
    w.map(ENTRY, 0x700_0001n)
    expect(w.messages(STALE)).toHaveLength(1)
  })

  it('an invalidation that comes late says for how long memory could be reached', () => {
    const { w } = sharing()
    w.clear(ENTRY)
    w.log.tick += 3
    w.drop(PAGE, PAGE + 0xfffn)
    expect(w.messages(STALE)[0]).toMatch(/; gone 3 ticks after the change, never used$/)
  })

  it('a mapping that comes back makes it right again', () => {
    const { w, map } = sharing()
    w.clear(ENTRY)
    w.map(ENTRY, 0x700_0003n)
    w.reach(map, PAGE)
    const messages = w.messages(STALE)
    expect(messages).toHaveLength(1)
    expect(messages[0]).toMatch(/; right again 3 records after the change, never used$/)
  })

  it('other entries, other units and other IOTLBs have nothing to do with it', () => {
    const { w, map } = sharing()
    w.open({ window: 2, liobn: 0x8000_0100, unit: 'phb1', entries: 1024 })
    w.clear(ENTRY + 1)
    w.clear(ENTRY, 1, 2)
    w.reach(map, PAGE)
    expect(w.rules()).not.toContain(STALE)
  })

  it('one finding for all maps that a call leaves behind, and a window that closes leaves all', () => {
    const { w } = sharing()
    w.map(ENTRY + 1, 0x800_0003n)
    w.fill(PAGE + 0x1000n, 0x800_0000n)
    w.call('ibm,remove-pe-dma-window', (c) =>
      w.log.emit('window.close', c, { window: 1, liobn: 0x8000_0000, why: 'remove' }),
    )
    expect(w.messages(STALE)).toEqual([
      'net still reaches 8 KiB of memory at 0x7000000 and elsewhere (guest:rx 4 KiB, guest:page-cache 4 KiB) after ' +
        'ibm,remove-pe-dma-window returned: 2 maps of its IOTLB, from bus address 0x10000 on; still there at the end, 1 record after the change, never used',
    ])
  })

  it('a new IOTLB has nothing of the old one', () => {
    const { w } = sharing()
    w.iotlb(2)
    w.clear(ENTRY)
    expect(w.messages(STALE)).toEqual([])
  })

  it('an evicted map is gone, and a full drop whose last lies before its start drops what Linux drops', () => {
    const { w, map } = sharing()
    w.log.emit('iotlb.evict', null, { iotlb: 1, map, iova: PAGE, last: PAGE + 0xfffn })
    const other = w.fill(PAGE, 0x700_0000n)
    w.drop(0n, (1n << 64n) - 1n)
    w.clear(ENTRY)
    expect([other, w.messages(STALE)]).toEqual([2, []])
  })

  it('what a log does not show cannot be judged', () => {
    const { w } = sharing()
    w.map(ENTRY, 0n, { how: 2 })
    expect(w.messages(STALE)).toEqual([])
    expect(w.judge.verdicts().find(({ rule }) => rule === STALE)?.skipped).toBe(1)
  })
})

describe('stale-iotlb behind page tables', () => {
  function attached(ats = 0) {
    const w = new VhostWorld()
    w.device()
    w.attach(5, ats)
    w.mapDomain(5, PAGE, 0x700_0000n)
    return { w, map: w.fill(PAGE, 0x700_0000n) }
  }

  it('strict: unmap, page flush with its invalidation, wait', () => {
    const { w } = attached()
    w.unmapDomain(5, PAGE)
    w.flush(3, { iova: PAGE, bytes: 0x1000n })
    w.drop(PAGE, PAGE + 0xfffn)
    w.wait()
    expect(w.rules()).toEqual([])
  })

  it('lazy: until the flush is done the device may use what was there', () => {
    const { w, map } = attached()
    w.unmapDomain(5, PAGE)
    w.reach(map, PAGE)
    w.flush(2)
    w.reach(map, PAGE)
    expect(w.messages(STALE)).toEqual([])
  })

  it('a domain flush that reaches no one', () => {
    const { w, map } = attached()
    w.unmapDomain(5, PAGE)
    w.flush(2)
    w.wait()
    w.mapDomain(5, PAGE + 0x1000n, 0x700_0000n)
    w.fill(PAGE + 0x1000n, 0x700_0000n)
    w.reach(map, PAGE)
    expect(w.messages(STALE)).toEqual([
      'net still reaches 4 KiB of memory at 0x7000000 after the flush was done: 1 map of its IOTLB, from bus address 0x10000 on; ' +
        'still there at the end, 5 records after the change, used 1 time',
      'net wrote 64 bytes to memory 0x7000000 through bus address 0x10000, which was taken away 5 records before; ' +
        'the same memory is bus address 0x11000 by now',
    ])
    const kinds = w
      .found()
      .at(-1)
      ?.because.map(({ seq }) => w.log.kindOf(seq))
    expect(kinds).toEqual(['iotlb.fill', 'domain.unmap', 'domain.flush', 'iotlb.fill', 'iotlb.use'])
  })

  it.each([
    ['of another domain', 0, 2, { domain: 6 }, 0],
    ['of other pages', 0, 3, { iova: PAGE + 0x1000n, bytes: 0x1000n }, 0],
    ['of everything', 0, 1, {}, 1],
    ['of the context entry alone', 0, 5, {}, 0],
    ['of the domain, where the device has a TLB of its own', 1, 2, {}, 0],
    ['of that TLB', 1, 4, {}, 1],
    ['of the TLB of another device', 1, 4, { source: 0x200 }, 0],
    ['of a TLB that it has not', 0, 4, {}, 0],
  ] as const)('a flush %s', (_what, ats, scope, options, findings) => {
    const { w } = attached(ats)
    w.unmapDomain(5, PAGE)
    w.flush(scope, options)
    w.wait()
    expect(w.messages(STALE)).toHaveLength(findings)
  })

  it('what is mapped as before by the time of the wait is right', () => {
    const { w } = attached()
    w.unmapDomain(5, PAGE)
    w.flush(2)
    w.mapDomain(5, PAGE, 0x700_0000n)
    w.wait()
    expect(w.messages(STALE)).toEqual([])
  })

  it('what translations show is inferred', () => {
    const { w } = attached()
    w.unmapDomain(5, PAGE, { how: 1 })
    w.flush(2)
    w.wait()
    expect(w.found().map((f) => [f.rule, f.inferred])).toEqual([[STALE, true]])
  })
})

describe('iotlb-mismatch', () => {
  const RULE = 'iotlb-mismatch'

  it.each([
    ['other memory', 0x900_0003n, 'the table leads to other memory'],
    ['an entry that is empty', 0n, 'the table has nothing there'],
  ])('%s', (_what, tce, text) => {
    const w = new VhostWorld()
    w.open({ entries: 1024 })
    w.device()
    w.map(ENTRY, 0x700_0003n)
    w.map(ENTRY, tce)
    w.fill(PAGE, 0x700_0000n)
    expect(w.messages(RULE)).toEqual([`net is given bus address 0x10000: ${text}`])
  })

  it('fewer rights than the entry gives are none', () => {
    const { w } = sharing()
    w.fill(PAGE, 0x700_0000n, { perm: 1 })
    expect(w.messages(RULE)).toEqual([])
  })

  it.each([
    ['behind a table', (w: VhostWorld, perm: number) => w.map(ENTRY, 0x700_0000n | BigInt(perm))],
    ['behind page tables', (w: VhostWorld, perm: number) => w.mapDomain(5, PAGE, 0x700_0000n, { perm })],
  ] as const)('%s: rights that the IOMMU does not give, where they are used', (what, grant) => {
    const w = new VhostWorld()
    w.open({ entries: 1024 })
    w.device()
    if (what === 'behind page tables') w.attach(5)
    grant(w, 1)
    const map = w.fill(PAGE, 0x700_0000n)
    w.reach(map, PAGE, { write: 0 })
    // The same again is no change.
    grant(w, 1)
    expect(w.judge.findings).toEqual([])
    w.reach(map, PAGE + 8n)
    w.reach(map, PAGE + 16n)
    grant(w, 3)
    w.reach(map, PAGE)
    const findings = w.found().filter(({ rule }) => rule === RULE || rule === STALE)
    expect(findings.map(({ message, times }) => [message, times])).toEqual([
      [
        'net wrote 64 bytes to memory 0x7000008 through bus address 0x10008, where the IOMMU lets it read: its IOTLB lets it read and write',
        2,
      ],
    ])
  })

  it('page tables lead elsewhere', () => {
    const w = new VhostWorld()
    w.device()
    w.attach(5)
    w.mapDomain(5, PAGE, 0x800_0000n)
    w.fill(PAGE, 0x700_0000n)
    expect(w.messages(RULE)).toEqual([
      'net is given bus address 0x10000: the page tables lead to other memory',
    ])
  })

  it('page tables: nothing there, where what software maps is seen; else nobody knows', () => {
    const w = new VhostWorld()
    w.device()
    w.attach(5)
    w.fill(PAGE, 0x700_0000n)
    expect(w.judge.verdicts().find(({ rule }) => rule === RULE)?.skipped).toBe(1)
    w.mapDomain(5, PAGE + 0x5000n, 0n)
    w.fill(PAGE + 0x1000n, 0x700_0000n)
    expect(w.messages(RULE)).toEqual(['net is given bus address 0x11000: the page tables have nothing there'])
  })
})

describe('iotlb-mismatch of many pages', () => {
  it('rights that are always given are one finding for each IOTLB', () => {
    const w = new VhostWorld()
    w.device()
    w.attach(5)
    for (let page = 0n; page < 3n; page++) {
      w.mapDomain(5, PAGE + page * 0x1000n, 0x700_0000n, { perm: 1 })
      w.reach(w.fill(PAGE + page * 0x1000n, 0x700_0000n), PAGE + page * 0x1000n)
    }
    expect(w.found().map((f) => [f.rule, f.times])).toEqual([['iotlb-mismatch', 3]])
  })
})

describe('stale-metadata', () => {
  const RULE = 'stale-metadata'

  it.each([
    [
      'a map that is gone',
      (w: VhostWorld, map: number) => {
        w.drop(PAGE, PAGE + 0xfffn)
        w.reach(map, PAGE, { part: 7, write: 1 })
      },
      'map 1, which its IOTLB does not have any more',
    ],
    [
      'an address behind its map',
      (w: VhostWorld, map: number) => w.reach(map, PAGE + 0xff0n, { part: 5, ua: UA }),
      'map 1, which ends at 0x10fff and begins at 0x10000',
    ],
  ] as const)('%s', (_what, act, why) => {
    const { w, map } = sharing()
    act(w, map)
    const [message] = w.messages(RULE)
    expect(message).toMatch(/^net writes 64 bytes at bus address 0x10[0-9a-f]{3} through a pointer of /)
    expect(message?.endsWith(why)).toBe(true)
  })

  it('a ring inside its map is right', () => {
    const { w, map } = sharing()
    w.reach(map, PAGE + 0xfc0n, { part: 6 })
    expect(w.messages(RULE)).toEqual([])
  })
})
