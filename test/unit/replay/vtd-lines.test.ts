import { describe, expect, it } from 'vitest'
import { isClean } from '../../../src/machine/replay/result.ts'
import { EXPLAINED } from '../../../src/machine/replay/vtd/vtd-tally.ts'
import { VTD_LINE as L, replayLines, STARTED } from '../../support/vtd-trace.ts'

/** Rules and lines of what is wrong with lines that follow the start; lines count from the first of them. */
const wrong = (...lines: string[]): [number, string][] =>
  replayLines([...STARTED, ...lines]).divergences.map(({ line, rule }) => [line - STARTED.length, rule])

const walk = (iova: number, slpte: number, mask = 0xfff) => [
  L.update(iova, slpte),
  L.translate(iova - (iova & mask), Number(BigInt(slpte) & ~BigInt(mask)), mask),
]
const hit = (iova: number, slpte: number) => [L.hit(iova, slpte), L.translate(iova & ~0xfff, slpte & ~0xfff)]
/** High half of a record: without a PASID QEMU leaves all ones there. */
const frcd = (reason: number, isRead: boolean, sid = 0x20): bigint =>
  (isRead ? 1n << 62n : 0n) | (0xffffn << 40n) | (BigInt(reason) << 32n) | BigInt(sid)
const MAPPED = walk(0x10_0de, 0x200_003)

describe('translations that are not explained', () => {
  it.each<[string, string[], [number, string][]]>([
    ['one out of nothing', [...MAPPED, L.translate(0x20_000, 0x300_000)], [[3, 'no-cause']]],
    [
      'one that leads elsewhere than the entry',
      [L.update(0x10_000, 0x200_003), L.translate(0x10_000, 0x201_000)],
      [[2, 'translation-differs']],
    ],
    [
      'one of another page than the entry',
      [L.update(0x10_000, 0x200_003), L.translate(0x11_000, 0x200_000)],
      [[2, 'translation-differs']],
    ],
    ['an entry that nothing has put there', hit(0x10_000, 0x200_003), [[1, 'hit-without-fill']]],
    [
      'an entry of another device',
      [...MAPPED, L.hit(0x10_000, 0x200_003, 5, 0x28)],
      [[3, 'hit-without-fill']],
    ],
    [
      'an entry that a flush of its page took',
      [...MAPPED, L.flushPages(0x10_000), ...hit(0x10_000, 0x200_003)],
      [[4, 'hit-after-flush']],
    ],
    [
      'an entry that a flush of more pages took: the address is aligned down',
      [...MAPPED, L.flushPages(0x13_000, 2), ...hit(0x10_000, 0x200_003)],
      [[4, 'hit-after-flush']],
    ],
    [
      'an entry that a flush of its domain took',
      [...MAPPED, L.flushDomain(), ...hit(0x10_000, 0x200_003)],
      [[4, 'hit-after-flush']],
    ],
    [
      'an entry that a flush of everything took',
      [...MAPPED, L.flushAll, ...hit(0x10_000, 0x200_003)],
      [[4, 'hit-after-flush']],
    ],
    [
      'an entry from before translation was switched off and on',
      [...MAPPED, L.enable(0), L.reset, L.enable(), L.reset, ...hit(0x10_000, 0x200_003)],
      [[7, 'hit-after-flush']],
    ],
    [
      'a large entry, of whose pages one was flushed',
      [...walk(0x40_1000, 0x1000_083, 0x1f_ffff), L.flushPages(0x5f_f000), L.hit(0x40_2000, 0x1000_083)],
      [[4, 'hit-after-flush']],
    ],
    ['an entry that holds something else', [...MAPPED, ...hit(0x10_000, 0x201_003)], [[3, 'entry-differs']]],
    ['an entry of another domain', [...MAPPED, L.hit(0x10_000, 0x200_003, 6)], [[3, 'entry-differs']]],
    [
      'an entry that went when the IOTLB was full',
      [
        ...MAPPED,
        L.update(0x20_000, 0x300_003),
        L.full,
        L.translate(0x20_000, 0x300_000),
        L.hit(0x10_000, 0x200_003),
      ],
      [[6, 'hit-without-fill']],
    ],
    [
      'a device that is passed through, elsewhere',
      [L.passThrough(0x12_000), L.translate(0x12_000, 0x13_000)],
      [[2, 'translation-differs']],
    ],
  ])('%s', (_what, lines, expected) => {
    expect(wrong(...lines)).toEqual(expected)
  })
})

