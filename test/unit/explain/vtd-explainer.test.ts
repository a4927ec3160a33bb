import { describe, expect, it } from 'vitest'
import { FAULT_REASONS } from '../../../src/hw/vtd/fault-reasons.ts'
import { createLogExplainer } from '../../../src/machine/explain.ts'
import { EXPLAIN_COLUMNS, explainText } from '../../../src/report/explain/explain-text.ts'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { hasAdvice } from '../../../src/report/explain/vtd-advice.ts'
import { rowOf } from '../../support/explain.ts'

const explain = (...lines: readonly string[]) => {
  const explainer = createLogExplainer()
  explainer.push(new TextEncoder().encode(`${lines.join('\n')}\n`))
  return explainer.end()
}
const groups = (...lines: readonly string[]): readonly FaultGroup[] => explain(...lines).faults.groups
const only = (...lines: readonly string[]): FaultGroup => {
  const all = groups(...lines)
  expect(all).toHaveLength(1)
  return all[0] as FaultGroup
}
const becauseOf = (group: FaultGroup) => group.because.map(({ line, text }) => `${line}: ${text}`)

describe('the era of a line tells how it is read (V34)', () => {
  it.each([
    [
      '5.4-5.13, decimal, no PASID',
      [
        '[  139.5] x',
        '[  139.500000] DMAR: [DMA Read] Request device [00:02.0] PASID ffffffff fault addr 9c000000 [fault reason 06] PTE Read access is not set',
      ],
      { device: '00:02.0', access: 'read', pasid: null, reason: 0x06, table: 'second-level' },
      0x9c000000n,
    ],
    [
      '5.14, hexadecimal, a device with 0x',
      [
        'DMAR: [DMA Read NO_PASID] Request device [0x00:0x02.0] fault addr 0x70a28000 [fault reason 0x0c] non-zero reserved fields in PTE',
      ],
      { device: '00:02.0', access: 'read', pasid: null, reason: 0x0c, table: 'second-level' },
      0x70a28000n,
    ],
    [
      '4.6-5.3',
      [
        'DMAR: [DMA Write] Request device [00:12.0] fault addr 0 [fault reason 05] PTE Write access is not set',
      ],
      { device: '00:12.0', access: 'write', pasid: null, reason: 0x05, table: 'second-level' },
      0n,
    ],
    [
      '89 before 5.14 is 0x59',
      [
        'DMAR: [DMA Write] Request device [03:02.0] PASID 12345 fault addr 7f1234567000 [fault reason 89] SM: Present bit in PASID Table Entry is clear',
      ],
      { device: '03:02.0', access: 'write', pasid: 0x12345, reason: 0x59, table: 'pasid-entry' },
      0x7f1234567000n,
    ],
    [
      '11 before 5.14 is 0x0b',
      [
        'DMAR: [DMA Read] Request device [01:00.0] fault addr 1000 [fault reason 11] non-zero reserved fields in CTP',
      ],
      { device: '01:00.0', reason: 0x0b, table: 'context-entry' },
      0x1000n,
    ],
    [
      '0x11 since 5.14 is no declared reason',
      ['DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x11] Unknown'],
      { reason: 0x11, reasonName: null, table: null },
      0x1000n,
    ],
    [
      'V11, with a PASID',
      [
        'DMAR: [DMA Write PASID 0x12345] Request device [03:02.0] fault addr 0x7f1234567000 [fault reason 0x59] SM: Present bit in PASID Table Entry is clear',
      ],
      { device: '03:02.0', access: 'write', pasid: 0x12345, reason: 0x59, reasonName: 'PASID_ENTRY_P' },
      0x7f1234567000n,
    ],
    [
      '7.x, with a segment that is not 0',
      [
        'DMAR: [DMA Write NO_PASID] Request device [0001:03:02.0] fault addr 0x1000 [fault reason 0x02] Present bit in context entry is clear',
      ],
      { device: '0001:03:02.0', reason: 0x02, table: 'context-entry' },
      0x1000n,
    ],
    [
      'two lines, to 4.1',
      [
        'dmar: DMAR:[DMA Write] Request device [02:00.0] fault addr ffa00000 ',
        'DMAR:[fault reason 05] PTE Write access is not set',
      ],
      { device: '02:00.0', access: 'write', reason: 0x05 },
      0xffa00000n,
    ],
    [
      'two lines, 4.2-4.5, the second indented',
      [
        '[   20.210640] DMAR: DMAR:[DMA Read] Request device [04:00.0] fault addr ca6d5000 ',
        '               DMAR:[fault reason 01] Present bit in root entry is clear',
      ],
      { device: '04:00.0', access: 'read', reason: 0x01, table: 'root-entry' },
      0xca6d5000n,
    ],
    [
      'two lines as one',
      [
        'dmar: DMAR:[DMA Read] Request device [01:00.0] fault addr 37ae5000 DMAR:[fault reason 12] non-zero reserved fields in PTE ',
      ],
      { device: '01:00.0', access: 'read', reason: 0x0c },
      0x37ae5000n,
    ],
    [
      'two lines as rsyslog writes them',
      [
        'Mar 14 09:22:17 box kernel: dmar: DMAR:[DMA Write] Request device [01:00.0] fault addr 37ae5000 #012DMAR:[fault reason 05] PTE Write access is not set',
      ],
      { device: '01:00.0', access: 'write', reason: 0x05 },
      0x37ae5000n,
    ],
    [
      'two lines as /dev/kmsg has them',
      [
        '3,1234,20300000,-;DMAR: DMAR:[DMA Write] Request device [01:00.0] fault addr 37ae5000 \\x0aDMAR:[fault reason 05] PTE Write access is not set',
      ],
      { device: '01:00.0', access: 'write', reason: 0x05 },
      0x37ae5000n,
    ],
    [
      'two lines, decimal',
      [
        'DMAR:[DMA Read] Request device [02:00.0] fault addr 1000 ',
        'DMAR:[fault reason 12] non-zero reserved fields in PTE',
      ],
      { reason: 0x0c },
      0x1000n,
    ],
    [
      'Xen, hexadecimal',
      [
        '(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:00:02.0] fault addr 8e43c000, iommu reg = ffff82c00021d000',
        '(XEN) [VT-D]DMAR: reason 0c - non-zero reserved fields in PTE',
      ],
      { device: '00:02.0', access: 'read', reason: 0x0c },
      0x8e43c000n,
    ],
    [
      'Xen 4.2, hexadecimal with an h',
      [
        '(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:00:02.0] fault addr 1000, iommu reg = ffff82c00021d000',
        '(XEN) DMAR:[fault reason 0bh] non-zero reserved fields in CTP',
      ],
      { reason: 0x0b },
      0x1000n,
    ],
  ])('%s', (_what, lines, fields, address) => {
    const group = only(...lines)
    const { device, ...others } = fields as Record<string, unknown>
    expect(group.words.fields).toMatchObject(others)
    if (device !== undefined) expect(group.words.device).toBe(device)
    expect(group.addresses.ranges).toEqual([{ first: address, last: address }])
  })

  it('an interrupt that was blocked, in each era', () => {
    const all = [
      [
        'INTR-REMAP: Request device [[f0:1f.0] fault index 26',
        'INTR-REMAP:[fault reason 34] Present field in the IRTE entry is clear',
      ],
      [
        'DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 26 [fault reason 34] Present field in the IRTE entry is clear',
      ],
      [
        'DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x26 [fault reason 0x22] Present field in the IRTE entry is clear',
      ],
      [
        'DMAR: [INTR-REMAP] Request device [0000:f0:1f.0] fault index 0x26 [fault reason 0x22] Present field in the IRTE entry is clear',
      ],
    ].map((lines) => only(...lines))
    for (const group of all) {
      expect(group.words).toMatchObject({ kind: 'interrupt', device: 'f0:1f.0' })
      expect(group.words.fields).toMatchObject({ index: 0x26, reason: 0x22, reasonName: 'IR_ENTRY_P' })
    }
  })
})

