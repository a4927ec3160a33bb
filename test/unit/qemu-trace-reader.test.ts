import { describe, expect, it } from 'vitest'
import { BATCH_ROWS, type LogBatch, OTHER_TEXT } from '../../src/reader/log-batch.ts'
import { OTHER_NAMES } from '../../src/reader/log-summary.ts'
import { QEMU_TRACE } from '../../src/reader/qemu-trace-format.ts'
import { QemuTraceReader } from '../../src/reader/qemu-trace-reader.ts'
import { UNKNOWN_NAMES_MAX } from '../../src/reader/trace-log-reader.ts'
import { bytesOf, readLog } from '../log-rows.ts'

const PUT = 'spapr_iommu_pci_put liobn=0x80000000 ioba=0x1000 tce=0x48cc001 ret=0'
const XLATE = 'spapr_iommu_xlate liobn=0x80000000 0x1002 -> 0x48cc000 perm=1 mask=0xfff'

describe('forms of a line', () => {
  const forms: Record<string, readonly [line: string, timeUs: number]> = {
    'as it is': [PUT, -1],
    'with CR LF': [`${PUT}\r`, -1],
    'pid@seconds.microseconds:': [`4711@1700000000.012345:${PUT}`, 1_700_000_000_012_345],
    'pid@seconds.microseconds and a space': [`4711@1700000000.012345 ${PUT}`, 1_700_000_000_012_345],
    'ISO 8601': [`2025-08-19T20:14:04.791413Z ${PUT}`, Date.UTC(2025, 7, 19, 20, 14, 4) * 1000 + 791_413],
    'ISO 8601 on a full second': [`2024-02-29T00:00:00Z ${PUT}`, Date.UTC(2024, 1, 29) * 1000],
    'ISO 8601 in 1970': [`1970-01-01T00:00:00Z ${PUT}`, 0],
    'ISO 8601 before a leap day': [`2100-02-28T23:59:59Z ${PUT}`, Date.UTC(2100, 1, 28, 23, 59, 59) * 1000],
  }
  it.each(Object.entries(forms))('%s', (_form, [line, timeUs]) => {
    const { rows, summary } = readLog([`${line}\n${XLATE}\n`])
    expect(summary).toMatchObject({ lines: 2, events: 2, damaged: { count: 0 }, truncated: false })
    expect(rows[0]).toMatchObject({
      name: 'spapr_iommu_pci_put',
      line: 1,
      timeUs,
      fields: { tce: 0x48cc001n },
    })
    expect(rows[1]).toMatchObject({ line: 2, offsetBytes: line.length + 1, timeUs: -1 })
  })

  it('without a line end, which is told: the line may be cut', () => {
    const { rows, summary } = readLog([`${PUT}\n${XLATE}`])
    expect(rows.map((r) => r.name)).toEqual(['spapr_iommu_pci_put', 'spapr_iommu_xlate'])
    expect(summary).toMatchObject({
      lines: 2,
      events: 2,
      truncated: true,
      bytes: PUT.length + XLATE.length + 1,
    })
  })

  it('after a byte order mark', () => {
    const { rows, summary } = readLog([`\xef\xbb\xbf${PUT}\n\xef\xbb\xbf${PUT}\n`])
    expect(rows).toMatchObject([{ line: 1, offsetBytes: 3 }])
    expect(summary).toMatchObject({ lines: 2, events: 1, damaged: { count: 1 } })
  })

  it('an empty log, and one of empty lines', () => {
    expect(readLog([]).summary).toMatchObject({ lines: 0, bytes: 0, events: 0, truncated: false })
    expect(readLog(['\n\r\n\n']).summary).toMatchObject({ lines: 3, empty: 3, events: 0, truncated: false })
  })
})

