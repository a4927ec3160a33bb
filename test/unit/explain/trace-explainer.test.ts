import { describe, expect, it } from 'vitest'
import type { FaultGroup } from '../../../src/report/explain/fault-log.ts'
import { TraceExplainer } from '../../../src/report/explain/trace-explainer.ts'
import { TracedPages } from '../../../src/report/explain/traced-pages.ts'
import { causesOf, explained } from '../../support/explain.ts'

const AT = '          <idle>-0       [000] d.h2.     2.024434: '
const range = (first: bigint, end: bigint): string =>
  `iova=0x${first.toString(16).padStart(16, '0')} - 0x${end.toString(16).padStart(16, '0')}`
const map = (first: bigint, end: bigint): string =>
  `${AT}map: IOMMU: ${range(first, end)} paddr=0x0000000002cef000 size=${end - first}`
const unmap = (first: bigint, end: bigint): string =>
  `${AT}unmap: IOMMU: ${range(first, end)} size=${end - first} unmapped_size=${end - first}`
const fault = (iova: bigint, flags = 0): string =>
  `${AT}io_page_fault: IOMMU:nvme 0000:05:00.0 iova=0x${iova.toString(16).padStart(16, '0')} flags=0x000${flags}`
const only = (...lines: string[]): FaultGroup => {
  const { groups } = explained(lines, new TraceExplainer())
  expect(groups).toHaveLength(1)
  return groups[0] as FaultGroup
}

describe('faults in a trace of the kernel', () => {
  it('of a page that was unmapped', () => {
    const group = only(map(0x1000n, 0x3000n), unmap(0x1000n, 0x3000n), fault(0x2660n))
    expect(group.words).toMatchObject({ device: '05:00.0', fields: { access: 'read', driver: 'nvme' } })
    expect(causesOf(group)).toEqual([
      [1, '0x1000-0x2fff was mapped'],
      [2, '0x1000-0x2fff was unmapped: the device came too late'],
    ])
  })

  it('of a page that is mapped, of one that was mapped again, and of none', () => {
    expect(causesOf(only(map(0x1000n, 0x2000n), fault(0x1000n, 1)))).toEqual([
      [1, '0x1000-0x1fff was mapped'],
    ])
    const again = only(map(0x1000n, 0x2000n), unmap(0x1000n, 0x2000n), map(0x1000n, 0x2000n), fault(0x1000n))
    expect(causesOf(again)).toEqual([[3, '0x1000-0x1fff was mapped']])
    expect(causesOf(only(map(0x1000n, 0x2000n), fault(0x2000n)))).toEqual([])
  })

  it('tells writes from reads, and groups by device', () => {
    const { groups } = explained([fault(0x1000n), fault(0x2000n), fault(0x1000n, 1)], new TraceExplainer())
    expect(groups.map(({ words, times }) => [words.fields['access'], times])).toEqual([
      ['read', 2],
      ['write', 1],
    ])
  })

  it('page requests and domains are known later', () => {
    const log = explained(
      [
        `${AT}prq_report: dmar0/0000:00:0a.0 seq# 1: rid=0x50 addr=0x7f001 rw--l pasid=0x1 index=0x3`,
        `${AT}attach_device_to_domain: IOMMU: device=0000:00:0a.0`,
      ],
      new TraceExplainer(),
    )
    expect(log.earlier('page-request', '00:0a.0')).toEqual([
      { line: 1, text: 'it asked for the page at 0x7f001000 of PASID 0x1 (rw--l)' },
    ])
    expect(log.earlier('cause', '00:0a.0')).toHaveLength(1)
  })
})

describe('pages that a trace maps', () => {
  it('large ranges are kept as such, and the later of two wins', () => {
    const pages = new TracedPages()
    pages.map(0n, 0x4000_0000n, 1)
    expect(pages.storyOf(0x1234_5000n).map(({ line }) => line)).toEqual([1])
    pages.map(0x1234_5000n, 0x1234_6000n, 2)
    expect(pages.storyOf(0x1234_5000n).map(({ line }) => line)).toEqual([2])
    pages.unmap(0n, 0x4000_0000n, 3)
    expect(pages.storyOf(0x1234_5000n).map(({ line }) => line)).toEqual([1, 3])
  })

  it('an unmap without a map tells what it can', () => {
    const pages = new TracedPages()
    pages.unmap(0x1000n, 0x2000n, 7)
    expect(pages.storyOf(0x1fffn).map(({ line }) => line)).toEqual([7])
  })

  it('of very many the newest are kept', () => {
    const pages = new TracedPages()
    const count = 60_000n
    for (let page = 1n; page <= count; page++) pages.map(page << 12n, (page + 1n) << 12n, Number(page))
    expect(pages.storyOf(1n << 12n)).toEqual([])
    expect(pages.storyOf(count << 12n).map(({ line }) => line)).toEqual([Number(count)])
  })

  it('a range whose end is before its start maps nothing', () => {
    const pages = new TracedPages()
    pages.map(0x2000n, 0x1000n, 1)
    expect(pages.storyOf(0x1000n)).toEqual([])
  })
})