describe('a line that is missing', () => {
  it('the second: the reason is not known', () => {
    const text = 'DMAR:[DMA Write] Request device [02:00.0] fault addr ffa00000 '
    expect(only(text).words.fields['reason']).toBeNull()
    expect(only(text, text).times).toBe(2)
  })

  it('the first: the device is not known', () => {
    const group = only('DMAR:[fault reason 05] PTE Write access is not set')
    expect(group.words.device).toBeUndefined()
    expect(group.words.fields['reason']).toBe(5)
  })

  it('a second line far away belongs to no first', () => {
    const others = Array.from({ length: 6 }, (_, i) => `[    1.00000${i}] other`)
    const all = groups(
      'DMAR:[DMA Write] Request device [02:00.0] fault addr ffa00000 ',
      ...others,
      'DMAR:[fault reason 05] PTE Write access is not set',
    )
    expect(all.map(({ words }) => words.fields['reason'])).toEqual([null, 5])
  })

  it('lines in between, and the reason of an interrupt behind a DMA', () => {
    expect(
      only(
        'DMAR:[DMA Write] Request device [02:00.0] fault addr ffa00000 ',
        '[    1.0] other',
        'DMAR:[fault reason 05] PTE Write access is not set',
      ).words.fields['reason'],
    ).toBe(5)
    expect(
      groups(
        'DMAR:[DMA Write] Request device [02:00.0] fault addr ffa00000 ',
        'INTR-REMAP:[fault reason 34] Present field in the IRTE entry is clear',
      ).map(({ words }) => words.kind),
    ).toEqual(['interrupt'])
  })
})

