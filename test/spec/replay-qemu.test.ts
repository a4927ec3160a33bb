import { describe, expect, it } from 'vitest'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import { isClean, type ReplayResult } from '../../src/machine/replay/result.ts'

const L = 'liobn=0x80000000'
const NEW = `spapr_iommu_new_table ${L} table=0x5618057df0a0 fd=-1`
const CLEAR = `spapr_iommu_pci_stuff ${L} ioba=0x40000000 tcevalue=0x0 npages=262144 ret=0`
const put = (ioba: number, tce: number, ret = 0) =>
  `spapr_iommu_pci_put ${L} ioba=0x${ioba.toString(16)} tce=0x${tce.toString(16)} ret=${ret}`
const xlate = (offset: number, gpa: number, perm: number, mask = 0xfff) =>
  `spapr_iommu_xlate ${L} 0x${offset.toString(16)} -> 0x${gpa.toString(16)} perm=${perm} mask=0x${mask.toString(16)}`
const unmap = (end: number, pages: number) =>
  `spapr_iommu_pci_stuff ${L} ioba=0x${end.toString(16)} tcevalue=0x0 npages=${pages} ret=0`
const list = (ioba: number, last: number, tce: number, ret = 0) =>
  `spapr_iommu_pci_indirect ${L} ioba=0x${ioba.toString(16)} tcelist=0x21e0000 iobaN=0x${last.toString(16)} tceN=0x${tce.toString(16)} ret=${ret}`
const DDW =
  'buid=0x800000020000000 addr=0x0, page size=0x1000000, requested=0x40000000, start addr=0x800000000000000, liobn=0x80000001'

function replay(lines: readonly string[], profile = 'qemu-7.2'): ReplayResult {
  const running = createReplay({ from: 'qemu-trace', profile, source: 'test' })
  running.push(new TextEncoder().encode(`${lines.join('\n')}\n`))
  return running.end()
}
const rules = (r: ReplayResult) => r.findings.map((f) => f.rule)

