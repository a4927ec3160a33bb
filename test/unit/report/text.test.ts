import { describe, expect, it } from 'vitest'
import { QEMU_TRACE } from '../../../src/check/coverage.ts'
import type { Finding } from '../../../src/check/rule.ts'
import { findingsJson, ledgerJson, verdictsJson } from '../../../src/report/json.ts'
import { COLUMNS, table, wrapped } from '../../../src/report/layout.ts'
import { ledgerText } from '../../../src/report/ledger-text.ts'
import { findingsText, findingText, type Paint, verdictsText } from '../../../src/report/text.ts'
import { World } from '../check/world.ts'

const tag = (name: string) => (text: string) => `<${name}>${text}</${name}>`
const TAGS: Paint = {
  bold: tag('b'),
  dim: tag('dim'),
  red: tag('red'),
  green: tag('green'),
  yellow: tag('yellow'),
  cyan: tag('cyan'),
}
const untagged = (text: string): string => text.replace(/<\/?\w+>/g, '')

/** A device that goes on after the unmap. */
const broken = (): World => {
  const w = new World()
  w.open({ unit: 'pci@800000020000000' })
  w.clear(0, 64)
  w.map(1, 0x48c_c001n)
  w.clear(1)
  for (let i = 0; i < 3; i++) w.refused(1, { cause: w.request('nvme0', 0x1010n, 0, 40 + i) })
  w.map(2, 0x5003n, { how: 1 })
  w.end()
  w.judge.finish()
  return w
}

describe('findings as text', () => {
  it('rule and message, the chain with lines, how often', () => {
    expect(
      findingsText(broken().found()).join('\n'),
    ).toBe(`FOUND  use-after-unmap  nvme0 touched bus address 0x1000 after its unmap; the IOMMU refused it
       because
         line 2   #5   H_PUT_TCE mapped bus address 0x1000 (LIOBN 0x80000000, entry 1) to memory
                       0x48cc000: the device may read
         line 3   #8   H_STUFF_TCE cleared bus address 0x1000 (LIOBN 0x80000000, entry 1)
         line 40  #11  nvme0 tried to read at bus address 0x1000 (LIOBN 0x80000000, entry 1) and was
                       refused
       seen 3 times; the chain is of the first

use-after-unmap: Stop the device or its queue before the unmap. If memory was reached, what the
                 device wrote there belongs to the new owner of the page: look at what the unmap
                 left in the table or in a cache.

1 finding`)
  })

  it('says steps where the input has steps, and nothing where it has no lines', () => {
    const [finding] = broken().found()
    expect(findingText(finding as Finding, { lineName: 'step' }).join('\n')).toContain(
      '  step 40  #11  nvme0',
    )
    const bare = {
      ...(finding as Finding),
      because: [{ seq: 3, line: 0, text: 'a record' }],
      inferred: true,
      times: 1,
    }
    expect(findingText(bare)).toEqual([
      'FOUND  use-after-unmap  nvme0 touched bus address 0x1000 after its unmap; the IOMMU refused it',
      '       because',
      '         #3  a record',
      '       rests on a value that the log does not show',
    ])
  })

  it('no finding is said plainly; those not kept are counted', () => {
    expect(findingsText([])).toEqual(['0 findings'])
    expect(findingsText([], { dropped: 2 })).toEqual(['0 findings, 2 more only counted'])
  })

  it('colours change no place', () => {
    const findings = broken().found()
    const painted = findingsText(findings, { paint: TAGS })
    expect(painted.map(untagged)).toEqual(findingsText(findings))
    expect(painted[0]).toContain('<red><b>FOUND</b></red>  <b>use-after-unmap</b>')
  })

  it('no line is longer than 100 columns, or than what is asked for', () => {
    const w = broken()
    for (const columns of [COLUMNS, 72]) {
      const lines = [
        ...findingsText(w.found(), { columns }),
        ...verdictsText(w.judge.verdicts(QEMU_TRACE), { columns }),
        ...ledgerText(w.counter.ledger(), { columns }),
      ]
      expect(Math.max(...lines.map((l) => l.length))).toBeLessThanOrEqual(columns)
    }
  })
})