const fault = (address: string, access = 'Read', reason = '0x06', device = '00:04.0') =>
  `DMAR: [DMA ${access} NO_PASID] Request device [${device}] fault addr ${address} [fault reason ${reason}] text`

describe('groups', () => {
  it('by device, access, PASID and reason; pages that follow each other are one range', () => {
    const all = groups(
      fault('0x1000'),
      fault('0x2000'),
      fault('0x4000'),
      fault('0x3000'),
      fault('0x9000'),
      fault('0x1000', 'Write', '0x05'),
      fault('0x1000', 'Read', '0x06', '00:05.0'),
      fault('0x1000', 'Read', '0x02'),
    )
    expect(all.map(({ words, times }) => [words.title, times])).toEqual([
      ['DMA read by 00:04.0 was blocked', 5],
      ['DMA write by 00:04.0 was blocked', 1],
      ['DMA read by 00:05.0 was blocked', 1],
      ['DMA read by 00:04.0 was blocked', 1],
    ])
    expect(all[0]?.addresses.ranges).toEqual([
      { first: 0x1000n, last: 0x4000n },
      { first: 0x9000n, last: 0x9000n },
    ])
    expect([all[0]?.firstLine, all[0]?.lastLine]).toEqual([1, 5])
  })

  it('a read and a write of one address tell more than either', () => {
    const [read, write] = groups(
      fault('0x1000'),
      fault('0x5000', 'Write', '0x05'),
      fault('0x1000', 'Write', '0x05'),
    )
    expect(becauseOf(read as FaultGroup)).toEqual([
      '2: a write at 0x1000 was blocked too: most likely nothing is mapped there',
    ])
    expect(becauseOf(write as FaultGroup)).toHaveLength(1)
    const other = groups(fault('0x1000'), fault('0x5000', 'Write', '0x05'))
    expect(other.flatMap(becauseOf)).toEqual([])
  })
})

