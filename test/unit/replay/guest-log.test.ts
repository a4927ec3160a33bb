import { describe, expect, it } from 'vitest'
import { STANDING } from '../../../src/machine/replay/vtd/ftrace-tally.ts'
import { bytesOf } from '../../log-rows.ts'
import { joinBoot, joinTraces, VtdBoot } from '../../support/vtd-boot.ts'
import { replayLines, STARTED, VTD_LINE } from '../../support/vtd-trace.ts'

/** Enough descriptors that no other place looks so. */
const began = (boot: VtdBoot): VtdBoot => {
  for (let i = 0; i < 4; i++) boot.interrupt(i)
  return boot
}

describe('a translation beside what the kernel mapped', () => {
  it.each<[string, VtdBoot, string, string | undefined]>([
    [
      'is of a page that is mapped',
      began(new VtdBoot()).map(1, 7).dma(1).interrupt(90),
      STANDING.MAPPED,
      undefined,
    ],
    [
      'is of a page that is unmapped and not flushed yet',
      began(new VtdBoot()).map(1, 7).dma(1).unmap(1).map(2, 8).dma(2).dma(1).interrupt(90),
      STANDING.UNMAPPED,
      undefined,
    ],
    [
      'is of a page that was mapped before',
      withoutTrace(1).dma(1).interrupt(90),
      STANDING.NOT_SEEN,
      undefined,
    ],
  ])('%s', (_what, boot, standing, rule) => {
    const { result } = joinBoot(boot)
    expect(result.ftrace?.standings.at(-1)?.why).toBe(standing)
    expect(result.divergences.map((d) => d.rule)).toEqual(rule === undefined ? [] : [rule])
  })

  it('of a page that was flushed since it was unmapped is not explained', () => {
    const boot = began(new VtdBoot()).map(1, 7).dma(1).unmap(1).flush(1).interrupt(90).interrupt(91)
    // The unit walks to the page though the kernel has unmapped it.
    const at = boot.qemu.findIndex((line) => line.includes('high 0x0 low 0x5a'))
    const walk = boot.qemu.filter((line) => /page_update|dmar_translate/.test(line))
    const { result } = joinTraces(
      bytesOf(`${boot.qemu.toSpliced(at, 0, ...walk).join('\n')}\n`),
      bytesOf(`${boot.kernel.join('\n')}\n`),
    )
    expect(result.divergences.map((d) => d.rule)).toEqual(['translation-after-unmap'])
  })

  it('to another page than the kernel mapped is not explained', () => {
    const boot = began(new VtdBoot()).map(1, 7).flush(9).dma(1).interrupt(90)
    const kernel = boot.kernel.map((line) =>
      line.replace('paddr=0x0000000001007000', 'paddr=0x0000000001008000'),
    )
    const { result } = joinTraces(bytesOf(`${boot.qemu.join('\n')}\n`), bytesOf(`${kernel.join('\n')}\n`))
    expect(result.divergences.map((d) => d.rule)).toEqual(['mapped-elsewhere'])
  })
})

/** The kernel maps a page before it traces. */
function withoutTrace(page: number): VtdBoot {
  const boot = new VtdBoot()
  boot.isTraced = false
  boot.map(page, 7)
  boot.isTraced = true
  return began(boot)
}

describe('which domain a map is of', () => {
  const both = (a: VtdBoot, b: VtdBoot): string => [...a.kernel, ...b.kernel].join('\n')
  const replayKernel = (text: string) => joinTraces(new Uint8Array(), bytesOf(`${text}\n`)).result.ftrace

  it('shows where all flushes name one, or the flush behind its unmap does', () => {
    const [five, six] = [
      new VtdBoot(5).map(1, 7).unmap(1).flush(1),
      new VtdBoot(6).map(2, 8).unmap(2).flush(2),
    ]
    expect(replayKernel(both(five, six))).toMatchObject({ maps: 2, unmaps: 2 })
    const { ftrace } = joinBoot(five).result
    expect(ftrace).toMatchObject({ maps: 1, unmaps: 1, unplaced: 0, flushes: { matched: 1 } })
  })

  it('does not show where domains are flushed as a whole, and there are two', () => {
    const boot = new VtdBoot(5)
    for (const [page, domain] of [
      [1, 5],
      [2, 6],
    ] as const) {
      const other = new VtdBoot(domain)
        .map(page, 7 + page)
        .unmap(page)
        .flushDomain()
      boot.qemu.push(...other.qemu.slice(5))
      boot.kernel.push(...other.kernel)
    }
    expect(joinBoot(boot).result.ftrace).toMatchObject({ unplaced: 4, flushes: { matched: 2 } })
  })
})

describe('a flush that the driver forgot', () => {
  it('is a finding of the replay, with its chain: what the unit keeps, the unmap, the map', () => {
    const boot = began(new VtdBoot()).map(1, 7).dma(1).unmap(1).map(1, 8).flush(9).interrupt(90)
    const { findings } = joinBoot(boot).result
    expect(findings.map((f) => f.rule)).toEqual(['stale-translation'])
    expect(findings[0]?.message).toContain('low word 0x50032 and high word 0x1000')
    expect(findings[0]?.because.map((b) => b.text.split(' ').slice(0, 3).join(' '))).toEqual([
      'the IOTLB keeps',
      'domain 5 unmaps',
      'domain 5 maps',
    ])
  })

  it('is a finding of a trace of QEMU alone, where the page shows to lead elsewhere', () => {
    const { findings } = replayLines([
      ...STARTED,
      ...[VTD_LINE.update(0x1000, 0x200_003), VTD_LINE.translate(0x1000, 0x200_000)],
      // QEMU drops more than this flush names, so the next walk shows what the driver changed.
      ...[VTD_LINE.flushPages(0x10_1000)],
      ...[VTD_LINE.update(0x1000, 0x300_003), VTD_LINE.translate(0x1000, 0x300_000)],
    ])
    expect(findings.map((f) => [f.rule, f.because.map((b) => b.line)])).toEqual([
      ['stale-translation', [7, 10]],
    ])
  })
})

describe('page requests', () => {
  it('are counted, with and without private data', () => {
    const request = 'prq_report: dmar0/0000:00:0a.0 seq# 1: rid=0x50 addr=0x7f001 rw--l pasid=0x1 index=0x3'
    const boot = began(new VtdBoot())
    boot.kernel.push(
      `dd-1 [000] .... 1.000000: ${request}`,
      `dd-1 [000] .... 1.000001: ${request} private=0x1/0x2`,
      '',
    )
    expect(joinBoot(boot).result.ftrace).toMatchObject({ pageRequests: 2 })
  })
})