describe('verdicts as text', () => {
  it('a line a rule, and why one cannot be judged', () => {
    const w = broken()
    w.use(9, { window: 8 })
    expect(verdictsText(w.judge.verdicts(QEMU_TRACE))).toEqual([
      'use-after-unmap          broken        1 value not shown by the log, not judged',
      'dma-not-granted          kept          1 value not shown by the log, not judged',
      'foreign-memory           cannot judge  needs records of page.own',
      'double-map               kept',
      'unmap-miss               kept',
      'leak-mapping             cannot judge  needs records of device.remove',
      'allocator-drift          cannot judge  needs records of alloc.take',
      'out-of-table             kept',
      'leak-pin                 cannot judge  needs records of mm.pin',
      'mapped-balance           cannot judge  needs records of region.map, hw.set',
      'locked-vm-balance        cannot judge  needs records of mm.locked',
      'orphaned-region          cannot judge  needs records of region.put',
      'range-mismatch           cannot judge  needs records of hw.set',
      'stale-tce                cannot judge  needs records of hw.set, hw.fill, hw.kill',
      'table-reference-leak     cannot judge  needs records of hw.table, hw.ref',
      'host-memory-corruption   cannot judge  needs records of hw.table, hw.set',
      'stale-iotlb              cannot judge  needs records of iotlb.fill',
      'iotlb-mismatch           cannot judge  needs records of iotlb.fill',
      'stale-metadata           cannot judge  needs records of iotlb.use',
      'stale-translation        cannot judge  needs records of vtd.word, vtd.translate',
      'stale-context            cannot judge  needs records of vtd.word, vtd.context, vtd.translate',
      'stale-device-tlb         cannot judge  needs records of vtd.word, vtd.fill, vtd.translate',
      'freed-table-walked       cannot judge  needs records of vtd.table, vtd.walk',
      'early-reuse              cannot judge  needs records of vtd.word, page.own',
      'flush-order              cannot judge  needs records of vtd.word, vtd.fill, domain.flush',
      'entry-order              cannot judge  needs records of vtd.word, vtd.context',
      'reserved-domain          cannot judge  needs records of vtd.context',
      'reserved-descriptor      cannot judge  needs records of vtd.refuse',
      'cache-survives           cannot judge  needs records of vtd.fill, vtd.translate, domain.flush',
      'unit-registers           cannot judge  needs records of vtd.register',
      'page-request-answer      cannot judge  needs records of vtd.page-request, vtd.response',
      'lost-interrupt           cannot judge  needs records of vtd.page-request, vtd.register, vtd.event',
      'dead-page-table          cannot judge  needs records of svm.entry, mm.table, mm.users',
      'mm-kept-alive            cannot judge  needs records of mm.users, svm.bind',
      'pasid-crosstalk          cannot judge  needs records of svm.bind, svm.pasid',
      'mm-lifetime              cannot judge  needs records of mm.users, mm.notify, mm.table',
      'svm-bookkeeping          cannot judge  needs records of svm.pasid, svm.bind',
      'use-after-unbind         cannot judge  needs records of svm.bind, svm.entry',
      'kernel-pasid-non-linear  cannot judge  needs records of svm.entry, vtd.translate',
      'stopped                  cannot judge  needs records of dead',
      'unmodelled               kept',
    ])
  })

  it('states are painted', () => {
    const painted = verdictsText(broken().judge.verdicts(QEMU_TRACE), { paint: TAGS })
    expect(painted[0]).toBe('use-after-unmap          <red>broken</red>')
    expect(painted[2]).toContain('<yellow>cannot judge</yellow>  needs')
    expect(painted.map(untagged)).toEqual(verdictsText(broken().judge.verdicts(QEMU_TRACE)))
  })

  it('rules of which a machine leaves no records are named together', () => {
    const w = broken()
    w.use(9, { window: 8 })
    const lines = verdictsText(w.judge.verdicts(QEMU_TRACE), { foreign: 'rules of other machines' })
    const own = verdictsText(w.judge.verdicts(QEMU_TRACE))
      .filter((line) => !line.includes('needs records'))
      .map((line) => line.split(' ')[0])
    expect(lines.slice(0, own.length).map((line) => line.split(' ')[0])).toEqual(own)
    const rest = lines.slice(own.length).join(' ')
    expect(rest).toMatch(/^rules of other machines: foreign-memory, leak-mapping, /)
    expect(rest).not.toContain('double-map')
    expect(Math.max(...lines.map((line) => line.length + 2))).toBeLessThanOrEqual(100)
  })
})