describe('translations that are explained', () => {
  it.each<[string, string[], string]>([
    ['by a walk', MAPPED, EXPLAINED.WALK],
    ['by a walk of 2 MiB', walk(0x40_1234, 0x1000_083, 0x1f_ffff), EXPLAINED.WALK],
    ['by a walk of 1 GiB', walk(0x4020_1234, 0x8000_0083, 0x3fff_ffff), EXPLAINED.WALK],
    ['by an entry', [...MAPPED, ...hit(0x10_004, 0x200_003)], EXPLAINED.HIT],
    [
      'by an entry that a flush of another page left',
      [...MAPPED, L.flushPages(0x11_000), ...hit(0x10_004, 0x200_003)],
      EXPLAINED.HIT,
    ],
    [
      'by an entry that a flush of another domain left',
      [...MAPPED, L.flushPages(0x10_000, 0, 6), L.flushDomain(6), ...hit(0x10_004, 0x200_003)],
      EXPLAINED.HIT,
    ],
    [
      'by an entry that a flush of PASIDs may have left',
      [...MAPPED, L.descriptor('p-iotlb', 0x10_000, 0x7_0005_0036n), ...hit(0x10_004, 0x200_003)],
      EXPLAINED.HIT,
    ],
    [
      'by a large entry, for another of its pages',
      [
        ...walk(0x40_1234, 0x1000_083, 0x1f_ffff),
        L.hit(0x5f_f004, 0x1000_083),
        L.translate(0x40_0000, 0x1000_000, 0x1f_ffff),
      ],
      EXPLAINED.HIT,
    ],
    [
      'by the entry for which the full IOTLB was emptied',
      [
        ...MAPPED,
        L.update(0x20_000, 0x300_003),
        L.full,
        L.translate(0x20_000, 0x300_000),
        ...hit(0x20_000, 0x300_003),
      ],
      EXPLAINED.HIT,
    ],
    [
      'as the device is passed through',
      [L.passThrough(0x12_000), L.translate(0x12_000, 0x12_000)],
      EXPLAINED.PASS_THROUGH,
    ],
    [
      'as translation is off',
      [...MAPPED, L.enable(0), L.reset, L.translate(0x12_000, 0x12_000)],
      EXPLAINED.OFF,
    ],
    [
      'by an entry whose line came a line earlier',
      [
        ...MAPPED,
        L.hit(0x10_004, 0x200_003),
        L.translate(0x10_000, 0x200_000),
        L.translate(0x10_000, 0x200_000),
      ],
      EXPLAINED.HIT,
    ],
  ])('%s', (_what, lines, why) => {
    const r = replayLines([...STARTED, ...lines])
    expect(r.divergences).toEqual([])
    expect(r.vtd?.translations).toMatchObject({ unexplained: 0, learned: 0, unjudged: 0 })
    expect(r.vtd?.reasons.map((reason) => reason.why)).toContain(why)
    expect(isClean(r)).toBe(true)
  })
})

