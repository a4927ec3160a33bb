import { describe, expect, it } from 'vitest'
import { createReplay } from '../../src/machine/replay/log-replay.ts'
import { isClean, type ReplayResult } from '../../src/machine/replay/result.ts'
import { EXPLAINED } from '../../src/machine/replay/vtd/vtd-tally.ts'
import { bytesOf, recording } from '../log-rows.ts'

const replay = (bytes: Uint8Array): ReplayResult => {
  const running = createReplay({ from: 'qemu-trace', source: 'boot' })
  running.push(bytes)
  return running.end()
}

interface Expected {
  readonly walks: number
  readonly hits?: number
  readonly passThrough?: number
  /** By reason, those that are expected. */
  readonly faults?: Readonly<Record<string, number>>
  readonly recorded?: number
  readonly flushes: Readonly<Record<string, number>>
}

const NOTHING_MAPPED = 'nothing was ever seen mapped there'
/** The RAM disk lets `edu` read and write three addresses that nothing maps, four bytes at a time. */
const EDU = { faults: { [`0x6: ${NOTHING_MAPPED}`]: 12, [`0x5: ${NOTHING_MAPPED}`]: 12 }, recorded: 6 }
/** A ring that the firmware left alive is looked for once when translation is switched on. */
const OLD_RING = { faults: { [`0x6: ${NOTHING_MAPPED}`]: 1 }, recorded: 1 }
const START = { 'contexts: all': 1, 'the IOTLB: everything': 1 }

/** Counted with grep on the traces. */
const BOOTS: Readonly<Record<string, Expected>> = {
  'x86-lazy': {
    ...EDU,
    walks: 779,
    hits: 512,
    flushes: { ...START, 'interrupt entries': 42, 'the IOTLB: a domain': 20 },
  },
  'x86-strict': {
    ...EDU,
    walks: 740,
    hits: 560,
    flushes: { ...START, 'interrupt entries': 42, 'the IOTLB: pages': 436 },
  },
  'x86-cm-strict': {
    ...EDU,
    walks: 740,
    hits: 594,
    flushes: {
      ...START,
      'interrupt entries': 42,
      'contexts: a device': 8,
      'the IOTLB: a domain': 8,
      'the IOTLB: pages': 928,
    },
  },
  'x86-diotlb-noats': {
    ...EDU,
    walks: 738,
    hits: 567,
    flushes: { ...START, 'interrupt entries': 42, 'the IOTLB: pages': 442 },
  },
  'x86-sm': {
    ...EDU,
    walks: 740,
    hits: 571,
    flushes: { ...START, 'interrupt entries': 42, 'the IOTLB: pages': 439 },
  },
  'x86-pt': { walks: 0, flushes: { ...START, 'interrupt entries': 42 } },
  'x86-tab-strict': {
    walks: 3041,
    hits: 1134,
    flushes: { ...START, 'interrupt entries': 35, 'the IOTLB: pages': 267 },
  },
  'x86-ftrace': {
    walks: 380,
    hits: 268,
    flushes: { ...START, 'interrupt entries': 22, 'the IOTLB: pages': 127 },
  },
  'vh-x86-lazy': {
    ...OLD_RING,
    walks: 36,
    flushes: { ...START, 'interrupt entries': 22, 'the IOTLB: a domain': 1 },
  },
  'vh-x86-strict': {
    ...OLD_RING,
    walks: 362,
    flushes: { ...START, 'interrupt entries': 22, 'the IOTLB: pages': 195 },
  },
  'vh-x86-nodiotlb': {
    ...OLD_RING,
    walks: 361,
    hits: 1,
    flushes: { ...START, 'interrupt entries': 22, 'the IOTLB: pages': 204 },
  },
  'vh-x86-cm': {
    ...OLD_RING,
    walks: 361,
    hits: 1,
    flushes: {
      ...START,
      'interrupt entries': 22,
      'contexts: a device': 5,
      'the IOTLB: a domain': 5,
      'the IOTLB: pages': 393,
    },
  },
  'vh-x86-ats-strict': {
    ...OLD_RING,
    walks: 361,
    hits: 1,
    flushes: {
      ...START,
      'interrupt entries': 27,
      'the IOTLB: pages': 104,
      'the TLB of a device': 104,
    },
  },
  'vh-x86-ats-lazy': {
    ...OLD_RING,
    walks: 369,
    hits: 1,
    flushes: { ...START, 'interrupt entries': 27, 'the IOTLB: a domain': 8, 'the TLB of a device': 8 },
  },
  // No guest: registers, tables and DMA of `edu` one by one; each fault was provoked.
  'qtest-vtd': {
    walks: 6,
    hits: 2484,
    passThrough: 1,
    faults: {
      [`0x6: ${NOTHING_MAPPED}`]: 12,
      [`0x5: ${NOTHING_MAPPED}`]: 4,
      '0x4: the address has more than 39 bits': 4,
      '0x6: the page was flushed since it was seen mapped': 8,
      '0x2: the device has no context entry': 16,
    },
    recorded: 5,
    flushes: { 'contexts: all': 3, 'the IOTLB: everything': 3, 'the IOTLB: pages': 2 },
  },
  'qtest-flts': {
    walks: 3,
    faults: {
      [`0x6: ${NOTHING_MAPPED}`]: 20,
      [`0x5: ${NOTHING_MAPPED}`]: 17,
      '0x58: the log does not show what is in the tables': 2,
      '0x2: the device has no context entry': 1,
      '0x1: the bus of the device has no root entry': 1,
    },
    recorded: 16,
    flushes: { 'contexts: all': 3, 'the IOTLB: everything': 6, 'the IOTLB: pages': 1 },
  },
}