describe('a log that a right machine wrote', () => {
  const good = [NEW, CLEAR, put(0x1000, 0x48cc001), xlate(0x1110, 0x48cc000, 1), unmap(0x2000, 1)]

  it('is clean', () => {
    const r = replay(good)
    expect(r.answers).toEqual({ total: 3, matched: 3, diverged: 0, unjudged: 0 })
    expect(r.translations).toMatchObject({ total: 1, explained: 1, unexplained: 0 })
    expect(r.findings).toEqual([])
    expect(isClean(r)).toBe(true)
  })

  it('vector T25: H_STUFF_TCE is traced with the bus address behind its range', () => {
    const stuffed = `spapr_iommu_pci_stuff ${L} ioba=0x13000 tcevalue=0x0 npages=3 ret=0`
    const r = replay([NEW, CLEAR, put(0x10000, 0x7000003), xlate(0x10010, 0x7000000, 3), stuffed])
    expect(r.answers).toEqual({ total: 3, matched: 3, diverged: 0, unjudged: 0 })
    expect([r.findings, r.divergences]).toEqual([[], []])
    // The page is gone: read as if it began there, the call would have left it.
    const later = replay([NEW, CLEAR, put(0x10000, 0x7000003), stuffed, xlate(0x10010, 0, 0)])
    expect(later.translations).toMatchObject({ total: 1, explained: 1, unexplained: 0 })
  })

  // One fault planted in a line that was good: each must be seen, and as what it is.
  it.each<[string, string[], (r: ReplayResult) => void]>([
    [
      'another answer',
      [NEW, CLEAR, put(0x1000, 0x48cc001, -4)],
      (r) =>
        expect(r.divergences[0]).toMatchObject({ line: 3, what: 'answer', log: 'ret=-4', model: 'ret=0' }),
    ],
    [
      'success past the end that the clearing of the window showed',
      [NEW, CLEAR, put(0x4000_0000, 0x1001)],
      (r) => expect(r.answers).toMatchObject({ matched: 1, diverged: 1 }),
    ],
    [
      'success past the end that a refusal showed',
      [NEW, put(0x4000_0000, 0x1001, -4), put(0x5000_0000, 0x1001)],
      (r) => expect(r.answers).toMatchObject({ matched: 1, diverged: 1 }),
    ],
    [
      'success past the end of the largest default window',
      [NEW, put(0x1_0000_0000, 0x1001)],
      (r) => expect(r.answers).toMatchObject({ matched: 0, diverged: 1 }),
    ],
    [
      'another page in a translation',
      [NEW, put(0x1000, 0x48cc001), xlate(0x1110, 0x48cd000, 1)],
      (r) => expect(r.divergences[0]).toMatchObject({ line: 3, what: 'translation', rule: 'entry-differs' }),
    ],
    [
      'other permissions in a translation',
      [NEW, put(0x1000, 0x48cc001), xlate(0x1110, 0x48cc000, 3)],
      (r) => expect(r.translations).toMatchObject({ explained: 0, unexplained: 1 }),
    ],
    [
      'a mask of another page size',
      [NEW, put(0x1000, 0x48cc001), xlate(0x1110, 0x48cc000, 1, 0xffff)],
      (r) => expect(r.translations).toMatchObject({ explained: 0, unexplained: 1 }),
    ],
    [
      'memory reached after the unmap',
      [...good, xlate(0x1110, 0x48cc000, 1)],
      (r) => {
        expect(r.divergences[0]).toMatchObject({ line: 6, rule: 'entry-not-mapped' })
        expect(rules(r)).toEqual(['use-after-unmap'])
        expect(r.findings[0]?.because.map((b) => b.line)).toEqual([3, 5, 6])
      },
    ],
    [
      'a refused access after the unmap',
      [...good, xlate(0x1110, 0, 0)],
      (r) => {
        expect(r.translations).toMatchObject({ explained: 2, unexplained: 0 })
        expect(rules(r)).toEqual(['use-after-unmap'])
      },
    ],
    [
      'an access to what was never mapped',
      [NEW, CLEAR, xlate(0x5000, 0, 0)],
      (r) => expect(rules(r)).toEqual(['dma-not-granted']),
    ],
    [
      'a live entry overwritten',
      [NEW, CLEAR, put(0x1000, 0x48cc001), put(0x1000, 0x48cd003)],
      (r) => expect(rules(r)).toEqual(['double-map']),
    ],
    ['an unmap of nothing', [...good, unmap(0x2000, 1)], (r) => expect(rules(r)).toEqual(['unmap-miss'])],
    [
      'a window query that counts wrong',
      [
        NEW,
        'spapr_iommu_ddw_query buid=0x800000020000000 addr=0x0, 2 windows available, max window size=0x80000000, mask=0x107',
      ],
      (r) => expect(r.answers).toMatchObject({ matched: 0, diverged: 1 }),
    ],
    [
      'a window at another address',
      [NEW, `spapr_iommu_ddw_create ${DDW.replace('start addr=0x8', 'start addr=0x4')}`],
      (r) => expect(r.answers).toMatchObject({ matched: 0, diverged: 1 }),
    ],
    [
      'the removal of a window that is not there',
      [NEW, 'spapr_iommu_ddw_remove liobn=0x80000001'],
      (r) => expect(r.answers).toMatchObject({ matched: 0, diverged: 1 }),
    ],
  ])('sees %s', (_what, lines, check) => {
    const r = replay(lines)
    check(r)
    expect(isClean(r)).toBe(false)
  })
})