describe('unknown events', () => {
  it('are counted by name, with the line that had them first', () => {
    const log = `amdvi_iotlb_reset \nhello\n4711@1.000000:amdvi_iotlb_reset x\n${PUT}\namdvi_iotlb_reset\n`
    expect(readLog([log]).summary).toMatchObject({
      lines: 5,
      events: 1,
      unknown: [
        { name: 'amdvi_iotlb_reset', count: 3, firstLine: 1 },
        { name: 'hello', count: 1, firstLine: 2 },
      ],
      damaged: { count: 0 },
    })
  })

  it('beyond a number of names are counted together', () => {
    const names = Array.from({ length: UNKNOWN_NAMES_MAX + 5 }, (_, i) => `event_${i}`)
    const { unknown } = readLog([`${names.join('\n')}\n${names.join('\n')}\n`]).summary
    expect(unknown.length).toBe(UNKNOWN_NAMES_MAX + 1)
    expect(unknown[0]).toEqual({ name: 'event_0', count: 2, firstLine: 1 })
    expect(unknown.at(-1)).toEqual({ name: OTHER_NAMES, count: 10, firstLine: UNKNOWN_NAMES_MAX + 1 })
  })
})

describe('damaged lines', () => {
  const reasons: readonly (readonly [line: string, reason: string])[] = [
    ['spapr_iommu_pci_put', 'the line is cut after the event name'],
    ['spapr_iommu_pci_put liobn=0x80000000 ioba=0x1000 tc', 'the line is cut after ioba'],
    ['spapr_iommu_pci_put liobn=0x', 'the line is cut before liobn'],
    [`${PUT} ret=0`, 'more text stands after ret'],
    [`${PUT}${XLATE}`, 'more text stands after ret'],
    ['spapr_iommu_pci_put ioba=0x1000', '"spapr_iommu_pci_put liobn=0x" does not stand after the event name'],
    ['spapr_iommu_pci_put liobn=0x8 ioba=0xg', 'no number stands for ioba'],
    ['spapr_iommu_pci_put liobn=0xF ioba=0x0', 'no number stands for liobn'],
    ['spapr_iommu_pci_put liobn=0x08 ioba=0x0', 'liobn begins with a 0'],
    ['spapr_iommu_pci_put liobn=0x12345678123456781 ioba=0x0', 'liobn does not fit 64 bits'],
    ['spapr_iommu_ddw_remove liobn=0x123456789', 'liobn does not fit 32 bits'],
    [PUT.replace('ret=0', 'ret=-'), 'no number stands for ret'],
    [PUT.replace('ret=0', 'ret=-0'), 'ret begins with a 0'],
    [PUT.replace('ret=0', 'ret=9223372036854775808'), 'ret does not fit 64 bits'],
    [PUT.replace('ret=0', 'ret=-9223372036854775809'), 'ret does not fit 64 bits'],
    ['vhost_iotlb_miss 0x1 step 2147483648', 'step does not fit 32 bits'],
    ['vhost_iotlb_miss 0x1 step -0', 'step begins with a 0'],
    ['vhost_iotlb_miss (nul) step 1', 'no address stands for device'],
    ['vhost_iotlb_miss (nil] step 1', 'no address stands for device'],
    ['spapr_pci_msi Released MSIs (cfg=0x1', 'the line is cut after configAddress'],
    ['spapr_pci_msi Released MSIs', 'the line is cut in message'],
    ['spapr_pci_msi Rel\x07sed (cfg=0x1)', 'message holds bytes that do not print'],
    [`spapr_pci_msi ${'x'.repeat(201)} (cfg=0x1)`, 'message is longer than 200 bytes'],
    ['vtd_dmar_translate dev 1:00.00 iova 0x0 -> gpa 0x0 mask 0xfff', 'no two digits stand for bus'],
    ['vtd_dmar_translate dev 01:000.00 iova 0x0 -> gpa 0x0 mask 0xfff', 'no two digits stand for slot'],
    ['vtd_dmar_translate dev 01:0F.00 iova 0x0 -> gpa 0x0 mask 0xfff', 'no two digits stand for slot'],
    ['vtd_dmar_translate dev 01', 'the line is cut after bus'],
    ['vtd_ir_remap_type IOA\x07PIC', 'message holds bytes that do not print'],
    [`vtd_ir_remap_type ${'x'.repeat(201)}`, 'message is longer than 200 bytes'],
    ['\x00\x00\x00', 'NUL bytes stand where an event should begin'],
    ['\x1b[0m', 'no event name stands at its start'],
    ['[    0.1] Linux', 'no event name stands at its start'],
    [`${'a'.repeat(101)} x`, 'no event name stands at its start'],
    ['4711@17.123 spapr', 'it begins with a digit, but with no time stamp'],
    [`2025-13-01T00:00:00Z ${PUT}`, 'it begins with a digit, but with no time stamp'],
    ['a'.repeat(4097), 'the line is longer than 4096 bytes'],
  ]
  it.each(reasons)('%j: %s', (line, reason) => {
    const { rows, summary } = readLog([`${PUT}\n${line}\n${XLATE}\n`])
    expect(rows.map((r) => r.line)).toEqual([1, 3])
    expect(summary.damaged.count).toBe(1)
    expect(summary.damaged.first).toMatchObject([{ line: 2, offsetBytes: PUT.length + 1, reason }])
    expect(summary.lines).toBe(3)
  })

  it('show their first bytes, printable ones as they are', () => {
    const { first } = readLog([`\x1b[1mé\x00 "x"\n[${'y'.repeat(500)}\n`]).summary.damaged
    expect(first.map((d) => d.excerpt)).toEqual(['\\x1b[1m\\xe9\\x00 "x"', `[${'y'.repeat(119)}`])
  })

  it('beyond a number are only counted', () => {
    const { damaged } = readLog(['[x\n'.repeat(50)], { damagedKept: 3 }).summary
    expect(damaged.count).toBe(50)
    expect(damaged.first.map((d) => d.line)).toEqual([1, 2, 3])
  })

  it('a line that is too long is not held, wherever it is cut', () => {
    const long = 'z'.repeat(3_000_000)
    const { rows, summary } = readLog([PUT, '\n', long.slice(0, 5000), long.slice(5000), '\n', PUT])
    expect(rows.map((r) => r.line)).toEqual([1, 3])
    expect(rows[1]?.offsetBytes).toBe(PUT.length + 1 + long.length + 1)
    expect(summary).toMatchObject({ lines: 3, damaged: { count: 1 }, truncated: true })
    expect(readLog([long]).summary).toMatchObject({ lines: 1, bytes: long.length, truncated: true })
  })
})