describe('the ledger as text', () => {
  it('windows, mappings, runs, DMA, calls', () => {
    expect(ledgerText(broken().counter.ledger()).join('\n')).toBe(`windows
  LIOBN       bus address   page  entries  mapped  unmapped  peak  live
  0x80000000  0x0          4 KiB       64       2         1     1     1

mappings
  mapped           2 pages in 2 calls
  unmapped         1 page in 2 calls, which cleared 65 entries
  peak             1 live page, 4 KiB
  at the end       1 live page, 4 KiB
  reachable        4 KiB of memory at the end
  entries written  66 known, 1 inferred, 0 unknown
  shown later      0 as inferred, 0 otherwise, 0 learned

runs of pages mapped one behind the other
  1  2 runs  2 pages

DMA
  requests      3: 3 reads, 0 writes, 12 bytes
    nvme0       3 requests, 12 bytes
  translations  3: 0 allowed, 3 refused

calls
  H_PUT_TCE    qemu  H_SUCCESS  2
  H_STUFF_TCE  qemu  H_SUCCESS  2`)
  })

  it('an empty run has mappings of nothing', () => {
    const lines = ledgerText(new World().counter.ledger())
    expect(lines).toEqual([
      'mappings',
      '  mapped      0 pages in 0 calls',
      '  unmapped    0 pages in 0 calls',
      '  peak        0 live pages, 0 bytes',
      '  at the end  0 live pages, 0 bytes',
      '  reachable   0 bytes of memory at the end',
    ])
  })

  it('codes have the names of their manual where the call says which', () => {
    const w = new World()
    w.call('H_PUT_TCE', () => undefined, -4)
    w.call('ibm,create-pe-dma-window', () => undefined, -3)
    w.call('dma_map_page', () => undefined, -3)
    const lines = ledgerText(w.counter.ledger()).slice(-3)
    expect(lines).toEqual([
      '  H_PUT_TCE                 qemu  H_PARAMETER           1',
      '  dma_map_page              qemu  -3                    1',
      '  ibm,create-pe-dma-window  qemu  RTAS_OUT_PARAM_ERROR  1',
    ])
  })
})

describe('reports as JSON', () => {
  it('each has a schema, and survives being written', () => {
    const w = broken()
    const findings = findingsJson(w.found(), 2)
    const verdicts = verdictsJson(w.judge.verdicts(QEMU_TRACE))
    const ledger = ledgerJson(w.counter.ledger())
    expect([findings.schema, verdicts.schema, ledger.schema]).toEqual([
      'iommulator/findings/1',
      'iommulator/verdicts/1',
      'iommulator/ledger/1',
    ])
    for (const json of [findings, verdicts, ledger]) expect(JSON.parse(JSON.stringify(json))).toEqual(json)
    expect(findings).toMatchObject({
      dropped: 2,
      findings: [{ rule: 'use-after-unmap', times: 3, inferred: false }],
    })
    expect(Object.keys(findings.findings[0] ?? {})).toEqual([
      'rule',
      'message',
      'because',
      'times',
      'inferred',
    ])
  })
})

describe('layout', () => {
  it('wraps behind a head, and lets a long word stand', () => {
    expect(wrapped('a: ', 'one two three', 9)).toEqual(['a: one', '   two', '   three'])
    expect(wrapped('a: ', 'abcdefghij k', 6)).toEqual(['a: abcdefghij', '   k'])
    expect(wrapped('a: ', '', 9)).toEqual(['a:'])
  })

  it('aligns columns, numbers at the right', () => {
    const rows = [
      ['a', '1', 'x y'],
      ['bcd', '22', 'z'],
    ]
    expect(table(rows, { right: [1], indent: 1 })).toEqual([' a     1  x y', ' bcd  22  z'])
    expect(table(rows, { columns: 8 })).toEqual(['a    1   x', '         y', 'bcd  22  z'])
    expect(table([['one two'], ['three']], { columns: 4 })).toEqual(['one', 'two', 'three'])
    expect(table([])).toEqual([])
  })
})