describe('what a log does not show', () => {
  it('entries of a list are inferred, and confirmed by translations; the last one is known', () => {
    const r = replay([
      NEW,
      CLEAR,
      list(0x3000_0000, 0xf, 0x21af003),
      xlate(0x3000_1002, 0x21a1000, 3),
      xlate(0x3000_f000, 0x21af000, 3),
      xlate(0x3000_1004, 0x21a1000, 3),
    ])
    expect(r.translations).toEqual({
      total: 3,
      explained: 2,
      inferred: 1,
      learned: 0,
      unexplained: 0,
      unjudged: 0,
    })
    expect(r.entries).toMatchObject({ inferred: 15, confirmed: 1, contradicted: 0 })
    expect(isClean(r)).toBe(true)
  })

  it('an inference that a translation contradicts is no divergence, and what it shows is taken', () => {
    const r = replay([
      NEW,
      CLEAR,
      list(0x3000_0000, 0xf, 0x21af003),
      xlate(0x3000_1000, 0x999_9000, 3),
      xlate(0x3000_1000, 0x999_9000, 3),
    ])
    expect(r.translations).toMatchObject({ explained: 1, inferred: 0, learned: 1, unexplained: 0 })
    expect(r.entries).toMatchObject({ inferred: 15, confirmed: 0, contradicted: 1 })
    expect(isClean(r)).toBe(true)
  })

  it('a list that cannot be a row of pages stays unknown, but for its last entry', () => {
    const r = replay([NEW, CLEAR, list(0x3000_0000, 0xf, 0x3003), xlate(0x3000_1000, 0x777_7000, 1)])
    expect(r.entries).toMatchObject({ inferred: 0, unknown: 15, learned: 1 })
    expect(isClean(r)).toBe(true)
  })

  it('a list that ran past the window wrote what fits', () => {
    const r = replay([NEW, CLEAR, list(0x3fff_e000, 1, 0x402003, -4), xlate(0x3fff_f000, 0x401000, 3)])
    expect(r.answers).toMatchObject({ matched: 2, diverged: 0 })
    expect(r.translations).toMatchObject({ inferred: 1 })
  })

  it('a STUFF that ran past the window leaves the entries before the end in doubt', () => {
    const r = replay([
      NEW,
      CLEAR,
      `spapr_iommu_pci_stuff ${L} ioba=0x40000000 tcevalue=0x777003 npages=4 ret=-4`,
      xlate(0x3fff_f000, 0x777000, 3),
    ])
    expect(r.answers).toMatchObject({ matched: 2, diverged: 0 })
    expect(r.entries).toMatchObject({ unknown: 3, learned: 1 })
    expect(isClean(r)).toBe(true)
    const over = `spapr_iommu_pci_stuff ${L} ioba=0x40000000 tcevalue=0x0 npages=4 ret=-4`
    const last = put(0x3fff_f000, 0x5003)
    expect(rules(replay([NEW, last, over, put(0x3fff_f000, 0x6003)]))).toEqual([])
  })

  it('the middle of a log: the default window is assumed, its contents are unknown', () => {
    const r = replay([
      xlate(0x1110, 0x48cc000, 1),
      xlate(0x1110, 0x48cc000, 1),
      unmap(0x2000, 1),
      xlate(0x1110, 0, 0),
    ])
    expect(r.translations).toMatchObject({ learned: 1, explained: 2, unexplained: 0 })
    expect(r.assumptions.map((a) => a.text)).toEqual([
      'LIOBN 0x80000000 is a default window, made before the log begins',
    ])
    expect(rules(r)).toEqual(['use-after-unmap'])
  })

  it('a translation does not show the bits of a TCE below its page: a GET may find any there', () => {
    const get = (tce: string) => `spapr_iommu_pci_get ${L} ioba=0x1000 ret=0 tce=${tce}`
    const seen = xlate(0x1000, 0x48cc000, 3)
    const r = replay([seen, get('0x48ccff3'), get('0x48ccff3')])
    expect(r.answers).toMatchObject({ matched: 2, diverged: 0 })
    expect(replay([seen, get('0x48cc001')]).answers.diverged).toBe(1)
    expect(replay([seen, get('0x48cdff3')]).answers.diverged).toBe(1)
    expect(replay([seen, get('0x48ccff3'), get('0x48cc003')]).answers.diverged).toBe(1)
  })

  it('a second window whose making the log does not show cannot be judged', () => {
    const line = 'spapr_iommu_pci_put liobn=0x80000001 ioba=0x800000000000000 tce=0x3 ret=0'
    expect(replay([NEW, line]).answers).toEqual({ total: 1, matched: 0, diverged: 0, unjudged: 1 })
  })

  const query = (left: number, buid = '0x800000020000000', mask = '0x107') =>
    `spapr_iommu_ddw_query buid=${buid} addr=0x0, ${left} windows available, max window size=0x80000000, mask=${mask}`
  const remove = (window: number) => `spapr_iommu_ddw_remove liobn=0x8000000${window}`

  it('a host bridge with windows from before the log is judged where it has the usual ones only', () => {
    const r = replay([query(0), remove(1), query(1), `spapr_iommu_ddw_create ${DDW}`, remove(1), remove(1)])
    expect(r.answers).toEqual({ total: 6, matched: 3, diverged: 0, unjudged: 3 })
    const moved = `spapr_iommu_ddw_create ${DDW.replace('liobn=0x80000001', 'liobn=0x80000000')}`
    const use = put(0, 0x5003).replace('ioba=0x0', 'ioba=0x800000000000000')
    const other = replay([put(0x1000, 0x5003, -4), put(0x1000, 0x5003), put(0x2000, 0x5003, -4), moved, use])
    expect(other.answers).toEqual({ total: 5, matched: 3, diverged: 0, unjudged: 2 })
    // A reset shows what it has.
    const reset = 'spapr_iommu_ddw_reset buid=0x800000020000000 addr=0x0'
    expect(replay([query(0), NEW, reset, query(0)]).answers).toMatchObject({ diverged: 1, unjudged: 1 })
  })

  it('a window is as its line has it, also where the model would have made another', () => {
    const odd = `spapr_iommu_ddw_create ${DDW.replace('start addr=0x8', 'start addr=0x4')}`
    const use = 'spapr_iommu_pci_put liobn=0x80000001 ioba=0x400000000000000 tce=0x3 ret=0'
    expect(replay([NEW, odd, use]).answers).toMatchObject({ matched: 1, diverged: 1 })
    const taken = `spapr_iommu_ddw_create ${DDW.replace('liobn=0x80000001', 'liobn=0x80000000')}`
    const there = put(0x1000, 0x5003)
    expect(replay([NEW, there, NEW, taken, query(1)]).answers).toMatchObject({ matched: 2, diverged: 1 })
  })

  it('a default window is as large as the lines that reach into it', () => {
    const sweep = Array.from({ length: 1024 }, (_, i) => unmap((i + 1) * 0x20_0000, 512))
    const use = [put(0x7f00_0000, 0x48cc001), xlate(0x7f00_0010, 0x48cc000, 1), unmap(0x7f00_1000, 1)]
    const late = xlate(0x7f00_0010, 0, 0)
    const r = replay([NEW, put(0x1000, 0x48cd001), put(0x1000, 0), ...sweep, ...use, late])
    expect(r.answers).toMatchObject({ total: 1028, matched: 1028 })
    expect(r.translations).toMatchObject({ total: 2, explained: 2 })
    expect(rules(r)).toEqual(['use-after-unmap'])
    expect(r.assumptions.map((a) => `${a.line} ${a.state} ${a.text}`)).toEqual([
      '1 contradicted LIOBN 0x80000000 is the default window: 262144 entries of 0x1000 bytes at 0x0',
      '516 open LIOBN 0x80000000 is the default window: 524288 entries of 0x1000 bytes at 0x0, for a line reaches so far',
    ])
  })

  it.each<[string, string, number]>([
    ['an H_PUT_TCE', put(0x4000_0000, 0x48cc001), 2],
    ['the end of a list', list(0x3fff_f000, 1, 0x48cc001), 3],
    ['a refusal', put(0x4000_0000, 0x48cc001, -4), 1],
    ['a translation', xlate(0x4000_0000, 0, 0), 1],
  ])('%s past the usual end, with what was mapped before', (_what, line, live) => {
    const r = replay([NEW, put(0x3000, 0x5003), line, xlate(0x3000, 0x5000, 3)])
    expect(r.answers.diverged).toBe(0)
    expect(r.translations.explained).toBeGreaterThan(0)
    expect(r.ledger.livePages).toBe(live)
    const over = replay([NEW, put(0x3000, 0x5003), line, put(0x3000, 0x6003)])
    expect(rules(over)).toContain('double-map')
  })

  it('a window whose size a line shows does not grow', () => {
    const past = 'spapr_iommu_pci_put liobn=0x80000001 ioba=0x800000040000000 tce=0x3 ret=0'
    expect(replay([NEW, `spapr_iommu_ddw_create ${DDW}`, past]).answers.diverged).toBe(1)
    const vio = [NEW, put(0x1000_0000, 0x5003)].map((l) =>
      l.replace('80000000', '71000002').replace('pci_', ''),
    )
    expect(replay(vio).answers.diverged).toBe(1)
  })

  it('each host bridge has its own page sizes', () => {
    const second = NEW.replace('0x80000000', '0x80000100')
    const other = query(1, '0x800000020000001', '0x3')
    expect(isClean(replay([NEW, second, query(1), other, query(1), other]))).toBe(true)
    expect(replay([NEW, second, query(1), other, query(1, undefined, '0x3')]).answers.diverged).toBe(1)
  })

  it('the default window that comes back with the last removal is no call of its own', () => {
    const create = `spapr_iommu_ddw_create ${DDW}`
    const reset = 'spapr_iommu_ddw_reset buid=0x800000020000000 addr=0x0'
    const r = replay([NEW, create, remove(0), remove(1), NEW, reset, query(1), NEW, reset, query(1)])
    expect(r.answers).toEqual({ total: 6, matched: 6, diverged: 0, unjudged: 0 })
  })

  it('a table that comes in by migration has the shape that its line shows, and is where it was made', () => {
    const load = 'spapr_iommu_post_load liobn=80000001 0 => 0x40 bus_offset=0x800000000000000 ps=24'
    const made = (fd: number) => NEW.replace('0x80000000', '0x80000001').replace('fd=-1', `fd=${fd}`)
    const use = (gpa: number) => xlate(0x10, gpa, 3, 0xff_ffff).replace('0x80000000', '0x80000001')
    const r = replay([NEW, made(-1), load, use(0x100_0000), use(0x100_0000), use(0x200_0000)])
    expect(r.assumptions.map((a) => `${a.line} ${a.text}`)).toEqual([
      '1 LIOBN 0x80000000 is the default window: 262144 entries of 0x1000 bytes at 0x0',
      '3 LIOBN 0x80000001 came in by migration with contents that the log does not show',
    ])
    expect(r.translations).toMatchObject({ learned: 1, explained: 1, unexplained: 1 })
    const kvm = replay([NEW, made(31), load, use(0x100_0000), use(0x200_0000)])
    expect(kvm.translations).toMatchObject({ learned: 2, unexplained: 0 })
  })

  it('a window that the source of a migration had removed is closed', () => {
    const load = (liobn: string, more: string) => `spapr_iommu_post_load liobn=${liobn} ${more}`
    const r = replay([
      NEW,
      load('80000000', '40000 => 0x0 bus_offset=0x0 ps=0'),
      load('80000001', '0 => 0x40 bus_offset=0x800000000000000 ps=24'),
      query(1),
      put(0x1000, 0x5003, -4),
    ])
    expect(r.answers).toEqual({ total: 2, matched: 2, diverged: 0, unjudged: 0 })
  })

  it('a damaged line that may have changed the table turns what was seen into an inference', () => {
    const lines = [NEW, CLEAR, put(0x1000, 0x48cc001), `spapr_iommu_pci_stuff ${L} io`, xlate(0x1110, 0, 0)]
    const r = replay(lines)
    expect(r.log.damaged.count).toBe(1)
    expect(r.translations).toMatchObject({ learned: 1, unexplained: 0 })
    expect(replay(lines.toSpliced(3, 1)).translations).toMatchObject({ learned: 0, unexplained: 1 })
  })

  it('a table in KVM hides its hypercalls: its translations teach, and nothing contradicts them', () => {
    const r = replay([NEW.replace('fd=-1', 'fd=27'), xlate(0x1000, 0x1000, 3), xlate(0x1000, 0x2000, 3)])
    expect(r.translations).toMatchObject({ learned: 2, unexplained: 0 })
    expect(isClean(r)).toBe(true)
  })
})