describe('batches', () => {
  it('are one object, filled again and again, in the order of the log', () => {
    const seen = new Set<LogBatch>()
    const lines: number[] = []
    const reader = new QemuTraceReader({
      take: (batch) => {
        seen.add(batch)
        expect(batch.count).toBeLessThanOrEqual(BATCH_ROWS)
        for (let row = 0; row < batch.count; row++) lines.push(batch.lines[row]!)
      },
    })
    const count = BATCH_ROWS * 2 + 5
    reader.push(bytesOf(`${PUT}\n`.repeat(count)))
    expect(reader.lines).toBe(count)
    expect(reader.bytes).toBe((PUT.length + 1) * count)
    reader.end()
    expect(seen.size).toBe(1)
    expect(lines).toEqual(Array.from({ length: count }, (_, i) => i + 1))
  })

  it('give lanes by slot, as the hot paths read them', () => {
    const { slot, number } = QEMU_TRACE
    const reader = new QemuTraceReader({
      take: (batch) => {
        expect(batch.events[0]).toBe(number.spapr_iommu_pci_put)
        expect(batch.u64(0, slot.spapr_iommu_pci_put.liobn)).toBe(0x80000000n)
        expect([...batch.lanes.subarray(0, 8)]).toEqual([-0x80000000, 0, 0x1000, 0, 0x48cc001, 0, -4, -1])
      },
    })
    reader.push(bytesOf(`${PUT.replace('ret=0', 'ret=-4')}\n`))
    expect(reader.end().events).toBe(1)
  })

  it('a log with more texts than are kept says so', () => {
    const lines = Array.from({ length: 4100 }, (_, i) => `spapr_pci_lsi_set bus${i} PIN0 IRQ 1\n`)
    const { rows } = readLog(lines)
    expect(rows[4095]?.fields['bus']).toBe('bus4095')
    expect(rows[4096]?.fields['bus']).toBe(OTHER_TEXT)
  })
})