describe('why', () => {
  it('the page was mapped where it was mapped already', () => {
    const [twice, group] = groups(
      '[   17.488272] DMAR: ERROR: DMA PTE for vPFN 0xf1f80 already set (to f1f80003 not 12bea5803)',
      fault('0xf1f80000'),
    )
    expect(twice?.words.kind).toBe('map')
    expect(becauseOf(group as FaultGroup)).toEqual([
      '1: page 0xf1f80000 was mapped where it was mapped already',
    ])
  })

  it('the address lies in memory of the firmware, and the device is known, wherever the log says so', () => {
    const group = only(
      fault('0x9d900000', 'Read', '0x06', '00:02.0'),
      '[    0.004000] DMAR: RMRR base: 0x0000009d800000 end: 0x0000009fffffff',
      '[    0.500000] pci 0000:00:02.0: [8086:9a49] type 00 class 0x030000',
      '[    0.930210] pci 0000:00:02.0: Adding to iommu group 0',
    )
    expect(group.about).toEqual([
      {
        line: 2,
        text: 'as a physical address, 0x9d900000 lies in memory that is reserved by the firmware for a device (RMRR)',
      },
      { line: 3, text: '0000:00:02.0 is [8086:9a49], class 030000' },
      { line: 4, text: '0000:00:02.0 is in IOMMU group 0' },
    ])
  })

  it('no such device is in the machine', () => {
    const group = only(
      '[    0.930210] pci 0000:02:00.0: Adding to iommu group 0',
      fault('0x1000', 'Read', '0x02', '02:00.1'),
    )
    expect(group.about).toEqual([
      { line: 0, text: 'the log names 1 device of the machine, and 02:00.1 is none of them' },
    ])
  })

  it.each([
    [
      'no table',
      [
        'DMAR: Dump dmar0 table entries for IOVA 0x1000',
        'DMAR: root entry: 0x000000010a2b3001',
        'DMAR: context entry: hi 0x0000000000000401, low 0x000000010b2c4001',
        'DMAR: pte level: 3, pte value: 0x000000010c2d5003',
        'DMAR: pte level: 2, pte value: 0x0000000000000000',
        'DMAR: page table not present at level 1',
      ],
      '6: in memory, the second-level entry of level 2 is not present (0x0): there is no table of level 1',
    ],
    [
      'no page',
      [
        'DMAR: Dump dmar0 table entries for IOVA 0x1000',
        'DMAR: pte level: 1, pte value: 0x0000000000000000',
        'DMAR: page table not present at level 0',
      ],
      '3: in memory, the second-level entry of level 1 is not present (0x0): no page is mapped',
    ],
    [
      'a page that may be written only',
      ['DMAR: Dump dmar0 table entries for IOVA 0x1000', 'DMAR: pte level: 1, pte value: 0x0000000123456002'],
      '3: in memory, the second-level entries down to level 1 (0x123456002) allow writing only',
    ],
    [
      'a page that may be read',
      ['DMAR: Dump dmar0 table entries for IOVA 0x1000', 'DMAR: pte level: 1, pte value: 0x0000000123456003'],
      '3: in memory, the second-level entries down to level 1 (0x123456003) allow reading and writing: what was blocked is allowed a moment later, so it was mapped in between, or the unit used an older entry that was not invalidated',
    ],
    [
      'a first-level table',
      [
        'DMAR: Dump dmar0 table entries for IOVA 0x1000',
        'DMAR: pasid table entry[0]: 0x0000000000000041',
        'DMAR: pte level: 4, pte value: 0x0000000000000002',
        'DMAR: page table not present at level 3',
      ],
      '4: in memory, the first-level entry of level 4 is not present (0x2): there is no table of level 3',
    ],
    [
      'no PASID table',
      [
        'DMAR: Dump dmar0 table entries for IOVA 0x1000',
        'DMAR: pasid dir entry: 0x0000000000000000',
        'DMAR: pasid table is not present',
      ],
      '4: in memory, the pasid table is not present',
    ],
    [
      'a kernel before 6.12',
      ['DMAR: Dump dmar0 table entries for IOVA 0x1000', 'DMAR: PTE not present at level 2'],
      '3: in memory, the entry of level 2 is not present, or maps a large page: kernels before 6.12 do not tell which',
    ],
  ])('by a dump of the tables: %s', (_what, dump, text) => {
    expect(becauseOf(only(fault('0x1000'), ...dump))).toEqual([text])
  })

  it('a dump that belongs to no fault tells nothing', () => {
    expect(
      groups('DMAR: Dump dmar0 table entries for IOVA 0x1000', 'DMAR: pte level: 1, pte value: 0x0'),
    ).toEqual([])
    const open = becauseOf(only(fault('0x1000'), 'DMAR: pte level: 1, pte value: 0x3'))
    expect(open).toEqual([])
  })
})