describe('a log that does not show all', () => {
  it('begins while the machine runs: what is in the IOTLB then is learned', () => {
    const r = replayLines([...hit(0x10_004, 0x200_003), ...hit(0x10_008, 0x200_003)])
    expect(r.vtd?.translations).toMatchObject({ total: 2, learned: 1, explained: 1, unexplained: 0 })
    expect(isClean(r)).toBe(true)
  })

  it('has translations alone: none can be judged', () => {
    const r = replayLines([...STARTED, L.translate(0x10_000, 0x200_000)])
    expect(r.vtd?.translations).toMatchObject({ total: 1, unjudged: 1, unexplained: 0 })
  })

  it('has lost a line that may have filled the IOTLB', () => {
    const damaged = 'vtd_iotlb_page_update IOTLB page upd'
    const r = replayLines([...STARTED, ...MAPPED, damaged, ...hit(0x20_000, 0x300_003)])
    expect(r.log.damaged.count).toBe(1)
    expect(r.vtd?.translations).toMatchObject({ learned: 1, unexplained: 0 })
    // A line of interrupts changes nothing.
    const other = replayLines([...STARTED, ...MAPPED, 'vtd_ir_remap index', ...hit(0x20_000, 0x300_003)])
    expect(other.divergences.map((d) => d.rule)).toEqual(['hit-without-fill'])
  })

  it('is of a machine that is reset: translation is off, and the caches are empty', () => {
    const r = replayLines([...STARTED, ...MAPPED, L.reset, L.translate(0x10_000, 0x10_000)])
    expect(r.vtd?.reasons.map((reason) => reason.why)).toEqual([EXPLAINED.WALK, EXPLAINED.OFF])
  })

  it('is of another machine: nothing is said of a VT-d unit', () => {
    const put = 'spapr_iommu_put liobn=0x71000002 ioba=0x1000 tce=0x4444003 ret=0'
    expect(replayLines([put]).vtd).toBeUndefined()
  })
})

describe('caches and invalidations', () => {
  const CONTEXT = L.contextRead(0x501)
  it.each<[string, string[], [number, string][]]>([
    ['a context entry that nothing has read', [L.contextHit(0x501)], [[1, 'context-hit-without-read']]],
    ['a context entry that holds something else', [CONTEXT, L.contextHit(0x601)], [[2, 'context-differs']]],
    ['a context entry of another generation', [CONTEXT, L.contextHit(0x501, 2)], [[2, 'context-differs']]],
    [
      'a context entry that was flushed with all',
      [CONTEXT, L.flushContexts, L.contextHit(0x501)],
      [[3, 'context-hit-without-read']],
    ],
    [
      'a context entry that was flushed with its domain',
      [CONTEXT, L.flushContextsOf(5), L.flushContexts, L.contextHit(0x501)],
      [[4, 'context-hit-without-read']],
    ],
    [
      'a context entry that was flushed with its device',
      [CONTEXT, L.flushContext, L.forgotContext, L.contextHit(0x501)],
      [[4, 'context-hit-without-read']],
    ],
    ['a context entry as it was read', [CONTEXT, L.contextHit(0x501), L.contextHit(0x501)], []],
    [
      'a flush of pages that is none of the descriptor',
      [L.descriptor('iotlb', 0x10_000, 0x5_0032), L.flushPages(0x11_000)],
      [[2, 'descriptor-differs']],
    ],
    [
      'a flush of another domain than that of the descriptor',
      [L.descriptor('iotlb', 0, 0x5_0022), L.flushDomain(6)],
      [[2, 'descriptor-differs']],
    ],
    [
      'a flush of everything where the descriptor has a domain',
      [L.descriptor('iotlb', 0, 0x5_0022), L.flushAll],
      [[2, 'descriptor-differs']],
    ],
    [
      'a flush of another device',
      [L.descriptor('context-cache', 0, 0x28_0005_0031n), L.flushContext],
      [[2, 'descriptor-differs']],
    ],
    [
      'flushes as the descriptors say, and of registers',
      [
        ...[L.descriptor('iotlb', 0x10_002, 0x5_0032), L.flushPages(0x10_000, 2)],
        ...[L.descriptor('iotlb', 0, 0x5_0022), L.flushDomain()],
        ...[L.descriptor('iotlb', 0, 0x12), L.flushAll],
        ...[L.descriptor('context-cache', 0, 0x11), L.flushContexts],
        ...[L.descriptor('context-cache', 0, 0x5_0021), L.flushContextsOf(5), L.flushContexts],
        ...[L.descriptor('context-cache', 0, 0x20_0005_0031n), L.flushContext, L.forgotContext],
        ...[L.descriptor('wait', 0x10_7000, 0x2_0000_0025n), L.wait, L.flushDomain(7)],
      ],
      [],
    ],
  ])('%s', (_what, lines, expected) => {
    expect(wrong(...lines)).toEqual(expected)
  })

  it('counts what invalidations name', () => {
    const r = replayLines([
      ...STARTED,
      ...[
        L.descriptor('device', 0x10_000, 0x20_0000_0003n),
        L.descriptor('iec', 0, 4),
        L.descriptor('p-iotlb', 0, 0x5_0026),
      ],
      ...[L.descriptor('pasid-cache', 0, 0x7_0005_0017n), L.descriptor('pasid-cache', 0, 0x37)],
      ...[L.descriptor('device-piotlb', 0x7fff_ffff_ffff_f800n, 0x7_0020_0008n), L.descriptor('odd', 0, 0xf)],
      ...['vtd_inv_desc_iotlb_pasid iotlb invalidate domain 0x5 pasid 0x7'],
      ...['vtd_inv_desc_iotlb_pasid_pages iotlb invalidate domain 0x5 addr 0x10000 mask 0x1 pasid 0x7'],
    ])
    expect(Object.fromEntries(r.vtd?.flushes.map(({ why, count }) => [why, count]) ?? [])).toEqual({
      'the TLB of a device': 1,
      'interrupt entries': 1,
      'the IOTLB: a PASID': 2,
      'PASID entries': 2,
      'the TLB of a device: a PASID': 1,
      'descriptor of type 0xf': 1,
      'the IOTLB: pages of a PASID': 1,
    })
  })
})