describe('a listener that has the table read', () => {
  const pages = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => xlate((from + i) * 0x1000, 0, 0))
  const ADD = 'vfio_listener_region_add_iommu region_add [iommu] 0x0 - 0x3fffffff'

  it('is no device: empty entries break no promise', () => {
    const r = replay([NEW, ADD, NEW, ...pages(0, 100), put(0x1000, 0x48cc001), xlate(0x1000, 0x48cc000, 1)])
    expect(r.translations).toMatchObject({ total: 101, explained: 101 })
    expect(isClean(r)).toBe(true)
  })

  it('shows what the table holds', () => {
    const mapped = [NEW, put(0x1000, 0x48cc001), put(0x3000, 0x48cd003)]
    const kept = [
      xlate(0, 0, 0),
      xlate(0x1000, 0x48cc000, 1),
      xlate(0x2000, 0, 0),
      xlate(0x3000, 0x48cd000, 3),
    ]
    const r = replay([...mapped, ADD, NEW, ...kept, ...pages(4, 50), put(0x1000, 0x777_7003)])
    expect(r.assumptions[1]?.state).toBe('confirmed')
    expect(rules(r)).toEqual(['double-map'])
    const odd = replay([...mapped, ADD, NEW, ...kept, xlate(0x4000, 0x5000, 3), ...pages(5, 9)])
    expect(odd.translations.unexplained).toBe(1)
  })

  it('goes on where other translations come between', () => {
    const r = replay([
      NEW,
      put(0x9000, 0x48cc001),
      NEW,
      ...pages(0, 5),
      xlate(0x9110, 0x48cc000, 1),
      ...pages(5, 9),
    ])
    expect(isClean(r)).toBe(true)
  })

  it.each<[string, string[]]>([
    ['fewer pages', pages(0, 3)],
    ['another place', pages(1, 9)],
    ['a call between', [...pages(0, 2), put(0x20_0000, 0x5003), ...pages(2, 4)]],
    ['an offset in a page', [...pages(0, 2), xlate(0x2004, 0, 0), ...pages(3, 6)]],
  ])('%s: a device', (_what, lines) => {
    const r = replay([NEW, ...lines])
    const seen = lines.filter((line) => line.includes('xlate'))
    expect(rules(r)).toEqual(seen.map(() => 'dma-not-granted'))
    expect(r.translations.total).toBe(seen.length)
  })

  it('without a new table before them, pages in a row are a device that looks for memory', () => {
    const r = replay([
      NEW,
      put(0x1000, 0x48cc001),
      xlate(0x1000, 0x48cc000, 1),
      ...pages(2, 9),
      ...pages(0, 1),
    ])
    expect(rules(r)).toHaveLength(8)
  })
})