describe('the unit', () => {
  it('its status, bit by bit', () => {
    const { faults } = explain(
      'DMAR: DRHD: handling fault status reg 3',
      'DMAR: DRHD: handling fault status reg 3',
      'dmar: DRHD: handling fault status reg 40',
    )
    expect(faults.notes.map(({ text, times, firstLine }) => [text, times, firstLine])).toEqual([
      [
        'fault status 0x3: PFO: A fault was lost, because no register was free. PPF: A fault recording register holds a fault.',
        2,
        1,
      ],
      ['fault status 0x40: ITE: A device did not complete an invalidation in time.', 1, 3],
    ])
  })

  it('lines that were not printed', () => {
    const { faults } = explain('dmar_fault: 2474 callbacks suppressed', 'dmar_fault: 6 callbacks suppressed')
    expect(faults.suppressed).toMatchObject([{ family: 'vtd', line: 2, lines: 2480 }])
    expect(faults.suppressed[0]?.meaning).toContain('counts as three')
  })

  it('its capabilities', () => {
    const { faults } = explain('DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c22260286 ecap f00f5e')
    expect(faults.facts).toEqual([
      {
        family: 'vtd',
        line: 1,
        text: 'dmar0: version 1.0, addresses of 39 bits, tables for 39 bits, caching mode, as hypervisors have it, device-TLBs, interrupt remapping',
        fields: { unit: 'dmar0', base: '0xfed90000', cap: '0xd2008c22260286', ecap: '0xf00f5e' },
      },
    ])
  })

  it('its invalidation queue', () => {
    const all = groups(
      'DMAR: VT-d detected Invalidation Queue Error: Reason 4',
      'DMAR: QI HEAD: IOTLB Invalidation qw0 = 0x500f2, qw1 = 0x40201040',
      'DMAR: QI PRIOR: Invalidation Wait qw0 = 0x200000025, qw1 = 0x20000',
      'DMAR: Invalidation Queue Error (IQE) cleared',
      'DMAR: VT-d detected Invalidation Time-out Error: SID 310',
      'DMAR: VT-d detected Invalidation Completion Error: SID 310',
    )
    expect(all.map(({ words }) => [words.title, words.device])).toEqual([
      ['the invalidation queue stopped, reason 4', undefined],
      ['03:02.0 did not complete an invalidation in time', '03:02.0'],
      ['03:02.0 completed an invalidation that nobody waits for', '03:02.0'],
    ])
    expect(all[0]?.words.rows[0]?.[1]).toContain('a reserved field of the descriptor is set')
    expect(becauseOf(all[0] as FaultGroup)).toEqual([
      '2: the descriptor at the head was IOTLB Invalidation, 0x500f2 0x40201040',
      '3: the descriptor before the head was Invalidation Wait, 0x200000025 0x20000',
    ])
  })

  it('an error whose record is all ones names no device', () => {
    const all = groups(
      'DMAR: VT-d detected Invalidation Queue Error: Reason f',
      'DMAR: VT-d detected Invalidation Time-out Error: SID ffff',
      'DMAR: VT-d detected Invalidation Completion Error: SID ffff',
    )
    expect(all.map(({ words }) => [words.fields['error'], words.device])).toEqual([
      ['IQE', undefined],
      ['ITE', undefined],
      ['ICE', undefined],
    ])
    for (const { words } of all) expect(words.rows[0]?.[1]).toContain('all ones')
  })

  it('a context entry is not right: RID_PASID is a cause for requests without a PASID only', () => {
    const of = (who: string): string =>
      rowOf(
        only(
          `DMAR: [DMA Write ${who}] Request device [03:02.0] fault addr 0x1000 [fault reason 0x43] SM: Invalid Context Entry`,
        ),
        'means',
      ) ?? ''
    expect(of('PASID 0x5')).toContain('PDTS')
    expect(of('PASID 0x5')).not.toContain('RID_PASID')
    expect(of('NO_PASID')).toContain('PDTS')
    expect(of('NO_PASID')).toContain('RID_PASID')
  })

  it('a request without a PASID: kernels that print the descriptor may fall next', () => {
    const of = (line: string): string => rowOf(only(line), 'means') ?? ''
    expect(of('dmar0: Page request without PASID: 300010000 7f1234567003')).toContain('null pointer')
    expect(of('IOMMU: dmar0: Page request without PASID')).not.toContain('null pointer')
  })

  it('page requests: a descriptor of today (V22), and words', () => {
    const all = groups(
      'dmar0: Invalid page request: 503100101 7f123456703f',
      'IOMMU: dmar0: PRQ overflow detected',
      'IOMMU: dmar0: Page request without PASID',
      'IOMMU: dmar1: Address is not canonical',
      'IOMMU: dmar1: Page request in Privilege Mode',
      'DMAR: IOMMU: dmar1: Execution request not supported',
      'dmar0: Page request for invalid PASID 5: 38000120300005c 7f1234567103',
      'Unexpected page request in Privilege Mode',
      'Execution request not supported',
    )
    expect(all.map(({ words }) => words.fields['refused'])).toEqual([
      'invalid',
      'overflow',
      'no-pasid',
      'not-canonical',
      'privileged',
      'execute',
      'invalid-pasid',
      'privileged',
      'execute',
    ])
    expect(all.map(({ words }) => words.fields['unit']).slice(-2)).toEqual(['a VT-d unit', 'a VT-d unit'])
    expect(all[0]?.words).toMatchObject({ device: '03:02.0', fields: { pasid: 5 } })
    expect(all[0]?.words.rows).toContainEqual([
      'first',
      '0x7f1234567000, for read, write, group 7, last of it',
    ])
    expect(all[0]?.addresses.ranges).toEqual([{ first: 0x7f1234567000n, last: 0x7f1234567000n }])
  })

  it('a mapping that is too wide', () => {
    const group = only(
      'DMAR: intel_iommu_map: iommu width (39) is not sufficient for the mapped address (7fc800000000)',
    )
    expect(group.words.rows[0]?.[1]).toContain('0x7fffffffff is the last')
  })
})