describe('faults', () => {
  const FREE = L.write(0x228, 1n << 63n, 8)
  it.each<[string, string[], [number, string][]]>([
    ['a record without a fault', [L.record(frcd(6, true), 0x20_000)], [[1, 'record-without-fault']]],
    [
      'a record of another reason',
      [L.fault(6, 0x20_004), L.record(frcd(5, true), 0x20_000)],
      [[2, 'record-differs']],
    ],
    [
      'a record of another direction',
      [L.fault(5, 0x20_004, 1), L.record(frcd(5, true), 0x20_000)],
      [[2, 'record-differs']],
    ],
    [
      'a record of another device',
      [L.fault(6, 0x20_004), L.record(frcd(6, true, 0x28), 0x20_000)],
      [[2, 'record-differs']],
    ],
    [
      'a record of another page',
      [L.fault(6, 0x20_004), L.record(frcd(6, true), 0x21_000)],
      [[2, 'record-differs']],
    ],
    [
      'a record while the register is taken',
      [
        ...[L.fault(6, 0x20_000), L.record(frcd(6, true), 0x20_000), FREE],
        ...[L.fault(6, 0x20_000), L.record(frcd(6, true), 0x20_000)],
        ...[L.fault(6, 0x21_000), L.record(frcd(6, true), 0x21_000)],
      ],
      [[7, 'record-while-taken']],
    ],
    [
      'a fault that is not recorded while the register is free',
      [L.fault(6, 0x20_000), L.record(frcd(6, true), 0x20_000), FREE, L.fault(6, 0x20_000)],
      [[4, 'fault-not-recorded']],
    ],
    [
      'an address that the context entry allows',
      [L.contextRead(0x501), L.fault(4, 0x20_000)],
      [[2, 'address-within-width']],
    ],
    [
      'no context entry, though one is held',
      [L.contextRead(0x501), L.fault(2, 0x20_000)],
      [[2, 'context-held']],
    ],
    [
      'no root entry, though a context entry is held',
      [L.contextRead(0x501), L.fault(1, 0x20_000)],
      [[2, 'context-held']],
    ],
  ])('%s', (_what, lines, expected) => {
    expect(wrong(...lines)).toEqual(expected)
  })

  it.each<[string, string[], string, boolean]>([
    ['nothing is mapped', [L.fault(6, 0x20_000)], '0x6: nothing was ever seen mapped there', true],
    [
      'the page was flushed',
      [...MAPPED, L.flushPages(0x10_000), L.fault(6, 0x10_000)],
      '0x6: the page was flushed since it was seen mapped',
      true,
    ],
    [
      'the domain was flushed',
      [...MAPPED, L.flushDomain(), L.fault(6, 0x10_000)],
      '0x6: the page was flushed since it was seen mapped',
      true,
    ],
    [
      'everything was flushed',
      [...MAPPED, L.flushAll, L.fault(6, 0x10_000)],
      '0x6: the page was flushed since it was seen mapped',
      true,
    ],
    [
      'the page allows reads only',
      [...walk(0x10_000, 0x200_001), L.fault(5, 0x10_000, 1)],
      '0x5: the page is mapped without this right',
      true,
    ],
    [
      'the page is mapped as far as the log shows',
      [...MAPPED, L.fault(6, 0x10_000)],
      '0x6: the page was seen mapped, and no flush says that it is gone',
      false,
    ],
    ['no root entry', [L.noRoot, L.fault(1, 0x20_000)], '0x1: the bus of the device has no root entry', true],
    ['no context entry', [L.noContext, L.fault(2, 0x20_000)], '0x2: the device has no context entry', true],
    ['no line says so', [L.fault(2, 0x20_000)], '0x2: the log does not show the context entry', false],
    [
      'no line says so of the root',
      [L.fault(1, 0x20_000)],
      '0x1: the log does not show the root entry',
      false,
    ],
    [
      'the address is too wide',
      [L.contextRead(0x501), L.fault(4, 0x80_0000_0000)],
      '0x4: the address has more than 39 bits',
      true,
    ],
    [
      'no line says how wide',
      [L.fault(4, 0x80_0000_0000)],
      '0x4: the log does not show how wide addresses are',
      false,
    ],
    ['reserved bits', [L.fault(0xc, 0x20_000)], '0xc: the log does not show what is in the tables', false],
  ])('are expected where %s', (_what, lines, why, isShown) => {
    const r = replayLines([...STARTED, ...lines])
    expect(r.divergences).toEqual([])
    expect(r.vtd?.faultReasons.map((reason) => reason.why)).toEqual([why])
    expect(r.vtd?.faults).toMatchObject({ total: 1, explained: isShown ? 1 : 0, inferred: isShown ? 0 : 1 })
  })

  it('are dropped while the register is taken, until software frees it and clears PFO', () => {
    const record = (sid: number) => L.record(frcd(6, true, sid), 0x20_000)
    const r = replayLines([
      ...STARTED,
      ...[L.fault(6, 0x20_000), record(0x20)],
      ...[L.fault(6, 0x20_000), L.fault(6, 0x20_000, 0, 0x28), L.fault(6, 0x20_000)],
      ...[L.write(0x22c, 0x8000_0000), L.fault(6, 0x20_000)],
      ...[L.write(0x34, 1), L.fault(6, 0x20_000, 0, 0x28), record(0x28)],
      L.silent,
    ])
    expect(r.divergences).toEqual([])
    expect(r.vtd?.faultEnds.map(({ why, count }) => [why, count])).toEqual([
      ['recorded', 2],
      ['not recorded: one of the same device is', 1],
      ['not recorded: the register is taken, and the unit says so (PFO)', 3],
      ['silent: the context entry, or that of the PASID, has FPD', 1],
    ])
  })

  it('with a PASID had garbled records before QEMU 7.2.14', () => {
    const garbled = 0xffff_ffff_8000_0020n
    expect(wrong(L.fault(6, 0x20_000), L.record(garbled, 0x20_000))).toEqual([])
  })

  it('whose record no line shows are not judged so', () => {
    const r = replayLines([...STARTED, L.fault(6, 0x20_000)])
    expect(r.vtd?.faultEnds.map(({ why }) => why)).toEqual(['the log does not show whether it was recorded'])
  })
})