describe('what a new table means', () => {
  it('for an open window: a listener came, and the contents stayed; a translation confirms it', () => {
    const r = replay([NEW, CLEAR, put(0x1000, 0x48cc001), NEW, xlate(0x1110, 0x48cc000, 1)])
    expect(r.assumptions[1]).toMatchObject({ line: 4, state: 'confirmed' })
    expect(isClean(r)).toBe(true)
  })

  it('or the machine was reset; a translation shows that, and nothing is known from there', () => {
    const r = replay([NEW, CLEAR, put(0x1000, 0x48cc001), NEW, xlate(0x1110, 0x7000, 3)])
    expect(r.assumptions[1]).toMatchObject({ line: 4, state: 'contradicted' })
    expect(r.translations).toMatchObject({ learned: 1, unexplained: 0 })
  })

  const RESET = 'the machine was reset: its default windows are back, and empty'
  const text = (r: ReplayResult) => r.assumptions.map((a) => `${a.line} ${a.state} ${a.text}`)
  const create = `spapr_iommu_ddw_create ${DDW}`
  const NEW_64 = NEW.replace('0x80000000', '0x80000001')
  const direct = 'spapr_iommu_pci_put liobn=0x80000001 ioba=0x800000000000000 tce=0x3 ret=0'
  const query = (left: number) =>
    `spapr_iommu_ddw_query buid=0x800000020000000 addr=0x0, ${left} windows available, max window size=0x80000000, mask=0x107`

  it('a listener comes to both windows; where one of two is made anew, the machine was reset', () => {
    const boot = [NEW, put(0x1000, 0x48cc001), NEW_64, create, direct]
    const moved = replay([...boot, NEW, NEW_64, query(0), xlate(0x1110, 0x48cc000, 1)])
    expect(text(moved)[1]).toContain('6 confirmed the table of LIOBN 0x80000000 moved')
    const again = replay([...boot, NEW, put(0x1000, 0x77_7001), query(1), NEW_64, create, direct])
    expect(text(again)[1]).toBe(`6 open ${RESET}`)
    expect([isClean(moved), isClean(again)]).toEqual([true, true])
  })

  it.each<[string, string[]]>([
    ['a table in KVM', [NEW.replace('fd=-1', 'fd=27')]],
    ['tables of two host bridges', [NEW, NEW.replace('0x80000000', '0x80000100')]],
    ['the table of a VIO device', [NEW.replace('0x80000000', '0x71000002'), NEW]],
  ])('%s: the machine was reset', (_what, lines) => {
    const r = replay([
      NEW,
      NEW.replace('0x80000000', '0x80000100'),
      NEW.replace('0x80000000', '0x71000002'),
      put(0x1000, 0x48cc001),
      ...lines,
      put(0x1000, 0x5003),
    ])
    expect(text(r)[3]).toBe(`5 open ${RESET}`)
    expect(isClean(r)).toBe(true)
  })

  it('listeners of two host bridges, or one that comes again, are no reset', () => {
    const NEW_2 = NEW.replace('0x80000000', '0x80000100')
    const NEW_2_64 = NEW.replace('0x80000000', '0x80000101')
    const other = create
      .replace('buid=0x800000020000000', 'buid=0x800000020000001')
      .replace('80000001', '80000101')
    const boot = [NEW, NEW_2, put(0x1000, 0x48cc001), NEW_64, create, NEW_2_64, other]
    const both = replay([...boot, NEW, NEW_64, NEW_2, NEW_2_64, xlate(0x1110, 0x48cc000, 1)])
    expect(both.assumptions.map((a) => a.state)).toEqual(['open', 'open', ...Array(4).fill('confirmed')])
    const again = replay([NEW, put(0x1000, 0x48cc001), NEW, NEW, xlate(0x1110, 0x48cc000, 1)])
    expect(again.assumptions.map((a) => a.state)).toEqual(['open', 'confirmed', 'confirmed'])
    expect([isClean(both), isClean(again)]).toEqual([true, true])
  })

  it('an entry that is mapped anew over a live one shows a reset: what was not written since is gone', () => {
    const r = replay([
      NEW,
      put(0x1000, 0x48cc001),
      put(0x2000, 0x48cd001),
      put(0x3000, 0x48ce001),
      NEW,
      put(0x4000, 0x48cf001),
      put(0x1000, 0x77_7001),
      xlate(0x1000, 0x77_7000, 1),
      xlate(0x4000, 0x48cf000, 1),
      put(0x2000, 0x77_8003),
    ])
    expect(text(r).slice(1)).toEqual([
      '5 contradicted the table of LIOBN 0x80000000 moved for a listener and kept its contents',
      `5 open ${RESET}`,
    ])
    expect(isClean(r)).toBe(true)
    expect(r.ledger.livePages).toBe(3)
  })

  it.each<[string, string, string]>([
    ['a translation that is refused', xlate(0x1110, 0, 0), 'contradicted'],
    ['an entry that is read as 0', `spapr_iommu_pci_get ${L} ioba=0x1000 ret=0 tce=0x0`, 'contradicted'],
    [
      'an entry that is read as it was',
      `spapr_iommu_pci_get ${L} ioba=0x1000 ret=0 tce=0x48cc001`,
      'confirmed',
    ],
  ])('%s decides', (_what, line, state) => {
    const r = replay([NEW, put(0x1000, 0x48cc001), put(0x2000, 0x48cd001), NEW, line])
    expect(r.assumptions[1]?.state).toBe(state)
    expect(r.answers.diverged + r.translations.unexplained).toBe(0)
    const after = replay([
      NEW,
      put(0x1000, 0x48cc001),
      put(0x2000, 0x48cd001),
      NEW,
      line,
      put(0x2000, 0x5003),
    ])
    expect(rules(after).includes('double-map')).toBe(state === 'confirmed')
  })

  it('a kernel that begins decides: it clears from the first entry on', () => {
    const r = replay([NEW, CLEAR, put(0x1000, 0x48cc001), NEW, unmap(0x20_0000, 512), unmap(0x40_0000, 512)])
    expect(text(r)[2]).toBe(`4 open ${RESET}`)
    expect(isClean(r)).toBe(true)
    const listener = replay([NEW, CLEAR, put(0x1000, 0x48cc001), NEW, unmap(0x2000, 1)])
    expect(listener.assumptions).toHaveLength(2)
  })

  it('what was written since decides nothing', () => {
    const r = replay([NEW, put(0x1000, 0x48cc001), NEW, put(0x5000, 0x9003), xlate(0x5000, 0x9000, 3)])
    expect(r.assumptions[1]?.state).toBe('open')
  })

  it('a table that leaves KVM shows its hypercalls from then on', () => {
    const r = replay([
      NEW.replace('fd=-1', 'fd=27'),
      xlate(0x1000, 0x1000, 3),
      NEW,
      put(0x5000, 0x9003),
      unmap(0x6000, 1),
      xlate(0x5000, 0x9000, 3),
    ])
    expect(r.translations).toMatchObject({ learned: 1, unexplained: 1 })
    expect(rules(r)).toEqual(['use-after-unmap'])
  })

  it('the table of a VIO device is emptied without a line: by firmware before the kernel, and by a reset', () => {
    const vio = (line: string) => line.replaceAll('80000000', '71000002').replaceAll('pci_', '')
    const r = replay([vio(NEW), vio(put(0x1000, 0x3e37_6003)), vio(put(0x1000, 0x48cc003))])
    expect(text(r)[1]).toBe(
      '3 open the table of LIOBN 0x71000002 was emptied before, without a line of its own',
    )
    expect(isClean(r)).toBe(true)
    const reset = [vio(NEW), NEW, vio(put(0x2000, 0x777_7003)), vio(xlate(0x1000, 0, 0))]
    const again = replay([vio(NEW), NEW, vio(put(0x1000, 0x48cc003)), vio(put(0x2000, 0x48cd003)), ...reset])
    expect(text(again)[2]).toBe(`5 open ${RESET}`)
    expect(rules(again)).toEqual(['dma-not-granted'])
  })

  it('a host bridge that is plugged again looks like a reset: what VIO devices use shows that it was none', () => {
    const vio = (line: string) => line.replaceAll('80000000', '71000002').replaceAll('pci_', '')
    const mapped = [vio(NEW), NEW, NEW_64, create, vio(put(0x1000, 0x48cc003)), put(0x1000, 0x5003)]
    const r = replay([...mapped, NEW, put(0x1000, 0x6003), vio(xlate(0x1000, 0x48cc000, 3))])
    expect(text(r)[2]).toBe(`7 open ${RESET}`)
    expect(r.entries.contradicted).toBe(1)
    expect(isClean(r)).toBe(true)
  })

  it('before a reset line it belongs to that: the entries are gone', () => {
    const reset = 'spapr_iommu_ddw_reset buid=0x800000020000000 addr=0x0'
    const r = replay([
      NEW,
      CLEAR,
      put(0x1000, 0x48cc001),
      NEW,
      reset,
      put(0x1000, 0x5003),
      xlate(0x1000, 0x5000, 3),
    ])
    expect(r.assumptions).toHaveLength(1)
    expect(r.findings).toEqual([])
    expect(isClean(r)).toBe(true)
  })

  it('a LIOBN that is used again is another window: old entries are not mapped there', () => {
    const map = 'spapr_iommu_pci_put liobn=0x80000001 ioba=0x800000000000000 tce=0x3 ret=0'
    const remove = 'spapr_iommu_ddw_remove liobn=0x80000001'
    const r = replay([NEW, create, map, remove, create, map])
    expect(r.answers).toMatchObject({ total: 5, matched: 5 })
    expect(rules(r)).toEqual([])
  })

  it('a call that is too much for the memory of the model is left out, and said so', () => {
    const create = `spapr_iommu_ddw_create ${DDW.replace('page size=0x1000000, requested=0x40000000', 'page size=0x1000, requested=0x80000000000')}`
    const stuff =
      'spapr_iommu_pci_stuff liobn=0x80000001 ioba=0x800080000000000 tcevalue=0x3 npages=2147483648 ret=0'
    const r = replay([NEW, put(0x1000, 0x5003), create, stuff, put(0x2000, 0x5003)])
    expect(r.answers).toEqual({ total: 4, matched: 3, diverged: 0, unjudged: 1 })
    expect(r.assumptions.at(-1)).toMatchObject({ line: 4 })
    expect(r.assumptions.at(-1)?.text).toContain('not replayed: TCE table past')
  })

  it('what was mapped longer ago than records are kept is shown with about its line', () => {
    const page = (i: number) => 0x1_0000 + (i % 1000) * 0x1000
    const churn = Array.from({ length: 200_000 }, (_, i) => [
      put(page(i), 0x5003),
      unmap(page(i) + 0x1000, 1),
    ])
    const r = replay([
      NEW,
      put(0x1000, 0x48cc003),
      ...churn.flat(),
      unmap(0x2000, 1),
      xlate(0x1000, 0x48cc000, 3),
    ])
    expect(rules(r)).toEqual(['use-after-unmap'])
    const [mapped, unmapped, used] = r.findings[0]?.because ?? []
    expect(mapped?.text).toMatch(/no longer kept/)
    expect(mapped?.line).toBeLessThan(20)
    expect([unmapped?.line, used?.line]).toEqual([400_003, 400_004])
  })
})