describe('words', () => {
  it.each(Object.entries(FAULT_REASONS))(
    '%s has advice, and a place where it failed',
    (name, { code, mode }) => {
      expect(hasAdvice(code)).toBe(true)
      const hex = `0x${code.toString(16).padStart(2, '0')}`
      const group =
        mode === 'interrupt'
          ? only(`DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x26 [fault reason ${hex}] text`)
          : only(fault('0x1000', 'Read', hex))
      expect(group.words.fields['reasonName']).toBe(name)
      expect(group.words.fields['table']).not.toBeNull()
      expect(group.words.rows.map(([label]) => label)).toEqual(['reason', 'means', 'failed at'])
      expect(group.words.checks.length).toBeGreaterThanOrEqual(2)
      expect(group.words.checks.length).toBeLessThanOrEqual(4)
    },
  )

  it('what has no PASID has no process behind it', () => {
    const line = (pasid: string) =>
      `DMAR: [DMA Write ${pasid}] Request device [01:00.0] fault addr 0x3fffff000 [fault reason 0x71] text`
    const means = (pasid: string) => only(line(pasid)).words.rows[1]?.[1]
    expect(means('NO_PASID')).toContain('Nothing is mapped at the address')
    expect(means('PASID 0x0')).toBe(means('NO_PASID'))
    expect(means('PASID 0x5')).toContain('the process is gone')
    expect(only(line('NO_PASID')).words.checks.join()).not.toContain('process')
  })

  it('no line of the text is longer than 80 columns', () => {
    const all = explain(
      ...Object.values(FAULT_REASONS).map(({ code }) =>
        fault('0x7f1234567000', 'Write', `0x${code.toString(16)}`),
      ),
      'DMAR: DRHD: handling fault status reg ff',
      'dmar_fault: 2474 callbacks suppressed',
      'DMAR: VT-d detected Invalidation Queue Error: Reason 7',
      'DMAR: something that no template has',
    )
    const lines = explainText(all).split('\n')
    expect(lines.length).toBeGreaterThan(500)
    expect(lines.filter((line) => line.length > EXPLAIN_COLUMNS)).toEqual([])
  })
})