const countsOf = (reasons: readonly { readonly why: string; readonly count: number }[]) =>
  Object.fromEntries(reasons.map(({ why, count }) => [why, count]))

describe('every recorded trace of intel-iommu is explained', () => {
  it.each(Object.entries(BOOTS))('%s', async (name, expected) => {
    const r = replay(await recording(`vtd/${name}`))
    const { vtd } = r
    if (vtd === undefined) throw new Error('no line of a VT-d unit was found')
    const { walks, hits = 0, passThrough = 0, faults = {}, recorded = 0, flushes } = expected
    const reasons = {
      [EXPLAINED.WALK]: walks,
      [EXPLAINED.HIT]: hits,
      [EXPLAINED.PASS_THROUGH]: passThrough,
    }
    const some = Object.fromEntries(Object.entries(reasons).filter(([, count]) => count > 0))
    expect(countsOf(vtd.reasons)).toEqual(some)
    const explained = walks + hits + passThrough
    const translations = { total: explained, explained, learned: 0, unexplained: 0, unjudged: 0 }
    expect(vtd.translations).toEqual(translations)
    expect(countsOf(vtd.faultReasons)).toEqual(faults)
    expect(vtd.faults).toMatchObject({ unexplained: 0, recorded })
    expect(countsOf(vtd.flushes)).toEqual(flushes)
    expect(r.divergences).toEqual([])
    expect(r.findings).toEqual([])
    expect(r.log).toMatchObject({ unknown: [], damaged: { count: 0 } })
    expect(isClean(r)).toBe(true)
  })
})

describe('a recorded trace that is changed', () => {
  const without = (text: string, line: number): Uint8Array =>
    bytesOf(
      text
        .split('\n')
        .toSpliced(line - 1, 1)
        .join('\n'),
    )

  it('misses the line that filled the IOTLB', async () => {
    const text = Buffer.from(await recording('vtd/x86-strict')).toString('latin1')
    const lines = text.split('\n')
    const pageOf = (line: string) => /sid \S+ iova 0x[0-9a-f]+(?=[0-9a-f]{3} )/.exec(line)?.[0]
    const last = lines.findLastIndex((line) => line.startsWith('vtd_iotlb_page_hit'))
    const page = pageOf(lines[last] ?? '')
    const isOf = (line: string, event: string) => line.startsWith(event) && pageOf(line) === page
    const fill = lines.findLastIndex((line) => isOf(line, 'vtd_iotlb_page_update'))
    const hit = lines.findIndex((line, i) => i > fill && isOf(line, 'vtd_iotlb_page_hit'))
    const r = replay(without(text, fill + 1))
    // One line less: what stood in line n + 1 stands in line n.
    expect(r.divergences.map(({ line, rule }) => [line, rule])).toEqual([
      [fill + 1, 'no-cause'],
      [hit, 'hit-after-flush'],
    ])
    expect(isClean(r)).toBe(false)
  })

  it('has a flush that came too early: the next use of the page is not explained', async () => {
    const text = Buffer.from(await recording('vtd/x86-strict')).toString('latin1')
    const lines = text.split('\n')
    const hit = lines.findIndex((line) => line.startsWith('vtd_iotlb_page_hit'))
    const [, iova = '', domain = ''] = /iova 0x([0-9a-f]+) .* domain 0x(\d+)$/.exec(lines[hit] ?? '') ?? []
    const flush = `vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x${domain} addr 0x${iova.slice(0, -3)}000 mask 0x0`
    const r = replay(bytesOf(lines.toSpliced(hit, 0, flush).join('\n')))
    expect(r.divergences[0]).toMatchObject({ line: hit + 2, rule: 'hit-after-flush' })
    expect(r.divergences[0]?.model).toContain(`was flushed by line ${hit + 1}`)
  })
})
